# SPDX-License-Identifier: GPL-2.0-only
"""What a process of the teardown storm sends."""

from __future__ import annotations

from xdptstamp import txmd
from xdptstamp.xsk import Xsk

#: Entries of each ring, and frames to send from.
SIZE = 64


class StormSender:
    """Sends packets that ask for stamps, and takes what completes without looking at it."""

    def __init__(self, xsk: Xsk, packet: bytes) -> None:
        self._xsk = xsk
        self._length = len(packet)
        umem = xsk.umem
        for frame in range(SIZE):
            addr = umem.tx_addr(frame)
            umem.view[addr : addr + len(packet)] = packet
        self._frame = 0
        self._num_free = SIZE

    def send(self, wanted: int) -> int:
        """Submit as many as there is room for, at most ``wanted``; returns how many."""
        xsk = self._xsk
        _, done = xsk.comp.peek(xsk.comp.size)
        xsk.comp.release(done)
        self._num_free += done
        start, count = xsk.tx.reserve(min(wanted, self._num_free))
        for position in range(start, start + count):
            addr = xsk.umem.tx_addr(self._frame)
            txmd.write_request(xsk.umem.view, addr - xsk.umem.tx_metadata_len, txmd.TIMESTAMP)
            index = (position & xsk.tx.mask) * 2
            xsk.tx.words[index] = addr
            xsk.tx.words[index + 1] = self._length | txmd.OPTION << 32
            self._frame = (self._frame + 1) % SIZE
        self._num_free -= count
        xsk.tx.submit(count)
        xsk.wakeup_tx()
        return count
