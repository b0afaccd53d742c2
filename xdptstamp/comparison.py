# SPDX-License-Identifier: GPL-2.0-only
"""How a NIC's clock (PHC) compares with CLOCK_TAI over a run, and times moved between the two.

Between two samples the offset is
interpolated in a straight line, but never where one of the clocks was set or the adapter reset in
between; what no two samples cover is refused. Integers throughout: nothing absolute is ever a
float.

The stated uncertainty of an interpolated offset is the sum of

- the greater uncertainty of the two samples (half of the shortest window in which the system clock
  was read on both sides of the PHC),
- how far the samples at both ends lie off the straight line through their neighbours, which is
  what a change of rate, or a step too small to be told from one, can make of the line,
- one part in a million of the time to the nearer sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from xdptstamp.clock import Bools, ClockSample, Int64s
from xdptstamp.intmath import MAX_PRODUCT, parts_per_billion, scaled, size
from xdptstamp.sample import NULL

#: Samples further apart than this are not interpolated between.
MAX_GAP_NS = 60_000_000_000

_NS_PER_S = 1_000_000_000
_FLOOR_PPB = 1_000
# Beyond the samples: NTP slews a clock by up to 500 ppm (MAXFREQ, include/linux/timex.h), at any
# moment. Where two samples do not tell the rate yet, it may be anything up to one per cent.
_WANDER_PPB, _MAX_RATE_PPB = 500_000, 10_000_000
_RATE_SAMPLES = 16
# Further from a sample than this an offset is as uncertain as it gets.
_FAR_NS = 1_000_000_000_000
_FIRST, _LAST = -(1 << 62), 1 << 62


class Comparison:
    """The samples of a run in the order of time, and what follows from them.

    Samples that can be interpolated between form a stretch; a step or a reset ends it. Grows by one
    sample at a time without looking at all others again.
    """

    def __init__(self, samples: Iterable[ClockSample] = ()) -> None:
        self._samples: list[ClockSample] = []
        self._breaks: list[tuple[int, int]] = []
        # Of each sample, with room to grow: its times, how wrong it may be, how far off the line
        # between its neighbours it is, the number of the stretch it is in.
        self._tai, self._phc, self._sure, self._bend, self._stretch = np.zeros((5, 0), np.int64)
        self._starts: list[int] = []  # index of the first sample of each stretch
        for sample in samples:
            self.add(sample)

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def samples(self) -> tuple[ClockSample, ...]:
        """All of them."""
        return tuple(self._samples)

    @property
    def num_stretches(self) -> int:
        """Stretches; one more than there were steps and resets."""
        return len(self._starts)

    @property
    def has_cover(self) -> bool:
        """Whether any time lies between two samples of one stretch."""
        return len(self._samples) > len(self._starts)

    def add(self, sample: ClockSample, *, continues: bool | None = None) -> bool:
        """Take in a sample.

        One that is not later than the last means that CLOCK_TAI was set back: times before cannot
        be told from times behind any more, and all that was before is forgotten.

        :param continues: whether it goes on with the stretch before; None: find out.
        :return: whether it does; the first of all does.
        """
        if self._samples and sample.tai_ns <= self._samples[-1].tai_ns:
            self._samples, self._starts, self._breaks = [], [], []
            continues = False
        if continues is None:
            continues = self._continues(sample)
        count = len(self._samples)
        if count == len(self._tai):
            self._grow(max(64, 2 * count))
        self._samples.append(sample)
        self._tai[count], self._phc[count] = sample.tai_ns, sample.phc_ns
        self._sure[count], self._bend[count] = sample.uncertainty_ns, 0
        if not continues or not count:
            self._starts.append(count)
        self._stretch[count] = len(self._starts) - 1
        if count >= 2 and self._stretch[count] == self._stretch[count - 2]:
            self._bend[count - 1] = self._off_line(count - 1)
        return continues

    def note_break(self, first_ns: int, last_ns: int) -> None:
        """Never interpolate across what happened somewhere from first to last (CLOCK_TAI)."""
        self._breaks.append((first_ns, last_ns))
        new = []
        for index in range(len(self._samples) - 1, 0, -1):
            if self._samples[index].tai_ns < first_ns:
                break
            if self._samples[index - 1].tai_ns <= last_ns and index not in self._starts:
                new.append(index)
        self._starts = sorted([*self._starts, *new])
        for index in new:
            self._bend[index - 1 : index + 1] = 0
        is_start = np.zeros(len(self._samples), np.int64)
        is_start[self._starts] = 1
        self._stretch[: len(is_start)] = np.cumsum(is_start) - 1

    def last_step_ns(self) -> int:
        """How much the offset changed where the last stretch began; 0: there is one alone."""
        if len(self._starts) < 2:
            return 0
        start = self._starts[-1]
        return self._samples[start].offset_ns - self._samples[start - 1].offset_ns

    def drift_ppb(self) -> tuple[int, int] | None:
        """How much faster than CLOCK_TAI the PHC runs, and how wrong that may be, over the longest
        stretch; None where none has two samples."""
        start, end = max(self._bounds(), key=lambda each: each[1] - each[0], default=(0, 0))
        if start == end:
            return None
        first, last = self._samples[start], self._samples[end]
        span_ns = last.tai_ns - first.tai_ns
        change_ns = last.offset_ns - first.offset_ns
        sure_ns = first.uncertainty_ns + last.uncertainty_ns
        half = span_ns // 2
        return (change_ns * _NS_PER_S + half) // span_ns, -(-sure_ns * _NS_PER_S // span_ns)

    def offset_at(self, tai_ns: int) -> tuple[int, int] | None:
        """PHC minus CLOCK_TAI at a time, and how wrong that may be; None where not covered."""
        at = np.array([tai_ns])
        stretch = int(self.stretch_of(at, at)[0])
        if stretch < 0:
            return None
        index = self._ahead(at, self._tai, *list(self._bounds())[stretch])
        offset, sure = self._inside(at, index, self._tai)
        return int(offset[0]), int(sure[0])

    def to_tai(self, phc_ns: Int64s, first_ns: Int64s, last_ns: Int64s) -> tuple[Int64s, Int64s]:
        """Times of the PHC on CLOCK_TAI.

        :param phc_ns: :data:`~xdptstamp.sample.NULL` where there is none.
        :param first_ns: times on CLOCK_TAI, close by, ``last_ns`` too: all of one event must lie in
            one stretch, so that nothing is taken across a step.
        :return: the times and how wrong each may be; both NULL where no comparison covers it.
        """
        return self.to_tai_within(phc_ns, self.stretch_of(first_ns, last_ns))

    def to_tai_within(self, phc_ns: Int64s, stretches: Int64s) -> tuple[Int64s, Int64s]:
        """The same where the stretch of each is known, as :meth:`stretch_of` gives it."""
        tai, sure = np.full(len(phc_ns), NULL), np.full(len(phc_ns), NULL)
        first = max(int(stretches.min(initial=len(self._starts))), 0)
        last = int(stretches.max(initial=-1))
        for stretch, (start, end) in list(enumerate(self._bounds()))[first : last + 1]:
            is_in = (phc_ns >= self._phc[start]) & (phc_ns <= self._phc[end])
            is_in &= (stretches == stretch) & (phc_ns != NULL)
            rows = slice(None) if is_in.all() else np.flatnonzero(is_in)
            at = phc_ns[rows]
            index = self._ahead(at, self._phc, start, end)
            offset, sure[rows] = self._inside(at, index, self._phc)
            tai[rows] = at - offset
        return tai, sure

    def stretch_of(self, first_ns: Int64s, last_ns: Int64s) -> Int64s:
        """The stretch that covers all from first to last (CLOCK_TAI); -1: none does."""
        count = len(self._samples)
        found = np.full(len(first_ns), -1)
        if not self.has_cover:
            return found
        is_span = first_ns <= last_ns
        tai, stretch = self._tai[:count], self._stretch[:count]
        if not is_span.any():
            return found
        # There is no line through a sample alone.
        sizes = np.diff([*self._starts, count])
        # Packets close together are mostly all in one.
        ends = first_ns[is_span].min(), last_ns[is_span].max()
        one, other = np.searchsorted(tai, ends[0], side="right") - 1, np.searchsorted(tai, ends[1])
        if one >= 0 and other < count and stretch[one] == stretch[other]:
            number = int(stretch[one])
            return np.where(is_span, number, found) if sizes[number] > 1 else found
        before = np.searchsorted(tai, first_ns, side="right") - 1
        behind = np.searchsorted(tai, last_ns, side="left")
        is_in = is_span & (before >= 0) & (behind < count)
        before, behind = np.clip(before, 0, None), np.clip(behind, None, count - 1)
        is_in &= stretch[before] == stretch[behind]
        return np.where(is_in & (sizes[stretch[before]] > 1), stretch[before], found)

    def is_possible(self, stamps: Int64s, first_ns: Int64s, last_ns: Int64s) -> Bools:
        """Whether each stamp of the PHC can be of a moment from first to last (CLOCK_TAI).

        Times beyond the samples are taken to run on as before, the less surely the further away.
        Between two stretches either may hold.
        """
        found = np.zeros(len(stamps), np.bool_)
        if not len(stamps):
            return found
        bounds = list(self._bounds())
        for number, (start, end) in enumerate(bounds):
            since = self._tai[start - 1] if number else _FIRST
            until = self._tai[end + 1] if number + 1 < len(bounds) else _LAST
            is_here = (last_ns >= since) & (first_ns <= until)
            if not is_here.any():
                continue
            low, low_sure = self._anywhere(np.clip(first_ns, since, until), start, end)
            high, high_sure = self._anywhere(np.clip(last_ns, since, until), start, end)
            found |= is_here & (stamps >= low - low_sure) & (stamps <= high + high_sure)
        return found

    def refresh(self) -> bool:
        """Whoever has the clock samples it; there is nothing to learn here."""
        return False

    def to_json(self) -> dict[str, Any]:
        """The samples by column, for the run info."""
        starts = set(self._starts)
        return {
            "tai_ns": [each.tai_ns for each in self._samples],
            "phc_ns": [each.phc_ns for each in self._samples],
            "uncertainty_ns": [each.uncertainty_ns for each in self._samples],
            "tai_offset_s": [each.tai_offset_s for each in self._samples],
            "method": [each.method for each in self._samples],
            "continues": [index not in starts for index in range(len(self._samples))],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Comparison:
        """The opposite of :meth:`to_json`.

        :raises KeyError, TypeError, ValueError: If it is not that.
        """
        names = ("tai_ns", "phc_ns", "uncertainty_ns", "tai_offset_s", "method")
        columns = (data[name] for name in names)
        samples = [ClockSample(*values) for values in zip(*columns, strict=True)]
        found = cls()
        if not found._take(samples, data["continues"]):
            for sample, continues in zip(samples, data["continues"], strict=True):
                found.add(sample, continues=continues)
        return found

    # Take in many samples at once, a day's in no time; False: it takes one after the other.
    def _take(self, samples: list[ClockSample], continues: list[bool]) -> bool:
        count = len(samples)
        if count < 3 or len(continues) != count:
            return False
        names = ("tai_ns", "phc_ns", "uncertainty_ns")
        tai, phc, sure = (np.array([getattr(s, name) for s in samples]) for name in names)
        offset = phc - tai
        span, change = tai[2:] - tai[:-2], offset[2:] - offset[:-2]
        is_orderly = bool((np.diff(tai) > 0).all())
        if not is_orderly or size(change) * size(span) >= MAX_PRODUCT:
            return False
        is_start = ~np.array(continues, np.bool_)
        is_start[0] = True
        stretch = np.cumsum(is_start) - 1
        bend = np.zeros(count, np.int64)
        line = offset[:-2] + change * (tai[1:-1] - tai[:-2]) // span
        bend[1:-1] = np.where(stretch[2:] == stretch[:-2], np.abs(offset[1:-1] - line), 0)
        self._samples, self._starts = samples, np.flatnonzero(is_start).tolist()
        self._tai, self._phc, self._sure, self._bend, self._stretch = tai, phc, sure, bend, stretch
        return True

    def _grow(self, size: int) -> None:
        arrays = np.zeros((5, size), np.int64)
        arrays[:, : len(self._tai)] = self._tai, self._phc, self._sure, self._bend, self._stretch
        self._tai, self._phc, self._sure, self._bend, self._stretch = arrays

    def _continues(self, sample: ClockSample) -> bool:
        if not self._samples:
            return True
        last = self._samples[-1]
        gap_ns = sample.tai_ns - last.tai_ns
        is_orderly = gap_ns <= MAX_GAP_NS and sample.phc_ns > last.phc_ns
        if not is_orderly or self._is_broken(last.tai_ns, sample.tai_ns):
            return False
        start, end = self._starts[-1], len(self._samples) - 1
        expected, sure = self._anywhere(np.array([sample.tai_ns]), start, end)
        return abs(sample.phc_ns - int(expected[0])) <= sample.uncertainty_ns + int(sure[0])

    def _is_broken(self, start_ns: int, end_ns: int) -> bool:
        return any(first <= end_ns and last >= start_ns for first, last in self._breaks)

    # (first, last) sample of each stretch.
    def _bounds(self) -> Iterator[tuple[int, int]]:
        ends = [start - 1 for start in self._starts[1:]] + [len(self._samples) - 1]
        yield from zip(self._starts, ends, strict=True) if self._samples else ()

    def _off_line(self, index: int) -> int:
        # How far a sample lies off the line between its neighbours.
        before, own, behind = self._samples[index - 1 : index + 2]
        change = behind.offset_ns - before.offset_ns
        span = behind.tai_ns - before.tai_ns
        line = before.offset_ns + change * (own.tai_ns - before.tai_ns) // span
        return abs(own.offset_ns - line)

    # The sample ahead of each time within a stretch of two or more.
    def _ahead(self, at: Int64s, axis: Int64s, start: int, end: int) -> Int64s:
        if not len(at):
            return np.zeros(0, np.int64)
        # Among those that the times lie between, which are few where packets come fast.
        low, high = np.searchsorted(axis[start : end + 1], [at.min(), at.max()], side="right")
        start, end = max(start, start + int(low) - 1), min(end, start + int(high))
        if end - start <= 1:
            return np.full(len(at), min(start, end - 1), np.int64)
        index: Int64s = np.searchsorted(axis[start : end + 1], at, side="right") - 1 + start
        return np.clip(index, start, end - 1)

    def _inside(self, at: Int64s, index: Int64s, axis: Int64s) -> tuple[Int64s, Int64s]:
        """PHC minus CLOCK_TAI, and how wrong that may be, on lines from sample ``index`` on.

        :param axis: what ``at`` are times of, the samples' times on CLOCK_TAI or on the PHC.
        """
        if not len(at):
            return at, at
        # The lines from one sample to the next are fewer than the times; often there is one.
        low, high = int(index.min()), int(index.max())
        own, sures = np.arange(low, high + 1), self._doubts(low, high)
        behind = own + 1
        offsets = self._phc[own] - self._tai[own]
        changes = self._phc[behind] - self._tai[behind] - offsets
        columns = (axis[own], axis[behind], offsets, changes, sures)
        first, last, offset, change, sure = (
            column[0] if low == high else column[index - low] for column in columns
        )
        offset = offset + scaled(at - first, change, last - first)
        return offset, sure + parts_per_billion(np.minimum(at - first, last - at), _FLOOR_PPB)

    # How wrong the lines from sample `low` to the one behind sample `high` may be at their ends.
    def _doubts(self, low: int, high: int) -> Int64s:
        own = np.arange(low, high + 1)
        behind, count = own + 1, len(self._samples)
        left, right = self._bend[own], self._bend[behind]
        # The first and the last line of a stretch have a neighbour on one side only.
        is_first = (own == 0) | (self._stretch[own - 1] != self._stretch[own])
        is_last = (behind == count - 1) | (
            self._stretch[np.minimum(behind + 1, count - 1)] != self._stretch[behind]
        )
        bend = np.where(is_first, right, left) + np.where(is_last, left, right)
        sure: Int64s = np.maximum(self._sure[own], self._sure[behind]) + bend
        return sure

    def _anywhere(self, at: Int64s, start: int, end: int) -> tuple[Int64s, Int64s]:
        """The PHC at times on CLOCK_TAI, and how wrong that may be, by the stretch from sample
        ``start`` to ``end`` also ahead of it and behind it."""
        phc, sure = np.empty_like(at), np.empty_like(at)
        is_before, is_behind = at < self._tai[start], at > self._tai[end]
        is_inside = ~is_before & ~is_behind
        if is_inside.any():
            if start == end:
                phc[is_inside], sure[is_inside] = self._phc[end], self._sure[end]
            else:
                times = at[is_inside]
                index = self._ahead(times, self._tai, start, end)
                offset, sure[is_inside] = self._inside(times, index, self._tai)
                phc[is_inside] = times + offset
        for rows, first, last, near in (
            (is_before, start, min(start + _RATE_SAMPLES - 1, end), start),
            (is_behind, max(end - _RATE_SAMPLES + 1, start), end, end),
        ):
            if rows.any():
                phc[rows], sure[rows] = self._beyond(at[rows], first, last, near)
        return phc, sure

    def _beyond(self, at: Int64s, first: int, last: int, near: int) -> tuple[Int64s, Int64s]:
        # On from sample `near` at the rate from sample `first` to `last`.
        one, other, nearest = self._samples[first], self._samples[last], self._samples[near]
        span_ns, change_ns = other.tai_ns - one.tai_ns, other.offset_ns - one.offset_ns
        rate_ppb = _MAX_RATE_PPB
        if span_ns:
            sure_ns = one.uncertainty_ns + other.uncertainty_ns
            rate_ppb = min(sure_ns * _NS_PER_S // span_ns + 1, _MAX_RATE_PPB)
        if rate_ppb >= _MAX_RATE_PPB:
            span_ns, change_ns = 1, 0
        away = np.clip(at - nearest.tai_ns, -_FAR_NS, _FAR_NS)
        offset = nearest.offset_ns + scaled(away, np.int64(change_ns), np.int64(span_ns))
        doubt = parts_per_billion(np.abs(away), rate_ppb + _WANDER_PPB)
        return at + offset, nearest.uncertainty_ns + int(self._bend[near]) + doubt
