# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a run's clocks: how far the NIC's was off CLOCK_TAI, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xdptstamp.columns import Ints
from xdptstamp.report.figure import Axis, Figure, Series, Table
from xdptstamp.report.packets import seconds
from xdptstamp.runinfo import RunInfo
from xdptstamp.text.clocks import has_comparison, num_steps, offset_text
from xdptstamp.text.lines import stamp_words, us

_MAX_DRAWN = 2000


@dataclass(frozen=True, slots=True)
class _Words:
    key: str
    title: str


# Times since the first sample, ns; which stretch each is in; indices of those that are drawn.
@dataclass(frozen=True, slots=True)
class _Samples:
    times: Ints
    sure: Ints
    stretch: Ints
    drawn: Ints


def clock_figures(info: RunInfo) -> Iterator[Figure]:
    """How far the NIC's clock was off CLOCK_TAI, and how sure that is; and off a straight line."""
    if not has_comparison(info):
        return
    raw = info.clock_comparison["samples"]
    tai, phc, sure = (np.array(raw[n], np.int64) for n in ("tai_ns", "phc_ns", "uncertainty_ns"))
    stretch: Ints = np.cumsum(~np.array(raw["continues"], np.bool_), dtype=np.int64)
    offsets = phc - tai
    parts = [stretch == number for number in np.unique(stretch)]
    off_line = np.concatenate([_off_line(tai[own], offsets[own]) for own in parts])
    samples = _Samples(tai - tai[0], sure, stretch, _worth_drawing(off_line, sure, stretch))
    first = int(offsets[0])
    title = f"Offset of the NIC's clock from {offset_text(first)}"
    yield _figure(info, _Words("clock-offset", title), samples, offsets - first)
    title = "Offset of the NIC's clock from a straight line"
    yield _figure(info, _Words("clock-line", title), samples, off_line)


def _figure(info: RunInfo, words: _Words, samples: _Samples, values: Ints) -> Figure:
    times, sure = samples.times, samples.sure
    x, y, half = _with_gaps(samples, values)
    pairs = list(zip(y, half, strict=True))
    worst = int(np.abs(values).max())
    says = f"{stamp_words(info.timestamps)}; clock: PHC minus CLOCK_TAI"
    rows = [[seconds(int(t)), us(int(v)), us(int(s))] for t, v, s in _some(times, values, sure)]
    notes = [f"{len(times):,} samples; the band is how wrong each may be."]
    if len(samples.drawn) < len(times):
        notes.append(f"Drawn are {len(samples.drawn):,}: the furthest off, and the least sure.")
    if num_steps(info):
        notes.append("A gap: a clock was set, or the adapter reset.")
    return Figure(
        words.key,
        words.title,
        says,
        Axis("time since the first clock sample, s", "s"),
        Axis("us", "us"),
        (
            Series(
                "offset",
                "line",
                0,
                x,
                y,
                low=[None if v is None else v - s for v, s in pairs],
                high=[None if v is None else v + s for v, s in pairs],
            ),
        ),
        f"{len(times):,} samples, at most {us(worst)} us from zero, known to within "
        f"{us(int(sure.max()))} us.",
        Table(f"{words.title}; {says}", ("at s", "us", "+- us"), rows),
        tuple(notes),
        "clock",
    )


def _some(*columns: Ints, most: int = 20) -> Iterator[tuple[int, ...]]:
    size = len(columns[0])
    chosen = np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))
    return zip(*(column[chosen].tolist() for column in columns), strict=True)


# Offsets less the least-squares line through them; times are made small first.
def _off_line(times: Ints, offsets: Ints) -> Ints:
    at, off = (times - times[0]).astype(np.float64), (offsets - offsets[0]).astype(np.float64)
    if len(at) < 3:
        return np.zeros(len(at), np.int64)
    at -= at.mean()
    slope = (at @ (off - off.mean())) / (at @ at)
    found: Ints = np.rint(off - off.mean() - slope * at).astype(np.int64)
    return found


# Of a long run the samples furthest off the line, and the least sure, of each part of it; and
# where each stretch begins and ends.
def _worth_drawing(off_line: Ints, sure: Ints, stretch: Ints) -> Ints:
    count = len(off_line)
    if count <= _MAX_DRAWN:
        return np.arange(count)
    starts = np.flatnonzero(np.diff(stretch, prepend=-1))
    chosen = [starts, np.append(starts[1:], count) - 1]
    for part in np.array_split(np.arange(count), _MAX_DRAWN // 4):
        chosen.append(part[[np.abs(off_line[part]).argmax(), sure[part].argmax()]])
    return np.unique(np.concatenate(chosen))


# What is drawn, with a gap behind each stretch.
def _with_gaps(samples: _Samples, values: Ints) -> tuple[list[int], list[int | None], list[int]]:
    x: list[int] = []
    y: list[int | None] = []
    half: list[int] = []
    stretch = samples.stretch[samples.drawn]
    for number in np.unique(stretch):
        own = samples.drawn[stretch == number]
        x += [*samples.times[own].tolist(), int(samples.times[own[-1]])]
        y += [*values[own].tolist(), None]
        half += [*samples.sure[own].tolist(), 0]
    return x, y, half
