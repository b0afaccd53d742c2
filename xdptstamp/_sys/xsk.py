# SPDX-License-Identifier: GPL-2.0-only
"""The two ways to one AF_XDP socket: the kernel's own calls, and libxdp >= 1.5.2.

Both end in the same :class:`RawXsk`: a bound file descriptor and four ring structs. libxdp before
1.5.2 cannot ask for Tx metadata, and Debian 12 has 1.3.1; hence the first way.
"""

from __future__ import annotations

import array
import ctypes
import errno
import functools
import mmap
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xdptstamp._sys import if_xdp, libc, libxdp
from xdptstamp._sys.libxdp import xsk_ring
from xdptstamp.errors import SystemCallError, UnsupportedError


@dataclass(frozen=True, slots=True)
class XskRequest:
    """What to register and where to bind; sizes in entries, memory in bytes.

    :param subject: what an error message calls it ("eth1 queue 2, zero-copy").
    :param umem_flags: XDP_UMEM_TX_METADATA_LEN, without which the kernel ignores the length.
    :param tx_metadata_len: 0: a UMEM without Tx metadata.
    :param fill_addrs: what the fill ring holds before the socket is bound. Drivers take frames to
        receive into while binding; those that come later wait for a wakeup, which may be asked
        for after a look at the flag: virtio_net then receives nothing before the next poll(2).
    """

    subject: str
    umem_address: int
    umem_size: int
    frame_size: int
    umem_flags: int
    tx_metadata_len: int
    ifname: str
    ifindex: int
    queue_id: int
    bind_flags: int
    rx_size: int
    tx_size: int
    fill_size: int
    comp_size: int
    fill_addrs: Sequence[int] = ()


@dataclass(slots=True)
class RawXsk:
    """A bound socket: its descriptor, its rings, and how to undo it."""

    fd: int
    rx: xsk_ring
    tx: xsk_ring
    fill: xsk_ring
    comp: xsk_ring
    _undo: list[Callable[[], None]] = field(default_factory=list)

    def close(self) -> None:
        """Unmap the rings, then close: a mapped ring keeps the queue taken (EBUSY)."""
        while self._undo:
            self._undo.pop()()


def open_kernel(request: XskRequest) -> RawXsk:
    """Register the UMEM and bind with plain setsockopt, mmap and bind.

    :raises UnsupportedError: If the kernel has no AF_XDP, or no Tx metadata.
    :raises SystemCallError: If a call fails.
    """
    xsk = _open_socket(request.subject)
    undo: list[Callable[[], None]] = [xsk.close]
    try:
        fd = xsk.fileno()
        _register_umem(fd, request)
        rings = _map_rings(fd, request, undo)
        _fill(rings[2], request.fill_addrs)
        _bind(fd, request)
    except BaseException:
        while undo:
            undo.pop()()
        raise
    rx, tx, fill, comp = rings
    return RawXsk(fd, rx, tx, fill, comp, undo)


def accepts_tx_metadata() -> bool:
    """Whether this kernel registers a UMEM with Tx metadata: tried, on a socket of no interface.

    :raises UnsupportedError: If the kernel has no AF_XDP.
    :raises SystemCallError: If it may not be tried.
    """
    subject = "a UMEM to try"
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    reg = if_xdp.xdp_umem_reg(
        addr=libc.address_of(memory),
        len=len(memory),
        chunk_size=2048,
        flags=if_xdp.XDP_UMEM_TX_METADATA_LEN,
        tx_metadata_len=ctypes.sizeof(if_xdp.xsk_tx_metadata),
    )
    with _open_socket(subject) as xsk:
        try:
            libc.setsockopt(xsk.fileno(), if_xdp.SOL_XDP, if_xdp.XDP_UMEM_REG, reg, subject)
        except SystemCallError as error:
            if error.errno == errno.EINVAL:  # no such flag
                return False
            raise
    return True


