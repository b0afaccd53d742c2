# SPDX-License-Identifier: GPL-2.0-only
"""The parts of ping that need no socket: payload, schedule, the split of the losses."""

import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdptstamp.measure._ping_books import silence_error, split_losses
from xdptstamp.measure._ping_config import frame_bytes, payload_bytes
from xdptstamp.measure._ping_loop import Schedule
from xdptstamp.measure._ping_payload import CORRUPTED, FOREIGN, MIN_PAYLOAD_BYTES, Payload
from xdptstamp.sample import NULL

RUN_IDS = st.integers(0, 2**48 - 1)
SEQS = st.integers(0, 2**62)
LENGTHS = st.integers(MIN_PAYLOAD_BYTES, 1472)
NOW_NS = 1_790_000_000_000_000_001


def padded(data):
    return bytearray(data) + bytearray(256)


@given(RUN_IDS, SEQS, LENGTHS)
def test_a_payload_reads_back_as_written(run_id, seq, length):
    payload = Payload(run_id, length)
    payload.write(seq, NOW_NS)
    assert len(payload.data) == length
    time_ns = NOW_NS if length >= 26 else NULL
    assert payload.read(padded(payload.data), length) == (seq, time_ns)


@given(RUN_IDS, SEQS, LENGTHS, st.data())
def test_no_changed_byte_passes(run_id, seq, length, data):
    payload = Payload(run_id, length)
    payload.write(seq, NOW_NS)
    changed = padded(payload.data)
    at = data.draw(st.integers(0, length - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    read_seq, time_ns = payload.read(changed, length)
    if 18 <= at < 26 <= length:
        assert (read_seq, time_ns != NOW_NS) == (seq, True)  # the window compares the time
    else:
        assert read_seq == (FOREIGN if at < 8 else CORRUPTED)


@pytest.mark.parametrize("length", [18, 25, 26, 100])
@pytest.mark.parametrize("at", range(8, 18))
def test_a_changed_seq_does_not_pass_for_another(at, length):
    payload = Payload(1, length)
    payload.write(12345, NOW_NS)
    for change in range(1, 256):
        changed = padded(payload.data)
        changed[at] ^= change
        assert payload.read(changed, length)[0] == CORRUPTED


@given(SEQS, LENGTHS, st.integers(0, 2000))
def test_no_other_length_passes(seq, length, other):
    payload = Payload(1, length)
    payload.write(seq, NOW_NS)
    data = padded(payload.data) + bytearray(2000)
    if other != length:
        assert payload.read(data, other)[0] == (FOREIGN if other < 8 else CORRUPTED)


@given(RUN_IDS, SEQS, LENGTHS, st.binary(max_size=120))
def test_a_request_is_found_behind_any_headers(run_id, seq, length, headers):
    payload = Payload(run_id, length)
    payload.write(seq, NOW_NS)
    packet = bytearray(headers) + payload.data
    assert payload.seq_at_end(packet, len(packet)) == seq
    assert Payload(run_id ^ 1, length).seq_at_end(packet, len(packet)) == FOREIGN


def test_the_payload_is_what_the_format_says():
    payload = Payload(0x0102030405AB, 28)
    payload.write(0x1_0002_0004, 0x1122334455667788)
    assert payload.data.hex() == (
        "5801" + "0102030405ab" + "0007" + "0000000100020004" + "1122334455667788" + "1a1b"
    )


@pytest.mark.parametrize(
    ("family", "size", "payload"),
    [
        (socket.AF_INET, None, 18),
        (socket.AF_INET, 64, 18),
        (socket.AF_INET, 1518, 1472),
        (socket.AF_INET6, None, 18),
        (socket.AF_INET6, 1518, 1452),
    ],
)
def test_a_frame_with_its_fcs_has_the_size_asked_for(family, size, payload):
    assert payload_bytes(size, family, 1500) == payload
    if size is not None:
        assert frame_bytes(family, payload) + 4 == size


def test_the_schedule_does_not_drift():
    schedule = Schedule(1_000, 0)
    assert schedule.num_due(0) == 1
    schedule.advance(1)
    assert schedule.num_due(999) == 0
    assert schedule.num_due(3_700) == 3  # late: those of 1000, 2000 and 3000
    schedule.advance(3)
    assert schedule.due_ns == 4_000
    assert schedule.num_left_out == 0


def test_a_long_stop_leaves_requests_out_and_keeps_the_beat():
    schedule = Schedule(1_000_000, 0)
    assert schedule.num_due(3_000_500_000) == 1
    schedule.advance(1)
    assert schedule.num_left_out == 3000
    assert schedule.due_ns == 3_001_000_000


def test_a_flood_is_always_due():
    schedule = Schedule(0, 0)
    schedule.advance(schedule.num_due(0))
    assert schedule.num_due(0) == 32


@pytest.mark.parametrize(
    ("lost", "drops", "overflow", "bad", "want"),
    [
        (0, 0, 0, 0, (0, 0, 0, 0)),
        (10, 4, 4, 0, (4, 0, 6, 4)),
        (10, 4, 90, 0, (4, 0, 6, 4)),  # the namespace's counter has another socket's in it
        (10, 7, 4, 3, (4, 3, 3, 4)),  # the socket's counter has wrong checksums in it
        (10, None, 4, 0, (4, 0, 6, 4)),
        (2, 5, 5, 9, (2, 0, 0, 5)),  # duplicates dropped too
    ],
)
def test_losses_are_split_by_what_dropped_them(lost, drops, overflow, bad, want):
    before = {"rx_overflow": 1000, "rx_bad_checksum": 50}
    after = {"rx_overflow": 1000 + overflow, "rx_bad_checksum": 50 + bad}
    split = split_losses(lost, drops, before, after)
    names = ("lost_here", "lost_bad_checksum", "not_received", "rx_overflow")
    assert tuple(split[name] for name in names) == want
    assert split["rx_bad_checksum"] == bad


def test_without_the_namespace_counters_the_socket_alone_tells():
    split = split_losses(10, 4, {}, {})
    assert (split["lost_here"], split["not_received"], split["rx_bad_checksum"]) == (4, 6, 0)


QUIET = dict.fromkeys(("sent", "received", "late", "corrupted", "foreign"), 0)


def test_nothing_sent_is_an_error_with_its_reason():
    error = silence_error("192.0.2.1 port 9091", QUIET, Counter(EPERM=5, ENOBUFS=1), Counter())
    assert "EPERM: a firewall rule of this machine forbids it" in str(error)


@pytest.mark.parametrize("name", ["received", "late", "corrupted", "foreign"])
def test_whatever_came_back_is_no_silence(name):
    counts = {**QUIET, "sent": 9, name: 1}
    assert silence_error("x", counts, Counter(), Counter(ECONNREFUSED=3)) is None


def test_lost_requests_alone_are_a_result():
    assert silence_error("x", {**QUIET, "sent": 9}, Counter(ENOBUFS=1), Counter()) is None
