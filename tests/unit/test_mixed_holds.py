# SPDX-License-Identifier: GPL-2.0-only
"""Hold times by where a packet stands, against an oracle that takes packets one by one."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdptstamp.measure import holds as holds_module
from xdptstamp.measure.holds import Holds
from xdptstamp.measure.pattern import EveryPattern, RatioPattern
from xdptstamp.rounds import POSITIONS

RATIOS = [(0, 1), (1, 0), (1, 1), (1, 10), (3, 7), (2, 1), (1, 1000)]


def position_of(asks, number):
    if asks(number):
        return "stamped"
    return "behind" if number > 0 and asks(number - 1) else "others"


def assert_same(holds, expected):
    """Exactly these times: below 256 ns a histogram has a bucket for each."""
    found = {name: dict(each.buckets()) for name, each in holds.by_position.items()}
    assert found == expected


@settings(deadline=None)
@given(
    ratio=st.sampled_from(RATIOS),
    first=st.integers(0, 3000),
    parts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 255)), max_size=30),
    fold_size=st.integers(1, 8),
)
def test_each_packet_is_counted_once_where_it_stands(ratio, first, parts, fold_size):
    stamped, plain = ratio
    expected = {position: {} for position in POSITIONS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holds_module, "_FOLD_SIZE", fold_size)
        holds, start = Holds(RatioPattern(*ratio, 64)), first
        for count, hold_ns in parts:
            holds.note(start, start + count, hold_ns)
            for number in range(start, start + count):
                position = position_of(lambda n: n % (stamped + plain) < stamped, number)
                times = expected[position]
                times[hold_ns] = times.get(hold_ns, 0) + 1
            start += count
        holds.fold()
        holds.fold()  # nothing is taken twice
    assert_same(holds, expected)


def test_packets_that_ask_between_others_are_told_apart():
    pattern = EveryPattern(1000)
    holds = Holds(pattern)
    pattern.plan(0, 5000)
    pattern.plan(10, 6000)
    holds.note(0, 10, 100)
    pattern.forget(10)
    holds.note(10, 11, 120)
    pattern.forget(11)
    holds.note(11, 20, 140)
    holds.fold()
    assert_same(
        holds,
        {"stamped": {100: 1, 120: 1}, "behind": {100: 1, 140: 1}, "others": {100: 8, 140: 8}},
    )


def test_a_clock_set_back_gives_no_negative_time():
    holds = Holds(RatioPattern(1, 1, 64))
    holds.note(0, 4, -5_000_000)
    holds.fold()
    assert_same(holds, {"stamped": {0: 2}, "behind": {0: 2}, "others": {}})


def test_the_period_is_from_one_look_to_the_next():
    holds = Holds(RatioPattern(0, 1, 64))
    looks = [1000, 1010, 1010, 1250, 1251]
    for now_ns in looks:
        holds.look(now_ns)
    holds.fold()
    expected = sorted(after - before for before, after in itertools.pairwise(looks))
    assert [ns for ns, count in holds.reap.buckets() for _ in range(count)] == expected


def test_what_is_pending_is_bounded():
    holds = Holds(RatioPattern(1, 10, 64))
    for number in range(5000):
        holds.look(number + 1)
        holds.note(number, number + 1, 7)
    assert len(holds._pending) < 1100
    assert len(holds._periods) < 1100
    holds.fold()
    assert sum(each.count for each in holds.by_position.values()) == 5000
    assert holds.reap.count == 4999
