# SPDX-License-Identifier: GPL-2.0-only
"""The statistics of ``xdptstamp compare``: how often they err, on runs that were made up to be as
real ones are: packets alike from one to the next, and each run off by an amount of its own."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from xdptstamp.compare.changes import Seen, seen
from xdptstamp.compare.estimate import between_rounds, between_runs
from xdptstamp.compare.family import different, weights
from xdptstamp.compare.figures import Quantile, Values
from xdptstamp.compare.power import needed
from xdptstamp.compare.resample import Distribution, between_samples, block_length, quantile
from xdptstamp.compare.verdicts import verdicts
from xdptstamp.contrast import Figure, Word
from xdptstamp.histogram import Histogram

BANDWIDTH = Figure(
    "64 1:10", "bandwidth", "", "pps", words=(Word.SLOWER, Word.FASTER), is_headline=True
)
LATENCIES = [
    (Figure("64 1:10", "tx_app_to_tx_hw", title, "ns"), share)
    for title, share in (("p50", 0.5), ("p99", 0.99))
]
NUM_ROUNDS, NUM_SAMPLES = 5, 500


def alike(rng, rho, shape):
    """Standard normal numbers, each like the one before (AR(1))."""
    noise = rng.normal(size=(*shape[:-1], shape[-1] + 200))
    return lfilter([math.sqrt(1 - rho**2)], [1, -rho], noise)[..., 200:]


def histogram(values):
    found = Histogram()
    found.add(values)
    return found


def runs(rng, num, offset_sd, shift=0.0):
    """So many runs: one value of bandwidth a round, and latencies; ``shift``: of all of them."""
    offsets = rng.normal(0, offset_sd, (num, 1))
    rates = 1e6 * np.exp(offsets + 0.01 * alike(rng, 0.5, (num, NUM_ROUNDS)) - shift)
    times = np.exp(10 - offsets + 0.2 * alike(rng, 0.97, (num, NUM_SAMPLES)) + shift)
    return [
        {
            BANDWIDTH: Values(dict(enumerate(rates[number].tolist()))),
            "times": Distribution([[histogram(times[number].astype(np.int64))]]),
        }
        for number in range(num)
    ]


def seen_in(base, other):
    """All figures of two sides."""
    found = [seen(BANDWIDTH, [run[BANDWIDTH] for run in base], [run[BANDWIDTH] for run in other])]
    for figure, share in LATENCIES:
        sides = [[Quantile(run["times"], share) for run in side] for side in (base, other)]
        found.append(seen(figure, *sides))
    return found


def test_of_1000_pairs_without_difference_at_most_7_percent_are_called_different():
    rng = np.random.default_rng(1)
    num_different = num_apart = 0
    for number in range(1000):
        num, offset_sd = 2 + number % 3, (0.01, 0.03)[number % 2]
        found = seen_in(runs(rng, num, offset_sd), runs(rng, num, offset_sd))
        (changes,) = verdicts([found])
        num_different += any(change.word.is_different for change in changes)
        num_apart += changes[0].low > 0 or changes[0].high < 0
    assert num_different <= 70
    # And each 95 % interval by itself holds what it says.
    assert num_apart <= 70


def test_a_shift_of_3_percent_is_found_by_as_many_more_runs_as_are_announced():
    rng = np.random.default_rng(2)
    num_found = num_tried = 0
    for number in range(300):
        num, spread = 3 + number % 4, (0.01, 0.02, 0.04)[number % 3]
        values = np.exp(rng.normal(0, spread, (2, num)))
        (change,) = verdicts([[of_runs(*values)]])[0]
        if change.word is not Word.NOT_ENOUGH:
            continue
        assert change.more_of == "runs"
        others = np.exp(rng.normal(0, spread, (2, change.more)))
        sides = np.concatenate([values, others], axis=1) * [[1.03], [1.0]]
        (change,) = verdicts([[of_runs(*sides)]])[0]
        num_tried += 1
        num_found += change.word is Word.SLOWER
    assert num_tried > 150
    assert num_found >= 0.9 * num_tried


def of_runs(base, other):
    sides = [[Values({0: value}) for value in side] for side in (base, other)]
    return seen(BANDWIDTH, *sides)


def test_a_shift_of_3_percent_is_found_by_as_many_more_rounds_as_are_announced():
    rng = np.random.default_rng(3)
    num_found = num_tried = num_wrong = 0
    for _ in range(250):
        pilot = 0.04 * alike(rng, 0.2, (2, 8))
        (change,) = verdicts([[of_rounds(*pilot)]])[0]
        num_wrong += change.word.is_different
        if change.word is not Word.NOT_ENOUGH:
            continue
        assert change.more_of == "rounds"
        whole = 0.04 * alike(rng, 0.2, (2, 8 + change.more))
        (change,) = verdicts([[of_rounds(whole[0], whole[1] - 0.03)]])[0]
        num_tried += 1
        num_found += change.word is Word.SLOWER
    assert num_wrong <= 0.07 * 250
    assert num_tried > 100
    assert num_found >= 0.9 * num_tried


def of_rounds(base, other):
    sides = [[Values(dict(enumerate(np.exp(side).tolist())))] for side in (base, other)]
    return seen(BANDWIDTH, *sides)


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize("num_rounds", [1, 6])
def test_percentiles_of_two_runs_that_are_alike_are_not_called_different(share, num_rounds):
    rng = np.random.default_rng(4)
    num, num_different = 25, 0
    for _ in range(num):
        times = np.exp(10 + 0.2 * alike(rng, 0.97, (2, num_rounds, 3600 // num_rounds)))
        sides = [
            Distribution(
                [
                    [histogram(piece) for piece in np.array_split(part, 60 // num_rounds)]
                    for part in side.astype(np.int64)
                ]
            )
            for side in times
        ]
        num_different += between_samples(*sides, share, is_log=True, bias=0).p < 0.05
    # At 7 % one try of a hundred has more.
    assert num_different <= stats.binom.ppf(0.99, num, 0.07)


def test_a_percentile_that_did_shift_is_found_and_its_interval_holds_the_shift():
    rng = np.random.default_rng(5)
    times = np.exp(10 + 0.2 * alike(rng, 0.9, (2, 40_000)) + [[0], [0.1]]).astype(np.int64)
    sides = [Distribution([[histogram(piece) for piece in np.split(side, 100)]]) for side in times]
    for share in (0.5, 0.9, 0.99):
        found = between_samples(*sides, share, is_log=True, bias=0)
        low, high = found.interval(0.999)
        assert 0 < low < math.expm1(0.1) < high < 0.25
        wider = between_samples(*sides, share, is_log=True, bias=0.2)
        assert wider.p == 1
        assert wider.interval()[0] < 0


def test_welch_and_student_as_scipy_has_them():
    rng = np.random.default_rng(6)
    for sizes, is_equal in (((3, 3), False), ((5, 2), False), ((1, 4), True), ((4, 1), True)):
        base, other = (np.exp(rng.normal(0, 0.1, size)) for size in sizes)
        found = between_runs(base, other, is_log=True)
        logs = np.log(other), np.log(base)
        theirs = stats.ttest_ind(*logs, equal_var=is_equal)
        assert found.p == pytest.approx(theirs.pvalue)
        ends = theirs.confidence_interval(0.95)
        assert found.interval() == pytest.approx((math.expm1(ends.low), math.expm1(ends.high)))
    assert between_runs([1.0], [2.0], is_log=True) is None


def test_paired_rounds_as_scipy_has_them():
    rng = np.random.default_rng(7)
    base, other = np.exp(rng.normal(0, 0.1, (2, 5)))
    found = between_rounds(base, other, is_log=True)
    theirs = stats.ttest_rel(np.log(other), np.log(base))
    assert found.p == pytest.approx(theirs.pvalue)
    assert between_rounds([1.0], [2.0], is_log=False) is None


def test_rounds_of_which_two_neighbours_are_alike_say_less():
    rng = np.random.default_rng(8)
    pairs = np.repeat(rng.normal(0, 0.1, 8), 2)
    found = between_rounds(np.ones(16), np.exp(pairs), is_log=True)
    assert found.se > 1.3 * np.std(pairs, ddof=1) / 4


def test_neighbours_that_are_alike_make_blocks_longer():
    rng = np.random.default_rng(9)
    lengths = [block_length(alike(rng, rho, (256,))) for rho in (0, 0.6, 0.9)]
    assert lengths[0] <= 3 < lengths[1] < lengths[2]
    assert block_length(np.ones(100)) == block_length(np.arange(5.0)) == 1


def test_quantiles_are_interpolated_within_a_bucket_of_the_sample():
    values = np.random.default_rng(10).integers(-50_000, 300_000, 5000)
    for share in (0.1, 0.5, 0.99):
        sample = np.quantile(values, share, method="inverted_cdf")
        assert quantile(histogram(values), share) == pytest.approx(sample, rel=1 / 128)
    assert quantile(histogram(values), 1) == values.max()
    assert quantile(histogram([7] * 10), 0.5) == 7


def test_spans_are_the_buckets():
    values = np.random.default_rng(11).integers(-2000, 100_000, 300)
    found = histogram(values)
    low, high, counts = found.spans()
    assert counts.sum() == 300
    assert (low[0], high[-1]) == (values.min(), values.max())
    assert (low[1:] > high[:-1]).all()
    for start, end, count in zip(low, high, counts, strict=True):
        assert ((values >= start) & (values <= end)).sum() == count


def test_holm_with_weights_as_bonferroni_and_holm_do_it():
    ps = [0.001, 0.012, 0.014, 0.2]
    assert different(ps, weights([False] * 4), 0.05) == [True, True, True, False]
    # Holm by hand: 0.05 / 4, / 3, / 2.
    assert different([0.013, *ps[1:]], weights([False] * 4), 0.05) == [True, True, True, False]
    assert different([0.02] * 4, weights([False] * 4), 0.05) == [False] * 4
    assert sum(weights([True, False, False])) == pytest.approx(1)
    # The headline is not drowned by the rest.
    many = [0.03] + [0.9] * 50
    assert different(many, weights([True] + [False] * 50), 0.05)[0]
    assert not different(many, weights([False] * 51), 0.05)[0]
    assert weights([]) == different([], [], 0.05) == []


def test_more_is_needed_for_less():
    def runs_needed(spread, change, alpha=0.05):
        return needed(spread, 5, 8.0, lambda n: 2.0 * (n - 1), change=change, alpha=alpha)

    assert runs_needed(0.001, 0.03) == 5
    assert 10 < runs_needed(0.04, 0.03) < runs_needed(0.04, 0.015) < runs_needed(0.08, 0.015)
    assert runs_needed(0.04, 0.03) < runs_needed(0.04, 0.03, alpha=0.001)
    assert runs_needed(1e6, 1e-6) is None


def test_what_never_was_takes_no_part_of_the_chance():
    lost = Figure("", "lost", "", "share", "points", (Word.LOWER, Word.HIGHER))
    nothing = Seen(lost, 0.0, 0.0, between_runs([0.0, 0.0], [0.0, 0.0], is_log=False, floor=1e-6))
    base, other = np.exp([[0.0, 0.001, -0.001], [0.05, 0.058, 0.049]])
    changes = verdicts([[of_runs(base, other), *[nothing] * 500]])[0]
    assert changes[0].word is Word.FASTER
    assert {change.word for change in changes[1:]} == {Word.SAME}


def test_runs_that_happen_to_be_alike_spread_no_less_than_their_rounds_do():
    rounds = np.exp([-0.05, 0.05, -0.04, 0.04])
    alike_runs = [Values(dict(enumerate((level * rounds).tolist()))) for level in (1, 1.0001)]
    slower = [Values(dict(enumerate((0.97 * level * rounds).tolist()))) for level in (1, 1.0001)]
    (change,) = verdicts([[seen(BANDWIDTH, alike_runs, slower)]])[0]
    assert (change.word, change.more_of) == (Word.NOT_ENOUGH, "runs")
    assert change.high > 0.05
