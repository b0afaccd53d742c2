# SPDX-License-Identifier: GPL-2.0-only
"""Histograms against sorted arrays; the books of a summary against hand-made batches."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdptstamp.histogram import RELATIVE_ERROR, Histogram
from xdptstamp.sample import Cause, empty_batch
from xdptstamp.stats import Summary

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
SHARES = st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0])
EPOCH = 1_790_000_000_000_000_000


def histogram_of(values):
    histogram = Histogram()
    histogram.add(np.array(values, np.int64))
    return histogram


def nearest_rank(values, q):
    rank = max(1, -((-Fraction(str(q)) * len(values)).__floor__()))
    return sorted(values)[rank - 1]


@given(st.lists(INT64, min_size=1, max_size=60), SHARES)
def test_quantile_is_the_nearest_rank_within_the_stated_error(values, q):
    got, true = histogram_of(values).quantile(q), nearest_rank(values, q)
    assert abs(got - true) <= abs(true) * RELATIVE_ERROR
    assert min(values) <= got <= max(values)


@given(st.lists(INT64, min_size=1, max_size=60))
def test_the_ends_are_exact(values):
    histogram = histogram_of(values)
    assert (histogram.quantile(0), histogram.quantile(1)) == (min(values), max(values))


@pytest.mark.parametrize("exponent", range(63))
@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_octave_boundary_keeps_the_stated_error(exponent, offset, sign):
    value = sign * (2**exponent + offset)
    # Neighbours on both sides, so that minimum and maximum do not give the answer away.
    histogram = histogram_of([-(2**63), value, 2**63 - 1])
    assert abs(histogram.quantile(0.5) - value) <= abs(value) * RELATIVE_ERROR


@given(st.lists(INT64, min_size=1, max_size=60), st.data())
def test_the_bounds_of_a_rank_hold_its_value_and_are_no_wider_than_the_stated_error(values, data):
    histogram = histogram_of(values)
    rank = data.draw(st.integers(1, len(values)))
    true = sorted(values)[rank - 1]
    low, high = histogram.bounds(rank)
    assert min(values) <= low <= true <= high <= max(values)
    assert high - low <= 2 * abs(true) * RELATIVE_ERROR


def test_no_value_has_a_rank_that_is_not_there():
    for rank in (0, 3):
        with pytest.raises(ValueError, match=f"2 values have no rank {rank}"):
            histogram_of([1, 2]).bounds(rank)


@given(st.lists(INT64, min_size=1, max_size=60), st.data())
def test_counting_to_a_value_counts_all_up_to_the_end_of_its_bucket(values, data):
    histogram = histogram_of(values)
    rank = data.draw(st.integers(1, len(values)))
    _, high = histogram.bounds(rank)
    expected = sum(value <= high for value in values)
    assert histogram.count_to(sorted(values)[rank - 1]) == expected


def test_small_values_are_exact():
    for value in range(-256, 256):
        assert histogram_of([-9999, value, 9999]).quantile(0.5) == value


@given(st.lists(INT64, max_size=40), st.lists(INT64, min_size=1, max_size=40), SHARES)
def test_merged_equals_added(some, others, q):
    merged = histogram_of(some)
    merged.merge(histogram_of(others))
    whole = histogram_of(some + others)
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.quantile(q) == whole.quantile(q)
    assert pickle.loads(pickle.dumps(merged)).quantile(q) == whole.quantile(q)


def test_memory_does_not_grow_with_the_number_of_values():
    rng = np.random.default_rng(1)
    histogram = Histogram()
    sizes = []
    for _ in range(20):
        histogram.add(rng.integers(-(2**63), 2**63 - 1, 50_000))
        sizes.append(len(pickle.dumps(histogram)))
    assert histogram.count == 1_000_000
    assert sizes[-1] <= sizes[1] + 100
    assert sizes[-1] < 120 * 1024


def test_a_quantile_needs_enough_values_to_be_supported():
    assert not histogram_of(range(999)).is_supported(0.999)
    assert histogram_of(range(1000)).is_supported(0.999)
    assert histogram_of(range(10)).is_supported(0.9)
    assert not histogram_of(range(9)).is_supported(0.9)
    assert not Histogram().is_supported(0.5)


def test_nothing_is_made_up():
    with pytest.raises(ValueError, match="no value"):
        Histogram().quantile(0.5)
    with pytest.raises(ValueError, match="no value"):
        _ = Histogram().max
    with pytest.raises(ValueError, match="share"):
        histogram_of([1]).quantile(99.9)
    with pytest.raises(TypeError, match="float64"):
        Histogram().add(np.array([1.5]))


def sample_batch():
    batch = empty_batch(6)
    batch["tx_app_ns"] = EPOCH + np.arange(6)
    batch["tx_sw_ns"][:3] = EPOCH + np.array([100, 201, 302])
    batch["cause"][3:5] = [Cause.SKIPPED, Cause.TIMED_OUT]
    return batch


def test_summary_books_stamps_and_causes():
    summary = Summary("ping-pong")
    summary.add(sample_batch())
    assert (summary.num_samples, summary.num_stamped, summary.num_missing) == (6, 3, 2)
    assert summary.num_not_requested == 1
    assert summary.causes[Cause.SKIPPED] == 1
    assert summary.causes[Cause.TIMED_OUT] == 1
    assert summary.causes[Cause.RESET] == 0
    assert list(summary.intervals) == ["tx_app_to_tx_sw_ns"]
    histogram = summary.intervals["tx_app_to_tx_sw_ns"]
    assert (histogram.count, histogram.min, histogram.max) == (3, 100, 300)


def test_a_hardware_stamp_is_a_stamp():
    batch = empty_batch(1)
    batch["tx_hw_ns"] = EPOCH
    summary = Summary("ping-pong")
    summary.add(batch)
    assert (summary.num_stamped, summary.num_not_requested) == (1, 0)


def test_warmup_is_counted_apart():
    batch = sample_batch()
    batch["is_warmup"][:4] = True
    summary = Summary("ping-pong")
    summary.add(batch)
    assert (summary.num_samples, summary.num_warmup) == (2, 4)
    assert (summary.num_stamped, summary.num_missing) == (0, 1)
    assert summary.intervals == {}


def test_intervals_across_the_epoch_are_exact():
    batch = empty_batch(2)
    batch["tx_app_ns"] = [2**61 + 1, 2**61 + 1]
    batch["rx_app_ns"] = [2**61 + 2, 2**61 - 6]
    summary = Summary("ping")
    summary.add(batch)
    histogram = summary.intervals["tx_app_to_rx_app_ns"]
    assert (histogram.min, histogram.max) == (-7, 1)


def test_merged_summaries_equal_one():
    one, two = Summary("ping-pong"), Summary("ping-pong")
    one.add(sample_batch())
    two.add(sample_batch())
    one.merge(pickle.loads(pickle.dumps(two)))
    whole = Summary("ping-pong")
    whole.add(np.concatenate([sample_batch(), sample_batch()]))
    assert one.causes == whole.causes
    assert (one.num_samples, one.num_stamped) == (whole.num_samples, whole.num_stamped) == (12, 6)
    assert one.intervals["tx_app_to_tx_sw_ns"].count == 6
    with pytest.raises(ValueError, match="ping"):
        one.merge(Summary("ping"))


def test_an_unknown_cause_is_not_dropped_silently():
    batch = empty_batch(1)
    batch["cause"] = 99
    with pytest.raises(ValueError, match="99"):
        Summary("ping-pong").add(batch)


def test_counting_a_value_several_times_is_counting_it_again():
    values, times = [0, 5, 300, 70_000, 5, -7, -9_000], [3, 1, 0, 2, 4, 2, 5]
    once, again = Histogram(), Histogram()
    once.add_times(values, times)
    again.add(np.repeat(values, times))
    assert once.buckets() == again.buckets()
    assert (once.count, once.min, once.max) == (again.count, again.min, again.max)


def test_buckets_hold_every_value_in_order():
    histogram = Histogram()
    histogram.add([-7, -100_000, 3, 3, 1 << 40])
    values = [value for value, _ in histogram.buckets()]
    assert values == sorted(values)
    assert [count for _, count in histogram.buckets()] == [1, 1, 2, 1]
    for got, true in zip(values, [-100_000, -7, 3, 1 << 40], strict=True):
        assert abs(got - true) <= abs(true) * RELATIVE_ERROR
