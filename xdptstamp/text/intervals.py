# SPDX-License-Identifier: GPL-2.0-only
"""The intervals of a run as a table, and which of them may be shown at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xdptstamp.histogram import RELATIVE_ERROR, Histogram
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import INTERVALS_OF_KIND, clock_of, interval_name
from xdptstamp.spread import Spread
from xdptstamp.stats import Summary
from xdptstamp.text.clocks import compared_notes, left_out
from xdptstamp.text.clocks import refusal as clock_refusal
from xdptstamp.text.lines import cells, stamp_words, us, wrap

#: Titles and the shares they stand for, in the order of every interval table.
QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))

_TITLES = [*(title for title, _ in QUANTILES), "max"]
_NAME_WIDTH = 17
_CELL_WIDTH = 11

#: How sure each percentile of each interval is, by the interval's name and the percentile's title.
Spreads = Mapping[str, Mapping[str, Spread]]


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


def interval_lines(info: RunInfo, summary: Summary, spreads: Spreads | None = None) -> list[str]:
    """The interval table: microseconds, with all digits of the nanoseconds.

    :param spreads: put below each percentile; by names with ``_ns``.
    """
    title = "round trip" if info.kind == "ping" else "intervals"
    shown = shown_intervals(info, summary)
    if not shown:
        lines = [f"{title}: no samples ({stamp_words(info.timestamps)})"]
        return lines + _refused_lines(info, summary)
    lines = [f"{title} in us, {stamp_words(info.timestamps)}"]
    lines.append(cells("", _TITLES, _NAME_WIDTH, _CELL_WIDTH))
    rows = {name: interval_values(histogram) for name, histogram in shown.items()}
    for name, values in rows.items():
        lines += _rows(name, values, (spreads or {}).get(f"{name}_ns", {}))
    lines += _notes(shown)
    names = [f"{name}_ns" for name in shown]
    across = list(compared_notes(info, summary, names))
    for note in across:
        lines += wrap(f"({note})", "  ", "   ")
    if any("-" in values for values in rows.values()):
        lines.append("  (-: too few samples for that percentile)")
    for note in spread_notes(names, spreads or {}, has_across=bool(across)):
        lines += wrap(f"({note})", "  ", "   ")
    return lines + _refused_lines(info, summary)


# The percentiles of an interval and, where they are known, the two ends of each below it. A value
# too wide for its cell keeps its digits: the rows become name=value pairs.
def _rows(name: str, values: list[str], spreads: Mapping[str, Spread]) -> list[str]:
    rows = [(name, values)]
    if spreads:
        found = [spreads.get(title) for title in _TITLES]
        rows.append(("  95 % from", ["" if each is None else end_text(each.low) for each in found]))
        rows.append(
            ("         to", ["" if each is None else end_text(each.high) for each in found])
        )
    is_wide = any(len(value) >= _CELL_WIDTH for _, row in rows for value in row)
    if not is_wide and len(name) <= _NAME_WIDTH:
        return [cells(head, row, _NAME_WIDTH, _CELL_WIDTH).rstrip() for head, row in rows]
    pairs = [
        " ".join(f"{t}={v}" for t, v in zip(_TITLES, row, strict=True) if v) for _, row in rows
    ]
    lines = [name, *wrap(pairs[0], "    ")]
    for (head, _), text in zip(rows[1:], pairs[1:], strict=True):
        lines += wrap(text, f"  {head} ", " " * 8)
    return lines


def end_text(ns: int | None) -> str:
    """An end of a percentile's interval, in microseconds; ``?``: it is not bounded."""
    return "?" if ns is None else us(ns)


def spread_notes(names: list[str], spreads: Spreads, *, has_across: bool) -> Iterator[str]:
    """What the reader of the intervals' ends must know."""
    found = [each for name in names for each in spreads.get(name, {}).values()]
    if not found:
        return
    fewest, most = (pick(each.num_effective for each in found) for pick in (min, max))
    worth = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    clocks = "; how wrong the clocks' offset may be comes on top" if has_across else ""
    yield (
        f"from, to: 95 % interval of the true percentile, by order statistics{clocks}. Packets "
        f"close in time are alike: the samples count as {worth} independent ones"
    )
    if any(None in (each.low, each.high) for each in found):
        yield "?: so few do not bound that percentile"


def _notes(shown: dict[str, Histogram]) -> list[str]:
    exact = f"max is exact, percentiles within 1/{RELATIVE_ERROR.denominator} of a sample"
    counts = {histogram.count for histogram in shown.values()}
    if len(counts) == 1:
        return wrap(f"({counts.pop():,} samples each; {exact})", "  ", "   ")
    each = ", ".join(f"{name} {histogram.count:,}" for name, histogram in shown.items())
    return [*wrap(f"(samples: {each})", "  ", "   "), f"  ({exact})"]


def _refused_lines(info: RunInfo, summary: Summary) -> list[str]:
    return [line for note in refused_notes(info, summary) for line in wrap(note, "", "  ")]


def refused_notes(info: RunInfo, summary: Summary) -> Iterator[str]:
    """Which intervals are not shown, or not all of them, and why."""
    for name in summary.num_ends:
        reason = refusal(info, name)
        if reason:
            yield f"{name.removesuffix('_ns')}: not shown: {reason}"
    for name, reason in left_out(info, summary):
        if refusal(info, name) is None:
            yield f"{name.removesuffix('_ns')}: {reason}"
