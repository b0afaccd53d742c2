# SPDX-License-Identifier: GPL-2.0-only
"""The books between submit and completion, against a kernel of the tests' own."""

import errno
import time

import numpy as np
import pytest

from tests.unit.tx_kernel import Kernel
from xdptstamp import stamp, txmd
from xdptstamp.errors import SetupError
from xdptstamp.measure.inflight import InFlight
from xdptstamp.sample import NULL, Cause

LEN = 60


@pytest.fixture(params=[True, False], ids=["since-6.17", "before-6.17"])
def kernel(request):
    return Kernel(is_shown_at_once=request.param)


def send(flight, frames, flags=txmd.TIMESTAMP, length=LEN):
    umem = flight.xsk.umem
    packets = []
    for frame in frames:
        addr = umem.tx_addr(frame)
        txmd.write_request(umem.view, addr - umem.tx_metadata_len, flags, 34, 6)
        packets.append((addr, length))
    flight.send(packets, txmd.OPTION if flags else 0)


def reap_all(flight):
    while flight.reap():
        continue


def take(flight, resets=()):
    """Frame to what judge says of it, in the order of completions; None for no stamp."""
    reap_all(flight)
    frames, done = flight.take_completed(list(resets))
    stamps, causes = stamp.judge(stamp.StampRules(), done)
    triples = zip(frames.tolist(), stamps.tolist(), causes.tolist(), strict=True)
    return {
        frame: (None if value == NULL else value, Cause(cause)) for frame, value, cause in triples
    }


def assert_balanced(flight):
    counts = flight.counts
    assert counts.submitted == counts.completed + counts.lost + flight.num_pending


# The good case


def test_every_packet_completes_with_its_stamp(kernel):
    flight = InFlight(kernel, 16)
    before_ns = time.clock_gettime_ns(time.CLOCK_TAI)
    for first in range(0, 48, 8):
        send(flight, range(first, first + 8))
        assert flight.num_pending == 8
        found = take(flight)
        assert list(found) == list(range(first, first + 8))
        for value, cause in found.values():
            assert cause == Cause.NONE
            assert before_ns <= value <= time.clock_gettime_ns(time.CLOCK_TAI)
    assert kernel.sent == list(range(48))
    assert (flight.counts.submitted, flight.counts.completed) == (48, 48)
    assert flight.num_pending == flight.num_completed == 0
    assert flight.last_completed == 47
    assert not flight.needs_kick
    assert flight.counts.wakeup_errors == {}


def test_what_is_kept_of_a_packet_is_its_own(kernel):
    flight = InFlight(kernel, 16)
    send(flight, [5], length=100)
    send(flight, [3], length=200)
    assert flight.tx_addr[[5, 3]].tolist() == [5 * 2048 + 24, 3 * 2048 + 24]
    assert flight.tx_len[[5, 3]].tolist() == [100, 200]
    assert flight.submit_number[[5, 3]].tolist() == [0, 1]
    assert flight.tx_app_ns[5] <= flight.tx_app_ns[3]


def test_nothing_reaped_gives_nothing(kernel):
    flight = InFlight(kernel, 16)
    assert flight.reap() == 0
    frames, done = flight.take_completed([])
    assert (frames.tolist(), done.values.tolist(), done.is_requested.tolist()) == ([], [], [])


def test_completions_out_of_order_are_matched_by_addr(kernel):
    flight = InFlight(kernel, 16)
    kernel.is_completing = False
    send(flight, [1, 2, 3])
    kernel._held.reverse()
    kernel.release()
    assert list(take(flight)) == [3, 2, 1]
    assert flight.counts.completed_unexpected == 0


# What was asked


