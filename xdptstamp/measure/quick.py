# SPDX-License-Identifier: GPL-2.0-only
"""The usual packet's way through a responder, in one function.

One request waits, and the program has made its reply: it goes out with nothing done first that
could be done later. In Python a call costs about as much as all else that such a packet needs, and
the same way made of calls takes twice the time. All books are kept afterwards, by the rings and
:class:`~xdptstamp.measure.inflight.InFlight` themselves.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from xdptstamp._sys.if_xdp import XDP_RING_NEED_WAKEUP
from xdptstamp.measure.inflight import InFlight
from xdptstamp.program import META_LEN, META_VERSION, VALID_REPLY, VALID_VLAN

# META_DTYPE's version and valid.
_META = struct.Struct("=I38xB")

#: What the function of :func:`quick_path` says where it has done nothing: there is more than one
#: packet, or one that needs more.
NOT_HERE = -1


def quick_path(
    flight: InFlight, options: int, note: Callable[[int, int, int], None]
) -> Callable[[], int]:
    """Build the function for one socket, whose rings may be accessed directly.

    :param options: desc.options of replies.
    :param note: called after each reply with addr, length and time of reception of its request.
    :return: the function. It returns 1: answered a request, 0: there is none, or
        :data:`NOT_HERE`.
    """
    xsk, waker, counts, capacity = flight.xsk, flight.waker, flight.counts, flight.capacity
    rx, tx, view = xsk.rx, xsk.tx, xsk.umem.view
    rx_producer, rx_consumer, rx_words, rx_mask = rx.producer, rx.consumer, rx.words, rx.mask
    tx_producer, tx_consumer, tx_words, tx_mask = tx.producer, tx.consumer, tx.words, tx.mask
    tx_flags, is_always_woken = tx.flags, not xsk.config.is_need_wakeup
    clock_ns, tai, unpack_meta = time.clock_gettime_ns, time.CLOCK_TAI, _META.unpack_from
    wakeup_tx, upper, u32 = xsk.wakeup_tx, options << 32, 0xFFFFFFFF
    meta_len, known_version = META_LEN, META_VERSION
    kinds, usual = VALID_REPLY | VALID_VLAN, VALID_REPLY

    def answer_one() -> int:
        position = rx_consumer[0]
        waiting = (rx_producer[0] - position) & u32
        if waiting != 1:
            return NOT_HERE if waiting else 0
        if flight.num_pending >= capacity or waker.is_needed or counts.lost:
            return NOT_HERE  # InFlight.num_free knows better
        rx_app_ns = clock_ns(tai)
        index = (position & rx_mask) * 2
        addr, length = rx_words[index], rx_words[index + 1] & u32
        version, valid = unpack_meta(view, addr - meta_len)
        if version != known_version or valid & kinds != usual:
            return NOT_HERE

        position = tx_producer[0]
        index = (position & tx_mask) * 2
        tx_words[index] = addr
        tx_words[index + 1] = length | upper
        shown = tx_consumer[0]
        tx_app_ns = clock_ns(tai)
        tx_producer[0] = (position + 1) & u32
        error = wakeup_tx() if is_always_woken or tx_flags[0] & XDP_RING_NEED_WAKEUP else 0

        tx.catch_up()
        rx.peek(1)
        rx.release(1)
        waker.go_on(shown, error)
        flight.note_sent(addr, length, options, tx_app_ns)
        note(addr, length, rx_app_ns)
        return 1

    return answer_one
