# SPDX-License-Identifier: GPL-2.0-only
"""Addresses and routes of an interface, kept over its going down and up.

The kernel takes away every IPv6 address and every route of an interface that goes down.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xdptstamp.errors import SetupError, SystemCallError

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_PERMANENT = 0x80  # IFA_F_PERMANENT: not one that an advertisement or DHCP gave for a time
_NODAD = 0x02
_LINK_SCOPE = 253
_UNICAST = 1
_KERNEL_PROTO = 2
_EEXIST = 17

# Of a route, by the name pyroute2 takes; the rest of it is the kernel's own (caches, expiry).
_ROUTE_ATTRIBUTES = {
    "dst": "RTA_DST",
    "gateway": "RTA_GATEWAY",
    "prefsrc": "RTA_PREFSRC",
    "priority": "RTA_PRIORITY",
    "table": "RTA_TABLE",
}

_Values = tuple[tuple[str, Any], ...]


class Addressing:
    """What an interface has now, to be put back."""

    def __init__(self, ifindex: int) -> None:
        from pyroute2 import IPRoute

        with IPRoute() as ipr:
            self._addresses = _addresses(ipr, ifindex)
            self._routes = _routes(ipr, ifindex)

    def put_back(self, ifname: str, ifindex: int) -> None:
        """Add what is missing; what others have added meanwhile stays.

        :param ifindex: of the interface, which must be up; it may be another one than it was.
        :raises SetupError: Something could not be put back; it is named.
        """
        from pyroute2 import IPRoute

        with IPRoute() as ipr:
            # Routes may name addresses as their source. Of IPv6 addresses of one scope the kernel
            # puts the newest first, and it matters which is first (ipv6_link_dev_addr).
            missing = _missing(self._addresses, _addresses(ipr, ifindex))[::-1]
            _put_back(ifname, "addr", [{**values, "index": ifindex} for values in missing], ipr)
            missing = _missing(self._routes, _routes(ipr, ifindex))
            _put_back(ifname, "route", [{**values, "oif": ifindex} for values in missing], ipr)


@contextlib.contextmanager
def kept(ifname: str, ifindex: int) -> Iterator[None]:
    """Whatever happens inside, afterwards the interface has the addresses and routes it had.

    The interface must be up again at the end.

    :raises SetupError: Something could not be put back; it is named.
    """
    before = Addressing(ifindex)
    try:
        yield
    finally:
        before.put_back(ifname, ifindex)


def _missing(before: list[_Values], after: list[_Values]) -> list[dict[str, Any]]:
    return [dict(values) for values in before if values not in after]


def _addresses(ipr: IPRoute, ifindex: int) -> list[_Values]:
    found = []
    for message in ipr.get_addr(index=ifindex):
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        if flags & _PERMANENT and message["scope"] != _LINK_SCOPE:
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            values = {
                "family": message["family"],
                "address": address,
                "prefixlen": message["prefixlen"],
                "scope": message["scope"],
                "flags": flags & _NODAD,
            }
            found.append(tuple(values.items()))
    return found


def _routes(ipr: IPRoute, ifindex: int) -> list[_Values]:
    # The kernel's own, of the addresses, come back with them.
    found = []
    for message in ipr.get_routes():
        is_static = message["proto"] != _KERNEL_PROTO and message["type"] == _UNICAST
        if message.get_attr("RTA_OIF") == ifindex and is_static:
            values = {
                "family": message["family"],
                "dst_len": message["dst_len"],
                "proto": message["proto"],
                "scope": message["scope"],
                "type": message["type"],
            }
            for name, attribute in _ROUTE_ATTRIBUTES.items():
                value = message.get_attr(attribute)
                if value is not None:
                    values[name] = value
            found.append(tuple(values.items()))
    return found


def _put_back(ifname: str, what: str, missing: list[dict[str, Any]], ipr: IPRoute) -> None:
    from pyroute2 import NetlinkError

    for values in missing:
        try:
            getattr(ipr, what)("add", **values)
        except NetlinkError as error:
            if error.code == _EEXIST:
                continue
            name = values.get("address") or values.get("dst") or "default"
            length = values.get("prefixlen", values.get("dst_len"))
            raise SetupError(
                ifname,
                f"its {what} {name}/{length} is not back: "
                f"{SystemCallError(error.code, f'adding the {what}', ifname)}",
            ) from None
