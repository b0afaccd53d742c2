# SPDX-License-Identifier: GPL-2.0-only
"""What tests do with a running guest: commands, traffic, faults, runs."""

import contextlib
import csv
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from xdptstamp.cli._truth import run_folders
from xdptstamp.lab.guest.config import NETNS
from xdptstamp.store import open_run
from xdptstamp.store.rounds import read_rounds

XDPTSTAMP = (sys.executable, "-m", "xdptstamp")
FORKER = str(Path(__file__).with_name("forker.py"))
CLIENT = Path(__file__).with_name("truth_client.py")
# For a guest that shares its processors with everything else.
LIMIT_S = 180
FLOW = 40001
_STATE = "ip -s link; ip neigh; grep -H -e igb -e igc -e virtio /proc/interrupts || true"


class Bench:
    """One guest, and what tests do with it."""

    def __init__(self, guest, command=XDPTSTAMP):
        self.guest = guest
        self.command = command
        self.results = guest.config.writable

    def run(self, *argv, code=0):
        """A command in the guest; a CompletedProcess."""
        done = self.guest.run([*map(str, argv)], timeout=LIMIT_S)
        assert done.returncode in _codes(code), done.stdout + done.stderr
        return done

    def xdptstamp(self, *words, code=0):
        """A command of the project."""
        return self.run(*self.command, *words, code=code)

    def json(self, *words):
        """The objects that ``--format jsonl`` prints."""
        lines = self.xdptstamp(*words, "--format", "jsonl").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def shell(self, script):
        """A script of the shell."""
        return self.run("sh", "-ec", script).stdout

    def fault(self, spec, port=0):
        """Let a fault begin."""
        assert "error" not in self.guest.control({"fault": spec, "port": port})

    def heal(self):
        """End all faults."""
        for port in (0, 1):
            self.guest.control({"clear": None, "port": port})

    def ask(self, *words):
        """Have the link partner send requests, and wait for the replies."""
        argv = ["python3", str(CLIENT), self.guest.environ["LOCAL_V4"], *words]
        self.run("ip", "netns", "exec", NETNS, *argv)

    def folders(self):
        """The folders of all runs."""
        return run_folders(self.results)

    def measure(self, traffic, *words, code=0):
        """A run of ping-pong while ``traffic`` has the partner send; the run and its output."""
        known = self.folders()
        answering = self.guest.popen([*self.command, "ping-pong", *words])
        try:
            wait_for_run(self.guest, known, answering)
            self.ask("probe", FLOW, 1)
            traffic()
        except BaseException as error:
            # Why nobody answered may stand there.
            error.add_note(answering.stdout + answering.stderr + self.guest.console[-2000:])
            error.add_note(self.shell(f"{_STATE}; ip netns exec {NETNS} sh -c '{_STATE}'"))
            raise
        finally:
            answering.send_signal(signal.SIGINT)
            ended = answering.wait(LIMIT_S)
        text = answering.stdout + answering.stderr
        assert ended in _codes(code), text
        return open_run(self._new(known)), text

    def mixed(self, *words, code=(0, 3), meanwhile=None):
        """A run of mixed; the run, its rounds without the warm-ups, its output.

        :param meanwhile: called once the NIC is taken; behind it the run is ended by SIGINT.
        """
        known = self.folders()
        process = self.guest.popen([*self.command, "mixed", *words])
        if meanwhile is not None:
            try:
                wait_for_run(self.guest, known, process)
                meanwhile()
            finally:
                process.send_signal(signal.SIGINT)
        ended = process.wait(LIMIT_S)
        text = process.stdout + process.stderr
        assert ended in _codes(code), text
        run = open_run(self._new(known))
        _, rounds = read_rounds(run)
        return run, [each for each in rounds if not each.is_warmup], text

    def _new(self, known):
        (path,) = self.folders() - known
        return path

    def moved(self, run, counter):
        """How much a counter of the interface rose over a run, which lists those that did."""
        counts = run.info.counters.get(counter, {"before": 0, "after": 0})
        return counts["after"] - counts["before"]

    def wire_moments(self):
        """By direction and PHC time on the wire: the host's CLOCK_MONOTONIC of it."""
        with self.guest.truth_path.open(encoding="ascii", newline="") as lines:
            return {
                (row["direction"], int(row["wire_ns"])): int(row["model_ns"])
                for row in csv.DictReader(lines)
                if row["port"] == "0"
            }


@contextlib.contextmanager
def forking(guest):
    """A shorter way to ``xdptstamp`` in the guest: the words before its own."""
    server = guest.popen([sys.executable, FORKER, "serve", "/run/forker"])
    server.wait_for("-python\n", LIMIT_S)
    yield server.stdout.strip(), "-m", "xdptstamp"
    server.send_signal(signal.SIGKILL)
    server.wait(LIMIT_S)


def _codes(code):
    return (code,) if isinstance(code, int) else code


def processes_of(folder):
    """Whose command line has that folder: pid, and the words of it."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(folder) in line:
            found[int(path.parent.name)] = line.split(b"\0")
    return found


def wait_until(is_true):
    """Return once it is; fail if that does not come."""
    deadline = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.01)


def wait_for_run(guest, known, process):
    """Return when the run of ``process`` has its NIC; it is not one of the ``known``.

    A packet that comes before may panic the kernel: igc's known fault
    program-changes-under-traffic.
    """

    def has_nic():
        # What was obtained is noted when there is all that it measures with.
        new = run_folders(guest.config.writable) - known
        return any(open_run(folder).info.obtained for folder in new)

    wait_until(lambda: has_nic() or process.has_ended)
    assert not process.has_ended, process.stdout + process.stderr


def rows_of(run):
    """All samples of a run."""
    return np.concatenate(list(run.batches()))


def words_of(text):
    """The text with single blanks: how lines are broken does not matter."""
    return " ".join(text.split())


def keys_of(run):
    """The keys of a run's warnings."""
    return {warning.key for warning in run.info.warnings}
