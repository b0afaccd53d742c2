# SPDX-License-Identifier: GPL-2.0-only
"""Records of the kernel log: read, named, judged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdptstamp import kernellog
from xdptstamp.kernellog import KernelLine, KernelLog, kernel_log_warnings, parse_record


def record(text: str, priority: int = 6) -> bytes:
    return f"{priority},339,5140900,-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:03:00.0\n".encode()


def line(text: str, priority: int = 6) -> KernelLine:
    found = parse_record(record(text, priority))
    assert found is not None
    return found


def test_a_record_is_taken_apart() -> None:
    found = line("igc 0000:03:00.0 eth1: hello; world", 4)
    assert (found.level, found.seq, found.time_us) == (4, 339, 5140900)
    assert found.text == "igc 0000:03:00.0 eth1: hello; world"
    assert found.is_from_kernel


def test_a_newline_in_a_line_is_unescaped() -> None:
    assert line(r"a\x0ab\x09c").text == "a\nb\tc"


@pytest.mark.parametrize("raw", [b"", b"garbage", b"6,1;text", b"x,1,2,-;text", b"6,1,2,-"])
def test_what_is_no_record_is_none(raw: bytes) -> None:
    assert parse_record(raw) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("igc 0000:03:00.0 eth1: Tx timestamp timeout", "stamp-timeout"),
        ("e1000e: eth0: clearing Tx timestamp hang", "stamp-timeout"),
        ("BUG: KASAN: slab-out-of-bounds in igc_xmit", "sanitizer"),
        ("UBSAN: array-index-out-of-bounds in net/core/dev.c", "sanitizer"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000008", "bug"),
        ("BUG: unable to handle page fault for address: ffffa1b2", "bug"),
        ("Unable to handle kernel paging request at virtual address 0", "bug"),
        ("Oops: 0000 [#1] PREEMPT SMP", "bug"),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s!", "hang"),
        (r"igc 0000:03:00.0 eth1: Detected Tx Unit Hang\x0a  Tx Queue <0>", "hang"),
        ("NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5000 ms", "hang"),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "hang"),
        ("INFO: task python:12 blocked for more than 120 seconds.", "hang"),
        ("WARNING: CPU: 3 PID: 812 at net/xdp/xsk.c:560 xsk_destruct_skb", "warning"),
        ("WARNING: possible circular locking dependency detected", "warning"),
        ("BUG: scheduling while atomic: python/12/0x00000002", "bug"),
        ("igc 0000:03:00.0 eth1: Reset adapter", "reset"),
        ("igc 0000:03:00.0 eth1: NIC Link is Down", "link"),
        ("veth0: entered promiscuous mode", "other"),
        ("debug: a bugfix was applied, warnings are off", "other"),
    ],
)
def test_lines_are_named(text: str, kind: str) -> None:
    found = line(text)
    assert found.kind == kind
    untrusted = kind in {"stamp-timeout", "sanitizer", "bug", "hang", "warning"}
    assert found.is_untrusted == untrusted
    assert found.is_remarkable == (kind != "other")


def test_an_error_that_has_no_name_is_remarkable_and_no_reason_for_distrust() -> None:
    found = line("mmc0: error -110", 3)
    assert (found.kind, found.is_remarkable, found.is_untrusted) == ("error", True, False)


def test_what_a_process_wrote_into_the_log_proves_nothing() -> None:
    found = line("BUG: written by a shell", 12)  # LOG_USER
    assert not found.is_from_kernel
    assert not found.is_untrusted
    assert kernel_log_warnings([found]) == []


def test_warnings_count_the_lines_of_a_kind() -> None:
    lines = [
        line("igc eth1: Tx timestamp timeout"),
        line("igc eth1: Tx timestamp timeout"),
        line("igc eth1: NIC Link is Down"),
        line("nothing of note"),
    ]
    stamp, link = kernel_log_warnings(lines)
    assert (stamp.key, stamp.value) == ("kernel-log-stamp-timeout", "2 lines")
    assert stamp.message == "the kernel log says: igc eth1: Tx timestamp timeout"
    assert stamp.is_untrusted
    assert (link.key, link.value, link.is_untrusted) == ("kernel-log-link", "1 line", False)


def test_a_log_that_is_not_there_is_said_and_no_error(tmp_path: Path) -> None:
    with KernelLog(tmp_path / "kmsg") as log:
        assert log.lines() == []
    assert "kmsg: No such file or directory" in log.problem


def test_a_log_that_may_not_be_read_is_said_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "open", refuse)
    log = KernelLog()
    assert log.lines() == []
    assert log.problem == (
        "the kernel log was not watched: /dev/kmsg: permission denied: "
        "it needs CAP_SYSLOG, and read permission on the file"
    )


def reads(monkeypatch: pytest.MonkeyPatch, answers: list[bytes | OSError]) -> None:
    queue: Iterator[bytes | OSError] = iter(answers)

    def read(fd: int, size: int) -> bytes:
        answer = next(queue)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(kernellog.os, "read", read)


def test_lines_that_were_overwritten_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kmsg").touch()
    with KernelLog(tmp_path / "kmsg") as log:
        reads(monkeypatch, [record("a"), BrokenPipeError(), record("b"), BlockingIOError()])
        assert [found.text for found in log.lines()] == ["a", "b"]
        assert log.num_lost == 1
        (warning,) = kernel_log_warnings([], log.num_lost)
        assert warning.message == "kernel log lines were overwritten before they were read"
        assert (warning.value, warning.is_untrusted) == ("1 gap", False)
        assert log.problem == ""


def test_a_log_that_fails_keeps_what_it_gave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kmsg").touch()
    with KernelLog(tmp_path / "kmsg") as log:
        reads(monkeypatch, [record("a"), OSError(5, "Input/output error")])
        assert [found.text for found in log.lines()] == ["a"]
        assert "not watched to the end: Input/output error" in log.problem
        assert log.lines() == []
