# SPDX-License-Identifier: GPL-2.0-only
"""What a sending loop must not miss: its interface or carrier going, and what clocks do."""

from __future__ import annotations

import time

from xdptstamp.dut import Dut
from xdptstamp.linkwatch import LinkChange

# The kernel tells of a carrier change up to a second late (net/core/link_watch.c), and we look
# every 100 ms.
_NEWS_NS = 1_200_000_000
# Above what being interrupted between two readings makes of it.
_CLOCK_STEP_NS = 100_000_000


class Vigil:
    """Asked some ten times a second.

    :param patience_ns: how long the carrier may be away before that is a failure.
    :ivar resets: (earliest, latest) time of each reset of the adapter or loss of its link, ns on
        CLOCK_TAI.
    :ivar failure: what is wrong with the interface, for good; None: nothing.
    :ivar is_gone: no completion will come any more.
    :ivar clock_step_ns: the greatest step of CLOCK_TAI meanwhile; 0: none.
    """

    def __init__(self, dut: Dut, patience_ns: int) -> None:
        self.resets: list[tuple[int, int]] = []
        self.failure: str | None = None
        self.is_gone = False
        self.clock_step_ns = 0
        self._dut = dut
        self._patience_ns = patience_ns
        self._no_carrier_since_ns = 0
        self._tai_offset_ns = tai_offset_ns()

    def look(self) -> str | None:
        """Look around, and once a second at the NIC's clock; returns :attr:`failure`."""
        self._check_clock()
        if self._dut.clocks is not None:
            self._dut.clocks.look()
        change = self._dut.watch.check(asks=self._dut.is_hardware)
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        has_carrier = change != LinkChange.NO_CARRIER
        if change == LinkChange.CARRIER_BOUNCED or not (has_carrier or self._no_carrier_since_ns):
            self.resets.append((now_ns - _NEWS_NS, now_ns))
            if self._dut.clocks is not None:
                # A driver sets the PHC anew: igc by CLOCK_MONOTONIC (igc_ptp_time_restore).
                self._dut.clocks.note_break(now_ns - _NEWS_NS, now_ns)
        if has_carrier:
            self._no_carrier_since_ns = 0
        else:
            self._no_carrier_since_ns = self._no_carrier_since_ns or now_ns
        self.is_gone = change in (LinkChange.DOWN, LinkChange.VANISHED)
        is_dark = not has_carrier and now_ns - self._no_carrier_since_ns > self._patience_ns
        if self.is_gone or is_dark:
            what = self._dut.watch.describe(change)
            self.failure = self.failure or f"{self._dut.nic.ifname} {what}"
        return self.failure

    def _check_clock(self) -> None:
        offset_ns = tai_offset_ns()
        step_ns = offset_ns - self._tai_offset_ns
        self._tai_offset_ns = offset_ns
        if abs(step_ns) > max(_CLOCK_STEP_NS, abs(self.clock_step_ns)):
            self.clock_step_ns = step_ns


def tai_offset_ns() -> int:
    """CLOCK_TAI minus CLOCK_MONOTONIC: adjusting moves both alike, a step only the first."""
    before = time.monotonic_ns()
    tai_ns = time.clock_gettime_ns(time.CLOCK_TAI)
    return tai_ns - (before + time.monotonic_ns()) // 2
