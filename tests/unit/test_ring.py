# SPDX-License-Identifier: GPL-2.0-only
"""Rings on memory of the test's own, which plays the kernel: positions, wrap, entries."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xdptstamp import ring
from xdptstamp._sys import libxdp
from xdptstamp._sys.libxdp import xsk_ring
from xdptstamp.ring import CompRing, FillRing, RxRing, TxRing

U32 = 0xFFFFFFFF
PRODUCER, CONSUMER, FLAGS = 0, 16, 32  # a cache line each, as the kernel has them

needs_libxdp = pytest.mark.skipif(libxdp.version() is None, reason="libxdp is not installed")
ACCESSES = pytest.mark.parametrize(
    "is_direct", [True, pytest.param(False, marks=needs_libxdp)], ids=["direct", "helpers"]
)


class Memory:
    """What the kernel maps for one ring; both positions begin at ``start``."""

    def __init__(self, size, words_per_entry, start=0, *, is_producer):
        self.words = np.zeros(64, dtype=np.uint32)
        self.words[PRODUCER] = self.words[CONSUMER] = start
        self.entries = np.zeros(size * words_per_entry, dtype=np.uint64)
        base = self.words.ctypes.data
        self.raw = xsk_ring(
            cached_prod=start,
            # As libxdp sets a ring up: a producer's cached consumer runs one ring ahead.
            cached_cons=(start + size) & U32 if is_producer else start,
            mask=size - 1,
            size=size,
            producer=base + 4 * PRODUCER,
            consumer=base + 4 * CONSUMER,
            ring=self.entries.ctypes.data,
            flags=base + 4 * FLAGS,
        )

    def add(self, which, count):
        """The kernel's side moves on."""
        self.words[which] = (int(self.words[which]) + count) & U32


def make_tx(size=8, start=0, *, is_direct=True):
    memory = Memory(size, 2, start, is_producer=True)
    return memory, TxRing(memory.raw, ring.producer_indices(memory.raw, is_direct=is_direct))


def make_fill(size=8, start=0, *, is_direct=True):
    memory = Memory(size, 1, start, is_producer=True)
    return memory, FillRing(memory.raw, ring.producer_indices(memory.raw, is_direct=is_direct))


def make_rx(size=8, start=0, *, is_direct=True):
    memory = Memory(size, 2, start, is_producer=False)
    return memory, RxRing(memory.raw, ring.consumer_indices(memory.raw, is_direct=is_direct))


def make_comp(size=8, start=0, *, is_direct=True):
    memory = Memory(size, 1, start, is_producer=False)
    return memory, CompRing(memory.raw, ring.consumer_indices(memory.raw, is_direct=is_direct))


sizes = st.sampled_from([1, 2, 8, 64])
# Most runs cross the end of the 32-bit positions.
starts = st.one_of(st.integers(U32 - 80, U32), st.integers(0, U32))
counts = st.integers(0, 80)


class ProducerMachine(RuleBasedStateMachine):
    """We reserve and submit, the kernel consumes; three unbounded numbers are the model."""

    @initialize(size=sizes, start=starts)
    def begin(self, size, start):
        self.size = size
        self.reserved = self.submitted = self.consumed = start
        self.rings = [make_tx(size, start, is_direct=is_direct) for is_direct in (True, False)]

    @rule(count=counts)
    def reserve(self, count):
        free = self.size - (self.reserved - self.consumed)
        for _, tx in self.rings:
            position, obtained = tx.reserve(count)
            assert obtained == min(count, free)
            assert obtained == 0 or position == self.reserved & U32
            for entry in tx.entries(position, obtained):
                tx.descs[entry] = (int(entry), 60, 0)
        self.reserved += min(count, free)

    @rule(data=st.data())
    def submit(self, data):
        count = data.draw(st.integers(0, self.reserved - self.submitted))
        for _, tx in self.rings:
            tx.submit(count)
        self.submitted += count

    @rule(data=st.data())
    def consume(self, data):
        count = data.draw(st.integers(0, self.submitted - self.consumed))
        for memory, _ in self.rings:
            memory.add(CONSUMER, count)
        self.consumed += count

    @invariant()
    def the_kernel_sees_what_was_submitted(self):
        for memory, tx in self.rings:
            assert memory.words[PRODUCER] == self.submitted & U32
            assert memory.words[CONSUMER] == self.consumed & U32
            assert tx.num_waiting() == self.submitted - self.consumed
            assert tx.consumer_position == self.consumed & U32