@pytest.mark.parametrize(
    ("flags", "cause", "is_stamped"),
    [(0, Cause.NONE, False), (txmd.CHECKSUM, Cause.NONE, False), (3, Cause.NONE, True)],
)
def test_only_a_timestamp_request_has_an_outcome(kernel, flags, cause, is_stamped):
    flight = InFlight(kernel, 16)
    send(flight, [4], flags)
    assert flight.is_requested(np.array([4])).tolist() == [is_stamped]
    (found,) = take(flight).values()
    assert found[1] == cause
    assert (found[0] is not None) == is_stamped


def test_a_frame_used_again_without_a_request_shows_no_old_stamp(kernel):
    flight = InFlight(kernel, 16)
    send(flight, [4])
    assert take(flight)[4][0] is not None
    send(flight, [4], 0)
    assert take(flight)[4] == (None, Cause.NONE)


def test_a_request_that_the_umem_has_no_room_for_is_refused():
    # The kernel says EINVAL to such a packet for ever, and to all behind it.
    flight = InFlight(Kernel(tx_metadata_len=0), 16)
    with pytest.raises(
        SetupError, match=r"test0: desc\.options ask for Tx metadata; the UMEM has none"
    ):
        flight.send([(0, LEN)], txmd.OPTION)
    flight.send([(0, LEN)], 0)
    assert take(flight) == {0: (None, Cause.NONE)}


# Capacity


@pytest.mark.parametrize(("asked", "obtained"), [(0, 1), (1, 1), (7, 7), (16, 16), (9999, 16)])
def test_capacity_is_within_the_rings(kernel, asked, obtained):
    flight = InFlight(kernel, asked)
    assert flight.capacity == flight.num_free == obtained


def test_packets_in_flight_take_room_until_they_are_reaped(kernel):
    flight = InFlight(kernel, 16)
    send(flight, range(10))
    assert flight.num_free == 6
    flight.reap()
    assert flight.num_free == 16


def test_a_completion_ring_larger_than_one_batch_is_reaped_whole():
    kernel = Kernel(num_frames=1024, size=512)
    flight = InFlight(kernel, 512)
    send(flight, range(512))
    assert len(take(flight)) == 512


# Wakeups


def test_a_burst_beyond_the_budget_goes_out_in_one_kick(kernel):
    kernel = Kernel(512, 256, is_shown_at_once=kernel.is_shown_at_once)
    flight = InFlight(kernel, 256)
    send(flight, range(250))
    assert kernel.sent == list(range(250))
    assert kernel.num_wakeups == 8  # 32 each
    assert not flight.needs_kick
    assert flight.counts.wakeup_errors == {}


def test_a_nic_that_takes_no_more_is_left_alone_until_later(kernel):
    flight = InFlight(kernel, 16)
    kernel.refusal = errno.EAGAIN
    send(flight, range(8))
    assert flight.needs_kick
    assert kernel.num_wakeups < 10
    assert flight.num_free == 8
    kernel.refusal = 0
    flight.kick()
    assert not flight.needs_kick
    assert len(take(flight)) == 8


def test_an_interface_that_is_down_is_asked_once_and_counted(kernel):
    flight = InFlight(kernel, 16)
    kernel.refusal = errno.ENETDOWN
    send(flight, range(8))
    assert (kernel.num_wakeups, flight.counts.wakeup_errors) == (1, {"ENETDOWN": 1})
    assert flight.needs_kick
    assert flight.counts.dropped_by_kernel == 0
    kernel.refusal = 0
    flight.kick()
    assert all(cause == Cause.NONE for _, cause in take(flight).values())
    assert kernel.sent == list(range(8))


def test_no_wakeup_where_the_kernel_wants_none(kernel):
    flight = InFlight(kernel, 16)
    kernel.set_need_wakeup(False)
    send(flight, [1])
    assert kernel.num_wakeups == 0
    assert not flight.needs_kick


def test_a_socket_without_need_wakeup_is_always_woken(kernel):
    # The kernel then never sets the flag, and sends in the call all the same.
    kernel.config.is_need_wakeup = False
    kernel.set_need_wakeup(False)
    flight = InFlight(kernel, 16)
    send(flight, [1])
    assert kernel.sent == [1]


