# SPDX-License-Identifier: GPL-2.0-only
"""Test packets: turning a request into its reply in place, and building requests."""

from __future__ import annotations

import ipaddress
import struct

VLAN_LEN = 4
UDP_LEN = 8

#: Offset of the checksum in the UDP header.
UDP_CSUM_OFFSET = 6

_MACS = struct.Struct("6s6s")
# From the addresses to the end of the UDP header: source, destination, ports, length, checksum.
_TAIL4 = struct.Struct("=4s4s2s2s2sH")
_TAIL6 = struct.Struct("=16s16s2s2s2sH")
_TAIL4_OFFSET, _TAIL6_OFFSET = 12, 8
_VLAN = struct.Struct("!HH")
_IPPROTO_UDP = 17


def turn_around(
    view: memoryview, addr: int, l3_offset: int, ip_version: int, udp_csum: int
) -> None:
    """Swap MAC addresses, IP addresses and ports of a checked UDP packet; tags stay.

    :param view: the UMEM's bytes.
    :param addr: where the packet starts.
    :param l3_offset: where its IP header (without options) starts, from ``addr``.
    :param udp_csum: what to write as checksum, as it lies in memory. Swapping leaves the sum
        alone, so the request's right checksum is the reply's.
    """
    destination, source = _MACS.unpack_from(view, addr)
    _MACS.pack_into(view, addr, source, destination)
    if ip_version == 4:
        tail, offset = _TAIL4, addr + l3_offset + _TAIL4_OFFSET
    else:
        tail, offset = _TAIL6, addr + l3_offset + _TAIL6_OFFSET
    saddr, daddr, sport, dport, length, _ = tail.unpack_from(view, offset)
    tail.pack_into(view, offset, daddr, saddr, dport, sport, length, udp_csum)


def insert_vlan_tag(view: memoryview, addr: int, proto: int, tci: int) -> int:
    """Put back a tag that the NIC had stripped: the MAC addresses move 4 bytes ahead.

    :return: the packet's new ``addr``.
    """
    view[addr - VLAN_LEN : addr - VLAN_LEN + 12] = view[addr : addr + 12].tobytes()
    _VLAN.pack_into(view, addr - VLAN_LEN + 12, proto, tci)
    return addr - VLAN_LEN


def pseudo_sum(view: memoryview, addr: int, l3_offset: int, ip_version: int) -> int:
    """The sum of the UDP pseudo header, to be written where the NIC adds the rest.

    :return: as it lies in memory (native byte order), not complemented.
    """
    if ip_version == 4:
        tail, offset = _TAIL4, addr + l3_offset + _TAIL4_OFFSET
    else:
        tail, offset = _TAIL6, addr + l3_offset + _TAIL6_OFFSET
    saddr, daddr, _, _, length, _ = tail.unpack_from(view, offset)
    total = int.from_bytes(saddr, "big") + int.from_bytes(daddr, "big")
    total += int.from_bytes(length, "big") + _IPPROTO_UDP
    # 2**16 is 1 modulo 65535, so the remainder is the one's complement sum of the words.
    folded = total % 0xFFFF or 0xFFFF
    return int(struct.unpack("=H", struct.pack("!H", folded))[0])


def internet_checksum(data: bytes) -> int:
    """The one's complement checksum (RFC 1071) of ``data``, host byte order."""
    if len(data) % 2:
        data += b"\0"
    return 0xFFFF - (int.from_bytes(data, "big") % 0xFFFF or (0xFFFF if any(data) else 0))


def build_udp(
    macs: tuple[bytes, bytes],
    addresses: tuple[str, str],
    ports: tuple[int, int],
    payload: bytes,
    *,
    vlan_tags: tuple[tuple[int, int], ...] = (),
) -> bytes:
    """A UDP packet with right checksums, from the Ethernet header on, without FCS.

    :param macs: (destination, source), 6 bytes each.
    :param addresses: (source, destination), both IPv4 or both IPv6.
    :param ports: (source, destination).
    :param vlan_tags: (protocol, TCI) from the outside in.
    """
    source, destination = (ipaddress.ip_address(address).packed for address in addresses)
    length = UDP_LEN + len(payload)
    pseudo = source + destination + struct.pack("!II", length, _IPPROTO_UDP)
    header = struct.pack("!HHHH", *ports, length, 0)
    csum = internet_checksum(pseudo + header + payload) or 0xFFFF
    udp = header[:UDP_CSUM_OFFSET] + struct.pack("!H", csum) + payload
    if len(source) == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, _IPPROTO_UDP, 0)
        head_csum = internet_checksum(head + source + destination)
        ip = head[:10] + struct.pack("!H", head_csum) + source + destination
        proto = 0x0800
    else:
        ip = struct.pack("!IHBB", 6 << 28, length, _IPPROTO_UDP, 64) + source + destination
        proto = 0x86DD
    tags = b"".join(struct.pack("!HH", *tag) for tag in vlan_tags)
    return macs[0] + macs[1] + tags + struct.pack("!H", proto) + ip + udp
