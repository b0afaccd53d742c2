# SPDX-License-Identifier: GPL-2.0-only
"""Clocks of the virtual I226 under the unmodified igc driver: compared, set, stepped in mid-run.

The guest's CLOCK_TAI and the host's CLOCK_MONOTONIC, by which the virtual NIC notes the moment of
each packet on its wire, run apart at a constant rate. So the moments at which xdptstamp says that
packets were sent and received lie on one straight line with those of the notes, whatever the PHC
did meanwhile.
"""

from __future__ import annotations

import signal

import numpy as np
import pytest

from tests.guest.bench import FLOW, LIMIT_S, Bench, keys_of, rows_of, words_of
from xdptstamp.lab.guest.config import PORTS
from xdptstamp.sample import NULL, Cause
from xdptstamp.stats import Summary, compared_columns, comparison_of

COUNT = 20
SECOND, US = 1_000_000_000, 1_000
ACROSS = ("rx_hw_to_rx_xdp", "tx_app_to_tx_hw", "tx_hw_to_tx_comp")


@pytest.fixture(scope="module")
def bench(guest, command):
    """The shared guest; its clock is left as it is found: in step."""
    bench = Bench(guest, command)
    yield bench
    bench.xdptstamp("phc", "set", "--rate", "0ppm")


def ask_many(bench):
    bench.ask("ask", COUNT, FLOW)


def moments_of(bench):
    """By direction and PHC time on the wire: the host's CLOCK_MONOTONIC of it.

    The PHY's delay is one of true nanoseconds; on a PHC that runs 50 ppm fast it rounds otherwise
    now and then.
    """
    return {
        (direction, phc_ns + rounding): model_ns
        for (direction, phc_ns), model_ns in bench.wire_moments().items()
        for rounding in (-1, 0, 1)
    }


def on_tai(run, rows):
    """(direction, PHC time, on CLOCK_TAI, how wrong that may be) of each stamp that is known."""
    comparison = comparison_of(run.info)
    for direction, name in (("rx", "rx_hw_ns"), ("tx", "tx_hw_ns")):
        tai, sure = comparison.to_tai(rows[name], rows["rx_xdp_ns"], rows["tx_comp_ns"])
        for values in zip(rows[name].tolist(), tai.tolist(), sure.tolist(), strict=True):
            if values[1] != NULL:
                yield direction, *values


def assert_causal(run):
    """Every packet came in before the program saw it, left after it was submitted, and so on."""
    rows = rows_of(run)
    comparison = comparison_of(run.info)
    ends = rows["rx_xdp_ns"], rows["tx_comp_ns"]
    rx, rx_sure = comparison.to_tai(rows["rx_hw_ns"], *ends)
    tx, tx_sure = comparison.to_tai(rows["tx_hw_ns"], *ends)
    is_rx, is_tx = rx != NULL, tx != NULL
    assert (rx - rx_sure <= rows["rx_xdp_ns"])[is_rx].all()
    assert (rows["tx_app_ns"] <= tx + tx_sure)[is_tx].all()
    assert (tx - tx_sure <= rows["tx_comp_ns"])[is_tx].all()
    return int(np.count_nonzero(is_rx & is_tx))


def test_latencies_do_not_depend_on_the_phc(bench):
    """37 s off and 50 ppm fast, between two runs of the same boot at 0 and 0."""
    points, latencies = [], []
    for offset, rate in (("0", "0ppm"), ("37s", "50ppm"), ("0", "0ppm")):
        (was_set,) = bench.json("phc", "set", "--offset", offset, "--rate", rate)
        wanted = 37 * SECOND if offset == "37s" else 0
        error = abs(was_set["after"]["offset_ns"] - wanted)
        assert error <= 10_000 * US, "the emulator's grade; it is measured, not believed"
        run, text = bench.measure(lambda: ask_many(bench))
        assert run.info.timestamps == "hardware"
        assert run.info.clock_comparison["method"] == "extended"
        assert not run.info.clock_comparison["problem"]
        assert "the kernel's TAI offset is 0" in words_of(text)
        assert all(f"{name}: not shown" not in text for name in ACROSS)
        assert assert_causal(run) >= COUNT
        moments = moments_of(bench)
        points.append(
            np.array(
                [
                    (moments[direction, phc], tai, sure)
                    for direction, phc, tai, sure in on_tai(run, rows_of(run))
                ]
            )
        )
        summary = Summary("ping-pong")
        for batch in run.batches():
            summary.add(batch)
        summary.compare(run.batches(compared_columns("ping-pong")), comparison_of(run.info))
        latencies.append(
            {
                name: (summary.intervals[f"{name}_ns"], summary.uncertainties[f"{name}_ns"])
                for name in ACROSS
            }
        )
        # In whole, the way of a packet is as long by one clock as by two.
        rows = rows_of(run)
        by_phc = rows["tx_hw_ns"] - rows["rx_hw_ns"]
        whole = rows["tx_comp_ns"] - rows["rx_xdp_ns"]
        assert (by_phc > 0).all()
        assert (whole > 0).all()
    # The line through the middles of the first and the last run.
    first, other, last = points
    ends = [(int(each[:, 0].mean()), each) for each in (first, last)]
    (start, _), (end, _) = ends
    start_off, end_off = (int(np.median(each[:, 1] - each[:, 0])) for _, each in ends)
    moment, tai, sure = other.T
    share = (moment - start) / (end - start)
    expected = start_off + np.rint(share * (end_off - start_off)).astype(np.int64)
    allowed = sure + int(np.median(first[:, 2])) + int(np.median(last[:, 2]))
    assert len(other) >= 2 * COUNT
    assert (np.abs(tai - moment - expected) <= allowed).all()
    # And the shortest latencies, which the emulator's load does not reach, agree.
    for name in ACROSS:
        (plain, plain_sure), (apart, apart_sure) = latencies[0][name], latencies[1][name]
        slack = plain_sure.max + apart_sure.max + 5_000 * US
        assert abs(plain.min - apart.min) <= slack


