# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp conform --storm``: processes end with stamps pending; what is left of them."""

import contextlib
import json
import os
import re
import signal

import pytest

from tests.link.running import assert_left_alone, one_message
from xdptstamp.conform.storm import WAYS, Storm
from xdptstamp.conformance import Conformance
from xdptstamp.kernellog import KernelLine, KernelLog
from xdptstamp.lab import VethLab
from xdptstamp.measure.stop import Stop
from xdptstamp.nic import Nic
from xdptstamp.program import Program, ProgramConfig

if os.environ.get("NETIF"):
    pytest.skip("takes links down", allow_module_level=True)

PACKET = bytes(60)


@contextlib.contextmanager
def own_link():
    with VethLab(1) as lab:
        yield lab.environ["NETIF"]


@pytest.fixture
def storm(lab):
    """``storm(log)``: one on a link of the test's own."""
    with contextlib.closing(Stop()) as stop:
        yield lambda log: Storm(
            Nic(lab.ifname),
            "copy",
            (PACKET, PACKET),
            (log, stop),
            own_link=own_link,
            fault_notes={},
            seed=1,
        )


def test_each_way_ends_and_the_next_process_starts(shared_lab, run_cli):
    done = run_cli("conform", "--storm", 21, "--format", "json", env=shared_lab.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    found = Conformance.from_json(json.loads(done.stdout))
    rounds = {result.rule.key: result.figures["rounds"] for result in found.results}
    assert rounds == {way.key: 0 if way.is_unbound else 3 for way in WAYS}
    outcomes = {result.rule.key: result.outcome for result in found.results}
    assert outcomes.pop("storm-unbind") == "skip"
    assert set(outcomes.values()) == {"pass"}
    assert all(
        result.figures["stamps_asked"] == 96 for result in found.results if result.outcome == "pass"
    )
    assert any(re.fullmatch(r"seed \d+", note) for note in found.notes)
    assert_left_alone(shared_lab.ifname)


def test_a_program_that_stays_fails_the_next_round(lab, storm):
    program = Program(Nic(lab.ifname), ProgramConfig(port=0))
    with contextlib.closing(program), KernelLog() as log:
        raging = storm(log)
        assert not raging.run(6, lambda number: None)
        (wrong,) = [result for result in raging.results() if result.outcome == "fail"]
    assert re.match(r"round 1: \S+ queue \d: \S+: XDP program id \d+ is attached", wrong.seen)


class ComplainingLog:
    """A kernel log that has a warning after the second round; no kernel here makes one."""

    problem = ""

    def __init__(self):
        self._num_calls = 0

    def lines(self):
        self._num_calls += 1
        if self._num_calls != 3:
            return []
        text = "WARNING: CPU: 0 PID: 7 at net/xdp/xsk.c:99 xsk_destruct_skb+0x1/0x2"
        return [KernelLine(4, True, 1, 1, text, "warning")]


def test_a_complaint_of_the_kernel_ends_it(storm):
    raging = storm(ComplainingLog())
    assert not raging.run(12, lambda number: None)
    (wrong,) = [result for result in raging.results() if result.outcome == "fail"]
    assert wrong.seen.startswith(
        "round 2: the kernel complained: WARNING: CPU: 0 PID: 7 at net/xdp"
    )
    assert len(wrong.kernel_log) == 1


def test_a_signal_ends_it_between_two_rounds(shared_lab, popen_cli):
    running = popen_cli("conform", "--storm", 100000, env=shared_lab.environ)
    running.wait_for("SOFTWARE timestamps")
    # As a terminal does: to the whole group.
    os.killpg(running.process.pid, signal.SIGINT)
    done = running.wait()
    assert done.returncode == 128 + signal.SIGINT, done.stdout + done.stderr
    assert "ENDED by SIGINT" in done.stdout
    assert " 0 FAIL, " in done.stdout
    assert_left_alone(shared_lab.ifname)


def test_one_way_alone(shared_lab, run_cli):
    words = ("conform", "--storm", 3, "--case", "storm-exit")
    done = run_cli(*words, env=shared_lab.environ)
    assert done.returncode == 0
    assert "3 rounds, 96 stamps asked for right before the end" in done.stdout
    assert "1 of 1 cases: 1 pass" in done.stdout
    other = run_cli("conform", "--storm", 3, "--case", "ring-wrap", env=shared_lab.environ)
    assert one_message(other, 1).startswith("case ring-wrap: the storm has storm-close, ")
