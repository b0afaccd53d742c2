# SPDX-License-Identifier: GPL-2.0-only
"""The veth pair: made, addressed, brought up and removed by rtnetlink."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import platform
import select
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from xdptstamp._sys import netns
from xdptstamp.errors import SetupError, SystemCallError, UnsupportedError
from xdptstamp.lab.plan import LabPlan, Network

_RTMGRP_LINK = 1
_IFA_F_NODAD = 0x02
_IN6_ADDR_GEN_MODE_NONE = 1
_LOOPBACK_IFINDEX = 1
_KIND = "veth"

# Carrier comes within a millisecond; this is for a machine that is stuck.
_UP_TIMEOUT_NS = 10_000_000_000

# What the kernel answers where IPv6 is disabled, or not there at all.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES}


def networks_in_use() -> list[Network]:
    """Every network that has a route, in any table, or an address in the current namespace."""
    with _rtnl("RTM_GETROUTE", "all tables") as ipr:
        routes = [(message.get("dst"), message["dst_len"]) for message in ipr.get_routes()]
        addresses = [
            (message.get("local") or message.get("address"), message["prefixlen"])
            for message in ipr.get_addr()
        ]
    pairs = [*routes, *addresses]
    # A default route has no destination.
    return [ipaddress.ip_network(pair, strict=False) for pair in pairs if pair[0] is not None]


def make_pair(plan: LabPlan, num_queues: int) -> None:
    """Make the pair, one end here and one in namespace ``plan.name``; wait until both are up.

    :raises UnsupportedError: The kernel has no veth, or no IPv6.
    :raises SetupError: The link does not come up.
    :raises SystemCallError: The kernel refuses; EPERM without CAP_NET_ADMIN.
    """
    _add_pair(plan, num_queues)
    dut, partner = plan.addresses

    def configure_partner() -> socket.socket:
        with _rtnl("RTM_NEWLINK", "lo") as ipr:
            ipr.link("set", index=_LOOPBACK_IFINDEX, state="up")
        return _configure(plan.partner_ifname, partner, plan)

    # The carrier comes when the second end is up, so only then is there something to wait for.
    with (
        netns.call_inside(plan.name, configure_partner) as partner_events,
        _configure(plan.ifname, dut, plan) as dut_events,
    ):
        _await_up(plan.ifname, dut_events)
        netns.call_inside(plan.name, lambda: _await_up(plan.partner_ifname, partner_events))


def delete(ifname: str) -> None:
    """Delete a link of the current namespace; that it is not there is no error."""
    with _rtnl("RTM_DELLINK", ifname, but_not={errno.ENODEV}) as ipr:
        # Asked first: who may not delete links is told so even of one that is not there.
        ipr.link("del", index=_link(ipr, ifname)["index"])


@contextlib.contextmanager
def _rtnl(call: str, subject: str, but_not: Collection[int] = ()) -> Iterator[Any]:
    # The socket belongs to the namespace that is the thread's now. pyroute2 takes a quarter of a
    # second to import.
    from pyroute2.iproute import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ipr:
            yield ipr
    except NetlinkError as error:
        if error.code not in but_not:
            raise SystemCallError(error.code, call, subject) from None


def _add_pair(plan: LabPlan, num_queues: int) -> None:
    # A MAC given here stays: udev gives one of its own to a link that has a random one, and would
    # do so in the middle of the first packets.
    dut_mac, partner_mac = plan.macs
    queues = {"num_tx_queues": num_queues, "num_rx_queues": num_queues}
    fd = os.open(netns.path_of(plan.name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer = {"ifname": plan.partner_ifname, "address": partner_mac, "net_ns_fd": fd, **queues}
        with _rtnl("RTM_NEWLINK", f"veth {plan.ifname} with {num_queues} queues") as ipr:
            ipr.link("add", kind=_KIND, ifname=plan.ifname, address=dut_mac, peer=peer, **queues)
    except SystemCallError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        found = f"Linux {platform.release()} without it"
        raise UnsupportedError("a veth link", "CONFIG_VETH (modprobe veth)", found) from None
    finally:
        os.close(fd)


def _configure(ifname: str, addresses: tuple[str, str], plan: LabPlan) -> socket.socket:
    # Returns a socket that gets every later change of a link in the namespace of this thread.
    ipv4, ipv6 = addresses
    with contextlib.ExitStack() as stack:
        events = stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        events.bind((0, _RTMGRP_LINK))
        with _rtnl("RTM_NEWADDR", f"{ifname} {ipv4}") as ipr:
            index = _link(ipr, ifname)["index"]
            ipr.addr("add", index=index, address=ipv4, prefixlen=plan.ipv4.prefixlen)
        _add_ipv6(ifname, index, f"{ipv6}/{plan.ipv6.prefixlen}")
        with _rtnl("RTM_NEWLINK", ifname) as ipr:
            ipr.link("set", index=index, state="up")
        stack.pop_all()
    return events


def _add_ipv6(ifname: str, index: int, address: str) -> None:
    # Without a link-local address an end is silent: no router solicitations, no duplicate address
    # detection. The address given needs none, so that it can be used at once.
    silent = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE)]}
    host, prefix = address.split("/")
    _enable_ipv6(ifname)
    try:
        with _rtnl("RTM_NEWADDR", f"{ifname} {address}") as ipr:
            ipr.link("set", index=index, IFLA_AF_SPEC={"attrs": [("AF_INET6", silent)]})
            ipr.addr("add", index=index, address=host, prefixlen=int(prefix), flags=_IFA_F_NODAD)
    except SystemCallError as error:
        if error.errno not in _NO_IPV6:
            raise
        needs = "IPv6 (sysctl net.ipv6.conf.default.disable_ipv6=0)"
        found = f"the kernel's answer {error.strerror!r}"
        raise UnsupportedError("a veth lab", needs, found) from None


def _enable_ipv6(ifname: str) -> None:
    # A machine that starts its links without IPv6 has said nothing about this one.
    setting = Path(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6")
    # Without the file there is no IPv6, and if it is read-only (a container) it stays disabled;
    # either way the kernel refuses the address, which is reported then.
    with contextlib.suppress(OSError):
        if setting.read_text(encoding="ascii").strip() != "0":
            setting.write_text("0", encoding="ascii")


def _link(ipr: Any, ifname: str) -> Any:
    return ipr.link("get", ifname=ifname)[0]


def _await_up(ifname: str, events: socket.socket) -> None:
    # An event says only that something changed; what is asked then is answered under the lock
    # under which the kernel also starts the queues. Until those are started, packets are dropped.
    deadline_ns = time.monotonic_ns() + _UP_TIMEOUT_NS
    poller = select.poll()
    poller.register(events, select.POLLIN)
    with _rtnl("RTM_GETLINK", ifname) as ipr:
        while _link(ipr, ifname).get("operstate") != "UP":
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0 or not poller.poll(left_ns // 1_000_000 + 1):
                problem = f"no carrier after {_UP_TIMEOUT_NS // 1_000_000_000} s"
                raise SetupError(ifname, f"{problem}; what does the kernel log (dmesg) say?")
            _drain(events)


def _drain(events: socket.socket) -> None:
    try:
        while events.recv(65536, socket.MSG_DONTWAIT):
            continue
    except BlockingIOError:
        return
    except OSError as error:
        # Events were lost: there was at least one.
        if error.errno != errno.ENOBUFS:
            raise SystemCallError(error.errno or errno.EIO, "recv", "rtnetlink events") from None
