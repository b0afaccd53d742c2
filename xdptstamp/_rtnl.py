# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's routing netlink says about links and routes of the current namespace.

/sys/class/net is not asked: it shows the namespace it was mounted in, not the current one.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xdptstamp.errors import SystemCallError

if TYPE_CHECKING:
    from pyroute2 import IPRoute

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

# What the kernel answers when no interface has this name or number, or none could.
_NO_SUCH_LINK = {errno.ENODEV, errno.ERANGE, errno.EINVAL, errno.ENXIO}
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.EPERM}

_RTM_F_FIB_MATCH = 0x2000
_NTF_EXT_LEARNED = 0x10
_TC_ETF_OFFLOAD_ON = 0x02
_NUD_CERTAIN = 0x02 | 0x40 | 0x80  # reachable, noarp, permanent
_NUD_UNSURE = 0x04 | 0x08 | 0x10  # stale, delay, probe
_NUD_FAILED = 0x20

# The IFLA_LINK of these is their peer, not a device below them.
_KINDS_WITH_PEER = {"veth", "netkit", "vxcan"}

_XDP_MODES = (
    ("IFLA_XDP_DRV_PROG_ID", "native"),
    ("IFLA_XDP_SKB_PROG_ID", "skb"),
    ("IFLA_XDP_HW_PROG_ID", "hw"),
)
_XDP_MODE_OF_ATTACHED = {"xdp": "native", "xdpgeneric": "skb", "xdpoffload": "hw"}


@dataclass(frozen=True, slots=True)
class XdpProgram:
    """An attached XDP program: ``mode`` native, skb or hw, and the kernel's program id."""

    mode: str
    prog_id: int


@dataclass(frozen=True, slots=True)
class Link:
    """One interface at one moment.

    :param kind: "veth", "bond", ..; empty for a NIC.
    :param perm_mac: the MAC the hardware was made with; None where there is no hardware.
    :param has_carrier: the administrator has it up and the medium is there.
    :param carrier_changes: how often the carrier came or went since the interface exists.
    :param num_rx_queues: allocated Rx queues; there may be fewer in use.
    :param lower: ifindex of the device below in this namespace (of a VLAN, macvlan), else 0.
    :param master: ifindex of the bridge or bond it belongs to, else 0.
    :param parent_bus: bus of the hardware device ("pci"), None for software devices.
    :param parent_device: its address there ("0000:03:00.0").
    :param statistics: the kernel's standard link counters.
    """

    ifname: str
    ifindex: int
    kind: str
    flags: int
    mac: str
    perm_mac: str | None
    mtu: int
    operstate: str
    carrier_changes: int
    num_rx_queues: int
    num_tx_queues: int
    lower: int
    master: int
    parent_bus: str | None
    parent_device: str | None
    xdp: tuple[XdpProgram, ...]
    statistics: dict[str, int]

    @property
    def is_up(self) -> bool:
        """The administrator has set it up."""
        return bool(self.flags & IFF_UP)

    @property
    def is_loopback(self) -> bool:
        """It is ``lo``."""
        return bool(self.flags & IFF_LOOPBACK)

    @property
    def has_carrier(self) -> bool:
        """It is up and the medium is there."""
        return bool(self.flags & IFF_LOWER_UP)


