# SPDX-License-Identifier: GPL-2.0-only
"""From what the BPF program stored ahead of packets to the columns of their samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdptstamp import packet
from xdptstamp.identity import PAYLOAD_BYTES, payload_ids
from xdptstamp.program import (
    META_DTYPE,
    META_LEN,
    META_VERSION,
    VALID_HASH,
    VALID_RX_HW,
    VALID_VLAN,
)
from xdptstamp.sample import NULL, Batch
from xdptstamp.umem import Umem

Addrs = npt.NDArray[np.int64]


Metas = npt.NDArray[np.void]


def read_meta(umem: Umem, rx_addrs: Addrs) -> Metas:
    """The structs ahead of the packets at ``rx_addrs``; shape (len(rx_addrs),)."""
    return umem.gather(rx_addrs - META_LEN, META_LEN).view(META_DTYPE).reshape(-1)


def is_ours(meta: Metas) -> npt.NDArray[np.bool_]:
    """Whether our program stored it; nothing is known of other packets."""
    found: npt.NDArray[np.bool_] = meta["version"] == META_VERSION
    return found


def fill_rx_columns(rows: Batch, meta: Metas) -> None:
    """Fill ``rx_xdp_ns``, ``rx_hw_ns`` and the hints; what is not valid stays null."""
    rows["rx_xdp_ns"] = meta["rx_xdp_ns"]
    valid = meta["valid"]
    for bit, columns in _HINTS:
        is_valid = (valid & bit) != 0
        if is_valid.any():
            for column, field in columns:
                rows[column] = np.where(is_valid, meta[field].astype(np.int64), NULL)
    # The kfuncs return negative errnos; files hold errnos.
    rows["rx_hw_errno"] = -meta["rx_hw_errno"]
    rows["rx_hash_errno"] = -meta["hash_errno"]
    rows["rx_vlan_errno"] = -meta["vlan_errno"]


def fill_csum_columns(rows: Batch, umem: Umem, meta: Metas, shift: Addrs, tx_addrs: Addrs) -> None:
    """Fill the checksum columns of replies, which still stand in their frames.

    :param shift: how many bytes ahead of its request each reply starts.
    """
    csum_start = meta["l4_offset"] + shift
    field = umem.gather(tx_addrs + csum_start + packet.UDP_CSUM_OFFSET, 2)
    rows["tx_csum"] = field.view(">u2").reshape(-1)
    rows["tx_csum_want"] = meta["udp_csum"].byteswap()
    rows["tx_csum_start"] = csum_start


def fill_payload_ids(rows: Batch, umem: Umem, meta: Metas, rx_addrs: Addrs) -> None:
    """Fill ``payload_id`` of packets whose UDP payload still stands where it came, answered or not.

    :param rx_addrs: where they came.
    """
    udp = umem.gather(rx_addrs + meta["l4_offset"], packet.UDP_LEN + PAYLOAD_BYTES)
    length = udp[:, 4:6].copy().view(">u2").astype(np.int64) - packet.UDP_LEN
    is_payload = np.arange(PAYLOAD_BYTES) < length
    rows["payload_id"] = payload_ids(udp[:, packet.UDP_LEN :] * is_payload)


# bit of valid: (column, field) pairs that it vouches for.
_HINTS = (
    (VALID_RX_HW, (("rx_hw_ns", "rx_hw_ns"),)),
    (VALID_HASH, (("rx_hash", "hash"), ("rx_hash_type", "hash_type"))),
    (VALID_VLAN, (("rx_vlan_proto", "vlan_proto"), ("rx_vlan_tci", "vlan_tci"))),
)
