# SPDX-License-Identifier: GPL-2.0-only
"""From what the BPF program stored ahead of packets to the columns of their samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdptstamp import packet
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


def _read_meta(umem: Umem, rx_addrs: Addrs) -> npt.NDArray[np.void]:
    # The structs ahead of the packets at rx_addrs; shape (len(rx_addrs),).
    return umem.gather(rx_addrs - META_LEN, META_LEN).view(META_DTYPE).reshape(-1)


def fill_rx_columns(rows: Batch, umem: Umem, rx_addrs: Addrs) -> None:
    """Fill ``rx_hw_ns``, ``rx_xdp_ns`` and the hints; rows without our struct stay null."""
    meta = _read_meta(umem, rx_addrs)
    is_ours = meta["version"] == META_VERSION
    rows["rx_xdp_ns"] = np.where(is_ours, meta["rx_xdp_ns"].astype(np.int64), NULL)
    for valid, columns in (
        (VALID_RX_HW, (("rx_hw_ns", "rx_hw_ns"),)),
        (VALID_HASH, (("rx_hash", "hash"), ("rx_hash_type", "hash_type"))),
        (VALID_VLAN, (("rx_vlan_proto", "vlan_proto"), ("rx_vlan_tci", "vlan_tci"))),
    ):
        is_valid = is_ours & ((meta["valid"] & valid) != 0)
        for column, field in columns:
            rows[column] = np.where(is_valid, meta[field].astype(np.int64), NULL)
    # The kfuncs return negative errnos; files hold errnos.
    for column, field in (
        ("rx_hw_errno", "rx_hw_errno"),
        ("rx_hash_errno", "hash_errno"),
        ("rx_vlan_errno", "vlan_errno"),
    ):
        rows[column] = np.where(is_ours, -meta[field], 0)


def fill_csum_columns(rows: Batch, umem: Umem, rx_addrs: Addrs, tx_addrs: Addrs) -> None:
    """Fill the checksum columns of replies, which still stand in their frames."""
    meta = _read_meta(umem, rx_addrs)
    csum_start = meta["l4_offset"].astype(np.int64) + (rx_addrs - tx_addrs)
    field = umem.gather(tx_addrs + csum_start + packet.UDP_CSUM_OFFSET, 2)
    rows["tx_csum"] = field.view(">u2").reshape(-1)
    rows["tx_csum_want"] = meta["udp_csum"].byteswap()
    rows["tx_csum_start"] = csum_start
