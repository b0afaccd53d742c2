# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp conform`` on a link: its cases against this kernel, and its ends."""

import json
import os
import signal
import sys

import pytest

from tests.link.running import assert_left_alone, one_message
from xdptstamp.conform.catalogue import CASES
from xdptstamp.conform.stand import PORT
from xdptstamp.conformance import Conformance
from xdptstamp.nic import Nic

if os.environ.get("NETIF"):
    pytest.skip("takes links down and their namespace away", allow_module_level=True)

# What copy mode of Linux 6.18 does wrong; see drivers.toml.
MAY_BE_WRONG = {
    "umem-length-8": "umem-length-8-accepted",
    "unknown-metadata-flag": "copy-mode-stuck-behind-refused",
    "checksum-outside": "copy-mode-stuck-behind-refused",
    "metadata-not-registered": "copy-mode-stuck-behind-refused",
}
ZERO_COPY_ALONE = {case.rule.key for case in CASES if "copy" not in case.rule.expected}


def test_every_case_passes_is_explained_or_says_why_it_is_not_run(shared_lab, run_cli):
    before = Nic(shared_lab.ifname).link()
    done = run_cli("conform", "--format", "json", env=shared_lab.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    found = Conformance.from_json(json.loads(done.stdout))
    assert (found.mode, found.driver, found.ended_by) == ("copy", "veth", None)
    by_key = {result.rule.key: result for result in found.results}
    assert list(by_key) == [case.rule.key for case in CASES]
    for key, result in by_key.items():
        if key in ZERO_COPY_ALONE:
            assert (result.outcome, result.seen) == ("skip", "the rule is not of copy mode")
        elif key == "channel-change":
            # veth keeps as many queues as its peer sends from.
            assert result.outcome == "skip"
            assert "the driver takes no queue away now" in result.seen
        elif result.outcome == "known-fault":
            assert result.fault == MAY_BE_WRONG[key]
            assert result.fault_note.startswith("known fault of af_xdp (seen on ")
        else:
            assert result.outcome == "pass", f"{key}: {result.seen}"
    assert Nic(shared_lab.ifname).link().mtu == before.mtu
    assert Nic(shared_lab.ifname).link().is_up
    assert_left_alone(shared_lab.ifname)


def test_a_case_alone_in_ktap(shared_lab, run_cli):
    done = run_cli(
        "conform", "--case", "stamp-in-bounds", "--format", "ktap", env=shared_lab.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("KTAP version 1\n1..1\n")
    assert "\nok 1 xdptstamp.copy.stamps.stamp-in-bounds\n" in done.stdout


def test_a_link_that_loses_packets_fails_what_is_about_them(shared_lab, run_cli, popen_cli):
    # A sink takes what comes away, before the link partner's stack has it.
    sink = (sys.executable, "-m", "xdptstamp", "sink", "--port", PORT, "--format", "jsonl")
    thief = popen_cli("partner", "--", *sink, env=shared_lab.environ)
    thief.wait_for("ready")
    keys = ("completed-is-sent", "multi-buffer", "stamp-in-bounds")
    words = [word for key in keys for word in ("--case", key)]
    done = run_cli("conform", *words, env=shared_lab.environ)
    thief.send_signal(signal.SIGINT)
    thief.wait()
    assert done.returncode == 3, done.stdout + done.stderr
    assert "FAIL: completed-is-sent: " in done.stdout
    assert "on the wire 400 of 400 missing" in done.stdout
    assert "on the wire 64 of 64 missing" in done.stdout
    assert "all 64 lie between submit and completion" in done.stdout
    assert "3 of 3 cases: 1 pass, 2 FAIL" in done.stdout


def test_a_known_fault_fails_when_asked_to(shared_lab, run_cli):
    words = ("conform", "--case", "metadata-not-registered", "--case", "umem-length-20")
    done = run_cli(*words, env=shared_lab.environ)
    if "known fault: " not in done.stdout:
        pytest.skip("this kernel has no known fault in copy mode")
    assert done.returncode == 0
    assert run_cli(*words, "--strict", env=shared_lab.environ).returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_all_is_as_before(shared_lab, popen_cli, number):
    running = popen_cli("conform", env=shared_lab.environ)
    running.wait_for("stamp-in-bounds")
    running.process.send_signal(number)
    done = running.wait()
    assert done.returncode == 128 + number, done.stdout + done.stderr
    assert f"ENDED by {signal.Signals(number).name}: " in done.stdout
    assert_left_alone(shared_lab.ifname)


def test_the_cases_are_listed_and_explained_without_a_link(run_cli):
    listed = run_cli("conform", "--list")
    assert listed.returncode == 0
    for case in CASES:
        assert f"  {case.rule.key} " in listed.stdout
    explained = run_cli("conform", "--explain", "reused-frame")
    assert "reused-frame: a reused frame shows no old stamp" in explained.stdout
    assert "Where it is written: xsk_tx_metadata_complete()" in explained.stdout


def test_what_cannot_be_run_is_refused_with_one_line(shared_lab, run_cli):
    none = run_cli("conform", "--case", "stamp-in-bound", env=shared_lab.environ)
    assert one_message(none, 1) == (
        "case stamp-in-bound: there is none; did you mean stamp-in-bounds? (--list shows all)"
    )
    alone = {"NETIF": shared_lab.ifname}
    assert "link partner: not named: REMOTE_V4 is not set" in one_message(
        run_cli("conform", env=alone), 1
    )
    assert_left_alone(shared_lab.ifname)
    usage = run_cli("conform")
    assert usage.returncode == 2
    assert "Missing argument 'IFNAME'" in usage.stderr
