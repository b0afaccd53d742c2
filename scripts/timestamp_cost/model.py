# SPDX-License-Identifier: GPL-2.0-only
"""What a simple model predicts of timestamped and plain packets that share a queue.

The sender hands over together what it has room for, and that takes it a fixed time a packet; it has
room for what has completed. The wire takes no time. A packet that asks for a timestamp takes one of
R registers when it is handed over, if one is free, for the time L until its stamp is read; if none
is free it goes without (igc counts it as skipped). Completions are in order: nothing behind a
stamped packet completes before its stamp is there.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

#: Packets of one prediction; the first quarter, in which queues fill, does not count.
_NUM_PACKETS = 40_000


@dataclass(frozen=True, slots=True)
class Queue:
    """What is known of a queue and its sender.

    :param packet_ns: what a packet takes the sender.
    :param latency_ns: from the wire until a stamp has been read.
    :param in_flight: packets submitted and not completed, at most.
    :param num_registers: stamps that can be pending.
    :param max_pending: a packet that is to be stamped waits while so many are; 0: it does not.
    :param interval_ns: packets are not sent faster than so; 0: as fast as it goes.
    """

    packet_ns: float
    latency_ns: float
    in_flight: int
    num_registers: int = 4
    max_pending: int = 0
    interval_ns: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What comes of it.

    :param packets_per_ns: how fast it sends.
    :param stamped: of the requested, as a share.
    :param hold_ns: median time from submission to completion of the packets that asked for a stamp.
    """

    packets_per_ns: float
    stamped: float
    hold_ns: float


def predict(queue: Queue, stamped: int, plain: int) -> Prediction:
    """The model's answer for ``stamped`` packets with a timestamp, then ``plain`` without."""
    return _Course(queue, stamped, plain).result()


class _Course:
    # One prediction while it goes on: a time, and when everything on its way will be done.
    def __init__(self, queue: Queue, stamped: int, plain: int) -> None:
        self._queue, self._stamped, self._period = queue, stamped, stamped + plain
        self._now = self._end = 0.0
        self._ends: deque[tuple[float, bool]] = deque()  # completion, and whether it had asked
        self._registers: deque[float] = deque(maxlen=queue.num_registers)  # when each is free
        self._num_asking = 0
        self._asked = self._given = 0
        self._holds_ns: list[float] = []

    def result(self) -> Prediction:
        number = self._run_to(0, _NUM_PACKETS // 4)
        first, start = number, self._now
        self._asked = self._given = 0
        self._holds_ns.clear()
        number = self._run_to(number, _NUM_PACKETS)
        return Prediction(
            packets_per_ns=(number - first) / (self._now - start),
            stamped=self._given / self._asked if self._asked else 1.0,
            hold_ns=statistics.median(self._holds_ns) if self._asked else 0.0,
        )

    def _run_to(self, number: int, limit: int) -> int:
        while number < limit:
            number += self._hand_over(number)
        return number

    # Returns how many packets. Where there is no room the time goes on to when there is.
    def _hand_over(self, number: int) -> int:
        queue = self._queue
        while self._ends and self._ends[0][0] <= self._now:
            self._num_asking -= self._ends.popleft()[1]
        room = queue.in_flight - len(self._ends)
        moments = [self._ends[0][0]] if self._ends else []
        if queue.interval_ns:
            due = int(self._now / queue.interval_ns) + 1 - number
            if due < room:
                room = max(due, 0)
                moments.append(number * queue.interval_ns)
        room = self._without_waiting(number, room)
        if not room:
            later = [moment for moment in moments if moment > self._now]
            self._now = min(later) if later else self._now + 1
            return 0
        self._now += room * queue.packet_ns
        for each in range(number, number + room):
            self._send(asks=each % self._period < self._stamped)
        return room

    def _without_waiting(self, number: int, room: int) -> int:
        if not self._queue.max_pending:
            return room
        left = self._queue.max_pending - self._num_asking
        for count in range(room):
            if (number + count) % self._period < self._stamped:
                if not left:
                    return count
                left -= 1
        return room

    def _send(self, *, asks: bool) -> None:
        done = self._now
        if asks:
            registers = self._registers
            self._asked += 1
            if len(registers) < self._queue.num_registers or registers[0] <= self._now:
                self._given += 1
                done += self._queue.latency_ns
                registers.append(done)
        self._end = max(self._end, done)
        self._ends.append((self._end, asks))
        self._num_asking += asks
        if asks:
            self._holds_ns.append(self._end - self._now)
