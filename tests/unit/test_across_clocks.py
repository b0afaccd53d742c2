# SPDX-License-Identifier: GPL-2.0-only
"""Intervals between a NIC's clock and the system's: measured, refused, or assumed by name."""

from __future__ import annotations

import json
import os
import pickle
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.recording_kit import make_info, wait_for, wait_for_end
from xdptstamp.checks import parse_fail_if, run_warnings
from xdptstamp.clock import ClockSample
from xdptstamp.comparison import Comparison
from xdptstamp.sample import empty_batch
from xdptstamp.stats import Summary, compared_columns, comparison_of
from xdptstamp.store import Recorder, create_run, open_run
from xdptstamp.text.intervals import interval_lines, refusal, shown_intervals
from xdptstamp.text.jsonl import summary_json
from xdptstamp.text.summary import format_summary

T0 = 1_790_000_000_000_000_000
SECOND, US = 1_000_000_000, 1_000
ACROSS = ("rx_hw_to_rx_xdp_ns", "tx_app_to_tx_hw_ns", "tx_hw_to_tx_comp_ns")
# Latencies of packet n, in ns, each a little longer than that of the packet before.
RX, STACK, TX, COMP = 10_000, 5_000, 60_000, 70_000


def phc_of(tai, offset=37 * SECOND, ppb=50_000):
    return tai + offset + (tai - T0) * ppb // SECOND


def packets(count=100, spacing=30_000_000, phc=phc_of):
    """Packets in the first three seconds, their NIC's times on its own clock."""
    batch = empty_batch(count)
    n = np.arange(count)
    batch["seq"] = n
    wire = T0 + spacing * n
    batch["rx_hw_ns"] = [phc(int(t)) for t in wire]
    batch["rx_xdp_ns"] = wire + RX + n
    batch["rx_app_ns"] = batch["rx_xdp_ns"] + STACK
    batch["tx_app_ns"] = batch["rx_app_ns"] + STACK
    batch["tx_hw_ns"] = [phc(int(t)) for t in batch["tx_app_ns"] + TX + n]
    batch["tx_comp_ns"] = batch["tx_app_ns"] + TX + COMP + 2 * n
    return batch


def sampled(phc=phc_of, seconds=range(-1, 5), sure=500):
    times = [T0 + n * SECOND for n in seconds]
    return Comparison(ClockSample(t, phc(t), sure, 0, "extended") for t in times)


def info_of(comparison=None, **fields):
    compared = {}
    if comparison is not None:
        compared = {
            "device": "/dev/ptp0",
            "method": "extended",
            "uncertainty": "half of the shortest window",
            "drift_ppb": 50_000,
            "drift_uncertainty_ppb": 167,
            "notes": ["the kernel's TAI offset is 0"],
            "problem": "",
            "samples": comparison.to_json(),
        }
    return make_info(timestamps="hardware", clock_comparison=compared, **fields)


def summed(batch, comparison):
    summary = Summary("ping-pong")
    summary.add(batch)
    summary.compare([batch[compared_columns("ping-pong")]], comparison)
    return summary


def ends(summary, name):
    histogram = summary.intervals[name]
    return histogram.count, histogram.min, histogram.max


def test_without_a_comparison_they_are_refused_and_everything_else_is_not():
    summary = Summary("ping-pong")
    summary.add(packets())
    assert set(summary.num_ends) == set(ACROSS)
    assert not set(ACROSS) & set(summary.intervals)
    info = info_of()
    assert {refusal(info, name) for name in ACROSS[1:2]} == {
        "two clocks (tai, phc), no measured offset"
    }
    text = "\n".join(interval_lines(info, summary))
    for name in ACROSS:
        assert f"{name.removesuffix('_ns')}: not shown: two clocks" in text
    assert "rx_hw_to_tx_hw " in text
    assert "left out" not in text
    found = summary_json(info, summary)["intervals"]["tx_app_to_tx_hw_ns"]
    assert found == {"count": 100, "refused": "two clocks (tai, phc), no measured offset"}
    fail = parse_fail_if("tx_hw_to_tx_comp max > 1s", "ping-pong").check(info, summary)
    assert "no measured offset" in fail.value


