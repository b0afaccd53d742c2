# SPDX-License-Identifier: GPL-2.0-only
"""The sender of ``mixed`` against a kernel of the tests' own, which does what no link can be made
to do: completions out of order, twice, of others or never; stamps that do not come.
"""

import contextlib
import errno
import itertools
import os
import random
import struct
import threading
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from tests.unit.tx_kernel import Kernel
from xdptstamp import stamp, stream, txmd
from xdptstamp.measure import sender as sender_module
from xdptstamp.measure.pattern import EveryPattern, RatioPattern
from xdptstamp.measure.sender import INTERFACE_GONE, STALLED, Phase, Sender
from xdptstamp.measure.spool import FIELDS, IS_DROPPED, IS_REQUESTED, Spool
from xdptstamp.packet import build_udp
from xdptstamp.sample import NULL, Cause
from xdptstamp.stamp import Completed, StampRules

PAYLOAD_OFFSET = 42
HOUR_NS = 3600 * 10**9
LONGEST = 1024
NUM_PACKETS = 200
# T + N divides neither the ring nor a batch, is as long as the ring, or longer than both.
RATIOS = [(0, 1), (1, 0), (1, 1), (1, 10), (3, 7), (3, 13), (1, 1000)]
ENOUGH = "enough"


@dataclass
class Asked:
    """A packet as the kernel took it."""

    number: int
    is_marked: bool  # the word says that it asks
    flags: int
    field: int
    options: int
    slot: int


class Link(Kernel):
    """Reads what it sends, and completes it as ``order`` wants.

    :param order: called by :meth:`tick` with the addrs that are not completed; returns those that
        it completes now. None: all at once.
    """

    def __init__(self, order=None, **options):
        super().__init__(**{"num_frames": 16, "size": 16, **options})
        self.taken = []
        self.unstamped = lambda number: False
        self.lost = lambda number: False
        self.unsent = lambda number: False
        self.on_wakeup = lambda: None
        self.order = order
        self.is_completing = order is None
        self._asked = {}  # by addr, the last

    def wakeup_tx(self):
        self.on_wakeup()
        return super().wakeup_tx()

    def tick(self):
        """Some time has passed."""
        if self.order is not None:
            for addr in self.order(list(self._held)):
                self._held.remove(addr)
                self.stamp(addr)
                self.post(addr)

    def is_dropped(self, addr):
        # Called once for each packet that is taken.
        asked = self._read(addr, self._cached - 1)
        self.taken.append(asked)
        self._asked[addr] = asked
        return self.unsent(asked.number)

    def complete(self, addr):
        if not self.lost(self._asked[addr].number):
            super().complete(addr)

    def stamp(self, addr):
        if not self.unstamped(self._asked[addr].number):
            super().stamp(addr)

    def _read(self, addr, position):
        at = addr - self.umem.tx_metadata_len
        flags, field = struct.unpack_from("<QQ", self.umem.view, at)
        word, complement = struct.unpack_from(
            "!II", self.umem.view, addr + PAYLOAD_OFFSET + stream.WORD_OFFSET
        )
        assert word ^ complement == 0xFFFFFFFF
        slot = position % self.tx.size
        assert addr == self.umem.tx_addr(slot), "frame i belongs to entry i"
        options = int(self._tx.entries[2 * slot + 1]) >> 32
        return Asked(word >> 1, bool(word & 1), flags, field, options, slot)

    @property
    def num_submitted(self):
        """Descriptors that the Tx ring was ever given."""
        return (int(self._tx.words[0]) - self.START) & 0xFFFFFFFF


@pytest.fixture(autouse=True)
def looked_at_each_time(monkeypatch):
    monkeypatch.setattr(sender_module, "_LOOK_NS", 0)


@pytest.fixture
def soon_stalled(monkeypatch):
    monkeypatch.setattr(sender_module, "STALL_LIMIT_NS", 30_000_000)


def phase_of(pattern, **fields):
    payload = stream.first_payload(1, pattern.ratio, stream.LEN)
    packet = build_udp((b"\2" * 6, b"\2" * 6), ("192.0.2.1", "192.0.2.2"), (1, 1), payload)
    return Phase(packet, PAYLOAD_OFFSET, pattern, **{"duration_ns": HOUR_NS, **fields})


