# SPDX-License-Identifier: GPL-2.0-only
"""A batch of samples column by column: each is copied and looked at once, however many intervals
end in it. In a batch the columns lie interleaved, which costs more than most that is done with
them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdptstamp.sample import NULL, Batch, clock_of

Ints = npt.NDArray[np.int64]
Pair = tuple[str, str]

# Which rows have a value: these; all; or none at all.
Rows = npt.NDArray[np.bool_] | slice | None
ALL = slice(None)


class Columns:
    """The samples of a batch that are not warm-up.

    :ivar size: how many.
    :ivar num_warmup: how many are left out.
    :ivar names: the columns there are.
    """

    def __init__(self, batch: Batch) -> None:
        is_counted = ~batch["is_warmup"]
        self._batch = batch if is_counted.all() else batch[is_counted]
        self.size = self._batch.size
        self.num_warmup = batch.size - self.size
        self.names = batch.dtype.names or ()
        self._columns: dict[str, Ints] = {}
        self._rows: dict[str, Rows] = {}
        self._span: tuple[Ints, Ints] | None = None

    def __getitem__(self, name: str) -> Ints:
        """A column; times are :data:`~xdptstamp.sample.NULL` where there is none."""
        if name not in self._columns:
            self._columns[name] = np.ascontiguousarray(self._batch[name])
        return self._columns[name]

    def rows(self, name: str) -> Rows:
        """Which rows have a value in a column; None also where there is no such column."""
        if name not in self._rows:
            self._rows[name] = self._look(name)
        return self._rows[name]

    def rows_of(self, pair: Pair) -> Rows:
        """Which rows have a value in both columns."""
        return both(self.rows(pair[0]), self.rows(pair[1]))

    def span(self) -> tuple[Ints, Ints]:
        """The first and the last time on CLOCK_TAI that is known of each packet.

        Of a packet with none the first is later than the last.
        """
        if self._span is None:
            self._span = self._find_span()
        return self._span

    def _find_span(self) -> tuple[Ints, Ints]:
        first: Ints = np.full(self.size, np.iinfo(np.int64).max)
        last: Ints = np.full(self.size, NULL)
        for name in self.names:
            rows = self.rows(name) if clock_of(name) == "tai" else None
            if rows is not None:
                times = self[name]
                np.maximum(last, times, out=last)
                np.minimum(first, times, out=first, where=True if isinstance(rows, slice) else rows)
        return first, last

    def _look(self, name: str) -> Rows:
        if name not in self.names:
            return None
        is_known = self[name] != NULL
        if is_known.all():
            return ALL if self.size else None
        return is_known if is_known.any() else None


def both(one: Rows, other: Rows) -> Rows:
    """The rows that are in both."""
    if one is None or other is None:
        return None
    if isinstance(one, slice):
        return other
    return one if isinstance(other, slice) else one & other


def count(rows: Rows, size: int) -> int:
    """How many rows those are, of ``size`` in all."""
    if rows is None:
        return 0
    return size if isinstance(rows, slice) else int(np.count_nonzero(rows))