class ConsumerMachine(RuleBasedStateMachine):
    """The kernel produces numbered entries, we peek at them and release them."""

    @initialize(size=sizes, start=starts)
    def begin(self, size, start):
        self.size = size
        self.start = self.produced = self.peeked = self.released = start
        self.rings = [make_comp(size, start, is_direct=is_direct) for is_direct in (True, False)]

    @rule(data=st.data())
    def produce(self, data):
        count = data.draw(st.integers(0, self.size - (self.produced - self.released)))
        for memory, _ in self.rings:
            for position in range(self.produced, self.produced + count):
                memory.entries[position % self.size] = position - self.start
            memory.add(PRODUCER, count)
        self.produced += count

    @rule(count=counts)
    def peek(self, count):
        there = min(count, self.produced - self.peeked)
        expected = list(range(self.peeked - self.start, self.peeked - self.start + there))
        for _, comp in self.rings:
            assert self._peek_all(comp, count) == expected
        self.peeked += there

    def _peek_all(self, comp, count):
        # libxdp's helper looks at the kernel's position only when it has nothing left of the last
        # look: it may hand out fewer than there are, but never none.
        found = []
        while len(found) < count:
            position, obtained = comp.peek(count - len(found))
            assert obtained <= count - len(found)
            if not obtained:
                break
            found += [int(comp.addrs[entry]) for entry in comp.entries(position, obtained)]
        return found

    @precondition(lambda self: self.peeked > self.released)
    @rule(data=st.data())
    def release(self, data):
        count = data.draw(st.integers(1, self.peeked - self.released))
        for _, comp in self.rings:
            comp.release(count)
        self.released += count

    @invariant()
    def the_kernel_sees_what_was_released(self):
        for memory, comp in self.rings:
            assert memory.words[CONSUMER] == self.released & U32
            assert memory.words[PRODUCER] == self.produced & U32
            assert comp.num_waiting() == self.produced - self.released


# A fixed seed: what CI finds, a developer finds too.
SETTINGS = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)

TestProducer = needs_libxdp(ProducerMachine.TestCase)
TestProducer.settings = SETTINGS
TestConsumer = needs_libxdp(ConsumerMachine.TestCase)
TestConsumer.settings = SETTINGS


@ACCESSES
def test_a_full_ring_gives_no_more(is_direct):
    memory, tx = make_tx(4, is_direct=is_direct)
    assert tx.reserve(3) == (0, 3)
    assert tx.reserve(3) == (3, 1)
    assert tx.reserve(1)[1] == 0
    tx.submit(4)
    assert tx.reserve(1)[1] == 0
    memory.add(CONSUMER, 2)
    assert tx.reserve(9) == (4, 2)
    assert tx.reserve(9)[1] == 0


@ACCESSES
def test_a_ring_that_was_used_before_goes_on_where_it_was(is_direct):
    memory, comp = make_comp(8, U32 - 1, is_direct=is_direct)
    assert comp.peek(8)[1] == 0
    memory.add(PRODUCER, 5)
    assert comp.peek(8) == (U32 - 1, 5)
    comp.release(5)
    assert memory.words[CONSUMER] == 3


@ACCESSES
def test_reserved_entries_are_not_shown_before_submit(is_direct):
    memory, fill = make_fill(8, is_direct=is_direct)
    fill.reserve(5)
    assert memory.words[PRODUCER] == 0
    fill.submit(2)
    assert memory.words[PRODUCER] == 2
    fill.submit(3)
    assert memory.words[PRODUCER] == 5


@ACCESSES
def test_what_was_shown_past_the_ring_is_caught_up_with(is_direct):
    memory, tx = make_tx(4, U32, is_direct=is_direct)
    for shown in range(10):  # more than the ring holds: the kernel keeps up
        position = (U32 + shown) & U32
        assert tx.reserve(0)[1] == 0
        tx.producer[0] = (position + 1) & U32
        memory.add(CONSUMER, 1)
        tx.catch_up()
        assert memory.words[PRODUCER] == (position + 1) & U32
    assert tx.reserve(9) == (9, 4)
    tx.submit(4)
    assert memory.words[PRODUCER] == 13


def test_entries_wrap_with_the_ring_and_with_the_positions():
    _, tx = make_tx(8)
    assert tx.entries(6, 4).tolist() == [6, 7, 0, 1]
    assert tx.entries(U32 - 1, 4).tolist() == [6, 7, 0, 1]
    assert tx.entries(5, 0).tolist() == []


def test_descs_and_words_are_the_kernels_memory():
    memory, tx = make_tx(4)
    tx.descs[1] = (0x1_2345_6789, 60, 2)
    assert memory.entries.tolist() == [0, 0, 0x1_2345_6789, 60 | 2 << 32, 0, 0, 0, 0]
    tx.words[6], tx.words[7] = 4096, 1514
    assert tx.descs[3].tolist() == (4096, 1514, 0)
    tx.descs["len"][tx.entries(3, 2)] = 64
    assert tx.descs["len"].tolist() == [64, 60, 0, 64]
    _, rx = make_rx(4)
    assert (len(rx.descs), len(rx.words)) == (4, 8)


def test_addrs_and_words_are_the_kernels_memory():
    memory, fill = make_fill(4)
    fill.addrs[fill.entries(3, 2)] = np.array([2048, 4096])
    assert memory.entries.tolist() == [4096, 0, 0, 2048]
    assert fill.words.tolist() == [4096, 0, 0, 2048]


def test_the_kernel_asks_for_a_wakeup_by_one_bit():
    memory, tx = make_tx()
    assert not tx.needs_wakeup()
    memory.words[FLAGS] = 1
    assert tx.needs_wakeup()
    memory.words[FLAGS] = 2  # not ours to know
    assert not tx.needs_wakeup()


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", True), ("i686", True), ("aarch64", False), ("riscv64", False), ("", False)],
)
def test_plain_access_is_for_x86_alone(monkeypatch, machine, expected):
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert ring.uses_direct_access() is expected
