# SPDX-License-Identifier: GPL-2.0-only
"""Findings as lines of text: a word, what it is about, what was found, what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator

from xdptstamp.assess import Conclusion
from xdptstamp.finding import Finding, Section, Verdict
from xdptstamp.text.lines import ascii_text

#: Lines longer than this are hard to read.
MAX_WIDTH = 120
_MIN_WIDTH = 60

_KINDS = {
    "hardware": "HARDWARE timestamps (zero-copy mode)",
    "software": "SOFTWARE timestamps (copy mode)",
    "none": "NO TIMESTAMPS (zero-copy mode); SOFTWARE ones with --mode copy",
    None: "timestamps that only trying tells the kind of",
}
_GAP = "  "
_WORD_WIDTH = max(map(len, Verdict))


def caps_lines(
    sections: Iterable[Section],
    conclusion: str,
    width: int,
    paint: Callable[[str, Verdict], str],
) -> Iterator[str]:
    """Everything, in at most ``width`` columns.

    :param conclusion: the last line, from :func:`conclusion_text`.
    :param paint: gives a word the colour of its verdict.
    """
    sections = tuple(sections)
    width = min(max(width, _MIN_WIDTH), MAX_WIDTH)
    titles = [finding.title for section in sections for finding in section.findings]
    title_width = max(map(len, titles), default=0)
    for section in sections:
        yield ascii_text(section.title)
        for finding in section.findings:
            yield from _finding_lines(finding, title_width, width, paint)
        yield ""
    yield from textwrap.wrap(ascii_text(conclusion), width)


def _finding_lines(
    finding: Finding, title_width: int, width: int, paint: Callable[[str, Verdict], str]
) -> Iterator[str]:
    verdict = finding.verdict
    word = paint(verdict, verdict) + " " * (_WORD_WIDTH - len(verdict))
    heads = [f"{_GAP}{word}{_GAP}{ascii_text(finding.title):<{title_width}}{_GAP}"]
    indent = " " * (len(_GAP) * 3 + _WORD_WIDTH + title_width)
    texts = _wrap(finding.text, width - len(indent))
    if finding.source:
        texts += _wrap(f"({finding.source})", width - len(indent))
    if finding.advice:
        first, *rest = _wrap(finding.advice, width - len(indent) - 3)
        texts += [f"-> {first}", *(f"   {line}" for line in rest)]
    for head, text in zip([*heads, *[indent] * (len(texts) - 1)], texts, strict=True):
        yield head + text


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(ascii_text(text), width, break_on_hyphens=False, break_long_words=False)


def conclusion_text(conclusion: Conclusion, ifname: str | None) -> str:
    """The conclusion in a sentence or two."""
    counts = [(conclusion.num_doubts, "doubt"), (conclusion.num_lacks, "lack")]
    words = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    tail = f" {' and '.join(words).capitalize()}." if words else ""
    return f"{_result(conclusion, ifname)}{tail}".strip()


def _result(conclusion: Conclusion, ifname: str | None) -> str:
    where = f" on {ifname}" if ifname else ""
    blocked = f"No run{where} before this is mended: {', '.join(conclusion.blocked_by)}"
    if ifname is None:
        return f"{blocked}." if conclusion.blocked_by else ""
    kind = _KINDS[conclusion.timestamps]
    return f"{blocked}; then {kind}." if conclusion.blocked_by else f"A run{where} gets {kind}."
