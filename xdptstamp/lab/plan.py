# SPDX-License-Identifier: GPL-2.0-only
"""The names and addresses of a veth lab, all made from one number.

Two labs on one machine never have the same number (:mod:`xdptstamp.lab.claim` sees to it), so
they never have a name, a MAC or an address in common either.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAME_PREFIX = "xdpt-"

#: How many labs there can be: the /30 networks of a /15.
NUM_PLANS = 1 << 15

# The first is set aside for measurements (RFC 2544); the others serve where something, a VPN for
# one, has taken that.
_IPV4_POOLS = ("198.18.0.0/15", "172.30.0.0/15", "10.254.0.0/15")


@dataclass(frozen=True, slots=True)
class LabPlan:
    """What a lab is to be called and how its ends are to be addressed.

    :param name: of the partner's namespace and of the DUT end of the link.
    :param ipv4: a /30: the DUT has the first address, the partner the second.
    :param ipv6: a /64 (RFC 4193), used alike.
    """

    name: str
    ipv4: ipaddress.IPv4Network
    ipv6: ipaddress.IPv6Network

    @property
    def ifname(self) -> str:
        """The DUT end."""
        return self.name

    @property
    def partner_ifname(self) -> str:
        """The partner's end, in namespace ``name``."""
        return partner_ifname_of(self.name)

    @property
    def macs(self) -> tuple[str, str]:
        """MAC of the DUT end and of the partner's end, locally administered."""
        number = self.name.removeprefix(NAME_PREFIX)
        high, low = number[:2], number[2:]
        return f"02:78:64:00:{high}:{low}", f"02:78:64:01:{high}:{low}"

    @property
    def addresses(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """(IPv4, IPv6) of the DUT and of the partner, without prefix length."""
        dut = str(self.ipv4[1]), str(self.ipv6[1])
        return dut, (str(self.ipv4[2]), str(self.ipv6[2]))


def partner_ifname_of(name: str) -> str:
    """The partner's end of the link of the lab of that name."""
    return f"peer-{name.removeprefix(NAME_PREFIX)}"


def free_plans(taken: Iterable[Network]) -> Iterator[LabPlan]:
    """Plans in random order, each number once, none of whose networks overlaps one of ``taken``.

    :param taken: networks that have a route or an address here; default routes count as free.
    """
    used = [network for network in taken if network.prefixlen]
    pools = [ipaddress.IPv4Network(pool) for pool in _IPV4_POOLS]
    first, step = secrets.randbelow(NUM_PLANS), secrets.randbelow(NUM_PLANS) | 1
    for count in range(NUM_PLANS):
        # An odd step walks through every number below a power of two.
        number = (first + count * step) % NUM_PLANS
        ipv6 = _ipv6_network(number)
        for pool in pools:
            ipv4 = ipaddress.IPv4Network((int(pool.network_address) + 4 * number, 30))
            if not _overlaps(ipv4, used) and not _overlaps(ipv6, used):
                yield LabPlan(f"{NAME_PREFIX}{number:04x}", ipv4, ipv6)
                break


def _ipv6_network(number: int) -> ipaddress.IPv6Network:
    global_id = secrets.randbits(40)
    return ipaddress.IPv6Network(((0xFD << 120) | (global_id << 80) | (number << 64), 64))


def _overlaps(network: Network, used: Iterable[Network]) -> bool:
    return any(network.version == other.version and network.overlaps(other) for other in used)
