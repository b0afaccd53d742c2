# SPDX-License-Identifier: GPL-2.0-only
"""Lines that appear in the kernel log while something is measured."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from xdptstamp.runinfo import Warning

_KMSG = Path("/dev/kmsg")
_RECORD_SIZE = 1 << 16
_LEVEL_ERROR = 3
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")

# The first match names a line. Texts are those of kernel/, mm/, net/sched/sch_generic.c and the
# Intel drivers.
_KINDS = (
    ("stamp-timeout", r"tx timestamp timeout|clearing tx timestamp hang"),
    ("sanitizer", r"\b(KASAN|KMSAN|KCSAN|KFENCE|UBSAN)\b"),
    (
        "bug",
        r"\bBUG: (?!soft lockup|workqueue)|kernel BUG at|\bOops\b|general protection fault|"
        r"Unable to handle kernel|Kernel panic|double fault|stack-protector:",
    ),
    (
        "hang",
        r"Tx Unit Hang|NETDEV WATCHDOG|transmit queue \d+ timed out|soft lockup|hard lockup|"
        r"blocked for more than \d+ seconds|rcu.*detected.*stall|workqueue lockup",
    ),
    (
        "warning",
        r"\bWARNING: |possible circular locking|suspicious RCU usage|"
        r"possible recursive locking|scheduling while atomic|sleeping function called",
    ),
    ("reset", r"\bReset adapter\b|adapter reset|resetting adapter"),
    ("link", r"NIC Link is (Up|Down)|\blink (up|down|becomes ready)\b"),
)
_PATTERNS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _KINDS)

_UNTRUSTED_KINDS = frozenset({"stamp-timeout", "sanitizer", "bug", "hang", "warning"})


@dataclass(frozen=True, slots=True)
class KernelLine:
    """One record of the kernel log.

    :param level: 0 emergency .. 3 error, 4 warning .. 7 debug.
    :param is_from_kernel: False for what a process wrote into the log.
    :param time_us: microseconds on the kernel's log clock (about CLOCK_MONOTONIC).
    :param kind: bug, sanitizer, hang, stamp-timeout, warning, reset, link, error or other.
    """

    level: int
    is_from_kernel: bool
    seq: int
    time_us: int
    text: str
    kind: str

    @property
    def is_untrusted(self) -> bool:
        """A run during which it appeared must not be relied on."""
        return self.is_from_kernel and self.kind in _UNTRUSTED_KINDS

    @property
    def is_remarkable(self) -> bool:
        """A reader of the run should see it."""
        return self.is_from_kernel and self.kind != "other"


class KernelLog:
    """Kernel log from the moment this is made on. A context manager.

    Where the log may not be read, ``problem`` says why, and there are no lines.
    """

    def __init__(self, path: Path = _KMSG) -> None:
        self.problem = ""
        self.num_lost = 0
        self._path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            self.problem = f"the kernel log was not watched: {path}: {_reason(error)}"

    def __enter__(self) -> KernelLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; once is enough."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def lines(self) -> list[KernelLine]:
        """What appeared since the last call; never blocks.

        ``num_lost`` counts the times the kernel had overwritten lines before they were read.
        """
        found: list[KernelLine] = []
        while self._fd >= 0:
            try:
                record = os.read(self._fd, _RECORD_SIZE)
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten: the next read goes on behind the gap
                self.num_lost += 1
                continue
            except OSError as error:
                self.problem = f"the kernel log was not watched to the end: {_reason(error)}"
                self.close()
                break
            line = parse_record(record)
            if line is not None:
                found.append(line)
        return found


def parse_record(record: bytes) -> KernelLine | None:
    """The line that a record of /dev/kmsg holds, None if it is none."""
    head, separator, body = record.decode("utf-8", "replace").partition(";")
    fields = head.split(",")
    try:
        priority, seq, time_us = (int(field) for field in fields[:3])
    except ValueError:
        return None
    if not separator:
        return None
    # Dictionary lines (" SUBSYSTEM=pci") follow the text; a newline in the text is escaped.
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), body.split("\n", 1)[0])
    level = priority & 7
    return KernelLine(level, priority >> 3 == 0, seq, time_us, text, _kind_of(text, level))


def kernel_log_warnings(lines: list[KernelLine], num_lost: int = 0) -> list[Warning]:
    """One warning for each kind of remarkable line, with the first of its lines.

    :param num_lost: of :class:`KernelLog`; what was overwritten is a warning of its own.
    """
    by_kind: dict[str, list[KernelLine]] = {}
    for line in lines:
        if line.is_remarkable:
            by_kind.setdefault(line.kind, []).append(line)
    warnings = [
        Warning(
            key=f"kernel-log-{kind}",
            message=f"the kernel log says: {found[0].text.splitlines()[0]}",
            value=f"{len(found)} line{'s' if len(found) > 1 else ''}",
            limit="none",
            advice="read `dmesg`; a kernel that complains may not have measured what it says",
            is_untrusted=found[0].is_untrusted,
        )
        for kind, found in by_kind.items()
    ]
    return [*warnings, _overwritten(num_lost)] if num_lost else warnings


def _overwritten(num_lost: int) -> Warning:
    return Warning(
        key="kernel-log-overwritten",
        message="kernel log lines were overwritten before they were read",
        value=f"{num_lost} gap{'s' if num_lost > 1 else ''}",
        limit="none",
        advice="read `dmesg` for what filled it; a larger log_buf_len keeps more",
    )


def _kind_of(text: str, level: int) -> str:
    for kind, pattern in _PATTERNS:
        if pattern.search(text):
            return kind
    return "error" if level <= _LEVEL_ERROR else "other"


def _reason(error: OSError) -> str:
    if error.errno in {errno.EPERM, errno.EACCES}:
        return "permission denied: it needs CAP_SYSLOG, and read permission on the file"
    return error.strerror or str(error)
