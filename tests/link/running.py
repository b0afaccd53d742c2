# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp ping-pong`` as a process on a lab's DUT end, and requests from its partner."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from xdptstamp._sys import netns
from xdptstamp.nic import Nic
from xdptstamp.store import iter_batches, open_run

PORT = 9091
LIMIT_S = 30
# A request that came before the sockets were there is lost; the next one follows after this.
_RETRY_S = 0.05


def wait_until(is_true, what, limit_s=LIMIT_S):
    """Return once ``is_true()``; fail if that does not come."""
    deadline = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.005)


def wait_carrier(nic, limit_s=LIMIT_S):
    """Return once the interface is up and has carrier."""
    with nic.watch() as watch:
        watch.wait_carrier(limit_s)


class Client:
    """A plain UDP socket on the partner, no xdptstamp in it: ``nc -u`` in a test's words."""

    def __init__(self, link, host=None, port=PORT):
        self.host = host or link.local_v4
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.socket = netns.call_inside(
            link.environ["REMOTE_ARGS"], lambda: socket.socket(family, socket.SOCK_DGRAM)
        )
        self.socket.connect((self.host, port))

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.socket.close()

    def send(self, payload=b"xdp"):
        """Send one request; an answer of the stack to an earlier one is no error of this one."""
        with contextlib.suppress(ConnectionRefusedError):
            self.socket.send(payload)

    def receive(self, timeout_s=LIMIT_S):
        """The next reply, None if none comes."""
        deadline = time.monotonic() + timeout_s
        while select.select([self.socket], [], [], max(deadline - time.monotonic(), 0))[0]:
            with contextlib.suppress(ConnectionRefusedError):
                return self.socket.recv(65536)
        return None

    def ask(self, payload=b"xdp", timeout_s=LIMIT_S):
        """Send a request, receive its reply."""
        self.send(payload)
        return self.receive(timeout_s)

    def converse(self, count, payload=b"xdp"):
        """``count`` requests, each after the reply to the one before."""
        for _ in range(count):
            assert self.ask(payload) == payload


class Flood:
    """Requests from the partner, as fast as a thread can, while a context lasts."""

    def __init__(self, link):
        self._client = Client(link)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._is_over.set()
        self._thread.join()
        self._client.socket.close()

    def _run(self):
        while not self._is_over.is_set():
            self._client.send()


class PingPong:
    """A running ``ping-pong``; ``process`` is a CliProcess, ``out`` where its runs go."""

    def __init__(self, popen_cli, link, out, *args, **options):
        self.link = link
        self.out = out
        self.process = popen_cli("ping-pong", link.ifname, "--output-dir", out, *args, **options)

    @property
    def pid(self):
        """Process id of the measuring process."""
        return self.process.process.pid

    @property
    def recorder_pid(self):
        """Process id of its recorder process."""
        children = f"/proc/{self.pid}/task/{self.pid}/children"
        with open(children, encoding="ascii") as file:
            (pid,) = file.read().split()
        return int(pid)

    def wait_answering(self, **client):
        """Wait until a request is answered."""
        with Client(self.link, **client) as asker:
            deadline = time.monotonic() + LIMIT_S
            while asker.ask(b"ready?", _RETRY_S) is None:
                assert self.process.process.poll() is None, self.process.wait()
                assert time.monotonic() < deadline, self.process

    def wait_recording(self):
        """Wait until the run on disk says what was obtained: the loop begins."""

        def is_recording():
            assert self.process.process.poll() is None, self.process.wait()
            infos = list(self.out.glob("*/run.json"))
            return infos and json.loads(infos[0].read_text())["obtained"]

        wait_until(is_recording, "what was obtained in run.json")

    def end(self, *numbers):
        """Send the signals, SIGTERM by default, and wait; a CompletedProcess."""
        for number in numbers or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait()


def the_run(folder):
    """The only run in ``folder``."""
    paths = list(folder.iterdir())
    assert len(paths) == 1, paths
    return open_run(paths[0])


def rows_of(run):
    """How many samples the run holds; reading them all is part of the test."""
    return sum(len(batch) for batch in iter_batches(run))


def assert_left_alone(ifname):
    """No XDP program hangs on the interface."""
    assert Nic(ifname).xdp_programs() == ()


def assert_next_start_works(popen_cli, link, out):
    """The very next start, at once, takes all queues and answers."""
    assert_left_alone(link.ifname)
    following = PingPong(popen_cli, link, out / "following", "--quiet")
    following.wait_answering()
    done = following.end()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert_left_alone(link.ifname)


def one_message(done, code):
    """The only line of an error, after ``Error: ``; no traceback, nothing else printed."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: "), done.stderr
    assert done.stdout == ""
    return lines[0].removeprefix("Error: ")


def ping(link, out, *args, timeout_s=60):
    """``xdptstamp ping`` on the partner to its end; a CompletedProcess."""
    argv = [sys.executable, "-m", "xdptstamp", "ping", link.local_v4, "--output-dir", str(out)]
    done = link.partner.run(
        [*argv, *map(str, args)],
        timeout=timeout_s,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


def hide_library(tmp_path, name):
    """An environment whose dynamic loader finds a broken file first."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / name).touch()
    return {"LD_LIBRARY_PATH": str(folder)}


def is_alive(pid):
    """Whether there is such a process, one that has ended and was not waited for left out."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([pidfd], [], [], 0)[0]
    finally:
        os.close(pidfd)
