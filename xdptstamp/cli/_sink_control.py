# SPDX-License-Identifier: GPL-2.0-only
"""``sink --control``: requests are lines of standard input, and its end is the sink's."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdptstamp.cli._sink_output import SinkOutput
    from xdptstamp.measure.sink import Sink

_FORGET = re.compile(r"forget ([0-9]{1,10})", re.ASCII)
_MAX_LINE = 4096
_STDIN = 0


class Control:
    """Answers one side, while the sink takes packets from the other."""

    def __init__(self, sink: Sink, output: SinkOutput) -> None:
        self._sink = sink
        self._output = output
        self._read = b""

    def fileno(self) -> int:
        """Standard input."""
        return _STDIN

    def serve(self) -> str | None:
        """Answer every whole line there is; returns why to end, or None."""
        data = os.read(self.fileno(), _MAX_LINE)
        if not data:
            return "stdin closed"
        *lines, self._read = (self._read + data).split(b"\n")
        self._read = self._read[:_MAX_LINE]  # a line without end is not kept
        for line in lines:
            self._answer(line.decode(errors="replace").strip())
        return None

    def _answer(self, request: str) -> None:
        forget = _FORGET.fullmatch(request)
        if request == "report":
            self._output.report(self._sink.report())
        elif forget is not None:
            self._sink.books.forget(int(forget[1]))
        else:
            self._output.refuse(f"{request[:40]!r} is neither 'report' nor 'forget STREAM'")
