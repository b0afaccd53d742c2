# SPDX-License-Identifier: GPL-2.0-only
"""What all forms call a case and its outcome."""

from __future__ import annotations

from xdptstamp.conformance import OUTCOMES, CaseResult, Conformance, Mode, Outcome, Rule

#: Outcomes as a reader sees them.
OUTCOME_WORDS: dict[Outcome, str] = {
    "pass": "pass",
    "fail": "FAIL",
    "skip": "skip",
    "known-fault": "known fault",
}


def class_name(mode: Mode, rule: Rule) -> str:
    """What a case belongs to, for a program that keeps results: ``xdptstamp.copy.stamps``."""
    return f"xdptstamp.{mode}.{rule.group}"


def is_finding(result: CaseResult) -> bool:
    """Whether the driver did what is not right, known before or not."""
    return result.outcome in {"fail", "known-fault"}


def fault_words(result: CaseResult) -> str:
    """The known fault that explains a result: its key, then the sentence; "" if there is none."""
    return ": ".join(part for part in (result.fault, result.fault_note) if part)


def finding_pairs(mode: Mode, result: CaseResult) -> list[tuple[str, str]]:
    """What there is to say of a finding, but for the kernel log: (what, text)."""
    rule = result.rule
    pairs = [
        ("rule", rule.text),
        ("expected", rule.expected.get(mode, "")),
        ("seen", result.seen),
        ("known fault", fault_words(result)),
        ("source", rule.source),
    ]
    return [(name, text) for name, text in pairs if text]


def count_words(conformance: Conformance) -> str:
    """``12 pass, 1 FAIL, 3 skip, 2 known fault``."""
    counts = conformance.counts()
    return ", ".join(f"{counts[outcome]} {OUTCOME_WORDS[outcome]}" for outcome in OUTCOMES)
