# SPDX-License-Identifier: GPL-2.0-only
"""The line between host and guest, with the agent as a process of this machine."""

import contextlib
import errno
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.unit.agent_kit import LIMIT_S, Line
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.lab.guest import agent
from xdptstamp.lab.guest.channel import Channel


@pytest.fixture
def line():
    made = Line()
    with contextlib.closing(made):
        yield made


def shell(text):
    return "sh", "-c", text


def test_code_and_streams_of_a_command(line):
    assert line.run(*shell("echo out; echo err >&2; exit 5")) == (5, "out\n", "err\n")


def test_input_reaches_the_command_and_ends(line):
    assert line.run("cat", data=b"some text") == (0, "some text", "")


def test_environment_and_folder_are_those_asked_for(line, tmp_path):
    code, out, _ = line.run(*shell("pwd; echo $COLOUR"), cwd=str(tmp_path), COLOUR="blue")
    assert (code, out) == (0, f"{tmp_path}\nblue\n")


def test_a_signal_ends_a_command(line):
    process = line.popen("sleep", "1000")
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == -signal.SIGTERM


def test_a_group_is_signalled_as_by_a_key(line):
    # The shell waits for the end of its child before it looks at its own signal.
    process = line.popen(*shell("trap 'echo trapped; exit 3' INT; (echo ready; exec sleep 1000)"))
    process.wait_for("ready")
    process.send_signal(signal.SIGINT, is_group=True)
    assert process.wait(LIMIT_S) == 3
    assert process.stdout == "ready\ntrapped\n"


def test_signals_that_python_ignores_are_not_ignored_by_a_command(line):
    code, _, err = line.run(*shell("kill -PIPE $$; echo survived"))
    assert (code, err) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize(
    ("argv", "cwd", "number", "subject", "exit_code"),
    [
        (["no-such-command"], "/", errno.ENOENT, "no-such-command", 127),
        (["/etc/passwd"], "/", errno.EACCES, "/etc/passwd", 126),
        (["true"], "/no/such/folder", errno.ENOENT, "the folder /no/such/folder", 126),
    ],
)
def test_what_cannot_be_started_says_why(line, argv, cwd, number, subject, exit_code):
    process = line.popen(*argv, cwd=cwd)
    with pytest.raises(SystemCallError) as caught:
        process.wait(LIMIT_S)
    assert (caught.value.errno, caught.value.subject) == (number, subject)
    assert caught.value.exit_code == exit_code
    assert line.run("true")[0] == 0  # the line goes on


def test_several_commands_at_once(line):
    slow = [line.popen("cat") for _ in range(5)]
    assert line.run(*shell("echo quick")) == (0, "quick\n", "")
    for number, process in enumerate(slow):
        process.write(f"number {number}".encode())
        process.close_stdin()
    assert [process.wait(LIMIT_S) for process in slow] == [0] * 5
    assert [process.stdout for process in slow] == [f"number {n}" for n in range(5)]


def test_much_output_comes_whole(line):
    code, out, _ = line.run(*shell("seq 300000"))
    assert code == 0
    assert out == "".join(f"{number}\n" for number in range(1, 300001))


def test_what_was_written_right_before_the_end_comes(line):
    for _ in range(50):
        assert line.run(*shell("echo last words")) == (0, "last words\n", "")


def test_input_waits_for_a_command_that_does_not_read(line):
    process = line.popen(*shell("read word; echo $word; exec sleep 1000"))
    assert process.room == agent.WINDOW
    writer = threading.Thread(target=process.write, args=(b"go\n" + b"x" * 10_000_000,))
    writer.start()
    process.wait_for("go")
    # A pipe's worth is taken, a window's worth is underway; the rest stays with us.
    assert writer.is_alive()
    process.send_signal(signal.SIGKILL)
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    writer.join(LIMIT_S)
    assert not writer.is_alive()


def test_a_command_may_leave_input_unread(line):
    process = line.popen("true")
    assert process.wait(LIMIT_S) == 0
    process.write(b"x" * 1_000_000)
    process.close_stdin()
    assert line.run("true")[0] == 0