class Run:
    """A sender on a link, and what its spool has after :meth:`run`."""

    def __init__(self, link, folder, capacity=9999, batch=5):
        self.link = link
        self.sender = Sender(link, capacity, batch)
        self._folder = folder

    def run(self, ratio=(1, 10), look=None, num_packets=NUM_PACKETS, **fields):
        """Send that many packets or a few more; returns Sent."""
        first = len(self.link.taken)

        def tick():
            # While it drains, too.
            self.link.tick()
            if look is not None:
                return look()
            return ENOUGH if len(self.link.taken) - first >= num_packets else None

        pattern = fields.pop("pattern", None) or RatioPattern(*ratio, LONGEST)
        with Spool(self._folder) as spool:
            sent = self.sender.run(phase_of(pattern, **fields), spool, tick)
            rows = [chunk.copy() for chunk in spool.chunks()]
            assert spool.num_rows == sum(map(len, rows))
        self.rows = np.concatenate(rows) if rows else np.zeros((0, len(FIELDS)), np.int64)
        self.taken = self.link.taken[first:]
        return sent

    @property
    def numbers(self):
        """The numbers of the rows."""
        return self.rows[:, 0].tolist()

    def judged(self):
        """Number to stamp (None: none) and cause, of each row."""
        number, value, app_ns, comp_ns, previous_ns, flags = self.rows.T
        done = Completed(
            values=np.ascontiguousarray(value).view(np.uint64),
            is_requested=flags & IS_REQUESTED != 0,
            is_dropped=flags & IS_DROPPED != 0,
            is_reset=np.zeros(len(number), np.bool_),
            tx_app_ns=app_ns,
            tx_comp_ns=comp_ns,
            previous_comp_ns=previous_ns,
        )
        stamps, causes = stamp.judge(StampRules(), done)
        triples = zip(number.tolist(), stamps.tolist(), causes.tolist(), strict=True)
        return {n: (None if value == NULL else value, Cause(cause)) for n, value, cause in triples}


def assert_exact(run, ratio, sent):
    """Every packet is the one that the pattern wants, its request included."""
    assert [asked.number for asked in run.taken] == list(range(sent.sent))
    for asked in run.taken:
        is_stamped = asked.number % sum(ratio) < ratio[0]
        assert asked.is_marked == is_stamped, asked
        assert asked.flags == (txmd.TIMESTAMP if is_stamped else 0), asked
        assert asked.options == (txmd.OPTION if is_stamped else 0), asked
        assert asked.field == txmd.SENTINEL, asked
    assert sent.num_requested == sum(asked.is_marked for asked in run.taken)


def assert_all_completed(sent):
    assert sent.completed == sent.sent
    assert sent.uncompleted.tolist() == sent.uncompleted_app_ns.tolist() == []
    assert sent.is_uncompleted_requested.tolist() == []
    assert sent.last_completed == sent.sent - 1
    assert sent.is_drained
    assert sum(each.count for each in sent.holds.by_position.values()) == sent.sent


# The good case


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("is_shown_at_once", [True, False], ids=["since-6.17", "before-6.17"])
def test_the_pattern_is_exact_over_ring_wraps_and_phases(tmp_path, ratio, is_shown_at_once):
    run = Run(Link(is_shown_at_once=is_shown_at_once), tmp_path)
    # Each phase begins elsewhere in the ring, with whatever the frames asked before.
    for each in (ratio, (1, 0), ratio, (0, 1), ratio):
        sent = run.run(each, num_packets=NUM_PACKETS + 7)
        assert sent.reason == ENOUGH
        assert sent.sent > 10 * run.link.tx.size
        assert_exact(run, each, sent)
        assert_all_completed(sent)
        assert run.numbers == [n for n in range(sent.sent) if n % sum(each) < each[0]]
        assert all(cause == Cause.NONE for _, cause in run.judged().values())
        assert (sent.completed_unexpected, sent.num_dropped, sent.wakeup_errors) == (0, 0, {})
    bases = {asked.slot for asked in run.link.taken if asked.number == 0}
    assert len(bases) > 1


