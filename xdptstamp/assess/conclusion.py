# SPDX-License-Identifier: GPL-2.0-only
"""What a run would get, from all that was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdptstamp.finding import Facts, Finding, Section, Verdict


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What all findings come to.

    :param timestamps: "hardware", "software" or "none", as ``RunInfo.timestamps`` has it; None: not
        known, or no interface was asked for.
    :param blocked_by: titles of what must be mended first.
    """

    timestamps: str | None
    blocked_by: tuple[str, ...]
    num_doubts: int
    num_lacks: int


def conclude(sections: Iterable[Section], interface: Facts | None) -> Conclusion:
    """What they come to.

    :param interface: the facts about the interface that was asked for, if any was.
    """
    findings = [finding for section in sections for finding in section.findings]
    blocked = dict.fromkeys(finding.title for finding in findings if finding.is_blocking)
    return Conclusion(
        timestamps=None if interface is None else timestamps_of(interface),
        blocked_by=tuple(blocked),
        num_doubts=_count(findings, Verdict.DOUBT),
        num_lacks=_count(findings, Verdict.LACKS),
    )


def timestamps_of(facts: Facts) -> str | None:
    """Which Tx timestamps a run gets that is told nothing: it takes zero-copy where there is."""
    features = facts.get("features")
    if features is None or features["is_zero_copy"] is None:
        return None
    if not features["is_zero_copy"]:
        return "software"
    is_offered = features["is_tx_timestamp"]
    return None if is_offered is None else "hardware" if is_offered else "none"


def _count(findings: Iterable[Finding], verdict: Verdict) -> int:
    return sum(finding.verdict == verdict for finding in findings)
