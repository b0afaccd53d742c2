# SPDX-License-Identifier: GPL-2.0-only
"""libxdp: ring helpers (symbols since 1.2), UMEM with options (1.5), the dispatcher.

Sources: xdp-tools lib/libxdp/libxdp.map, headers/xdp/xsk.h, headers/xdp/libxdp.h.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os

from xdptstamp._sys import if_xdp, libc
from xdptstamp.errors import SystemCallError, UnsupportedError

LIBXDP_FLAGS_INHIBIT_PROG_LOAD = 1


class xsk_ring(ctypes.Structure):
    # struct xsk_ring_prod and struct xsk_ring_cons have the same layout.
    _fields_ = (
        ("cached_prod", ctypes.c_uint32),
        ("cached_cons", ctypes.c_uint32),
        ("mask", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("producer", ctypes.c_void_p),
        ("consumer", ctypes.c_void_p),
        ("ring", ctypes.c_void_p),
        ("flags", ctypes.c_void_p),
    )


class xsk_umem_opts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("fd", ctypes.c_int),
        ("size", ctypes.c_uint64),
        ("fill_size", ctypes.c_uint32),
        ("comp_size", ctypes.c_uint32),
        ("frame_size", ctypes.c_uint32),
        ("frame_headroom", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("tx_metadata_len", ctypes.c_uint32),
    )


class xsk_socket_opts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("rx", ctypes.POINTER(xsk_ring)),
        ("tx", ctypes.POINTER(xsk_ring)),
        ("fill", ctypes.POINTER(xsk_ring)),
        ("comp", ctypes.POINTER(xsk_ring)),
        ("rx_size", ctypes.c_uint32),
        ("tx_size", ctypes.c_uint32),
        ("libxdp_flags", ctypes.c_uint32),
        ("xdp_flags", ctypes.c_uint32),
        ("bind_flags", ctypes.c_uint16),
    )


_RING = ctypes.POINTER(xsk_ring)
_U32 = ctypes.c_uint32
_U32_OUT = ctypes.POINTER(ctypes.c_uint32)

# name: (restype, argtypes)
_SIGNATURES = {
    "xsk_prod_nb_free": (_U32, (_RING, _U32)),
    "xsk_ring_prod__reserve": (_U32, (_RING, _U32, _U32_OUT)),
    "xsk_ring_prod__submit": (None, (_RING, _U32)),
    "xsk_ring_cons__peek": (_U32, (_RING, _U32, _U32_OUT)),
    "xsk_ring_cons__release": (None, (_RING, _U32)),
}
_SIGNATURES_1_5 = {
    "xsk_umem__create_opts": (
        ctypes.c_void_p,
        (ctypes.c_void_p, _RING, _RING, ctypes.POINTER(xsk_umem_opts)),
    ),
    "xsk_umem__delete": (ctypes.c_int, (ctypes.c_void_p,)),
    "xsk_umem__fd": (ctypes.c_int, (ctypes.c_void_p,)),
    "xsk_socket__create_opts": (
        ctypes.c_void_p,
        (ctypes.c_char_p, _U32, ctypes.c_void_p, ctypes.POINTER(xsk_socket_opts)),
    ),
    "xsk_socket__delete": (None, (ctypes.c_void_p,)),
    "xsk_socket__fd": (ctypes.c_int, (ctypes.c_void_p,)),
}

# A tx_metadata_len that every kernel refuses: not a multiple of 8.
_REFUSED_LEN = 20


@functools.cache
def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libxdp.so.1", use_errno=True)
    except OSError:
        return None
    for name, (restype, argtypes) in {**_SIGNATURES, **_SIGNATURES_1_5}.items():
        function = getattr(library, name, None)
        if function is not None:
            function.restype = restype
            function.argtypes = argtypes
    return library


def library() -> ctypes.CDLL:
    """The loaded libxdp with its signatures set.

    :raises UnsupportedError: If it is not installed.
    """
    loaded = _load()
    if loaded is None:
        raise UnsupportedError("libxdp", "libxdp.so.1 (Debian: apt install libxdp1)", "none")
    return loaded


@functools.cache
def version() -> tuple[int, ...] | None:
    """The version in the loaded file's name (the library has no call for it), None if unknown."""
    if _load() is None:
        return None
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.split(maxsplit=5)[5].strip() for line in maps if "/libxdp.so" in line}
    for path in paths:
        digits = os.path.realpath(path).rpartition(".so.")[2].split(".")
        if len(digits) > 1 and all(part.isdigit() for part in digits):
            return tuple(int(part) for part in digits)
    return None