@pytest.mark.parametrize("batch", [1, 7, 16, 9999])
@pytest.mark.parametrize("capacity", [1, 3, 16])
def test_no_more_is_in_flight_than_may_be(tmp_path, batch, capacity):
    link = Link(order=lambda held: held[:2] if next(turns) % 20 == 0 else [])
    most, turns = [], itertools.count()
    link.on_wakeup = lambda: most.append(link.num_submitted - len(run_completed(link)))
    run = Run(link, tmp_path, capacity, batch)
    assert run.sender.batch == min(batch, capacity)
    sent = run.run((3, 7))
    assert_exact(run, (3, 7), sent)
    assert_all_completed(sent)
    assert max(most) == capacity


def run_completed(link):
    """As many entries as were ever put into the completion ring."""
    return range((int(link._comp.words[0]) - link.START) & 0xFFFFFFFF)


def test_the_numbers_of_31_bits_begin_again(tmp_path, monkeypatch):
    # So long a stream takes an hour; a shorter span takes the same way.
    monkeypatch.setattr(stream, "NUMBER_SPAN", 60)
    run = Run(Link(), tmp_path)
    sent = run.run((3, 7))
    assert [asked.number for asked in run.taken] == [n % 60 for n in range(sent.sent)]
    assert [asked.is_marked for asked in run.taken] == [n % 10 < 3 for n in range(sent.sent)]
    assert run.numbers == [n for n in range(sent.sent) if n % 10 < 3]
    assert_all_completed(sent)


def test_every_packet_is_kept_where_that_is_asked(tmp_path):
    run = Run(Link(), tmp_path)
    sent = run.run((3, 7), records_all=True)
    assert run.numbers == list(range(sent.sent))
    requested = [n for n, flags in run.rows[:, [0, 5]].tolist() if flags & IS_REQUESTED]
    assert requested == [n for n in range(sent.sent) if n % 10 < 3]
    for number, (value, cause) in run.judged().items():
        assert (value is not None, cause) == (number % 10 < 3, Cause.NONE)


def test_one_packet_in_each_interval_asks(tmp_path):
    run = Run(Link(), tmp_path)
    pattern = EveryPattern(200_000)
    sent = run.run(pattern=pattern)
    asked = [each.number for each in run.taken if each.is_marked]
    assert run.numbers == asked
    assert sent.num_requested == len(asked)
    assert asked[0] == 0
    for each in run.taken:
        assert (each.flags, each.options) == (
            (txmd.TIMESTAMP, txmd.OPTION) if each.is_marked else (0, 0)
        )
    assert_all_completed(sent)


# Completions in any order


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [(1, 1), (3, 7), (1, 0)])
def test_completions_out_of_order_are_matched_by_addr(tmp_path, seed, ratio):
    chance = random.Random(seed)

    def some(held):
        chance.shuffle(held)
        return held[: chance.randint(0, len(held))]

    run = Run(Link(some), tmp_path)
    for _ in range(2):
        sent = run.run(ratio)
        assert_exact(run, ratio, sent)
        assert_all_completed(sent)
        assert sorted(run.numbers) == [n for n in range(sent.sent) if n % sum(ratio) < ratio[0]]
        assert all(cause == Cause.NONE for _, cause in run.judged().values())
        assert sent.completed_unexpected == 0
    assert run.numbers != sorted(run.numbers)


def test_what_nobody_waits_for_is_counted_and_harms_nothing(tmp_path):
    link = Link(order=lambda held: held)
    injected = []

    def inject():
        # One that has completed and was not used again, another addr in the frame of one that is
        # on its way, one behind the Tx ring's frames, one outside the memory.
        others = [link.umem.tx_addr(0) + 4, link.umem.tx_addr(16), (1 << 40) + 24]
        done = [link.umem.tx_addr(each.slot) for each in link.taken[-12:-11]]
        for addr in [*others, *done]:
            injected.append(addr)
            link.post(addr)

    turns = itertools.count()
    link.on_wakeup = lambda: inject() if next(turns) % 3 == 2 else None
    run = Run(link, tmp_path, capacity=4)
    sent = run.run((1, 1))
    assert len(injected) > 40
    assert sent.completed_unexpected == len(injected)
    assert_exact(run, (1, 1), sent)
    assert_all_completed(sent)
    assert run.numbers == list(range(0, sent.sent, 2))
    injected.clear()
    assert run.run((1, 1)).completed_unexpected == len(injected)


