# SPDX-License-Identifier: GPL-2.0-only
"""Rates, ratios and drift of a ``mixed`` run, against the same statistics computed another way."""

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import mixed_kit as kit
from xdptstamp.bandwidth import (
    BANDWIDTH_PPM,
    baseline_of,
    drifts,
    mean_ratio,
    measured,
    merged_holds,
    merged_reap,
    rate,
    rates,
    ratio_to_baseline,
    sources,
    sum_counts,
    totals,
    worst_ratio,
)
from xdptstamp.rounds import Setting

TWO = [kit.BASELINE, kit.ONE_TEN]


def pairs_of(*counts):
    """Rounds of the baseline and of 1:10 that sent so many packets in a second each."""
    return [
        kit.round_of(number, index, count, 2 * number + index)
        for number, pair in enumerate(counts)
        for index, count in enumerate(pair)
    ]


def test_the_rate_of_one_setting():
    rounds = pairs_of((1_000_000, 900_000), (1_010_000, 930_000), (990_000, 700_000))
    got = rate(TWO, rounds, 1, 1000)
    assert (got.setting, got.num_rounds, got.pps) == (1, 3, 900_000)
    assert got.wire_bps == 900_000 * 8 * 84  # 64 bytes, preamble and gap
    assert got.link_share == pytest.approx(0.6048)
    assert (got.user_ns, got.system_ns, got.throttled_share) == (30, 700, 0)
    assert rate(TWO, rounds, 1, None).link_share is None
    assert rate(TWO, rounds, 1, -1).link_share is None


def test_a_full_link_is_100_percent():
    full = kit.round_of(0, 0, 81_274)
    got = rate([Setting(1518, 0, 1)], [full], 0, 1000)
    assert got.link_share == pytest.approx(1, abs=1e-5)


def test_the_interval_is_that_of_students_t_on_logarithms():
    pairs = [0.91, 0.93, 0.90, 0.95, 0.92]
    got = mean_ratio(pairs)
    logs = np.log(pairs)
    low, high = scipy.stats.t.interval(0.95, 4, logs.mean(), scipy.stats.sem(logs))
    assert got.point == pytest.approx(statistics.geometric_mean(pairs), rel=1e-12)
    assert (got.low, got.high) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-12)
    test = scipy.stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx(tuple(map(math.exp, test)), rel=1e-12)


def test_rounds_are_paired_by_their_number():
    # A machine that gets slower: unpaired, these would overlap.
    rounds = pairs_of((1_000_000, 900_000), (500_000, 450_000), (250_000, 225_000))
    got = ratio_to_baseline(TWO, rounds, 1)
    assert (got.point, got.low, got.high) == pytest.approx((0.9, 0.9, 0.9))
    paired = scipy.stats.ttest_rel(
        np.log([900_000, 450_000, 225_001]), np.log([1_000_000, 500_000, 250_000])
    ).confidence_interval(0.95)
    rounds[5].received = 225_001
    got = ratio_to_baseline(TWO, rounds, 1)
    assert (got.low, got.high) == pytest.approx(tuple(map(math.exp, paired)), rel=1e-9)


def test_rounds_without_a_partner_are_left_out():
    rounds = pairs_of((1000, 900), (1000, 800), (1000, 700))
    got = ratio_to_baseline(TWO, rounds[:-2] + rounds[-1:], 1)
    assert got.num_pairs == 2 and got.point == pytest.approx(math.sqrt(0.72))
    rounds[0].is_warmup = True
    assert ratio_to_baseline(TWO, rounds[:-2] + rounds[-1:], 1).num_pairs == 1


def test_only_the_baseline_of_the_same_size_counts():
    settings = [Setting(1518, 0, 1), Setting(64, 0, 1), Setting(64, 1, 1), Setting(128, 1, 1)]
    assert [baseline_of(settings, i) for i in range(4)] == [0, 1, 1, None]
    second = Setting(64, 0, 1, 1_000_000, has_second_app=True)
    assert baseline_of([second, Setting(64, 0, 1)], 0) == 1
    rounds = [kit.round_of(0, i, 1000 * (i + 1)) for i in range(4)]
    assert ratio_to_baseline(settings, rounds, 2).point == pytest.approx(1.5)
    assert ratio_to_baseline(settings, rounds, 3) is None


def test_one_round_has_no_interval():
    assert (mean_ratio([0.5]).low, mean_ratio([0.5]).num_pairs) == (None, 1)
    assert mean_ratio([]) is None


def test_a_round_in_which_nothing_arrived_has_no_logarithm():
    got = ratio_to_baseline(TWO, pairs_of((1000, 900), (1000, 0), (1000, 900)), 1)
    assert (got.point, got.low, got.high, got.num_zero, got.num_pairs) == (0, None, None, 1, 3)
    got = ratio_to_baseline(TWO, pairs_of((1000, 900), (0, 900)), 1)
    assert (got.point, got.num_pairs) == (pytest.approx(0.9), 1)
    assert ratio_to_baseline(TWO, pairs_of((0, 900), (0, 900)), 1) is None


def test_a_round_without_duration_does_not_divide():
    rounds = pairs_of((1000, 900), (1000, 900))
    for each in rounds:
        each.duration_ns = each.sent = 0
    got = rate(TWO, rounds, 1, 1000)
    assert (got.pps, got.ratio, got.user_ns, got.throttled_share) == (0, None, None, 0)


