# SPDX-License-Identifier: GPL-2.0-only
"""The text a ``mixed`` run ends with: a header and three tables that can be pasted in a mail."""

from __future__ import annotations

from collections.abc import Sequence

from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import RunInfo
from xdptstamp.stats import Summary
from xdptstamp.text.summary import format_summary


def format_mixed(
    info: RunInfo, settings: Sequence[Setting], rounds: Sequence[Round], summary: Summary
) -> list[str]:
    """The final text of a ``mixed`` run.

    :return: ASCII lines of at most 72 columns; only a longer path stands whole on a line.
    """
    return format_summary(info, summary)
