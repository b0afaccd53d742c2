# SPDX-License-Identifier: GPL-2.0-only
"""System calls that Python's own modules cannot make."""

from __future__ import annotations

import ctypes
import mmap
import os

from xdptstamp.errors import SystemCallError

_libc = ctypes.CDLL(None, use_errno=True)

_libc.bind.restype = ctypes.c_int
_libc.bind.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
_libc.setsockopt.restype = ctypes.c_int
_libc.setsockopt.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint32,
)
_libc.getsockopt.restype = ctypes.c_int
_libc.getsockopt.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint32),
)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.restype = ctypes.c_int
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mlockall.restype = ctypes.c_int
_libc.mlockall.argtypes = (ctypes.c_int,)
_libc.munlockall.restype = ctypes.c_int
_libc.munlockall.argtypes = ()

_MAP_FAILED = ctypes.c_void_p(-1).value
_MAP_POPULATE = 0x8000
_MCL_CURRENT, _MCL_FUTURE = 1, 2


def check(result: int, call: str, subject: str, advice: str = "") -> None:
    """Raise what errno says if ``result`` is -1.

    :raises SystemCallError: With ``call``, ``subject`` and ``advice``.
    """
    if result == -1:
        raise SystemCallError(ctypes.get_errno(), call, subject, advice)


def bind(fd: int, address: ctypes.Structure, subject: str) -> None:
    """bind(2) with any address family (Python's refuses AF_XDP)."""
    size = ctypes.sizeof(address)
    check(_libc.bind(fd, ctypes.byref(address), size), "bind", subject)


def setsockopt(
    fd: int, level: int, name: int, value: ctypes.Structure | ctypes.c_uint32, subject: str
) -> None:
    """setsockopt(2) with a struct."""
    size = ctypes.sizeof(value)
    check(_libc.setsockopt(fd, level, name, ctypes.byref(value), size), "setsockopt", subject)


def getsockopt(
    fd: int, level: int, name: int, value: ctypes.Structure | ctypes.c_uint32, subject: str
) -> None:
    """getsockopt(2) into a struct. An older kernel fills less of it and leaves the rest."""
    size = ctypes.c_uint32(ctypes.sizeof(value))
    result = _libc.getsockopt(fd, level, name, ctypes.byref(value), ctypes.byref(size))
    check(result, "getsockopt", subject)


def map_ring(fd: int, length: int, offset: int, subject: str) -> int:
    """Map one ring of socket ``fd``; returns its address."""
    address = _libc.mmap(
        None,
        length,
        mmap.PROT_READ | mmap.PROT_WRITE,
        mmap.MAP_SHARED | _MAP_POPULATE,
        fd,
        offset,
    )
    if address is None or address == _MAP_FAILED:
        raise SystemCallError(ctypes.get_errno(), "mmap", subject)
    return int(address)


def unmap(address: int, length: int) -> None:
    """munmap(2)."""
    check(_libc.munmap(address, length), "munmap", hex(address))


def lock_memory() -> None:
    """Keep all present and future pages of this process in memory.

    :raises SystemCallError: Without CAP_IPC_LOCK or room in RLIMIT_MEMLOCK.
    """
    result = _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE)
    check(result, "mlockall", f"process {os.getpid()}", "Give it CAP_IPC_LOCK.")


def unlock_memory() -> None:
    """Undo :func:`lock_memory`."""
    check(_libc.munlockall(), "munlockall", f"process {os.getpid()}")


def address_of(memory: mmap.mmap) -> int:
    """Where a writable mapping starts."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def words32(address: int, count: int = 1) -> memoryview:
    """A view of ``count`` unsigned 32-bit words at ``address``; must not outlive the memory."""
    return memoryview((ctypes.c_uint32 * count).from_address(address)).cast("B").cast("I")


def words64(address: int, count: int) -> memoryview:
    """A view of ``count`` unsigned 64-bit words at ``address``; must not outlive the memory."""
    return memoryview((ctypes.c_uint64 * count).from_address(address)).cast("B").cast("Q")
