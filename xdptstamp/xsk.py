# SPDX-License-Identifier: GPL-2.0-only
"""One AF_XDP socket on one queue of one interface, with its four rings.

Example (as root, on a veth)::

    umem = Umem()
    with Xsk(umem, "eth1", 0) as xsk:
        ...
"""

from __future__ import annotations

import errno
import os
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from xdptstamp import ring
from xdptstamp._sys import if_xdp
from xdptstamp._sys import xsk as sys_xsk
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.umem import Umem

Mode = Literal["copy", "zero-copy"]
Registration = Literal["kernel", "libxdp"]

_BIND_FLAGS = {"copy": if_xdp.XDP_COPY, "zero-copy": if_xdp.XDP_ZEROCOPY}
_OPENERS = {"kernel": sys_xsk.open_kernel, "libxdp": sys_xsk.open_libxdp}

# The kernel frees a closed socket's queue from a work item; a bind right after meets EBUSY.
_BIND_RETRY_S = 2.0
_BIND_RETRY_STEP_S = 0.01
_COMPLETION_STEP_S = 50e-6

_DONTWAIT = int(socket.MSG_DONTWAIT)  # a plain number: looked up for each packet


@dataclass(frozen=True, slots=True)
class XskConfig:
    """How to open a socket. Sizes are entries, powers of two.

    :param mode: "copy" or "zero-copy"; what was obtained is :attr:`Xsk.is_zero_copy`.
    :param registration: who registers the UMEM: the kernel's calls, or libxdp >= 1.5.2.
    :param fill_size: None: twice as many as the UMEM has frames, so that each can always be given
        back: what the kernel has taken it shows after it handed on the packets (xsk_flush(),
        net/xdp/xsk.c), and a busy machine may be long in between.
    :param comp_size: None: as many as ``tx_size``.
    :param is_multi_buffer: a packet may lie in several frames (XDP_PKT_CONTD).
    :param umem_flags: those of the UMEM's registration; None: as its Tx metadata needs.
    :param max_tx_skb_budget: packets one wakeup may send in copy mode; None: the kernel's 32.
        Kernels before v6.17 have no such setting and keep 32.
    """

    mode: Mode = "copy"
    registration: Registration = "kernel"
    rx_size: int = 2048
    tx_size: int = 2048
    fill_size: int | None = None
    comp_size: int | None = None
    is_need_wakeup: bool = True
    is_multi_buffer: bool = False
    umem_flags: int | None = None
    max_tx_skb_budget: int | None = None


