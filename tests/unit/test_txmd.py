# SPDX-License-Identifier: GPL-2.0-only
"""The Tx metadata of a frame, byte by byte."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdptstamp import txmd
from xdptstamp.errors import SetupError, XdptstampError

AT = 40  # where the metadata starts in the test's memory
T0 = 1_790_000_000_000_000_000


@pytest.fixture
def memory():
    """Memory full of what a frame's last use may have left."""
    return bytearray(b"\xa5" * 128)


def fields(memory):
    """flags, csum_start, csum_offset, the free bytes, launch_time."""
    return struct.unpack_from("<QHHIQ", memory, AT)


def put_stamp(memory, value):
    """As the kernel does: 8 bytes over the request's, nothing else."""
    struct.pack_into("<Q", memory, AT + txmd.STAMP_OFFSET, value)


@pytest.mark.parametrize("flags", [0, txmd.TIMESTAMP, txmd.CHECKSUM, 3])
def test_every_request_has_the_sentinel_and_its_flags_alone(memory, flags):
    txmd.write_request(memoryview(memory), AT, flags, 34, 6)
    found, start, offset, free, _ = fields(memory)
    assert found == flags
    assert (start, offset) == ((34, 6) if flags & txmd.CHECKSUM else (0, 0))
    assert free == 0xFFFFFFFF
    assert txmd.read_stamp(memoryview(memory), AT) is None


def test_a_flag_of_the_last_use_is_rewritten_to_zero(memory):
    view = memoryview(memory)
    txmd.write_request(view, AT, txmd.TIMESTAMP)
    put_stamp(memory, T0)
    txmd.write_request(view, AT, 0)
    assert fields(memory)[0] == 0
    assert txmd.read_stamp(view, AT) is None


def test_a_stamp_of_the_last_use_cannot_be_read_again(memory):
    view = memoryview(memory)
    txmd.write_request(view, AT, txmd.TIMESTAMP)
    put_stamp(memory, T0)
    assert txmd.read_stamp(view, AT) == T0
    txmd.write_request(view, AT, txmd.TIMESTAMP)
    assert txmd.read_stamp(view, AT) is None


def test_what_stands_around_the_request_is_left_alone(memory):
    txmd.write_request(memoryview(memory), AT, 3, 54, 6)
    assert memory[:AT] == b"\xa5" * AT
    assert memory[AT + 16 :] == b"\xa5" * (128 - AT - 16)


@pytest.mark.parametrize(("csum_start", "found"), [(34, 393250), (54, 393270)])
def test_a_checksum_request_does_not_read_as_a_stamp(memory, csum_start, found):
    view = memoryview(memory)
    txmd.write_request(view, AT, txmd.CHECKSUM, csum_start, 6)
    assert int.from_bytes(memory[AT + 8 : AT + 12], "little") == found
    assert txmd.read_stamp(view, AT) is None


def test_the_sentinel_is_beyond_any_date():
    year_ns = 365 * 24 * 3600 * 10**9
    assert txmd.SENTINEL // year_ns + 1970 > 2550
    assert txmd.SENTINEL.bit_length() == 64


@given(value=st.integers(0, txmd.SENTINEL - 1))
def test_any_other_value_is_handed_on_as_it_is(value):
    memory = bytearray(b"\xa5" * 128)
    txmd.write_request(memoryview(memory), AT, txmd.TIMESTAMP)
    put_stamp(memory, value)
    assert txmd.read_stamp(memoryview(memory), AT) == value


@pytest.mark.parametrize("flags", [4, 8, 1 << 63, txmd.TIMESTAMP | 4, -1])
def test_a_flag_that_would_wedge_the_ring_is_refused(memory, flags):
    # Launch time (4) too: this function writes none, and the kernel would read the last one's.
    with pytest.raises(XdptstampError) as caught:
        txmd.write_request(memoryview(memory), AT, flags)
    assert isinstance(caught.value, SetupError)
    assert str(caught.value) == (
        f"Tx metadata: flags {flags:#x} are not TIMESTAMP 0x1 and CHECKSUM 0x2"
    )
    assert memory == b"\xa5" * 128