def test_without_a_clock_to_compare_differences_are_refused(bench):
    bench.shell("mv /dev/ptp0 /dev/hidden-ptp0")
    try:
        run, text = bench.measure(lambda: ask_many(bench))
    finally:
        bench.shell("mv /dev/hidden-ptp0 /dev/ptp0")
    assert run.info.clock_comparison["problem"]
    for name in ACROSS:
        assert f"{name}: not shown: two clocks" in text
    assert "rx_hw_to_tx_hw" in text
    rows = rows_of(run)
    assert (rows["tx_hw_ns"] != NULL).all()


def test_a_step_in_mid_run_costs_no_stamp_and_is_never_taken_across(bench):
    bench.xdptstamp("phc", "set")

    def traffic():
        ask_many(bench)
        for step_ns in (5 * SECOND, -9 * SECOND):
            answer = bench.guest.control({"phc_step_ns": step_ns})
            assert "error" not in answer, answer
            # Long enough for a look at the clock, should the guest get no CPU for a while.
            ask_many(bench)
            ask_many(bench)

    run, text = bench.measure(traffic)
    rows = rows_of(run)
    assert len(rows) >= 5 * COUNT
    assert not np.isin(rows["cause"], [Cause.INVALID]).any()
    assert (rows["tx_hw_ns"] != NULL).all()
    comparison = comparison_of(run.info)
    assert comparison.num_stretches == 3
    known = assert_causal(run)
    assert 0 < known < len(rows)
    assert keys_of(run) >= {"phc-step"}
    assert "left out: a clock was set" in words_of(text)
    summary = Summary("ping-pong")
    for batch in run.batches():
        summary.add(batch)
    summary.compare(run.batches(compared_columns("ping-pong")), comparison)
    for name in (*ACROSS, "rx_hw_to_tx_hw"):
        histogram = summary.intervals[f"{name}_ns"]
        assert -SECOND < histogram.min <= histogram.max < 4 * SECOND


def test_phc_is_shown_set_and_compared(bench):
    (shown,) = bench.json("phc", "show")
    assert shown["device"] == "/dev/ptp0"
    assert shown["method"] == "extended"
    assert list(shown["refused_methods"]) == ["precise"]
    assert shown["caps"]["max_adj_ppb"] == 62_499_999
    assert not shown["caps"]["has_cross_timestamping"]
    (was_set,) = bench.json("phc", "set", "/dev/ptp0", "--offset", "-1s", "--rate", "-200ppm")
    assert abs(was_set["after"]["offset_ns"] + SECOND) < SECOND // 10
    (shown,) = bench.json("phc", "show", "ptp0")
    assert shown["rate_ppb"] == -200_000
    *samples, end = bench.json("phc", "compare", "--duration", "4s", "--interval", "500ms")
    assert (len(samples), end["num_samples"], end["num_steps"]) == (9, 9, 0)
    assert all(sample["continues"] for sample in samples)
    bench.xdptstamp("phc", "set", "--rate", "0ppm")
    *_, unadjusted = bench.json("phc", "compare", "--duration", "4s", "--interval", "500ms")
    # What the guest's own clock adds is in both.
    change = end["drift_ppb"] - unadjusted["drift_ppb"]
    allowed = end["drift_uncertainty_ppb"] + unadjusted["drift_uncertainty_ppb"]
    assert abs(change + 200_000) <= allowed
    assert allowed < 200_000


def test_a_clock_is_not_set_beside_ptp4l(bench):
    bench.shell("cp /bin/sleep /tmp/ptp4l")
    servo = bench.guest.popen(["/tmp/ptp4l", "600"])
    try:
        refused = bench.xdptstamp("phc", "set", "--offset", "100s", code=1)
        assert "ptp4l (process" in refused.stderr
        (shown,) = bench.json("phc", "show")
        assert shown["offset_ns"] < 50 * SECOND
        (was_set,) = bench.json("phc", "set", "--force")
        assert abs(was_set["after"]["offset_ns"]) < SECOND
    finally:
        servo.send_signal(signal.SIGTERM)
        servo.wait(LIMIT_S)


def test_hwtstamp_is_shown_set_and_restored(bench):
    (before,) = bench.json("hwtstamp", "show")
    assert before["hwtstamp"]["text"] == "tx off, rx none"
    assert (before["tx_types"], before["rx_filters"]) == (["off", "on"], ["none", "all"])
    assert (before["phc_index"], before["kept"]) == (0, None)
    # The driver makes "all" of any filter (igc_ptp_set_timestamp_mode).
    (was_set,) = bench.json("hwtstamp", "set", "--tx", "on", "--rx", "ptpv2-event")
    assert was_set["after"]["text"] == "tx on, rx all"
    assert "the NIC made tx on, rx all of tx on, rx ptpv2-event" in was_set["notes"]
    (shown,) = bench.json("hwtstamp", "show", PORTS[0])
    assert (shown["hwtstamp"]["text"], shown["kept"]["text"]) == (
        "tx on, rx all",
        "tx off, rx none",
    )
    (restored,) = bench.json("hwtstamp", "restore")
    assert restored["after"]["text"] == "tx off, rx none"
    assert "nothing to restore" in bench.xdptstamp("hwtstamp", "restore", code=1).stderr
