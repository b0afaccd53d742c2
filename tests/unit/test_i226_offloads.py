# SPDX-License-Identifier: GPL-2.0-only
"""The virtual I226 does to a packet what a Tx context asks for, as igc_tso and igc_tx_csum ask."""

import os
import struct

import pytest

from tests.unit import i226_kit as kit
from tests.unit.i226_kit import CMD_DATA, CMD_TSE, CMD_VLE, IXSM, TXSM, RxRing, TxRing, ethernet

TCP, UDP, SCTP = 6, 17, 132
# IGC_ADVTXD_TUCMD_*
IPV4, L4_TCP, L4_SCTP = 0x400, 0x800, 0x1000


def ones_sum(data):
    """The one's complement sum of 16-bit words, word for word (RFC 1071)."""
    total = 0
    for index in range(0, len(data), 2):
        total += int.from_bytes(data[index : index + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def crc32c(data):
    """Bit for bit, from the highest power down (RFC 9260, appendix A)."""

    def reflect(value, width):
        return int(f"{value:0{width}b}"[::-1], 2)

    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= reflect(byte, 8) << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x1EDC6F41 if crc >> 31 else 0)) & 0xFFFFFFFF
    return reflect(crc, 32) ^ 0xFFFFFFFF


def ip_header(version, protocol, size):
    """An IP header whose checksum is wrong; ``size`` of what follows it."""
    if version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0x1234, 0x4000, 64, protocol, 0xBEEF)
        return head + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    return struct.pack(">IHBB", 0x60000000, size, protocol, 64) + bytes(range(32))


def pseudo_header(ip, protocol, size):
    """What an L4 checksum covers beside the L4 packet."""
    addresses = ip[12:20] if ip[0] >> 4 == 4 else ip[8:40]
    return addresses + struct.pack(">II", size, protocol)


def l4_header(protocol, checksum, size):
    """Ports 1000 and 2000, and so on."""
    if protocol == TCP:
        return struct.pack(">HHIIBBHHH", 1000, 2000, 0xFFFFFF00, 7, 0x50, 0x19, 512, checksum, 0)
    return struct.pack(">HHHH", 1000, 2000, size, checksum)


def make(version, protocol, payload, size_in_sum=True):
    """A packet as the stack leaves it: the pseudo-header's sum where the checksum goes."""
    header_size = 20 if protocol == TCP else 8
    size = header_size + len(payload)
    ip = ip_header(version, protocol, size)
    seed = ones_sum(pseudo_header(ip, protocol, size if size_in_sum else 0))
    l4 = l4_header(protocol, seed, size)
    return ethernet(ip + l4 + payload, ethertype=0x0800 if version == 4 else 0x86DD)


def check(packet, version, protocol):
    """Assert that all checksums of a received packet are right; its L4 payload."""
    ip_size = 20 if version == 4 else 40
    ip = packet[14 : 14 + ip_size]
    if version == 4:
        assert ones_sum(ip) == 0xFFFF
        size = int.from_bytes(ip[2:4], "big") - 20
    else:
        size = int.from_bytes(ip[4:6], "big")
    l4 = packet[14 + ip_size : 14 + ip_size + size]
    assert len(l4) == size
    assert ones_sum(pseudo_header(ip, protocol, size) + l4) == 0xFFFF
    return l4[20 if protocol == TCP else 8 :]


@pytest.fixture
def rings(nics):
    return TxRing(nics[0], buffer_size=16384), RxRing(nics[1], num_given=200)


@pytest.mark.parametrize("size", [0, 1, 18, 19, 500, 1401])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("version", [4, 6])
def test_checksums_are_inserted(rings, version, protocol, size):
    ring, received = rings
    payload = os.urandom(size)
    ring.put_context(
        ip_size=20 if version == 4 else 40,
        flags=(IPV4 if version == 4 else 0) | (L4_TCP if protocol == TCP else 0),
    )
    info = TXSM | (IXSM if version == 4 else 0)
    ring.send(make(version, protocol, payload), info=info)
    assert check(received.take_one().data, version, protocol) == payload


