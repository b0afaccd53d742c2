# SPDX-License-Identifier: GPL-2.0-only
"""The study of what timestamps cost: its model in cases that can be told by hand, and its page."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path("scripts/timestamp_cost").absolute()
sys.path.insert(0, str(SCRIPTS))

from model import Queue, predict  # noqa: E402

sys.path.remove(str(SCRIPTS))

MS = 1_000_000
RATIOS = [(1, 0), (1, 1), (1, 10), (1, 100)]


@pytest.mark.parametrize("ratio", [(0, 1), *RATIOS])
def test_stamps_that_take_no_time_cost_nothing(ratio):
    found = predict(Queue(packet_ns=1000, latency_ns=0, in_flight=252), *ratio)
    assert found.packets_per_ns * 1000 == pytest.approx(1, rel=0.01)
    assert found.stamped == 1
    assert found.hold_ns == 0


@pytest.mark.parametrize(("stamped", "plain"), RATIOS)
def test_who_waits_for_a_register_gets_four_stamps_a_latency(stamped, plain):
    queue = Queue(packet_ns=10, latency_ns=10 * MS, in_flight=100_000, max_pending=4)
    found = predict(queue, stamped, plain)
    expected = 4 / (10 * MS) * (stamped + plain) / stamped
    assert found.packets_per_ns == pytest.approx(expected, rel=0.02)
    assert found.stamped == 1
    assert found.hold_ns == pytest.approx(10 * MS, rel=0.01)


@pytest.mark.parametrize("ratio", RATIOS)
def test_no_more_than_fit_in_flight_go_in_one_latency(ratio):
    found = predict(Queue(packet_ns=10, latency_ns=10 * MS, in_flight=252), *ratio)
    # What comes ahead of the first that is stamped completes at once.
    assert found.packets_per_ns * 10 * MS == pytest.approx(252, rel=0.5)


def test_of_a_batch_four_get_a_stamp_and_the_others_go_without():
    found = predict(Queue(packet_ns=10, latency_ns=10 * MS, in_flight=200), 1, 0)
    assert found.stamped == pytest.approx(4 / 200, rel=0.01)
    assert found.hold_ns == pytest.approx(10 * MS, rel=0.01)


def test_where_packets_are_far_apart_those_that_fit_a_latency_are_stamped():
    queue = Queue(packet_ns=0, latency_ns=8.5 * MS, in_flight=252, interval_ns=MS)
    found = predict(queue, 1, 0)
    assert found.packets_per_ns * MS == pytest.approx(1, rel=0.01)
    # Four, then the next that finds a register free again, nine intervals on.
    assert found.stamped == pytest.approx(4 / 9, rel=0.01)


def test_the_page_is_what_its_runs_say(tmp_path):
    subprocess.run([sys.executable, SCRIPTS / "write.py", tmp_path], check=True)
    for path in tmp_path.iterdir():
        kept = Path("results/study") / path.name
        if path.suffix != ".svg":  # which changes with matplotlib
            assert kept.read_text() == path.read_text(), path.name
        assert kept.exists()
    assert {"README.md", "letter.txt"} <= {path.name for path in tmp_path.iterdir()}
