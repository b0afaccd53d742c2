# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for the packets of sockets that nobody keeps books of, before they are closed.

Some igc kernels page-fault over a zero-copy socket that goes while stamps are pending (fixed by
Linux commit 45b33e805bd3). In copy mode there is nothing to wait for: the kernel has the packet,
and the socket lives until it lets go of it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from xdptstamp.dut import Dut
from xdptstamp.linkwatch import LinkChange, LinkWatch
from xdptstamp.xsk import Xsk

_LIMIT_NS = 20_000_000_000  # a stamp that is lost needs 15 s, on igc
_REAP_PERIOD_S = 50e-6
_REAP_BATCH = 256
_U32 = 0xFFFFFFFF


def drain(dut: Dut) -> int:
    """:func:`drain_sockets` of all that :func:`~xdptstamp.dut.acquire` opened."""
    return drain_sockets(dut.xsks, dut.watch)


def drain_sockets(sockets: Sequence[Xsk], watch: LinkWatch) -> int:
    """Take all completions that come, until the NIC has given back every packet.

    :return: how many it still has after 20 s; 0 where its interface is gone.
    """
    xsks = [xsk for xsk in sockets if xsk.is_zero_copy]
    deadline_ns = time.monotonic_ns() + _LIMIT_NS
    while num_pending := _num_pending(xsks):
        if watch.check() in (LinkChange.DOWN, LinkChange.VANISHED):
            return 0
        if time.monotonic_ns() > deadline_ns:
            return num_pending
        if not sum(_reap(xsk) for xsk in xsks):
            for xsk in xsks:
                xsk.wakeup_tx()  # a driver may want to be woken to complete
            select.select([watch], (), (), _REAP_PERIOD_S)
    return 0


def _num_pending(xsks: Sequence[Xsk]) -> int:
    # Submitted, less completed, less what a driver takes from the ring and never completes.
    counts = (
        ((xsk.tx.producer[0] - xsk.comp.consumer[0]) & _U32) - xsk.statistics()["tx_invalid_descs"]
        for xsk in xsks
    )
    return sum(max(count, 0) for count in counts)


def _reap(xsk: Xsk) -> int:
    _, count = xsk.comp.peek(_REAP_BATCH)
    xsk.comp.release(count)
    return count