def test_only_what_was_asked_for_is_inserted(rings):
    ring, received = rings
    packet = make(4, UDP, b"payload, even")
    ring.put_context()
    ring.send(packet)
    ring.send(packet, info=IXSM)
    plain, with_ip = received.take(2)
    assert plain.data == packet
    assert ones_sum(with_ip.data[14:34]) == 0xFFFF
    assert with_ip.data[34:] == packet[34:]


def test_a_udp_checksum_of_zero_is_sent_as_ones(rings):
    ring, received = rings
    packet = make(4, UDP, b"\0\0")
    total = ones_sum(packet[34:44])
    packet = packet[:42] + (0xFFFF - total).to_bytes(2, "big") + packet[44:]
    ring.put_context()
    ring.send(packet, info=TXSM)
    assert received.take_one().data[40:42] == b"\xff\xff"


def test_the_checksum_of_sctp_is_a_crc(rings):
    ring, received = rings
    sctp = struct.pack(">HHII", 1000, 2000, 0x01020304, 0xAAAAAAAA) + os.urandom(57)
    ring.put_context(flags=IPV4 | L4_SCTP)
    ring.send(ethernet(ip_header(4, SCTP, len(sctp)) + sctp, ethertype=0x0800), info=TXSM | IXSM)
    got = received.take_one().data[34 : 34 + len(sctp)]
    assert got[:8] + got[12:] == sctp[:8] + sctp[12:]
    assert got[8:12] == crc32c(sctp[:8] + bytes(4) + sctp[12:]).to_bytes(4, "little")
    assert crc32c(b"123456789") == 0xE3069283  # of the catalogue: the reference itself is right


@pytest.mark.parametrize(
    "context",
    [
        {"mac_size": 127, "ip_size": 511},
        {"mac_size": 0, "ip_size": 0},
        {"mac_size": 60, "ip_size": 20},
        {"mac_size": 127, "ip_size": 0, "flags": L4_SCTP},
        {"mac_size": 14, "ip_size": 45, "flags": L4_TCP},
    ],
)
def test_headers_beyond_the_packet_harm_nobody(rings, context):
    ring, received = rings
    ring.put_context(**context)
    ring.send(make(4, UDP, b"1"), info=IXSM | TXSM)
    assert len(received.take_one().data) == 60


def test_a_vlan_tag_is_inserted_and_stripped(nics, rings):
    ring, received = rings
    packet = ethernet(os.urandom(50))
    ring.put_context(vlan=0xA123)
    ring.send(packet, command=CMD_DATA | CMD_VLE)
    tagged = received.take_one()
    assert tagged.data == packet[:12] + b"\x81\x00\xa1\x23" + packet[12:]
    assert (tagged.status & 0x8, tagged.vlan) == (0, 0)
    nics[1].put(kit.CTRL, 0x40000000)  # VME
    ring.send(packet, command=CMD_DATA | CMD_VLE)
    ring.send(packet)
    stripped, untagged = received.take(2)
    assert (stripped.data, stripped.status & 0x8, stripped.vlan) == (packet, 0x8, 0xA123)
    assert (untagged.data, untagged.status & 0x8) == (packet, 0)


