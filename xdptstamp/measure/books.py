# SPDX-License-Identifier: GPL-2.0-only
"""The books of a run: every packet that was seen is somewhere, and each place is counted apart.

Receiving side: redirected = rx_dropped + rx_ring_full + left in the Rx ring + received.
Sending side: answered = completed + lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from xdptstamp.dut import Dut
from xdptstamp.measure.responder import Responder

_REFUSED = "refused_"
# What the kernel counts once for each packet; rx_fill_ring_empty_descs counts attempts.
_LOST_BY_KERNEL = ("rx_dropped", "rx_ring_full")

# The program counts each packet, but the kernel shows a poll's packets in the Rx ring at the end
# of the poll, and tells nobody when that is.
_SETTLE_NS = 1_000_000_000
_SETTLE_STEP_S = 0.001


def close_books(dut: Dut, responders: list[Responder]) -> dict[str, Any]:
    """Read every counter once more and add up; nothing must be redirected any more."""
    deadline_ns = time.monotonic_ns() + _SETTLE_NS
    books = _read_books(dut, responders)
    while books["unaccounted"]["received"] and time.monotonic_ns() < deadline_ns:
        time.sleep(_SETTLE_STEP_S)
        books = _read_books(dut, responders)
    return books


def _read_books(dut: Dut, responders: list[Responder]) -> dict[str, Any]:
    program = dut.program.counters()
    kernel = _sums(responder.xsk.statistics() for responder in responders)
    left = sum(responder.xsk.rx.num_waiting() for responder in responders)
    received = sum(responder.counts.received for responder in responders)
    tx = [responder.flight.counts for responder in responders]
    completed, lost = sum(c.completed for c in tx), sum(c.lost for c in tx)
    answered = sum(responder.counts.answered for responder in responders)
    lost_by_kernel = sum(kernel[name] for name in _LOST_BY_KERNEL)
    refused = {
        name.removeprefix(_REFUSED): count
        for name, count in program.items()
        if name.startswith(_REFUSED)
    }
    return {
        "redirected": program["redirected"],
        "received": received,
        "answered": answered,
        "completed": completed,
        "passed_other": program["passed_other"],
        "passed_no_socket": program["passed_no_socket"],
        "refused": sum(refused.values()),
        "refused_by": refused,
        **kernel,
        "rx_left_in_ring": left,
        "without_meta": sum(responder.counts.without_meta for responder in responders),
        "stamp_steps_back": sum(r.counts.stamp_steps_back for r in responders),
        "lost": lost,
        "completed_after_lost": sum(c.completed_after_lost for c in tx),
        "completed_unexpected": sum(c.completed_unexpected for c in tx),
        "dropped_by_kernel": sum(c.dropped_by_kernel for c in tx),
        "wakeup_errors": _sums(c.wakeup_errors for c in tx),
        "unaccounted": {
            "received": program["redirected"] - lost_by_kernel - left - received,
            "answered": answered - completed - lost,
        },
    }


def _sums(books: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for book in books:
        for name, count in book.items():
            total[name] = total.get(name, 0) + count
    return total
