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

import click

from xdptstamp.cli._guest_patience import ASKING, Patience
from xdptstamp.cli._guest_streams import Input, Output
from xdptstamp.lab.guest import GuestDiedError

if TYPE_CHECKING:
    from xdptstamp.lab.guest import Guest, GuestProcess

# A terminal sends the first two to all that runs in its foreground.
_OF_A_KEY = (signal.SIGINT, signal.SIGQUIT)
_FORWARDED = (*_OF_A_KEY, signal.SIGTERM, signal.SIGHUP)

_CHANGED = b"\0"  # no signal has that number
_CHUNK = 1 << 16

_WARNING = "Asking the guest's kernel where it hangs (up to 10 s), then killing it."


def run_command(
    guest: Guest, argv: Sequence[str], patience: Patience, *, is_shell: bool = False
) -> int:
    """Run it until it ends, or patience does; returns the exit code as a shell has it.

    Where stdin, stdout and stderr all are a terminal it gets one too.

    :param is_shell: it is an interactive shell, which ignores SIGTERM: it gets SIGHUP for it.
    :raises XdptstampError: It cannot be started, the guest died, or was given up.
    """
    has_terminal = all(os.isatty(fd) for fd in range(3))
    if has_terminal:
        click.echo("If the guest hangs: ^] three times within a second kills it.", err=True)
    raw = contextlib.ExitStack()
    with _signals_caught() as (reader, writer), contextlib.closing(Output()) as output, raw:
        if has_terminal:
            raw.enter_context(_raw_terminal())
        process = guest.popen(
            argv, terminal=_size() if has_terminal else None, on_output=output.write
        )
        output.process = process
        # It has ended, or has room for more input.
        process.call_on_change(lambda: os.write(writer, _CHANGED))
        try:
            _serve(process, reader, patience, output, is_shell=is_shell)
            raw.close()
            if patience.given_up is not None and not process.has_ended:
                output.stop()
                output.say(_WARNING)
                raise guest.give_up(patience.given_up.why)
            code = process.wait()
        except GuestDiedError as error:
            if patience.given_up is not None:
                error.exit_code = patience.given_up.exit_code
            raise
        finally:
            process.call_on_change(None)
    return 128 - code if code < 0 else code


def _serve(
    process: GuestProcess, reader: int, patience: Patience, output: Output, *, is_shell: bool
) -> None:
    stdin = Input(process, patience)
    while not process.has_ended and patience.given_up is None:
        watched = [reader, *([0] if stdin.is_read else [])]
        ready = select.select(watched, [], [], patience.left_s)[0]
        if reader in ready:
            for number in os.read(reader, _CHUNK).replace(_CHANGED, b""):
                _forward(process, signal.Signals(number), is_shell=is_shell)
                if patience.take_signal(signal.Signals(number)):
                    output.say(patience.WARNING, is_raw=process.has_terminal)
        if 0 in ready:
            stdin.take()
        stdin.pass_on()
        patience.look()


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
    except GuestDiedError:
        # Why is to be read, also by those who go on asking while all is cleared up.
        before |= dict.fromkeys(ASKING, signal.SIG_IGN)
        raise
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
        with contextlib.suppress(termios.error):  # it is gone
            termios.tcsetattr(0, termios.TCSADRAIN, before)