def test_what_kept_the_clock_from_being_read_is_said():
    info = make_info(timestamps="hardware", clock_comparison={"problem": "/dev/ptp0: gone"})
    reason = "two clocks (tai, phc), no measured offset (/dev/ptp0: gone)"
    assert refusal(info, "tx_app_to_tx_hw_ns") == reason
    assert "not compared: /dev/ptp0: gone" in "\n".join(format_summary(info, Summary("ping-pong")))


def test_a_free_running_clock_gives_the_latencies_that_there_were():
    batch = packets()
    summary = summed(batch, sampled())
    for name, shortest, longest in zip(
        ACROSS, (RX, TX, COMP), (RX + 99, TX + 99, COMP + 99), strict=True
    ):
        count, low, high = ends(summary, name)
        assert count == 100
        assert abs(low - shortest) <= 3
        assert abs(high - longest) <= 3
        sure = summary.uncertainties[name]
        assert 500 <= sure.min <= sure.max <= 510 + 500


@given(
    offset=st.integers(-(2**58), 2**58),
    ppb=st.integers(-100_000, 100_000),
    noise=st.lists(st.integers(-400, 400), min_size=6, max_size=6),
)
@settings(max_examples=50, deadline=None)
def test_any_clock_keeps_the_causal_order_within_the_stated_uncertainty(offset, ppb, noise):
    def phc(tai):
        return phc_of(tai, offset, ppb)

    times = [T0 + n * SECOND for n in range(-1, 5)]
    comparison = Comparison(
        ClockSample(t, phc(t) + off, 500) for t, off in zip(times, noise, strict=True)
    )
    batch = packets(20, phc=phc)
    summary = summed(batch, comparison)
    for name, expected in zip(ACROSS, (RX, TX, COMP), strict=True):
        count, low, high = ends(summary, name)
        sure = summary.uncertainties[name].max
        assert count == 20
        assert low >= expected - sure - 3
        assert high <= expected + 19 + sure + 3


def test_nothing_across_a_step_is_counted_on_either_clock():
    step_at = T0 + 3 * SECOND // 2

    def phc(tai):
        return phc_of(tai) + (-5 * SECOND if tai >= step_at else 0)

    batch = packets(phc=phc)
    comparison = sampled(phc)
    assert comparison.num_stretches == 2
    summary = summed(batch, comparison)
    # 33 packets, of the second in which it happened, are not known.
    left = [ends(summary, name)[0] for name in (*ACROSS, "rx_hw_to_tx_hw_ns")]
    assert left == [67, 67, 67, 67]
    assert ends(summary, "rx_app_to_tx_app_ns")[0] == 100
    for name in (*ACROSS, "rx_hw_to_tx_hw_ns"):
        assert 0 < ends(summary, name)[1] <= ends(summary, name)[2] < 100 * US
    info = info_of(comparison)
    text = "\n".join(interval_lines(info, summary))
    assert "tx_app_to_tx_hw: 33 of 100 left out: a clock was set" in text
    assert "rx_hw_to_tx_hw: 33 of 100 left out" in text
    assert summary_json(info, summary)["intervals"]["rx_hw_to_rx_xdp_ns"]["left_out"] == 33
    (doubt,) = [each for each in run_warnings(info, summary) if each.key == "phc-step"]
    assert doubt.value == "1"
    assert not doubt.is_untrusted


def test_the_table_states_the_uncertainty_and_the_header_the_offset():
    comparison = sampled()
    summary = summed(packets(), comparison)
    info = info_of(comparison)
    assert set(shown_intervals(info, summary)) >= {n.removesuffix("_ns") for n in ACROSS}
    lines = format_summary(info, summary)
    text = " ".join(" ".join(lines).split())
    assert "PHC - TAI +36.999950000 s (+-0.500 us) at first, drifting by +50.000 ppm" in text
    assert "6 samples, extended" in text
    assert "clocks the kernel's TAI offset is 0" in text
    assert (
        "(rx_hw_to_rx_xdp, tx_app_to_tx_hw, tx_hw_to_tx_comp: across clocks, by their measured "
        "offset: half of them are within +-0."
    ) in text
    assert max(map(len, lines)) <= 72
    found = summary_json(info, summary)["intervals"]["tx_app_to_tx_hw_ns"]
    assert (found["count"], found["left_out"]) == (100, 0)
    assert 500 <= found["uncertainty_ns"]["p50"] <= found["uncertainty_ns"]["max"] <= 1010
    assert not [each for each in run_warnings(info, summary) if each.key.startswith("phc")]


