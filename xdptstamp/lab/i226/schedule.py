# SPDX-License-Identifier: GPL-2.0-only
"""What the model does later: actions in the order of their times on its clock."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable

_MAX_WAIT_NS = 3600 * 1_000_000_000


class Schedule:
    """Actions with a time, CLOCK_MONOTONIC in ns: the model's own clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()

    @staticmethod
    def now_ns() -> int:
        """The model's time."""
        return time.monotonic_ns()

    def at(self, due_ns: int, action: Callable[[], None]) -> None:
        """Do ``action`` at ``due_ns`` or as soon after it as possible."""
        heapq.heappush(self._heap, (due_ns, next(self._count), action))

    def run(self, limit: int = 256) -> None:
        """Do what is due; at most ``limit`` actions, so that nobody waits for long."""
        heap = self._heap
        for _ in range(limit):
            if not heap or heap[0][0] > time.monotonic_ns():
                return
            heapq.heappop(heap)[2]()

    def seconds_left(self, other_times_ns: list[int]) -> float | None:
        """Until the next action or time, at most an hour; None: there is none."""
        if self._heap:
            other_times_ns = [self._heap[0][0], *other_times_ns]
        if not other_times_ns:
            return None
        # Whoever waits cannot do so for years, and need not.
        return min(max(0, min(other_times_ns) - time.monotonic_ns()), _MAX_WAIT_NS) / 1e9