def test_one_that_comes_again_before_an_earlier_one_is_not_another_packets(tmp_path):
    early, twice = [], []

    def second_first(held):
        if early:
            twice.append(early.pop())
            link.post(twice[-1])
            return held
        early.extend(held[1:2])
        return held[1:2] or held

    link = Link(second_first)
    run = Run(link, tmp_path)
    sent = run.run((1, 1))
    assert len(twice) > 10
    assert sent.completed_unexpected == len(twice)
    assert_exact(run, (1, 1), sent)
    assert_all_completed(sent)


# Completions that never come


def test_completions_that_never_come_end_it_with_exact_books(tmp_path, soon_stalled):
    missing = {50, 53, 54, 55}
    link = Link()
    link.lost = missing.__contains__
    run = Run(link, tmp_path)
    sent = run.run((1, 3), look=lambda: None)
    assert sent.reason == STALLED
    assert sent.sent == 50 + 16  # as long as there are entries
    assert sent.uncompleted.tolist() == sorted(missing)
    assert sent.is_uncompleted_requested.tolist() == [n % 4 < 1 for n in sorted(missing)]
    assert sent.completed == sent.sent - len(missing)
    assert (sent.last_completed, sent.is_drained) == (65, True)
    stamped = [n for n in range(sent.sent) if n % 4 < 1]
    assert sorted([*run.numbers, *sent.uncompleted[sent.is_uncompleted_requested]]) == stamped
    # Each was submitted with its batch: 50 to 54, 55 to 59.
    times = dict(run.rows[:, [0, 2]].tolist())
    assert sent.uncompleted_app_ns.tolist() == [times[52]] * 3 + [times[56]]
    causes = stamp.causes_of_uncompleted(
        sent.uncompleted, sent.last_completed, is_drained=sent.is_drained
    )
    assert set(causes.tolist()) == {Cause.LOST_BY_DRIVER}


def test_completions_that_stop_altogether(tmp_path, soon_stalled):
    link = Link()
    link.lost = lambda number: number >= 100
    run = Run(link, tmp_path)
    sent = run.run((1, 0), look=lambda: None)
    assert sent.reason == STALLED
    assert sent.uncompleted.tolist() == list(range(100, 116))
    assert (sent.completed, sent.sent, sent.last_completed) == (100, 116, 99)
    assert sent.is_uncompleted_requested.all()


def test_none_at_all(tmp_path, soon_stalled):
    link = Link()
    link.lost = lambda number: True
    sent = Run(link, tmp_path).run((1, 1), look=lambda: None)
    assert (sent.reason, sent.completed, sent.last_completed) == (STALLED, 0, -1)
    assert sent.uncompleted.tolist() == list(range(16))
    assert sent.duration_ns == 0


def test_the_end_of_the_time_waits_for_the_last_completions(tmp_path, soon_stalled):
    link = Link(order=lambda held: [])
    run, looks = Run(link, tmp_path), []

    def look():
        # Called when it begins to send, and while it drains.
        looks.append(sender_module.time.monotonic_ns())
        if looks[-1] > looks[0] + 10_000_000:
            link.order = list

    sent = run.run((1, 1), look=look, duration_ns=5_000_000)
    assert sent.reason == "duration"
    assert sent.sent == 16
    assert_all_completed(sent)


def test_the_drain_goes_on_as_long_as_completions_come(tmp_path, soon_stalled, monkeypatch):
    clock, last = Clock(1000), [0]
    monkeypatch.setattr(sender_module, "time", clock)

    def one_each_20_ms(held):
        if clock.now_ns < last[0] + 20_000_000:
            return []
        last[0] = clock.now_ns
        return held[:1]

    run = Run(Link(one_each_20_ms), tmp_path)
    sent = run.run((1, 1), look=lambda: None, duration_ns=1_000_000)
    assert sent.reason == "duration"
    assert sent.duration_ns > 5 * sender_module.STALL_LIMIT_NS
    assert_all_completed(sent)


