# SPDX-License-Identifier: GPL-2.0-only
"""How two clocks compare: exact arithmetic, honest uncertainty, and refusals."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdptstamp.clock import ClockSample, SameClock, UnknownClock
from xdptstamp.comparison import MAX_GAP_NS, Comparison
from xdptstamp.sample import NULL

T0 = 1_790_000_000_123_456_789
SECOND, MS, US = 1_000_000_000, 1_000_000, 1_000


def sampled(times, phc_of, sure=0):
    return Comparison([ClockSample(t, phc_of(t), sure) for t in times])


def running(offset, ppb):
    """The PHC that is ``offset`` away at T0 and runs faster by ``ppb``."""
    return lambda tai: tai + offset + (tai - T0) * ppb // SECOND


def moved(comparison, phc, first, last=None):
    """One time of the PHC on CLOCK_TAI."""
    arrays = [np.array([value]) for value in (phc, first, first if last is None else last)]
    tai, sure = comparison.to_tai(*arrays)
    return int(tai[0]), int(sure[0])


EVERY_SECOND = [T0 + n * SECOND for n in range(6)]


def test_a_sample_knows_all_three_clocks():
    sample = ClockSample(T0, T0 + 5, 100, tai_offset_s=37)
    assert sample.offset_ns == 5
    assert sample.realtime_ns == T0 - 37 * SECOND


@given(
    offset=st.integers(-(2**60), 2**60),
    ppb=st.integers(-9_000_000, 9_000_000),
    at=st.integers(0, 5 * SECOND),
    gap=st.integers(1 * MS, 11 * SECOND),
    sure=st.integers(2, 10 * MS),  # whole nanoseconds are never surer than that
)
@settings(max_examples=300, deadline=None)
def test_a_constant_rate_is_followed_to_the_nanosecond(offset, ppb, at, gap, sure):
    phc_of = running(offset, ppb)
    comparison = sampled([T0 + n * gap for n in range(6)], phc_of, sure)
    assert comparison.num_stretches == 1
    tai = T0 + at * gap // SECOND
    found, error = moved(comparison, phc_of(tai), tai)
    # What was rounded down is the PHC's own nanosecond, at both ends of the line too.
    assert abs(found - tai) <= 3
    assert abs(found - tai) <= error + 3
    assert error <= sure + 4 + gap // 2_000_000 + 1
    offset_there, same_error = comparison.offset_at(tai)
    assert abs(tai + offset_there - phc_of(tai)) <= 3
    # A millionth of the time to the nearest sample, which the two clocks do not agree on.
    assert abs(same_error - error) <= 2 + gap // 100_000_000


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_line_is_what_exact_fractions_say(data):
    gaps = data.draw(st.lists(st.integers(1 * US, MAX_GAP_NS), min_size=2, max_size=2))
    steps = [data.draw(st.integers(-gap // 200, gap // 200)) for gap in gaps]
    offset = data.draw(st.integers(-(2**58), 2**58))
    comparison, tai = Comparison(), T0
    comparison.add(ClockSample(tai, tai + offset, 5))
    for gap, step in zip(gaps, steps, strict=True):
        tai, offset = tai + gap, offset + step
        comparison.add(ClockSample(tai, tai + offset, 7), continues=True)
    first, middle, last = comparison.samples
    phc = data.draw(st.integers(first.phc_ns, last.phc_ns))
    start, end = (first, middle) if phc < middle.phc_ns else (middle, last)
    share = Fraction(phc - start.phc_ns, end.phc_ns - start.phc_ns)
    exact = start.offset_ns + share * (end.offset_ns - start.offset_ns)
    found, error = moved(comparison, phc, first.tai_ns, last.tai_ns)
    assert found == phc - exact.__floor__()
    bent = abs(
        middle.offset_ns
        - (
            first.offset_ns
            + (last.offset_ns - first.offset_ns)
            * (middle.tai_ns - first.tai_ns)
            // (last.tai_ns - first.tai_ns)
        )
    )
    near = min(phc - start.phc_ns, end.phc_ns - phc)
    assert error == 7 + 2 * bent + -(-near // 1_000_000)


@given(
    offset=st.integers(-(2**58), 2**58),
    ppb=st.integers(-200_000, 200_000),
    other_ppb=st.integers(-200_000, 200_000),
    change_at=st.integers(0, 5 * SECOND),
    noise=st.lists(st.integers(-20 * US, 20 * US), min_size=6, max_size=6),
    at=st.integers(0, 5 * SECOND),
)
@settings(max_examples=300, deadline=None)
def test_the_stated_uncertainty_holds_where_the_rate_changes(
    offset, ppb, other_ppb, change_at, noise, at
):
    """A servo's work: another rate from some moment on, and readings that are off by up to u."""

    def phc_of(tai):
        since = max(tai - T0 - change_at, 0)
        return tai + offset + (tai - T0 - since) * ppb // SECOND + since * other_ppb // SECOND

    samples = [
        ClockSample(t, phc_of(t) + off, 20 * US) for t, off in zip(EVERY_SECOND, noise, strict=True)
    ]
    comparison = Comparison(samples)
    assert comparison.num_stretches == 1
    tai = T0 + at
    found, error = moved(comparison, phc_of(tai), tai)
    if found == NULL:
        # Beyond what was read at the ends, where a reading was off.
        assert not samples[0].phc_ns <= phc_of(tai) <= samples[-1].phc_ns
        return
    # A change that hides behind the noise of its neighbours is off by no more than they are.
    assert abs(found - tai) <= error + 40 * US