def test_what_is_assumed_by_name_is_subtracted_as_it_is_and_said():
    batch = packets(phc=lambda tai: tai + 7)
    info = info_of(asked={"assume_phc_is_tai": True})
    assert comparison_of(info) is None
    summary = summed(batch, None)
    assert ends(summary, "rx_hw_to_rx_xdp_ns") == (100, RX - 7, RX + 92)
    text = " ".join(" ".join(interval_lines(info, summary)).split())
    assert "across clocks, the PHC taken to be CLOCK_TAI as asked: not measured" in text
    assert [each.key for each in run_warnings(info, summary)].count("phc-assumed") == 1


def test_warm_up_and_missing_ends_are_in_none():
    batch = packets(10)
    batch["is_warmup"][:3] = True
    batch["tx_hw_ns"][3] = batch["rx_hw_ns"][4] = -1
    summary = summed(batch, sampled())
    assert [ends(summary, name)[0] for name in ACROSS] == [6, 6, 6]
    assert summary.num_ends == dict.fromkeys(ACROSS, 6)


def test_packets_ahead_of_the_first_sample_and_behind_the_last_are_left_out():
    summary = summed(packets(), sampled(seconds=(1, 2)))
    # 30 ms apart: numbers 34 to 66 lie between; the completion of the last does, too.
    assert [ends(summary, name)[0] for name in ACROSS] == [33, 33, 33]
    assert summary.num_ends["tx_app_to_tx_hw_ns"] == 100


def test_merged_and_pickled_summaries_keep_what_was_compared():
    one, two = summed(packets(), sampled()), summed(packets(50), sampled())
    one.merge(pickle.loads(pickle.dumps(two)))
    assert ends(one, "tx_app_to_tx_hw_ns")[0] == 150
    assert one.uncertainties["tx_app_to_tx_hw_ns"].count == 150
    assert one.num_ends["tx_app_to_tx_hw_ns"] == 150


# Through the recorder, which alone has all samples.


def test_a_recorder_compares_at_the_end_and_keeps_the_samples(tmp_path):
    comparison = sampled()
    info = info_of()
    with create_run(tmp_path, info) as run_dir, Recorder(run_dir) as recorder:
        recorder.start(info)
        recorder.put(packets())
        info.clock_comparison = info_of(comparison).clock_comparison
        info.state = "complete"
        seen = []
        summary = recorder.finish(info, judge=lambda each: seen.append(each.intervals))
    assert ends(summary, "tx_app_to_tx_hw_ns")[0] == 100
    assert "tx_app_to_tx_hw_ns" in seen[0], "--fail-if is judged with it"
    run = open_run(run_dir.path)
    again = comparison_of(run.info)
    assert again.samples == comparison.samples
    reread = Summary("ping-pong")
    for batch in run.batches():
        reread.add(batch)
    reread.compare(run.batches(compared_columns("ping-pong")), again)
    assert {n: ends(reread, n) for n in reread.intervals} == {
        n: ends(summary, n) for n in summary.intervals
    }


KILLED = """
import os, pickle, sys, time
from pathlib import Path
from tests.unit.test_across_clocks import info_of, packets, sampled
from xdptstamp.store import Recorder, create_run

info = info_of()
with create_run(Path(sys.argv[1]), info) as run_dir, Recorder(run_dir) as recorder:
    recorder.start(info)
    comparison = sampled()
    for sample, goes_on in zip(comparison.samples, comparison.to_json()["continues"]):
        recorder.note_clock(sample, goes_on)
    recorder.put(packets())
    recorder.flush()
    print(run_dir.path, recorder.pid, flush=True)
    time.sleep(600)
"""


def test_a_killed_run_keeps_its_comparison(tmp_path):
    import subprocess
    import sys

    with subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        path, pid = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    wait_for_end(int(pid))
    data = wait_for(lambda: json.loads((tmp_path / path / "run.json").read_text()))
    assert (data["state"], data["ended_by"]) == ("interrupted", "killed")
    assert data["clock_comparison"]["samples"] == sampled().to_json()
    assert sum(len(batch) for batch in open_run(tmp_path / path).batches()) == 100


@pytest.mark.parametrize("kind", ["ping-pong", "mixed", "ping"])
def test_the_columns_that_are_compared_are_all_times_and_the_warm_up(kind):
    names = compared_columns(kind)
    assert "is_warmup" in names
    assert all(name.endswith("_ns") for name in names if name != "is_warmup")
