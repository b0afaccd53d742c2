# SPDX-License-Identifier: GPL-2.0-only
"""Packets built, turned around and tagged, against checksums that the test computes itself."""

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdptstamp import packet

MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
V4 = ("192.0.2.1", "198.51.100.77")
V6 = ("2001:db8::1", "2001:db8:ffff::77")
PORTS = (40000, 9091)
VLAN = ((0x8100, 0x6005),)
QINQ = ((0x88A8, 7), (0x8100, 0xE00A))

ADDR = 64  # where packets start in the test's memory

shapes = pytest.mark.parametrize("tags", [(), VLAN, QINQ], ids=["untagged", "vlan", "qinq"])
families = pytest.mark.parametrize("addresses", [V4, V6], ids=["ipv4", "ipv6"])


def ones_sum(data):
    """The one's complement sum, word by word with end-around carry, as RFC 1071 tells it."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Parsed:
    """A packet's fields; every length in it is checked against the others."""

    def __init__(self, data):
        self.destination, self.source = data[:6], data[6:12]
        offset, self.tags = 12, []
        (proto,) = struct.unpack_from("!H", data, offset)
        while proto in (0x8100, 0x88A8):
            tci, inner = struct.unpack_from("!HH", data, offset + 2)
            self.tags.append((proto, tci))
            proto, offset = inner, offset + 4
        self.l3_offset = offset + 2
        ip = data[self.l3_offset :]
        if proto == 0x0800:
            assert ip[0] == 0x45
            assert ip[9] == 17
            assert struct.unpack_from("!H", ip, 2)[0] == len(ip)
            assert ones_sum(ip[:20]) == 0xFFFF
            self.saddr, self.daddr, self.udp = ip[12:16], ip[16:20], ip[20:]
            self.ttl, self.l4_offset = ip[8], self.l3_offset + 20
        else:
            assert proto == 0x86DD
            assert ip[0] >> 4 == 6
            assert ip[6] == 17
            assert struct.unpack_from("!H", ip, 4)[0] == len(ip) - 40
            self.saddr, self.daddr, self.udp = ip[8:24], ip[24:40], ip[40:]
            self.ttl, self.l4_offset = ip[7], self.l3_offset + 40
        self.ip_version = ip[0] >> 4
        self.sport, self.dport, length, self.csum = struct.unpack_from("!HHHH", self.udp)
        assert length == len(self.udp)
        self.payload = self.udp[8:]

    @property
    def pseudo(self):
        return self.saddr + self.daddr + struct.pack("!II", len(self.udp), 17)

    def assert_checksum_right(self):
        assert self.csum != 0
        assert ones_sum(self.pseudo + self.udp) == 0xFFFF


def in_memory(data):
    """The packet at ADDR of a memory that has something before and behind it."""
    memory = bytearray(b"\xa5" * (ADDR + len(data) + 32))
    memory[ADDR : ADDR + len(data)] = data
    return memory


def turned(data, udp_csum=None):
    """The packet turned around; nothing else in the memory may change."""
    before = Parsed(data)
    memory = in_memory(data)
    # As it lies in memory: the BPF program hands it on like that.
    csum = struct.unpack("=H", before.udp[6:8])[0] if udp_csum is None else udp_csum
    packet.turn_around(memoryview(memory), ADDR, before.l3_offset, before.ip_version, csum)
    assert memory[:ADDR] == b"\xa5" * ADDR
    assert memory[ADDR + len(data) :] == b"\xa5" * 32
    return bytes(memory[ADDR : ADDR + len(data)])


@families
@shapes
@pytest.mark.parametrize("payload", [b"", b"x", b"xy", b"\0" * 7, b"\xff" * 1400], ids=len)
def test_build_udp_makes_what_it_was_asked_for(addresses, tags, payload):
    made = Parsed(packet.build_udp(MACS, addresses, PORTS, payload, vlan_tags=tags))
    assert (made.destination, made.source) == MACS
    assert made.tags == list(tags)
    assert str(ipaddress.ip_address(made.saddr)) == addresses[0]
    assert str(ipaddress.ip_address(made.daddr)) == addresses[1]
    assert (made.sport, made.dport) == PORTS
    assert made.payload == payload
    assert made.ttl == 64
    made.assert_checksum_right()


@settings(deadline=None)
@given(
    addresses=st.one_of(
        st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
        st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ),
    ports=st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
    payload=st.binary(max_size=80),
    tags=st.sampled_from([(), VLAN, QINQ]),
)
def test_any_packet_turned_around_is_right_and_twice_is_itself(addresses, ports, payload, tags):
    addresses = tuple(map(str, addresses))
    request = packet.build_udp(MACS, addresses, ports, payload, vlan_tags=tags)
    Parsed(request).assert_checksum_right()
    reply = turned(request)
    Parsed(reply).assert_checksum_right()
    assert turned(reply) == request


