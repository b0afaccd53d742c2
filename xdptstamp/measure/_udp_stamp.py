# SPDX-License-Identifier: GPL-2.0-only
"""A connected UDP socket with the kernel's software timestamps, without privilege."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from xdptstamp._rtnl import route_ifindex
from xdptstamp.errors import SetupError, SystemCallError

# include/uapi/asm-generic/socket.h, linux/net_tstamp.h, linux/in.h, linux/in6.h, linux/errqueue.h
_SO_RCVBUFFORCE = 33
SO_TIMESTAMPING = 37
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_MEMINFO_DROPS = 8
_TX_SOFTWARE, _RX_SOFTWARE, _SOFTWARE = 1 << 1, 1 << 3, 1 << 4
_IP_MTU_DISCOVER, _IP_RECVERR, _IP_MTU = 10, 11, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU, _IPV6_RECVERR = 23, 24, 25
_PMTUDISC_DO = 2
_TIMESPEC = struct.Struct("@ll")
_EXTENDED_ERR = struct.Struct("=IBBBBII")
_ORIGIN_AT, _ORIGIN_TIMESTAMPING = 4, 4

#: Room for the stamps of one reply, and for those plus the error and its sender.
RX_ANCILLARY_BYTES = socket.CMSG_SPACE(3 * _TIMESPEC.size)
ERR_ANCILLARY_BYTES = RX_ANCILLARY_BYTES + socket.CMSG_SPACE(_EXTENDED_ERR.size + 28)

#: What the socket's receive buffer is asked to hold, in the kernel's accounting (which charges
#: about 800 bytes for the smallest packet): ten thousand small replies.
_RCVBUF_BYTES = 8 << 20

_WANTED_STAMPS = (
    ("rx+tx", _RX_SOFTWARE | _TX_SOFTWARE | _SOFTWARE),
    ("rx", _RX_SOFTWARE | _SOFTWARE),
)

Ancillary = list[tuple[int, int, bytes]]


@dataclass(frozen=True, slots=True)
class Remote:
    """A UDP port of the DUT, resolved."""

    host: str
    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    @property
    def address(self) -> str:
        """The numeric address."""
        return str(self.sockaddr[0])

    @property
    def port(self) -> int:
        """The UDP port."""
        return int(self.sockaddr[1])

    def __str__(self) -> str:
        name = "" if self.host == self.address else f" ({self.address})"
        return f"{self.host}{name} port {self.port}"


def resolve(host: str, port: int, family: socket.AddressFamily) -> Remote:
    """Find the address of ``host``.

    :param family: AF_UNSPEC takes the first address of either family.
    :raises SetupError: If there is none, or it is a multicast address.
    """
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a host name"
        wanted = {socket.AF_INET: " to an IPv4", socket.AF_INET6: " to an IPv6"}.get(
            family, " to an"
        )
        raise SetupError(
            host, f"cannot be resolved{wanted} address: {reason}. Check the spelling, or give one"
        ) from exc
    remote = Remote(host, found[0][0], found[0][4])
    if ipaddress.ip_address(remote.address.partition("%")[0]).is_multicast:
        raise SetupError(host, "is a multicast address; replies come from one address: give that")
    return remote


def tai_offset_ns() -> int:
    """CLOCK_TAI minus CLOCK_REALTIME of this machine: whole seconds, 0 where nobody set it."""
    difference = time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(time.CLOCK_REALTIME)
    return (difference + 500_000_000) // 1_000_000_000 * 1_000_000_000


def software_stamp(data: bytes) -> int:
    """The software stamp of an SCM_TIMESTAMPING message: ns, CLOCK_REALTIME; 0 is none."""
    seconds, nanoseconds = _TIMESPEC.unpack_from(data)
    stamp_ns: int = seconds * 1_000_000_000 + nanoseconds
    return stamp_ns


def tx_stamp(ancillary: Ancillary) -> int | None:
    """The stamp in a message of the error queue: as :func:`software_stamp`; None: no stamp.

    An ICMP error may carry a stamp too: of its own arrival. Its origin tells.
    """
    if ancillary and ancillary[-1][2][_ORIGIN_AT] == _ORIGIN_TIMESTAMPING:
        return software_stamp(ancillary[0][2])
    return None


def error_name(ancillary: Ancillary) -> str:
    """The errno name of an ICMP error in the error queue: ``ECONNREFUSED``."""
    if not ancillary:
        return "unknown"
    number = _EXTENDED_ERR.unpack_from(ancillary[-1][2])[0]
    return errno.errorcode.get(number, str(number))


def udp_counters(family: socket.AddressFamily) -> dict[str, int]:
    """``rx_overflow`` and ``rx_bad_checksum`` of all UDP sockets of this network namespace.

    :return: Empty if the kernel does not show them.
    """
    folder = Path("/proc/thread-self/net")
    try:
        if family == socket.AF_INET6:
            rows = [line.split() for line in (folder / "snmp6").read_text("ascii").splitlines()]
            values = {name.removeprefix("Udp6"): int(value) for name, value in rows}
        else:
            lines = (folder / "snmp").read_text("ascii").splitlines()
            names, numbers = (line.split()[1:] for line in lines if line.startswith("Udp: "))
            values = dict(zip(names, map(int, numbers), strict=True))
    except OSError:
        return {}  # no /proc here; the socket's own drop counter remains
    overflow = values.get("RcvbufErrors", 0) + values.get("MemErrors", 0)
    return {"rx_overflow": overflow, "rx_bad_checksum": values.get("InCsumErrors", 0)}


@dataclass(slots=True)
class StampedSocket:
    """A non-blocking UDP socket connected to one remote port.

    Being connected, it takes datagrams of that port only, and looks no route up per packet.

    :param kernel_timestamps: ``rx+tx``, ``rx`` or ``none``: what the kernel granted.
    :param rcvbuf_bytes: receive buffer obtained, as the kernel accounts for it.
    :param mtu: MTU of the route, bytes of the IP packet.
    :param ifname: interface of the route; empty: not known.
    """

    sock: socket.socket
    remote: Remote
    kernel_timestamps: str = "none"
    rcvbuf_bytes: int = 0
    is_rcvbuf_forced: bool = False
    mtu: int = 0
    ifname: str = ""
    local: tuple[str, int] = field(default=("", 0))

    def __enter__(self) -> StampedSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()

    def num_drops(self) -> int | None:
        """Datagrams the kernel dropped at this socket; None: it does not say (before 4.12)."""
        try:
            data = self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return None
        return int(_MEMINFO.unpack(data)[_MEMINFO_DROPS])


def open_socket(
    remote: Remote,
    *,
    source: str | None = None,
    interface: str | None = None,
    rcvbuf_bytes: int = _RCVBUF_BYTES,
) -> StampedSocket:
    """Open a UDP socket to ``remote``, with what timestamps the kernel grants.

    :param source: address to send from; None: the route's.
    :param interface: interface to bind to; None: any.
    :raises SetupError: If there is no way to the remote, or source or interface do not fit.
    """
    sock = socket.socket(remote.family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        _bind(sock, remote, source, interface)
        stamped = StampedSocket(sock, remote)
        _set_options(stamped, rcvbuf_bytes)
        _connect(stamped, interface)
    except BaseException:
        sock.close()
        raise
    return stamped


def _bind(sock: socket.socket, remote: Remote, source: str | None, interface: str | None) -> None:
    if interface is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        except OSError as exc:
            raise SetupError(interface, f"cannot be sent from: {exc.strerror}") from exc
    if source is not None:
        try:
            where = socket.getaddrinfo(
                source, 0, remote.family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST
            )
            sock.bind(where[0][4])
        except OSError as exc:
            advice = "it must be an address of this machine, of the remote's family"
            raise SetupError(source, f"cannot be sent from: {exc.strerror}; {advice}") from exc


def _set_options(stamped: StampedSocket, rcvbuf_bytes: int) -> None:
    sock = stamped.sock
    is_v6 = stamped.remote.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if is_v6 else socket.IPPROTO_IP
    # A fragment would be refused by the DUT: let too long a request fail here instead.
    sock.setsockopt(level, _IPV6_MTU_DISCOVER if is_v6 else _IP_MTU_DISCOVER, _PMTUDISC_DO)
    # Without it, ICMP errors other than "port unreachable" and full queues stay unseen.
    sock.setsockopt(level, _IPV6_RECVERR if is_v6 else _IP_RECVERR, 1)
    stamped.is_rcvbuf_forced = _ask_rcvbuf(sock, rcvbuf_bytes)
    stamped.rcvbuf_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    for name, flags in _WANTED_STAMPS:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)
        except OSError:
            continue  # this kernel lacks it: the next one asks for less
        stamped.kernel_timestamps = name
        break


# Beyond net.core.rmem_max if we may, else up to it.
def _ask_rcvbuf(sock: socket.socket, num_bytes: int) -> bool:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, num_bytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, num_bytes)
        return False
    return True


_NO_WAY = {
    errno.ENETUNREACH: "no route to it. Is the link up and has this end an address? See `ip route`",
    errno.EHOSTUNREACH: "no route to it. Is the link up and has this end an address?",
    errno.EADDRNOTAVAIL: "this machine has no usable address of that family. See `ip address`",
    errno.EACCES: "it is a broadcast address, or a route or rule prohibits it; see `ip route get`",
    errno.EINVAL: "a link-local address needs its interface (fe80::1%eth0), and this source",
}


def _connect(stamped: StampedSocket, interface: str | None) -> None:
    sock, remote = stamped.sock, stamped.remote
    try:
        sock.connect(remote.sockaddr)
        is_v6 = remote.family == socket.AF_INET6
        stamped.mtu = sock.getsockopt(
            socket.IPPROTO_IPV6 if is_v6 else socket.IPPROTO_IP, _IPV6_MTU if is_v6 else _IP_MTU
        )
        stamped.local = sock.getsockname()[:2]
        stamped.ifname = interface or _ifname_towards(remote)
    except OSError as exc:
        number = exc.errno or 0
        if number in _NO_WAY:
            raise SetupError(str(remote), f"{os.strerror(number)}: {_NO_WAY[number]}") from exc
        raise SystemCallError(number, "connect", str(remote)) from exc


# By the routing table; a link-local address says it itself.
def _ifname_towards(remote: Remote) -> str:
    ifindex = remote.sockaddr[3] if remote.family == socket.AF_INET6 else 0
    ifindex = ifindex or route_ifindex(remote.address.partition("%")[0])
    return socket.if_indextoname(ifindex) if ifindex else ""