def test_an_interface_that_is_gone_is_not_waited_for(tmp_path):
    link = Link()
    link.lost = lambda number: number >= 20
    run = Run(link, tmp_path)
    before_ns = sender_module.time.monotonic_ns()
    sent = run.run((1, 1), look=lambda: INTERFACE_GONE if len(link.taken) > 30 else None)
    assert sender_module.time.monotonic_ns() - before_ns < sender_module.STALL_LIMIT_NS / 4
    assert (sent.reason, sent.is_drained) == (INTERFACE_GONE, False)
    assert sent.uncompleted.tolist() == list(range(20, sent.sent))
    causes = stamp.causes_of_uncompleted(
        sent.uncompleted, sent.last_completed, is_drained=sent.is_drained
    )
    assert set(causes.tolist()) == {Cause.NOT_COMPLETED}


def test_an_error_in_the_loop_drains_all_the_same(tmp_path):
    link = Link(order=lambda held: held[:1])
    run = Run(link, tmp_path)

    def look():
        if len(link.taken) > 30 and not failed:
            failed.append(True)
            raise KeyboardInterrupt

    failed = []
    with pytest.raises(KeyboardInterrupt):
        run.run((1, 1), look=look)
    assert run.sender._next == run.sender._done > 30


# What the kernel drops, and stamps and completes all the same


@pytest.mark.parametrize("is_shown_at_once", [True, False], ids=["since-6.17", "before-6.17"])
@pytest.mark.parametrize("ratio", [(1, 0), (3, 7), (1, 10)])
def test_a_stretch_of_dropped_packets_is_invalid_and_nothing_else(
    tmp_path, ratio, is_shown_at_once
):
    link = Link(is_shown_at_once=is_shown_at_once)
    link.unsent = range(40, 80).__contains__  # whole batches, as of a link that is down
    run = Run(link, tmp_path)
    sent = run.run(ratio)
    assert_exact(run, ratio, sent)
    assert_all_completed(sent)
    assert sent.num_dropped == 40
    found = run.judged()
    assert sorted(found) == [n for n in range(sent.sent) if n % sum(ratio) < ratio[0]]
    for number, (value, cause) in found.items():
        is_dropped = 40 <= number < 80
        assert cause == (Cause.INVALID if is_dropped else Cause.NONE), number
        assert (value is None) == is_dropped
    # Of this phase alone.
    link.unsent = lambda number: False
    sent = run.run((1, 0))
    assert sent.num_dropped == 0
    assert {cause for _, cause in run.judged().values()} == {Cause.NONE}


@pytest.mark.parametrize("records_all", [False, True])
def test_single_drops_are_told_apart(tmp_path, records_all):
    # Since v6.17; before, nobody can tell which of a call's packets it was.
    dropped = {3, 17, 18, 40, 41, 42, 90, 133}
    link = Link()
    link.unsent = dropped.__contains__
    run = Run(link, tmp_path)
    sent = run.run((2, 3), records_all=records_all)
    assert sent.num_dropped == len(dropped)
    flagged = {n for n, flags in run.rows[:, [0, 5]].tolist() if flags & IS_DROPPED}
    assert flagged == (dropped if records_all else {n for n in dropped if n % 5 < 2})
    assert sent.wakeup_errors == {}


def test_drops_of_a_stream_are_not_of_the_next(tmp_path):
    link = Link()
    link.unsent = lambda number: True
    run = Run(link, tmp_path)
    run.run((0, 1))
    link.unsent = (7).__eq__
    run.run((1, 0))
    assert [n for n, (_, cause) in run.judged().items() if cause != Cause.NONE] == [7]


# Stamps


def test_a_stamp_that_did_not_come_is_none_whatever_the_frame_had_before(tmp_path):
    link = Link()
    run = Run(link, tmp_path)
    run.run((1, 0))  # every frame has had a stamp
    link.unstamped = lambda number: number % 3 == 0
    sent = run.run((1, 0))
    found = run.judged()
    assert sorted(found) == list(range(sent.sent))
    for number, (value, cause) in found.items():
        expected = (True, Cause.SKIPPED) if number % 3 == 0 else (False, Cause.NONE)
        assert (value is None, cause) == expected


def test_a_stamp_lies_between_submit_and_completion(tmp_path):
    run = Run(Link(), tmp_path)
    run.run((1, 0))
    _, value, app_ns, comp_ns, previous_ns, _ = run.rows.T
    assert (app_ns <= value).all()
    assert (value <= comp_ns).all()
    moments = dict(zip(comp_ns.tolist(), previous_ns.tolist(), strict=True))
    assert list(moments.values()) == [0, *list(moments)[:-1]]


