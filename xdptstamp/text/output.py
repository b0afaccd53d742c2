# SPDX-License-Identifier: GPL-2.0-only
"""Where a run's text goes while it runs: results on stdout, everything about them on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

# A command line takes FORMATS from here for its help: nothing imported for it may load NumPy.
from xdptstamp.runinfo import RunInfo

if TYPE_CHECKING:
    from xdptstamp.sample import Batch
    from xdptstamp.stats import Summary
    from xdptstamp.store.guarded_output import Output

#: The names ``--format`` takes.
FORMATS = ("table", "hwmeta", "jsonl")


def open_output(name: str, *, is_quiet: bool) -> Output:
    """The output for a ``--format`` name.

    :param is_quiet: Write nothing to stdout and no progress, whatever the format. Only the
        warnings that make the run untrusted are left, on stderr: they explain exit code 3.
    :raises ValueError: If no format has that name.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; known: {', '.join(FORMATS)}")
    if is_quiet:
        return _QuietOutput()
    if name == "jsonl":
        from xdptstamp.text.jsonl import JsonlOutput

        return JsonlOutput()
    if name == "hwmeta":
        from xdptstamp.text.hwmeta import HwmetaOutput

        return HwmetaOutput()
    from xdptstamp.text.table import open_table

    return open_table()


class _QuietOutput:
    def start(self, info: RunInfo) -> None:
        pass

    def batch(self, batch: Batch, summary: Summary, status: dict[str, int]) -> None:
        pass

    def tick(self, summary: Summary, status: dict[str, int]) -> None:
        pass

    def end(self, info: RunInfo, summary: Summary) -> None:
        from xdptstamp.text.lines import write_lines
        from xdptstamp.text.summary import warning_lines

        for warning in info.warnings:
            if warning.is_untrusted:
                write_lines(warning_lines(warning), sys.stderr)
