# SPDX-License-Identifier: GPL-2.0-only
"""What each packet of ``mixed`` says of itself: the definition, and what writes it in the UMEM."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.link.frames import parse
from xdptstamp import stream, txmd
from xdptstamp.errors import SetupError
from xdptstamp.measure.pattern import EveryPattern, RatioPattern
from xdptstamp.measure.txframes import TxFrames
from xdptstamp.packet import build_udp, internet_checksum
from xdptstamp.ring import DESC_DTYPE
from xdptstamp.umem import Umem

SIZE = 32  # entries of the Tx ring
MACS = (b"\2\0\0\0\0\2", b"\2\0\0\0\0\1")
ADDRESSES = {4: ("198.19.0.1", "198.19.0.2"), 6: ("fd00::1", "fd00::2")}
PAYLOAD_OFFSET = {4: 42, 6: 62}
U32 = 0xFFFFFFFF

RATIOS = [(0, 1), (1, 0), (1, 1), (1, 10), (3, 7), (1, 1000), (5, 40)]
# Where a stream begins, and where its numbers of 31 bits begin again.
starts = st.one_of(
    st.integers(0, 300),
    st.integers(stream.NUMBER_SPAN - 80, stream.NUMBER_SPAN + 80),
    st.integers(3 * stream.NUMBER_SPAN - 80, 3 * stream.NUMBER_SPAN),
)


def packet_of(version, pattern, length=stream.LEN, stream_id=0xCAFE0001):
    payload = stream.first_payload(stream_id, pattern, length)
    return build_udp(MACS, ADDRESSES[version], (9093, 9093), payload)


def new_frames(longest=SIZE, **umem_options):
    umem = Umem(2 * SIZE, **umem_options)
    tx = SimpleNamespace(size=SIZE, descs=np.zeros(SIZE, DESC_DTYPE))
    return TxFrames(SimpleNamespace(umem=umem, tx=tx, ifname="test0"), longest), umem, tx.descs


def packet_in(umem, descs, slot):
    addr, length = int(descs["addr"][slot]), int(descs["len"][slot])
    return umem.view[addr : addr + length].tobytes()


def request_in(umem, descs, slot):
    """Flags and stamp field of the metadata, and desc.options."""
    at = int(descs["addr"][slot]) - umem.tx_metadata_len
    flags, field = struct.unpack_from("<QQ", umem.view, at)
    return flags, field, int(descs["options"][slot])


# The definition


@pytest.mark.parametrize("length", [18, 19, 1000])
def test_the_first_payload(length):
    payload = stream.first_payload(0x01020304, (3, 7), length)
    assert payload[:18] == bytes.fromhex("7874 01020304 00000000 ffffffff 0003 0007")
    assert payload[18:] == bytes(length - 18)
    (read,) = np.frombuffer(payload[:18], stream.DTYPE)
    assert read.tolist() == (stream.MAGIC, 0x01020304, 0, U32, 3, 7)


@given(number=starts, is_stamped=st.booleans())
def test_a_word_and_its_complement(number, is_stamped):
    (data,) = stream.words(np.array([number]), np.array([is_stamped])).tolist()
    word, complement = struct.unpack("!II", struct.pack("!Q", data))
    assert word == (number % stream.NUMBER_SPAN) * 2 + is_stamped
    assert word ^ complement == U32


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [18, 19, 1472])
@given(number=starts, is_stamped=st.booleans())
@settings(max_examples=40)
def test_the_udp_checksum_is_the_same_whatever_the_word_is(version, length, number, is_stamped):
    packet = packet_of(version, (1, 10), length)
    at = PAYLOAD_OFFSET[version] + stream.WORD_OFFSET
    word = stream.words(np.array([number]), np.array([is_stamped])).tobytes()
    changed = packet[:at] + word + packet[at + 8 :]
    ip = changed[14:]
    addresses, udp = (ip[12:20], ip[20:]) if version == 4 else (ip[8:40], ip[40:])
    pseudo = addresses + struct.pack("!II", len(udp), 17)
    assert udp[6:8] != b"\0\0"
    assert internet_checksum(pseudo + udp) == 0
    assert parse(changed).payload == changed[PAYLOAD_OFFSET[version] :]


# What writes it


@settings(deadline=None)
@given(
    ratio=st.sampled_from(RATIOS),
    version=st.sampled_from([4, 6]),
    number=starts,
    slot=st.integers(0, SIZE - 1),
    data=st.data(),
)
def test_what_is_written_is_what_the_stream_says(ratio, version, number, slot, data):
    most = min(SIZE - slot, stream.NUMBER_SPAN - number % stream.NUMBER_SPAN)
    count = data.draw(st.integers(1, most))
    frames, umem, descs = new_frames()
    first = packet_of(version, ratio, 100)
    frames.load(first, PAYLOAD_OFFSET[version], RatioPattern(*ratio, SIZE))
    frames.write(slot, number, count)
    numbers = np.arange(number, number + count)
    is_stamped = numbers % sum(ratio) < ratio[0]
    words = stream.words(numbers, is_stamped)
    at = PAYLOAD_OFFSET[version] + stream.WORD_OFFSET
    for row in range(count):
        expected = first[:at] + words[row : row + 1].tobytes() + first[at + 8 :]
        assert packet_in(umem, descs, slot + row) == expected
    # The others are as they were.
    for other in set(range(SIZE)) - set(range(slot, slot + count)):
        assert packet_in(umem, descs, other) == first
    # No frame that is not ours was touched.
    assert not umem.array[SIZE * umem.frame_size :].any()


@given(asked=st.sets(st.integers(0, 200)), number=st.integers(0, 150), count=st.integers(1, SIZE))
@settings(deadline=None)
def test_packets_that_ask_in_no_fixed_pattern_say_so(asked, number, count):
    pattern = EveryPattern(1)
    for at, each in enumerate(sorted(asked), 1):
        pattern.plan(each, 10 * at)
    frames, umem, descs = new_frames()
    frames.load(packet_of(4, (0, 0)), PAYLOAD_OFFSET[4], pattern)
    frames.write(0, number, count)
    for row in range(count):
        payload = packet_in(umem, descs, row)[PAYLOAD_OFFSET[4] :]
        (read,) = np.frombuffer(payload[:18], stream.DTYPE)
        assert read["word"] == 2 * (number + row) + (number + row in asked)
        assert read["word"] ^ read["complement"] == U32
        assert (read["stamped"], read["plain"]) == (0, 0)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_request_is_as_the_pattern_wants_whatever_the_frame_asked_before(ratio):
    frames, umem, descs = new_frames()
    frames.load(packet_of(4, ratio), PAYLOAD_OFFSET[4], RatioPattern(*ratio, SIZE))
    for lap in range(40):
        # As the kernel leaves a stamped one.
        for slot in range(SIZE):
            flags, field, _ = request_in(umem, descs, slot)
            if flags:
                frames.stamps(slot, 1)[0] = 10**18 + lap
        number = lap * SIZE
        frames.write(0, number, SIZE)
        for slot in range(SIZE):
            is_stamped = (number + slot) % sum(ratio) < ratio[0]
            flags, field, options = request_in(umem, descs, slot)
            assert flags == (txmd.TIMESTAMP if is_stamped else 0)
            assert options == (txmd.OPTION if is_stamped else 0)
            assert field == txmd.SENTINEL


def test_a_new_stream_begins_without_any_request():
    frames, umem, descs = new_frames()
    frames.load(packet_of(4, (1, 0), 400), PAYLOAD_OFFSET[4], RatioPattern(1, 0, SIZE))
    frames.write(0, 0, SIZE)
    frames.stamps(0, SIZE)[:] = 10**18
    first = packet_of(6, (0, 1))
    frames.load(first, PAYLOAD_OFFSET[6], RatioPattern(0, 1, SIZE))
    frames.write(0, 0, 3)
    for slot in range(SIZE):
        assert request_in(umem, descs, slot) == (0, txmd.SENTINEL, 0)
        packet = packet_in(umem, descs, slot)
        assert len(packet) == len(first)
        assert parse(packet).payload[:6] == first[PAYLOAD_OFFSET[6] :][:6]


@pytest.mark.parametrize("metadata_len", [24, 32, 248])
def test_the_metadata_starts_where_the_kernel_looks_for_it(metadata_len):
    frames, umem, descs = new_frames(tx_metadata_len=metadata_len)
    frames.load(packet_of(4, (1, 1)), PAYLOAD_OFFSET[4], RatioPattern(1, 1, SIZE))
    frames.write(0, 0, 2)
    assert int(descs["addr"][1]) == umem.tx_addr(1)
    assert [request_in(umem, descs, slot)[0] for slot in (0, 1)] == [1, 0]
    assert np.array_equal(frames.addrs, np.tile(descs["addr"], 2))


@pytest.mark.parametrize(("num_frames", "metadata_len"), [(SIZE // 2, 24), (SIZE, 16), (SIZE, 0)])
def test_too_little_memory_is_refused(num_frames, metadata_len):
    umem = Umem(num_frames, tx_metadata_len=metadata_len)
    tx = SimpleNamespace(size=SIZE, descs=np.zeros(SIZE, DESC_DTYPE))
    with pytest.raises(SetupError, match="test0: the UMEM has too few frames, or no room"):
        TxFrames(SimpleNamespace(umem=umem, tx=tx, ifname="test0"), SIZE)