class Xsk:
    """A bound AF_XDP socket: :attr:`rx`, :attr:`tx`, :attr:`fill`, :attr:`comp`.

    :param umem: memory of the frames.
    :param ifname: the interface, in the current network namespace.
    :param queue_id: the queue to bind to.
    :param config: mode and sizes.
    :param rx_frames: frames of the UMEM that ``fill`` holds from before the bind on, when drivers
        look for them first: to receive anything, also the stack's own packets in zero-copy mode.
    :raises SetupError: No such interface.
    :raises SystemCallError: The kernel refuses; the message says what to do.
    :raises UnsupportedError: The kernel, or libxdp, lacks what is needed.
    :raises ValueError: The fill ring does not hold as many as ``rx_frames``.

    Drain before :meth:`close`: some igc kernels page-fault when a socket goes while stamps are
    pending (fixed by Linux commit 45b33e805bd3).
    """

    def __init__(
        self,
        umem: Umem,
        ifname: str,
        queue_id: int = 0,
        config: XskConfig | None = None,
        *,
        rx_frames: range = range(0),
    ) -> None:
        self.umem = umem
        self.ifname = ifname
        self.queue_id = queue_id
        self.config = config or XskConfig()
        self._subject = f"{ifname} queue {queue_id}, {self.config.mode}"
        self._raw = self._open(rx_frames)
        try:
            self._set_up()
        except BaseException:
            self._raw.close()
            raise

    def _set_up(self) -> None:
        raw, is_direct = self._raw, ring.uses_direct_access()
        self.fd = raw.fd
        self.rx = ring.RxRing(raw.rx, ring.consumer_indices(raw.rx, is_direct=is_direct))
        self.tx = ring.TxRing(raw.tx, ring.producer_indices(raw.tx, is_direct=is_direct))
        self.fill = ring.FillRing(raw.fill, ring.producer_indices(raw.fill, is_direct=is_direct))
        self.comp = ring.CompRing(raw.comp, ring.consumer_indices(raw.comp, is_direct=is_direct))
        #: What the kernel obtained, whatever was asked.
        self.is_zero_copy = sys_xsk.is_zero_copy(raw.fd, self._subject)
        self.max_tx_skb_budget = self._obtain_budget()
        self._before: dict[str, int] = {}
        # A duplicate for send and recv: closing it does not close the socket.
        self._socket = socket.socket(if_xdp.AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(raw.fd))
        self._send = self._socket.send

    def _open(self, rx_frames: range) -> sys_xsk.RawXsk:
        try:
            ifindex = socket.if_nametoindex(self.ifname)
        except OSError as error:
            raise SetupError(self.ifname, "no such interface") from error
        flags = _BIND_FLAGS[self.config.mode]
        if self.config.is_need_wakeup:
            flags |= if_xdp.XDP_USE_NEED_WAKEUP
        if self.config.is_multi_buffer:
            flags |= if_xdp.XDP_USE_SG
        fill_size = self.config.fill_size or 2 * self.umem.num_frames
        if len(rx_frames) > fill_size:
            raise ValueError(f"{len(rx_frames)} rx_frames in a fill ring of {fill_size}")
        request = sys_xsk.XskRequest(
            subject=self._subject,
            umem_address=self.umem.address,
            umem_size=self.umem.size,
            frame_size=self.umem.frame_size,
            umem_flags=self._umem_flags(),
            tx_metadata_len=self.umem.tx_metadata_len,
            ifname=self.ifname,
            ifindex=ifindex,
            queue_id=self.queue_id,
            bind_flags=flags,
            rx_size=self.config.rx_size,
            tx_size=self.config.tx_size,
            fill_size=fill_size,
            comp_size=self.config.comp_size or self.config.tx_size,
            fill_addrs=[frame * self.umem.frame_size for frame in rx_frames],
        )
        return _open_with_retry(request, self.config.registration)

    def _umem_flags(self) -> int:
        if self.config.umem_flags is not None:
            return self.config.umem_flags
        return if_xdp.XDP_UMEM_TX_METADATA_LEN if self.umem.tx_metadata_len else 0

    def _obtain_budget(self) -> int:
        wanted = self.config.max_tx_skb_budget
        if wanted is not None:
            try:
                sys_xsk.set_max_tx_skb_budget(self.fd, wanted, self._subject)
            except SystemCallError as error:
                if error.errno != errno.ENOPROTOOPT:
                    raise
            else:
                return wanted
        return 32  # TX_BATCH_SIZE, net/xdp/xsk.c

    def send(self, addr: int, length: int, options: int = 0) -> None:
        """Submit one packet and wake the kernel; for a few packets, not for many.

        :param addr: where the packet starts in the UMEM.
        :param length: its bytes, without FCS.
        :param options: :data:`xdptstamp.stamp.OPTION` if its Tx metadata was written.
        :raises SystemCallError: If the kernel did not send it. EBUSY: it dropped it.
        """
        position, count = self.tx.reserve(1)
        if not count:
            raise SystemCallError(errno.ENOBUFS, "reserving a Tx entry", self._subject)
        index = (position & self.tx.mask) * 2
        self.tx.words[index] = addr
        self.tx.words[index + 1] = length | options << 32
        self.tx.submit(1)
        error = self.wakeup_tx() if self.tx.needs_wakeup() else 0
        if error and error != errno.EAGAIN:
            raise SystemCallError(error, "sending", self._subject)

    def wait_completion(self, timeout_s: float = 1.0) -> int | None:
        """The addr of the next packet that the kernel is done with.

        :return: None if none came in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            position, count = self.comp.peek(1)
            if count:
                addr: int = self.comp.words[position & self.comp.mask]
                self.comp.release(1)
                return addr
            if time.monotonic() > deadline:
                return None
            time.sleep(_COMPLETION_STEP_S)  # the kernel wakes nobody for a completion

    def wakeup_tx(self) -> int:
        """Ask the kernel to send what ``tx`` holds.

        :return: 0, or the errno. EAGAIN: more is left than one call sends (copy mode), call
            again. EBUSY: the last descriptor consumed was dropped, and is completed, and
            stamped, all the same (copy mode). ENETDOWN: nothing was consumed. ENOBUFS: no memory
            or no completion entry, call again later. ENXIO: not bound any more.
        """
        try:
            self._send(b"", _DONTWAIT)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def wakeup_rx(self) -> int:
        """Ask the kernel to look at ``fill`` again; returns 0 or the errno."""
        try:
            self._socket.recv(1, socket.MSG_DONTWAIT)  # of 0 bytes Python makes no call
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def statistics(self) -> dict[str, int]:
        """The kernel's ``XDP_STATISTICS`` of this socket, by its names."""
        counts = sys_xsk.statistics(self.fd, self._subject)
        return {name: count - self._before.get(name, 0) for name, count in counts.items()}

    def restart_statistics(self) -> None:
        """Let :meth:`statistics` count from now on."""
        self._before = sys_xsk.statistics(self.fd, self._subject)

    def close(self) -> None:
        """Unmap the rings and close. Views into the rings must not be used afterwards."""
        self._socket.close()
        self._raw.close()

    def __enter__(self) -> Xsk:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _open_with_retry(request: sys_xsk.XskRequest, registration: Registration) -> sys_xsk.RawXsk:
    # The kernel tells nobody when the queue is free again, so this asks.
    deadline = time.monotonic() + _BIND_RETRY_S
    while True:
        try:
            return _OPENERS[registration](request)
        except SystemCallError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                error.advice = error.advice or _advice(error.errno or 0, request)
                raise
        time.sleep(_BIND_RETRY_STEP_S)


def _advice(code: int, request: sys_xsk.XskRequest) -> str:
    size = request.umem_size >> 20
    memory = (
        f"The UMEM of {size} MiB passes RLIMIT_MEMLOCK (ulimit -l): raise it, use fewer --queue, "
        "or give CAP_IPC_LOCK."
    )
    mode = "The driver or its present settings do not allow this mode. Try --mode copy."
    return {
        errno.EBUSY: "The queue has an AF_XDP socket already: end its owner, or use another queue.",
        errno.EOPNOTSUPP: mode,
        errno.EPROTONOSUPPORT: mode,
        errno.ENOBUFS: memory,
        errno.ENOMEM: memory,
        errno.EPERM: "It needs CAP_NET_RAW and CAP_NET_ADMIN.",
        errno.ENETDOWN: f"Bring the interface up: ip link set {request.ifname} up.",
        errno.EINVAL: "No such queue (ethtool -l), or a kernel that cannot be asked for Tx "
        "metadata (before v6.11; v6.10.y can).",
    }.get(code, "")
