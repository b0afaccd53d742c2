# SPDX-License-Identifier: GPL-2.0-only
"""The vfio-user protocol, the server's side of it: messages in, a device's answers out.

As specified in QEMU's docs/interop/vfio-user.rst. A client that breaks the protocol is answered
with an error where a message can be told from the next, and else is let go.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from xdptstamp.lab.i226 import pci
from xdptstamp.lab.i226.dma import GuestMemory

_HEADER = struct.Struct("<HHIII")
_REGION = struct.Struct("<QII")
_DMA_MAP = struct.Struct("<IIQQQ")
_DMA_UNMAP = struct.Struct("<IIQQ")
_IRQ_SET = struct.Struct("<IIIII")

_IS_REPLY, _IS_ERROR, _NO_REPLY = 0x1, 0x20, 0x10
_MAX_TRANSFER = 1 << 20
_MAX_MESSAGE = _MAX_TRANSFER + 64
_MAX_FDS = 8

_VERSION, _MAP, _UNMAP = 1, 2, 3
_GET_INFO, _GET_REGION_INFO, _GET_IRQ_INFO, _SET_IRQS = 4, 5, 7, 8
_REGION_READ, _REGION_WRITE, _RESET = 9, 10, 13

_FLAG_RESET, _FLAG_PCI = 1, 2
_UNMAP_ALL = 2
_REGION_READ_WRITE = 3
_IRQ_EVENTFD, _IRQ_NORESIZE = 1, 8
_DATA_NONE, _DATA_BOOL, _DATA_EVENTFD = 1, 2, 4
_ACTION_TRIGGER = 0x20


class Device(Protocol):
    """What the protocol needs of a device."""

    memory: GuestMemory

    def read_region(self, region: int, offset: int, size: int) -> bytes:
        """Read; the range lies inside the region."""

    def write_region(self, region: int, offset: int, data: bytes) -> None:
        """Write; the range lies inside the region."""

    def set_vector(self, vector: int, fd: int | None) -> None:
        """Signal an interrupt vector by this eventfd, which is the device's from now on."""

    def trigger(self, vector: int) -> None:
        """Raise an interrupt vector, as the client asks."""

    def reset(self) -> None:
        """As after power-on."""


class HungUpError(Exception):
    """The client is gone, or broke the protocol beyond repair (then the message says how)."""


