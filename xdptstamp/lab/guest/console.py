# SPDX-License-Identifier: GPL-2.0-only
"""What to show of a guest's console once the guest is gone."""

from __future__ import annotations

import re

_NUM_LINES = 40
#: From where its kernel began to end; its traces have no greatest length, a console may.
_MAX_LINES = 200
# Lockups that are told of as a BUG are common on an emulated CPU, and end nothing.
_END_BEGINS = re.compile(
    r"\bBUG: (?!soft lockup|workqueue)|kernel BUG at|\bOops\b|general protection fault|"
    r"Kernel panic|sysrq: Trigger a crash"
)
_HANG_TOLD = "sysrq: Show Blocked State"


def last_lines(console: str) -> list[str]:
    """The end of it: some 40 lines, or all from the one by which the kernel's end begins.

    Of more than 200 those in the middle are left out.
    """
    lines = console.rstrip().splitlines()
    some = max(len(lines) - _NUM_LINES, 0)
    begins = (number for number, line in enumerate(lines[:some]) if _END_BEGINS.search(line))
    found = lines[next(begins, some) :]
    if len(found) <= _MAX_LINES:
        return found
    return [*found[: _MAX_LINES - _NUM_LINES], "...", *found[-_NUM_LINES:]]


def lines_of_a_hang(console: str) -> list[str]:
    """All that the kernel said when it was asked where it hangs, and the last lines before that."""
    before, mark, after = console.rpartition(_HANG_TOLD)
    if not mark:
        return last_lines(console)
    *lines, stamp = before.split("\n")
    return [*last_lines("\n".join(lines)), *(stamp + mark + after).rstrip().splitlines()]
