# SPDX-License-Identifier: GPL-2.0-only
"""Where packets of our own making go: the MAC address that the kernel would send them to.

AF_XDP bypasses routing and ARP, so the kernel is asked: for its route, and for the neighbour that
the route leads to. Nothing is ever sent to a group of hosts.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import select
import socket
import time
from dataclasses import dataclass
from typing import NoReturn

from xdptstamp import _rtnl
from xdptstamp._rtnl import Link, Neighbour, Route
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.nic import Nic

_RTN_UNICAST, _RTN_LOCAL, _RTN_BROADCAST, _RTN_ANYCAST = 1, 2, 3, 4
_RTMGRP_NEIGH = 4
_BUFFER_SIZE = 1 << 16
_DISCARD_PORT = 9

_MAC = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NextHop:
    """A destination, and what Ethernet and IP headers of packets to it hold.

    :param host: as it was given.
    :param address: its IPv4 or IPv6 address, without zone.
    :param source: the address of ours to send from.
    :param next_hop: the gateway's address, or ``address`` itself.
    :param mac: of ``next_hop``, 6 bytes; never a group address.
    :param source_mac: of the interface, 6 bytes.
    """

    host: str
    address: str
    source: str
    next_hop: str
    mac: bytes
    source_mac: bytes
    ifindex: int


def resolve(
    host: str,
    ifname: str,
    *,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    timeout_s: float = 3.0,
) -> NextHop:
    """Find where packets to ``host`` go when they leave through ``ifname``.

    A neighbour that the kernel is not sure of is asked for anew, so the MAC is one that was there
    within the last seconds (or that somebody configured). Of a host with several addresses the
    first that is reached through ``ifname`` counts.

    :param host: name or address; a link-local one needs no zone.
    :param family: AF_UNSPEC takes addresses of either family.
    :param timeout_s: how long to wait for the neighbour's answer.
    :raises SetupError: The host has no address; it is a group of hosts or this machine; its route
        does not leave through ``ifname``; nobody answers.
    :raises SystemCallError: EPERM without CAP_NET_ADMIN, if an entry has to be asked for anew.
    """
    link, source_mac = _ethernet_link(ifname)
    address, route = _routed_address(host, family, link)
    if route.source is None:
        _refuse_without_source(link, address)
    next_hop = route.gateway or address
    mac = _parse(_neighbour_mac(next_hop, link, timeout_s))
    if mac is None or mac[0] & 1 or mac == source_mac or not any(mac):
        problem = (
            f"{link.ifname} has no neighbour table entry of use for {next_hop} (a group's MAC "
            "address, its own, or none); give the MAC address by --dst-mac"
        )
        raise SetupError(_label(host, address), problem)
    return NextHop(host, address, route.source, next_hop, mac, source_mac, link.ifindex)


def from_mac(
    text: str,
    host: str,
    ifname: str,
    *,
    family: socket.AddressFamily = socket.AF_UNSPEC,
) -> NextHop:
    """The same for a known MAC address: nobody is asked for it, and no route is needed.

    ``host`` may be an address of this machine: of another port, say, at the end of the cable.

    :param text: ``aa:bb:cc:dd:ee:ff``, of one host.
    :raises SetupError: The MAC or IP address is malformed or a group's, or the interface has no
        address to send from.
    """
    mac = parse_mac(text)
    link, source_mac = _ethernet_link(ifname)
    address = _addresses(host, family, link)[0]
    _refuse_group(host, address)
    route = _rtnl.find_route(address, link.ifindex)
    if route is not None and route.kind == _RTN_BROADCAST:
        _refuse_broadcast(host, address)
    is_routed = route is not None and route.kind == _RTN_UNICAST
    source = (route.source if route and is_routed else None) or _own_address(link, address)
    return NextHop(host, address, source, address, mac, source_mac, link.ifindex)


def parse_mac(text: str) -> bytes:
    """The 6 bytes of ``aa:bb:cc:dd:ee:ff`` (or with ``-``), the address of one host.

    :raises SetupError: It is none, a group's (multicast, broadcast), or all zeros.
    """
    mac = _parse(text.strip())
    if mac is None:
        raise SetupError(text, "is not a MAC address such as 02:00:00:00:00:01")
    if mac[0] & 1:
        kind = "the broadcast" if mac == b"\xff" * 6 else "a multicast"
        problem = f"is {kind} MAC address; packets go to one host only: give the MAC of its NIC"
        raise SetupError(text, problem)
    if not any(mac):
        raise SetupError(text, "is no host's MAC address: give the MAC of the partner's NIC")
    return mac


def _parse(text: str) -> bytes | None:
    if not _MAC.fullmatch(text):
        return None
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def _ethernet_link(ifname: str) -> tuple[Link, bytes]:
    link = Nic(ifname).link()
    mac = _parse(link.mac)
    if mac is None or link.is_loopback:
        raise SetupError(link.ifname, "is no Ethernet interface: it has no MAC address")
    if not link.is_up:
        raise SetupError(link.ifname, f"is down: `ip link set {link.ifname} up`")
    return link, mac


def _routed_address(host: str, family: socket.AddressFamily, link: Link) -> tuple[str, Route]:
    # What is wrong with the first address is told if no other is better.
    problems = []
    for address in _addresses(host, family, link):
        try:
            return address, _route_through(host, address, link)
        except SetupError as error:
            problems.append(error)
    raise problems[0]


def _addresses(host: str, family: socket.AddressFamily, link: Link) -> list[str]:
    try:
        if not host:
            raise ValueError
        found = socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:  # of what cannot be a name: UnicodeError, ValueError
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        names = {socket.AF_INET: "an IPv4", socket.AF_INET6: "an IPv6"}
        wanted = names.get(family, "an")
        problem = f"cannot be resolved to {wanted} address: {reason}. Check the spelling"
        raise SetupError(host or "the host's name is empty", problem) from None
    zones = {item[4][3] for item in found if len(item[4]) == 4} - {0, link.ifindex}
    if zones:
        other = _name_of(int(zones.pop()))
        raise SetupError(host, f"is on {other}, not on {link.ifname}. Name {other}")
    texts = [str(item[4][0]).partition("%")[0] for item in found]
    return list(dict.fromkeys(str(ipaddress.ip_address(text)) for text in texts))


def _route_through(host: str, address: str, link: Link) -> Route:
    _refuse_group(host, address)
    # Two interfaces may both have fe80::/64, or both a network that the kernel prefers one for.
    strict = _rtnl.find_route(address, link.ifindex)
    is_link_local = ipaddress.ip_address(address).is_link_local
    preferred = strict if is_link_local and ":" in address else _rtnl.find_route(address)
    for route in (preferred, strict):
        _refuse_kind(host, address, route)
    if strict is not None and preferred is not None:
        is_ours = preferred.ifindex == link.ifindex or preferred.prefix_len == strict.prefix_len
        if is_ours and strict.ifindex == link.ifindex:
            return strict
    if preferred is None:
        problem = (
            f"no route to it through {link.ifname}. Give {link.ifname} an address in its network "
            "(`ip addr add`), or add a route (`ip route add`)"
        )
        raise SetupError(_label(host, address), problem)
    other = _name_of(preferred.ifindex)
    problem = (
        f"the route to it leaves through {other}, not through {link.ifname}. Name {other}, or add "
        f"a route through {link.ifname} (`ip route add`)"
    )
    raise SetupError(_label(host, address), problem)


def _refuse_group(host: str, address: str) -> None:
    parsed = ipaddress.ip_address(address)
    if parsed.is_multicast:
        problem = "is a multicast address; packets go to one host only: give its own address"
        raise SetupError(_label(host, address), problem)
    if address == "255.255.255.255":
        _refuse_broadcast(host, address)
    if parsed.is_unspecified:
        raise SetupError(_label(host, address), "is no host's address: give the partner's")


def _refuse_broadcast(host: str, address: str) -> NoReturn:
    problem = "is a broadcast address; packets go to one host only: give its own address"
    raise SetupError(_label(host, address), problem)


def _refuse_kind(host: str, address: str, route: Route | None) -> None:
    if route is None or route.kind == _RTN_UNICAST:
        return
    if route.kind == _RTN_BROADCAST:
        _refuse_broadcast(host, address)
    if route.kind in {_RTN_LOCAL, _RTN_ANYCAST}:
        owner = _rtnl.find_link_by_address(address)
        where = f" ({owner})" if owner else ""
        problem = (
            f"is an address of this machine itself{where}; packets to it never leave. Give the "
            "link partner's"
        )
        raise SetupError(_label(host, address), problem)
    raise SetupError(_label(host, address), "no packet can be sent to it; see `ip route get`")


def _refuse_without_source(link: Link, address: str) -> NoReturn:
    version = ipaddress.ip_address(address).version
    problem = f"has no IPv{version} address to send from; give it one (`ip addr add`)"
    raise SetupError(link.ifname, problem)


def _own_address(link: Link, towards: str) -> str:
    target = ipaddress.ip_address(towards)
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    own = [text for ifindex, text in _rtnl.own_addresses(family) if ifindex == link.ifindex]
    if not own:
        _refuse_without_source(link, towards)
    # A link-local address for one of those, another for the others, where there is a choice.
    alike = [
        text for text in own if ipaddress.ip_address(text).is_link_local == target.is_link_local
    ]
    return (alike or own)[0]


def _neighbour_mac(address: str, link: Link, timeout_s: float) -> str:
    flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE) as events:
        # Listening begins before the question, so that the answer cannot come in between.
        events.bind((0, _RTMGRP_NEIGH))
        known = _rtnl.find_neighbour(address, link.ifindex)
        if known is None or not known.is_certain:
            known = _ask_neighbour(address, link, known, events, timeout_s)
    return known.mac or ""


def _ask_neighbour(
    address: str, link: Link, known: Neighbour | None, events: socket.socket, timeout_s: float
) -> Neighbour:
    if known is not None and known.is_valid:
        # The kernel would use it for seconds before it asks whether it still is true, and a
        # switch sends packets to a MAC that is gone to all of its ports.
        _rtnl.forget_neighbour(address, link.ifindex)
    _send_datagram(address, link)
    deadline = time.monotonic() + timeout_s
    while True:
        entry = _rtnl.find_neighbour(address, link.ifindex)
        if entry is not None and entry.is_valid:
            return entry
        left_s = deadline - time.monotonic()
        if left_s <= 0 or (entry is not None and entry.has_failed):
            question = "neighbour solicitation" if ":" in address else "ARP"
            problem = f"no answer to {question} from {address} on {link.ifname}"
            raise SetupError(link.ifname, f"{problem}; is the partner up?")
        _await_news(events, left_s)


def _send_datagram(address: str, link: Link) -> None:
    # An empty one to the discard port, for which the kernel has to find the neighbour. (Told by
    # rtnetlink to ask, it has no source for IPv6 on a link without link-local addresses.)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    zone = (0, link.ifindex) if ":" in address else ()
    flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(family, flags) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.ifname.encode())
            sock.sendto(b"", (address, _DISCARD_PORT, *zone))
        except OSError as error:
            subject = f"{address} through {link.ifname}"
            advice = "Is a firewall in the way?" if error.errno == errno.EPERM else ""
            raise SystemCallError(error.errno or errno.EIO, "sendto", subject, advice) from None


def _await_news(events: socket.socket, timeout_s: float) -> None:
    # What the news say is not read: the table itself is asked afterwards.
    if select.select([events], [], [], timeout_s)[0]:
        try:
            while events.recv(_BUFFER_SIZE):
                continue
        except OSError:  # no more for now, or the kernel had to drop some
            return


def _label(host: str, address: str) -> str:
    return host if host.partition("%")[0] == address else f"{host} ({address})"


def _name_of(ifindex: int) -> str:
    link = _rtnl.find_link(ifindex=ifindex)
    return link.ifname if link else f"interface {ifindex}"
