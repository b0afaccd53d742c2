# SPDX-License-Identifier: GPL-2.0-only
"""A kernel of the tests' own behind the Tx side of a socket.

It does to the rings what net/xdp/xsk.c does in copy mode, in the two ways there are: since Linux
v6.17 the Tx ring shows at the end of each call what was taken, before only when a later call looks
for more.
"""

import errno
import time
from types import SimpleNamespace

import numpy as np

from xdptstamp import ring, txmd
from xdptstamp._sys.libxdp import xsk_ring
from xdptstamp.umem import Umem

U32 = 0xFFFFFFFF
PRODUCER, CONSUMER, FLAGS = 0, 1, 2
NEED_WAKEUP = 1


class RingMemory:
    def __init__(self, size, words_per_entry, start, *, is_producer):
        self.size, self.words_per_entry = size, words_per_entry
        self.words = np.full(4, start, dtype=np.uint32)
        self.entries = np.zeros(size * words_per_entry, dtype=np.uint64)
        base = self.words.ctypes.data
        raw = xsk_ring(
            mask=size - 1,
            size=size,
            producer=base + 4 * PRODUCER,
            consumer=base + 4 * CONSUMER,
            ring=self.entries.ctypes.data,
            flags=base + 4 * FLAGS,
        )
        self.words[FLAGS] = 0
        if is_producer:
            self.ring = ring.TxRing(raw, ring.producer_indices(raw, is_direct=True))
        else:
            self.ring = ring.CompRing(raw, ring.consumer_indices(raw, is_direct=True))

    def addr(self, position):
        return int(self.entries[position % self.size * self.words_per_entry])


class Kernel:
    """What a sender takes for a socket. Positions run on from just before the 32-bit wrap."""

    START = U32 - 5

    def __init__(self, num_frames=64, size=16, *, is_shown_at_once=True, tx_metadata_len=24):
        self.umem = Umem(num_frames, tx_metadata_len=tx_metadata_len)
        self._tx = RingMemory(size, 2, self.START, is_producer=True)
        self._comp = RingMemory(size, 1, self.START, is_producer=False)
        self.tx, self.comp = self._tx.ring, self._comp.ring
        self.ifname = "test0"
        self.config = SimpleNamespace(is_need_wakeup=True)
        self.is_zero_copy = False
        self.max_tx_skb_budget = 32
        self.is_shown_at_once = is_shown_at_once
        self.is_completing = True
        self.refusal = 0  # what each wakeup says without doing anything
        self.dropped = set()  # frames whose packets do not get out
        self.most_held = None  # EAGAIN while so many are not completed: the socket's sndbuf
        self.sent = []  # frames, in the order of sending
        self.num_wakeups = 0
        self._cached = self._fetched = self.START  # taken; known to be there
        self._held = []
        self.set_need_wakeup(True)

    def set_need_wakeup(self, is_needed):
        self._tx.words[FLAGS] = NEED_WAKEUP if is_needed else 0

    def wakeup_tx(self):
        self.num_wakeups += 1
        error = self.refusal or self._send()
        if self.is_shown_at_once:
            self._show()
        return error

    def _show(self):
        self._tx.words[CONSUMER] = self._cached & U32

    def _send(self):
        budget = self.max_tx_skb_budget
        while True:
            if self._cached == self._fetched:
                self._show()
                waiting = (int(self._tx.words[PRODUCER]) - self._cached) & U32
                self._fetched = self._cached + waiting
                if not waiting:
                    return 0
            if not budget or len(self._held) == self.most_held:
                return errno.EAGAIN
            budget -= 1
            addr = self._tx.addr(self._cached)
            self._cached += 1
            is_dropped = self.is_dropped(addr)
            self.complete(addr)
            if is_dropped:
                return errno.EBUSY
            self.sent.append(addr // 2048)

    def is_dropped(self, addr):
        """Whether the packet there does not get out."""
        return addr // 2048 in self.dropped

    def complete(self, addr):
        """The packet there is sent: stamp it if it asks, and say that it is done."""
        if not self.is_completing:
            self._held.append(addr)
            return
        self.stamp(addr)
        self.post(addr)

    def stamp(self, addr):
        """Whatever desc.options say: some kernels look at the flags alone (Linux v6.12)."""
        metadata = addr - self.umem.tx_metadata_len
        if self.umem.tx_metadata_len and self.umem.view[metadata] & txmd.TIMESTAMP:
            now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
            self.umem.view[metadata + 8 : metadata + 16] = now_ns.to_bytes(8, "little")

    def post(self, addr):
        """Put an address into the completion ring."""
        produced = int(self._comp.words[PRODUCER])
        self._comp.entries[produced % self._comp.size] = addr
        self._comp.words[PRODUCER] = (produced + 1) & U32

    def release(self):
        """Let go of what is held, and of all that comes."""
        self.is_completing = True
        held, self._held = self._held, []
        for addr in held:
            self.complete(addr)
