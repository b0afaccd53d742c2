# SPDX-License-Identifier: GPL-2.0-only
"""The table: live on a terminal, without one plain lines at the end and some progress on stderr.

The final text is the same in both cases: :func:`format_summary`.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import SAMPLE_DTYPE, Batch
from xdptstamp.stats import Summary
from xdptstamp.text.lines import wrap, write_lines
from xdptstamp.text.packets import PacketView, keep_first, packet_view
from xdptstamp.text.summary import format_summary

if TYPE_CHECKING:
    from xdptstamp.store.guarded_output import Output

__all__ = ["PlainTable", "format_summary", "open_table", "progress_lines"]

_PROGRESS_NS = 10_000_000_000


def open_table() -> Output:
    """The live table where stdout is a terminal that can move its cursor, else the plain one."""
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if not is_terminal:
        return PlainTable()
    from xdptstamp.text.live import LiveTable  # rich is slow to import, and not needed without

    return LiveTable()


class PlainTable:
    """``--format table`` into a pipe or a file."""

    def __init__(self) -> None:
        self._info: RunInfo | None = None
        self._first = np.empty(0, dtype=SAMPLE_DTYPE)
        self._start_ns = self._last_ns = time.monotonic_ns()

    def start(self, info: RunInfo) -> None:
        """Start the clock of the progress lines."""
        self._info = info
        self._start_ns = self._last_ns = time.monotonic_ns()

    def batch(self, batch: Batch, summary: Summary, status: dict[str, int]) -> None:
        """Keep the first stamped packets for the end."""
        self._first = keep_first(self._first, batch, self._view)

    def tick(self, summary: Summary, status: dict[str, int]) -> None:
        """Write a progress line to stderr every 10 s."""
        now_ns = time.monotonic_ns()
        if now_ns - self._last_ns >= _PROGRESS_NS:
            self._last_ns = now_ns
            seconds = (now_ns - self._start_ns) // 1_000_000_000
            timestamps = self._info.timestamps if self._info else "none"
            write_lines(progress_lines(seconds, timestamps, summary), sys.stderr)

    def end(self, info: RunInfo, summary: Summary) -> None:
        """Write the final text."""
        write_lines(format_summary(info, summary, self._first))

    @property
    def _view(self) -> PacketView:
        assert self._info is not None, "start() comes first"
        return packet_view(self._info.kind, self._info.timestamps)


def progress_lines(seconds: int, timestamps: str, summary: Summary) -> list[str]:
    """The progress: one line, or two where huge counts need them."""
    parts = [f"{seconds:,} s", f"{summary.num_samples:,} packets"]
    if timestamps != "none":
        parts.append(f"{summary.num_stamped:,} {timestamps.upper()} timestamps")
    parts.append(f"{summary.num_missing:,} missing")
    return wrap(f"xdptstamp: {', '.join(parts)}", "", "  ")
