# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts: causes, masks and the five MSI-X vectors they end in."""

from __future__ import annotations

import contextlib
import os

from xdptstamp.lab.i226 import registers as reg
from xdptstamp.lab.i226.faults import Faults
from xdptstamp.lab.i226.pci import NUM_VECTORS

_VECTORS_MASK = (1 << NUM_VECTORS) - 1
_VECTOR_MASK = 0x1F
_ONE_EVENT = (1).to_bytes(8, "little")


class Interrupts:
    """The interrupt registers of one port."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._fds: list[int | None] = [None] * NUM_VECTORS
        self.reset()

    def reset(self) -> None:
        """All masked, nothing pending."""
        self.icr = self.ims = 0
        self.eicr = self.eims = self.eiac = self.eiam = 0
        self.gpie = 0
        self.ivar = [0, 0]
        self.ivar_misc = 0

    def set_vector(self, vector: int, fd: int | None) -> None:
        """Signal ``vector`` by this eventfd, which is ours from now on."""
        old, self._fds[vector] = self._fds[vector], fd
        if fd is not None:
            os.set_blocking(fd, False)
        if old is not None:
            os.close(old)

    def signal(self, vector: int) -> None:
        """Write to the vector's eventfd."""
        fd = self._fds[vector]
        if fd is None:
            return
        # Full: it is signalled as it is. Gone, or no eventfd: the client's loss.
        with contextlib.suppress(OSError):
            os.write(fd, _ONE_EVENT)

    def raise_rx(self, queue: int) -> None:
        """A queue received packets."""
        self._raise_entry(self.ivar[queue >> 1] >> ((queue & 1) << 4))

    def raise_tx(self, queue: int) -> None:
        """A queue wrote descriptors back."""
        self._raise_entry(self.ivar[queue >> 1] >> (((queue & 1) << 4) + 8))

    def raise_other(self, cause: int) -> None:
        """A bit of ICR: link, time sync."""
        self.icr |= cause
        if self.icr & self.ims:
            self.icr |= reg.ICR_INT_ASSERTED
            self._raise_entry(self.ivar_misc >> 8)

    def read_icr(self) -> int:
        """ICR clears on read (GPIE.NSICR)."""
        value, self.icr = self.icr, 0
        return value

    def write_ims(self, value: int) -> None:
        """Unmask causes; what is pending is raised."""
        self.ims |= value
        if self.icr & value:
            self.raise_other(0)

    def set_causes(self, bits: int) -> None:
        """EICS: software raises vectors."""
        self.eicr |= bits & _VECTORS_MASK
        self._deliver(bits)

    def unmask(self, bits: int) -> None:
        """EIMS: enable vectors; what is pending is raised."""
        self.eims |= bits & _VECTORS_MASK
        self._deliver(bits)

    def _raise_entry(self, entry: int) -> None:
        if entry & reg.IVAR_VALID:
            bit = 1 << (entry & _VECTOR_MASK)
            self.eicr |= bit & _VECTORS_MASK
            self._deliver(bit)

    def _deliver(self, bits: int) -> None:
        ready = bits & self.eicr & self.eims
        for vector in range(NUM_VECTORS):
            bit = 1 << vector
            if ready & bit:
                if self.eiac & bit:
                    self.eicr &= ~bit
                # Before it masks itself: behind that nothing but its handler would unmask it.
                if self._faults.loses_interrupt(vector):
                    continue
                if self.gpie & reg.GPIE_EIAME and self.eiam & bit:
                    self.eims &= ~bit
                self.signal(vector)
