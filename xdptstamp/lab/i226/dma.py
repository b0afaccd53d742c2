# SPDX-License-Identifier: GPL-2.0-only
"""The guest's memory as the device reaches it: what the client has mapped, and nothing else."""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass

_READABLE = 1
_WRITEABLE = 2
_MAX_REGIONS = 1024


class DmaError(Exception):
    """An address range that is not wholly in one mapped region, or may not be written."""


@dataclass(slots=True)
class _Region:
    start: int
    end: int
    view: memoryview
    memory: mmap.mmap | None
    is_writeable: bool


# No range lies in it, not even an empty one.
_NOWHERE = _Region(1, 0, memoryview(b""), None, is_writeable=False)


class GuestMemory:
    """Regions of guest memory, mapped from the descriptors that the client passes."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []
        self._last = _NOWHERE

    def map(self, start: int, size: int, flags: int, offset: int, fd: int | None) -> None:
        """Make [start, start + size) reachable; without ``fd`` it is known, and not reachable.

        :raises OSError: EEXIST over another region, EINVAL for what cannot be mapped.
        """
        end = start + size
        if size <= 0 or end > 1 << 64 or len(self._regions) >= _MAX_REGIONS:
            raise OSError(errno.EINVAL, "impossible region")
        if any(start < region.end and region.start < end for region in self._regions):
            raise OSError(errno.EEXIST, "overlaps a mapped region")
        is_writeable = bool(flags & _WRITEABLE)
        memory = None
        view = memoryview(b"")
        if fd is not None and flags & _READABLE:
            # Beyond the end of the file an access would be SIGBUS.
            if offset % mmap.PAGESIZE or offset + size > os.fstat(fd).st_size:
                raise OSError(errno.EINVAL, "region lies beyond its file")
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if is_writeable else 0)
            memory = mmap.mmap(fd, size, mmap.MAP_SHARED, protection, offset=offset)
            view = memoryview(memory)
        self._regions.append(_Region(start, end, view, memory, is_writeable))

    def unmap(self, start: int, size: int) -> None:
        """Forget a region that was mapped with these very limits.

        :raises OSError: ENOENT: there is none.
        """
        for region in self._regions:
            if (region.start, region.end - region.start) == (start, size):
                self._regions.remove(region)
                self._release(region)
                return
        raise OSError(errno.ENOENT, "no such region")

    def clear(self) -> None:
        """Forget all regions."""
        for region in self._regions:
            self._release(region)
        self._regions.clear()

    def view(self, addr: int, size: int) -> memoryview:
        """The bytes at ``addr`` themselves; not to be kept beyond the current call.

        :raises DmaError: They are not all in one mapped region.
        """
        region = self._last
        if not (region.start <= addr and addr + size <= region.end):
            region = self._find(addr, size)
        offset = addr - region.start
        return region.view[offset : offset + size]

    def read(self, addr: int, size: int) -> bytes:
        """A copy of the bytes at ``addr``.

        :raises DmaError: As :meth:`view`.
        """
        return bytes(self.view(addr, size))

    def write(self, addr: int, data: bytes) -> None:
        """Write ``data``, in one piece where it is a power of two up to 16 bytes.

        :raises DmaError: As :meth:`view`, or the region is read-only.
        """
        view = self.view(addr, len(data))
        if view.readonly:
            raise DmaError(f"{addr:#x} is read-only")
        view[:] = data

    def _find(self, addr: int, size: int) -> _Region:
        for region in self._regions:
            if region.start <= addr and addr + size <= region.end:
                if region.memory is None:
                    break
                self._last = region
                return region
        raise DmaError(f"{size} bytes at {addr:#x} are not mapped")

    def _release(self, region: _Region) -> None:
        if self._last is region:
            self._last = _NOWHERE
        region.view.release()
        if region.memory is not None:
            region.memory.close()
