# SPDX-License-Identifier: GPL-2.0-only
"""One command in a guest, with this process's terminal, streams and signals."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdptstamp.lab.guest import Guest, GuestProcess

# A terminal sends the first two to all that runs in its foreground.
_OF_A_KEY = (signal.SIGINT, signal.SIGQUIT)
_FORWARDED = (*_OF_A_KEY, signal.SIGTERM, signal.SIGHUP)

_CHANGED = b"\0"  # no signal has that number
_CHUNK = 1 << 16


def run_command(guest: Guest, argv: Sequence[str], *, is_shell: bool) -> int:
    """Run it until it ends; returns the exit code as a shell has it.

    Where stdin, stdout and stderr all are a terminal it gets one too.

    :param is_shell: it is an interactive shell, which ignores SIGTERM: it gets SIGHUP for it.
    :raises XdptstampError: It cannot be started, or the guest died.
    """
    has_terminal = all(os.isatty(fd) for fd in range(3))
    with _signals_caught() as (reader, writer):
        output = _Output()
        process = guest.popen(
            argv, terminal=_size() if has_terminal else None, on_output=output.write
        )
        output.process = process
        # It has ended, or has room for more input.
        process.call_on_change(lambda: os.write(writer, _CHANGED))
        with _raw_terminal() if has_terminal else contextlib.nullcontext():
            _serve(process, reader, is_shell=is_shell)
        code = process.wait()  # which also is behind the last call of on_change
    return 128 - code if code < 0 else code


class _Output:
    # What the command writes, on to our own stdout and stderr, in the thread that it comes in:
    # while they take no more, no more is read from the guest.
    process: GuestProcess | None = None

    def write(self, is_error: bool, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(2 if is_error else 1, data) :]
            except OSError:
                # As it would find it out itself, if it had our pipe.
                if self.process is not None:
                    self.process.send_signal(signal.SIGPIPE, is_group=True)
                return


def _serve(process: GuestProcess, reader: int, *, is_shell: bool) -> None:
    has_input = True
    while not process.has_ended:
        watched = [reader, *([0] if has_input and process.room > 0 else [])]
        ready = select.select(watched, [], [])[0]
        if reader in ready:
            for number in os.read(reader, _CHUNK).replace(_CHANGED, b""):
                _forward(process, signal.Signals(number), is_shell=is_shell)
        if 0 in ready:
            has_input = _pass_input(process)


def _pass_input(process: GuestProcess) -> bool:
    # False when there is no more to come.
    try:
        data = os.read(0, process.room)
    except OSError:  # the terminal is gone
        data = b""
    if data:
        process.write(data)
    else:
        process.close_stdin()
    return bool(data)


def _forward(process: GuestProcess, number: signal.Signals, *, is_shell: bool) -> None:
    if number == signal.SIGWINCH:
        process.resize(*_size())
    elif number in _FORWARDED:
        is_ignored = is_shell and number == signal.SIGTERM
        process.send_signal(signal.SIGHUP if is_ignored else number, is_group=number in _OF_A_KEY)


def _size() -> tuple[int, int]:
    columns, rows = os.get_terminal_size(0) if os.isatty(0) else (80, 24)
    return rows, columns


@contextlib.contextmanager
def _signals_caught() -> Iterator[tuple[int, int]]:
    # The numbers of signals that come, to be read from the first fd; wake with the second.
    # Those that are ignored, as below nohup, stay so.
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.getsignal(number) for number in (*_FORWARDED, signal.SIGWINCH)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer)
        yield reader, writer
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    # Every key is the guest's: its terminal makes signals and echo of them.
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
