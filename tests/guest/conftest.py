# SPDX-License-Identifier: GPL-2.0-only
"""Guests for tests. A boot takes seconds, so most tests share one."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.guest.bench import LIMIT_S, Bench, forking, wait_until
from xdptstamp.errors import SetupError, UnsupportedError
from xdptstamp.lab.guest import Guest, GuestConfig, kit


@pytest.fixture(scope="session")
def needs_kit(skip_or_fail):
    """``needs_kit(config)``: skip, or fail, where what it takes to boot it has not been fetched."""

    def check(config):
        try:
            config.find_kernel()
            kit.busybox()
            kit.find_qemu()
        except (SetupError, UnsupportedError) as error:
            skip_or_fail("guest", str(error))

    return check


@pytest.fixture(scope="session")
def guest(tmp_path_factory, needs_kit):
    """A running guest of the recent kernel with both ports, for all tests that break nothing."""
    folder = tmp_path_factory.mktemp("guest")
    config = GuestConfig(output_dir=folder / "results", truth=folder / "truth.csv")
    needs_kit(config)
    with Guest(config) as running:
        yield running


@pytest.fixture(scope="session")
def command(guest):
    """The words that start ``xdptstamp`` in the shared guest, for tests of what it measures."""
    with forking(guest) as words:
        yield words


@pytest.fixture
def bench(guest, command):
    """The shared guest, without faults before and after."""
    bench = Bench(guest, command)
    yield bench
    bench.heal()


@pytest.fixture
def temp(monkeypatch):
    """The folder for temporary files, empty; with a short name, for sockets are made in it."""
    folder = Path(tempfile.mkdtemp(prefix="g-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    try:
        wait_until(lambda: not list(folder.iterdir()))
    finally:
        shutil.rmtree(folder)


class LabGuest:
    """A running ``xdptstamp lab guest``, with a terminal or pipes: what it wrote, and more.

    :param temp: its folder for temporary files.
    """

    def __init__(self, temp, *words, has_terminal=False, **environ):
        self._temp = temp
        if has_terminal:
            self._reader, theirs = pty.openpty()
            self._writer, streams = self._reader, (theirs, theirs)
        else:
            self._reader, stdout = os.pipe()
            stdin, self._writer = os.pipe()
            streams = stdin, stdout
        self._written = b""
        argv = [sys.executable, "-m", "xdptstamp", "lab", "guest", *map(str, words)]
        self.process = subprocess.Popen(
            argv,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[1],
            env={**os.environ, **environ},
            start_new_session=True,
        )
        for fd in set(streams):
            os.close(fd)

    @property
    def text(self):
        """What it has written so far, stderr included."""
        return self._written.decode(errors="replace")

    def type(self, text):
        """Write to its stdin."""
        os.write(self._writer, text.encode())

    def wait_for(self, text):
        """Return when it has written ``text``."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self.text:
            assert self._read(deadline), f"{text!r} never came:\n{self.text}"

    def wait(self):
        """Its exit code and all that it wrote, when it has ended."""
        deadline = time.monotonic() + LIMIT_S
        while self._read(deadline):
            continue
        return self.process.wait(LIMIT_S), self.text

    def close(self):
        """Leave nothing of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for fd in {self._reader, self._writer}:
            os.close(fd)

    def _read(self, deadline):
        ready = select.select([self._reader], [], [], max(deadline - time.monotonic(), 0))[0]
        if not ready:
            consoles = [path.read_text(errors="replace") for path in self._temp.glob("*/console")]
            pytest.fail(f"nothing more within {LIMIT_S} s:\n{self.text}\n{''.join(consoles)}")
        try:
            data = os.read(self._reader, 65536)
        except OSError:  # EIO: nobody has the terminal any more
            data = b""
        self._written += data
        return bool(data)


@pytest.fixture
def lab_guest(needs_kit, tmp_path, temp):
    """``lab_guest(WORD...)``: start ``xdptstamp lab guest WORD...``; ended with the test."""
    needs_kit(GuestConfig())
    with contextlib.ExitStack() as stack:

        def start(*words, **options):
            options = {"XDPTSTAMP_OUTPUT_DIR": str(tmp_path / "results"), **options}
            return stack.enter_context(contextlib.closing(LabGuest(temp, *words, **options)))

        yield start
