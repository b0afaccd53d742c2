# SPDX-License-Identifier: GPL-2.0-only
"""What the facts about an interface mean; and about all of them, in a line each."""

from __future__ import annotations

from collections.abc import Iterable

from xdptstamp.assess import settings, timestamping
from xdptstamp.assess.conclusion import timestamps_of
from xdptstamp.assess.rules import apply_rules
from xdptstamp.finding import Facts, Finding, Section, Verdict

_KINDS = {
    "hardware": "HARDWARE timestamps",
    "software": "SOFTWARE timestamps",
    "none": "no timestamps in zero-copy mode",
    None: "timestamps of an unknown kind",
}


def assess_interface(facts: Facts) -> Section:
    """Findings about one interface, from :func:`xdptstamp.caps.read_interface`."""
    rules = (*settings.RULES, *timestamping.RULES)
    return Section(f"interface {facts['link']['ifname']}", apply_rules(rules, facts))


def assess_interfaces(all_facts: Iterable[Facts]) -> Section:
    """A finding for each interface, from :func:`xdptstamp.caps.read_interfaces`."""
    findings = tuple(_shortly(facts) for facts in all_facts)
    if not findings:
        text = "none but lo"
        advice = "xdptstamp lab veth makes a link without hardware"
        findings = (Finding("interface", "none", Verdict.LACKS, text, advice),)
    return Section("interfaces", findings)


def _shortly(facts: Facts) -> Finding:
    link = facts["link"]
    ifname = link["ifname"]
    if facts.get("driver") is None:
        unread = facts.unread["driver"]
        text = f"not known: {unread.why}"
        return Finding("interface", ifname, Verdict.DOUBT, text, unread.advice)
    words = [settings.driver_words(facts)]
    problems = {
        "down": not link["is_up"],
        "no carrier": link["is_up"] and not link["has_carrier"],
        "needs --force": bool(facts.get("refusal")),
        "an XDP program is attached": bool(link["xdp"]),
    }
    words += [problem for problem, is_there in problems.items() if is_there]
    timestamps = timestamps_of(facts)
    kind = _KINDS[timestamps]
    is_ready = not any(problems.values())
    verdict = Verdict.OK if is_ready and timestamps == "hardware" else Verdict.DOUBT
    return Finding("interface", ifname, verdict, ", ".join([kind, *words]))
