# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a run: how its latencies are distributed, and their course over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from xdptstamp.histogram import Histogram
from xdptstamp.report.clock_figures import clock_figures
from xdptstamp.report.figure import Axis, Drawn, Figure, Series, Table
from xdptstamp.report.mixed_figures import mixed_figures
from xdptstamp.report.packets import packet_rows, packets_json
from xdptstamp.report.position_figures import position_figures
from xdptstamp.report.recomputed import Recomputed
from xdptstamp.report.timeline import Timeline, read_timeline
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import INTERVALS_OF_KIND, clock_of, interval_name
from xdptstamp.store.rounds import exact_buckets
from xdptstamp.text.intervals import QUANTILES, interval_values, shown_intervals
from xdptstamp.text.lines import stamp_words, us

#: Single packets on a page with one run.
MAX_PACKETS = 10_000

_NUM_SLOWEST = 20
_TAIL_NOTE = (
    "From exact counts: the last step is the slowest packet. Steps are at most 1/256 of a value "
    "wide, the least and the greatest exact."
)
_GROUPS = (("rx_", "received", "From reception on"), ("tx_", "sent", "From submit on"))


def run_figures(found: Recomputed, max_packets: int = MAX_PACKETS) -> Drawn:
    """The figures of a run.

    :param max_packets: the single packets to have, about; a run of no more has all of them.
    :raises RunFileError: If its samples cannot be read.
    """
    info = found.run.info
    shown = shown_intervals(info, found.summary)
    pairs = [p for p in INTERVALS_OF_KIND[info.kind] if _short(*p) in shown]
    timeline = read_timeline(found.run, pairs, max_packets) if pairs else None
    colors = {name: number for number, name in enumerate(shown)}
    figures = [*_tails(info, shown)]
    if found.rounds:
        figures = [*mixed_figures(found), *position_figures(found), *figures]
    if timeline is not None:
        figures += _courses(found, shown, timeline, colors)
    figures += clock_figures(info)
    packets = {} if timeline is None else packets_json(found, timeline)
    return Drawn(tuple(figures), packets)


def clocks_text(info: RunInfo, *names: str) -> str:
    """``HARDWARE timestamps; clock: phc, tai``: what a figure of these columns says of itself."""
    clocks = dict.fromkeys(info.clocks.get(name) or clock_of(name) for name in names)
    return f"{stamp_words(info.timestamps)}; clock: {' and '.join(clocks)}"


def interval_clocks(info: RunInfo, name: str) -> str:
    """The same of an interval, by its name without ``_ns``."""
    ends = next(p for p in INTERVALS_OF_KIND[info.kind] if _short(*p) == name)
    return clocks_text(info, *ends)


def _short(start: str, end: str) -> str:
    return interval_name(start, end).removesuffix("_ns")


# Distribution.


def tail_series(name: str, histogram: Histogram, color: int) -> Series:
    """The share of values that are at least as great as each one: exact counts."""
    pairs = exact_buckets(histogram)
    values = [ns for ns, _ in pairs]
    counts = np.array([count for _, count in pairs], np.int64)
    at_least = histogram.count - np.cumsum(counts) + counts
    shares = (at_least / histogram.count).tolist()
    return Series(name, "steps", color, values, shares)


def tail_figure(
    key: str, title: str, subtitle: str, histograms: Mapping[str, Histogram], link: str = ""
) -> Figure:
    """How several sets of latencies are distributed, out to the slowest packet."""
    series = tuple(
        tail_series(name, histogram, number)
        for number, (name, histogram) in enumerate(histograms.items())
    )
    is_log = all(histogram.min > 0 for histogram in histograms.values())
    titles = [title_ for title_, _ in QUANTILES]
    rows = [[n, f"{h.count:,}", us(h.min), *interval_values(h)] for n, h in histograms.items()]
    text = "; ".join(
        f"{name}: half within {us(h.quantile(0.5))} us, the slowest {us(h.max)} us"
        for name, h in histograms.items()
    )
    return Figure(
        key,
        title,
        subtitle,
        Axis("latency, us", "us", is_log=is_log),
        Axis("share of packets at least that slow", "share", is_log=True),
        series,
        f"Share of packets at least as slow as each latency. {text}.",
        Table(f"{title}, in us; {subtitle}", ("", "packets", "min", *titles, "max"), rows),
        (_TAIL_NOTE,),
        link,
    )


def _tails(info: RunInfo, shown: Mapping[str, Histogram]) -> Iterator[Figure]:
    for start, key, title in _GROUPS:
        own = {name: each for name, each in shown.items() if name.startswith(start)}
        if own:
            ends = [n for p in INTERVALS_OF_KIND[info.kind] if _short(*p) in own for n in p]
            words = clocks_text(info, *ends)
            yield tail_figure(f"tail-{key}", f"{title}: how slow, and how often", words, own)


# Course.


def _courses(
    found: Recomputed, shown: Mapping[str, Histogram], timeline: Timeline, colors: Mapping[str, int]
) -> Iterator[Figure]:
    info = found.run.info
    for name, envelope in timeline.envelopes.items():
        short = name.removesuffix("_ns")
        slowest = timeline.slowest(name, _NUM_SLOWEST)
        values, times = timeline.values[name][slowest].tolist(), timeline.times[slowest].tolist()
        head, rows = packet_rows(found, timeline, name, slowest)
        words = interval_clocks(info, short)
        low, high = shown[short].min, shown[short].max
        some = "" if timeline.is_all else " of single stretches"
        yield Figure(
            f"course-{short}",
            f"{short} over time",
            words,
            Axis("time since the first packet, s", "s"),
            Axis("us", "us", is_log=low > 0 and high > 100 * low),
            (
                Series(
                    "least to greatest",
                    "bars",
                    colors[short],
                    envelope.start.tolist(),
                    x2=envelope.end.tolist(),
                    low=envelope.low.tolist(),
                    high=envelope.high.tolist(),
                ),
                Series(
                    "slowest packets",
                    "points",
                    colors[short],
                    times,
                    values,
                    packets=slowest.tolist(),
                ),
                Series(name, "details", colors[short]),
            ),
            f"From {us(low)} to {us(high)} us. The slowest packet: {_which(head, rows[0])}.",
            Table(f"{short}, the slowest packets{some}; {words}", head, rows),
            (_course_note(timeline, len(envelope.start)),),
            "time",
        )


# "seq 3, queue 0, at s 1.500000000": what tells a packet apart, without its capture points.
def _which(head: Sequence[str], row: Sequence[str]) -> str:
    cells = zip(head[1:], row[1:], strict=True)
    return ", ".join(f"{title} {cell}" for title, cell in cells if not title.endswith("_ns"))


def _course_note(timeline: Timeline, num_bins: int) -> str:
    note = (
        f"Bars: the least and the greatest of each of {num_bins:,} equally long stretches of time "
        "that have packets. Dots: the slowest packets"
    )
    if timeline.is_all:
        return note + ". Each single packet is seen from close by."
    return (
        f"{note} of single stretches. From close by: {len(timeline.packets):,} single packets, the "
        "slowest of each stretch and those around the slowest of all; the others are not on this "
        "page."
    )
