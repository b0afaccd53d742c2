# SPDX-License-Identifier: GPL-2.0-only
"""The Tx metadata ahead of a packet to send (struct xsk_tx_metadata).

The kernel stores a stamp over the request's bytes and nothing else: no validity bit, no status.
Hence the sentinel: bytes 12 to 15 are free in every request, and no stamp has them all ones.
"""

from __future__ import annotations

import struct

from xdptstamp._sys.if_xdp import (
    XDP_TX_METADATA,
    XDP_TXMD_FLAGS_CHECKSUM,
    XDP_TXMD_FLAGS_LAUNCH_TIME,
    XDP_TXMD_FLAGS_TIMESTAMP,
)
from xdptstamp.errors import SetupError

#: Bytes of struct xsk_tx_metadata since Linux v6.15; older kernels use the first 16 and ignore
#: the rest, so this length serves all.
METADATA_LEN = 24

#: Offset of ``tx_timestamp`` in it, shared with ``csum_start`` and ``csum_offset``.
STAMP_OFFSET = 8

#: Offset of ``launch_time``.
LAUNCH_OFFSET = 16

#: desc.options of a packet with Tx metadata.
OPTION = XDP_TX_METADATA

TIMESTAMP = XDP_TXMD_FLAGS_TIMESTAMP
CHECKSUM = XDP_TXMD_FLAGS_CHECKSUM
#: Not written by :func:`write_request`.
LAUNCH_TIME = XDP_TXMD_FLAGS_LAUNCH_TIME

#: The upper 32 bits of the stamp field as requested. As a stamp they would lie beyond year 2554.
SENTINEL = 0xFFFFFFFF << 32

_REQUEST = struct.Struct("<QQ")  # launch_time, behind it, is read only where a flag asks for it
_WORD = struct.Struct("<Q")
_UNKNOWN_FLAGS = ~(TIMESTAMP | CHECKSUM)


def write_request(
    view: memoryview, metadata_addr: int, flags: int, csum_start: int = 0, csum_offset: int = 0
) -> None:
    """Write a request into a packet's Tx metadata.

    The stamp field always gets the sentinel, so that a frame's last stamp cannot be read again.

    :param view: the UMEM's bytes.
    :param metadata_addr: where the metadata starts: ``addr`` minus the UMEM's tx_metadata_len.
    :param flags: :data:`TIMESTAMP`, :data:`CHECKSUM`, both, or 0: some kernels honour a flag left
        over from the frame's last use even where desc.options does not ask (Linux v6.12).
    :param csum_start: bytes from the start of the packet to where summing begins.
    :param csum_offset: bytes from there to the checksum field.
    :raises SetupError: A flag that this kernel may not know: in copy mode it would refuse the
        packet, and with it everything behind it in the Tx ring, for good.
    """
    if flags & _UNKNOWN_FLAGS:
        raise SetupError(
            "Tx metadata",
            f"flags {flags:#x} are not TIMESTAMP {TIMESTAMP:#x} and CHECKSUM {CHECKSUM:#x}",
        )
    request = csum_start | csum_offset << 16 if flags & CHECKSUM else 0
    _REQUEST.pack_into(view, metadata_addr, flags, request | SENTINEL)


def read_stamp(view: memoryview, metadata_addr: int) -> int | None:
    """The stamp in a completed packet's Tx metadata, in ns; None if the kernel wrote none.

    Whether the value can be true is :func:`xdptstamp.stamp.judge`'s to say.
    """
    value: int = _WORD.unpack_from(view, metadata_addr + STAMP_OFFSET)[0]
    return None if value >= SENTINEL else value
