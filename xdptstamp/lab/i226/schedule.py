# SPDX-License-Identifier: GPL-2.0-only
"""What the model does later: actions in the order of their times on its clock."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


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

    def seconds_left(self) -> float | None:
        """Until the next action; None: there is none."""
        if not self._heap:
            return None
        return max(0, self._heap[0][0] - time.monotonic_ns()) / 1e9
