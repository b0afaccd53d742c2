# SPDX-License-Identifier: GPL-2.0-only
"""The warnings about stamps and their clock: each provoked, and each silent without its reason."""

import math
import re

import numpy as np
import pytest

from tests.unit.data_kit import T0, info_of, write_run
from xdptstamp.checks import run_warnings
from xdptstamp.checks.stamp_doubts import num_needed
from xdptstamp.clock import ClockSample
from xdptstamp.comparison import Comparison
from xdptstamp.report import recompute
from xdptstamp.report.shown import shown_lines
from xdptstamp.sample import NULL, empty_batch
from xdptstamp.spread import spread
from xdptstamp.stampseries import StampSeries, step_of
from xdptstamp.stats import Summary, comparison_of
from xdptstamp.store import open_run

COUNT, SPACING = 8000, 100_000
KEYS = ("stamp-steps-back", "stamps-repeated", "clock-resolution", "offset-drift")
KEYS += ("offset-uncertain", "few-samples")


def ping_pong(spread_ns=2_000, step_ns=1, ppm=0, count=COUNT, turnaround_ns=60_000):
    """Replies to requests, stamped by a clock that goes in such steps, and is CLOCK_TAI else."""
    rng = np.random.default_rng(7)
    batch = empty_batch(count)
    batch["seq"], batch["queue_id"] = np.arange(count), np.arange(count) % 2
    wire = T0 + batch["seq"] * SPACING + rng.integers(0, 1000, count)
    sent = wire + turnaround_ns + rng.normal(0, spread_ns, count).astype(np.int64)

    def stamped(times):
        # An adjusted clock goes on in its steps, a little longer each.
        passed = np.floor((times - T0) / step_ns) * step_ns * (1 + ppm / 1e6)
        return T0 + np.floor(passed).astype(np.int64)

    batch["rx_hw_ns"], batch["tx_hw_ns"] = stamped(wire), stamped(sent)
    batch["rx_xdp_ns"] = batch["rx_app_ns"] = batch["tx_app_ns"] = wire + rng.integers(
        10_000, 20_000, count
    )
    batch["tx_comp_ns"] = sent + rng.integers(40_000, 50_000, count)
    return batch


def judged(batch, *, timestamps="hardware", comparison=None, **fields):
    """The warnings of a run with these samples that are about stamps and clocks."""
    info = info_of(timestamps=timestamps, **fields)
    info.clock_comparison = comparison or {}
    summary = Summary(info.kind)
    summary.add(batch)
    found = comparison_of(info)
    if found is None or found.has_cover:
        summary.compare([batch], found)
    return [w for w in run_warnings(info, summary) if w.key in KEYS]


def only(*args, **kwargs):
    (warning,) = judged(*args, **kwargs)
    assert not warning.is_untrusted
    return warning.key, warning.value, warning.limit, warning.advice


def test_stamps_in_order_leave_no_doubt():
    assert judged(ping_pong()) == []


def test_stamps_that_step_back_on_their_queue():
    batch = ping_pong()
    batch["tx_hw_ns"][[40, 42]] = batch["tx_hw_ns"][[42, 40]]
    key, value, limit, advice = only(batch)
    assert (key, limit) == ("stamp-steps-back", "0")
    step_ns = int(batch["tx_hw_ns"][40] - batch["tx_hw_ns"][42])
    assert value == f"1, the furthest by {step_ns / 1000:.3f} us"
    assert advice.startswith("look whether something set the PHC")


def test_order_is_that_of_each_queue():
    batch = ping_pong()
    batch["tx_hw_ns"][batch["queue_id"] == 1] += 10 * SPACING
    assert judged(batch) == []


def test_a_stamp_that_is_the_one_before():
    batch = ping_pong()
    batch["tx_hw_ns"][42] = batch["tx_hw_ns"][40]
    assert only(batch) == (
        "stamps-repeated",
        f"1 of {COUNT}",
        "0",
        "the driver gave one packet's stamp twice; see its known faults, update the kernel",
    )


def test_order_is_the_same_in_pieces():
    batch = ping_pong()
    batch["tx_hw_ns"][[40, 42]] = batch["tx_hw_ns"][[42, 40]]
    batch["tx_hw_ns"][200] = batch["tx_hw_ns"][198]
    batch["tx_hw_ns"][300] = NULL
    whole = Summary("ping-pong")
    whole.add(batch)
    for cut in (41, 42, 43, 199, 200, 201, 300, 301):
        parts = Summary("ping-pong"), Summary("ping-pong")
        for part, rows in zip(parts, (batch[:cut], batch[cut:]), strict=True):
            part.add(rows)
        parts[0].merge(parts[1])
        added = Summary("ping-pong")
        added.add(batch[:cut])
        added.add(batch[cut:])
        for each in (parts[0].stamps, added.stamps):
            assert counts_of(each) == counts_of(whole.stamps) == (COUNT - 1, 1, 1)
            assert each.worst_step_ns == whole.stamps.worst_step_ns
            assert each.resolution_ns() == whole.stamps.resolution_ns()


def counts_of(stamps: StampSeries):
    return stamps.num_stamps, stamps.num_steps_back, stamps.num_repeated


# -- the steps of the clock