def _open_socket(subject: str) -> socket.socket:
    try:
        return socket.socket(if_xdp.AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except OSError as error:
        raise _socket_error(error, subject) from error


def _socket_error(error: OSError, subject: str) -> UnsupportedError | SystemCallError:
    code = error.errno or 0
    if isinstance(error, PermissionError):
        return SystemCallError(code, "socket(AF_XDP)", subject, "It needs CAP_NET_RAW.")
    return UnsupportedError(
        "AF_XDP", "a kernel with CONFIG_XDP_SOCKETS", f"socket(AF_XDP): {error.strerror}"
    )


def _register_umem(fd: int, request: XskRequest) -> None:
    reg = if_xdp.xdp_umem_reg(
        addr=request.umem_address,
        len=request.umem_size,
        chunk_size=request.frame_size,
        flags=request.umem_flags,
        tx_metadata_len=request.tx_metadata_len,
    )
    libc.setsockopt(fd, if_xdp.SOL_XDP, if_xdp.XDP_UMEM_REG, reg, f"UMEM for {request.subject}")


# name, sockopt, field of xdp_mmap_offsets, mmap offset, bytes per entry
_RINGS = (
    ("rx", if_xdp.XDP_RX_RING, "rx", if_xdp.XDP_PGOFF_RX_RING, 16),
    ("tx", if_xdp.XDP_TX_RING, "tx", if_xdp.XDP_PGOFF_TX_RING, 16),
    ("fill", if_xdp.XDP_UMEM_FILL_RING, "fr", if_xdp.XDP_UMEM_PGOFF_FILL_RING, 8),
    ("comp", if_xdp.XDP_UMEM_COMPLETION_RING, "cr", if_xdp.XDP_UMEM_PGOFF_COMPLETION_RING, 8),
)
_PRODUCED_BY_US = ("tx", "fill")


def _map_rings(fd: int, request: XskRequest, undo: list[Callable[[], None]]) -> list[xsk_ring]:
    rings = []
    for name, option, _, _, _ in _RINGS:
        size = ctypes.c_uint32(getattr(request, f"{name}_size"))
        libc.setsockopt(fd, if_xdp.SOL_XDP, option, size, f"{name} ring of {request.subject}")
    offsets = if_xdp.xdp_mmap_offsets()
    libc.getsockopt(fd, if_xdp.SOL_XDP, if_xdp.XDP_MMAP_OFFSETS, offsets, request.subject)
    for name, _, offsets_field, page_offset, entry_size in _RINGS:
        size = getattr(request, f"{name}_size")
        offset: if_xdp.xdp_ring_offset = getattr(offsets, offsets_field)
        length = offset.desc + size * entry_size
        address = libc.map_ring(fd, length, page_offset, f"{name} ring of {request.subject}")
        undo.append(functools.partial(libc.unmap, address, length))
        rings.append(
            xsk_ring(
                # As libxdp has it: a producer's cached consumer runs one ring ahead.
                cached_cons=size if name in _PRODUCED_BY_US else 0,
                mask=size - 1,
                size=size,
                producer=address + offset.producer,
                consumer=address + offset.consumer,
                ring=address + offset.desc,
                flags=address + offset.flags,
            )
        )
    return rings


def _fill(fill: xsk_ring, addrs: Sequence[int]) -> None:
    # A new ring, empty; bind() itself makes these stores seen.
    libc.words64(fill.ring, len(addrs))[:] = memoryview(array.array("Q", addrs))
    fill.cached_prod = len(addrs)
    libc.words32(fill.producer)[0] = len(addrs)


def _bind(fd: int, request: XskRequest) -> None:
    address = if_xdp.sockaddr_xdp(
        sxdp_family=if_xdp.AF_XDP,
        sxdp_flags=request.bind_flags,
        sxdp_ifindex=request.ifindex,
        sxdp_queue_id=request.queue_id,
    )
    libc.bind(fd, address, request.subject)


def open_libxdp(request: XskRequest) -> RawXsk:
    """The same through ``xsk_umem__create_opts`` and ``xsk_socket__create_opts``.

    :raises UnsupportedError: If libxdp is missing or older than 1.5.2.
    :raises SystemCallError: If a call fails.
    """
    library = libxdp.require_umem_options()
    # libxdp keeps pointers to these structs as long as the socket lives; RawXsk holds them.
    rx, tx, fill, comp = xsk_ring(), xsk_ring(), xsk_ring(), xsk_ring()
    umem_options = libxdp.xsk_umem_opts(
        sz=ctypes.sizeof(libxdp.xsk_umem_opts),
        size=request.umem_size,
        fill_size=request.fill_size,
        comp_size=request.comp_size,
        frame_size=request.frame_size,
        flags=request.umem_flags,
        tx_metadata_len=request.tx_metadata_len,
    )
    ctypes.set_errno(0)
    umem = libxdp.check_pointer(
        library.xsk_umem__create_opts(
            request.umem_address, ctypes.byref(fill), ctypes.byref(comp), ctypes.byref(umem_options)
        ),
        "xsk_umem__create_opts",
        f"UMEM for {request.subject}",
    )
    undo: list[Callable[[], None]] = [lambda: _delete_umem(library, umem, request.subject)]
    try:
        _fill(fill, request.fill_addrs)
        xsk = _create_socket(library, umem, request, (rx, tx, fill, comp))
    except BaseException:
        undo.pop()()
        raise
    undo.append(lambda: library.xsk_socket__delete(xsk))
    return RawXsk(library.xsk_socket__fd(xsk), rx, tx, fill, comp, undo)


def _create_socket(
    library: ctypes.CDLL,
    umem: int,
    request: XskRequest,
    rings: tuple[xsk_ring, xsk_ring, xsk_ring, xsk_ring],
) -> int:
    rx, tx, fill, comp = (ctypes.pointer(ring) for ring in rings)
    options = libxdp.xsk_socket_opts(
        sz=ctypes.sizeof(libxdp.xsk_socket_opts),
        rx=rx,
        tx=tx,
        fill=fill,
        comp=comp,
        rx_size=request.rx_size,
        tx_size=request.tx_size,
        libxdp_flags=libxdp.LIBXDP_FLAGS_INHIBIT_PROG_LOAD,
        bind_flags=request.bind_flags,
    )
    ctypes.set_errno(0)
    return libxdp.check_pointer(
        library.xsk_socket__create_opts(
            request.ifname.encode(), request.queue_id, umem, ctypes.byref(options)
        ),
        "bind",
        request.subject,
    )


def _delete_umem(library: ctypes.CDLL, umem: int, subject: str) -> None:
    error = library.xsk_umem__delete(umem)
    if error:
        raise SystemCallError(-error, "xsk_umem__delete", subject)


def is_zero_copy(fd: int, subject: str) -> bool:
    """Whether the bound socket really is in zero-copy mode (``XDP_OPTIONS``)."""
    options = ctypes.c_uint32()
    libc.getsockopt(fd, if_xdp.SOL_XDP, if_xdp.XDP_OPTIONS, options, subject)
    return bool(options.value & if_xdp.XDP_OPTIONS_ZEROCOPY)


def statistics(fd: int, subject: str) -> dict[str, int]:
    """``XDP_STATISTICS`` of the socket, by the kernel's names."""
    values = if_xdp.xdp_statistics()
    libc.getsockopt(fd, if_xdp.SOL_XDP, if_xdp.XDP_STATISTICS, values, subject)
    return {name: int(getattr(values, name)) for name, _ in values._fields_}


def set_max_tx_skb_budget(fd: int, budget: int, subject: str) -> None:
    """Let one sendto carry up to ``budget`` packets in copy mode (kernel default 32).

    :raises SystemCallError: ENOPROTOOPT before v6.17; EACCES outside 32 to the Tx ring's size.
    """
    value = ctypes.c_uint32(budget)
    libc.setsockopt(fd, if_xdp.SOL_XDP, if_xdp.XDP_MAX_TX_SKB_BUDGET, value, subject)
