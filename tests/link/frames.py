# SPDX-License-Identifier: GPL-2.0-only
"""Frames as the link partner has them on the wire: built, sent, captured and checked.

Shares nothing with xdptstamp.packet: a mistake there must not hide here.
"""

import contextlib
import errno
import ipaddress
import mmap
import select
import socket
import struct
import time
from dataclasses import dataclass, replace

import pytest

from xdptstamp._sys import netns
from xdptstamp.nic import Nic

PORT = 9091
SPORT = 40000
CTAG, STAG = 0x8100, 0x88A8
IP_LEN = {4: 20, 6: 40}
TAGS = {
    "untagged": (),
    "tagged": ((CTAG, 0xB005),),
    "two tags": ((STAG, 0x0007), (CTAG, 0x2FFF)),
}
RIGHT, PARTIAL, NONE = "right", "partial", "none"  # kinds of UDP checksum

_IPV4, _IPV6, _UDP = 0x0800, 0x86DD, 17
_ETH_P_ALL = 3

# linux/if_packet.h
_SOL_PACKET = 263
_PACKET_TX_RING, _PACKET_AUXDATA, _PACKET_VERSION = 13, 8, 10
_PACKET_QDISC_BYPASS, _PACKET_IGNORE_OUTGOING = 20, 23
_AUXDATA = struct.Struct("=IIIHHHH")
_VLAN_VALID, _VLAN_TPID_VALID = 1 << 4, 1 << 6
_TPACKET_V2, _SEND_REQUEST, _WRONG_FORMAT = 1, 1, 4
_SLOT_DATA = 32  # TPACKET2_HDRLEN without its struct sockaddr_ll
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32


class MalformedError(Exception):
    """A frame that no host may send."""


