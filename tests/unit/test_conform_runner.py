# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel complains of fails the case in which it did, whatever else there is to say."""

from types import SimpleNamespace

import pytest

from xdptstamp.conform import runner
from xdptstamp.conform.case import Case, SkipError, Verdict
from xdptstamp.conformance import Conformance, Rule
from xdptstamp.kernellog import KernelLine

RULE = Rule("a-case", "group", "title", "Text.", "source", {"copy": "right"})
LINE = KernelLine(4, True, 1, 1, "WARNING: CPU: 0 PID: 1 at net/xdp/xsk.c:1 f+0x1", "warning")


class Log:
    """No kernel here complains when it is asked to."""

    def __init__(self, *lines):
        self._answers = [[], list(lines)]

    def lines(self):
        return self._answers.pop(0)


def observe_nothing(stand):
    return None


def refuse(stand):
    raise SkipError("not here")


@pytest.fixture
def outcome(monkeypatch):
    """``outcome(log, observe, is_right)``: what a case with a known fault comes to."""

    def run(log, observe, is_right, key="a-fault", **options):
        fault = SimpleNamespace(key=key, note=lambda name: f"known fault of {name}")
        monkeypatch.setattr(runner, "_faults_of", lambda nic, mode: {key: ("igc", fault)})
        case = Case(RULE, observe, lambda seen: Verdict(is_right, "seen"), faults=("a-fault",))
        stand = SimpleNamespace(nic=None, mode="copy", prepare=lambda: None)
        done = Conformance("eth1", "igc", "7.3", "copy", [], "now")
        runner.Runner(stand, log, **options).run([case], done, lambda result: None)
        (result,) = done.results
        return result

    return run


@pytest.mark.parametrize(
    ("observe", "is_right", "expected"),
    [(observe_nothing, True, "pass"), (observe_nothing, False, "known-fault"), (refuse, 0, "skip")],
)
def test_without_a_complaint_and_with_one(outcome, observe, is_right, expected):
    assert outcome(Log(), observe, is_right).outcome == expected
    complained = outcome(Log(LINE), observe, is_right)
    assert (complained.outcome, complained.fault) == ("fail", None)
    assert complained.seen.endswith(f"the kernel complained: {LINE.text}")
    assert complained.kernel_log == (LINE.text,)


def test_what_may_crash_this_kernel_is_run_only_when_asked_for(outcome):
    (key,) = runner.DANGERS
    skipped = outcome(Log(), observe_nothing, True, key)
    assert (skipped.outcome, skipped.seen) == (
        "skip",
        "it may crash this kernel: known fault of igc; --dangerous runs it",
    )
    assert outcome(Log(), observe_nothing, True, key, is_daring=True).outcome == "pass"
