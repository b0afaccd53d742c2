# SPDX-License-Identifier: GPL-2.0-only
"""Which packets of a stream ask for a timestamp, answered for whole ranges of numbers at once.

A packet is ``stamped`` if it asks itself, ``behind`` if it comes right behind one that does and
does not ask itself, one of the ``others`` else.
"""

from __future__ import annotations

import bisect
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xdptstamp import stream
from xdptstamp.errors import SetupError

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


class Pattern(Protocol):
    """What a sender asks of a pattern; numbers count from 0 and never wrap here."""

    #: (T, N) as the packets carry it; (0, 0): no fixed pattern.
    ratio: tuple[int, int]
    #: Whether any packet asks.
    has_stamps: bool

    def mask(self, start: int, count: int) -> Bools:
        """Whether each of ``count`` packets from ``start`` on asks; valid until the next call."""

    def stamped_at(self, start: int, count: int) -> Indices:
        """Which of ``count`` packets from ``start`` on ask, as offsets from ``start``."""

    def num_stamped(self, end: int) -> int:
        """How many of the packets before ``end`` ask."""

    def num_behind(self, end: int) -> int:
        """How many of the packets before ``end`` are right behind one that asks."""

    def room(self, start: int, count: int, num_allowed: int) -> int:
        """How many of ``count`` packets from ``start`` on have ``num_allowed`` stamps at most."""


class RatioPattern:
    """T packets that ask, then N that do not, repeated exactly.

    :param longest: the longest range that will be asked for.
    :raises SetupError: If neither is above 0, or one passes :data:`stream.MAX_PATTERN`.
    """

    def __init__(self, stamped: int, plain: int, longest: int) -> None:
        if not 0 <= min(stamped, plain) <= max(stamped, plain) <= stream.MAX_PATTERN:
            problem = f"T and N are from 0 to {stream.MAX_PATTERN}"
            raise SetupError(f"ratio {stamped}:{plain}", problem)
        if not stamped + plain:
            raise SetupError(f"ratio {stamped}:{plain}", "T or N must be above 0")
        self.ratio = (stamped, plain)
        self.has_stamps = stamped > 0
        self._stamped = stamped
        self._plain = plain
        self._period = stamped + plain
        self._tile: Bools = np.arange(self._period + longest) % self._period < stamped
        self._stamped_at = np.flatnonzero(self._tile)

    def mask(self, start: int, count: int) -> Bools:
        """See :meth:`Pattern.mask`."""
        phase = start % self._period
        return self._tile[phase : phase + count]

    def stamped_at(self, start: int, count: int) -> Indices:
        """See :meth:`Pattern.stamped_at`."""
        phase = start % self._period
        first, last = self.num_stamped(phase), self.num_stamped(phase + count)
        return self._stamped_at[first:last] - phase

    def num_stamped(self, end: int) -> int:
        """See :meth:`Pattern.num_stamped`."""
        periods, rest = divmod(end, self._period)
        return periods * self._stamped + min(rest, self._stamped)

    def num_behind(self, end: int) -> int:
        """See :meth:`Pattern.num_behind`."""
        if not (self._stamped and self._plain):
            return 0
        periods, rest = divmod(end, self._period)
        return periods + (rest > self._stamped)

    def room(self, start: int, count: int, num_allowed: int) -> int:
        """See :meth:`Pattern.room`."""
        if not self._stamped:
            return count
        periods, rest = divmod(self.num_stamped(start) + num_allowed, self._stamped)
        return min(count, periods * self._period + rest - start)


class EveryPattern:
    """One packet asks in each interval, whenever the sender comes to it; all others do not.

    :param every_ns: the interval, on the clock that :meth:`plan` is told.
    """

    ratio = (0, 0)
    has_stamps = True

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._due_ns = 0
        self._num_before = 0  # stamped packets that are forgotten
        self._stamped: list[int] = []

    def plan(self, start: int, now_ns: int) -> None:
        """Packet ``start`` is the next: it asks if an interval has passed.

        It may be told so again, where there was no room for it.
        """
        if now_ns < self._due_ns or (self._stamped and self._stamped[-1] == start):
            return
        self._stamped.append(start)
        # Late is late: a pause is not made up for by a burst of stamps.
        self._due_ns = max(self._due_ns + self._every_ns, now_ns + self._every_ns // 2)

    def forget(self, before: int) -> None:
        """Nothing will be asked of packets before that number any more, but their count."""
        # The one right before has a neighbour behind it that may still be asked about.
        count = bisect.bisect_left(self._stamped, before - 1)
        self._num_before += count
        del self._stamped[:count]

    def mask(self, start: int, count: int) -> Bools:
        """See :meth:`Pattern.mask`."""
        mask = np.zeros(count, np.bool_)
        mask[self.stamped_at(start, count)] = True
        return mask

    def stamped_at(self, start: int, count: int) -> Indices:
        """See :meth:`Pattern.stamped_at`."""
        first = bisect.bisect_left(self._stamped, start)
        last = bisect.bisect_left(self._stamped, start + count)
        return np.array(self._stamped[first:last], np.intp) - start

    def num_stamped(self, end: int) -> int:
        """See :meth:`Pattern.num_stamped`."""
        return self._num_before + bisect.bisect_left(self._stamped, end)

    def num_behind(self, end: int) -> int:
        """See :meth:`Pattern.num_behind`."""
        # Two in a row would need an interval shorter than a batch takes; then the second is
        # counted as stamped and as behind, and `others` one too few.
        return self.num_stamped(end - 1)

    def room(self, start: int, count: int, num_allowed: int) -> int:
        """See :meth:`Pattern.room`."""
        first = bisect.bisect_left(self._stamped, start)
        waiting = self._stamped[first:]
        return count if len(waiting) <= num_allowed else min(count, waiting[num_allowed] - start)
