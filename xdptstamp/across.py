# SPDX-License-Identifier: GPL-2.0-only
"""Intervals from one clock to another, by how the two compared: see
:mod:`xdptstamp.comparison`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from xdptstamp.columns import Columns, Ints, Pair, Rows, both
from xdptstamp.comparison import Comparison
from xdptstamp.histogram import Histogram
from xdptstamp.sample import INTERVALS_OF_KIND, NULL, clock_of


class Compared:
    """Intervals across clocks, and those on the NIC's if that was set meanwhile.

    :param comparison: of the run; None: the NIC's clock is taken to be CLOCK_TAI.
    :ivar histograms: by (from, to).
    :ivar uncertainties: likewise: how wrong the values may be.
    """

    def __init__(self, kind: str, comparison: Comparison | None) -> None:
        has_steps = comparison is not None and comparison.num_stretches > 1
        pairs = [pair for pair in INTERVALS_OF_KIND[kind] if is_across(pair)]
        pairs += [pair for pair in INTERVALS_OF_KIND[kind] if has_steps and is_within_phc(pair)]
        self._comparison = comparison
        self.histograms: dict[Pair, Histogram] = {pair: Histogram() for pair in pairs}
        self.uncertainties: dict[Pair, Histogram] = {pair: Histogram() for pair in pairs}

    def add(self, columns: Columns) -> None:
        """Take samples in, with :func:`xdptstamp.stats.compared_columns` at least."""
        for pair, _, values, sure in compared_values(columns, self.histograms, self._comparison):
            self.histograms[pair].add(values)
            self.uncertainties[pair].add(sure)

    def merge(self, other: Compared) -> None:
        """Take in all that ``other`` has; both of one kind, by one comparison."""
        for pair, histogram in other.histograms.items():
            self.histograms[pair].merge(histogram)
            self.uncertainties[pair].merge(other.uncertainties[pair])


def compared_values(
    columns: Columns, pairs: Iterable[Pair], comparison: Comparison | None
) -> Iterator[tuple[Pair, Rows, Ints, Ints]]:
    """The values of intervals that end on another clock, or on one that was set meanwhile.

    :param pairs: which, as :class:`Compared` has them; what no sample has is left out.
    :return: of each the pair, the rows that could be compared, their values, how wrong these may
        be; all in ns.
    """
    there = [pair for pair in pairs if columns.rows_of(pair) is not None]
    if not there:
        return
    if comparison is None:
        for pair in there:
            rows = columns.rows_of(pair)
            values = columns[pair[1]][rows] - columns[pair[0]][rows]
            yield pair, rows, values, np.zeros(len(values), np.int64)
        return
    times = _Times(columns, comparison)
    for pair in there:
        start, end, sure = times.of(pair)
        is_good = sure != NULL
        good = both(columns.rows_of(pair), slice(None) if is_good.all() else is_good)
        yield pair, good, end[good] - start[good], sure[good]


def is_across(pair: Pair) -> bool:
    """Whether an interval ends on another clock than it began on."""
    return clock_of(pair[0]) != clock_of(pair[1])


def is_within_phc(pair: Pair) -> bool:
    """Whether an interval begins and ends on the NIC's clock."""
    return clock_of(pair[0]) == clock_of(pair[1]) == "phc"


class _Times:
    # The times of some samples on CLOCK_TAI; each column is moved there once.
    def __init__(self, columns: Columns, comparison: Comparison) -> None:
        self._columns = columns
        self._comparison = comparison
        self._stretches = comparison.stretch_of(*columns.span())
        self._moved: dict[str, tuple[Ints, Ints]] = {}

    def of(self, pair: Pair) -> tuple[Ints, Ints, Ints]:
        # Both ends on one clock, and how wrong their difference may be; NULL: not known.
        if is_within_phc(pair):
            # Where no clock was set around the packet they are as they are.
            sure = np.where(self._stretches >= 0, 0, NULL)
            return self._columns[pair[0]], self._columns[pair[1]], sure
        start, end = pair
        if clock_of(start) == "phc":
            moved, sure = self._on_tai(start)
            return moved, self._columns[end], sure
        moved, sure = self._on_tai(end)
        return self._columns[start], moved, sure

    def _on_tai(self, name: str) -> tuple[Ints, Ints]:
        if name not in self._moved:
            times = self._columns[name]
            self._moved[name] = self._comparison.to_tai_within(times, self._stretches)
        return self._moved[name]
