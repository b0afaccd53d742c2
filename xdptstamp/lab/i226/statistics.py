# SPDX-License-Identifier: GPL-2.0-only
"""The statistics registers: count up, clear on read, stop at their greatest value."""

from __future__ import annotations

from bisect import bisect_left

from xdptstamp.lab.i226 import registers as reg

_MAX_COUNT = 0xFFFFFFFF
_NUM_REGISTERS = (reg.STATISTICS_LAST - reg.STATISTICS_FIRST) // 4 + 1
# Octets are counted in 64 bits, in pairs of registers.
_PAIRS = (reg.GORCL, reg.GOTCL, reg.TORL, reg.TOTL)
# Six registers by size, FCS included: the greatest size of each but the last; which one it is.
_SIZE_LIMITS = (64, 127, 255, 511, 1023)
_MAX_SIZE = 16 * 1024
_SIZE_CLASS = bytes(bisect_left(_SIZE_LIMITS, size) for size in range(_MAX_SIZE + 1))


class Statistics:
    """Counters of one port, by their register's offset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """All 0."""
        self._counts = [0] * _NUM_REGISTERS

    def add(self, register: int, amount: int = 1) -> None:
        """Count."""
        self._counts[(register - reg.STATISTICS_FIRST) >> 2] += amount

    def read(self, register: int) -> int:
        """The count since the last reading."""
        index = (register - reg.STATISTICS_FIRST) >> 2
        value = self._counts[index]
        if register in _PAIRS:
            self._counts[index] = 0
            self._counts[index + 1] = value >> 32
            return value & _MAX_COUNT
        self._counts[index] = 0
        return min(value, _MAX_COUNT)

    def count_sent(self, packet: bytes) -> None:
        """A packet went out; ``packet`` is without FCS."""
        size = len(packet) + 4
        counts = self._counts
        counts[_GPTC] += 1
        counts[_TPT] += 1
        counts[_GOTCL] += size
        counts[_TOTL] += size
        counts[_PTC64 + _SIZE_CLASS[size]] += 1
        if packet[0] & 1:
            counts[_BPTC if packet[:6] == b"\xff" * 6 else _MPTC] += 1

    def count_received(self, packet: bytes) -> None:
        """A good packet came in for this port; ``packet`` is without FCS."""
        size = len(packet) + 4
        counts = self._counts
        counts[_GPRC] += 1
        counts[_TPR] += 1
        counts[_GORCL] += size
        counts[_TORL] += size
        counts[_PRC64 + _SIZE_CLASS[size]] += 1
        if packet[0] & 1:
            counts[_BPRC if packet[:6] == b"\xff" * 6 else _MPRC] += 1


def _index(register: int) -> int:
    return (register - reg.STATISTICS_FIRST) >> 2


_GPTC, _TPT, _GOTCL, _TOTL = (_index(r) for r in (reg.GPTC, reg.TPT, reg.GOTCL, reg.TOTL))
_GPRC, _TPR, _GORCL, _TORL = (_index(r) for r in (reg.GPRC, reg.TPR, reg.GORCL, reg.TORL))
_PTC64, _PRC64, _BPTC, _MPTC, _BPRC, _MPRC = (
    _index(r) for r in (reg.PTC64, reg.PRC64, reg.BPTC, reg.MPTC, reg.BPRC, reg.MPRC)
)
