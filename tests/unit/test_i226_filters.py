# SPDX-License-Identifier: GPL-2.0-only
"""Which packets a port of the virtual I226 takes, and to which queue: as igc programs it."""

import os

import pytest

from tests.unit import i226_kit as kit
from tests.unit.i226_kit import BROADCAST, MACS, RCTL, RxRing, TxRing, ethernet
from xdptstamp.lab.i226.filters import toeplitz

EN, UPE, MPE, BAM = 0x2, 0x8, 0x10, 0x8000
# From "RSS Hashing Types" and "Verifying the RSS Hash Calculation", Windows driver documentation.
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
# Destination, destination port, source, source port; hash of the addresses, and with TCP ports.
IPV4_VECTORS = [
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
]
IPV6_VECTORS = [
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    (
        *("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
        *(0x4B61E985, 0x02D1FEEF),
    ),
]
# Types as in enum igc_rss_type_num; MRQC: TCP and addresses of both versions, UDP of both.
TCP4, IP4, TCP6, IP6, UDP4, UDP6 = 1, 2, 3, 5, 7, 8
MRQC_DEFAULT, MRQC_UDP = 0x00370002, 0x00C00000


@pytest.fixture
def ports(nics):
    """The sending ring, and the port that receives with its four rings."""
    sender, receiver = nics
    return TxRing(sender), receiver, [RxRing(receiver, queue) for queue in range(4)]


def where(ports, *packets):
    """The queue in which each packet arrives, or None; the packets as received."""
    ring, receiver, rings = ports
    for packet in packets:
        ring.send(packet)
    receiver.settle()
    found = {}
    for queue, received in enumerate(rings):
        while (packet := received.poll()) is not None:
            found[packet.data] = queue, packet
    return [found.get(packet, (None, None)) for packet in packets]


def queues(ports, *packets):
    return [queue for queue, _ in where(ports, *packets)]


def to(destination, source=MACS[0], tail=b""):
    return ethernet(tail or os.urandom(8), destination=destination, source=source)


# -- addresses


@pytest.mark.parametrize(
    ("rctl", "taken"),
    [
        (0, [0, 0, 0, 0]),
        (EN, [1, 0, 0, 0]),
        (EN | BAM, [1, 0, 1, 0]),
        (EN | MPE, [1, 0, 1, 1]),
        (EN | UPE, [1, 1, 0, 0]),
        (EN | UPE | MPE | BAM, [1, 1, 1, 1]),
    ],
)
def test_rctl_says_what_is_taken(ports, rctl, taken):
    ports[1].put(RCTL, rctl)
    multicast = b"\x01\0\x5e\x01\x02\x03"
    packets = [to(mac) for mac in (MACS[1], b"\x02\0\0\0\0\x99", BROADCAST, multicast)]
    assert [int(queue is not None) for queue in queues(ports, *packets)] == taken
    assert ports[1].read(kit.GPRC) == sum(taken)


def hash_mc_addr(address):
    """igc_hash_mc_addr for 128 registers and filter type 0."""
    hash_mask, bit_shift = 128 * 32 - 1, 0
    while hash_mask >> bit_shift != 0xFF:
        bit_shift += 1
    return hash_mask & (address[4] >> (8 - bit_shift) | address[5] << bit_shift)


def test_the_multicast_table(ports):
    ports[1].put(RCTL, EN)
    wanted = [bytes.fromhex(text) for text in ("01005e0000fb", "3333ff12ab9c", "011b19000000")]
    others = [bytes.fromhex(text) for text in ("01005e0000fc", "3333ff12bb9c", "011b19000010")]
    assert queues(ports, *map(to, wanted)) == [None] * 3
    for address in wanted:
        value = hash_mc_addr(address)
        offset = 0x5200 + 4 * (value >> 5 & 127)
        ports[1].write(offset, ports[1].read(offset) | 1 << (value & 31))
    ports[1].settle()
    assert queues(ports, *map(to, wanted)) == [0] * 3
    assert queues(ports, *map(to, others)) == [None] * 3


def set_mac_filter(nic, index, address, queue=None, is_source=False):
    """As igc_set_mac_filter_hw."""
    high = int.from_bytes(address[4:], "little") | 0x80000000
    if is_source:
        high |= 1 << 16
    if queue is not None:
        high |= queue << 18 | 1 << 28
    nic.write(0x5400 + 8 * index, int.from_bytes(address[:4], "little"))
    nic.put(0x5404 + 8 * index, high)


def test_further_addresses_are_taken_and_steered(ports):
    nic = ports[1]
    own, other, group = b"\x02\0\0\0\0\x51", b"\x02\0\0\0\0\x52", b"\x01\x80\xc2\0\0\x0e"
    nic.put(RCTL, EN)
    packets = [to(own), to(other), to(group)]
    assert queues(ports, *packets) == [None, None, None]
    set_mac_filter(nic, 1, own)
    set_mac_filter(nic, 15, other, queue=3)
    set_mac_filter(nic, 7, group, queue=2)
    assert queues(ports, *packets) == [0, 3, 2]
    nic.put(0x5404 + 8 * 15, 0)
    assert queues(ports, packets[1]) == [None]


def test_a_source_address_steers(ports):
    source = b"\x02\0\0\0\0\x53"
    set_mac_filter(ports[1], 3, source, queue=1, is_source=True)
    assert queues(ports, to(MACS[1], source), to(MACS[1]), to(source)) == [1, 0, None]


# -- rules


def test_an_ethertype_steers(ports):
    nic = ports[1]
    packets = [ethernet(os.urandom(9), ethertype=kind) for kind in (0x88F7, 0x88CC, 0x88B5)]
    assert queues(ports, *packets) == [0, 0, 0]
    for index, (kind, queue) in enumerate(((0x88F7, 2), (0x88CC, 3))):
        nic.write(0x5CB0 + 4 * index, kind | queue << 16 | 1 << 31 | 1 << 26)
    nic.settle()
    assert queues(ports, *packets) == [2, 3, 0]
    nic.put(0x5CB0, 0x88F7 | 2 << 16 | 1 << 31)  # not enabled
    assert queues(ports, packets[0]) == [0]


def test_a_vlan_priority_steers(ports):
    tags = [(priority << 13 | 5).to_bytes(2, "big") for priority in range(8)]
    packets = [ethernet(tag + b"\x88\xb5" + os.urandom(9), ethertype=0x8100) for tag in tags]
    value = 0
    for priority, queue in ((0, 1), (3, 2), (7, 3)):  # igc_add_vlan_prio_filter
        value |= queue << 4 * priority | 1 << (3 + 4 * priority)
    ports[1].put(0x55B0, value)
    assert queues(ports, *packets) == [1, 0, 0, 2, 0, 0, 0, 3]


def write_flex_filter(nic, index, data, mask, queue, is_drop=False):
    """As igc_write_flex_filter_ll; ``data`` and ``mask`` (a byte for each) of equal length."""
    length = len(data)
    assert length % 8 == 0
    data, mask = data.ljust(128, b"\0"), mask.ljust(128, b"\0")
    nic.write(0x5804, index // 8)
    nic.write(0x5808, nic.read(0x5808) & ~(1 << 14))
    base = 0x9000 + 0x100 * (index % 8) if index % 8 < 4 else 0x9A00 + 0x100 * (index % 8 - 4)
    nic.write(base + 0xFC, length | queue << 8 | (1 << 25 if is_drop else 0))
    for row in range(16):
        nic.write(base + 16 * row, int.from_bytes(data[8 * row : 8 * row + 4], "little"))
        nic.write(base + 16 * row + 4, int.from_bytes(data[8 * row + 4 : 8 * row + 8], "little"))
        bits = sum(1 << column for column in range(8) if mask[8 * row + column])
        nic.write(base + 16 * row + 8, nic.read(base + 16 * row + 8) & ~0xFF | bits)
    if index > 8:
        nic.write(0x580C, nic.read(0x580C) | 1 << index)
        nic.put(0x5808, nic.read(0x5808) | 1 << 14)
    else:
        nic.put(0x5808, nic.read(0x5808) | 1 << 14 | 1 << (16 + index))


@pytest.mark.parametrize("index", [0, 3, 4, 7, 9, 16, 31])
def test_a_flex_filter_steers(ports, index):
    # 40 bytes, of which the EtherType and the two last count.
    data = bytes(12) + b"\x88\xb5" + bytes(24) + b"\x12\x34"
    mask = bytes(12) + b"\xff\xff" + bytes(24) + b"\xff\xff"
    write_flex_filter(ports[1], index, data, mask, queue=3)

    def packet(tail, ethertype=0x88B5):
        return ethernet(os.urandom(24) + tail + os.urandom(30), ethertype=ethertype)

    packets = [packet(b"\x12\x34"), packet(b"\x12\x35"), packet(b"\x12\x34", 0x88B6)]
    assert queues(ports, *packets) == [3, 0, 0]
    ports[1].put(0x5808, ports[1].read(0x5808) & ~(1 << 14))
    assert queues(ports, packets[0]) == [0]


def test_a_flex_filter_drops_and_the_first_one_wins(ports):
    nic = ports[1]
    address = MACS[1] + bytes(2)
    everything = b"\xff" * 6 + bytes(2)
    write_flex_filter(nic, 5, address, everything, queue=2)
    packet = to(MACS[1])
    assert queues(ports, packet) == [2]
    write_flex_filter(nic, 2, address, everything, queue=1, is_drop=True)
    assert queues(ports, packet) == [None]
    assert nic.read(kit.GPRC) == 2


# -- RSS


def address(text):
    if ":" not in text:
        return bytes(int(part) for part in text.split("."))
    head, _, tail = text.partition("::")
    words = [[int(word, 16) for word in part.split(":") if word] for part in (head, tail)]
    words[0] += [0] * (8 - len(words[0]) - len(words[1]))
    return b"".join(word.to_bytes(2, "big") for word in words[0] + words[1])


def ip(vector, protocol, fragment=0):
    """A packet of a vector."""
    destination, source = address(vector[0]), address(vector[2])
    l4 = vector[3].to_bytes(2, "big") + vector[1].to_bytes(2, "big") + bytes(20)
    if len(source) == 4:
        head = b"\x45\0\0\x2c\0\0" + fragment.to_bytes(2, "big") + bytes([64, protocol, 0, 0])
        return ethernet(head + source + destination + l4, ethertype=0x0800)
    head = b"\x60\0\0\0\0\x18" + bytes([protocol, 64])
    return ethernet(head + source + destination + l4, ethertype=0x86DD)


@pytest.mark.parametrize("vector", [*IPV4_VECTORS, *IPV6_VECTORS])
def test_the_hash_is_microsofts(vector):
    addresses = address(vector[2]) + address(vector[0])
    ports = vector[3].to_bytes(2, "big") + vector[1].to_bytes(2, "big")
    assert toeplitz(KEY, addresses) == vector[4]
    assert toeplitz(KEY, addresses + ports) == vector[5]


@pytest.fixture
def hashing(ports):
    """The ports with the key and a table: as igc_setup_mrqc."""
    nic = ports[1]
    for index in range(10):
        word = int.from_bytes(KEY[4 * index : 4 * index + 4], "little")
        nic.write(0x5C80 + 4 * index, word)
    for index in range(32):  # entry n: queue n modulo 4
        nic.write(0x5C00 + 4 * index, 0x03020100)
    nic.put(kit.MRQC, MRQC_DEFAULT)
    return ports


@pytest.mark.parametrize("vector", [*IPV4_VECTORS, *IPV6_VECTORS])
def test_packets_carry_their_hash_and_go_where_the_table_says(hashing, vector):
    is_v4 = vector in IPV4_VECTORS
    plain, with_ports = vector[4], vector[5]
    packets = [ip(vector, 6), ip(vector, 17), ip(vector, 89)]

    def seen():
        return [(queue, got.rss_hash, got.rss_type) for queue, got in where(hashing, *packets)]

    tcp = (with_ports & 3, with_ports, TCP4 if is_v4 else TCP6)
    other = (plain & 3, plain, IP4 if is_v4 else IP6)
    assert seen() == [tcp, other, other]
    hashing[1].put(kit.MRQC, MRQC_DEFAULT | MRQC_UDP)
    assert seen() == [tcp, (with_ports & 3, with_ports, UDP4 if is_v4 else UDP6), other]
    hashing[1].put(kit.MRQC, 0)
    assert seen() == [(0, 0, 0)] * 3


def test_a_fragment_has_no_ports(hashing):
    vector = IPV4_VECTORS[0]
    packets = [ip(vector, 6, fragment) for fragment in (0x4000, 0x2000, 0x00B9)]
    assert [got.rss_hash for _, got in where(hashing, *packets)] == [
        *(vector[5], vector[4], vector[4])
    ]


def test_what_is_no_ip_has_no_hash(hashing):
    ((queue, got),) = where(hashing, ethernet(os.urandom(40)))
    assert (queue, got.rss_hash, got.rss_type) == (0, 0, 0)


def test_a_tag_does_not_change_the_hash(hashing):
    packet = ip(IPV4_VECTORS[1], 6)
    tagged = packet[:12] + b"\x81\x00\x00\x05" + packet[12:]
    ((queue, got),) = where(hashing, tagged)
    assert (queue, got.rss_hash) == (IPV4_VECTORS[1][5] & 3, IPV4_VECTORS[1][5])


def test_a_new_table_counts_at_once(hashing):
    packet = ip(IPV4_VECTORS[0], 6)
    assert queues(hashing, packet) == [IPV4_VECTORS[0][5] & 3]
    index = IPV4_VECTORS[0][5] & 127
    hashing[1].put(0x5C00 + 4 * (index >> 2), 2 << 8 * (index & 3))
    assert queues(hashing, packet) == [2]


def test_more_flows_than_are_remembered(hashing):
    # The queue of a flow is remembered; a flood of flows must not be, nor be steered wrongly.
    ring, nic, rings = hashing
    for number in range(5000):
        head = b"\x45\0\0\x2c\0\0\0\0\x40\x06\0\0" + number.to_bytes(4, "big") + b"\x0a\0\0\x01"
        ring.put(ethernet(head + b"\x03\xe8\x07\xd0" + bytes(20), ethertype=0x0800))
        if number % 100 == 99:
            ring.kick()
            nic.until(lambda: ring.nic.read(0xE010) == ring.tail)
            for received in rings:
                while received.poll() is not None:
                    received.give(1)
    vector = IPV4_VECTORS[3]
    ((queue, got),) = where(hashing, ip(vector, 6))
    assert (queue, got.rss_hash) == (vector[5] & 3, vector[5])