def internet_sum(data):
    """The one's complement sum (RFC 1071) of the big-endian words of ``data``, word by word."""
    total = 0
    for high, low in zip(data[::2], [*data[1::2], 0][: (len(data) + 1) // 2], strict=True):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Request:
    """A UDP request to the DUT, and every way it may be wrong.

    :param tags: (protocol, TCI), from the outside in.
    :param csum: RIGHT, PARTIAL (the sum of the pseudo header alone), NONE or the field's value.
    :param ip_len: the IP header's length field, if not the right one; ``udp_len`` likewise.
    :param ip_csum_flip: bits of the IPv4 header checksum that are wrong.
    :param options: IPv4 options, or IPv6 extension headers of which ``nexthdr`` is the first.
    :param frag: IPv4 flags and fragment offset.
    """

    dst_mac: bytes
    src_mac: bytes
    saddr: bytes
    daddr: bytes
    payload: bytes = b"ping"
    tags: tuple = ()
    sport: int = SPORT
    dport: int = PORT
    csum: str | int = RIGHT
    udp_len: int | None = None
    ip_len: int | None = None
    ip_csum_flip: int = 0
    options: bytes = b""
    nexthdr: int = _UDP
    frag: int = 0x4000
    ttl: int = 64

    def but(self, **changes):
        """The same with some fields changed."""
        return replace(self, **changes)

    @property
    def version(self):
        return 4 if len(self.saddr) == 4 else 6

    @property
    def l3_offset(self):
        return 14 + 4 * len(self.tags)

    def build(self):
        """The frame, without FCS."""
        proto = _IPV4 if self.version == 4 else _IPV6
        tags = b"".join(struct.pack("!HH", *tag) for tag in self.tags)
        ip = self._ipv4() if self.version == 4 else self._ipv6()
        udp = self._udp()
        return self.dst_mac + self.src_mac + tags + struct.pack("!H", proto) + ip + udp

    def _ipv4(self):
        ihl = 5 + len(self.options) // 4
        length = 4 * ihl + 8 + len(self.payload) if self.ip_len is None else self.ip_len
        head = struct.pack("!BBHHHBB", ihl | 4 << 4, 0, length, 7, self.frag, self.ttl, _UDP)
        csum = 0xFFFF - internet_sum(head + self.saddr + self.daddr + self.options)
        csum ^= self.ip_csum_flip
        return head + struct.pack("!H", csum) + self.saddr + self.daddr + self.options

    def _ipv6(self):
        length = len(self.options) + 8 + len(self.payload) if self.ip_len is None else self.ip_len
        head = struct.pack("!IHBB", 6 << 28, length, self.nexthdr, self.ttl)
        return head + self.saddr + self.daddr + self.options

    def _udp(self):
        length = 8 + len(self.payload) if self.udp_len is None else self.udp_len
        ports = struct.pack("!HHH", self.sport, self.dport, length)
        pseudo = self.saddr + self.daddr + struct.pack("!II", length, _UDP)
        partial = internet_sum(pseudo)
        right = 0xFFFF - internet_sum(pseudo + ports + b"\0\0" + self.payload) or 0xFFFF
        csum = {RIGHT: right, PARTIAL: partial, NONE: 0}.get(self.csum, self.csum)
        return ports + struct.pack("!H", csum) + self.payload


@dataclass(frozen=True)
class Seen:
    """A UDP packet as it was captured, every length and checksum of it found right."""

    dst_mac: bytes
    src_mac: bytes
    tags: tuple
    saddr: bytes
    daddr: bytes
    ttl: int
    sport: int
    dport: int
    udp_csum: int
    payload: bytes
    trailer: bytes


def parse(frame):
    """The UDP packet in ``frame``; None if there is none.

    :raises MalformedError: A length or a checksum in it is wrong, or an address no host may use.
    """
    if len(frame) < 14:
        raise MalformedError(f"{len(frame)} bytes")
    tags, offset = [], 12
    proto = int.from_bytes(frame[12:14], "big")
    while proto in (CTAG, STAG):
        tags.append((proto, int.from_bytes(frame[offset + 2 : offset + 4], "big")))
        offset += 4
        proto = int.from_bytes(frame[offset : offset + 2], "big")
    packet = frame[offset + 2 :]
    if proto == _IPV4:
        found = _parse_ipv4(packet)
    elif proto == _IPV6:
        found = _parse_ipv6(packet)
    else:
        return None
    if found is None:
        return None
    saddr, daddr, ttl, udp, trailer = found
    if frame[0] & 1 or frame[6] & 1:
        raise MalformedError("not from one host to another")
    _check_host(saddr)
    _check_host(daddr)
    if not ttl:
        raise MalformedError("no time to live")
    sport, dport, csum = _check_udp(saddr, daddr, udp)
    macs = frame[:6], frame[6:12]
    return Seen(*macs, tuple(tags), saddr, daddr, ttl, sport, dport, csum, udp[8:], trailer)


def assert_answers(reply, request):
    """The reply is that of the request: turned around, else the same."""
    assert (reply.dst_mac, reply.src_mac) == (request.src_mac, request.dst_mac)
    assert (reply.saddr, reply.daddr) == (request.daddr, request.saddr)
    assert (reply.sport, reply.dport) == (request.dport, request.sport)
    assert reply.payload == request.payload
    assert reply.tags == request.tags
    assert reply.ttl == 64


def _parse_ipv4(packet):
    if len(packet) < 20 or packet[0] >> 4 != 4:
        raise MalformedError("no IPv4 header")
    if packet[9] != _UDP:
        return None
    if packet[0] != 0x45 or packet[6] & 0x3F or packet[7]:
        raise MalformedError("IPv4 options, or a fragment")
    length = int.from_bytes(packet[2:4], "big")
    if not 28 <= length <= len(packet):
        raise MalformedError(f"IPv4 length {length} of {len(packet)}")
    if internet_sum(packet[:20]) != 0xFFFF:
        raise MalformedError("IPv4 header checksum")
    return packet[12:16], packet[16:20], packet[8], packet[20:length], packet[length:]


def _parse_ipv6(packet):
    if len(packet) < 40 or packet[0] >> 4 != 6:
        raise MalformedError("no IPv6 header")
    if packet[6] != _UDP:
        return None
    length = int.from_bytes(packet[4:6], "big")
    if not 8 <= length <= len(packet) - 40:
        raise MalformedError(f"IPv6 length {length} of {len(packet) - 40}")
    end = 40 + length
    return packet[8:24], packet[24:40], packet[7], packet[40:end], packet[end:]


def _check_udp(saddr, daddr, udp):
    sport, dport, length, csum = struct.unpack_from("!HHHH", udp)
    if length != len(udp):
        raise MalformedError(f"UDP length {length} of {len(udp)}")
    if not sport or not dport:
        raise MalformedError("port 0")
    if not csum or internet_sum(saddr + daddr + struct.pack("!II", length, _UDP) + udp) != 0xFFFF:
        raise MalformedError(f"UDP checksum {csum:#06x}")
    return sport, dport, csum


def _check_host(packed):
    address = ipaddress.ip_address(packed)
    is_group = address.is_multicast or packed == b"\xff" * 4
    if is_group or address.is_unspecified or address.is_loopback:
        raise MalformedError(f"address {address}")


class Port:
    """The partner's end of a link, as a raw socket: sends anything, sees what the DUT sent.

    :param link: what the ``lab`` fixture gives.
    """

    def __init__(self, link):
        if link.environ["REMOTE_TYPE"] != "netns":
            pytest.skip("raw frames need a link partner in a network namespace")
        self._link = link
        self.namespace = link.environ["REMOTE_ARGS"]
        with contextlib.ExitStack() as stack:
            # ETH_P_ALL or its like from the start would let other interfaces' frames in.
            self._socket = stack.enter_context(self.call(_new_packet_socket))
            self.ifname, mac = self.call(lambda: _interface_of(link.remote_v4))
            self.mac = bytes.fromhex(mac.replace(":", ""))
            self._dut_mac = bytes.fromhex(_interface_of(link.local_v4)[1].replace(":", ""))
            self._set(_PACKET_AUXDATA, 1)
            self._set(_PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 26)
            self._socket.bind((self.ifname, _ETH_P_ALL))
            stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_exc_info):
        self._socket.close()

    def call(self, function):
        """Call ``function`` in the partner's namespace."""
        return netns.call_inside(self.namespace, function)

    def request(self, version=4, **fields):
        """A right request to the DUT; ``fields`` change it."""
        ends = (
            (self._link.remote_v4, self._link.local_v4)
            if version == 4
            else (self._link.remote_v6, self._link.local_v6)
        )
        saddr, daddr = (ipaddress.ip_address(address).packed for address in ends)
        return Request(self._dut_mac, self.mac, saddr, daddr).but(**fields)

    def send(self, frame):
        """Send a frame, of any content."""
        self._socket.send(frame)

    def num_sent(self):
        """Packets that have left the partner's end since it exists, whoever sent them."""
        return self._counters()["tx_packets"]

    def num_dropped(self):
        """Packets that the partner's end could not send, since it exists."""
        return self._counters()["tx_dropped"]

    def _counters(self):
        return self.call(lambda: Nic(self.ifname).link().statistics)

    def receive(self, timeout_s=10.0):
        """The next frame from the DUT, its tags in place; None if none comes in time."""
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return None
        frame, control, _, _ = self._socket.recvmsg(65536, 256)
        return _with_tag(frame, control)

    def replies(self, count, timeout_s=10.0):
        """``count`` UDP packets from the DUT's port, parsed; fewer if they do not come in time.

        :raises MalformedError: One of them is not as it should be.
        """
        found = []
        deadline = time.monotonic() + timeout_s
        while len(found) < count:
            frame = self.receive(max(0.0, deadline - time.monotonic()))
            if frame is None:
                return found
            seen = parse(frame)
            if seen is not None and seen.sport == PORT:
                found.append(seen)
        return found

    def ask(self, request):
        """Send a request and return its reply, parsed."""
        self.send(request.build())
        (reply,) = self.replies(1)
        return reply

    def use_queue_of_cpu(self):
        """Send on the Tx queue whose number is that of the CPU this runs on."""
        self._set(_PACKET_QDISC_BYPASS, 1)

    def blast(self, frame, count):
        """Send ``frame`` ``count`` times as fast as the kernel can."""
        slot = 1 << (_SLOT_DATA + len(frame) - 1).bit_length()
        per_block = mmap.PAGESIZE // slot
        num_blocks = -(-count // per_block)
        with self.call(_new_packet_socket) as sender:
            sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 26)
            sender.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            sizes = struct.pack("=IIII", mmap.PAGESIZE, num_blocks, slot, num_blocks * per_block)
            sender.setsockopt(_SOL_PACKET, _PACKET_TX_RING, sizes)
            sender.bind((self.ifname, 0))
            with mmap.mmap(sender.fileno(), num_blocks * mmap.PAGESIZE) as ring:
                for number in range(count):
                    at = number * slot
                    ring[at + _SLOT_DATA : at + _SLOT_DATA + len(frame)] = frame
                    struct.pack_into("=II", ring, at, _SEND_REQUEST, len(frame))
                _flush(sender)

    def _set(self, option, value):
        self._socket.setsockopt(_SOL_PACKET, option, value)


def _flush(sender):
    # The call ends early where the kernel had no memory for a frame, or dropped it.
    while True:
        try:
            sender.send(b"")
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        else:
            return


def _new_packet_socket():
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)


def _interface_of(address):
    from pyroute2.iproute import IPRoute

    with IPRoute() as ipr:
        (index,) = [m["index"] for m in ipr.get_addr() if m.get("address") == address]
        (message,) = ipr.link("get", index=index)
    return message.get("ifname"), message.get("address")


def _with_tag(frame, control):
    # The kernel has taken the outer tag off before any socket sees the frame.
    for level, kind, data in control:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, proto = _AUXDATA.unpack_from(data)
            if status & _VLAN_VALID:
                proto = proto if status & _VLAN_TPID_VALID else CTAG
                return frame[:12] + struct.pack("!HH", proto, tci) + frame[12:]
    return frame
