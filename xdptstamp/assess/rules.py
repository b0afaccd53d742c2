# SPDX-License-Identifier: GPL-2.0-only
"""A rule makes findings of facts; where a fact could not be read, that is the finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from xdptstamp.finding import Facts, Finding, Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """A finding that has no name yet; see :class:`~xdptstamp.finding.Finding`."""

    verdict: Verdict
    text: str
    advice: str = ""
    source: str = ""
    is_blocking: bool = False


def ok(text: str, advice: str = "") -> Answer:
    """Nothing has to be done."""
    return Answer(Verdict.OK, text, advice)


def doubt(text: str, advice: str = "", source: str = "", *, is_blocking: bool = False) -> Answer:
    """Something to look at."""
    return Answer(Verdict.DOUBT, text, advice, source, is_blocking)


def lacks(text: str, advice: str = "", *, is_blocking: bool = False) -> Answer:
    """Something is not there."""
    return Answer(Verdict.LACKS, text, advice, is_blocking=is_blocking)


@dataclass(frozen=True, slots=True)
class Rule:
    """How one thing is judged.

    :param judge: gives any number of answers; called if all that it ``needs`` was read.
    """

    key: str
    title: str
    needs: tuple[str, ...]
    judge: Callable[[Facts], Iterable[Answer]]

    def apply(self, facts: Facts) -> Iterator[Finding]:
        """Its findings."""
        for answer in self._answers(facts):
            yield Finding(
                self.key,
                self.title,
                answer.verdict,
                answer.text,
                answer.advice,
                answer.source,
                answer.is_blocking,
            )

    def _answers(self, facts: Facts) -> Iterable[Answer]:
        unread = [facts.unread[name] for name in self.needs if name in facts.unread]
        if unread:
            return [doubt(f"not known: {unread[0].why}", unread[0].advice)]
        return self.judge(facts)


def apply_rules(rules: Iterable[Rule], facts: Facts) -> tuple[Finding, ...]:
    """The findings of all rules, in their order."""
    return tuple(finding for rule in rules for finding in rule.apply(facts))
