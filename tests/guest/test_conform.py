# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp conform`` on igc in zero-copy mode, and on one whose NIC does not keep its word."""

import json
import re

import pytest

from xdptstamp.conformance import Conformance
from xdptstamp.lab.guest.config import PORTS

#: Those that igc alone, with hardware stamps, can pass; the rest is tried in copy mode, too.
ZERO_COPY = ("pending-stamps", "skipped-counted", "rx-stamp")
EVERYWHERE = ("stamp-in-bounds", "completions-at-every-ratio", "completed-is-sent", "checksum")


@pytest.fixture
def judged(bench):
    """``judged(key..., code=0)``: outcome and words of each case in the shared guest."""

    def run(*keys, code=0):
        words = [word for key in keys for word in ("--case", key)]
        done = bench.xdptstamp("conform", *words, "--format", "json", code=code)
        found = Conformance.from_json(json.loads(done.stdout))
        assert (found.mode, found.driver, found.ended_by) == ("zero-copy", "igc", None)
        return {result.rule.key: (result.outcome, result.seen) for result in found.results}

    return run


def test_igc_passes(judged):
    found = judged(*ZERO_COPY, *EVERYWHERE)
    assert {outcome for outcome, _ in found.values()} == {"pass"}, found
    # IGC_MAX_TX_TSTAMP_REGS, igc.h.
    assert found["pending-stamps"][1].endswith("the driver keeps 4 pending")


def test_stamps_of_another_time_are_seen(judged, bench):
    bench.fault("wrong-phy:by=1s")
    found = judged("stamp-in-bounds", code=3)
    outcome, seen = found["stamp-in-bounds"]
    assert outcome == "fail"
    assert seen == "64 of 64 stamps are of no time between submit and completion"


def test_packets_that_the_wire_spoils_are_seen(judged, bench):
    bench.fault("damage-rx:every=50", port=1)
    found = judged("completed-is-sent", "vlan-tagged", code=3)
    outcome, seen = found["completed-is-sent"]
    assert outcome == "fail"
    assert " altered, " in seen and "missing" in seen


ATTEMPTS = 5
_ETF = "etf clockid CLOCK_TAI delta 500000 offload"
ETF = f"""
    tc qdisc replace dev $NETIF handle 100: parent root mqprio num_tc 2 \
        map 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 queues 1@0 1@1 hw 0
    tc qdisc replace dev $NETIF parent 100:1 {_ETF}
"""

ROOT_ETF = f"""
    tc qdisc del dev $NETIF root
    mac=$(ip netns exec $REMOTE_ARGS cat /sys/class/net/{PORTS[1]}/address)
    ip neigh replace $REMOTE_V4 lladdr $mac dev $NETIF nud permanent
    tc qdisc replace dev $NETIF root {_ETF}
"""


@pytest.fixture
def phc_on_tai(bench):
    """``phc_on_tai()``: set the PHC anew; it runs as CLOCK_TAI does.

    By itself it does not: how well the guest measures its TSC when it boots depends on how busy the
    host is.
    """
    bench.xdptstamp("phc", "set", "--rate", "0ppb")
    *_, end = bench.json("phc", "compare", "--duration", "3s", "--interval", "100ms")
    rate = f"{-round(end['drift_ppb'])}ppb"
    yield lambda: bench.xdptstamp("phc", "set", "--rate", rate)
    bench.xdptstamp("phc", "set", "--rate", "0ppb")


@pytest.fixture
def assert_kept(judged, phc_on_tai):
    """``assert_kept(key)``: launch times are kept, to the nanosecond.

    Not at each attempt: on a busy host the process that is the NIC may hear of a packet when its
    time has come already.
    """

    def check(*others):
        for _ in range(ATTEMPTS):
            phc_on_tai()
            found = judged("launch-time", *others, code=(0, 3))
            if all(outcome == "pass" for outcome, _ in found.values()):
                break
        outcomes = {key: outcome for key, (outcome, _) in found.items()}
        assert outcomes == dict.fromkeys(("launch-time", *others), "pass"), found
        _, seen = found["launch-time"]
        assert re.search(r" stamped, 0 of them early, 0 late: -?[01] to -?[01] ns after", seen)

    return check


def test_launch_times_are_kept_where_etf_is_offloaded(judged, bench, phc_on_tai, assert_kept):
    phc_on_tai()
    found = judged("launch-time-without-etf", "launch-time")
    assert [outcome for outcome, _ in found.values()] == ["pass", "skip"], found
    bench.shell(ETF)
    try:
        assert_kept("launch-time-without-etf")  # on the other queue
        bench.xdptstamp("phc", "set", "--offset", "37s")
        outcome, seen = judged("launch-time")["launch-time"]
        assert outcome == "skip"
        assert ") off CLOCK_TAI, by which igc finds the cycle of a launch time" in seen
        # Below no mqprio it has queue 0, and lets nothing of the stack's pass, ARP neither.
        bench.shell(ROOT_ETF)
        assert_kept()
    finally:
        bench.shell("tc qdisc del dev $NETIF root; ip neigh flush nud permanent dev $NETIF")