def test_zero_copy_is_woken_once_and_its_errors_are_not_of_packets(kernel):
    kernel.is_zero_copy = True
    flight = InFlight(kernel, 16)
    kernel.refusal = errno.EBUSY
    send(flight, [1, 2])
    assert (kernel.num_wakeups, flight.counts.wakeup_errors) == (1, {"EBUSY": 1})
    assert flight.counts.dropped_by_kernel == 0
    assert flight.needs_kick
    kernel.refusal = 0
    flight.kick()
    assert kernel.num_wakeups == 2
    assert not flight.needs_kick
    assert all(cause == Cause.NONE for _, cause in take(flight).values())


# Dropped by the kernel, which stamps and completes it all the same


@pytest.mark.parametrize("num", [1, 2, 16])
def test_with_the_peer_down_no_packet_keeps_its_stamp(kernel, num):
    flight = InFlight(kernel, 16)
    send(flight, range(num))  # moves the ring on; these get out
    assert len(take(flight)) == num
    frames = range(20, 20 + num)
    kernel.dropped = set(frames)
    send(flight, frames)
    assert take(flight) == dict.fromkeys(frames, (None, Cause.INVALID))
    assert flight.counts.dropped_by_kernel == num
    assert not flight.needs_kick
    kernel.dropped = set()
    send(flight, frames)
    assert all(cause == Cause.NONE for _, cause in take(flight).values())
    assert flight.counts.dropped_by_kernel == num
    assert_balanced(flight)


def test_a_stream_of_single_drops_is_followed(kernel):
    flight = InFlight(kernel, 16)
    for frame in range(40):
        kernel.dropped = {frame} if frame % 3 else set()
        send(flight, [frame])
        cause = Cause.INVALID if frame % 3 else Cause.NONE
        assert take(flight)[frame][1] == cause, frame


def test_drops_among_packets_that_get_out_are_told_apart():
    # Before v6.17 nobody can tell which of a call's packets it was.
    kernel = Kernel()
    flight = InFlight(kernel, 16)
    kernel.dropped = {2, 3, 9}
    send(flight, range(12))
    found = take(flight)
    assert {frame for frame, (_, cause) in found.items() if cause == Cause.INVALID} == {2, 3, 9}
    assert all(found[frame][0] is not None for frame in kernel.sent)


# Given up


def test_given_up_in_the_order_of_submission_and_no_earlier(kernel):
    flight = InFlight(kernel, 16)
    kernel.is_completing = False
    send(flight, [9, 3])
    send(flight, [7])
    assert flight.give_up(int(flight.tx_app_ns[9])).tolist() == []
    assert flight.give_up(int(flight.tx_app_ns[7])).tolist() == [9, 3]
    assert flight.give_up(int(flight.tx_app_ns[7]) + 1).tolist() == [7]
    assert flight.give_up(1 << 62).tolist() == []
    assert (flight.num_pending, flight.counts.lost) == (0, 3)
    assert_balanced(flight)


def test_a_late_completion_brings_the_frame_back_and_no_sample(kernel):
    flight = InFlight(kernel, 16)
    kernel.is_completing = False
    send(flight, [1, 2])
    flight.give_up(1 << 62)
    assert flight.take_returned() == []
    kernel.release()
    assert take(flight) == {}
    assert flight.take_returned() == [1, 2]
    assert flight.take_returned() == []
    assert (flight.counts.completed, flight.counts.completed_after_lost) == (0, 2)
    assert_balanced(flight)
    send(flight, [1])
    assert take(flight)[1][1] == Cause.NONE
    assert_balanced(flight)


def test_a_drop_is_forgotten_with_the_packet_that_was_given_up(kernel):
    # It waited in the Tx ring of an interface that was down; later it was dropped.
    flight = InFlight(kernel, 16)
    kernel.refusal = errno.ENETDOWN
    send(flight, [1])
    flight.give_up(1 << 62)
    kernel.refusal, kernel.dropped = 0, {1}
    flight.kick()
    assert take(flight) == {}
    assert flight.take_returned() == [1]
    kernel.dropped = set()
    send(flight, [1])
    value, cause = take(flight)[1]
    assert value is not None
    assert cause == Cause.NONE