# At most so many stamps pending


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("ratio", [(1, 0), (3, 1), (2, 5), (1, 10), (0, 1)])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_more_stamps_are_pending_than_may_be(tmp_path, most, ratio, seed):
    chance = random.Random(seed)
    link = Link(lambda held: chance.sample(held, chance.randint(0, len(held))))
    pending = []

    def count():
        # Submitted and not yet in the completion ring; packet n is the n-th of them.
        submitted = sum(n % sum(ratio) < ratio[0] for n in range(link.num_submitted))
        completed = sum(asked.is_marked for asked in link.taken)
        completed -= sum(link._asked[addr].is_marked for addr in link._held)
        pending.append(submitted - completed)

    link.on_wakeup = count
    run = Run(link, tmp_path)
    sent = run.run(ratio, max_pending=most)
    assert_exact(run, ratio, sent)
    assert_all_completed(sent)
    # The ring holds 2 at most of those that are 11 apart.
    in_ring = 2 if ratio == (1, 10) else 16
    assert max(pending) == (min(most, in_ring) if ratio[0] else 0)
    assert (sent.throttled_ns > 0) == (ratio[0] > 0 and most < in_ring)
    assert sent.throttled_ns <= sent.duration_ns


def test_without_a_limit_nothing_is_throttled(tmp_path):
    sent = Run(Link(order=lambda held: held[:1]), tmp_path).run((1, 0))
    assert sent.throttled_ns == 0


@pytest.mark.parametrize(("ratio", "num_sent"), [((1, 10), 11), ((1, 0), 1)])
def test_waiting_without_any_completion_is_no_part_of_the_time(
    tmp_path, soon_stalled, ratio, num_sent
):
    run = Run(Link(order=lambda held: []), tmp_path)
    sent = run.run(ratio, look=lambda: None, max_pending=1)
    # The plain ones behind the first went out; the next one that asks waited for the whole limit.
    assert (sent.reason, sent.sent, sent.completed) == (STALLED, num_sent, 0)
    assert sent.throttled_ns == sent.duration_ns == 0


def test_waiting_ends_with_the_last_completion(tmp_path, soon_stalled, monkeypatch):
    monkeypatch.setattr(sender_module, "time", Clock(1000))
    link = Link()
    link.lost = (33).__eq__
    run = Run(link, tmp_path)
    sent = run.run((1, 0), look=lambda: None, max_pending=1)
    assert (sent.reason, sent.uncompleted.tolist()) == (STALLED, [33])
    assert 0 < sent.throttled_ns <= sent.duration_ns < sender_module.STALL_LIMIT_NS


def test_one_that_waits_for_its_turn_asks_once(tmp_path):
    # One in each interval, however long the one before is pending.
    link = Link(order=lambda held: held if next(turns) % 200 == 0 else [])
    turns = itertools.count()
    run = Run(link, tmp_path)
    sent = run.run(pattern=EveryPattern(1000), max_pending=1, num_packets=100)
    asked = [each.number for each in run.taken if each.is_marked]
    assert sent.num_requested == len(asked) == len(run.numbers)
    assert sent.throttled_ns > 0
    assert_all_completed(sent)


# Pace


class Clock:
    """Time that passes by itself a little with each look at it, and where somebody sleeps."""

    CLOCK_TAI = 11

    def __init__(self, step_ns):
        self.now_ns, self._step_ns = 10**15, step_ns
        self.slept_s = 0.0

    def monotonic_ns(self):
        self.now_ns += self._step_ns
        return self.now_ns

    def clock_gettime_ns(self, _clock):
        return self.now_ns + 10**12

    def sleep(self, seconds):
        self.now_ns += int(seconds * 1e9)
        self.slept_s += seconds

    def poll(self, milliseconds):
        self.sleep(milliseconds / 1000)


