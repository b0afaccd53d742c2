# SPDX-License-Identifier: GPL-2.0-only
"""What ``mixed`` prints: progress on stderr, its tables or JSON lines on stdout.

It prints between two measurements and at the end, never beside one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from xdptstamp.cli.session import OUTPUT_CLOSED, ResultOptions
from xdptstamp.errors import SetupError
from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import RunInfo
from xdptstamp.stats import Summary
from xdptstamp.store.rounds import rounds_json
from xdptstamp.text.lines import write_lines
from xdptstamp.text.mixed import format_mixed
from xdptstamp.text.summary import warning_lines


class MixedOutput:
    """``--format table`` or ``jsonl``, or with ``--quiet`` what makes the run untrusted alone.

    :ivar reason_to_end: nobody reads it any more, or it cannot be written; from then on nothing is.
    :ivar failure: why it cannot be written; a reader that went away is none.
    """

    def __init__(self, options: ResultOptions, info: RunInfo, settings: Sequence[Setting]) -> None:
        self._options = options
        self._info = info
        self._settings = settings
        self._rounds: list[Round] = []
        self.reason_to_end: str | None = None
        self.failure: SetupError | None = None
        self._is_jsonl = options.format == "jsonl" and not options.is_quiet

    def start(self) -> None:
        """What was obtained is known."""
        if self._is_jsonl:
            self._dump({"type": "start", "info": self._info.to_json()})

    def round(self, each: Round) -> None:
        """A setting was measured."""
        self._rounds.append(each)
        if self._is_jsonl:
            data = rounds_json(self._settings, [each])["rounds"][0]
            self._dump({"type": "round", **data})
        elif sys.stderr.isatty() and not self._options.is_quiet and not each.is_warmup:
            setting = self._settings[each.setting]
            self._write(
                [
                    f"round {each.round + 1} of {self._info.obtained['rounds']}: "
                    f"{setting.size_bytes} B {setting.ratio} {each.pps / 1e6:.3f} Mpps"
                ],
                sys.stderr,
            )

    def end(self, summary: Summary, path: Path) -> None:
        """Everything is recorded.

        :param path: the run folder.
        """
        info = self._info
        info.obtained.setdefault("run_dir", str(path))
        if self._options.is_quiet:
            untrusted = [warning for warning in info.warnings if warning.is_untrusted]
            self._write(
                [line for warning in untrusted for line in warning_lines(warning)], sys.stderr
            )
        elif self._is_jsonl:
            self._dump({"type": "end", "info": info.to_json()})
            for warning in info.warnings:
                self._write(warning_lines(warning), sys.stderr)
        else:
            self._write(format_mixed(info, self._settings, self._rounds, summary))

    def _dump(self, data: dict[str, Any]) -> None:
        self._write([json.dumps(data)])

    def _write(self, lines: Iterable[str], stream: TextIO | None = None) -> None:
        # Nothing that is wrong with a reader stops the recording; but who measures for nobody ends.
        if self.reason_to_end is not None:
            return
        target = stream or sys.stdout
        try:
            write_lines(lines, target)
        except OSError as error:
            self.reason_to_end = OUTPUT_CLOSED
            if not isinstance(error, BrokenPipeError):
                why = f"cannot be written: {error.strerror}; the run folder has what was measured"
                self.failure = SetupError("the text output", why)
                self.reason_to_end = str(self.failure)
            # What is still in its buffer is not tried again when the interpreter ends.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), target.fileno())
