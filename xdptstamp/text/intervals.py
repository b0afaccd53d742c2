# SPDX-License-Identifier: GPL-2.0-only
"""The intervals of a run as a table, and which of them may be shown at all."""

from __future__ import annotations

from xdptstamp.histogram import RELATIVE_ERROR, Histogram
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import INTERVALS_OF_KIND, clock_of, interval_name
from xdptstamp.stats import Summary
from xdptstamp.text.clocks import compared_notes, left_out
from xdptstamp.text.clocks import refusal as clock_refusal
from xdptstamp.text.lines import cells, stamp_words, us, wrap

#: Titles and the shares they stand for, in the order of every interval table.
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))

_TITLES = [*(title for title, _ in QUANTILES), "max"]
_NAME_WIDTH = 17
_CELL_WIDTH = 11


def refusal(info: RunInfo, name: str) -> str | None:
    """Why an interval must not be shown: its ends are on two clocks, and nobody knows their
    offset; None if it may be."""
    for ends in INTERVALS_OF_KIND[info.kind]:
        if interval_name(*ends) == name:
            start, end = (info.clocks.get(column) or clock_of(column) for column in ends)
            return None if start == end else clock_refusal(info, start, end)
    return None


def shown_intervals(info: RunInfo, summary: Summary) -> dict[str, Histogram]:
    """The intervals that may be shown, by name without ``_ns``."""
    return {
        name.removesuffix("_ns"): histogram
        for name, histogram in summary.intervals.items()
        if refusal(info, name) is None
    }


def interval_values(histogram: Histogram) -> list[str]:
    """p50 p90 p99 p99.9 max in microseconds; ``-`` where the samples are too few."""
    shown = [
        us(histogram.quantile(share)) if histogram.is_supported(share) else "-"
        for _, share in QUANTILES
    ]
    return [*shown, us(histogram.max)]


def interval_lines(info: RunInfo, summary: Summary) -> list[str]:
    """The interval table: microseconds, with all digits of the nanoseconds."""
    title = "round trip" if info.kind == "ping" else "intervals"
    shown = shown_intervals(info, summary)
    if not shown:
        lines = [f"{title}: no samples ({stamp_words(info.timestamps)})"]
        return lines + _refused_lines(info, summary)
    lines = [f"{title} in us, {stamp_words(info.timestamps)}"]
    lines.append(cells("", _TITLES, _NAME_WIDTH, _CELL_WIDTH))
    rows = {name: interval_values(histogram) for name, histogram in shown.items()}
    for name, values in rows.items():
        lines += _row(name, values)
    lines += _notes(shown)
    for note in compared_notes(info, summary, [f"{name}_ns" for name in shown]):
        lines += wrap(f"({note})", "  ", "   ")
    if any("-" in values for values in rows.values()):
        lines.append("  (-: too few samples for that percentile)")
    return lines + _refused_lines(info, summary)


# A value too wide for its cell keeps its digits: the row becomes name=value pairs.
def _row(name: str, values: list[str]) -> list[str]:
    if len(name) <= _NAME_WIDTH and all(len(value) < _CELL_WIDTH for value in values):
        return [cells(name, values, _NAME_WIDTH, _CELL_WIDTH)]
    pairs = " ".join(f"{t}={v}" for t, v in zip(_TITLES, values, strict=True))
    return [name, *wrap(pairs, "    ")]


def _notes(shown: dict[str, Histogram]) -> list[str]:
    exact = f"max is exact, percentiles within 1/{RELATIVE_ERROR.denominator} of a sample"
    counts = {histogram.count for histogram in shown.values()}
    if len(counts) == 1:
        return wrap(f"({counts.pop():,} samples each; {exact})", "  ", "   ")
    each = ", ".join(f"{name} {histogram.count:,}" for name, histogram in shown.items())
    return [*wrap(f"(samples: {each})", "  ", "   "), f"  ({exact})"]


def _refused_lines(info: RunInfo, summary: Summary) -> list[str]:
    lines: list[str] = []
    for name in summary.num_ends:
        reason = refusal(info, name)
        if reason:
            lines += wrap(f"{name.removesuffix('_ns')}: not shown: {reason}", "", "  ")
    for name, reason in left_out(info, summary):
        if refusal(info, name) is None:
            lines += wrap(f"{name.removesuffix('_ns')}: {reason}", "", "  ")
    return lines
