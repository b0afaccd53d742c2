# SPDX-License-Identifier: GPL-2.0-only
"""What the virtual I226 is made to do wrong, and what the user reads of it."""

import json

import numpy as np

from tests.guest.bench import FLOW, keys_of, rows_of, words_of
from xdptstamp.cli._truth import report_truth
from xdptstamp.sample import NULL, Cause
from xdptstamp.store.rounds import read_rounds

# Slow enough for a sink on the same emulated CPUs.
SLOW = ("--ratio", "1:1", "--size", "64", "--repeats", "1", "--duration", "1s", "--rate", "500pps")
MS, SECOND = 1_000_000, 1_000_000_000
SKIPPED = "tx_hwtstamp_skipped"
TIMEOUTS = "tx_hwtstamp_timeouts"


def held_ns(rows):
    """From submit to completion."""
    return rows["tx_comp_ns"] - rows["tx_app_ns"]


def test_a_lost_stamp_times_out_and_lost_completions_are_given_up(bench):
    """Each takes some 15 s of waiting, and neither blames packets of the other's."""

    def traffic():
        bench.ask("ask", 10, FLOW)
        bench.fault("lose-stamp:count=1")
        bench.ask("ask", 20, FLOW)
        # Behind those whose completions are held; lost is that of the 6th, counted from now on,
        # when the NIC may not have written back the last of the 20.
        bench.fault("lose-completion:after=5,count=1")
        bench.ask("ask", 15, FLOW)

    # Exit code 3, for the kernel complains.
    run, text = bench.measure(traffic, code=3)
    rows = rows_of(run)
    (lost,) = np.flatnonzero(rows["cause"] == Cause.TIMED_OUT)
    # The driver gives up after 15 s (IGC_PTP_TX_TIMEOUT, igc_ptp.c), and looks every 2 s.
    assert 14 * SECOND < held_ns(rows)[lost] < 25 * SECOND
    assert bench.moved(run, TIMEOUTS) == 1
    # Those behind it had to wait, and have their stamps.
    is_given_up = rows["cause"] == Cause.LOST_BY_DRIVER
    others = np.delete(rows, np.append(np.flatnonzero(is_given_up), lost))
    assert len(others) >= 30
    assert (others["tx_hw_ns"] != NULL).all()
    # Those behind a completion that never comes have none either: the ring is cleaned in order.
    assert 5 < is_given_up.sum() <= 15
    words = words_of(text)
    assert "timed_out 1" in words
    assert f"timed out: 1 by our books, 1 by the driver's {TIMEOUTS}: they agree" in words
    assert f"lost_by_driver {is_given_up.sum()} its completion never came" in words
    expected = {"stamps-timed-out", "kernel-log-stamp-timeout", "stamps-lost-by-driver"}
    assert expected <= keys_of(run)
    assert report_truth(bench.guest.truth_path, [run.path]) == 0


def test_what_is_late_shows_in_the_hold_times(bench):
    hits = []

    def traffic():
        for spec in ("delay-stamp:delay=20ms", "delay-completion:delay=30ms"):
            bench.fault(spec)
            bench.ask("ask", 10, FLOW)
            bench.heal()
        bench.fault("lose-interrupt:after=3,count=2")
        bench.ask("ask", 10, FLOW)
        hits.append(bench.guest.control({"state": None})["faults"]["lose-interrupt"])
        bench.heal()
        bench.ask("ask", 4, FLOW)  # a stamp whose interrupt was lost is read with the next one

    run, _ = bench.measure(traffic)
    rows = rows_of(run)
    # The fifth request finds all four registers waiting, and each that is refused is counted.
    is_skipped = rows["cause"] == Cause.SKIPPED
    assert (is_skipped == (rows["tx_hw_ns"] == NULL)).all()
    assert bench.moved(run, SKIPPED) == is_skipped.sum() < 10
    # Number 0 is from finding out whether ping-pong is ready. All wait for the stamps before them.
    assert (held_ns(rows[1:5]) >= 20 * MS).all()
    assert (held_ns(rows[11:21]) >= 30 * MS).all()
    assert len(rows) >= 35
    assert hits == [2]
    assert report_truth(bench.guest.truth_path, [run.path]) == 0


def test_a_register_that_is_never_freed_gives_no_false_stamp(bench):
    def traffic():
        bench.fault("stick-stamp:slot=0")
        bench.ask("ask", 30, FLOW)
        bench.heal()
        bench.ask("ask", 8, FLOW)  # their stamps have the driver look at all registers once more

    run, text = bench.measure(traffic)
    # The driver hands out the register's old value: a time before the packet was submitted.
    invalid = int((rows_of(run)["cause"] == Cause.INVALID).sum())
    assert invalid > 5
    assert "stamps-invalid" in keys_of(run)
    words = words_of(text)
    assert f"invalid {invalid}" in words
    assert "the driver gave the stamp of another packet" in words
    report_truth(bench.guest.truth_path, [run.path])
    truth = json.loads((run.path / "truth.json").read_text())
    assert truth["tx"]["num_false"] == 0


def test_a_link_that_flaps_is_named(bench):
    def traffic():
        bench.fault("flap-link:down=300ms")
        bench.ask("ask", 10, FLOW)

    run, text = bench.measure(traffic)
    words = words_of(text)
    assert "NIC Link is Down" in words
    assert "link resets" in words
    # igc resets the adapter when the link goes, and sets the PHC anew.
    assert {"kernel-log-link", "phc-step"} <= keys_of(run)
    assert report_truth(bench.guest.truth_path, [run.path]) == 0


def test_a_hung_head_pointer_is_named(bench):
    def traffic():
        bench.fault("slow-head:delay=8s,count=1")
        bench.ask("ask", 5, FLOW)

    run, text = bench.measure(traffic, code=3)
    assert "kernel-log-hang" in keys_of(run)
    assert "Detected Tx Unit Hang" in words_of(text)
    assert (held_ns(rows_of(run)) > 7 * SECOND).any()


def test_what_the_wire_does_to_packets_is_told_apart(bench):
    bench.fault("drop-rx:every=31,after=50", port=1)
    bench.fault("corrupt-rx:every=37,after=50", port=1)
    bench.fault("damage-rx:every=41,after=50", port=1)
    bench.fault("reorder-rx:every=43,after=50", port=1)
    run, _, text = bench.mixed(*SLOW, code=3)
    assert run.info.asked["rate"] == "500pps"
    hits = bench.guest.control({"state": None, "port": 1})["faults"]
    _, rounds = read_rounds(run)
    found = {
        "drop-rx": sum(each.unaccounted for each in rounds),
        "corrupt-rx": sum(each.located.get("partner rx_crc_errors", 0) for each in rounds),
        "damage-rx": sum(each.corrupted for each in rounds),
        "reorder-rx": sum(each.reordered for each in rounds),
    }
    # A wrong bit in what names the stream or numbers the packet makes it one that nobody knows.
    unknown = hits["damage-rx"] - found.pop("damage-rx")
    assert 0 <= unknown < hits["damage-rx"]
    # The faults strike packets of the stack's own, too, and one behind another that is struck.
    assert hits["drop-rx"] - 5 <= found.pop("drop-rx") <= hits["drop-rx"] + unknown
    for name, count in found.items():
        assert hits[name] - 5 <= count <= hits[name], name
    expected = {"books-unbalanced", "packets-corrupted", "packets-reordered", "loss-at-partner"}
    assert expected <= keys_of(run)
    words = words_of(text)
    assert "missing: partner rx_crc_errors" in words
    assert "missing: sink corrupted" in words
    assert "NOT TO BE TRUSTED" in words
