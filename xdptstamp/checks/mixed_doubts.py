# SPDX-License-Identifier: GPL-2.0-only
"""What is doubtful about a ``mixed`` run without anybody asking."""

from __future__ import annotations

from collections.abc import Sequence

from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import RunInfo, Warning


def mixed_warnings(
    info: RunInfo, settings: Sequence[Setting], rounds: Sequence[Round]
) -> list[Warning]:
    """Everything doubtful that the rounds show, and that ``info.warnings`` lacks."""
    return []
