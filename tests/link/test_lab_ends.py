# SPDX-License-Identifier: GPL-2.0-only
"""How ``lab veth`` ends: by a signal, by Ctrl-C, by kill -9; and what it leaves then."""

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from xdptstamp._sys import netns
from xdptstamp.lab import VethLab
from xdptstamp.lab.claim import CLAIMS_DIR
from xdptstamp.remote import NetnsPartner

if os.environ.get("NETIF"):
    pytest.skip("these tests are about the link that is not real", allow_module_level=True)


def shell(*lines):
    return ["--", "sh", "-c", "\n".join(lines)]


def links():
    return {name for _, name in socket.if_nameindex()}


def read_terminal(terminal, until):
    text = ""
    while until is None or until not in text:
        assert select.select([terminal], [], [], 30)[0], text
        try:
            text += os.read(terminal, 4096).decode()
        except OSError:  # EIO: the other side is closed
            break
    return text


# -- signals

# Says each signal that it gets, also the second of two that come at once; ends when a second has
# passed without one.
COUNTER = """
import os, select, signal, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
print("ready", flush=True)
timeout = 60
while select.select([reader], [], [], timeout)[0]:
    print("got", signal.Signals(os.read(reader, 1)[0]).name, flush=True)
    timeout = 1
sys.exit(9)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_lab_reaches_the_command_once(popen_cli, number):
    lab = popen_cli("lab", "veth", "--", sys.executable, "-c", COUNTER)
    lab.wait_for("ready\n")
    lab.send_signal(number)
    done = lab.wait()
    assert done.stdout == f"ready\ngot {number.name}\n"
    assert done.returncode == 9


@pytest.fixture
def ready_and_on(tmp_path):
    """A command that goes on after the word ``ready``.

    It is no shell, which would keep a SIGINT to itself that comes right before its exec.
    """
    (tmp_path / "ready").write_text("ready\n")
    return ("--", "tail", "-f", str(tmp_path / "ready"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_ended_by_the_signal(popen_cli, ready_and_on, number):
    lab = popen_cli("lab", "veth", *ready_and_on)
    lab.wait_for("ready\n")
    lab.send_signal(number)
    assert lab.wait().returncode == 128 + number
    assert links() == {"lo"}


def test_each_ctrl_c_on_a_terminal_reaches_the_command_once():
    pid, terminal = pty.fork()
    if pid == 0:
        argv = [
            sys.executable,
            "-m",
            "xdptstamp",
            "lab",
            "veth",
            "--",
            sys.executable,
            "-c",
            COUNTER,
        ]
        os.execv(sys.executable, argv)
    try:
        read_terminal(terminal, "ready\r\n")
        # Several times, each long after the last: two signals at once can merge into one.
        text = ""
        for _ in range(5):
            select.select([], [], [], 0.4)
            os.write(terminal, b"\x03")
            text += read_terminal(terminal, "got SIGINT\r\n")
        text += read_terminal(terminal, None)
        assert text.count("got SIGINT") == 5, text
        assert "Traceback" not in text
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    finally:
        os.close(terminal)
    assert links() == {"lo"}


def test_an_interactive_shell_is_ended_too():
    # It ignores SIGTERM.
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(SHELL="/bin/sh", PS1="prompt> ")
        os.execv(sys.executable, [sys.executable, "-m", "xdptstamp", "lab", "veth"])
    try:
        read_terminal(terminal, "prompt> ")
        os.kill(pid, signal.SIGTERM)
        read_terminal(terminal, None)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    finally:
        os.close(terminal)
    assert links() == {"lo"}


def test_a_terminal_that_is_closed():
    pid, terminal = pty.fork()
    if pid == 0:
        argv = [sys.executable, "-m", "xdptstamp", "lab", "veth", *shell("echo ready", "read _")]
        os.execv(sys.executable, argv)
    try:
        read_terminal(terminal, "ready\r\n")
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
    assert links() == {"lo"}


def test_below_timeout():
    argv = [sys.executable, "-m", "xdptstamp", "lab", "veth", *shell("exec sleep 1000")]
    done = subprocess.run(["timeout", "3", *argv], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (124, "", "")
    assert links() == {"lo"}


def test_a_signal_to_the_whole_group(popen_cli, ready_and_on):
    lab = popen_cli("lab", "veth", *ready_and_on)
    lab.wait_for("ready\n")
    lab.press_ctrl_c()
    done = lab.wait()
    assert done.returncode == 130
    assert done.stderr == ""


def end_by_signal(lab, number):
    # Python shows, and forgets, a SIGINT that comes inside of a callback of its imports.
    lab.send_signal(number)
    deadline, is_sent_again = time.monotonic() + 60, False
    while lab.read(deadline):
        if "Exception ignored" in lab.stderr and not is_sent_again:
            is_sent_again = True
            lab.send_signal(number)
    return lab.wait().returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_moment_of_the_start(popen_cli, number):
    for moment in range(12):
        lab = popen_cli("lab", "veth", "--", "sleep", "1000")
        deadline = time.monotonic() + 0.05 * moment
        # Not a condition that could be awaited: any moment will do.
        select.select([], [], [], max(deadline - time.monotonic(), 0))
        code = end_by_signal(lab, number)
        # Before the lab holds signals back Python or the shell's convention decides.
        assert code in (128 + number, -number, 1), lab
        assert links() == {"lo"}
        assert netns_names() == set()


def netns_names():
    ours = {path.name for path in CLAIMS_DIR.iterdir() if our_claim(path)}
    return {name for name in ours if netns.inode_of(name)}


def our_claim(path):
    with contextlib.suppress(FileNotFoundError):
        return f"netns {os.stat('/proc/self/ns/net').st_ino}\n" in path.read_text()
    return False


# -- a lab that was killed


def killed_lab(popen_cli, *lines):
    lab = popen_cli("lab", "veth", *shell("echo $NETIF ready", *lines))
    lab.wait_for("ready\n")
    lab.send_signal(signal.SIGKILL)
    lab.process.wait(10)
    return lab, lab.stdout.split()[0]


def test_the_next_lab_removes_one_that_was_killed(popen_cli, run_cli):
    lab, name = killed_lab(popen_cli, "exec sleep 1000")
    lab.end()
    assert name in links()
    done = run_cli("lab", "veth", *shell(f"grep {name}: /proc/self/net/dev || echo $NETIF"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() != name
    assert links() == {"lo"}
    assert netns.inode_of(name) is None
    assert not (CLAIMS_DIR / name).exists()


def test_a_killed_labs_command_keeps_its_link(popen_cli, run_cli):
    lab, name = killed_lab(popen_cli, "exec sleep 1000")
    assert run_cli("lab", "veth", "--", "true").returncode == 0
    assert name in links()
    assert netns.inode_of(name) is not None
    lab.end()
    assert run_cli("lab", "veth", "--", "true").returncode == 0
    assert links() == {"lo"}


def test_what_still_ran_on_the_partner_of_a_killed_lab_is_ended(popen_cli, run_cli):
    lab, name = killed_lab(popen_cli, "exec sleep 1000")
    orphan = NetnsPartner(name).popen(["sleep", "1000"])
    lab.end()
    assert run_cli("lab", "veth", "--", "true").returncode == 0
    assert orphan.wait(5) == -signal.SIGTERM
    assert links() == {"lo"}


def test_a_lab_in_use_is_left_alone(run_cli):
    with VethLab() as lab:
        assert run_cli("lab", "veth", "--", "true").returncode == 0
        assert lab.ifname in links()
        assert netns.inode_of(lab.netns) is not None


def test_a_claim_of_which_nothing_was_made(run_cli):
    CLAIMS_DIR.mkdir(parents=True, exist_ok=True)
    left = [CLAIMS_DIR / "xdpt-zzzz", CLAIMS_DIR / ".unfinished"]
    for path in left:
        path.touch()
    assert run_cli("lab", "veth", "--", "true").returncode == 0
    assert not any(path.exists() for path in left)
