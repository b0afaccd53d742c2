# SPDX-License-Identifier: GPL-2.0-only
"""The errors a user of xdptstamp can meet::

    XdptstampError
      UnsupportedError(feature, needs, found)   this kernel, driver, library or NIC lacks it
      SetupError(subject, problem)              link down, no privilege, interface refused
      SystemCallError(OSError)                  errno, call, subject ("eth1 queue 2")
        BpfLoadError                            + the verifier log; its last line is the message
      RunFileError(path, problem)               unreadable, unknown schema
      IncompatibleRunsError(keys)               compare refused

A message says what failed, on which object, why, and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


class XdptstampError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what a command ends with."""

    exit_code = 1


class UnsupportedError(XdptstampError):
    """This kernel, driver, library or NIC lacks a feature.

    :param feature: what was wanted ("Tx metadata in the UMEM").
    :param needs: what would provide it ("libxdp >= 1.5.2").
    :param found: what is here instead ("libxdp 1.3.1").
    """

    exit_code = 4  # kselftest's skip

    def __init__(self, feature: str, needs: str, found: str) -> None:
        super().__init__(f"{feature} is not supported here: needs {needs}, found {found}")
        self.feature = feature
        self.needs = needs
        self.found = found


class SetupError(XdptstampError):
    """The machine or the interface is not in a state to measure.

    :param subject: interface or object the problem is with.
    :param problem: what is wrong and what to do.
    """

    def __init__(self, subject: str, problem: str) -> None:
        super().__init__(f"{subject}: {problem}")
        self.subject = subject
        self.problem = problem


class SystemCallError(XdptstampError, OSError):
    """A system or library call failed.

    :param errno: the error number (positive).
    :param call: the call ("bind").
    :param subject: what it was applied to ("eth1 queue 2, zero-copy").
    :param advice: what the user can do, if known.
    """

    def __init__(self, errno: int, call: str, subject: str, advice: str = "") -> None:
        OSError.__init__(self, errno, os.strerror(errno))
        self.call = call
        self.subject = subject
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.call} failed on {self.subject}: {self.strerror}"
        return f"{text}. {self.advice}" if self.advice else text


class BpfLoadError(SystemCallError):
    """The kernel refused a BPF program; ``log`` is the whole verifier log."""

    def __init__(self, errno: int, call: str, subject: str, log: str) -> None:
        self.log = log
        super().__init__(errno, call, subject, _last_line(log))


def _last_line(log: str) -> str:
    # The verifier ends with statistics; what libbpf says behind it is known already.
    lines = [line.strip() for line in log.splitlines()]
    lines = [line for line in lines if line and not line.startswith("libbpf: failed to load obj")]
    verifier = [line for line in lines if not line.startswith(("libbpf: ", "processed ", "-- "))]
    return (verifier or lines or [""])[-1]


class RunFileError(XdptstampError):
    """A run on disk cannot be read or written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class IncompatibleRunsError(XdptstampError):
    """Runs differ in keys that must be equal; ``keys`` names them.

    :param details: lines that say what each is in which run.
    """

    def __init__(self, keys: list[str], details: Sequence[str] = ()) -> None:
        super().__init__("\n".join(["the runs differ in: " + ", ".join(keys), *details]))
        self.keys = keys


def printable(text: str) -> str:
    """``text`` with all that could steer a terminal escaped; lines stay lines."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )
