# SPDX-License-Identifier: GPL-2.0-only
"""A run over time: the least and the greatest value of each stretch of it, and single packets.

The samples are read once, a file a thread, and a few thousand of them kept. All stretches are
equally long; one without a packet is a gap. Of each stretch the slowest packet is kept, for every
interval, so that no maximum is ever thinned out; and the packets around the slowest of all, one by
one. Of a short run all are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from xdptstamp.across import Compared, compared_values
from xdptstamp.columns import Columns, Ints, Pair, Rows
from xdptstamp.comparison import Comparison
from xdptstamp.report.recomputed import num_threads
from xdptstamp.run import Run
from xdptstamp.sample import COLUMNS_OF_KIND, NULL, Batch, clock_of, interval_name
from xdptstamp.stats import comparison_of
from xdptstamp.store.reader import iter_file, num_samples, sample_files
from xdptstamp.store.selection import first_times, times_on_tai

#: Stretches of a run.
NUM_BINS = 600
#: Packets ahead of the slowest one, and behind it, that are kept.
AROUND = 100

#: No value: intervals may be negative.
NONE = np.iinfo(np.int64).min

_HEAD = ("seq", "queue_id", "len", "setting", "round", "cause", "is_warmup")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One interval over time, a row for each stretch that has a value of it.

    :param start: ns since time 0, ``end`` too: the first and the last packet of the stretch.
    :param low: the least value, ns; ``high``: the greatest.
    """

    start: Ints
    end: Ints
    low: Ints
    high: Ints


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run over time.

    :param zero_ns: CLOCK_TAI at time 0.
    :param envelopes: by interval, with ``_ns``.
    :param packets: single ones, in the order of the run, without warm-up.
    :param times: of each, ns since time 0: its first time on CLOCK_TAI.
    :param values: by interval, with ``_ns``: of each packet, ns; :data:`NONE`: it has none.
    :param is_all: whether these are all packets.
    """

    zero_ns: int
    envelopes: dict[str, Envelope]
    packets: Batch
    times: Ints
    values: dict[str, Ints]
    is_all: bool

    def slowest(self, name: str, count: int) -> Ints:
        """Indices of the packets with the greatest values of an interval, the slowest first.

        Of a long run: no two of one stretch, but around the slowest of all.
        """
        values = self.values[name]
        known = np.flatnonzero(values != NONE)
        slowest: Ints = known[np.argsort(-values[known], kind="stable")[:count]]
        return slowest


def read_timeline(run: Run, pairs: Sequence[Pair], max_packets: int = 10_000) -> Timeline | None:
    """Read the samples of a run.

    :param pairs: the intervals that may be shown.
    :param max_packets: a run of no more is kept whole.
    :return: None: no sample has a time and one of the intervals.
    :raises RunFileError: If they cannot be read.
    """
    reader = _Reader(run, pairs)
    if not reader.total:
        return None
    parts = reader.read(is_whole=reader.total <= max_packets)
    rows = dict(row for part in parts for row in part.rows.items())
    if not rows:
        return None
    if reader.total > max_packets:
        for pair in pairs:
            peaks = [part.peaks[pair] for part in parts if pair in part.peaks]
            if peaks:
                rows |= max(peaks, key=lambda peak: peak.value).rows()
    numbers = sorted(rows)
    packets = np.concatenate([rows[number] for number in numbers])
    times = first_times(packets, times_on_tai(run.info.kind))
    zero_ns = min(part.first_ns for part in parts if part.rows)
    values = {interval_name(*pair): np.full(len(packets), NONE) for pair in pairs}
    for pair, where, found in reader.values_of(Columns(packets)):
        values[interval_name(*pair)][where] = found
    envelopes = {}
    for pair in pairs:
        merged = _merged([part.bins[pair] for part in parts if pair in part.bins], zero_ns)
        if merged is not None:
            envelopes[interval_name(*pair)] = merged
    is_all = reader.total <= max_packets
    return Timeline(zero_ns, envelopes, packets, times - zero_ns, values, is_all)


# Of one interval in one file, by stretch: number, first and last time, least, greatest.
_Bins = list[Ints]


@dataclass(frozen=True, slots=True)
class _Peak:
    # The slowest packet of an interval in one file, with those around it.
    value: int
    numbers: Ints
    batch: Batch

    def rows(self) -> dict[int, Batch]:
        return {int(n): self.batch[i : i + 1] for i, n in enumerate(self.numbers)}


@dataclass(slots=True)
class _Part:
    """What one file has.

    :param rows: packets to keep, by their number in the run.
    :param peaks: by interval.
    """

    bins: dict[Pair, _Bins] = field(default_factory=dict)
    rows: dict[int, Batch] = field(default_factory=dict)
    peaks: dict[Pair, _Peak] = field(default_factory=dict)
    first_ns: int = np.iinfo(np.int64).max


class _Reader:
    def __init__(self, run: Run, pairs: Sequence[Pair]) -> None:
        kind = run.info.kind
        self._pairs, self._comparison = list(pairs), comparison_of(run.info)
        self._across = _across(kind, self._comparison)
        self._files = sample_files(run.path)
        names = COLUMNS_OF_KIND[kind]
        self._columns = [name for name in names if name in _HEAD or clock_of(name)]
        self._times = times_on_tai(kind)
        self._span = (0, 1)
        self._starts = [0, *itertools.accumulate(num_samples(file) for file in self._files)]

    @property
    def total(self) -> int:
        """Samples, warm-up included."""
        return self._starts[-1]

    def read(self, *, is_whole: bool) -> list[_Part]:
        """What each file has."""
        self._span = self._first_and_last()

        def read(number: int) -> _Part:
            part = _Part()
            for numbers, times, batch, columns in self._batches(number):
                if is_whole:
                    part.rows |= {int(n): batch[i : i + 1] for i, n in enumerate(numbers)}
                self._add(part, numbers, times, batch, columns)
            return part

        with ThreadPoolExecutor(num_threads(len(self._files))) as pool:
            return list(pool.map(read, range(len(self._files))))

    def values_of(self, columns: Columns) -> Iterator[tuple[Pair, Rows, Ints]]:
        """Of each interval that any sample has: which rows, and their values."""
        across = [pair for pair in self._pairs if pair in self._across]
        for pair, rows, values, _ in compared_values(columns, across, self._comparison):
            yield pair, rows, values
        for pair in self._pairs:
            rows = columns.rows_of(pair)
            if pair not in self._across and rows is not None:
                yield pair, rows, columns[pair[1]][rows] - columns[pair[0]][rows]

    # By the beginnings of all files and the whole of the last: packets are about in the order of
    # time. What lies outside all the same is in the first stretch, or in the last.
    def _first_and_last(self) -> tuple[int, int]:
        ends: list[int] = []
        for file in self._files:
            for batch in iter_file(file, [*self._times, "is_warmup"]):
                times = first_times(batch[~batch["is_warmup"]], self._times)
                times = times[times != NULL]
                if len(times):
                    ends += [int(times.min()), int(times.max())]
                    if file is not self._files[-1]:
                        break
        return (min(ends), max(ends) + 1) if ends else (0, 1)

    # The samples of a file that are not warm-up and have a time, their numbers in the run, their
    # times.
    def _batches(self, file: int) -> Iterator[tuple[Ints, Ints, Batch, Columns]]:
        at = self._starts[file]
        for batch in iter_file(self._files[file], self._columns):
            numbers = at + np.flatnonzero(~batch["is_warmup"])
            at += len(batch)
            own = batch if len(numbers) == len(batch) else batch[~batch["is_warmup"]]
            columns = Columns(own)
            first, last = columns.span()
            is_in = first <= last
            if not is_in.all():
                own, numbers, first = own[is_in], numbers[is_in], first[is_in]
                columns = Columns(own)
            if len(numbers):
                yield numbers, first, own, columns

    def _add(self, part: _Part, numbers: Ints, times: Ints, batch: Batch, columns: Columns) -> None:
        first_ns, last_ns = self._span
        bins = (times - first_ns) // max(1, -(-(last_ns - first_ns) // NUM_BINS))
        bins = np.clip(bins, 0, NUM_BINS - 1)
        if (bins[1:] < bins[:-1]).any():
            # By stretch, and in each in the order of the run.
            order = np.argsort(bins, kind="stable")
            numbers, times, batch, bins = numbers[order], times[order], batch[order], bins[order]
            columns = Columns(batch)
        part.first_ns = min(part.first_ns, int(times.min()))
        local = np.arange(len(batch))
        for pair, rows, values in self.values_of(columns):
            if not len(values):
                continue
            at, when, own = local[rows], times[rows], bins[rows]
            starts = np.flatnonzero(np.diff(own, prepend=-1))
            found = (
                own[starts],
                np.minimum.reduceat(when, starts),
                np.maximum.reduceat(when, starts),
                np.minimum.reduceat(values, starts),
                np.maximum.reduceat(values, starts),
            )
            part.bins.setdefault(pair, []).append(np.stack(found))
            ends = [*starts[1:].tolist(), len(values)]
            for start, end in zip(starts.tolist(), ends, strict=True):
                top = at[start + int(values[start:end].argmax())]
                part.rows[int(numbers[top])] = batch[top : top + 1].copy()
            peak = int(values.max())
            if pair not in part.peaks or peak > part.peaks[pair].value:
                top = int(at[int(values.argmax())])
                near = slice(max(0, top - AROUND), top + AROUND + 1)
                part.peaks[pair] = _Peak(peak, numbers[near].copy(), batch[near].copy())


def _across(kind: str, comparison: Comparison | None) -> set[Pair]:
    is_compared = comparison is None or comparison.has_cover
    return set(Compared(kind, comparison).histograms) if is_compared else set()


# A stretch may lie in several batches, or files.
def _merged(parts: Sequence[_Bins], zero_ns: int) -> Envelope | None:
    if not parts:
        return None
    table = np.concatenate([p for part in parts for p in part], axis=1)
    bins, first, last, low, high = table[:, np.argsort(table[0], kind="stable")]
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return Envelope(
        np.minimum.reduceat(first, starts) - zero_ns,
        np.maximum.reduceat(last, starts) - zero_ns,
        np.minimum.reduceat(low, starts),
        np.maximum.reduceat(high, starts),
    )
