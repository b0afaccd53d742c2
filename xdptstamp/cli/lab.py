# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp lab``: links to measure on without hardware."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from xdptstamp.cli import lab_guest
from xdptstamp.errors import SystemCallError

if TYPE_CHECKING:
    from xdptstamp.lab import VethLab

# Held back while the lab exists and taken one at a time: none can come between the making of a
# thing and the note that it has to be removed.
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
_HELD = _ENDING | {signal.SIGCHLD}

# timeout(1) sends its signal to the process and then to the process group: one request, not two.
_REPEAT_NS = 300_000_000

_EXIT_NOT_FOUND = 127
_EXIT_NOT_EXECUTABLE = 126


@click.group("lab", short_help="Make a link to measure on, without hardware.")
def command() -> None:
    """Make a link to measure on, without hardware, and remove it afterwards."""


command.add_command(lab_guest.guest)


@command.command(
    "veth", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option(
    "--queues",
    type=click.IntRange(1, 4096),
    default=2,
    show_default=True,
    help="Tx queues, and Rx queues, of each end.",
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.pass_context
def veth(context: click.Context, queues: int, argv: tuple[str, ...]) -> None:
    """Run COMMAND, or a shell, beside a veth pair made for it.

    The DUT end of the pair is in this network namespace, the link partner's end in one of its
    own. COMMAND finds them in NETIF, LOCAL_V4, LOCAL_V6, REMOTE_V4, REMOTE_V6, REMOTE_TYPE and
    REMOTE_ARGS, which the other commands read as defaults. When it ends the pair is removed, and
    what still runs on the partner is ended.

    The exit code is that of COMMAND, 128+n if signal n ended it, 127 if there is no such command.
    """
    from xdptstamp.lab import VethLab

    with _signals_held() as mask_before, VethLab(queues) as lab:
        if not argv:
            click.echo(_hint(lab.environ), err=True)
        code = _run(lab, argv, mask_before)
    context.exit(code)


def _hint(environ: Mapping[str, str]) -> str:
    words = [f"{name}={value}" for name, value in environ.items()]
    return "\n".join(
        (
            f"A veth pair is ready: {' '.join(words[:1])}, its link partner is in namespace "
            f"{environ['REMOTE_ARGS']}.",
            *(f"  {word}" for word in words),
            "Run a command on the partner with: xdptstamp partner -- COMMAND",
            "Leave this shell to remove the pair.",
        )
    )


@contextlib.contextmanager
def _signals_held() -> Iterator[set[int]]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield {int(number) for number in before}
    finally:
        # Whatever is still pending has been answered: everything it could end has ended.
        while signal.sigtimedwait(_HELD, 0) is not None:
            continue
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(lab: VethLab, argv: Sequence[str], mask: set[int]) -> int:
    asked = [number for number in signal.sigpending() & _ENDING if not _is_ignored(number)]
    if asked:
        return 128 + int(min(asked))
    words = list(argv) or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        process = subprocess.Popen(
            words,
            env={**os.environ, **lab.environ},
            pass_fds=(lab.keepalive_fd,),
            # There is one thread here; the command is not to start with signals held back.
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509
        )
    except OSError as error:
        raise _cannot_start(words, error) from None
    return _wait(process, is_shell=not argv)


def _is_ignored(number: int) -> bool:
    # As below nohup. While it is held back an ignored signal is still kept.
    return signal.getsignal(number) is signal.SIG_IGN


def _cannot_start(words: Sequence[str], error: OSError) -> SystemCallError:
    failure = SystemCallError(error.errno or errno.EIO, "exec", shlex.join(words))
    is_missing = isinstance(error, FileNotFoundError)
    failure.exit_code = _EXIT_NOT_FOUND if is_missing else _EXIT_NOT_EXECUTABLE
    return failure


def _wait(process: subprocess.Popen[bytes], *, is_shell: bool) -> int:
    last: _Request | None = None
    while process.poll() is None:
        info = signal.sigwaitinfo(_HELD)
        # Above 0 the terminal sent it (Ctrl-C, hang-up), and sent it to the command as well.
        if info.si_signo == signal.SIGCHLD or info.si_code > 0:
            continue
        request = _Request(info.si_signo, info.si_pid, time.monotonic_ns())
        if last is None or not request.repeats(last):
            # An interactive shell ignores SIGTERM; SIGHUP ends it.
            is_for_shell = is_shell and info.si_signo == signal.SIGTERM
            process.send_signal(signal.SIGHUP if is_for_shell else info.si_signo)
        last = request
    code = process.returncode
    return 128 - code if code < 0 else code


@dataclass(frozen=True, slots=True)
class _Request:
    # A signal that somebody sent to the lab, and when (CLOCK_MONOTONIC).
    number: int
    sender: int
    at_ns: int

    def repeats(self, last: _Request) -> bool:
        is_same = (self.number, self.sender) == (last.number, last.sender)
        return is_same and self.at_ns - last.at_ns <= _REPEAT_NS
