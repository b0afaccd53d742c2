# SPDX-License-Identifier: GPL-2.0-only
"""What XDP and AF_XDP can do on an interface, as the kernel's netdev netlink family tells.

A feature is True, False, or None: this kernel does not tell, and ``unknown`` says why. Bits are
those of include/uapi/linux/netdev.h.
"""

from __future__ import annotations

import errno
import functools
from dataclasses import dataclass
from typing import Any

from xdptstamp import _genl
from xdptstamp.errors import SetupError, SystemCallError

_FAMILY = "netdev"
_CMD_DEV_GET = 1


@dataclass(frozen=True, slots=True)
class Features:
    """Features of one interface; the raw masks are None where the kernel does not tell.

    :param xdp: enum netdev_xdp_act.
    :param zc_max_segs: fragments a zero-copy packet may have; None without zero-copy.
    :param rx_metadata: enum netdev_xdp_rx_metadata: what the Rx kfuncs can give.
    :param xsk: enum netdev_xsk_flags: what an AF_XDP socket may ask of a Tx packet.
    :param unknown: why a mask is None; empty if none is.
    """

    xdp: int | None
    zc_max_segs: int | None
    rx_metadata: int | None
    xsk: int | None
    unknown: str = ""

    @property
    def is_xdp(self) -> bool | None:
        """The driver runs XDP programs (native mode)."""
        return _bit(self.xdp, 1)

    @property
    def is_redirect(self) -> bool | None:
        """XDP_REDIRECT, without which nothing reaches an AF_XDP socket in native mode."""
        return _bit(self.xdp, 2)

    @property
    def is_zero_copy(self) -> bool | None:
        """AF_XDP sockets may be bound zero-copy."""
        return _bit(self.xdp, 8)

    @property
    def is_hw_offload(self) -> bool | None:
        """XDP programs may run on the NIC."""
        return _bit(self.xdp, 16)

    @property
    def is_rx_multi_buffer(self) -> bool | None:
        """XDP sees packets larger than a buffer."""
        return _bit(self.xdp, 32)

    @property
    def is_rx_timestamp(self) -> bool | None:
        """bpf_xdp_metadata_rx_timestamp() can give a hardware timestamp."""
        return _bit(self.rx_metadata, 1)

    @property
    def is_rx_hash(self) -> bool | None:
        """bpf_xdp_metadata_rx_hash() can give the packet's hash."""
        return _bit(self.rx_metadata, 2)

    @property
    def is_rx_vlan_tag(self) -> bool | None:
        """bpf_xdp_metadata_rx_vlan_tag() can give a stripped VLAN tag."""
        return _bit(self.rx_metadata, 4)

    @property
    def is_tx_timestamp(self) -> bool | None:
        """A zero-copy socket may ask for hardware Tx timestamps."""
        return _bit(self.xsk, 1)

    @property
    def is_tx_checksum(self) -> bool | None:
        """A zero-copy socket may ask the NIC for the L4 checksum."""
        return _bit(self.xsk, 2)

    @property
    def is_tx_launch_time(self) -> bool | None:
        """A zero-copy socket may ask for a launch time (in the order of submission)."""
        return _bit(self.xsk, 4)

    def to_json(self) -> dict[str, Any]:
        """Every feature by name, the raw masks, and why something is unknown."""
        flags = {name: getattr(self, name) for name in _FLAG_NAMES}
        masks = {"xdp": self.xdp, "rx_metadata": self.rx_metadata, "xsk": self.xsk}
        return {**flags, "zc_max_segs": self.zc_max_segs, "masks": masks, "unknown": self.unknown}


def read_features(ifindex: int, family: str = _FAMILY) -> Features:
    """Ask the kernel for the features of an interface.

    :param family: name of the generic netlink family.
    :raises SetupError: If the interface is gone.
    :raises SystemCallError: If the kernel refuses to answer.
    """
    answer = _ask(ifindex, family)
    if answer is None:
        unknown = f"this kernel has no netlink family {family} (Linux >= 6.3 has it)"
        return Features(None, None, None, None, unknown)
    return from_masks(*answer)


def from_masks(
    xdp: int | None, zc_max_segs: int | None, rx_metadata: int | None, xsk: int | None
) -> Features:
    """The features that a kernel's answer means; None: it has no such attribute."""
    missing = [
        f"{name} (Linux >= {version})"
        for name, version, mask in (
            ("xdp-features", "6.3", xdp),
            ("xdp-rx-metadata-features", "6.6", rx_metadata),
            ("xsk-features", "6.8", xsk),
        )
        if mask is None
    ]
    unknown = f"this kernel does not tell {', '.join(missing)}" if missing else ""
    return Features(xdp, zc_max_segs, rx_metadata, xsk, unknown)


_FLAG_NAMES = tuple(name for name in vars(Features) if name.startswith("is_"))


def _bit(mask: int | None, bit: int) -> bool | None:
    return None if mask is None else bool(mask & bit)


def _ask(ifindex: int, family: str) -> tuple[int | None, ...] | None:
    question = [("NETDEV_A_DEV_IFINDEX", ifindex)]
    try:
        answer = _genl.ask(family, _message_class(), _CMD_DEV_GET, question, "NETDEV_CMD_DEV_GET")
    except SystemCallError as error:
        if error.errno in {errno.ENODEV, errno.ERANGE, errno.EINVAL}:
            problem = "no such interface in this namespace"
            raise SetupError(f"ifindex {ifindex}", problem) from None
        raise
    return None if answer is None else tuple(answer.get_attr(name) for name in _ATTRIBUTES)


_ATTRIBUTES = (
    "NETDEV_A_DEV_XDP_FEATURES",
    "NETDEV_A_DEV_XDP_ZC_MAX_SEGS",
    "NETDEV_A_DEV_XDP_RX_METADATA_FEATURES",
    "NETDEV_A_DEV_XSK_FEATURES",
)


@functools.cache
def _message_class() -> Any:
    from pyroute2.netlink import genlmsg

    class Message(genlmsg):  # type: ignore[misc]
        prefix = "NETDEV_A_DEV_"
        nla_map = (
            ("NETDEV_A_DEV_UNSPEC", "none"),
            ("NETDEV_A_DEV_IFINDEX", "uint32"),
            ("NETDEV_A_DEV_PAD", "hex"),
            ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
            ("NETDEV_A_DEV_XDP_ZC_MAX_SEGS", "uint32"),
            ("NETDEV_A_DEV_XDP_RX_METADATA_FEATURES", "uint64"),
            ("NETDEV_A_DEV_XSK_FEATURES", "uint64"),
        )

    return Message
