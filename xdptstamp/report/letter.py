# SPDX-License-Identifier: GPL-2.0-only
"""A report as the text of a mail, or of a series' cover letter: Markdown that reads as plain text.

ASCII lines of at most 72 columns; only a longer word of a command stands out. The tables are those
of ``show``, in fences, so that neither a mail reader nor a renderer moves a column.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from xdptstamp.report.recomputed import Recomputed
from xdptstamp.report.reported import Reported, commands
from xdptstamp.runinfo import RunInfo
from xdptstamp.text.details import made_pairs, missing_pairs
from xdptstamp.text.intervals import interval_lines
from xdptstamp.text.lines import WIDTH, ascii_text, pair, stamp_words, wrap
from xdptstamp.text.mixed import book_lines, mixed_header_pairs, sample_lines
from xdptstamp.text.mixed_tables import bandwidth_lines, hold_lines, timestamp_lines
from xdptstamp.text.summary import (
    count_lines,
    counter_lines,
    header_pairs,
    stamp_lines,
    warning_lines,
)
from xdptstamp.text.truth import truth_lines

# What Markdown would take for markup in a heading.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def letter_lines(reported: Reported) -> Iterator[str]:
    """The letter, a line at a time."""
    has_name = len(reported.runs) > 1
    for number, (name, run) in enumerate(zip(reported.names, reported.runs, strict=True)):
        if number:
            yield ""
        yield from _run(name if has_name else "", run)


def _run(name: str, run: Recomputed) -> Iterator[str]:
    info = run.run.info
    title = f"xdptstamp {info.kind}: {stamp_words(info.timestamps)}"
    yield from _heading(f"{name}, {title}" if name else title, "=")
    yield ""
    if not info.is_trusted:
        yield from ("NOT TO BE TRUSTED: see the doubts marked UNTRUSTED.", "")
    pairs = [
        *(mixed_header_pairs(info, run.rounds) if run.rounds else header_pairs(info)),
        *made_pairs(info),
        *missing_pairs(info, has_samples=run.has_samples, has_rounds=bool(run.rounds)),
    ]
    blocks = [
        ("What ran, and where", [line for key, value in pairs for line in pair(key, value)]),
        *_tables(run),
        ("Doubts", [line for warning in info.warnings for line in warning_lines(warning)]),
        ("How to reproduce", _steps(info)),
    ]
    for heading, lines in blocks:
        if lines:
            yield from _heading(heading, "-")
            yield from ("", *_fenced(lines), "")


# What to do, and the command below it, to be copied: it goes on behind a backslash, and only a
# longer word stands out.
def _steps(info: RunInfo) -> list[str]:
    lines = []
    for what, command in commands(info):
        lines += [f"{what}:", "  " + ascii_text(shlex.quote(command[0]))]
        for word in (ascii_text(shlex.quote(each)) for each in command[1:]):
            if len(lines[-1]) + 1 + len(word) + 2 <= WIDTH:
                lines[-1] += f" {word}"
            else:
                lines[-1] += " \\"
                lines.append(f"    {word}")
    return lines


# `#` at the start of a line is a comment to the editors of mails and commits.
def _heading(text: str, line: str) -> Iterator[str]:
    lines = [_plain(each) for each in wrap(text)]
    yield from (*lines, line * max(3, len(lines[-1])))


def _tables(run: Recomputed) -> Iterator[tuple[str, Sequence[str]]]:
    info = run.run.info
    if run.rounds:
        yield "Bandwidth", bandwidth_lines(info, run.settings, run.rounds)
        yield "Timestamps: counts and causes", timestamp_lines(info, run.settings, run.rounds)
        yield "Hold time", hold_lines(info, run.settings, run.rounds)
        yield "Packets", [*book_lines(run.settings, run.rounds), *sample_lines(run.summary)]
    else:
        yield "Packets", count_lines(info)
        yield "Timestamps: counts and causes", stamp_lines(info, run.summary)
        yield "Counters", counter_lines(info)
    if run.summary.num_samples or not run.rounds:
        yield "Latencies", interval_lines(info, run.summary, run.spreads)
    if run.truth is not None:
        yield "Truth", truth_lines(run.truth)


# A fence longer than any in the text: no line of a run can end it.
def _fenced(lines: Iterable[str]) -> list[str]:
    inner = [ascii_text(line) for text in lines for line in text.split("\n")]
    longest = max((len(found) for found in re.findall("`+", "\n".join(inner))), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, *inner, fence]


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", ascii_text(text))