def test_a_slow_reader_holds_back_the_output(line):
    # What the reader has not taken waits in the guest, not in the agent's memory.
    gate = threading.Event()
    process = line.popen(*shell("yes | head -c 50000000"), on_output=lambda *_: gate.wait(LIMIT_S))
    status = f"/proc/{line.agent.pid}/status"

    def agent_kilobytes():
        with open(status, encoding="ascii") as lines:
            return next(int(words.split()[1]) for words in lines if words.startswith("VmRSS"))

    before = agent_kilobytes()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert agent_kilobytes() - before < 5_000
    gate.set()
    assert process.wait(LIMIT_S) == 0


def test_a_terminal_with_its_size_echo_and_keys(line):
    process = line.popen(*shell("stty size; tty; exec cat"), terminal=(33, 77))
    process.wait_for("/dev/pts/")
    assert process.stdout.startswith("33 77\r\n")
    process.write(b"typed\n")
    process.wait_for("typed\r\ntyped\r\n")  # the echo, and cat's
    process.write(b"\x03")
    assert process.wait(LIMIT_S) == -signal.SIGINT


def test_a_terminal_changes_its_size(line):
    process = line.popen(
        *shell("trap 'stty size; exit 0' WINCH; echo ready; read x"), terminal=(5, 6)
    )
    process.wait_for("ready")
    process.resize(50, 132)
    assert process.wait(LIMIT_S) == 0
    assert "50 132" in process.stdout


def test_end_of_input_on_a_terminal(line):
    code, out, _ = line.run("cat", terminal=(24, 80))
    assert (code, out.replace("^D\b\b", "")) == (0, "")


def test_a_timeout_leaves_the_command_running(line):
    process = line.popen("sleep", "1000")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait_for("something", 0.05)
    assert not process.has_ended
    process.send_signal(signal.SIGKILL)
    assert process.wait(LIMIT_S) == -signal.SIGKILL


def test_death_of_the_guest_is_told_to_all_that_wait(line):
    running = [line.popen("sleep", "2") for _ in range(2)]
    line.agent.kill()
    for process in running:
        with pytest.raises(SetupError, match="it died"):
            process.wait(LIMIT_S)
    with pytest.raises(SetupError, match="it died"):
        line.popen("true").wait(LIMIT_S)


def test_the_agent_ends_with_the_host(line):
    line.channel.close()
    assert line.agent.wait(LIMIT_S) == 1
    assert line.agent.stderr.read() == b"the host is gone\n"


def test_quit_ends_the_agent(line):
    line.channel.quit(LIMIT_S)
    assert line.channel.is_over
    assert line.agent.wait(LIMIT_S) == 0


def test_nonsense_from_the_guest_ends_the_line():
    ours, theirs = socket.socketpair()
    channel = Channel(ours, lambda: SetupError("guest", "it died"))
    channel.start()
    with theirs, contextlib.closing(channel):
        process = channel.popen(["true"], "/", {}, None, None)
        theirs.sendall(agent.HEADER.pack(1 << 30, agent.OUTPUT, 1) + b"x" * 100)
        with pytest.raises(SetupError, match="it died"):
            process.wait(LIMIT_S)


@pytest.mark.parametrize("kind", [agent.ENDED, agent.TAKEN, agent.REFUSED, 99])
def test_a_short_message_from_the_guest_ends_the_line_or_nothing(kind):
    ours, theirs = socket.socketpair()
    channel = Channel(ours, lambda: SetupError("guest", "it died"))
    channel.start()
    with theirs, contextlib.closing(channel):
        process = channel.popen(["true"], "/", {}, None, None)
        theirs.sendall(agent.HEADER.pack(1, kind, 1) + b"x")
        theirs.sendall(agent.HEADER.pack(4, agent.ENDED, 7) + b"\0\0\0\0")  # of no command
        theirs.sendall(agent.HEADER.pack(4, agent.ENDED, 1) + agent.NUMBER.pack(3))
        if kind == 99:
            assert process.wait(LIMIT_S) == 3
        else:
            with pytest.raises(SetupError, match="it died"):
                process.wait(LIMIT_S)