@pytest.mark.parametrize("is_spinning", [False, True])
@pytest.mark.parametrize(
    "interval_ns", [Fraction(10**6, 7), Fraction(1_000_003, 17), Fraction(20_000), Fraction(900)]
)
def test_packets_leave_at_their_pace(tmp_path, monkeypatch, interval_ns, is_spinning):
    clock, duration_ns = Clock(500), int(400 * interval_ns)
    monkeypatch.setattr(sender_module, "time", clock)
    link = Link()
    run = Run(link, tmp_path, batch=16)
    run.sender._news = clock
    start_ns, most = clock.now_ns, []

    def check():
        due = (clock.now_ns - start_ns) / interval_ns + 1
        assert link.num_submitted <= due
        most.append(due - link.num_submitted)

    link.on_wakeup = check
    monkeypatch.setattr(sender_module, "_LOOK_NS", 100_000_000)
    sent = run.run(
        (1, 1),
        look=lambda: None,
        duration_ns=duration_ns,
        interval_ns=interval_ns,
        is_spinning=is_spinning,
    )
    assert sent.reason == "duration"
    # One a step late at most, and those of the last step.
    assert 400 - 150_000 / interval_ns - 1 <= sent.sent <= 401
    assert max(most) <= 150_000 / interval_ns + 2
    assert (clock.slept_s == 0) == is_spinning


def test_a_pause_is_made_up_for_in_batches(tmp_path, monkeypatch):
    clock = Clock(100)
    monkeypatch.setattr(sender_module, "time", clock)
    link = Link()
    run = Run(link, tmp_path, batch=4)
    run.sender._news = clock
    jumps = iter([10**7])

    def jump():
        if len(link.taken) > 50:
            clock.now_ns += next(jumps, 0)

    link.on_wakeup = jump
    sent = run.run((1, 1), look=lambda: None, duration_ns=2 * 10**7, interval_ns=Fraction(100_000))
    assert sent.sent == 200


# The kernel that takes no more


@pytest.mark.parametrize("is_shown_at_once", [True, False], ids=["since-6.17", "before-6.17"])
@pytest.mark.parametrize("most_held", [1, 3, 7])
def test_a_kernel_that_takes_only_so_many_at_a_time(tmp_path, is_shown_at_once, most_held):
    # A socket's send buffer is full: before v6.17 the ring does not show what was taken.
    link = Link(lambda held: held[: next(turns) % 3], is_shown_at_once=is_shown_at_once)
    link.most_held = most_held
    turns = itertools.count()
    run = Run(link, tmp_path)
    for _ in range(2):
        sent = run.run((3, 7))
        assert_exact(run, (3, 7), sent)
        assert_all_completed(sent)
        assert sent.wakeup_errors == {}


@pytest.mark.parametrize("code", [errno.ENETDOWN, errno.ENOBUFS])
def test_a_kernel_that_refuses_for_now_is_counted(tmp_path, code):
    link = Link()
    run = Run(link, tmp_path)
    run.run((1, 1))
    refusals = iter([code] * 5)

    def refuse():
        link.refusal = next(refusals, 0) if len(link.taken) > 300 else 0

    link.on_wakeup = refuse
    sent = run.run((1, 1))
    assert sent.wakeup_errors == {errno.errorcode[code]: 5}
    assert_exact(run, (1, 1), sent)
    assert_all_completed(sent)
    assert run.run((1, 1)).wakeup_errors == {}


def test_zero_copy_is_woken_where_it_wants_to_be(tmp_path):
    link = Link()
    link.is_zero_copy = True
    run = Run(link, tmp_path)
    sent = run.run((1, 1))
    assert_exact(run, (1, 1), sent)
    assert_all_completed(sent)


def test_news_wake_a_sleeping_sender(tmp_path, monkeypatch):
    monkeypatch.setattr(sender_module, "_LOOK_NS", HOUR_NS)  # it sleeps until the next look
    read_fd, write_fd = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read_fd)
        stack.callback(os.close, write_fd)
        sender = Sender(Link(), 16, 4, (read_fd,))
        timer = threading.Timer(0.02, os.write, (write_fd, b"x"))
        stack.callback(timer.join)
        sleep = sender._sleep

        def sleep_once(seconds):
            assert seconds == pytest.approx(1000, rel=0.1)
            timer.start()
            sleep(seconds)
            raise InterruptedError

        monkeypatch.setattr(sender, "_sleep", sleep_once)
        spool = stack.enter_context(Spool(tmp_path))
        phase = phase_of(RatioPattern(1, 1, 16), interval_ns=Fraction(10**12))
        with pytest.raises(InterruptedError):
            sender.run(phase, spool, lambda: None)
