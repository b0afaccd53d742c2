# SPDX-License-Identifier: GPL-2.0-only
"""What a network driver answers to ethtool's generic netlink family: what its ioctls cannot tell.

The ioctls do not tell what a driver does not have from what is 0, and the one for EEE makes the
kernel log complain. Numbers are those of include/uapi/linux/ethtool_netlink_generated.h. ``None``
as an answer means that the driver, or this kernel, does not implement the request.
"""

from __future__ import annotations

import errno
import functools
from dataclasses import dataclass
from typing import Any

from xdptstamp import _genl
from xdptstamp.errors import SetupError, SystemCallError

_FAMILY = "ethtool"
_COALESCE_GET, _PAUSE_GET, _EEE_GET = 19, 21, 23


@dataclass(frozen=True, slots=True)
class Coalescing:
    """``ethtool -c``: how long an interrupt is held back; None: the driver has no such setting."""

    rx_usecs: int | None
    tx_usecs: int | None
    is_adaptive_rx: bool | None
    is_adaptive_tx: bool | None


@dataclass(frozen=True, slots=True)
class Eee:
    """``ethtool --show-eee``: Energy-Efficient Ethernet.

    :param is_active: negotiated with the link partner.
    """

    is_enabled: bool
    is_active: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """``ethtool -a``: flow control by pause frames, heeded (``rx``) and sent (``tx``)."""

    is_autoneg: bool
    rx: bool
    tx: bool


def coalescing(ifindex: int) -> Coalescing | None:
    """How interrupts are held back."""
    get = _ask(ifindex, _COALESCE_GET, "COALESCE")
    if get is None:
        return None
    adaptive = [get(f"USE_ADAPTIVE_{side}") for side in ("RX", "TX")]
    is_adaptive = [None if value is None else bool(value) for value in adaptive]
    return Coalescing(get("RX_USECS"), get("TX_USECS"), *is_adaptive)


def eee(ifindex: int) -> Eee | None:
    """Energy-Efficient Ethernet."""
    get = _ask(ifindex, _EEE_GET, "EEE")
    return None if get is None else Eee(bool(get("ENABLED")), bool(get("ACTIVE")))


def pause(ifindex: int) -> Pause | None:
    """Flow control."""
    get = _ask(ifindex, _PAUSE_GET, "PAUSE")
    return None if get is None else Pause(*(bool(get(name)) for name in ("AUTONEG", "RX", "TX")))


def _ask(ifindex: int, command: int, prefix: str) -> Any | None:
    header = {"attrs": [("ETHTOOL_A_HEADER_DEV_INDEX", ifindex)]}
    question = [(f"ETHTOOL_A_{prefix}_HEADER", header)]
    call = f"ETHTOOL_MSG_{prefix}_GET"
    try:
        answer = _genl.ask(_FAMILY, _message_classes()[prefix], command, question, call)
    except SystemCallError as error:
        if error.errno == errno.EOPNOTSUPP:
            return None
        if error.errno == errno.ENODEV:
            problem = "the interface is gone, or its driver is resetting it"
            raise SetupError(f"interface {ifindex}", problem) from None
        raise
    return None if answer is None else lambda name: answer.get_attr(f"ETHTOOL_A_{prefix}_{name}")


@functools.cache
def _message_classes() -> dict[str, Any]:
    from pyroute2.netlink import NLA_F_NESTED, genlmsg, nla

    class Header(nla):  # type: ignore[misc]
        nla_flags = NLA_F_NESTED
        prefix = "ETHTOOL_A_HEADER_"
        nla_map = (("ETHTOOL_A_HEADER_UNSPEC", "none"), ("ETHTOOL_A_HEADER_DEV_INDEX", "uint32"))

    attributes = {
        "COALESCE": "RX_USECS:uint32 RX_MAX_FRAMES:uint32 RX_USECS_IRQ:uint32 "
        "RX_MAX_FRAMES_IRQ:uint32 TX_USECS:uint32 TX_MAX_FRAMES:uint32 TX_USECS_IRQ:uint32 "
        "TX_MAX_FRAMES_IRQ:uint32 STATS_BLOCK_USECS:uint32 USE_ADAPTIVE_RX:uint8 "
        "USE_ADAPTIVE_TX:uint8",
        "EEE": "MODES_OURS:hex MODES_PEER:hex ACTIVE:uint8 ENABLED:uint8",
        "PAUSE": "AUTONEG:uint8 RX:uint8 TX:uint8",
    }
    return {name: _message_class(genlmsg, Header, name, text) for name, text in attributes.items()}


def _message_class(base: Any, header: Any, prefix: str, text: str) -> Any:
    base_name = f"ETHTOOL_A_{prefix}_"
    kinds = ["UNSPEC:none", "HEADER:request_header", *text.split()]
    named = [(base_name + name, kind) for name, _, kind in (word.partition(":") for word in kinds)]
    members = {"prefix": base_name, "nla_map": tuple(named), "request_header": header}
    return type(prefix.title(), (base,), members)