@pytest.mark.parametrize(("step_ns", "ppm"), [(8, 0), (8, 30), (25, 0), (41.667, 0)])
def test_steps_that_show_in_the_percentiles(step_ns, ppm):
    batch = ping_pong(step_ns * 3, step_ns, ppm, turnaround_ns=1_000)
    key, value, limit, advice = only(batch)
    assert (key, limit) == ("clock-resolution", "10 % of that")
    found = re.fullmatch(r"steps of ([\d.]+) ns; rx_hw_to_tx_hw p50 to p99 is \d+ ns", value)
    assert float(found[1]) == pytest.approx(step_ns, rel=0.05)
    least = math.ceil(float(found[1]))
    assert advice == f"quote no difference below {least} ns; more samples do not refine it"


def test_steps_that_no_table_shows_are_no_doubt():
    assert judged(ping_pong(200, 8, turnaround_ns=1_000)) == []
    assert judged(ping_pong(20, 1, turnaround_ns=1_000)) == []
    # Percentiles of longer intervals are within 1/256, here 234 ns.
    assert judged(ping_pong(24, 8)) == []


@pytest.mark.parametrize("step", [2, 3, 8, 25, 40, 52.083, 69.841, 279.365, 1_000])
@pytest.mark.parametrize("ppm", [0, 50])
def test_the_step_of_a_clock_is_found(step, ppm):
    rng = np.random.default_rng(1)
    ticks = np.floor(rng.gamma(4, 5 * max(step, 40), 1024) / step)
    found = step_of(np.floor(ticks * step * (1 + ppm / 1e6)).astype(np.int64) + 40_000)
    assert found == pytest.approx(step, rel=0.01)


def test_what_has_no_step_has_none():
    rng = np.random.default_rng(2)
    for scale in (5, 50, 500, 5_000, 500_000):
        heaps = rng.integers(0, 3, 1024) * 700
        for values in (
            rng.gamma(3, scale, 1024),
            rng.normal(0, scale, 200),
            rng.normal(0, 5, 1024) + heaps,
        ):
            assert step_of(values.astype(np.int64)) is None
    assert step_of(np.full(500, 77)) is None
    assert step_of(np.arange(99) * 8) is None  # too few to tell


def test_packets_back_to_back_are_no_steps_of_a_clock():
    batch = empty_batch(COUNT)
    rng = np.random.default_rng(3)
    batch["tx_hw_ns"] = T0 + np.cumsum(rng.choice([672, 1344, 2016], COUNT))
    batch["tx_app_ns"] = T0
    summary = Summary("mixed")
    summary.add(batch)
    assert summary.stamps.resolution_ns() is None


# -- the clocks' offset


def drifting(ppb):
    times = range(T0 - 10**9, T0 + 3 * 10**9, 10**9)
    samples = [ClockSample(t, t + (t - T0) * ppb // 10**9, 100, 37) for t in times]
    return {"samples": Comparison(samples).to_json()}


def test_an_offset_less_sure_than_what_is_compared():
    batch = ping_pong(2_000)
    comparison = drifting(0)
    assert judged(batch, comparison=comparison) == []
    comparison["samples"]["uncertainty_ns"] = [9_000] * 4
    key, value, limit, advice = only(batch, comparison=comparison)
    assert (key, limit) == ("offset-uncertain", "less than that")
    assert re.fullmatch(r"half of it within \+-9\.\d+ us; \w+ p50 to p99 is 4\.\d+ us", value)
    assert advice.startswith("quote intervals on one clock")


def test_a_drift_that_nobody_takes_out():
    batch = ping_pong(2_000)
    asked = {"assume_phc_is_tai": True}
    assert judged(batch, comparison=drifting(100), asked=asked) == []
    key, value, limit, advice = only(batch, comparison=drifting(50_000), asked=asked)
    assert (key, limit) == ("offset-drift", "less than that")
    assert value.startswith("150.000 us during the run; ")
    assert advice.startswith("leave --assume-phc-is-tai away")


# -- percentiles


@pytest.mark.parametrize(("share", "needed"), [(0.5, 6), (0.9, 36), (0.99, 368), (0.999, 3688)])
def test_as_many_samples_as_bound_a_percentile(share, needed):
    assert num_needed(share) == needed
    for count, is_bounded in ((needed - 1, False), (needed, True)):
        batch = ping_pong(count=count)
        summary = Summary("ping-pong")
        summary.add(batch)
        whole = summary.intervals["rx_hw_to_tx_hw_ns"]
        assert (spread(whole, [], share).high is not None) == is_bounded


def test_samples_that_are_alike_are_worth_fewer(tmp_path):
    # A slow wave: 8000 samples, and few that tell anything new.
    batch = ping_pong()
    wave = (20_000 * np.sin(np.arange(COUNT) / COUNT * 6 * np.pi)).astype(np.int64)
    batch["tx_hw_ns"] += wave
    assert judged(batch) == []  # while it is measured nobody knows
    path = write_run(tmp_path, info_of(timestamps="hardware"), batch)
    found = recompute(open_run(path))
    (warning,) = [w for w in found.run.info.warnings if w.key == "few-samples"]
    assert warning.message.startswith("too few samples for ")
    assert warning.message.endswith("p99.9")
    assert f"{COUNT} samples of rx_hw_to_tx_hw count as " in warning.value
    assert warning.limit == "3688 independent ones"
    assert warning.advice.startswith("run ")
    lines = shown_lines(found)
    assert max(len(line) for line in lines if not line.startswith("/")) <= 72
