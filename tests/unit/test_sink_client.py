# SPDX-License-Identifier: GPL-2.0-only
"""The sender's side of a sink, with partners that answer rightly, wrongly, late or never."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import pytest

from xdptstamp.errors import SetupError
from xdptstamp.measure import sink_client
from xdptstamp.measure.sink_client import SinkClient, SinkReady
from xdptstamp.measure.sink_report import SinkReport, StreamCounts
from xdptstamp.stream import DEFAULT_PORT

READY = {
    "type": "ready",
    "ifname": "eth1",
    "port": 9093,
    "mac": "02:00:00:00:00:01",
    "mode": "copy",
    "xdp_mode": "native",
}
REPORT = SinkReport(streams={7: StreamCounts(received=3, span=4)}, program={"redirected": 3})
HEAD = f"""
    import json, os, signal, sys, time
    def say(line): print(json.dumps(line), flush=True)
    ready, report = {READY!r}, {{"type": "report", **{REPORT.to_json()!r}}}
"""


@dataclass
class ScriptPartner:
    """A partner where every command is the same Python script."""

    script: str
    subject: str = "machine far away"

    def popen(self, argv, **options):
        self.argv, self.environ = argv, options["env"]
        code = textwrap.dedent(HEAD) + textwrap.dedent(self.script)
        return subprocess.Popen([sys.executable, "-c", code], **options)


@pytest.fixture
def start():
    """``start(script)``: a client of a partner that runs this; closed with the test."""
    clients = []

    def client(script, **options):
        clients.append(SinkClient(ScriptPartner(script), {"REMOTE_V4": "192.0.2.2"}, **options))
        return clients[-1]

    yield client
    for each in clients:
        each.close()


GOOD = """
    say(ready)
    for line in sys.stdin:
        if line == "report\\n":
            say(report)
        elif line.startswith("forget"):
            report["streams"].pop(line.split()[1])
"""


def test_a_sink_is_started_asked_and_ended(start):
    sink = start(GOOD)
    assert sink.ready() == SinkReady("eth1", 9093, "02:00:00:00:00:01", "copy", "native")
    assert sink.ready().mac == "02:00:00:00:00:01"
    assert sink.report() == REPORT
    sink.forget(7)
    assert sink.report().streams == {}
    sink.check()
    sink.close()
    assert sink._process.returncode == 0
    sink.close()
    with pytest.raises(SetupError, match="sink on machine far away: ended with exit code 0"):
        sink.check()


def test_what_is_started_on_the_partner():
    partner = ScriptPartner("")
    environ = {"REMOTE_V4": "192.0.2.2", "REMOTE_V6": "2001:db8::2"}
    SinkClient(partner, environ, port=77, options=("--mode", "copy")).close()
    head = [sys.executable, "-m", "xdptstamp", "sink", "--control", "--format", "jsonl"]
    assert partner.argv == [*head, "--port", "77", "--mode", "copy"]
    assert partner.environ == {**os.environ, **environ}
    SinkClient(partner, {}).close()
    assert partner.argv[-1] == str(DEFAULT_PORT)


def test_it_is_beyond_the_reach_of_ctrl_c(start):
    sink = start(GOOD)
    sink.ready()
    assert os.getpgid(sink.pid) == os.getsid(sink.pid) == sink.pid


def test_why_it_could_not_start_in_its_own_words(start):
    sink = start("sys.stderr.write('note\\nError: eth1: no privilege\\n'); sys.exit(1)")
    with pytest.raises(SetupError) as raised:
        sink.ready()
    assert str(raised.value) == "sink on machine far away: eth1: no privilege"


def test_an_end_without_a_word_before_it_was_ready(start):
    with pytest.raises(SetupError, match="sink on machine far away: ended with exit code 9"):
        start("sys.exit(9)").report()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended with SIGKILL"),
        ("sys.stderr.write('Error: eth1 vanished\\n'); sys.exit(1)", "exit code 1: eth1 vanished"),
    ],
)
def test_an_end_in_the_middle_is_told_at_once(start, script, words):
    sink = start(f"say(ready); sys.stdin.readline(); {script}")
    sink.ready()
    before = time.monotonic()
    with pytest.raises(SetupError, match=words):
        sink.report()
    assert time.monotonic() - before < 2
    for ask in (sink.check, sink.report, lambda: sink.forget(1)):
        with pytest.raises(SetupError, match=words):
            ask()


def test_one_that_is_never_ready(start):
    sink = start("time.sleep(60)")
    with pytest.raises(SetupError, match=r"was not ready within 0\.1 s"):
        sink.ready(0.1)
    sink._process.send_signal(signal.SIGKILL)


def test_one_that_does_not_answer_and_does_not_end_is_killed(start, monkeypatch):
    monkeypatch.setattr(sink_client, "_END_LIMIT_S", 0.1)
    sink = start("say(ready); time.sleep(60)")
    sink.ready()
    with pytest.raises(SetupError, match=r"gave no report within 0\.1 s"):
        sink.report(0.1)
    sink.close()
    assert sink._process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "said", ["not json", "[]", "{}", '{"type": "ready"}', json.dumps({**READY, "new": 1})]
)
def test_what_another_version_says(start, said):
    sink = start(f"print({said!r}, flush=True); sys.stdin.read()")
    with pytest.raises(SetupError, match=r"not understood .* is it the same version"):
        sink.ready()


def test_a_request_that_is_not_understood(start):
    sink = start("say(ready); sys.stdin.readline(); say({'type': 'error', 'message': 'what?'})")
    with pytest.raises(SetupError, match=r"not understood \(what\?\)"):
        sink.report()


def test_last_words_longer_than_a_pipe_do_not_hold_it_up(start):
    sink = start("say(ready); sys.stdin.read(); say('x' * (1 << 20)); sys.exit(5)")
    sink.ready()
    sink.close()
    assert sink._process.returncode == 5
