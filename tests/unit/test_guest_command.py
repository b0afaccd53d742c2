# SPDX-License-Identifier: GPL-2.0-only
"""How a command of ``lab guest`` is left: signals, streams and a terminal of a real process.

With the agent as a process of this machine.
"""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.pressing import pressing

LIMIT_S = 30
# The command takes no signal, and waits for its input to end.
STUBBORN = ("sh", "-c", "trap '' INT TERM HUP PIPE; echo ready; cat >/dev/null; exit 9")
# The same, and the end of a terminal's input does not end it; the end of the agent does.
ENDLESS = ("sh", "-c", "trap '' INT TERM HUP PIPE; echo ready; cat >/dev/null; cat >/dev/null")


@pytest.fixture
def start(tmp_path):
    """``start(*argv, timeout=, gone_limit=, ask_s=, **streams)``: the process."""
    with contextlib.ExitStack() as stack:

        def start(*argv, timeout=0, gone_limit=60, ask_s=0, **streams):
            words = (tmp_path / "agent", timeout, gone_limit, ask_s, *argv)
            host = (sys.executable, "-m", "tests.unit.guest_command_host")
            process = subprocess.Popen([*host, *map(str, words)], **streams)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def terminal():
    """Both ends of one: ours, the process's."""
    ends = list(pty.openpty())
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def on(fd):
    return {"stdin": fd, "stdout": fd, "stderr": fd}


def read_until(fd, text):
    """Read from the terminal, up to that."""
    deadline = time.monotonic() + LIMIT_S
    read = b""
    while text not in read:
        left = max(deadline - time.monotonic(), 0)
        assert select.select([fd], [], [], left)[0], read
        read += os.read(fd, 4096)


def test_a_second_signal_that_nobody_can_be_told_of_ends_nothing(start):
    # As in `lab guest -- COMMAND 2>&1 | tee log`, where Ctrl-C ends tee as well.
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = start(*STUBBORN, **pipes)
    assert process.stdout.readline() == b"ready\n"
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    time.sleep(3)  # within two seconds it would be the same request
    process.send_signal(signal.SIGTERM)
    process.stdin.close()
    assert process.wait(LIMIT_S) == 9


def test_the_second_signal_is_answered_and_the_third_ends_it(start):
    stdin, writer = os.pipe()
    with open(stdin, "rb"), open(writer, "wb"):
        streams = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = start(*ENDLESS, ask_s=1, **streams)
        assert process.stdout.readline() == b"ready\n"
        with pressing(process, signal.SIGINT):
            said = process.communicate(timeout=LIMIT_S)[1].decode()
    answer = "COMMAND has been sent two signals; a third within 30 s kills the guest.\n"
    assert said.startswith(answer)
    assert "when the third signal came (SIGINT)" in said
    assert process.returncode == 128 + signal.SIGINT


def test_a_limit_waits_for_nobody_who_does_not_read(start):
    reader, stdout = os.pipe()
    with open(reader, "rb"), open(stdout, "wb"):
        process = start("yes", timeout=1, stdout=stdout, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=LIMIT_S)
    assert b"the command had not ended within 1 s (--timeout)" in said
    assert process.returncode == 1


def test_a_command_that_ends_while_the_guest_is_asked_is_late_all_the_same(start):
    process = start("sleep", "2", timeout=1, ask_s=3, stderr=subprocess.PIPE)
    said = process.communicate(timeout=LIMIT_S)[1]
    assert b"the command had not ended within 1 s (--timeout)" in said
    assert process.returncode == 1


# 4000 bytes a piece: a terminal with room for one byte takes a write of more, and may keep it.
FILLS = """
import os, threading, tty
from xdptstamp.cli._guest_streams import Output

tty.setraw(1)
output = Output()
taken = threading.Event()
def fill():
    for _ in range(1000):
        output.write(False, b"x" * 4000)
        taken.set()
writer = threading.Thread(target=fill, daemon=True)
writer.start()
while taken.wait(0.5):
    taken.clear()
output.stop()
writer.join(10)
os._exit(3 if writer.is_alive() else 0)
"""


def test_output_that_no_terminal_takes_can_be_stopped(terminal):
    argv = [sys.executable, "-c", FILLS]
    subprocess.run(argv, check=True, timeout=LIMIT_S, **on(terminal[1]))


def test_keys_end_it_however_many_were_typed_to_one_that_hangs(start, terminal, tmp_path):
    ours, theirs = terminal
    process = start(*ENDLESS, **on(theirs))
    read_until(ours, b"ready")
    agent = int((tmp_path / "agent").read_text())
    os.kill(agent, signal.SIGSTOP)
    try:
        for _ in range(1500):
            os.write(ours, b"x")
            time.sleep(0.0005)  # each is a message of its own
        os.write(ours, b"\x1d\x1d\x1d")
        read_until(ours, b"when ^] was typed three times")
    finally:
        os.kill(agent, signal.SIGCONT)
    assert process.wait(LIMIT_S) == 128 + signal.SIGKILL


def test_no_input_is_lost_while_there_is_no_room_for_it(start, terminal):
    ours, theirs = terminal
    script = "stty raw -echo; echo ready; sleep 1; head -c 300000 | wc -c"
    process = start("sh", "-c", script, **on(theirs))
    read_until(ours, b"ready")
    data = memoryview(b"x" * 300_000)
    while data:
        data = data[os.write(ours, data[:4096]) :]
    read_until(ours, b"300000")
    assert process.wait(LIMIT_S) == 0


def test_without_a_terminal_the_keys_are_input(start):
    process = start("sh", "-c", "read word; exit 5", stdin=subprocess.PIPE)
    process.communicate(b"\x1d\x1d\x1d\n", LIMIT_S)
    assert process.returncode == 5


@pytest.mark.parametrize(
    ("argv", "limit", "code"),
    [(STUBBORN, 60, 9), (ENDLESS, 0.5, 128 + signal.SIGHUP)],
    ids=["ends", "hangs"],
)
def test_a_terminal_that_goes(start, terminal, argv, limit, code):
    ours, theirs = terminal
    process = start(*argv, gone_limit=limit, **on(theirs))
    os.close(theirs)
    read_until(ours, b"ready")
    os.close(ours)
    assert process.wait(LIMIT_S) == code