def test_what_was_given_up_still_takes_room_in_the_tx_ring(kernel):
    flight = InFlight(kernel, 16)
    kernel.refusal = errno.ENETDOWN
    send(flight, range(16))
    flight.give_up(1 << 62)
    assert (flight.num_pending, flight.num_free) == (0, 0)
    kernel.refusal = 0
    flight.kick()
    assert flight.num_free == 16


def test_a_loss_is_told_from_the_end_of_the_run_by_later_completions(kernel):
    flight = InFlight(kernel, 16)
    kernel.is_completing = False
    send(flight, [1, 2, 3])
    kernel.is_completing = True
    kernel.complete(kernel._held[1])
    reap_all(flight)
    assert flight.last_completed == 1
    frames = flight.give_up(1 << 62)
    numbers = flight.submit_number[frames]
    causes = stamp.causes_of_uncompleted(numbers, flight.last_completed, is_drained=False)
    assert dict(zip(frames.tolist(), causes.tolist(), strict=True)) == {
        1: Cause.LOST_BY_DRIVER,
        3: Cause.NOT_COMPLETED,
    }


# Completions that nobody waits for


def test_a_completion_that_came_before_is_counted_and_not_taken(kernel):
    flight = InFlight(kernel, 16)
    send(flight, [1])
    kernel.complete(kernel.umem.tx_addr(1))
    assert list(take(flight)) == [1]
    assert (flight.counts.completed, flight.counts.completed_unexpected) == (1, 1)
    assert flight.num_pending == 0


def test_a_completion_of_another_addr_in_the_frame_is_not_the_packets(kernel):
    flight = InFlight(kernel, 16)
    kernel.is_completing = False
    send(flight, [1])
    kernel.is_completing = True
    kernel.complete(kernel.umem.tx_addr(1) + 4)
    assert take(flight) == {}
    assert (flight.num_pending, flight.counts.completed_unexpected) == (1, 1)
    kernel.release()
    assert list(take(flight)) == [1]


# What judge needs to know


def done_of(flight, resets=()):
    reap_all(flight)
    return flight.take_completed(list(resets))[1]


def test_each_packets_own_wait_begins_at_the_completion_before(kernel):
    flight = InFlight(kernel, 16)
    send(flight, [1])
    first = done_of(flight)
    assert first.previous_comp_ns.tolist() == [0]
    send(flight, [2, 3])
    second = done_of(flight)
    comp_ns = second.tx_comp_ns.tolist()
    assert second.previous_comp_ns.tolist() == [first.tx_comp_ns[0], comp_ns[0]]
    assert done_of(flight).previous_comp_ns.tolist() == []
    send(flight, [4])
    assert done_of(flight).previous_comp_ns.tolist() == [comp_ns[1]]


def test_a_reset_between_submit_and_completion_is_of_the_packet(kernel):
    flight = InFlight(kernel, 16)
    send(flight, [1])
    reap_all(flight)
    app_ns, comp_ns = int(flight.tx_app_ns[1]), int(flight.tx_comp_ns[1])
    for resets, expected in (
        ([], False),
        ([(app_ns - 9, app_ns - 1)], False),
        ([(comp_ns + 1, comp_ns + 9)], False),
        ([(app_ns - 9, app_ns)], True),
        ([(comp_ns, comp_ns + 9)], True),
        ([(app_ns - 9, comp_ns + 9)], True),
        ([(app_ns - 9, app_ns - 8), (app_ns, app_ns), (comp_ns + 8, comp_ns + 9)], True),
    ):
        flight._completed.append(1)
        assert flight.take_completed(resets)[1].is_reset.tolist()[-1] is expected, resets
