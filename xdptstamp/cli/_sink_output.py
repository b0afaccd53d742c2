# SPDX-License-Identifier: GPL-2.0-only
"""What a sink prints: a table at its end, or JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from xdptstamp.kernellog import KernelLine, kernel_log_warnings
from xdptstamp.runinfo import Warning
from xdptstamp.text.lines import book, wrap, write_lines
from xdptstamp.text.summary import warning_lines

if TYPE_CHECKING:
    from xdptstamp.measure.sink_report import SinkReport, StreamCounts

# Streams a table shows: the last ones.
_NUM_STREAMS = 20
_TITLES = ("received", "missing", "reordered", "duplicates", "corrupted", "pattern")
_WIDTHS = (14, 11, 10, 11, 10, 8)
_ID_WIDTH = 8

_NOTE = (
    "missing: numbers never seen up to the greatest that came; pattern: requests for a timestamp "
    "that break the pattern of their stream"
)


class SinkOutput(Protocol):
    """Where a sink's results go."""

    def ready(self, obtained: Mapping[str, Any]) -> None:
        """Packets are taken from now on."""

    def report(self, report: SinkReport) -> None:
        """The counts so far."""

    def refuse(self, message: str) -> None:
        """A request was not understood."""

    def end(self, report: SinkReport, ended_by: str, warnings: Sequence[Warning]) -> None:
        """The last counts, and what makes them doubtful."""


def open_sink_output(name: str) -> SinkOutput:
    """The output for a ``--format`` name: table or jsonl."""
    return JsonlSink() if name == "jsonl" else TableSink()


class JsonlSink:
    """``--format jsonl``: one object a line, told apart by ``type``."""

    def ready(self, obtained: Mapping[str, Any]) -> None:
        """See :meth:`SinkOutput.ready`."""
        self._write("ready", obtained)

    def report(self, report: SinkReport) -> None:
        """See :meth:`SinkOutput.report`."""
        self._write("report", report.to_json())

    def refuse(self, message: str) -> None:
        """See :meth:`SinkOutput.refuse`."""
        self._write("error", {"message": message})

    def end(self, report: SinkReport, ended_by: str, warnings: Sequence[Warning]) -> None:
        """See :meth:`SinkOutput.end`; a doubt goes to stderr."""
        self._write("end", {"ended_by": ended_by, **report.to_json()})
        for warning in warnings:
            write_lines(warning_lines(warning), sys.stderr)

    def _write(self, kind: str, data: Mapping[str, Any]) -> None:
        write_lines([json.dumps({"type": kind, **data}, separators=(",", ":"))])


class TableSink:
    """``--format table``: nothing on stdout before the end."""

    def __init__(self) -> None:
        self._title = ""

    def ready(self, obtained: Mapping[str, Any]) -> None:
        """Tell on stderr that it has begun."""
        where = "{ifname}, UDP port {port} ({mode} mode, {xdp_mode} XDP)".format(**obtained)
        self._title = f"xdptstamp sink: {where}"
        write_lines(wrap(f"{self._title} is ready"), sys.stderr)

    def report(self, report: SinkReport) -> None:
        """Nobody can ask for one."""

    def refuse(self, message: str) -> None:
        """Nobody can ask for anything."""

    def end(self, report: SinkReport, ended_by: str, warnings: Sequence[Warning]) -> None:
        """Write the table."""
        lines = [*wrap(self._title), *wrap(f"ended by {ended_by}"), "", *_stream_lines(report)]
        lines += ["", *book(_ring_rows(report))]
        for warning in warnings:
            lines += ["", *warning_lines(warning)]
        write_lines(lines)


def _stream_lines(report: SinkReport) -> list[str]:
    if not report.streams:
        return ["no packet of any stream came"]
    streams = list(report.streams.items())
    lines = [_row("stream", _TITLES)]
    for stream_id, counts in streams[-_NUM_STREAMS:]:
        lines += _stream_line(stream_id, counts)
    if len(streams) > _NUM_STREAMS:
        lines.append(f"  ({len(streams) - _NUM_STREAMS} streams before these: --format jsonl)")
    return [*lines, *wrap(f"({_NOTE})", "  ")]


def _stream_line(stream_id: int, counts: StreamCounts) -> list[str]:
    values = [
        counts.received,
        counts.missing,
        counts.reordered,
        counts.duplicates,
        counts.corrupted,
        counts.pattern_errors,
    ]
    texts = [f"{value:,}" for value in values]
    name = f"{stream_id:08x}"
    late = [f"  {counts.too_late:,} too late to tell from duplicates"] if counts.too_late else []
    if all(len(text) < width for text, width in zip(texts, _WIDTHS, strict=True)):
        return [_row(name, texts), *late]
    pairs = " ".join(f"{title}={text}" for title, text in zip(_TITLES, texts, strict=True))
    return [*wrap(f"{name} {pairs}", "", "    "), *late]


def _row(name: str, texts: Sequence[str]) -> str:
    values = (f"{text:>{width}}" for text, width in zip(texts, _WIDTHS, strict=True))
    return f"{name:<{_ID_WIDTH}}{''.join(values)}"


def _ring_rows(report: SinkReport) -> list[tuple[str, int, str]]:
    # What happened on the way to the sink; what seldom happens is named only if it did.
    program, ring = report.program, report.ring
    rows = [
        ("redirected to the sink", program["redirected"], ""),
        ("lost: no free frame", ring["rx_dropped"], "rx_dropped"),
        ("lost: Rx ring full", ring["rx_ring_full"], "rx_ring_full"),
        ("left in the Rx ring", ring["left"], ""),
        ("foreign", report.foreign, "not a packet of a stream"),
    ]
    if program["passed_no_socket"]:
        rows.append(("left to the stack", program["passed_no_socket"], "no socket on the queue"))
    for name, count in program.items():
        if name.startswith("refused_") and count:
            words = name.removeprefix("refused_").replace("_", " ")
            rows.append((f"refused: {words}", count, "left to the stack"))
    return rows


def doubts(report: SinkReport, kernel_lines: list[KernelLine]) -> list[Warning]:
    """What makes the counts doubtful: books that do not add up, a kernel that complains."""
    complaints = kernel_log_warnings([line for line in kernel_lines if line.is_untrusted])
    return [*([_unaccounted(report)] if report.unaccounted else []), *complaints]


def _unaccounted(report: SinkReport) -> Warning:
    return Warning(
        key="sink-unaccounted",
        message="packets are unaccounted for: the sink's counters do not add up",
        value=f"{report.unaccounted:,} packets",
        limit="0",
        advice="do not rely on these counts; receive again",
        is_untrusted=True,
    )
