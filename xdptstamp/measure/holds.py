# SPDX-License-Identifier: GPL-2.0-only
"""Hold times while a stream is sent: submit to completion, by where a packet stands.

Packets that were submitted together and completed together have one hold time, so what is kept of
them is that time and how many there were of each kind.
"""

from __future__ import annotations

import numpy as np

from xdptstamp.histogram import Histogram
from xdptstamp.measure.pattern import Pattern
from xdptstamp.rounds import POSITIONS

_FOLD_SIZE = 1024


class Holds:
    """Histograms in bounded memory; :meth:`fold` what is pending before reading them.

    :ivar by_position: hold times in ns, by :data:`~xdptstamp.rounds.POSITIONS`.
    :ivar reap: from one look at the completions to the next, ns.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.by_position = {position: Histogram() for position in POSITIONS}
        self.reap = Histogram()
        self._pattern = pattern
        self._pending: list[tuple[int, int, int, int]] = []
        self._periods: list[int] = []
        self._last_look_ns = 0

    def look(self, now_ns: int) -> None:
        """The completions were looked at (a time of any one clock)."""
        if self._last_look_ns:
            self._periods.append(now_ns - self._last_look_ns)
            if len(self._periods) >= _FOLD_SIZE:
                self.fold()
        self._last_look_ns = now_ns

    def note(self, start: int, end: int, hold_ns: int) -> None:
        """Packets from ``start`` to before ``end`` all had this hold time."""
        pattern = self._pattern
        stamped = behind = 0
        if pattern.has_stamps:
            stamped = pattern.num_stamped(end) - pattern.num_stamped(start)
            behind = pattern.num_behind(end) - pattern.num_behind(start)
        self._pending.append((hold_ns, stamped, behind, end - start - stamped - behind))
        if len(self._pending) >= _FOLD_SIZE:
            self.fold()

    def fold(self) -> None:
        """Take what is pending into the histograms."""
        if self._pending:
            # A step of the clock can make a time negative, which no hold time is.
            rows = np.array(self._pending, np.int64)
            times = np.maximum(rows[:, 0], 0)
            for index, position in enumerate(POSITIONS, 1):
                self.by_position[position].add_times(times, rows[:, index])
            self._pending.clear()
        if self._periods:
            self.reap.add(self._periods)
            self._periods.clear()