class Connection:
    """One client on a connected stream socket."""

    def __init__(self, sock: socket.socket, device: Device) -> None:
        self.sock = sock
        self._device = device
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._commands: dict[int, Callable[[memoryview], bytes]] = {
            _VERSION: self._version,
            _MAP: self._dma_map,
            _UNMAP: self._dma_unmap,
            _GET_INFO: self._get_info,
            _GET_REGION_INFO: self._get_region_info,
            _GET_IRQ_INFO: self._get_irq_info,
            _SET_IRQS: self._set_irqs,
            _REGION_READ: self._region_read,
            _REGION_WRITE: self._region_write,
            _RESET: self._reset,
        }

    def serve(self) -> None:
        """Take what has arrived and answer every whole message in it.

        :raises HungUpError: There will be no more.
        """
        data, fds, _, _ = socket.recv_fds(self.sock, 1 << 16, _MAX_FDS)
        self._fds += fds
        if not data:
            raise HungUpError("")
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _HEADER.size:
            size = int.from_bytes(buffer[4:8], "little")
            if not _HEADER.size <= size <= _MAX_MESSAGE:
                raise HungUpError(f"a message of {size} bytes")
            if len(buffer) < size:
                break
            message = bytes(buffer[:size])
            del buffer[:size]
            self._answer(message)
        if len(self._fds) > _MAX_FDS:
            raise HungUpError("file descriptors that no message needs")

    def close(self) -> None:
        """Let the client go."""
        self.sock.close()
        self._drop_fds()

    def _answer(self, message: bytes) -> None:
        number, command, _, flags, _ = _HEADER.unpack_from(message)
        if flags & _IS_REPLY:
            return  # nothing here sends commands
        handler = self._commands.get(command)
        try:
            if handler is None:
                raise OSError(errno.ENOSYS, f"command {command}")
            reply = handler(memoryview(message)[_HEADER.size :])
        except (OSError, struct.error, ValueError) as error:
            code = getattr(error, "errno", None) or errno.EINVAL
            if not flags & _NO_REPLY:
                self._send(number, command, _IS_REPLY | _IS_ERROR, code, b"")
            return
        if not flags & _NO_REPLY:
            self._send(number, command, _IS_REPLY, 0, reply)

    def _send(self, number: int, command: int, flags: int, code: int, payload: bytes) -> None:
        header = _HEADER.pack(number, command, _HEADER.size + len(payload), flags, code)
        try:
            self.sock.sendall(header + payload)
        except OSError as error:
            raise HungUpError(f"does not take an answer: {error}") from None

    def _version(self, payload: memoryview) -> bytes:
        major, _minor = struct.unpack_from("<HH", payload)
        if major != 0:
            raise OSError(errno.EPROTONOSUPPORT, f"version {major}")
        text = bytes(payload[4:]).rstrip(b"\0")
        try:
            asked = json.loads(text or b"{}")
        except RecursionError:
            raise ValueError("nested too deeply") from None
        offered = {"max_msg_fds": _MAX_FDS, "max_data_xfer_size": _MAX_TRANSFER, "pgsizes": 4096}
        proposed = asked.get("capabilities") if isinstance(asked, dict) else None
        names = proposed if isinstance(proposed, dict) else {}
        capabilities = {name: value for name, value in offered.items() if name in names}
        answer = json.dumps({"capabilities": capabilities}).encode() + b"\0"
        return struct.pack("<HH", 0, 0) + answer

    def _dma_map(self, payload: memoryview) -> bytes:
        _, flags, offset, addr, size = _DMA_MAP.unpack_from(payload)
        fd = self._fds.pop(0) if self._fds else None
        try:
            self._device.memory.map(addr, size, flags, offset, fd)
        finally:
            if fd is not None:
                os.close(fd)
        return b""

    def _dma_unmap(self, payload: memoryview) -> bytes:
        _, flags, addr, size = _DMA_UNMAP.unpack_from(payload)
        if flags & _UNMAP_ALL:
            self._device.memory.clear()
        else:
            self._device.memory.unmap(addr, size)
        return bytes(payload[: _DMA_UNMAP.size])

    @staticmethod
    def _get_info(_payload: memoryview) -> bytes:
        return struct.pack("<IIII", 16, _FLAG_RESET | _FLAG_PCI, pci.NUM_REGIONS, pci.NUM_IRQS)

    @staticmethod
    def _get_region_info(payload: memoryview) -> bytes:
        (index,) = struct.unpack_from("<I", payload, 8)
        if index >= pci.NUM_REGIONS:
            raise OSError(errno.EINVAL, f"region {index}")
        size = pci.REGION_SIZES.get(index, 0)
        return struct.pack("<IIIIQQ", 32, _REGION_READ_WRITE if size else 0, index, 0, size, 0)

    @staticmethod
    def _get_irq_info(payload: memoryview) -> bytes:
        (index,) = struct.unpack_from("<I", payload, 8)
        if index >= pci.NUM_IRQS:
            raise OSError(errno.EINVAL, f"interrupt type {index}")
        count = pci.NUM_VECTORS if index == pci.MSIX_IRQ else 0
        return struct.pack("<IIII", 16, _IRQ_EVENTFD | _IRQ_NORESIZE, index, count)

    def _set_irqs(self, payload: memoryview) -> bytes:
        _, flags, index, start, count = _IRQ_SET.unpack_from(payload)
        data = payload[_IRQ_SET.size :]
        fds, self._fds = self._fds, []
        try:
            self._change_irqs(flags, index, range(start, start + count), (data, fds))
        finally:
            for fd in fds:
                os.close(fd)
        return b""

    def _change_irqs(
        self, flags: int, index: int, vectors: range, data: tuple[memoryview, list[int]]
    ) -> None:
        bools, fds = data
        if index != pci.MSIX_IRQ:
            # The other types have no interrupts: there is nothing to switch off.
            if vectors or not flags & _DATA_NONE:
                raise OSError(errno.EINVAL, f"interrupt type {index}")
            return
        if vectors.stop > pci.NUM_VECTORS or not flags & _ACTION_TRIGGER:
            raise OSError(errno.EINVAL, "no such vectors, or not to be masked")
        if not vectors and flags & _DATA_NONE:
            for vector in range(pci.NUM_VECTORS):
                self._device.set_vector(vector, None)
        elif flags & _DATA_EVENTFD:
            for vector in vectors:
                self._device.set_vector(vector, fds.pop(0) if fds else None)
        else:
            for position, vector in enumerate(vectors):
                if flags & _DATA_NONE or (position < len(bools) and bools[position]):
                    self._device.trigger(vector)

    def _region_read(self, payload: memoryview) -> bytes:
        offset, region, count = _REGION.unpack_from(payload)
        self._check_range(offset, region, count)
        data = self._device.read_region(region, offset, count)
        return bytes(payload[: _REGION.size]) + data

    def _region_write(self, payload: memoryview) -> bytes:
        offset, region, count = _REGION.unpack_from(payload)
        data = bytes(payload[_REGION.size : _REGION.size + count])
        self._check_range(offset, region, count)
        if len(data) != count:
            raise OSError(errno.EINVAL, "less data than announced")
        self._device.write_region(region, offset, data)
        return bytes(payload[: _REGION.size])

    @staticmethod
    def _check_range(offset: int, region: int, count: int) -> None:
        if count > _MAX_TRANSFER or offset + count > pci.REGION_SIZES.get(region, 0):
            raise OSError(errno.EINVAL, f"outside of region {region}")

    def _reset(self, _payload: memoryview) -> bytes:
        self._device.reset()
        return b""

    def _drop_fds(self) -> None:
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fds.clear()
