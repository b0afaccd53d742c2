# SPDX-License-Identifier: GPL-2.0-only
"""The AF_XDP user-space ABI (include/uapi/linux/if_xdp.h).

Kept here, not taken from installed headers: those of Debian 12 lack ``tx_metadata_len`` and all
of ``XDP_TXMD_*``. A test compiles the sizes and offsets in C.
"""

from __future__ import annotations

import ctypes

AF_XDP = 44
SOL_XDP = 283

XDP_MMAP_OFFSETS = 1
XDP_RX_RING = 2
XDP_TX_RING = 3
XDP_UMEM_REG = 4
XDP_UMEM_FILL_RING = 5
XDP_UMEM_COMPLETION_RING = 6
XDP_STATISTICS = 7
XDP_OPTIONS = 8
# Linux commit 45e359be1ce8 ("net: xsk: introduce XDP_MAX_TX_BUDGET setsockopt") (in v6.17)
XDP_MAX_TX_SKB_BUDGET = 9

XDP_OPTIONS_ZEROCOPY = 1

XDP_COPY = 1 << 1
XDP_ZEROCOPY = 1 << 2
XDP_USE_NEED_WAKEUP = 1 << 3
# Since v6.6.
XDP_USE_SG = 1 << 4

# Linux commit d5e726d9143c ("xsk: Require XDP_UMEM_TX_METADATA_LEN to actuate
# tx_metadata_len") (in v6.11); without the flag the length is silently ignored.
XDP_UMEM_TX_METADATA_LEN = 1 << 2

XDP_PKT_CONTD = 1 << 0
XDP_TX_METADATA = 1 << 1

XDP_TXMD_FLAGS_TIMESTAMP = 1 << 0
XDP_TXMD_FLAGS_CHECKSUM = 1 << 1
XDP_TXMD_FLAGS_LAUNCH_TIME = 1 << 2

XDP_PGOFF_RX_RING = 0
XDP_PGOFF_TX_RING = 0x80000000
XDP_UMEM_PGOFF_FILL_RING = 0x100000000
XDP_UMEM_PGOFF_COMPLETION_RING = 0x180000000

XDP_RING_NEED_WAKEUP = 1

XDP_PACKET_HEADROOM = 256


class xdp_umem_reg(ctypes.Structure):
    _fields_ = (
        ("addr", ctypes.c_uint64),
        ("len", ctypes.c_uint64),
        ("chunk_size", ctypes.c_uint32),
        ("headroom", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("tx_metadata_len", ctypes.c_uint32),
    )


class sockaddr_xdp(ctypes.Structure):
    _fields_ = (
        ("sxdp_family", ctypes.c_uint16),
        ("sxdp_flags", ctypes.c_uint16),
        ("sxdp_ifindex", ctypes.c_uint32),
        ("sxdp_queue_id", ctypes.c_uint32),
        ("sxdp_shared_umem_fd", ctypes.c_uint32),
    )


class xdp_ring_offset(ctypes.Structure):
    _fields_ = (
        ("producer", ctypes.c_uint64),
        ("consumer", ctypes.c_uint64),
        ("desc", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


class xdp_mmap_offsets(ctypes.Structure):
    _fields_ = (
        ("rx", xdp_ring_offset),
        ("tx", xdp_ring_offset),
        ("fr", xdp_ring_offset),
        ("cr", xdp_ring_offset),
    )


class xdp_statistics(ctypes.Structure):
    _fields_ = (
        ("rx_dropped", ctypes.c_uint64),
        ("rx_invalid_descs", ctypes.c_uint64),
        ("tx_invalid_descs", ctypes.c_uint64),
        ("rx_ring_full", ctypes.c_uint64),
        ("rx_fill_ring_empty_descs", ctypes.c_uint64),
        ("tx_ring_empty_descs", ctypes.c_uint64),
    )


class xdp_desc(ctypes.Structure):
    _fields_ = (
        ("addr", ctypes.c_uint64),
        ("len", ctypes.c_uint32),
        ("options", ctypes.c_uint32),
    )


class xsk_tx_metadata(ctypes.Structure):
    # 24 bytes since v6.15 (launch time); the first 16 are the same before.
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("tx_timestamp", ctypes.c_uint64),
        ("launch_time", ctypes.c_uint64),
    )
