# SPDX-License-Identifier: GPL-2.0-only
"""What the NIC does to a packet for the driver: VLAN tags, checksums, TCP segments."""

from __future__ import annotations

from dataclasses import dataclass

from xdptstamp.lab.i226 import registers as reg

_VLAN = b"\x81\x00"
_TCP_FIN_PSH = 0x09
_MIN_TCP = 20
_UDP_SIZE = 8
# The most that Linux makes of one packet is 64 KiB (GSO_LEGACY_MAX_SIZE) in segments of at least
# 32 bytes or so; a smaller mss would only keep this process from its other duties.
_MAX_SEGMENTS = 2048
_MAX_SEGMENT = 9728


@dataclass(frozen=True, slots=True)
class Context:
    """A Tx context descriptor: where the headers are, and what to do.

    :ivar launch: launch time, ns into the cycle.
    """

    vlan: int = 0
    mac_size: int = 0
    ip_size: int = 0
    flags: int = 0
    mss: int = 0
    tcp_size: int = 0
    launch: int = 0
    is_first: bool = False

    @classmethod
    def parse(cls, first: int, launch: int, flags: int, last: int) -> Context:
        """From the four words of the descriptor."""
        return cls(
            vlan=first >> 16,
            mac_size=(first >> 9) & 0x7F,
            ip_size=first & 0x1FF,
            flags=flags,
            mss=last >> 16,
            tcp_size=(last >> 8) & 0xFF,
            launch=launch,
            is_first=bool(last & reg.ADVTXD_TSN_CNTX_FIRST),
        )

    @property
    def is_tcp(self) -> bool:
        """L4 is TCP."""
        return bool(self.flags & reg.ADVTXD_TUCMD_L4T_TCP)

    @property
    def is_sctp(self) -> bool:
        """L4 is SCTP, whose checksum is a CRC32c."""
        return bool(self.flags & reg.ADVTXD_TUCMD_L4T_SCTP)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of ``data``, not inverted."""
    if len(data) & 1:
        data += b"\0"
    # 2^16 is 1 modulo 65535, so the number itself is the sum of its words.
    total = int.from_bytes(data, "big")
    return (total % 0xFFFF) or (0xFFFF if total else 0)


def insert_vlan(packet: bytes, tci: int) -> bytes:
    """The packet with an 802.1Q tag behind its addresses."""
    return packet[:12] + _VLAN + tci.to_bytes(2, "big") + packet[12:]


def strip_vlan(packet: bytes) -> tuple[bytes, int | None]:
    """The packet without its 802.1Q tag, and the TCI; None: it has none."""
    if packet[12:14] != _VLAN or len(packet) < 18:
        return packet, None
    return packet[:12] + packet[16:], int.from_bytes(packet[14:16], "big")


def insert_checksums(packet: bytes, context: Context, options: int) -> bytes:
    """The packet with IPv4 and UDP, TCP or SCTP checksums filled in as ``options`` ask (POPTS).

    The driver has put the pseudo-header's sum into the L4 field. Headers that lie outside of the
    packet are left alone.
    """
    data = bytearray(packet)
    ip = context.mac_size
    l4 = ip + context.ip_size
    if options & reg.ADVTXD_POPTS_IXSM and l4 <= len(data) and context.ip_size >= 20:
        data[ip + 10 : ip + 12] = b"\0\0"
        _store(data, ip + 10, checksum(bytes(data[ip:l4])))
    if options & reg.ADVTXD_POPTS_TXSM:
        end = _l4_end(data, ip)
        if context.is_sctp:
            _store_crc32c(data, l4, end)
        else:
            field = l4 + (16 if context.is_tcp else 6)
            if field + 2 <= end:
                total = checksum(bytes(data[l4:end]))
                _store(data, field, total, is_udp=not context.is_tcp)
    return bytes(data)


def segment(packet: bytes, context: Context) -> list[bytes]:
    """The TCP or UDP segments of a large send, each with its own headers; no checksums yet.

    A packet whose headers make no sense is dropped: no segments.
    """
    l4 = context.mac_size + context.ip_size
    header_size = l4 + context.tcp_size
    header, payload = packet[:header_size], packet[header_size:]
    if not _is_sensible(context, len(payload)):
        return []
    segments = []
    for index, start in enumerate(range(0, len(payload), context.mss)):
        part = payload[start : start + context.mss]
        data = bytearray(header)
        size = context.tcp_size + len(part)
        _set_ip_size(data, context, size, index)
        if context.is_tcp:
            sequence = int.from_bytes(data[l4 + 4 : l4 + 8], "big") + start
            data[l4 + 4 : l4 + 8] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
            if start + context.mss < len(payload):
                data[l4 + 13] &= ~_TCP_FIN_PSH
        else:
            data[l4 + 4 : l4 + 6] = size.to_bytes(2, "big")
        # The driver has left the length out of the pseudo-header's sum (igc_tso).
        field = l4 + (16 if context.is_tcp else 6)
        seed = int.from_bytes(data[field : field + 2], "big") + size
        data[field : field + 2] = ((seed & 0xFFFF) + (seed >> 16)).to_bytes(2, "big")
        segments.append(bytes(data) + part)
    return segments


def _is_sensible(context: Context, payload_size: int) -> bool:
    min_ip = 20 if context.flags & reg.ADVTXD_TUCMD_IPV4 else 40
    min_l4 = _MIN_TCP if context.is_tcp else _UDP_SIZE
    headers = context.mac_size + context.ip_size + context.tcp_size
    return (
        not context.is_sctp
        and context.ip_size >= min_ip
        and context.tcp_size >= min_l4
        and 0 < payload_size <= _MAX_SEGMENTS * context.mss
        and headers + context.mss <= _MAX_SEGMENT
    )


def _set_ip_size(data: bytearray, context: Context, l4_size: int, index: int) -> None:
    ip = context.mac_size
    if context.flags & reg.ADVTXD_TUCMD_IPV4:
        number = int.from_bytes(data[ip + 4 : ip + 6], "big") + index
        data[ip + 2 : ip + 4] = (context.ip_size + l4_size).to_bytes(2, "big")
        data[ip + 4 : ip + 6] = (number & 0xFFFF).to_bytes(2, "big")
    else:
        data[ip + 4 : ip + 6] = (context.ip_size - 40 + l4_size).to_bytes(2, "big")


def _l4_end(data: bytearray, ip: int) -> int:
    # Padding behind the IP packet is no part of it.
    if data[ip : ip + 1] and data[ip] >> 4 == 4:
        size = int.from_bytes(data[ip + 2 : ip + 4], "big")
    else:
        size = int.from_bytes(data[ip + 4 : ip + 6], "big") + 40
    return min(len(data), ip + size) if size else len(data)


def _store(data: bytearray, offset: int, total: int, *, is_udp: bool = False) -> None:
    value = ~total & 0xFFFF
    # A UDP checksum of 0 means none (RFC 768).
    data[offset : offset + 2] = (value or (0xFFFF if is_udp else 0)).to_bytes(2, "big")


def _crc32c_table() -> list[int]:
    # The remainder of each byte by the reversed Castagnoli polynomial.
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table


_CRC32C = _crc32c_table()


def _store_crc32c(data: bytearray, l4: int, end: int) -> None:
    if l4 + 12 > end:
        return
    data[l4 + 8 : l4 + 12] = b"\0\0\0\0"
    crc = 0xFFFFFFFF
    for byte in data[l4:end]:
        crc = (crc >> 8) ^ _CRC32C[(crc ^ byte) & 0xFF]
    data[l4 + 8 : l4 + 12] = (crc ^ 0xFFFFFFFF).to_bytes(4, "little")