@given(
    step=st.integers(-400 * US, 400 * US),
    step_at=st.integers(0, 5 * SECOND),
    at=st.integers(0, 5 * SECOND),
)
@settings(max_examples=300, deadline=None)
def test_a_step_too_small_to_be_told_is_in_the_uncertainty(step, step_at, at):
    def phc_of(tai):
        return tai + 37 * SECOND + (step if tai - T0 > step_at else 0)

    comparison = sampled(EVERY_SECOND, phc_of, 1 * US)
    assert comparison.num_stretches == 1
    tai = T0 + at
    found, error = moved(comparison, phc_of(tai), tai)
    if found != NULL:
        assert abs(found - tai) <= error


@given(
    step=st.one_of(st.integers(2 * MS, 2**55), st.integers(-(2**55), -2 * MS)),
    ppb=st.integers(-50_000, 50_000),
    row=st.integers(0, 5 * SECOND),
    length=st.integers(0, SECOND),
)
@settings(max_examples=300, deadline=None)
def test_nothing_is_taken_across_a_step(step, ppb, row, length):
    """The PHC is set in the middle of second 2; every row is right or refused."""
    before = running(2**56, ppb)
    step_at = T0 + 5 * SECOND // 2

    def phc_of(tai):
        return before(tai) + (step if tai >= step_at else 0)

    comparison = sampled(EVERY_SECOND, phc_of, 1 * US)
    assert comparison.num_stretches == 2
    assert abs(comparison.last_step_ns() - step - ppb) <= 2
    first, last = T0 + row, min(T0 + row + length, T0 + 5 * SECOND)
    for tai in (first, last):
        found, error = moved(comparison, phc_of(tai), first, last)
        is_clear = last <= T0 + 2 * SECOND or first >= T0 + 3 * SECOND
        assert (found != NULL) == is_clear
        if is_clear:
            assert abs(found - tai) <= error + 2


