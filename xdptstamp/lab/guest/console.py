# SPDX-License-Identifier: GPL-2.0-only
"""What to show of a guest's console once the guest is gone."""

from __future__ import annotations

import re

_NUM_LINES = 40
#: From where its kernel began to end; its traces have no greatest length, a console may.
_MAX_LINES = 200
_END_BEGINS = re.compile(r"\bBUG: |\bOops: |Kernel panic|sysrq: Trigger a crash")


def last_lines(console: str) -> list[str]:
    """The end of it: some 40 lines, or all from the one by which the kernel's end begins."""
    lines = console.rstrip().splitlines()
    some = max(len(lines) - _NUM_LINES, 0)
    begins = (number for number, line in enumerate(lines[:some]) if _END_BEGINS.search(line))
    first = next(begins, some)
    return lines[first : first + _MAX_LINES]
