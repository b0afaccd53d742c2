# SPDX-License-Identifier: GPL-2.0-only
"""What is shown of the console of a guest that is gone."""

import pytest

from xdptstamp.lab.guest.console import last_lines, lines_of_a_hang

BOOT = [f"[    0.{number:06}] boot {number}" for number in range(100)]
TRACE = [f"[    4.{number:06}]  function_{number}+0x1a/0x20" for number in range(60)]


def test_a_console_without_a_crash_is_shown_by_its_last_lines():
    assert last_lines("\n".join(BOOT) + "\n\n") == BOOT[-40:]


def test_a_short_console_is_shown_whole():
    assert last_lines("alive\n") == ["alive"]
    assert last_lines("") == []


@pytest.mark.parametrize(
    "line",
    [
        "[    4.0] sysrq: Trigger a crash",
        "[    4.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
        "[    4.0] BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "[    4.0] kernel BUG at net/xdp/xsk.c:123!",
        "[    4.0] Oops: general protection fault, probably for non-canonical address",
    ],
)
def test_a_crash_is_shown_from_its_first_line_on_however_long_its_trace_is(line):
    panic = "[    5.0] Kernel panic - not syncing: Fatal exception in interrupt"
    assert last_lines("\n".join([*BOOT, line, *TRACE, panic])) == [line, *TRACE, panic]


def test_a_crash_among_the_last_lines_takes_none_of_them_away():
    lines = [*BOOT, "Kernel panic - not syncing: x", *TRACE[:20]]
    assert last_lines("\n".join(lines)) == lines[-40:]


def test_of_a_crash_that_goes_on_and_on_beginning_and_end_are_shown():
    lines = ["Oops: 0002 [#1] SMP", *(TRACE * 5)]
    assert last_lines("\n".join(lines)) == [*lines[:160], "...", *lines[-40:]]


def test_what_ends_nothing_is_no_crash():
    lines = [*BOOT, "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!", *TRACE]
    assert last_lines("\n".join(lines)) == lines[-40:]


TOLD = ["[    9.1] sysrq: Show Blocked State", *(TRACE * 9)]


def test_of_a_hang_all_that_was_asked_for_is_shown_and_the_last_lines_before():
    assert lines_of_a_hang("\n".join([*BOOT, *TOLD]) + "\n") == [*BOOT[-40:], *TOLD]


def test_of_a_hang_after_a_crash_both_are_shown():
    lines = ["Oops: 0002 [#1] SMP", *TRACE, *TOLD]
    assert lines_of_a_hang("\n".join([*BOOT, *lines])) == lines


def test_of_a_hang_that_could_not_be_asked_the_last_lines_are_shown():
    assert lines_of_a_hang("\n".join(BOOT)) == BOOT[-40:]