@dataclass(frozen=True, slots=True)
class Route:
    """How packets to one address leave.

    :param kind: RTN_UNICAST (1), RTN_LOCAL (2), RTN_BROADCAST (3), ..
    :param source: the address of ours that the kernel would send from, None if there is none.
    :param gateway: IPv4 or IPv6; None: the address is on the link.
    :param prefix_len: of the matching route, 0 for a default route.
    """

    kind: int
    ifindex: int
    source: str | None
    gateway: str | None
    prefix_len: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the neighbour table: ``state`` NUD_* bit, ``flags`` NTF_* bits, ``mac``."""

    state: int
    flags: int
    mac: str | None

    @property
    def is_certain(self) -> bool:
        """The kernel uses ``mac`` without asking again: confirmed just now, or configured."""
        is_learned = bool(self.flags & _NTF_EXT_LEARNED) and self.is_valid
        return is_learned or bool(self.state & _NUD_CERTAIN)

    @property
    def is_valid(self) -> bool:
        """The kernel sends to ``mac``, though it may ask meanwhile whether it still is there."""
        return bool(self.state & (_NUD_CERTAIN | _NUD_UNSURE))

    @property
    def has_failed(self) -> bool:
        """Nobody answered."""
        return bool(self.state & _NUD_FAILED)


def find_link(*, ifname: str = "", ifindex: int = 0) -> Link | None:
    """The interface of that name (or alternative name) or number, None if there is none."""
    # "index" 0 is "any" to the kernel, and a name it cannot have need not be asked for.
    if ifindex:
        query: dict[str, Any] = {"index": ifindex}
    elif 0 < len(ifname.encode()) < 16:
        query = {"ifname": ifname}
    elif ifname:
        query = {"altname": ifname}
    else:
        return None
    answer = _request(lambda ipr: ipr.link("get", **query), "RTM_GETLINK", ifname, _NO_SUCH_LINK)
    return _parse_link(answer[0]) if answer else None


def all_links() -> list[Link]:
    """Every interface of this namespace."""
    answer = _request(lambda ipr: ipr.link("dump"), "RTM_GETLINK", "all interfaces", set())
    return [_parse_link(message) for message in answer]


def default_route_ifindexes() -> set[int]:
    """Interfaces that a default route (IPv4 or IPv6) of the main table leaves through."""
    routes = _request(lambda ipr: ipr.get_default_routes(), "RTM_GETROUTE", "the main table", set())
    return {ifindex for route in routes for ifindex in _outputs(route)}


def route_ifindex(address: str) -> int | None:
    """The interface through which packets to ``address`` leave, None if there is no route."""
    routes = _route({"dst": address, "family": _family_of(address)})
    return next((ifindex for route in routes for ifindex in _outputs(route)), None)


def find_route(address: str, ifindex: int = 0) -> Route | None:
    """How packets to ``address`` leave, None if there is no route.

    :param ifindex: only through this interface; 0: through any.
    """
    query: dict[str, Any] = {"dst": address, "family": _family_of(address)}
    if ifindex:
        query["oif"] = ifindex
    # Asked for an interface, IPv4 takes everything for on-link if no route matches; that a route
    # does is told by the other question. Only the first one tells source and gateway.
    found, matched = _route(query), _route({**query, "flags": _RTM_F_FIB_MATCH})
    if not found or not matched:
        return None
    get = found[0].get_attr
    via = get("RTA_VIA")  # an IPv4 route may have an IPv6 gateway
    return Route(
        kind=found[0]["type"],
        ifindex=get("RTA_OIF") or 0,
        source=get("RTA_PREFSRC"),
        gateway=get("RTA_GATEWAY") or (via["addr"] if via else None),
        prefix_len=matched[0]["dst_len"],
    )


def own_addresses(family: socket.AddressFamily) -> list[tuple[int, str]]:
    """Ifindex and address of every interface of this namespace, in the kernel's order."""
    answer = _request(lambda ipr: ipr.get_addr(family=family), "RTM_GETADDR", "addresses", set())
    # On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is ours where there is one.
    return [
        (message["index"], message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
        for message in answer
    ]


def find_link_by_address(address: str) -> str | None:
    """Name of the interface of this namespace that has ``address`` as its own, None if none has.

    :param address: IPv4 or IPv6; a link-local one may name its interface (``fe80::1%eth1``), and
        without belongs to the first that has it.
    """
    bare, _, zone = address.partition("%")
    wanted = ipaddress.ip_address(bare)
    names = {link.ifindex: link.ifname for link in all_links()}
    for ifindex, own in own_addresses(_family_of(bare)):
        name = names.get(ifindex)
        if name and ipaddress.ip_address(own) == wanted and zone in {"", name, str(ifindex)}:
            return name
    return None


def find_neighbour(address: str, ifindex: int) -> Neighbour | None:
    """What the neighbour table (ARP, NDP) knows of ``address``, None if nothing."""
    answer = _neighbour("get", "RTM_GETNEIGH", address, ifindex)
    if not answer:
        return None
    mac = answer[0].get_attr("NDA_LLADDR")
    return Neighbour(answer[0]["state"], answer[0]["flags"], mac)


def forget_neighbour(address: str, ifindex: int) -> None:
    """Remove ``address`` from the neighbour table; that it is not there is no error.

    :raises SystemCallError: EPERM without CAP_NET_ADMIN.
    """
    _neighbour("del", "RTM_DELNEIGH", address, ifindex)


def set_link(ifindex: int, *, is_up: bool | None = None, mtu: int | None = None) -> None:
    """Change an interface; None: as it is.

    :raises SystemCallError: EINVAL: the driver refuses the MTU; EPERM without CAP_NET_ADMIN.
    """
    change: dict[str, Any] = {}
    if is_up is not None:
        change["state"] = "up" if is_up else "down"
    if mtu is not None:
        change["mtu"] = mtu
    _request(
        lambda ipr: ipr.link("set", index=ifindex, **change), "RTM_SETLINK", str(ifindex), set()
    )


def rename_link(ifindex: int, ifname: str) -> None:
    """Give an interface another name.

    :raises SystemCallError: EEXIST: it is taken; EBUSY: the interface is up.
    """
    _request(
        lambda ipr: ipr.link("set", index=ifindex, ifname=ifname), "RTM_SETLINK", ifname, set()
    )


def qdisc_kinds(ifindex: int) -> frozenset[str]:
    """Kinds of the queueing disciplines on an interface: "mq", "fq_codel", "taprio", .."""
    answer = _request(lambda ipr: ipr.get_qdiscs(), "RTM_GETQDISC", "all interfaces", set())
    return frozenset(m.get_attr("TCA_KIND") for m in answer if m["index"] == ifindex)


def etf_queues(ifindex: int) -> frozenset[int]:
    """Tx queues of which an ETF qdisc is offloaded to the NIC, which then keeps launch times."""
    answer = _request(lambda ipr: ipr.get_qdiscs(), "RTM_GETQDISC", "all interfaces", set())
    own = [(m, m.get_attr("TCA_KIND")) for m in answer if m["index"] == ifindex]
    # Their classes, from 1 on, are the queues; whatever else it is below has queue 0.
    majors = {m["handle"] >> 16 for m, kind in own if kind in ("mq", "mqprio", "taprio")}
    parents = {m["parent"] for m, kind in own if kind == "etf" and _is_offloaded_etf(m)}
    return frozenset((p & 0xFFFF) - 1 if p >> 16 in majors else 0 for p in parents)


def _is_offloaded_etf(message: Any) -> bool:
    # pyroute2 does not know etf, and leaves its options as they came: one attribute, TCA_ETF_PARMS,
    # with struct tc_etf_qopt (delta, clockid, flags).
    options = bytes.fromhex(message.get_attr("TCA_OPTIONS").replace(":", ""))
    flags = int.from_bytes(options[12:16], sys.byteorder)
    return bool(flags & _TC_ETF_OFFLOAD_ON)


def stacked_on(ifindex: int, links: list[Link]) -> set[int]:
    """``ifindex`` and every interface above it: its bond or bridge, VLANs and macvlans on it."""
    found, todo = set[int](), [ifindex]
    while todo:
        at = todo.pop()
        found.add(at)
        above = {link.ifindex for link in links if link.lower == at}
        above |= {link.master for link in links if link.ifindex == at and link.master}
        todo += above - found
    return found


def _request(ask: Callable[[IPRoute], Any], call: str, subject: str, absent: set[int]) -> list[Any]:
    # One short-lived socket per question: it belongs to the namespace that is current now.
    from pyroute2 import IPRoute, NetlinkError

    try:
        with IPRoute() as ipr:
            return list(ask(ipr))
    except NetlinkError as error:
        if error.code in absent:
            return []
        raise SystemCallError(error.code, call, subject or "an interface") from None


def _route(query: dict[str, Any]) -> list[Any]:
    return _request(lambda ipr: ipr.route("get", **query), "RTM_GETROUTE", query["dst"], _NO_ROUTE)


def _neighbour(command: str, call: str, address: str, ifindex: int) -> list[Any]:
    query = {"dst": address, "ifindex": ifindex, "family": _family_of(address)}
    return _request(lambda ipr: ipr.neigh(command, **query), call, address, {errno.ENOENT})


def _family_of(address: str) -> socket.AddressFamily:
    is_v4 = ipaddress.ip_address(address).version == 4
    return socket.AF_INET if is_v4 else socket.AF_INET6


def _outputs(route: Any) -> list[int]:
    hops = route.get_attr("RTA_MULTIPATH") or []
    single = route.get_attr("RTA_OIF")
    return [hop["oif"] for hop in hops] + ([single] if single else [])


def _parse_link(message: Any) -> Link:
    get = message.get_attr
    info = get("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    # With a namespace id, IFLA_LINK counts in that other namespace.
    is_below_here = kind not in _KINDS_WITH_PEER and get("IFLA_LINK_NETNSID") is None
    return Link(
        ifname=get("IFLA_IFNAME"),
        ifindex=message["index"],
        kind=kind,
        flags=message["flags"],
        mac=get("IFLA_ADDRESS") or "",
        perm_mac=get("IFLA_PERM_ADDRESS"),
        mtu=get("IFLA_MTU"),
        operstate=(get("IFLA_OPERSTATE") or "UNKNOWN").lower(),
        carrier_changes=get("IFLA_CARRIER_CHANGES") or 0,
        num_rx_queues=get("IFLA_NUM_RX_QUEUES") or 0,
        num_tx_queues=get("IFLA_NUM_TX_QUEUES") or 0,
        lower=(get("IFLA_LINK") or 0) if is_below_here else 0,
        master=get("IFLA_MASTER") or 0,
        parent_bus=get("IFLA_PARENT_DEV_BUS_NAME"),
        parent_device=get("IFLA_PARENT_DEV_NAME"),
        xdp=_parse_xdp(get("IFLA_XDP")),
        statistics=dict(get("IFLA_STATS64") or {}),
    )


def _parse_xdp(xdp: Any) -> tuple[XdpProgram, ...]:
    if xdp is None:
        return ()
    programs = [(mode, xdp.get_attr(name)) for name, mode in _XDP_MODES]
    found = tuple(XdpProgram(mode, prog_id) for mode, prog_id in programs if prog_id)
    mode = _XDP_MODE_OF_ATTACHED.get(xdp.get_attr("IFLA_XDP_ATTACHED") or "")
    prog_id = xdp.get_attr("IFLA_XDP_PROG_ID")
    if not found and mode and prog_id:
        return (XdpProgram(mode, prog_id),)
    return found
