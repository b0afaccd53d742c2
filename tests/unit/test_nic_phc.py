# SPDX-License-Identifier: GPL-2.0-only
"""A PTP hardware clock without one: arithmetic and messages."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xdptstamp import phc
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.phc import Phc, clock_id


@pytest.mark.parametrize(("fd", "expected"), [(0, -5), (3, -29), (255, -2045)])
def test_the_clock_id_is_that_of_the_kernels_macro(fd: int, expected: int) -> None:
    # FD_TO_CLOCKID(fd) of tools/testing/selftests/ptp/testptp.c: (~fd << 3) | 3, as 32 bits.
    assert clock_id(fd) == expected
    assert clock_id(fd) % (1 << 32) == (((~fd % (1 << 32)) << 3) | 3) % (1 << 32)


def test_a_missing_clock_is_answered_with_those_there_are() -> None:
    there = ", ".join(sorted(str(path) for path in Path("/dev").glob("ptp[0-9]*"))) or "none"
    with pytest.raises(SetupError) as caught:
        Phc(987)
    assert str(caught.value) == f"/dev/ptp987: no such PTP hardware clock; there are: {there}"


def test_a_device_that_is_no_clock_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(phc, "Path", lambda path: Path("/dev/null"))
    with Phc(0) as clock, pytest.raises(SystemCallError) as caught:
        clock.now_ns()
    assert caught.value.errno == errno.EINVAL
    assert str(caught.value).startswith("clock_gettime failed on /dev/null: Invalid argument. Is")


def test_a_clock_that_may_not_be_opened_is_answered_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SetupError, match="/dev/ptp0: may not be opened: give this user read"):
        Phc(0)


def test_closing_twice_closes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phc, "Path", lambda path: Path("/dev/null"))
    clock = Phc(0)
    clock.close()
    fd = os.open("/dev/null", os.O_RDONLY)  # takes the number that was freed
    clock.close()
    os.close(fd)  # EBADF if the clock had closed it


def test_the_clock_read_is_that_of_the_open_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phc, "Path", lambda path: Path("/dev/null"))
    asked: list[int] = []
    monkeypatch.setattr(phc.time, "clock_gettime_ns", lambda clock: asked.append(clock) or 7)
    with Phc(0) as clock:
        assert clock.now_ns() == 7
        assert asked == [clock_id(clock._fd)]
