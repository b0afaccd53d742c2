# SPDX-License-Identifier: GPL-2.0-only
"""Several results side by side in Markdown: a row for each case, a column for each run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from xdptstamp.conformance import CaseResult, Conformance, Rule
from xdptstamp.text.conform.words import OUTCOME_WORDS, count_words, finding_pairs, is_finding

_NO_RULE, _NOT_RUN = "-", "not run"


def matrix_lines(conformances: Sequence[Conformance]) -> list[str]:
    """The matrix, what each run is, the findings and why cases were skipped.

    :return: lines of Markdown; the first heading is of the second level.
    """
    titles = _titles(conformances)
    lines = ["## Cases", "", *_matrix(conformances, titles)]
    lines += ["", "## Runs", "", *_runs(conformances, titles)]
    lines += ["", "## Findings"]
    found = [
        line
        for title, conformance in zip(titles, conformances, strict=True)
        for result in conformance.results
        if is_finding(result)
        for line in _finding(title, conformance, result)
    ]
    lines += found or ["", "None."]
    skipped = list(_skipped(conformances, titles))
    return lines + (["", "## Skipped", "", *skipped] if skipped else [])


# `igc zero-copy 7.3.4`; runs that are alike in this get a number.
def _titles(conformances: Sequence[Conformance]) -> list[str]:
    seen: Counter[str] = Counter()
    titles = []
    for each in conformances:
        numbers = re.match(r"\d+(\.\d+)*", each.kernel)
        release = numbers[0] if numbers else each.kernel
        title = f"{each.driver} {each.mode} {release}"
        seen[title] += 1
        titles.append(title if seen[title] == 1 else f"{title} ({seen[title]})")
    return titles


def _matrix(conformances: Sequence[Conformance], titles: Sequence[str]) -> Iterator[str]:
    yield _row(["case", *map(_text, titles)])
    yield _row(["---"] * (1 + len(titles)))
    by_key = [{result.rule.key: result for result in each.results} for each in conformances]
    for group, rules in _groups(conformances).items():
        yield _row([f"**{_text(group)}**", *([""] * len(titles))])
        for rule in rules:
            cells = (
                _cell(rule, each, results.get(rule.key))
                for each, results in zip(conformances, by_key, strict=True)
            )
            yield _row([_code(rule.key), *cells])


# In the order in which they were met first.
def _groups(conformances: Sequence[Conformance]) -> dict[str, list[Rule]]:
    rules = {result.rule.key: result.rule for each in conformances for result in each.results}
    groups: dict[str, list[Rule]] = {}
    for rule in rules.values():
        groups.setdefault(rule.group, []).append(rule)
    return groups


def _cell(rule: Rule, conformance: Conformance, result: CaseResult | None) -> str:
    if result is None:
        return _NOT_RUN if conformance.mode in rule.expected else _NO_RULE
    word = OUTCOME_WORDS[result.outcome]
    return f"**{word}**" if result.outcome == "fail" else word


def _runs(conformances: Sequence[Conformance], titles: Sequence[str]) -> Iterator[str]:
    yield _row(["run", "interface", "kernel", "began", "outcomes"])
    yield _row(["---"] * 5)
    for title, each in zip(titles, conformances, strict=True):
        outcomes = count_words(each)
        if each.ended_by is not None:
            outcomes += f"; ENDED by {each.ended_by}"
        values = [title, each.ifname, each.kernel, each.started_utc, outcomes]
        yield _row([_text(value) for value in values])
    yield ""
    yield f"`{_NO_RULE}`: there is no such rule in that mode; `{_NOT_RUN}`: that run left it out."


def _finding(title: str, conformance: Conformance, result: CaseResult) -> Iterator[str]:
    word = OUTCOME_WORDS[result.outcome]
    yield ""
    yield f"### {_text(title)}: {_code(result.rule.key)}: {word}"
    yield ""
    yield f"- case: {_text(result.rule.title)}"
    for what, text in finding_pairs(conformance.mode, result):
        yield f"- {what}: {_text(text)}"
    if result.figures:
        figures = ", ".join(f"{name}={value}" for name, value in result.figures.items())
        yield f"- figures: {_code(figures)}"
    yield from (f"- kernel log: {_code(line)}" for line in result.kernel_log)
    yield f"- reproduce: {_code(conformance.reproduce(result))}"


# Cases that one run skipped for one reason stand together.
def _skipped(conformances: Sequence[Conformance], titles: Sequence[str]) -> Iterator[str]:
    for title, each in zip(titles, conformances, strict=True):
        by_reason: dict[str, list[str]] = {}
        for result in each.results:
            if result.outcome == "skip":
                by_reason.setdefault(result.seen, []).append(_code(result.rule.key))
        for reason, keys in by_reason.items():
            yield f"- {', '.join(keys)} of {_text(title)}: {_text(reason)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# Text that means nothing to Markdown; an underscore within a word does not.
def _text(text: str) -> str:
    flat = _one_line(text)
    flat = re.sub(r"([\\`*<>\[\]|~&])", r"\\\1", flat)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", flat)


# A code span: its fence is longer than any row of backticks within.
def _code(text: str) -> str:
    flat = _one_line(text)
    longest = max((len(ticks) for ticks in re.findall(r"`+", flat)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def _one_line(text: str) -> str:
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
    return shown.strip()
