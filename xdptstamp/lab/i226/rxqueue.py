# SPDX-License-Identifier: GPL-2.0-only
"""One Rx queue: packets from the FIFO into the buffers that the driver's descriptors name."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

from xdptstamp.lab.i226 import registers as reg
from xdptstamp.lab.i226.clock import split
from xdptstamp.lab.i226.dma import DmaError, GuestMemory

_DESC_SIZE = 16
_WRITE_BACK = struct.Struct("<IIIHH")
_STAMPS = struct.Struct("<IIII")
_MAX_DESCRIPTORS = 0x10000
_DEFAULT_BUFFER = 2048


@dataclass(slots=True)
class Received:
    """A packet on its way to memory.

    :param stamps_ns: of the timer that comes first and the one that comes second in the buffer;
        None: the packet gets no stamp.
    :param status: bits of the descriptor's status beside DD, EOP and TSIP.
    """

    packet: bytes
    stamps_ns: tuple[int, int] | None
    rss_hash: int
    rss_type: int
    status: int
    vlan: int


class RxQueue:
    """The ring of one queue, as its registers describe it.

    :ivar is_enabled: RXDCTL.
    :ivar has_stamps: SRRCTL: a packet begins with its stamps.
    """

    def __init__(self, memory: GuestMemory) -> None:
        self._memory = memory
        self.fifo: deque[Received] = deque()
        self.reset()

    def reset(self) -> None:
        """Disabled and empty."""
        self.base = self.head = self.tail = 0
        self.num_descriptors = 0
        self.is_enabled = False
        self.has_stamps = False
        self.srrctl = 0
        self.num_bad = 0
        self.fifo.clear()

    def set_length(self, size: int) -> None:
        """RDLEN, in bytes."""
        self.num_descriptors = min(size // _DESC_SIZE, _MAX_DESCRIPTORS)

    def set_srrctl(self, value: int) -> None:
        """SRRCTL: the size of the buffers, and whether stamps come with packets."""
        self.srrctl = value
        self.has_stamps = bool(value & reg.SRRCTL_TIMESTAMP)
        self._buffer_size = (value & 0x7F) * 1024 or _DEFAULT_BUFFER

    def drain(self) -> int:
        """Move what fits from the FIFO to memory.

        :return: bytes of packets that left the FIFO.
        """
        num_bytes = 0
        while self.fifo and self.is_enabled and self.deliver(self.fifo[0]):
            num_bytes += len(self.fifo.popleft().packet)
        return num_bytes

    def deliver(self, received: Received) -> bool:
        """Move one packet to memory; False: there are no descriptors for it."""
        data = received.packet
        if received.stamps_ns is not None:
            first, second = (split(value) for value in received.stamps_ns)
            data = _STAMPS.pack(first[1], first[0], second[1], second[0]) + data
        size = self._buffer_size
        num_needed = -(-len(data) // size)
        ring = self.num_descriptors
        if not ring or self.head >= ring or self.tail >= ring:
            return False
        if (self.tail - self.head) % ring < num_needed:
            return False
        for start in range(0, len(data), size):
            is_last = start + size >= len(data)
            try:
                self._write(received, data[start : start + size], is_last=is_last)
            except DmaError:
                self.num_bad += 1
            self.head = (self.head + 1) % ring
        return True

    def _write(self, received: Received, part: bytes, *, is_last: bool) -> None:
        desc = self._memory.view(self.base + self.head * _DESC_SIZE, _DESC_SIZE)
        if desc.readonly:
            raise DmaError("a ring in read-only memory")
        self._memory.write(int.from_bytes(desc[:8], "little"), part)
        status = reg.RXD_STAT_DD
        if is_last:
            status |= reg.RXD_STAT_EOP | received.status
            if received.stamps_ns is not None:
                status |= reg.RXDADV_STAT_TSIP
        # In one piece: the driver looks at the length to see whether all of it is there.
        desc[:] = _WRITE_BACK.pack(
            received.rss_type, received.rss_hash, status, len(part), received.vlan
        )

    _buffer_size = _DEFAULT_BUFFER