@pytest.mark.parametrize(("version", "protocol"), [(4, TCP), (6, TCP), (4, UDP), (6, UDP)])
@pytest.mark.parametrize(("size", "mss"), [(4000, 1000), (4001, 1000), (999, 1000), (9001, 1448)])
def test_a_large_send_is_segmented(rings, version, protocol, size, mss):
    ring, received = rings
    ip_size, l4_size = 20 if version == 4 else 40, 20 if protocol == TCP else 8
    payload = os.urandom(size)
    flags = (IPV4 if version == 4 else 0) | (L4_TCP if protocol == TCP else 0)
    ring.put_context(ip_size=ip_size, flags=flags, mss=mss, l4_size=l4_size)
    info = TXSM | (IXSM if version == 4 else 0)
    packet = make(version, protocol, payload, size_in_sum=False)
    ring.send(packet, command=CMD_DATA | CMD_TSE, info=info)
    segments = [packet.data for packet in received.take(-(-size // mss))]
    assert b"".join(check(segment, version, protocol) for segment in segments) == payload
    sizes = [len(check(segment, version, protocol)) for segment in segments]
    assert sizes[:-1] == [mss] * (len(segments) - 1)
    l4 = 14 + ip_size
    if version == 4:
        numbers = [int.from_bytes(segment[18:20], "big") for segment in segments]
        assert numbers == [0x1234 + index for index in range(len(segments))]
    for index, segment in enumerate(segments):
        assert segment[:14] == packet[:14]
        if protocol == TCP:
            sequence, flags = int.from_bytes(segment[l4 + 4 : l4 + 8], "big"), segment[l4 + 13]
            assert sequence == (0xFFFFFF00 + index * mss) & 0xFFFFFFFF
            assert flags == (0x19 if index == len(segments) - 1 else 0x10)
        else:
            assert segment[l4 + 4 : l4 + 6] == (8 + sizes[index]).to_bytes(2, "big")


def test_the_stamp_of_a_large_send_is_the_first_segments(i226, nics, rings):
    ring, received = rings
    nics[0].enable_stamps()
    num_before = len(i226.truth())
    ring.put_context(flags=IPV4 | L4_TCP, mss=100, l4_size=20)
    packet = make(4, TCP, bytes(1000), size_in_sum=False)
    ring.send(packet, command=CMD_DATA | CMD_TSE, info=TXSM | IXSM, stamp=0)
    received.take(10)
    assert len(i226.truth()) == num_before + 1


@pytest.mark.parametrize(
    "context",
    [
        {"mss": 0, "l4_size": 20},
        {"mss": 100, "l4_size": 19},
        {"mss": 1, "l4_size": 20},  # ten thousand segments
        {"mss": 65535, "l4_size": 20},
        {"mss": 9700, "l4_size": 20},
        {"mss": 100, "l4_size": 255, "mac_size": 127, "ip_size": 511},
        {"mss": 100, "l4_size": 20, "ip_size": 0},
        {"mss": 100, "l4_size": 20, "ip_size": 0, "flags": L4_TCP},
        {"mss": 100, "l4_size": 8, "ip_size": 39, "flags": 0},
        {"mss": 100, "l4_size": 20, "flags": L4_SCTP | IPV4},
    ],
)
def test_an_impossible_large_send_is_done_and_goes_nowhere(nics, rings, context):
    ring, received = rings
    packet = make(4, TCP, bytes(10_000 if context["mss"] != 100 else 500), size_in_sum=False)
    ring.put_context(**{"flags": IPV4 | L4_TCP, **context})
    ring.send(packet, command=CMD_DATA | CMD_TSE, info=TXSM | IXSM)
    nics[0].settle()
    assert nics[0].read(kit.GPTC) == 0
    ring.put_context()
    ring.send(ethernet(b"after"))
    assert received.take_one().data[14:19] == b"after"


def test_large_sends_of_many_segments_do_not_keep_the_server(nics, rings):
    ring, _ = rings
    packet = make(4, TCP, bytes(16384 - 54), size_in_sum=False)
    for _ in range(100):
        ring.put_context(flags=IPV4 | L4_TCP, mss=16, l4_size=20)
        last = ring.put(packet, command=CMD_DATA | CMD_TSE, info=TXSM | IXSM)
    ring.kick()
    # Between two answers is one large send of a thousand segments at most.
    nics[0].sock.settimeout(2)
    nics[0].until(lambda: nics[0].read(0xE010) > 10)
    nics[0].write(kit.CTRL, 0x04000000)
    nics[0].settle()
    assert not ring.is_done(last)
