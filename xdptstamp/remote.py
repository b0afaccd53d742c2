# SPDX-License-Identifier: GPL-2.0-only
"""The link partner: where it is, and how a command gets there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from xdptstamp._sys import netns
from xdptstamp.errors import SetupError, SystemCallError, UnsupportedError, XdptstampError

# What a shell, env and nohup return when there is no such command, or it cannot be executed.
_EXIT_NOT_FOUND = 127
_EXIT_NOT_EXECUTABLE = 126

# Python ignores these, and an ignored signal stays ignored through exec.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Partner(Protocol):
    """The machine, guest or namespace at the other end of the link."""

    @property
    def kind(self) -> str:
        """The type of the partner, as ``REMOTE_TYPE`` has it."""

    @property
    def subject(self) -> str:
        """The partner in an error message: ``network namespace xdpt-3f9a``."""

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command there.

        :param options: those of ``subprocess.Popen``.
        :return: The command itself: its exit status and signals are the caller's.
        :raises XdptstampError: The partner cannot be reached, or the command not be started.
        """

    def run(
        self,
        argv: Sequence[str],
        *,
        input: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command there to its end; the exit status is returned, not judged.

        :param timeout: seconds after which it is killed.
        :param options: those of ``subprocess.Popen``.
        :raises subprocess.TimeoutExpired: After ``timeout``.
        :raises XdptstampError: As :meth:`popen`.
        """

    def execute(self, argv: Sequence[str]) -> NoReturn:
        """Become the command: it replaces this process.

        :raises XdptstampError: As :meth:`popen`.
        """


@dataclass(frozen=True, slots=True)
class NetnsPartner:
    """A partner in a network namespace of this machine.

    :param name: the namespace, as ``ip netns`` lists it.
    """

    name: str

    @property
    def kind(self) -> str:
        """``netns``."""
        return "netns"

    @property
    def subject(self) -> str:
        """``network namespace NAME``."""
        return f"network namespace {self.name}"

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """See :meth:`Partner.popen`."""
        _refuse_empty(argv)
        try:
            return netns.popen_inside(self.name, argv, **options)
        except XdptstampError:
            raise
        except OSError as error:
            raise _cannot_start(argv[0], error) from None

    def run(
        self,
        argv: Sequence[str],
        *,
        input: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """See :meth:`Partner.run`."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        with self.popen(argv, **options) as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def execute(self, argv: Sequence[str]) -> NoReturn:
        """See :meth:`Partner.execute`."""
        _refuse_empty(argv)
        netns.enter(self.name)
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(argv[0], list(argv))
        except OSError as error:
            raise _cannot_start(argv[0], error) from None


# guest and ssh are to be rows here.
_PARTNER_OF_TYPE = {"netns": NetnsPartner}


def partner_from_env(environ: Mapping[str, str]) -> Partner:
    """The partner that ``REMOTE_TYPE`` and ``REMOTE_ARGS`` name.

    :raises SetupError: Variables are missing; all of them are named.
    :raises UnsupportedError: The type is not known.
    """
    missing = [name for name in ("REMOTE_TYPE", "REMOTE_ARGS") if not environ.get(name)]
    if missing:
        advice = "`xdptstamp lab veth` sets them for the command or shell it runs"
        raise SetupError("link partner", f"not named, {' and '.join(missing)} not set; {advice}")
    kind = environ["REMOTE_TYPE"]
    if kind not in _PARTNER_OF_TYPE:
        needs = " or ".join(sorted(_PARTNER_OF_TYPE))
        raise UnsupportedError("this type of link partner", f"REMOTE_TYPE={needs}", kind)
    return _PARTNER_OF_TYPE[kind](environ["REMOTE_ARGS"])


def _refuse_empty(argv: Sequence[str]) -> None:
    if not argv:
        raise SetupError("link partner", "no command given")


def _cannot_start(command: str, error: OSError) -> XdptstampError:
    # error.filename is the working directory if that is what is missing.
    subject = os.fsdecode(error.filename) if error.filename else command
    failure = SystemCallError(error.errno or errno.EIO, "exec", subject)
    is_missing = isinstance(error, FileNotFoundError)
    failure.exit_code = _EXIT_NOT_FOUND if is_missing else _EXIT_NOT_EXECUTABLE
    return failure
