# SPDX-License-Identifier: GPL-2.0-only
"""Which packets ask for a timestamp, against an oracle that takes them one by one."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from xdptstamp import stream
from xdptstamp.errors import SetupError
from xdptstamp.measure.mixed_plan import pattern_of
from xdptstamp.measure.pattern import EveryPattern, RatioPattern
from xdptstamp.rounds import Setting

LONGEST = 64

ratios = st.one_of(
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from([(0, 1), (1, 0), (1, 1), (1, 10), (3, 7), (1, 1000), (64, 1), (1, 64)]),
).filter(any)
# Where a stream begins, and where its numbers of 31 bits begin again.
starts = st.one_of(
    st.integers(0, 300), st.integers(stream.NUMBER_SPAN - 100, stream.NUMBER_SPAN + 100)
)


class Oracle:
    """Packets one by one, each from those that ask before ``start``."""

    def __init__(self, asks):
        self.asks = asks

    def is_behind(self, number):
        return number > 0 and self.asks(number - 1) and not self.asks(number)

    def mask(self, start, count):
        return [self.asks(start + at) for at in range(count)]

    def stamped_at(self, start, count):
        return [at for at in range(count) if self.asks(start + at)]

    def num_stamped(self, start, end):
        return sum(self.asks(number) for number in range(start, end))

    def num_behind(self, start, end):
        return sum(self.is_behind(number) for number in range(start, end))

    def room(self, start, count, num_allowed):
        for at in range(count):
            num_allowed -= self.asks(start + at)
            if num_allowed < 0:
                return at
        return count


def oracle_of(ratio):
    stamped, plain = ratio
    return Oracle(lambda number: number % (stamped + plain) < stamped)


# T:N


@given(ratio=ratios, start=starts, count=st.integers(0, LONGEST))
def test_a_ratio_is_exact_wherever_a_batch_begins(ratio, start, count):
    pattern, oracle = RatioPattern(*ratio, LONGEST), oracle_of(ratio)
    assert (pattern.ratio, pattern.has_stamps) == (ratio, ratio[0] > 0)
    assert pattern.mask(start, count).tolist() == oracle.mask(start, count)
    assert pattern.stamped_at(start, count).tolist() == oracle.stamped_at(start, count)
    end = start + count
    gained = pattern.num_stamped(end) - pattern.num_stamped(start)
    assert gained == oracle.num_stamped(start, end)
    gained = pattern.num_behind(end) - pattern.num_behind(start)
    assert gained == oracle.num_behind(start, end)


@given(ratio=ratios, end=st.one_of(st.integers(0, 60), st.integers(950, 2100)))
def test_a_ratio_is_counted_from_packet_0(ratio, end):
    pattern, oracle = RatioPattern(*ratio, LONGEST), oracle_of(ratio)
    assert pattern.num_stamped(end) == oracle.num_stamped(0, end)
    assert pattern.num_behind(end) == oracle.num_behind(0, end)


@given(
    ratio=ratios, start=starts, count=st.integers(0, LONGEST), num_allowed=st.integers(0, LONGEST)
)
def test_a_ratio_leaves_room_for_the_stamps_that_are_allowed(ratio, start, count, num_allowed):
    room = RatioPattern(*ratio, LONGEST).room(start, count, num_allowed)
    assert room == oracle_of(ratio).room(start, count, num_allowed)


@given(ratio=ratios, data=st.data())
def test_batches_of_any_size_join_to_one_pattern(ratio, data):
    pattern, found = RatioPattern(*ratio, LONGEST), []
    while len(found) < 3 * LONGEST:
        count = data.draw(st.integers(1, LONGEST))
        found += pattern.mask(len(found), count).tolist()
    assert found == oracle_of(ratio).mask(0, len(found))


@pytest.mark.parametrize(
    ("stamped", "plain", "words"),
    [
        (0, 0, r"ratio 0:0: T or N must be above 0"),
        (-1, 3, r"ratio -1:3: T and N are from 0 to 65535"),
        (3, -1, r"T and N are from 0 to 65535"),
        (1, 65536, r"ratio 1:65536: T and N are from 0 to 65535"),
        (65536, 0, r"T and N are from 0 to 65535"),
    ],
)
def test_a_ratio_that_a_packet_cannot_carry_is_refused(stamped, plain, words):
    with pytest.raises(SetupError, match=words):
        RatioPattern(stamped, plain, LONGEST)


def test_the_greatest_ratio_is_exact():
    most = stream.MAX_PATTERN
    pattern = RatioPattern(most, most, 4)
    assert pattern.mask(most - 2, 4).tolist() == [True, True, False, False]
    assert pattern.mask(2 * most - 2, 4).tolist() == [False, False, True, True]


# One in each interval


class Planned:
    """An EveryPattern that is told of batches, and which of their first packets are to ask."""

    def __init__(self, every_ns):
        self.pattern = EveryPattern(every_ns)
        self.stamped = set()
        self.oracle = Oracle(lambda number: number in self.stamped)
        self._every_ns = every_ns
        self._due_ns = 0

    def plan(self, start, now_ns):
        self.pattern.plan(start, now_ns)
        if now_ns >= self._due_ns and start not in self.stamped:
            self.stamped.add(start)
            self._due_ns = max(self._due_ns + self._every_ns, now_ns + self._every_ns // 2)


# A time step and a batch each; 0 packets: it was planned, and there was no room for it then.
batches = st.lists(
    st.tuples(st.integers(0, 2500), st.integers(0, LONGEST)), min_size=1, max_size=60
)


@given(steps=batches, forgets=st.booleans())
def test_one_packet_in_each_interval_asks(steps, forgets):
    planned, number, now_ns = Planned(1000), 0, 10**9
    pattern, oracle = planned.pattern, planned.oracle
    for step_ns, count in steps:
        now_ns += step_ns
        planned.plan(number, now_ns)
        assert pattern.mask(number, count).tolist() == oracle.mask(number, count)
        assert pattern.stamped_at(number, count).tolist() == oracle.stamped_at(number, count)
        number += count
        if not count:
            continue
        start = number - count
        assert pattern.num_stamped(number) == oracle.num_stamped(0, number)
        gained = pattern.num_stamped(number) - pattern.num_stamped(start)
        assert gained == oracle.num_stamped(start, number)
        # A packet behind one that asks and asks itself is in both counts (see num_behind).
        gained = pattern.num_behind(number) - pattern.num_behind(start)
        assert gained == sum(n - 1 in planned.stamped for n in range(start, number))
        if forgets:
            pattern.forget(start)


@given(
    stamped=st.sets(st.integers(0, 100), max_size=12),
    start=st.integers(0, 100),
    count=st.integers(0, LONGEST),
    num_allowed=st.integers(0, 6),
)
def test_intervals_leave_room_for_the_stamps_that_are_allowed(stamped, start, count, num_allowed):
    pattern = EveryPattern(1)
    for now_ns, number in enumerate(sorted(stamped), 1):
        pattern.plan(number, 10 * now_ns)
    oracle = Oracle(lambda number: number in stamped)
    assert pattern.room(start, count, num_allowed) == oracle.room(start, count, num_allowed)


@given(stamped=st.sets(st.integers(0, 100), max_size=20), before=st.integers(0, 100))
@example(stamped={5}, before=6)
def test_what_is_forgotten_stays_counted(stamped, before):
    pattern = EveryPattern(1)
    for now_ns, number in enumerate(sorted(stamped), 1):
        pattern.plan(number, 10 * now_ns)
    assume(stamped)
    pattern.forget(before)
    oracle = Oracle(lambda number: number in stamped)
    for end in range(before, 102):
        assert pattern.num_stamped(end) == oracle.num_stamped(0, end)
        assert pattern.num_behind(end) == sum(n + 1 < end for n in stamped)
    assert pattern.mask(before, 20).tolist() == oracle.mask(before, 20)


def test_forgetting_bounds_the_memory():
    pattern = EveryPattern(10)
    for number in range(1000):
        pattern.plan(number, 10 * number)
        pattern.forget(number)
    assert len(pattern._stamped) <= 2
    assert pattern.num_stamped(1000) == 1000


def test_an_interval_begins_with_the_first_packet_and_keeps_its_rate():
    pattern = EveryPattern(1000)
    asked = []
    for number, now_ns in enumerate(range(10**9, 10**9 + 50_000, 300)):
        pattern.plan(number, now_ns)
        asked += pattern.mask(number, 1).tolist()
    assert asked[0]
    # 50 intervals; the first is half as long, and one may be lost to the grid of looks.
    assert 49 <= sum(asked) <= 51


def test_a_pause_is_not_made_up_for():
    pattern = EveryPattern(1000)
    pattern.plan(0, 1000)
    for number in range(1, 20):  # after 100 intervals
        pattern.plan(number, 101_000 + number)
    assert pattern.mask(0, 20).tolist() == [True, True] + [False] * 18


def test_a_packet_that_has_to_wait_asks_once():
    # It is planned again in each round of the loop, until there is room for it.
    pattern = EveryPattern(1000)
    for now_ns in range(10**6, 2 * 10**6, 500):
        pattern.plan(7, now_ns)
    assert pattern.num_stamped(8) == 1
    assert pattern.room(7, 10, 1) == 10
    pattern.plan(17, 3 * 10**6)
    assert (pattern.num_stamped(18), pattern.num_stamped(17)) == (2, 1)


# Settings


@pytest.mark.parametrize(
    ("setting", "ratio", "has_stamps"),
    [
        (Setting(64, 3, 7), (3, 7), True),
        (Setting(64, 0, 1), (0, 1), False),
        (Setting(64, 0, 1, 1_000_000, has_second_app=True), (0, 1), False),
        (Setting(64, 0, 1, 1_000_000), (0, 0), True),
    ],
)
def test_pattern_of_a_setting(setting, ratio, has_stamps):
    pattern = pattern_of(setting, LONGEST)
    assert (pattern.ratio, pattern.has_stamps) == (ratio, has_stamps)
