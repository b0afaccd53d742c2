# SPDX-License-Identifier: GPL-2.0-only
"""The four Tx stamp registers: latched by the wire, read and freed by the driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xdptstamp.lab.i226 import registers as reg
from xdptstamp.lab.i226.clock import split
from xdptstamp.lab.i226.faults import Faults
from xdptstamp.lab.i226.schedule import Schedule


class TxStamps:
    """Stamp registers of one port.

    :param ready: called when a register became valid.
    """

    def __init__(self, schedule: Schedule, faults: Faults, ready: Callable[[], None]) -> None:
        self._schedule = schedule
        self._faults = faults
        self._ready = ready
        self._generation = 0
        self._values = [0] * reg.NUM_TX_STAMPS
        self._waiting: set[int] = set()
        self.valid = 0
        self.is_enabled = False

    def reset(self) -> None:
        """Disabled and empty; what was on its way will not come."""
        self._generation += 1
        self._values = [0] * reg.NUM_TX_STAMPS
        self._waiting.clear()
        self.valid = 0
        self.is_enabled = False

    def latch(self, slot: int, value_ns: int, at_ns: int) -> str:
        """Take the stamp of a packet that asked for register ``slot``.

        :param at_ns: the model's time of the packet, which may be still to come: it comes behind
            the others that the NIC has fetched.
        :return: what becomes of it, as :class:`xdptstamp.lab.i226.truth.Entry` has it.
        """
        if not self.is_enabled:
            return "disabled"
        # A register that holds a stamp keeps it: the hardware latches into a free one only.
        if self.valid >> slot & 1 or slot in self._waiting:
            return "busy"
        if self._faults.strikes("lose-stamp"):
            return "lost"
        self._waiting.add(slot)
        due_ns = at_ns + self._faults.delay_ns("delay-stamp")
        action = partial(self._deliver, slot, value_ns, self._generation)
        if due_ns > self._schedule.now_ns():
            self._schedule.at(due_ns, action)
        else:
            action()
        return "delivered"

    def read_low(self, slot: int) -> int:
        """TXSTMPL: nanoseconds."""
        return split(self._values[slot])[1]

    def read_high(self, slot: int) -> int:
        """TXSTMPH: seconds. Reading it frees the register."""
        if self.valid >> slot & 1 and not self._faults.sticks(slot):
            self.valid &= ~(1 << slot)
        return split(self._values[slot])[0]

    def _deliver(self, slot: int, value_ns: int, generation: int) -> None:
        if generation != self._generation:
            return
        self._waiting.discard(slot)
        self._values[slot] = value_ns
        self.valid |= 1 << slot
        self._ready()
