# SPDX-License-Identifier: GPL-2.0-only
"""The table of a run on a terminal, redrawn while the run goes on."""

from __future__ import annotations

import sys
import time

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import SAMPLE_DTYPE, Batch, Cause
from xdptstamp.stats import Summary
from xdptstamp.text.intervals import QUANTILES, interval_values, shown_intervals
from xdptstamp.text.lines import ascii_text, percent, stamp_words, write_lines
from xdptstamp.text.packets import NUM_PACKETS, keep_first, packet_row, packet_view
from xdptstamp.text.summary import book_rows, format_summary

_REFRESH_NS = 250_000_000


class LiveTable:
    """``--format table`` on a terminal.

    :param console: where to draw; by default stdout.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console
        self._live: Live | None = None
        self._info: RunInfo | None = None
        self._first = np.empty(0, dtype=SAMPLE_DTYPE)
        self._latest = np.empty(0, dtype=SAMPLE_DTYPE)
        self._last_ns = 0

    def start(self, info: RunInfo) -> None:
        """Begin to draw."""
        self._info = info
        self._console = self._console or Console(
            file=sys.stdout, highlight=False, markup=False, emoji=False
        )
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        # rich hides the cursor until stop(); a run whose end() is skipped would leave it hidden.
        self._console.show_cursor(True)

    def batch(self, batch: Batch, summary: Summary, status: dict[str, int]) -> None:
        """Keep the first and the latest packets; the next tick draws."""
        assert self._info is not None, "start() comes first"
        view = packet_view(self._info.kind, self._info.timestamps)
        self._first = keep_first(self._first, batch, view)
        self._latest = np.concatenate([self._latest, batch[-NUM_PACKETS:]])[-NUM_PACKETS:]

    def tick(self, summary: Summary, status: dict[str, int]) -> None:
        """Draw, four times a second."""
        now_ns = time.monotonic_ns()
        if self._live is None or self._info is None or now_ns - self._last_ns < _REFRESH_NS:
            return
        self._last_ns = now_ns
        self._live.update(render(self._info, summary, status, self._latest), refresh=True)

    def end(self, info: RunInfo, summary: Summary) -> None:
        """Take the live table away and write the final text."""
        if self._live is not None:
            self._live.stop()
        write_lines(format_summary(info, summary, self._first))


def render(info: RunInfo, summary: Summary, status: dict[str, int], latest: Batch) -> Group:
    """What the terminal shows while the run goes on; made to fit 80 by 24."""
    words = stamp_words(info.timestamps)
    title = Text(f"xdptstamp {info.kind}  ", style="bold")
    title.append(words, style="bold green" if info.timestamps == "hardware" else "bold yellow")
    if where := _where(info):
        title.append(f"  {where}", style="dim")
    counts = Table.grid(padding=(0, 6))
    counts.add_row(_books_table(info, status), _stamps_table(info, summary))
    return Group(
        title,
        counts,
        _interval_table(info, summary, words),
        *_latest_table(info, latest),
    )


def _where(info: RunInfo) -> str:
    facts = [info.nic.get("ifname"), info.nic.get("driver"), info.obtained.get("mode")]
    if info.obtained.get("xdp_mode"):
        facts.append(f"XDP {info.obtained['xdp_mode']}")
    facts.append(info.partner.get("host") or info.partner.get("address"))
    return ", ".join(ascii_text(fact) for fact in facts if fact)


def _books_table(info: RunInfo, status: dict[str, int]) -> Table:
    table = _new_table("packets", "", "")
    for name, count, share in book_rows(info.kind, dict(status)):
        table.add_row(name, f"{count:,}", share)
    return table


def _stamps_table(info: RunInfo, summary: Summary) -> Table:
    table = _new_table(stamp_words(info.timestamps), "", "")
    stamped = summary.num_stamped
    requested = stamped + summary.num_missing
    if info.kind == "ping":
        table.add_row("packets stamped", f"{stamped:,}", percent(stamped, summary.num_samples))
    elif requested:
        table.add_row("requested", f"{requested:,}", "")
        table.add_row("stamped", f"{stamped:,}", percent(stamped, requested))
    for cause, count in sorted(summary.causes.items()):
        if count:
            style = "red" if cause in (Cause.INVALID, Cause.LOST_BY_DRIVER) else "yellow"
            table.add_row(cause.label, f"{count:,}", percent(count, requested), style=style)
    return table


def _interval_table(info: RunInfo, summary: Summary, words: str) -> Table:
    table = _new_table(f"us, {words}", *(title for title, _ in QUANTILES), "max")
    for name, histogram in shown_intervals(info, summary).items():
        table.add_row(name, *interval_values(histogram))
    return table


def _latest_table(info: RunInfo, latest: Batch) -> list[Table | Text]:
    view = packet_view(info.kind, info.timestamps)
    first, *others = view.titles
    table = _new_table(first, *others)
    for sample in latest:
        table.add_row(*packet_row(view, sample))
    return [table, Text(f"latest packets; {view.note}", style="dim")]


def _new_table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="underline")
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table
