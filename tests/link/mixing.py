# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp mixed`` on a lab's DUT end: as a process, or in the test's own process."""

import itertools
import json
import subprocess
import time
from pathlib import Path

import pytest

from xdptstamp._sys import netns
from xdptstamp.checks.mixed_books import open_books
from xdptstamp.cli import main
from xdptstamp.measure.vigil import Vigil
from xdptstamp.nic import Nic
from xdptstamp.store import open_run
from xdptstamp.store.rounds import read_rounds

# Half as many packets ask for a stamp; so long that only a fault ends it.
ENDLESS = ("--ratio", "1:1", "--repeats", 1, "--duration", "100s")

SINK, SECOND_APP = "sink", "xdptstamp.measure.second_app"
RECORDER = "xdptstamp.store.recorder_process"


class MixedProcess:
    """A running ``mixed``; ``process`` is a CliProcess, ``out`` where its runs go."""

    def __init__(self, popen_cli, link, out, *args):
        self.out = out
        argv = ("mixed", link.ifname, "--output-dir", out, "--format", "jsonl", *args)
        self.process = popen_cli(*argv, env=link.environ)

    @property
    def pid(self):
        """Process id of the measuring process."""
        return self.process.process.pid

    def wait_sending(self):
        """Wait until a warm-up is over, and what counts is being sent."""
        self.process.wait_for('"type": "round"')

    def ended_within(self, limit_s):
        """Its end, which comes in time; a CompletedProcess."""
        start = time.monotonic()
        done = self.process.wait()
        assert time.monotonic() - start < limit_s
        return done


def child_of(pid, name):
    """Process id of a child that runs that command or module; None if there is none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    for child in map(int, children.split()):
        if name.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
            return child
    return None


def run_here(capsys, *args):
    """``xdptstamp mixed ARGS`` in this process; a CompletedProcess."""
    argv = ["mixed", *map(str, args)]
    with pytest.raises(SystemExit) as ended:
        main.command.main(argv, prog_name="xdptstamp")
    written = capsys.readouterr()
    return subprocess.CompletedProcess(argv, ended.value.code, written.out, written.err)


def at_look(monkeypatch, number, fault):
    """Do ``fault()`` in the middle of sending, right after the sender's look around of that number.

    It looks around at the start and at the end of each warm-up and round, and each 100 ms between.
    """
    looks, look = itertools.count(), Vigil.look

    def look_and_fault(self):
        failure = look(self)
        if next(looks) == number:
            fault()
        return failure

    monkeypatch.setattr(Vigil, "look", look_and_fault)


def set_partner(link, state):
    """Set the partner's end of the link ``up`` or ``down``."""
    name = netns.call_inside(link.environ["REMOTE_ARGS"], _only_link)
    argv = ["ip", "-n", link.environ["REMOTE_ARGS"], "link", "set", name, state]
    subprocess.run(argv, check=True)


def _only_link():
    from pyroute2.iproute import IPRoute

    with IPRoute() as ipr:
        (name,) = {message.get("ifname") for message in ipr.get_links()} - {"lo"}
    return name


def wait_carrier(ifname, limit_s=10):
    """Return once the interface is up and has carrier."""
    with Nic(ifname).watch() as watch:
        watch.wait_carrier(limit_s)


def opened(out, may_miss=()):
    """The only run in ``out``, its settings, and its rounds, whose books add up.

    :param may_miss: books that need not, but then the run says so.
    """
    (path,) = out.iterdir()
    run = open_run(path)
    settings, rounds = read_rounds(run)
    for each in rounds:
        off = open_books(each)
        assert set(off) <= set(may_miss), each
        assert not off or "books-unbalanced" in keys_of(run), each
    return run, settings, rounds


def keys_of(run, *, is_untrusted=None):
    """The keys of a run's warnings: of all, or of those that make it untrusted, or not."""
    warnings = run.info.warnings
    return [w.key for w in warnings if is_untrusted in (None, w.is_untrusted)]


def lines_of(done):
    """What ``--format jsonl`` printed, by type."""
    found = {}
    for line in done.stdout.splitlines():
        data = json.loads(line)
        found.setdefault(data.pop("type"), []).append(data)
    return found


def message_of(done, code=1):
    """The one line that says what went wrong, after ``Error: ``; no traceback beside it."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    return line.removeprefix("Error: ")
