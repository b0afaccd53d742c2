# SPDX-License-Identifier: GPL-2.0-only
"""Intervals of percentiles: by SciPy's own distributions, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal, special, stats

from xdptstamp.histogram import RELATIVE_ERROR, Histogram
from xdptstamp.spread import NUM_BLOCKS, Spread, spread
from xdptstamp.spread import _binomial as binomial

SHARES = (0.5, 0.9, 0.99, 0.999)


def histogram_of(values):
    histogram = Histogram()
    histogram.add(np.asarray(values, np.int64))
    return histogram


def spread_of(values, q):
    blocks = [histogram_of(part) for part in np.array_split(np.asarray(values), NUM_BLOCKS)]
    return spread(histogram_of(values), blocks, q)


@given(st.integers(1, 10_000_000), st.sampled_from(SHARES), st.sampled_from([0.025, 0.975]))
def test_ranks_are_those_of_the_binomial_distribution(number, q, share):
    assert binomial(share, number, q) == stats.binom.ppf(share, number, q)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=300), st.sampled_from(SHARES))
def test_an_interval_holds_its_percentile_and_ends_at_samples(values, q):
    found, value = spread_of(values, q), histogram_of(values).quantile(q)
    low = min(values) if found.low is None else found.low
    high = max(values) if found.high is None else found.high
    assert min(values) <= low <= value <= high <= max(values)
    for end in {low, high}:
        assert any(abs(end - each) <= 2 * abs(each) * RELATIVE_ERROR for each in values)
    assert 1 <= found.num_effective <= len(values)


def test_an_end_that_the_samples_do_not_bound_is_none():
    # 3689 samples are the fewest of which one in a thousand lies above with 97.5 %.
    assert spread_of(np.random.default_rng(1).permutation(3000), 0.999).high is None
    assert spread_of(np.random.default_rng(1).permutation(30_000), 0.999).high is not None
    assert spread_of([7], 0.5) == Spread(None, None, 1)


def test_all_samples_in_one_bucket_leave_nothing_open_but_the_bucket():
    found = spread_of([5_000] * 1000, 0.5)
    assert (found.low, found.high, found.num_effective) == (5_000, 5_000, 1000)


def correlated(rng, count, phi):
    """Gaussian, each value ``phi`` times the one before and something new; in ns."""
    noise = rng.standard_normal(count + 2000) * np.sqrt(1 - phi * phi)
    values = signal.lfilter([1], [1, -phi], noise)[2000:]
    return (values * 10_000 + 100_000).astype(np.int64)


# Of 300 intervals that are right 95 % of the time, fewer than 92 % are in one trial of a hundred.
@pytest.mark.parametrize("phi", [0.0, 0.9, 0.99])
@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_nineteen_of_twenty_intervals_hold_the_true_percentile_however_alike_neighbours_are(phi, q):
    rng, truth = np.random.default_rng(2), special.ndtri(q) * 10_000 + 100_000
    held, worth = 0, []
    for _ in range(300):
        found = spread_of(correlated(rng, 20_000, phi), q)
        low = -np.inf if found.low is None else found.low
        held += low <= truth <= (np.inf if found.high is None else found.high)
        worth.append(found.num_effective)
    assert held >= 0.92 * 300
    if phi:
        # In the middle (1 - phi) / (1 + phi) of them; far out neighbours are less alike.
        assert np.median(worth) < 20_000 * (1 - phi) * 4
    else:
        assert np.median(worth) > 20_000 / 2


def test_as_if_independent_such_an_interval_would_be_wrong_most_of_the_time():
    rng, truth, held = np.random.default_rng(2), 100_000, 0
    for _ in range(100):
        values = np.sort(correlated(rng, 20_000, 0.99))
        low, high = (int(stats.binom.ppf(share, 20_000, 0.5)) for share in (0.025, 0.975))
        held += values[low - 1] <= truth <= values[high]
    assert held < 50


def test_a_burst_of_slow_packets_counts_as_one_event():
    values = np.random.default_rng(3).integers(1_000, 2_000, 100_000)
    spread_out = values.copy()
    values[50_000:50_200] = 50_000
    spread_out[::500] = 50_000
    assert spread_of(values, 0.999).num_effective < spread_of(spread_out, 0.999).num_effective / 20
    assert spread_of(values, 0.999).high is None


def test_blocks_that_are_empty_or_too_few_tell_nothing():
    whole = histogram_of(range(1000))
    alone = spread(whole, [whole], 0.5)
    assert alone.num_effective == 1000
    assert spread(whole, [Histogram(), whole, Histogram()], 0.5) == alone
    with pytest.raises(ValueError, match="no value"):
        spread(Histogram(), [], 0.5)
