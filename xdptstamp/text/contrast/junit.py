# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as JUnit XML: a test suite a pair.

What is slower is no failure by itself: only a ``--fail-if`` says what is too slow. Each of these is
a test case, failed where it is missed, has no value or, unless the user lets that pass, cannot be
told. Each figure is one as well, passed, or skipped where the runs do not tell; and a run that is
not to be trusted fails one.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from xdptstamp.contrast import Change, Contrast, LimitResult, Pair, Word
from xdptstamp.text.contrast.words import (
    change_text,
    limit_text,
    number,
    overall,
    unit_of,
    verdict_text,
)
from xdptstamp.text.xml import add, ascii_xml, clean, element

_UNSURE = {Word.NOT_ENOUGH, Word.NO_INTERVAL, Word.MISSING}


def junit_text(contrast: Contrast, *, is_unsure_fine: bool = False) -> str:
    """The document.

    :param is_unsure_fine: a ``--fail-if`` that cannot be told is skipped, not failed.
    """
    root = Element("testsuites")
    for pair in contrast.pairs:
        name = f"xdptstamp.compare.{pair.kind}.{pair.letter}"
        cases = list(_cases(name, pair, is_unsure_fine))
        suite = add(root, "testsuite", name=name, tests=str(len(cases)), **_counts(cases))
        properties = add(suite, "properties")
        for key, value in _properties(contrast, pair):
            add(properties, "property", name=key, value=value)
        suite.extend(cases)
        add(suite, "system-out").text = clean(overall(pair, contrast.resolution))
    for text in contrast.unpaired:
        suite = add(root, "testsuite", name="xdptstamp.compare.unpaired", tests="1", skipped="1")
        case = add(suite, "testcase", classname="xdptstamp.compare.unpaired", name=text)
        add(case, "skipped", type="unpaired", message=text)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ascii_xml(text)}'


def _cases(name: str, pair: Pair, is_unsure_fine: bool) -> Iterator[Element]:
    for run in (*pair.base_runs, *pair.runs):
        for doubt in run.doubts:
            case = element("testcase", classname=f"{name}.trust", name=f"{run.run_id} {doubt.key}")
            message = f"{run.run_id} is not to be trusted: {doubt.message}: {doubt.value}"
            add(case, "failure", type="untrusted", message=message)
            yield case
    for limit in pair.limits:
        yield _limit_case(name, pair, limit, is_unsure_fine)
    for change in pair.changes:
        yield _figure_case(name, pair, change)


def _limit_case(name: str, pair: Pair, limit: LimitResult, is_unsure_fine: bool) -> Element:
    title = " ".join(part for part in (limit.text, limit.figure and f"({limit.figure})") if part)
    case = element("testcase", classname=f"{name}.fail-if", name=title)
    message = limit_text(limit, pair)
    if limit.outcome == "inconclusive" and is_unsure_fine:
        add(case, "skipped", type="inconclusive", message=message)
    elif limit.outcome != "met":
        add(case, "failure", type=limit.outcome, message=message)
    return case


def _figure_case(name: str, pair: Pair, change: Change) -> Element:
    figure = change.figure
    case = element("testcase", classname=f"{name}.figures", name=figure.name)
    words = verdict_text(change, pair)
    if change.word in _UNSURE:
        add(case, "skipped", type=str(change.word).replace(" ", "-"), message=words)
    factor, unit = unit_of(figure, change.value if change.base is None else change.base)
    sides = ", ".join(
        f"{letter} {number(value, factor)} {unit}".rstrip()
        for letter, value in (("A", change.base), (pair.letter, change.value))
    )
    of = {"relative": "%", "points": "percentage points"}.get(figure.scale, unit)
    change_words = (
        f", change in {of} [95 %] {change_text(change)}" if change.point is not None else ""
    )
    add(case, "system-out").text = clean(f"{words}: {sides}{change_words}")
    return case


def _counts(cases: list[Element]) -> dict[str, str]:
    tags = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    return {name: str(sum(case.find(tag) is not None for case in cases)) for name, tag in tags}


def _properties(contrast: Contrast, pair: Pair) -> Iterator[tuple[str, str]]:
    for side in contrast.sides:
        if side.letter in ("A", pair.letter):
            yield f"side.{side.letter}", side.name
    yield "this-boot-only", str(pair.design == "one").lower()
    yield from ((f"key.{name}", value) for name, value in pair.keys.items())
    for letter, runs in (("A", pair.base_runs), (pair.letter, pair.runs)):
        yield from ((f"run.{letter}", run.run_id) for run in runs)
