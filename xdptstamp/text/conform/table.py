# SPDX-License-Identifier: GPL-2.0-only
"""A row for each case as it ends; then in full what is wrong, and a line of counts.

Plain ASCII, the same on a terminal and in a file, at most :data:`~xdptstamp.text.lines.WIDTH`
columns; only a longer command stands whole on a line, to be copied.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdptstamp.conformance import CaseResult, Conformance
from xdptstamp.text.conform.words import (
    OUTCOME_WORDS,
    count_words,
    finding_pairs,
    is_finding,
)
from xdptstamp.text.lines import WIDTH, ascii_text, pair, path_lines, stamp_words, wrap, write_lines

_KEY_WIDTH, _OUTCOME_WIDTH = 28, 11


class TableOutput:
    """``--format table``.

    :param is_strict: a known fault is a failure.
    """

    def __init__(self, *, is_strict: bool = False) -> None:
        self._is_strict = is_strict
        self._num = 0
        self._group: str | None = None

    def begin(self, conformance: Conformance, num: int) -> None:
        """Write where this is, and which kind of timestamps it is about."""
        self._num = num
        stamps = stamp_words("hardware" if conformance.mode == "zero-copy" else "software")
        lines = [f"xdptstamp conform: {stamps}"]
        lines += pair("interface", f"{conformance.ifname}, driver {conformance.driver}")
        lines += pair("mode", conformance.mode)
        lines += pair("kernel", conformance.kernel)
        lines += pair("time", f"from {conformance.started_utc}")
        write_lines(lines)

    def line(self, result: CaseResult) -> None:
        """Write the row of a case, below the name of its group."""
        lines: list[str] = []
        if result.rule.group != self._group:
            self._group = result.rule.group
            lines = ["", *wrap(self._group)]
        write_lines([*lines, *_row(result)])

    def end(self, conformance: Conformance) -> None:
        """Write the findings and the counts."""
        lines = [
            line
            for result in conformance.results
            if is_finding(result)
            for line in finding_lines(conformance, result)
        ]
        notes = [line for note in conformance.notes for line in pair("note", note)]
        lines += ["", *notes] if notes else []
        write_lines([*lines, "", *wrap(self._verdict(conformance), "", "  ")])

    def _verdict(self, conformance: Conformance) -> str:
        done = f"{len(conformance.results)} of {self._num} cases"
        if conformance.ended_by is not None:
            done = f"ENDED by {conformance.ended_by}: {done}"
        text = f"{done}: {count_words(conformance)}"
        is_hidden = self._is_strict and conformance.counts()["known-fault"]
        return f"{text} (strict: a known fault is a failure)" if is_hidden else text


def finding_lines(conformance: Conformance, result: CaseResult) -> list[str]:
    """A finding in full, after a blank line."""
    rule = result.rule
    lines = ["", *wrap(f"{OUTCOME_WORDS[result.outcome]}: {rule.key}: {rule.title}", "", "  ")]
    for what, text in finding_pairs(conformance.mode, result):
        lines += pair(what, text)
    if result.figures:
        figures = (f"{name}={value}" for name, value in result.figures.items())
        lines += pair("figures", ", ".join(figures))
    if result.kernel_log:
        lines.append("kernel log")
        lines += [line for text in result.kernel_log for line in wrap(text, "  ", "    ")]
    return lines + path_lines("reproduce", conformance.reproduce(result))


def _row(result: CaseResult) -> Iterator[str]:
    key = ascii_text(result.rule.key)
    if len(key) > _KEY_WIDTH:
        yield from wrap(key, "  ", "    ")
        key = ""
    head = f"  {key:<{_KEY_WIDTH}} {OUTCOME_WORDS[result.outcome]:<{_OUTCOME_WIDTH}}"
    seen = ascii_text(result.seen).strip()
    if len(head) + 2 + len(seen) <= WIDTH:
        yield f"{head}  {seen}".rstrip()
        return
    yield head.rstrip()
    yield from wrap(seen, " " * 6)
