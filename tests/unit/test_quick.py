# SPDX-License-Identifier: GPL-2.0-only
"""The quick way of a reply: that it is the general one's equal, and knows what is not its own."""

import errno
import random
from types import SimpleNamespace

import numpy as np
import pytest

from tests.unit.test_ring import CONSUMER, PRODUCER, Memory
from tests.unit.tx_kernel import U32, Kernel
from xdptstamp import ring, txmd
from xdptstamp.measure.inflight import InFlight
from xdptstamp.measure.quick import NOT_HERE, quick_path
from xdptstamp.program import META_DTYPE, META_LEN, META_VERSION, VALID_REPLY, VALID_VLAN
from xdptstamp.ring import RxRing

LEN = 60
FRAME_SIZE = 2048


class Queue:
    """One socket with its quick path; requests arrive in frames 0, 1, 2, ... by turns."""

    def __init__(self, *, is_shown_at_once=True, capacity=16):
        self.kernel = Kernel(is_shown_at_once=is_shown_at_once)
        self.memory = Memory(16, 2, U32 - 7, is_producer=False)
        indices = ring.consumer_indices(self.memory.raw, is_direct=True)
        self.kernel.rx = RxRing(self.memory.raw, indices)
        self.flight = InFlight(self.kernel, capacity)
        self.notes = []
        self.answer = quick_path(self.flight, txmd.OPTION, self.note)
        self.num_arrived = 0

    def note(self, addr, length, now_ns):
        self.notes.append((addr // FRAME_SIZE, length, now_ns))

    def arrive(self, valid=VALID_REPLY, version=META_VERSION):
        """A request comes whose reply the program has made; returns its frame."""
        frame = self.num_arrived % self.kernel.umem.num_frames
        self.num_arrived += 1
        addr = frame * FRAME_SIZE + 256
        meta = np.zeros(1, META_DTYPE)
        meta["version"], meta["valid"] = version, valid
        self.kernel.umem.view[addr - META_LEN : addr] = meta.tobytes()
        txmd.write_request(self.kernel.umem.view, addr - txmd.METADATA_LEN, txmd.TIMESTAMP)
        entry = (int(self.memory.words[PRODUCER]) % 16) * 2
        self.memory.entries[entry], self.memory.entries[entry + 1] = addr, LEN
        self.memory.add(PRODUCER, 1)
        return frame

    def serve_generally(self):
        """What the general way does; returns how many."""
        rx = self.kernel.rx
        start, count = rx.peek(16)
        entries = [((start + i) & rx.mask) * 2 for i in range(count)]
        packets = [(rx.words[entry], rx.words[entry + 1]) for entry in entries]
        rx.release(count)
        if packets:
            self.flight.send(packets, txmd.OPTION)
        return count

    def num_waiting(self):
        return (int(self.memory.words[PRODUCER]) - int(self.memory.words[CONSUMER])) & U32


@pytest.fixture(params=[True, False], ids=["since-6.17", "before-6.17"])
def queue(request):
    return Queue(is_shown_at_once=request.param)


def test_it_does_what_the_general_way_does(queue):
    ways = random.Random(1)
    total = 3000  # the rings wrap often, and their positions once
    for number in range(total):
        frame = queue.arrive()
        if ways.random() < 0.7:
            assert queue.answer() == 1
            assert queue.notes[-1][:2] == (frame, LEN)
            assert queue.notes[-1][2] <= queue.flight.tx_app_ns[frame]
        else:
            assert queue.serve_generally() == 1
        assert queue.kernel.sent[-1] == frame
        assert queue.flight.submit_number[frame] == number
        assert (queue.flight.tx_addr[frame] % FRAME_SIZE, queue.flight.tx_len[frame]) == (256, LEN)
        assert queue.flight.is_requested(np.array([frame])).all()
        assert queue.num_waiting() == 0
        queue.flight.reap()
    counts = queue.flight.counts
    assert (counts.submitted, counts.completed, queue.flight.num_pending) == (total, total, 0)
    assert counts.completed_unexpected == counts.dropped_by_kernel == 0
    assert queue.kernel.num_wakeups == total


def assert_untouched(queue, num_waiting):
    assert queue.answer() == NOT_HERE
    assert queue.num_waiting() == num_waiting
    assert queue.notes == []
    assert queue.kernel.num_wakeups == queue.flight.num_pending == 0


def test_nothing_is_there(queue):
    assert queue.answer() == 0
    assert queue.notes == []


def test_a_burst_goes_the_general_way(queue):
    queue.arrive()
    queue.arrive()
    assert_untouched(queue, 2)
    assert queue.serve_generally() == 2


@pytest.mark.parametrize("valid", [0, VALID_VLAN, VALID_VLAN | VALID_REPLY])
def test_what_is_not_ready_goes_the_general_way(queue, valid):
    queue.arrive(valid=valid)
    assert_untouched(queue, 1)


def test_a_packet_that_another_program_redirected_goes_the_general_way(queue):
    queue.arrive(version=META_VERSION + 1)
    assert_untouched(queue, 1)


def test_a_full_flight_waits(queue):
    queue = Queue(capacity=2)
    queue.kernel.is_completing = False
    for _ in range(2):
        queue.arrive()
        assert queue.answer() == 1
    queue.arrive()
    assert queue.answer() == NOT_HERE
    queue.kernel.release()
    queue.flight.reap()
    assert queue.answer() == 1


def test_a_drop_is_of_its_packet(queue):
    queue.kernel.dropped = {1, 3}
    for _ in range(5):
        queue.arrive()
        assert queue.answer() == 1
        queue.flight.reap()
    frames, done = queue.flight.take_completed([])
    assert frames[done.is_dropped].tolist() == [1, 3]
    assert queue.flight.counts.dropped_by_kernel == 2
    assert queue.flight.counts.wakeup_errors == {}
    assert not queue.flight.needs_kick


def test_a_refusal_is_counted_and_what_comes_next_waits_for_the_kick(queue):
    queue.kernel.refusal = errno.ENETDOWN
    queue.arrive()
    assert queue.answer() == 1
    assert queue.flight.needs_kick
    assert queue.flight.counts.wakeup_errors == {"ENETDOWN": 1}
    queue.arrive()
    assert queue.answer() == NOT_HERE
    queue.kernel.refusal = 0
    queue.flight.kick()
    assert queue.answer() == 1
    assert queue.kernel.sent == [0, 1]


def test_more_than_the_sndbuf_takes_is_asked_again_and_left_for_later(queue):
    queue.kernel.is_completing, queue.kernel.most_held = False, 0
    queue.arrive()
    assert queue.answer() == 1
    assert queue.flight.needs_kick
    assert queue.flight.counts.wakeup_errors == {}
    assert 1 < queue.kernel.num_wakeups < 10


def test_it_wakes_as_the_kernel_wants():
    queue = Queue()
    queue.kernel.set_need_wakeup(False)
    queue.arrive()
    assert queue.answer() == 1
    assert queue.kernel.num_wakeups == 0
    queue.kernel.config = SimpleNamespace(is_need_wakeup=False)
    always = quick_path(queue.flight, txmd.OPTION, queue.note)
    queue.arrive()
    assert always() == 1
    assert queue.kernel.num_wakeups == 1