def test_throttled_time_is_a_share_of_the_whole():
    rounds = pairs_of((1000, 900), (1000, 900))
    rounds[1].throttled_ns = kit.SECOND // 2
    assert rate(TWO, rounds, 1).throttled_share == 0.25


def test_settings_that_were_not_measured_have_no_rate():
    rounds = pairs_of((1000, 900))
    rounds[1].is_warmup = True
    assert [each.setting for each in rates(TWO, rounds)] == [0]
    assert rates(TWO, []) == []


def test_drift_is_the_slope_of_a_line():
    counts = [1_000_000, 985_000, 990_000, 960_000, 955_000]
    rounds = pairs_of(*((count, 1) for count in counts))
    (got,) = drifts(TWO, rounds)
    orders = np.array([0, 2, 4, 6, 8])
    line = scipy.stats.linregress(orders, np.log(counts))
    half = scipy.stats.t.ppf(0.975, 3) * line.stderr
    want = [math.expm1(8 * slope) for slope in (line.slope, line.slope - half, line.slope + half)]
    assert [got.change, got.low, got.high] == pytest.approx(want, rel=1e-9)
    assert got.is_certain and (got.setting, got.num_rounds) == (0, 5)


def test_two_rounds_or_silent_ones_have_no_drift():
    assert drifts(TWO, pairs_of((1000, 1), (2000, 1))) == []
    assert drifts(TWO, pairs_of((1000, 1), (0, 1), (2000, 1))) == []


def test_steady_rounds_do_not_drift():
    (got,) = drifts(TWO, pairs_of((1000, 1), (1001, 1), (1000, 1), (1001, 1), (1000, 1)))
    assert not got.is_certain and abs(got.change) < 0.001


def test_histograms_are_merged_by_setting_and_position():
    _, rounds = kit.three_settings()
    holds = merged_holds(rounds, 1)
    assert list(holds) == ["stamped", "behind", "others"]
    assert holds["stamped"].count == 6 * 1000  # the warm-up left out
    assert (holds["stamped"].min, holds["stamped"].max) == (20_000, 20_999)
    assert list(merged_holds(rounds, 0)) == ["others"]
    assert merged_reap(rounds, 1).count == 6 * 1200
    assert rounds[4].hold["stamped"].count == 1000
    assert [each.round for each in measured(rounds, 2)] == [1, 2, 3, 4, 5, 6]


def test_totals():
    settings, rounds = kit.three_settings()
    rounds[4].missing = 2
    counts = totals(settings, rounds)
    own = [each for each in rounds if not each.is_warmup]
    assert counts["sent"] == sum(each.sent for each in own)
    assert counts["stamped"] == counts["requested"] - 3
    assert counts["not_received"] == 2
    assert counts[BANDWIDTH_PPM] == round(worst_ratio(settings, rounds) * 1e6)
    assert 800_000 < counts[BANDWIDTH_PPM] < 805_000
    rounds[3].received = None
    assert "received" not in totals(settings, rounds)
    assert sources(rounds) == ["completions", "sink"]
    assert BANDWIDTH_PPM not in totals(settings[:1], [r for r in rounds if not r.setting])
    assert totals([], []) == dict.fromkeys(
        ["sent", "completed", "lost", "dropped_by_kernel", "requested", "stamped"], 0
    )


def test_counters_add_up():
    assert sum_counts([{"a": 1}, {"a": 2, "b": 3}, {}]) == {"a": 3, "b": 3}


RATIOS = st.floats(1e-9, 1e9)


@given(st.lists(RATIOS, min_size=2, max_size=40))
def test_the_interval_holds_the_mean_and_turns_with_it(pairs):
    got = mean_ratio(pairs)
    turned = mean_ratio([1 / pair for pair in pairs])
    assert got.low <= got.point * (1 + 1e-9) and got.point <= got.high * (1 + 1e-9)
    assert min(pairs) <= got.point * (1 + 1e-9) and got.point <= max(pairs) * (1 + 1e-9)
    assert got.point * turned.point == pytest.approx(1, rel=1e-6)
    if 1e-200 < got.low and got.high < 1e200:
        assert got.low * turned.high == pytest.approx(1, rel=1e-6)


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=5))
def test_no_ratio_is_too_wild(pairs):
    got = mean_ratio(pairs)
    assert math.isfinite(got.point) and got.num_pairs == len(pairs)


@given(st.lists(st.integers(0, 10**15), min_size=3, max_size=12), st.integers(0, 10**15))
def test_any_counts_have_rates(counts, last):
    rounds = pairs_of(*((count, last) for count in counts))
    for got in rates(TWO, rounds, 10):
        assert got.pps >= 0 and got.link_share >= 0
    assert all(drift.low <= drift.change <= drift.high for drift in drifts(TWO, rounds))


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=12), st.floats(0.01, 100))
def test_a_constant_cost_is_found_whatever_the_machine_does(counts, cost):
    rounds = pairs_of(*((count, count) for count in counts))
    for each in rounds[1::2]:
        each.duration_ns = round(kit.SECOND * cost)
    got = ratio_to_baseline(TWO, rounds, 1)
    assert got.point == pytest.approx(1 / cost, rel=1e-6)
    assert (got.low, got.high) == pytest.approx((1 / cost, 1 / cost), rel=1e-6)
