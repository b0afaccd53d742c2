# SPDX-License-Identifier: GPL-2.0-only
"""Findings as text: aligned, wrapped, nothing lost, whatever the width."""

import pytest

from tests.unit.caps_kit import I226, MACHINE, facts_of, faults_json
from xdptstamp.assess import Conclusion, assess_interface, assess_machine
from xdptstamp.finding import Finding, Section, Verdict
from xdptstamp.text.caps import MAX_WIDTH, caps_lines, conclusion_text


def plain(word, verdict):
    return word


def lines_of(sections, width, paint=plain, conclusion="The end."):
    return list(caps_lines(sections, conclusion, width, paint))


@pytest.fixture
def sections():
    faults = faults_json("igc", "6.12.70", 2)
    interface = facts_of(I226, faults=faults, coalescing={"rx_usecs": 3}, link={"is_up": False})
    return [assess_machine(facts_of(MACHINE)), assess_interface(interface)]


@pytest.mark.parametrize("width", [1, 60, 72, 80, 100, 120, 300])
def test_every_line_fits_and_no_word_is_lost(sections, width):
    lines = lines_of(sections, width)
    assert max(map(len, lines)) <= min(max(width, 60), MAX_WIDTH)
    assert [line for line in lines if line != line.rstrip()] == []
    words = " ".join(" ".join(lines).split())
    for section in sections:
        for finding in section.findings:
            for text in (finding.title, finding.text, finding.source, finding.advice):
                assert text in words


def test_lines_at_80_columns():
    findings = (
        Finding("kernel", "kernel", Verdict.OK, "Linux 7.3.4"),
        Finding("link", "link", Verdict.LACKS, "down", "ip link set eth1 up"),
        Finding(
            "fault",
            "known fault",
            Verdict.DOUBT,
            "packets and their completions are lost when more are in flight than fit",
            "xdptstamp keeps at most the ring's size minus four in flight on a queue",
            "seen on 6.12.95",
        ),
    )
    section = Section("interface eth1", findings)
    assert lines_of([section], 80) == [
        "interface eth1",
        "  ok     kernel       Linux 7.3.4",
        "  lacks  link         down",
        "                      -> ip link set eth1 up",
        "  doubt  known fault  packets and their completions are lost when more are in",
        "                      flight than fit",
        "                      (seen on 6.12.95)",
        "                      -> xdptstamp keeps at most the ring's size minus four in",
        "                         flight on a queue",
        "",
        "The end.",
    ]


def test_a_colour_moves_nothing(sections):
    def paint(word, verdict):
        return f"\033[{len(verdict)}m{word}\033[0m"

    painted = lines_of(sections, 80, paint)
    bare = [line.replace("\033[0m", "") for line in painted]
    for number in (2, 5):
        bare = [line.replace(f"\033[{number}m", "") for line in bare]
    assert bare == lines_of(sections, 80)
    assert sum("\033[" in line for line in painted) == sum(len(each.findings) for each in sections)


def test_no_text_can_steer_a_terminal():
    section = Section("interface \033[2J", (Finding("x", "t\nt", Verdict.OK, "a \033]0;x\007 b"),))
    assert lines_of([section], 80)[:2] == [
        "interface \\x1b[2J",
        "  ok     t\\nt  a \\x1b]0;x\\x07 b",
    ]


@pytest.mark.parametrize(
    ("conclusion", "ifname", "expected"),
    [
        (
            Conclusion("hardware", (), 0, 0),
            "eth1",
            "A run on eth1 gets HARDWARE timestamps (zero-copy mode).",
        ),
        (
            Conclusion("software", (), 2, 1),
            "veth0",
            "A run on veth0 gets SOFTWARE timestamps (copy mode). 2 doubts and 1 lack.",
        ),
        (
            Conclusion("hardware", ("privilege", "link"), 0, 3),
            "eth1",
            "No run on eth1 before this is mended: privilege, link; then HARDWARE timestamps "
            "(zero-copy mode). 3 lacks.",
        ),
        (
            Conclusion(None, (), 1, 0),
            "eth1",
            "A run on eth1 gets timestamps that only trying tells the kind of. 1 doubt.",
        ),
        (
            Conclusion("none", (), 0, 1),
            "eth1",
            "A run on eth1 gets NO TIMESTAMPS (zero-copy mode); SOFTWARE ones with --mode copy. "
            "1 lack.",
        ),
        (Conclusion(None, (), 0, 0), None, ""),
        (
            Conclusion(None, ("privilege",), 1, 2),
            None,
            "No run before this is mended: privilege. 1 doubt and 2 lacks.",
        ),
    ],
)
def test_the_conclusion(conclusion, ifname, expected):
    assert conclusion_text(conclusion, ifname) == expected