@families
@shapes
def test_turn_around_swaps_both_ends_and_keeps_the_rest(addresses, tags):
    data = packet.build_udp(MACS, addresses, PORTS, b"odd", vlan_tags=tags)
    before, after = Parsed(data), Parsed(turned(data))
    assert (after.destination, after.source) == (before.source, before.destination)
    assert (after.saddr, after.daddr) == (before.daddr, before.saddr)
    assert (after.sport, after.dport) == (before.dport, before.sport)
    assert (after.tags, after.ttl, after.payload) == (before.tags, before.ttl, before.payload)
    assert after.csum == before.csum


@families
def test_turn_around_writes_the_checksum_it_is_given(addresses):
    data = packet.build_udp(MACS, addresses, PORTS, b"odd")
    given = struct.unpack("=H", b"\x12\x34")[0]
    assert Parsed(turned(data, given)).csum == 0x1234


@families
@shapes
def test_a_stripped_tag_put_back_is_the_outermost(addresses, tags):
    # At most two: the outer one came out of band.
    data = packet.build_udp(MACS, addresses, PORTS, b"odd", vlan_tags=tags)
    memory = in_memory(data)
    addr = packet.insert_vlan_tag(memoryview(memory), ADDR, 0x88A8, 0xC123)
    assert addr == ADDR - 4
    tagged = bytes(memory[addr : addr + len(data) + 4])
    expected = packet.build_udp(MACS, addresses, PORTS, b"odd", vlan_tags=((0x88A8, 0xC123), *tags))
    assert tagged == expected
    assert memory[:addr] == b"\xa5" * addr
    assert memory[addr + len(tagged) :] == b"\xa5" * 32


@families
@shapes
@pytest.mark.parametrize("payload", [b"", b"x", b"\xff" * 9])
def test_the_pseudo_sum_is_what_a_nic_completes(addresses, tags, payload):
    data = packet.build_udp(MACS, addresses, PORTS, payload, vlan_tags=tags)
    parsed = Parsed(data)
    memory = in_memory(data)
    found = packet.pseudo_sum(memoryview(memory), ADDR, parsed.l3_offset, parsed.ip_version)
    field = struct.pack("=H", found)
    assert ones_sum(parsed.pseudo) == int.from_bytes(field, "big")
    # The NIC sums from the UDP header on, this field included, and writes the complement.
    udp = parsed.udp[:6] + field + parsed.udp[8:]
    assert (0xFFFF - ones_sum(udp) or 0xFFFF) == parsed.csum
    # Swapping the addresses leaves it alone.
    reply = in_memory(turned(data))
    assert packet.pseudo_sum(memoryview(reply), ADDR, parsed.l3_offset, parsed.ip_version) == found


def test_a_pseudo_sum_of_all_ones_stays_all_ones():
    # 0xffe5 of the destination, length 9 and protocol 17 add up to 0xffff.
    data = packet.build_udp(MACS, ("0.0.0.0", "0.0.255.229"), PORTS, b"x")
    parsed = Parsed(data)
    assert ones_sum(parsed.pseudo) == 0xFFFF
    found = packet.pseudo_sum(memoryview(in_memory(data)), ADDR, parsed.l3_offset, 4)
    assert found == 0xFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0xFFFF),
        (b"\0\0", 0xFFFF),
        (b"\0" * 40, 0xFFFF),
        (b"\xff\xff", 0),
        (b"\xff" * 40, 0),
        (b"\xff", 0x00FF),  # an odd byte is the upper half of a word
        (b"\x00\x01\xff\xfe", 0),
        (b"\x00\x01\xff\xff", 0xFFFE),  # the carry comes round
        (bytes.fromhex("0001f203f4f5f6f7"), 0x220D),  # RFC 1071, section 3
    ],
)
def test_internet_checksum_at_its_edges(data, expected):
    assert packet.internet_checksum(data) == expected


@given(data=st.binary(max_size=200))
def test_internet_checksum_of_anything(data):
    assert packet.internet_checksum(data) == 0xFFFF - ones_sum(data)


@families
def test_a_checksum_that_comes_out_as_zero_is_sent_as_all_ones(addresses):
    # 0 in the field would say "none". The payload is chosen so that the sum is 0xffff.
    plain = Parsed(packet.build_udp(MACS, addresses, PORTS, b"\0\0"))
    filler = struct.pack("!H", plain.csum)
    data = packet.build_udp(MACS, addresses, PORTS, filler)
    assert Parsed(data).csum == 0xFFFF
    Parsed(data).assert_checksum_right()
    assert Parsed(turned(data)).csum == 0xFFFF