def test_a_reset_is_never_interpolated_across_however_small():
    comparison = sampled(EVERY_SECOND, running(5, 0), 100)
    comparison.note_break(T0 + 2 * SECOND + 10, T0 + 2 * SECOND + 20)
    assert comparison.num_stretches == 2
    assert comparison.offset_at(T0 + 2 * SECOND) == (5, 100)
    assert comparison.offset_at(T0 + 2 * SECOND + 1) is None
    assert comparison.offset_at(T0 + 3 * SECOND - 1) is None
    assert comparison.offset_at(T0 + 3 * SECOND) == (5, 100)
    # The same, told before the next sample came.
    told = sampled(EVERY_SECOND[:3], running(5, 0), 100)
    told.note_break(T0 + 2 * SECOND + 10, T0 + 2 * SECOND + 20)
    for tai in EVERY_SECOND[3:]:
        told.add(ClockSample(tai, tai + 5, 100))
    assert told.to_json() == comparison.to_json()


def test_a_reset_that_covers_samples_leaves_those_alone():
    comparison = sampled(EVERY_SECOND, running(5, 0), 100)
    comparison.note_break(T0 + 3 * SECOND // 2, T0 + 7 * SECOND // 2)
    covered = [n for n in range(5) if comparison.offset_at(T0 + n * SECOND + 1) is not None]
    assert covered == [0, 4]
    assert comparison.num_stretches == 4


def test_nothing_is_known_ahead_of_the_first_sample_nor_behind_the_last():
    comparison = sampled(EVERY_SECOND, running(5, 0))
    assert comparison.offset_at(T0 - 1) is None
    assert comparison.offset_at(T0) == (5, 0)
    assert comparison.offset_at(EVERY_SECOND[-1]) == (5, 0)
    assert comparison.offset_at(EVERY_SECOND[-1] + 1) is None


@pytest.mark.parametrize("count", [0, 1])
def test_one_sample_is_no_comparison(count):
    comparison = sampled(EVERY_SECOND[:count], running(5, 0))
    assert not comparison.has_cover
    assert comparison.offset_at(T0) is None
    assert comparison.drift_ppb() is None
    assert moved(comparison, T0 + 5, T0) == (NULL, NULL)


def test_samples_too_far_apart_are_not_interpolated_between():
    far = sampled([T0, T0 + MAX_GAP_NS + 1], running(0, 0))
    assert (far.num_stretches, far.has_cover) == (2, False)
    assert sampled([T0, T0 + MAX_GAP_NS], running(0, 0)).has_cover


def test_a_clock_that_stands_still_or_goes_back_was_set():
    comparison = Comparison([ClockSample(T0, T0, 2 * SECOND)])
    assert not comparison.add(ClockSample(T0 + 1, T0, 2 * SECOND))


def test_a_system_clock_that_was_set_back_leaves_nothing_of_before():
    comparison = sampled(EVERY_SECOND, running(5, 0), 100)
    assert not comparison.add(ClockSample(T0 - SECOND, T0 + 6 * SECOND, 100))
    assert comparison.add(ClockSample(T0, T0 + 7 * SECOND, 100))
    assert len(comparison) == 2
    assert comparison.offset_at(T0 - SECOND // 2)[0] == 7 * SECOND
    assert comparison.offset_at(T0 + SECOND) is None
    assert Comparison.from_json(comparison.to_json()).samples == comparison.samples


def test_what_is_missing_stays_missing():
    comparison = sampled(EVERY_SECOND, running(7, 0), 3)
    phc = np.array([T0 + SECOND, NULL, T0 + 2 * SECOND])
    times = np.array([T0 + SECOND - 7, T0 + SECOND, T0 + 2 * SECOND])
    tai, sure = comparison.to_tai(phc, times, times)
    assert tai.tolist() == [T0 + SECOND - 7, NULL, T0 + 2 * SECOND - 7]
    assert sure.tolist() == [4, NULL, 4]  # 7 ns from a sample: a millionth of it, rounded up


def test_drift_is_that_of_the_longest_stretch():
    comparison = sampled(EVERY_SECOND, running(0, 50_000), 10 * US)
    assert comparison.drift_ppb() == (50_000, 4_000)
    assert sampled(EVERY_SECOND, running(0, -50_000), 0).drift_ppb() == (-50_000, 0)
    comparison.add(ClockSample(T0 + 6 * SECOND, T0 + 99 * SECOND, 0))
    comparison.add(ClockSample(T0 + 7 * SECOND, T0 + 100 * SECOND, 0))
    assert comparison.num_stretches == 2
    assert comparison.drift_ppb() == (50_000, 4_000)


def test_a_comparison_survives_json():
    comparison = Comparison(
        [
            ClockSample(T0, T0 + 5, 10, 37, "precise"),
            ClockSample(T0 + SECOND, T0 + SECOND + 6, 11, 37, "plain"),
            ClockSample(T0 + 2 * SECOND, T0 + 60 * SECOND, 12, 37, "extended"),
        ]
    )
    data = json.loads(json.dumps(comparison.to_json()))
    again = Comparison.from_json(data)
    assert again.samples == comparison.samples
    assert again.to_json() == data
    assert data["continues"] == [False, True, False]
    assert data["tai_ns"][0] == T0


def test_many_samples_are_taken_in_one_by_one():
    comparison = sampled([T0 + n * SECOND for n in range(1000)], running(-5, 3_000), 100)
    assert (len(comparison), comparison.num_stretches) == (1000, 1)
    assert comparison.offset_at(T0 + 500 * SECOND)[0] == -5 + 1_500_000


# Judging stamps while the run goes on.


def is_possible(comparison, stamp, first, last):
    (found,) = comparison.is_possible(*(np.array([value]) for value in (stamp, first, last)))
    return bool(found)


@given(
    offset=st.integers(-(2**58), 2**58),
    ppb=st.integers(-200_000, 200_000),
    since=st.integers(0, 20 * SECOND),
    latency=st.integers(0, 100 * MS),
    share=st.fractions(0, 1),
)
@settings(max_examples=300, deadline=None)
def test_no_true_stamp_is_called_impossible(offset, ppb, since, latency, share):
    """Also long behind the last sample, as while a stamp is pending for 15 s."""
    phc_of = running(offset, ppb)
    comparison = sampled(EVERY_SECOND, phc_of, 10 * US)
    first = T0 + since
    stamp = phc_of(first + int(latency * share))
    assert is_possible(comparison, stamp, first, first + latency)


@pytest.mark.parametrize("num_samples", [2, 6])
def test_a_stamp_of_another_time_is_impossible(num_samples):
    comparison = sampled(EVERY_SECOND[:num_samples], running(-37 * SECOND, 50_000), 10 * US)
    first, last = T0 + SECOND // 2, T0 + SECOND // 2 + 100 * US
    middle = first - 37 * SECOND + 25 * US
    assert is_possible(comparison, middle, first, last)
    for wrong in (-SECOND, -MS, MS, SECOND, 37 * SECOND):
        assert not is_possible(comparison, middle + wrong, first, last)


def test_one_sample_rules_out_less_the_further_away():
    comparison = sampled([T0], running(0, 0), 1 * US)
    assert is_possible(comparison, T0 + SECOND - 10 * MS, T0 + SECOND, T0 + SECOND)
    assert not is_possible(comparison, T0 + SECOND - 11 * MS, T0 + SECOND, T0 + SECOND)
    assert not is_possible(comparison, T0 + 2 * US, T0, T0)


@given(
    step=st.one_of(st.integers(2 * MS, 2**55), st.integers(-(2**55), -2 * MS)),
    step_at=st.integers(0, SECOND),
    at=st.integers(0, 5 * SECOND),
    latency=st.integers(0, 10 * MS),
)
@settings(max_examples=300, deadline=None)
def test_a_stamp_is_judged_by_the_side_of_the_step_it_is_on(step, step_at, at, latency):
    when = T0 + 2 * SECOND + step_at

    def phc_of(tai):
        return tai + 2**57 + (step if tai > when else 0)

    comparison = sampled(EVERY_SECOND, phc_of, 1 * US)
    first = T0 + at
    last = first + latency
    for tai in (first, (first + last) // 2, last):
        assert is_possible(comparison, phc_of(tai), first, last)
    # Far from the step, only one side holds.
    if last < T0 + 2 * SECOND:
        far = phc_of(first) + 2 * abs(step) + latency + MS
        assert not is_possible(comparison, far, first, last)
        assert not is_possible(comparison, 2 * phc_of(first) - far, first, last)


def test_no_stamps_are_no_question():
    empty = np.zeros(0, np.int64)
    for clock in (sampled(EVERY_SECOND, running(0, 0)), SameClock(), UnknownClock()):
        assert clock.is_possible(empty, empty, empty).tolist() == []


def test_without_a_sample_nothing_is_possible():
    assert not is_possible(Comparison(), T0, T0 - 1, T0 + 1)


def test_stamps_on_the_systems_own_clock_lie_between():
    stamps = np.array([T0 - 1, T0, T0 + 5, T0 + 6])
    ends = np.full(4, T0), np.full(4, T0 + 5)
    assert SameClock().is_possible(stamps, *ends).tolist() == [False, True, True, False]
    assert not SameClock().refresh()


def test_of_an_unknown_clock_every_time_passes():
    stamps = np.array([-5, 0, 1, T0, np.iinfo(np.int64).max])
    ends = np.full(5, T0), np.full(5, T0)
    found = UnknownClock().is_possible(stamps, *ends).tolist()
    assert found == [False, False, True, True, False]
    assert not UnknownClock().refresh()


@given(
    steps=st.lists(st.tuples(st.integers(1, 3 * SECOND), st.booleans()), min_size=1, max_size=12),
    seed=st.integers(0, 1 << 32),
    width=st.sampled_from([1, MS, 30 * SECOND]),
)
@settings(max_examples=200, deadline=None)
def test_many_times_are_moved_as_each_of_them_by_itself(steps, seed, width):
    rng = np.random.default_rng(seed)
    comparison, tai, offset = Comparison(), T0, 37 * SECOND
    for gap, continues in steps:
        comparison.add(ClockSample(tai, tai + offset, gap % 997), continues=continues)
        tai, offset = tai + gap, offset + gap % 100_003 - 50_000
    first = T0 - SECOND + rng.integers(0, tai - T0 + 2 * SECOND) + rng.integers(0, width, 50)
    last, phc = first + rng.integers(0, MS, 50), first + 37 * SECOND
    last[rng.random(50) < 0.1] = NULL
    phc[rng.random(50) < 0.1] = NULL
    together = comparison.to_tai(phc, first, last)
    alone = [moved(comparison, *row) for row in zip(phc, first, last, strict=True)]
    assert list(zip(*(each.tolist() for each in together), strict=True)) == alone


@given(
    steps=st.lists(
        st.tuples(st.integers(-(10**6), 10**11), st.integers(-(10**9), 10**9), st.booleans()),
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_read_at_once_it_is_what_it_was_one_by_one(steps):
    comparison, tai, offset = Comparison(), T0, 37 * SECOND
    for gap, change, continues in steps:
        comparison.add(ClockSample(tai, tai + offset, abs(change) % 997), continues=continues)
        tai, offset = tai + gap, offset + change
    again = Comparison.from_json(comparison.to_json())
    assert again.to_json() == comparison.to_json()
    assert again.num_stretches == comparison.num_stretches
    at = T0 + np.arange(-5, 20) * SECOND
    for one, other in zip(again.to_tai(at, at, at), comparison.to_tai(at, at, at), strict=True):
        assert one.tolist() == other.tolist()
    phc = at + 37 * SECOND
    for one, other in zip(again.to_tai(phc, at, at), comparison.to_tai(phc, at, at), strict=True):
        assert one.tolist() == other.tolist()
    # And it goes on from there.
    last = ClockSample(tai + 10**12, tai + 10**12 + offset, 1)
    assert again.add(last) == comparison.add(last)
    assert again.is_possible(phc, at, at).tolist() == comparison.is_possible(phc, at, at).tolist()