def version_text() -> str:
    """The version for people: "1.3.1", "unknown" or "none"."""
    if _load() is None:
        return "none"
    return ".".join(map(str, version() or ())) or "unknown"


def exports_umem_options() -> bool:
    """Whether this libxdp has the call that takes a ``tx_metadata_len`` (since 1.5.0)."""
    return hasattr(_load(), "xsk_umem__create_opts")


@functools.cache
def has_umem_options() -> bool:
    """Whether this libxdp can register a UMEM with ``tx_metadata_len``. Needs CAP_NET_RAW."""
    loaded = _load()
    return loaded is not None and exports_umem_options() and _passes_metadata_len(loaded)


def _passes_metadata_len(loaded: ctypes.CDLL) -> bool:
    # 1.5.0 and 1.5.1 pass 28 bytes to XDP_UMEM_REG, which the kernel reads as the struct without
    # tx_metadata_len (xdp-tools pull request 477). The files of 1.5.0 to 1.5.4 have one name, so
    # only trying tells: a wrong length that the kernel accepts has never reached it.
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    fill, comp = xsk_ring(), xsk_ring()
    options = xsk_umem_opts(
        sz=ctypes.sizeof(xsk_umem_opts),
        size=len(memory),
        fill_size=64,
        comp_size=64,
        frame_size=2048,
        flags=if_xdp.XDP_UMEM_TX_METADATA_LEN,
        tx_metadata_len=_REFUSED_LEN,
    )
    umem = loaded.xsk_umem__create_opts(
        libc.address_of(memory), ctypes.byref(fill), ctypes.byref(comp), ctypes.byref(options)
    )
    if umem:
        loaded.xsk_umem__delete(umem)
    return not umem


def require_umem_options() -> ctypes.CDLL:
    """libxdp, if it can register a UMEM with ``tx_metadata_len``.

    :raises UnsupportedError: If it cannot.
    """
    if not has_umem_options():
        feature = "a UMEM with Tx metadata through libxdp"
        raise UnsupportedError(feature, "libxdp >= 1.5.2", f"libxdp {version_text()}")
    return library()


def check_pointer(pointer: int | None, call: str, subject: str) -> int:
    """The pointer a libxdp constructor returned; it leaves errno set when that is NULL."""
    if not pointer:
        raise SystemCallError(ctypes.get_errno(), call, subject)
    return pointer


class RingCalls:
    """Positions of one ring through libxdp's helpers, which carry the barriers of every CPU."""

    def __init__(self, ring: xsk_ring, *, is_producer: bool) -> None:
        calls = library()
        self._ring = ctypes.pointer(ring)
        self._position = ctypes.c_uint32()
        self._out = ctypes.pointer(self._position)
        self._num_free = calls.xsk_prod_nb_free if is_producer else None
        self._advance = calls.xsk_ring_prod__reserve if is_producer else calls.xsk_ring_cons__peek
        self._publish = calls.xsk_ring_prod__submit if is_producer else calls.xsk_ring_cons__release

    def advance(self, count: int) -> tuple[int, int]:
        """Reserve or peek up to ``count`` entries."""
        if self._num_free is not None:
            # libxdp reserves all or nothing.
            count = min(count, self._num_free(self._ring, count))
        if count:
            count = self._advance(self._ring, count, self._out)
        return self._position.value, count

    def publish(self, count: int) -> None:
        """Submit or release ``count`` entries."""
        self._publish(self._ring, count)

    def catch_up(self) -> None:
        """Go on from the producer position that somebody else wrote."""
        ring = self._ring.contents
        ring.cached_prod = ctypes.c_uint32.from_address(ring.producer).value
        # As libxdp has it: a producer's cached consumer runs one ring ahead.
        ring.cached_cons = ctypes.c_uint32.from_address(ring.consumer).value + ring.size
