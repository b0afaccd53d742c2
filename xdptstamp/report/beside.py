# SPDX-License-Identifier: GPL-2.0-only
"""Several runs beside each other: their latencies in one figure, their percentiles in one table.

Nothing is concluded from them here: whether they differ is a matter of ``xdptstamp compare``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdptstamp.bandwidth import rates
from xdptstamp.report.figure import Drawn, Table
from xdptstamp.report.figures import interval_clocks, tail_figure
from xdptstamp.report.recomputed import Recomputed
from xdptstamp.text.intervals import QUANTILES, interval_values, shown_intervals
from xdptstamp.text.lines import percent, stamp_words
from xdptstamp.text.mixed_tables import BANDWIDTH, bandwidth_values, setting_label

_NOTE = "Side by side as they are. Whether they differ: xdptstamp compare."


def beside_figures(runs: Sequence[Recomputed], names: Sequence[str]) -> Drawn:
    """One figure for each interval that more than one run has.

    :param names: of the runs.
    """
    figures = []
    for interval in _shared(runs):
        own = {}
        words: dict[str, None] = {}
        for name, run in zip(names, runs, strict=True):
            shown = shown_intervals(run.run.info, run.summary)
            if interval in shown:
                own[name] = shown[interval]
                words[interval_clocks(run.run.info, interval)] = None
        title = f"{interval}: how slow, and how often"
        figures.append(tail_figure(f"beside-{interval}", title, "; ".join(words), own, "beside"))
    return Drawn(tuple(figures))


def beside_tables(runs: Sequence[Recomputed], names: Sequence[str]) -> Iterator[Table]:
    """The runs; the percentiles of what more than one has; the bandwidth of ``mixed``."""
    pairs = list(zip(names, runs, strict=True))
    rows = [_run_row(name, run) for name, run in pairs]
    head = (
        "run",
        "kind",
        "timestamps",
        "host",
        "kernel",
        "driver",
        "samples",
        "stamped",
        "trusted",
    )
    yield Table("The runs", head, rows)
    titles = [title for title, _ in QUANTILES]
    for interval in _shared(runs):
        rows = []
        for name, run in pairs:
            shown = shown_intervals(run.run.info, run.summary)
            if interval in shown:
                histogram = shown[interval]
                kind = interval_clocks(run.run.info, interval)
                rows.append([name, kind, f"{histogram.count:,}", *interval_values(histogram)])
        titled = ("run", "timestamps and clock", "packets", *titles, "max")
        yield Table(f"{interval} in us", titled, rows, (_NOTE,))
    rows = [row for name, run in pairs for row in _rate_rows(name, run)]
    if rows:
        kinds = dict.fromkeys(stamp_words(r.run.info.timestamps) for r in runs if r.rounds)
        title = f"Bandwidth; {' and '.join(kinds)}; clock: monotonic"
        yield Table(title, ("run", "size ratio", *BANDWIDTH.titles), rows, (_NOTE,))


def _shared(runs: Sequence[Recomputed]) -> list[str]:
    names = [name for run in runs for name in shown_intervals(run.run.info, run.summary)]
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _run_row(name: str, run: Recomputed) -> list[str]:
    info, summary = run.run.info, run.summary
    requested = summary.num_stamped + summary.num_missing
    return [
        name,
        info.kind,
        stamp_words(info.timestamps),
        str(info.dut.get("hostname") or "?"),
        str(info.dut.get("kernel_release") or "?"),
        str(info.nic.get("driver") or "?"),
        f"{summary.num_samples:,}",
        percent(summary.num_stamped, requested),
        "yes" if info.is_trusted else "NO",
    ]


def _rate_rows(name: str, run: Recomputed) -> Iterator[list[str]]:
    for rate in rates(run.settings, run.rounds, run.run.info.nic.get("speed_mbps")):
        setting = run.settings[rate.setting]
        label = f"{setting.size_bytes} {setting_label(setting)}"
        yield [name, label, *bandwidth_values(setting, rate)]
