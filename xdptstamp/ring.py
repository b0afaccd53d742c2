# SPDX-License-Identifier: GPL-2.0-only
"""The four rings between an application and the kernel, in the verbs of af_xdp.rst.

We produce into ``tx`` and ``fill`` (reserve, submit), and consume from ``rx`` and ``comp`` (peek,
release). Positions are 32-bit and wrap; ``position & mask`` is the entry. A batch costs one call
of each verb, whatever its size.

The index words are read and written directly on x86, where stores are seen in program order and
loads are not reordered with loads; elsewhere libxdp's exported helpers carry the barriers.
"""

from __future__ import annotations

import platform
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xdptstamp._sys import libc
from xdptstamp._sys.if_xdp import XDP_RING_NEED_WAKEUP
from xdptstamp._sys.libxdp import RingCalls, xsk_ring

_U32 = 0xFFFFFFFF
_X86 = ("x86_64", "i686", "i386")

DESC_DTYPE = np.dtype([("addr", "<u8"), ("len", "<u4"), ("options", "<u4")])


class _Indices(Protocol):
    # How positions are taken from and given to the kernel.
    def advance(self, count: int) -> tuple[int, int]: ...
    def publish(self, count: int) -> None: ...


class _ProducerIndices(_Indices, Protocol):
    def catch_up(self) -> None: ...


class _DirectProducer:
    # Reserve and submit by plain loads and stores.
    def __init__(self, producer: memoryview, consumer: memoryview, size: int) -> None:
        self._producer = producer
        self._consumer = consumer
        self._size = size
        self._reserved = self._submitted = producer[0]
        self._consumed = consumer[0]

    def advance(self, count: int) -> tuple[int, int]:
        start = self._reserved
        free = self._size - ((start - self._consumed) & _U32)
        if free < count:
            self._consumed = self._consumer[0]
            free = self._size - ((start - self._consumed) & _U32)
            if free < count:  # noqa: PLR1730 - min() costs three times as much
                count = free
        self._reserved = (start + count) & _U32
        return start, count

    def publish(self, count: int) -> None:
        self._submitted = (self._submitted + count) & _U32
        self._producer[0] = self._submitted

    def catch_up(self) -> None:
        self._reserved = self._submitted = self._producer[0]


class _DirectConsumer:
    # Peek and release by plain loads and stores.
    def __init__(self, producer: memoryview, consumer: memoryview) -> None:
        self._producer = producer
        self._consumer = consumer
        self._peeked = self._released = consumer[0]

    def advance(self, count: int) -> tuple[int, int]:
        start = self._peeked
        available = (self._producer[0] - start) & _U32
        if available < count:  # noqa: PLR1730 - min() costs three times as much
            count = available
        self._peeked = (start + count) & _U32
        return start, count

    def publish(self, count: int) -> None:
        self._released = (self._released + count) & _U32
        self._consumer[0] = self._released


class Ring:
    """What all four rings share: a size, entries, and two positions.

    ``words`` are the entries as unsigned 64-bit words: one an entry in ``fill`` and ``comp``
    (the addr), two in ``rx`` and ``tx`` (the addr; then len, with options in the upper half).
    ``producer[0]``, ``consumer[0]`` and ``flags[0]`` are what both sides tell each other.
    Views into a ring must not be used after its socket is closed.
    """

    _words_per_entry = 1

    def __init__(self, raw: xsk_ring) -> None:
        self.size = int(raw.size)
        self.mask = int(raw.mask)
        self.words = libc.words64(raw.ring, self.size * self._words_per_entry)
        self.flags = libc.words32(raw.flags)
        self.consumer = libc.words32(raw.consumer)
        self.producer = libc.words32(raw.producer)

    def needs_wakeup(self) -> bool:
        """Whether the kernel asks for a system call to go on (XDP_USE_NEED_WAKEUP)."""
        return bool(self.flags[0] & XDP_RING_NEED_WAKEUP)

    def is_empty(self) -> bool:
        """Whether everything produced is consumed, also by us: a look that costs little."""
        return bool(self.producer[0] == self.consumer[0])

    def num_waiting(self) -> int:
        """Entries produced and not yet consumed."""
        waiting: int = (self.producer[0] - self.consumer[0]) & _U32
        return waiting

    @property
    def consumer_position(self) -> int:
        """How far the consuming side is."""
        position: int = self.consumer[0]
        return position

    def entries(self, start: int, count: int) -> npt.NDArray[np.intp]:
        """The indices of ``count`` entries from position ``start``, wrapped.

        :return: array of shape (count,), to index :attr:`addrs` or :attr:`descs`.
        """
        return (np.arange(start, start + count) & self.mask).astype(np.intp)


class ProducerRing(Ring):
    """A ring we fill: reserve entries, write them, submit them.

    ``reserve(count)`` takes up to ``count`` free entries and returns the first position and how
    many; ``submit(count)`` shows the kernel that many reserved and written entries. Who writes
    :attr:`producer` instead, after an entry, calls ``catch_up()`` before the next ``reserve``.
    """

    def __init__(self, raw: xsk_ring, indices: _ProducerIndices) -> None:
        super().__init__(raw)
        # Bound here: one call less for each batch.
        self.reserve = indices.advance
        self.submit = indices.publish
        self.catch_up = indices.catch_up


class ConsumerRing(Ring):
    """A ring the kernel fills: peek at entries, read them, release them.

    ``peek(count)`` looks at up to ``count`` entries and returns the first position and how many;
    ``release(count)`` gives that many peeked entries back to the kernel.
    """

    def __init__(self, raw: xsk_ring, indices: _Indices) -> None:
        super().__init__(raw)
        self.peek = indices.advance
        self.release = indices.publish


class _AddrEntries(Ring):
    # Entries that are an addr each.
    @property
    def addrs(self) -> npt.NDArray[np.uint64]:
        """The entries as an array of shape (size,)."""
        return np.frombuffer(self.words, dtype="<u8")


class _DescEntries(Ring):
    # Entries that are a struct xdp_desc each.
    _words_per_entry = 2

    @property
    def descs(self) -> npt.NDArray[np.void]:
        """The entries as an array of shape (size,) of addr, len, options."""
        return np.frombuffer(self.words, dtype=DESC_DTYPE)


class FillRing(ProducerRing, _AddrEntries):
    """Frames given to the kernel to receive into."""


class TxRing(ProducerRing, _DescEntries):
    """Packets given to the kernel to send."""


class RxRing(ConsumerRing, _DescEntries):
    """Packets received."""


class CompRing(ConsumerRing, _AddrEntries):
    """Packets the kernel is done sending; each entry is the addr that was submitted."""


def uses_direct_access() -> bool:
    """Whether this machine's memory model allows plain access to the indices."""
    return platform.machine() in _X86


def producer_indices(raw: xsk_ring, *, is_direct: bool) -> _ProducerIndices:
    """The indices of a ring we fill, accessed directly or through libxdp."""
    if is_direct:
        return _DirectProducer(libc.words32(raw.producer), libc.words32(raw.consumer), raw.size)
    return RingCalls(raw, is_producer=True)


def consumer_indices(raw: xsk_ring, *, is_direct: bool) -> _Indices:
    """The indices of a ring the kernel fills, accessed directly or through libxdp."""
    if is_direct:
        return _DirectConsumer(libc.words32(raw.producer), libc.words32(raw.consumer))
    return RingCalls(raw, is_producer=False)
