# SPDX-License-Identifier: GPL-2.0-only
"""Linux 6.12 and the faults that its igc has: named, kept away from where possible, no hang."""

import contextlib
import json
import sys
from pathlib import Path

import pytest

from tests.guest.bench import LIMIT_S, Bench, rows_of, wait_for_run, words_of
from xdptstamp.lab.guest import Guest, GuestConfig
from xdptstamp.lab.guest.config import NETNS
from xdptstamp.sample import NULL, Cause
from xdptstamp.store import open_run

ABOVE_RING = Path(__file__).with_name("above_ring.py")
NUM_ABOVE = 1000
QUIET = f"""
echo 1 >/proc/sys/net/ipv6/conf/$NETIF/disable_ipv6
mac=$(cat /sys/class/net/$NETIF/address)
ip netns exec {NETNS} ip neigh replace $LOCAL_V4 lladdr $mac dev igc1 nud permanent
"""
# As many as the run counts: no packet is to come when it ends.
COUNT = 3
SENDER = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    for number in range(int(sys.argv[2])):
        sock.sendto(b"packet %d" % number, (sys.argv[1], 9091))
        time.sleep(0.2)
"""


@pytest.fixture
def old(tmp_path, needs_kit):
    """``old(NUM_CPUS)``: a guest of Linux 6.12, whose igc makes as many queues."""
    with contextlib.ExitStack() as stack:

        def start(num_cpus):
            config = GuestConfig(
                kernel="6.12", num_cpus=num_cpus, output_dir=tmp_path / str(num_cpus)
            )
            needs_kit(config)
            return Bench(stack.enter_context(Guest(config)))

        yield start


def above_ring(bench):
    done = bench.run(sys.executable, ABOVE_RING, bench.guest.environ["NETIF"], NUM_ABOVE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_found(findings):
    """What caps finds of this kernel: neither more nor less than it has."""
    texts = {finding["key"]: finding["text"] for finding in findings}
    assert (texts["tx-timestamp"], texts["launch-time"]) == ("yes, HARDWARE", "not offered")
    assert texts["queues"] == "4, each with Rx and Tx"
    faults = {each["text"]: each for each in findings if each["key"] == "fault"}
    # Two of those that older releases of this series have are fixed in it.
    assert len(faults) == 3
    (ring,) = [each for text, each in faults.items() if text.startswith("packets and their")]
    assert ring["verdict"] == "doubt"
    assert "d931cf9b38da" in ring["source"]
    assert ring["source"].endswith(
        "; judged by version (fixed in 6.15); a distribution may have the fix"
    )


def test_the_faults_of_6_12_are_named_and_no_run_hangs(old):
    two, four = old(2), old(4)
    # The stack is to send nothing meanwhile: that has the driver look at the queue.
    two.shell(QUIET)
    answering = two.guest.popen([*two.command, "ping-pong", "--count", str(COUNT)])
    wait_for_run(two.guest, set(), answering)
    argv = ["ip", "netns", "exec", NETNS, "python3", "-I", "-S", "-c", SENDER]
    sender = two.guest.popen([*argv, two.guest.environ["LOCAL_V4"], str(COUNT)])

    # While that waits for completions: those above the ring.
    counts, notes, findings = above_ring(four)
    assert counts["fitting"] == counts["capacity"] > 100
    assert counts["above"] < NUM_ABOVE
    (note,) = [note for note in notes if "igc_xdp_xmit_zc, igc_main.c" in note]
    assert note.startswith("known fault of igc (seen on 6.12.95; ")
    assert note.endswith("at most the ring's size minus four in flight on a queue")
    assert not any("igc_xsk_wakeup" in note for note in notes)
    assert_found(findings)

    code = answering.wait(LIMIT_S)
    assert sender.wait(LIMIT_S) == 0
    assert code in (0, 3), answering.stderr
    (path,) = two.folders()
    rows = rows_of(open_run(path))
    is_lost = rows["cause"] == Cause.LOST_BY_DRIVER
    assert (is_lost | (rows["tx_hw_ns"] != NULL)).all()
    words = words_of(answering.stdout)
    assert "known fault of igc (seen on 6.12.117; igc_xsk_wakeup, igc_main.c" in words
    assert "completes by chance" in words
    # Mostly all of them are; the driver looks at the queue by chance.
    assert ("see the driver's known faults in the notes" in words) == is_lost.any()


def test_the_recent_kernel_completes_any_number(bench):
    counts, notes, _ = above_ring(bench)
    assert (counts["fitting"], counts["above"]) == (counts["capacity"], NUM_ABOVE)
    assert not any("igc_xdp_xmit_zc" in note for note in notes)
