# SPDX-License-Identifier: GPL-2.0-only
"""``mixed`` in zero-copy mode on the unmodified igc driver: no stamp is missing unaccounted."""

import signal
from pathlib import Path

import numpy as np

from tests.guest.bench import keys_of, rows_of, wait_until, words_of
from xdptstamp.cli._truth import report_truth
from xdptstamp.sample import NULL, Cause
from xdptstamp.stats import comparison_of

STAMP_USER = Path(__file__).with_name("stamp_user.py")
ONE_TO_ONE = ("--ratio", "1:1", "--size", "64", "--repeats", "1", "--duration", "1s")
SKIPPED = "tx_hwtstamp_skipped"


def test_one_to_one_without_a_limit(bench):
    bench.xdptstamp("phc", "set", "--offset", "-37s")
    run, rounds, text = bench.mixed(*ONE_TO_ONE)
    assert run.info.obtained["mode"] == "zero-copy"
    assert all(each.sent == each.received and not each.pattern_errors for each in rounds)
    rows = rows_of(run)
    stamped = int((rows["tx_hw_ns"] != NULL).sum())
    skipped = int((rows["cause"] == Cause.SKIPPED).sum())
    assert len(rows) == stamped + skipped
    assert stamped > 0
    assert skipped > stamped, "four registers do not do for a full ring"
    assert bench.moved(run, SKIPPED) == skipped
    words = words_of(text)
    assert f"skipped: {skipped} by our books, {skipped} by the driver's {SKIPPED}" in words
    assert report_truth(bench.guest.truth_path, [run.path]) == 0
    # The PHC is far off, and the latencies are right all the same.
    assert "across clocks, by their measured offset" in words
    tx, sure = comparison_of(run.info).to_tai(
        rows["tx_hw_ns"], rows["tx_app_ns"], rows["tx_comp_ns"]
    )
    is_known = tx != NULL
    assert np.count_nonzero(is_known) > stamped // 2
    assert (rows["tx_app_ns"] <= tx + sure)[is_known].all()
    assert (tx - sure <= rows["tx_comp_ns"])[is_known].all()


def test_with_four_pending_none_is_skipped(bench):
    run, rounds, _ = bench.mixed(*ONE_TO_ONE, "--max-pending-timestamps", "4")
    rows = rows_of(run)
    assert len(rows) > 0
    assert (rows["tx_hw_ns"] != NULL).all()
    assert bench.moved(run, SKIPPED) == 0
    assert all(each.throttled_ns > 0 for each in rounds if each.requested)
    assert report_truth(bench.guest.truth_path, [run.path]) == 0


def test_what_others_were_denied_is_theirs(bench):
    known = bench.folders()

    def share_the_registers():
        bench.run("python3", "-I", "-S", STAMP_USER, bench.guest.environ["REMOTE_V4"])
        (folder,) = bench.folders() - known
        wait_until(lambda: list(folder.glob("samples/*.parquet")))

    # Long enough for them to end before it, see there.
    words = (*ONE_TO_ONE, "--repeats", "100", "--max-pending-timestamps", "2")
    ended = 128 + signal.SIGINT
    run, _, text = bench.mixed(*words, code=ended, meanwhile=share_the_registers)
    rows = rows_of(run)
    assert set(rows["cause"].tolist()) <= {Cause.NONE, Cause.SKIPPED}
    skipped = int((rows["cause"] == Cause.SKIPPED).sum())
    theirs = bench.moved(run, SKIPPED) - skipped
    assert theirs > 0
    counts = f"skipped: {skipped} by our books, {skipped + theirs} by the driver's {SKIPPED}"
    assert f"{counts}: the other {theirs} are of others" in words_of(text)
    assert "counters-by-others" in keys_of(run)
    assert report_truth(bench.guest.truth_path, [run.path]) == 0
