# SPDX-License-Identifier: GPL-2.0-only
"""One network interface: what it is, how it is set, and whether it may be measured on.

Everything is asked when it is called for, of the network namespace that is current then.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xdptstamp import _ethnl, _ethtool, _rtnl
from xdptstamp._ethnl import Coalescing, Eee, Pause
from xdptstamp._ethtool import DriverInfo, RingSizes, TimestampingInfo
from xdptstamp._rtnl import Link, XdpProgram, find_link_by_address
from xdptstamp.errors import SetupError
from xdptstamp.linkwatch import LinkChange, LinkWatch

__all__ = [
    "Coalescing",
    "DriverInfo",
    "Eee",
    "Link",
    "LinkChange",
    "LinkWatch",
    "Nic",
    "NumQueues",
    "Pause",
    "RingSizes",
    "TimestampingInfo",
    "XdpProgram",
    "find_link_by_address",
    "ssh_connection",
]

_SSH_CONNECTION = "SSH_CONNECTION"


@dataclass(frozen=True, slots=True)
class NumQueues:
    """Queues in use. ``rx`` and ``tx`` include the combined ones.

    :param is_exact: False where only the number of allocated queues is known.
    """

    rx: int
    tx: int
    combined: int
    is_exact: bool

    @property
    def usable(self) -> int:
        """Queues with both sides: an AF_XDP socket may be bound to 0 .. usable - 1."""
        return min(self.rx, self.tx)


class Nic:
    """The interface ``ifname`` (or an alternative name) of the current network namespace.

    It is followed by its ifindex: a rename does not lose it.

    :raises SetupError: If there is none; the message lists those there are.
    """

    def __init__(self, ifname: str) -> None:
        link = _rtnl.find_link(ifname=ifname)
        if link is None:
            names = ", ".join(sorted(link.ifname for link in _rtnl.all_links()))
            problem = f"no such interface; there are: {names} (in this network namespace)"
            raise SetupError(ifname or "the interface's name is empty", problem)
        self.ifname = link.ifname
        self.ifindex = link.ifindex

    def __repr__(self) -> str:
        return f"<Nic {self.ifname} ifindex {self.ifindex}>"

    @property
    def current_name(self) -> str:
        """Its name now.

        :raises SetupError: If the interface is gone.
        """
        try:
            return socket.if_indextoname(self.ifindex)
        except OSError:
            raise self._gone() from None

    def link(self) -> Link:
        """State, addresses, attached XDP programs and link counters, at one moment.

        :raises SetupError: If the interface is gone.
        """
        link = _rtnl.find_link(ifindex=self.ifindex)
        if link is None:
            raise self._gone()
        return link

    @property
    def mac(self) -> str:
        """Its MAC address now: ``02:00:00:00:00:01``."""
        return self.link().mac

    def xdp_programs(self) -> tuple[XdpProgram, ...]:
        """The XDP programs attached now, whoever attached them."""
        return self.link().xdp

    def driver_info(self) -> DriverInfo:
        """``ethtool -i``; all empty for an interface without (``lo``)."""
        return _ethtool.driver_info(self.current_name) or DriverInfo("", "", "", "")

    def speed_mbps(self) -> int | None:
        """Link speed in Mbit/s, None while unknown."""
        return _ethtool.speed_mbps(self.current_name)

    def num_queues(self) -> NumQueues:
        """How many queues are in use."""
        channels = _ethtool.channels(self.current_name)
        if channels is None:
            link = self.link()
            return NumQueues(link.num_rx_queues, link.num_tx_queues, 0, is_exact=False)
        combined = channels.combined
        return NumQueues(channels.rx + combined, channels.tx + combined, combined, is_exact=True)

    def ring_sizes(self) -> RingSizes | None:
        """``ethtool -g``; None where the interface has no hardware rings (veth)."""
        return _ethtool.ring_sizes(self.current_name)

    def coalescing(self) -> Coalescing | None:
        """``ethtool -c``; None where the driver has none."""
        return _ethnl.coalescing(self.ifindex)

    def eee(self) -> Eee | None:
        """``ethtool --show-eee``; None where the driver has none."""
        return _ethnl.eee(self.ifindex)

    def pause(self) -> Pause | None:
        """``ethtool -a``; None where the driver has no flow control."""
        return _ethnl.pause(self.ifindex)

    def qdiscs(self) -> frozenset[str]:
        """Kinds of the queueing disciplines on it: "mq", "taprio", .."""
        return _rtnl.qdisc_kinds(self.ifindex)

    def etf_queues(self) -> frozenset[int]:
        """Tx queues of which an ETF qdisc is offloaded to the NIC, which keeps launch times."""
        return _rtnl.etf_queues(self.ifindex)

    def statistics(self) -> dict[str, int]:
        """``ethtool -S``; empty where the driver has none."""
        return _ethtool.statistics(self.current_name)

    def timestamping_info(self) -> TimestampingInfo | None:
        """``ethtool -T``."""
        return _ethtool.timestamping_info(self.current_name)

    def strips_vlan_tags(self) -> bool:
        """``ethtool -k`` rx-vlan-offload: received packets come without their VLAN tag."""
        return _ethtool.strips_vlan_tags(self.current_name)

    def identity(self) -> dict[str, str]:
        """What stays the same over reboots and renames, as far as known.

        ``perm_mac``, ``bus`` and ``address`` of hardware; ``mac`` alone of a software interface.
        """
        link = self.link()
        facts = {
            "perm_mac": link.perm_mac,
            "bus": link.parent_bus,
            "address": self.driver_info().bus or link.parent_device,
        }
        known = {name: value for name, value in facts.items() if value}
        return known or {"mac": link.mac}

    def watch(self) -> LinkWatch:
        """Begin to watch for the interface going down, vanishing, losing carrier, renamed."""
        return LinkWatch(self.current_name, self.ifindex)

    def is_default_route(self) -> bool:
        """Whether a default route leaves through it, or through what is stacked on it."""
        return bool(self._stack() & _rtnl.default_route_ifindexes())

    def carries_ssh(self, environ: Mapping[str, str] | None = None) -> bool:
        """Whether the current ssh connection runs over it, or over what is stacked on it.

        :param environ: where SSH_CONNECTION is looked for; None: see :func:`ssh_connection`.
        """
        connection = ssh_connection() if environ is None else environ.get(_SSH_CONNECTION, "")
        peer, _, zone = connection.partition(" ")[0].partition("%")
        if not peer:
            return False
        if zone:  # a link-local address names its interface
            link = _rtnl.find_link(ifname=zone)
            ifindex = link.ifindex if link else None
        else:
            ifindex = _rtnl.route_ifindex(peer)
        return ifindex in self._stack()

    def refusal(
        self, force: bool = False, environ: Mapping[str, str] | None = None
    ) -> SetupError | None:
        """Why it must not be measured on, None if it may be or ``force`` is set.

        :param environ: as for :meth:`carries_ssh`.
        """
        if force:
            return None
        if self.link().is_loopback:
            reason = "it is the loopback interface, which other programs need"
        elif self.carries_ssh(environ):
            reason = "your ssh connection runs over it, and a measurement may reset it"
        elif self.is_default_route():
            reason = "the default route leaves through it, and a measurement may reset it"
        else:
            return None
        problem = f"refused: {reason}. Name another interface, or use --force"
        return SetupError(self.ifname, problem)

    def _gone(self) -> SetupError:
        return SetupError(self.ifname, "the interface is gone (or in another network namespace)")

    def _stack(self) -> set[int]:
        return _rtnl.stacked_on(self.ifindex, _rtnl.all_links())


def ssh_connection() -> str:
    """SSH_CONNECTION of this process, or of the nearest process above it that has one.

    sudo takes the variable away, and the connection is there all the same.
    """
    own = os.environ.get(_SSH_CONNECTION)
    if own:
        return own
    pid = os.getppid()
    while pid > 0:
        connection, pid = _ssh_connection_and_parent(pid)
        if connection:
            return connection
    return ""


def _ssh_connection_and_parent(pid: int) -> tuple[str, int]:
    # What may not be read (another user's process) has nothing to say, and ends the way up.
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return "", 0
    prefix = f"{_SSH_CONNECTION}=".encode()
    values = [item[len(prefix) :] for item in environ.split(b"\0") if item.startswith(prefix)]
    # The name in brackets may hold anything, brackets and spaces, too.
    parent = int(stat.rpartition(b")")[2].split()[1])
    return (os.fsdecode(values[0]) if values else ""), parent
