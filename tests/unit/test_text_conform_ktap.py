# SPDX-License-Identifier: GPL-2.0-only
"""KTAP as parsers read it that are not ours.

No package that is small enough for CI holds a parser of KTAP itself: the kernel's (kunit_parser.py)
comes with all of its source. ktap.rst says that valid KTAP is valid TAP, and what a reader does
with a directive that it does not know, so the judges are readers of TAP: TAP::Parser, Perl's own,
which is strict about plan and numbers, and tap.py.
"""

import io
import json
import re
import subprocess
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tap.parser import Parser

from tests.unit.conform_kit import (
    ALL,
    FAILED,
    KNOWN,
    PASSED,
    SKIPPED,
    conformance_of,
    written,
)
from xdptstamp.text.conform.output import open_conform_output

NAMES = (
    "xdptstamp.zero-copy.stamps.stamp-in-bounds",
    "xdptstamp.zero-copy.stamps.stamp-not-stale",
    "xdptstamp.zero-copy.negative.metadata-too-short",
    "xdptstamp.zero-copy.negative.close-with-pending",
)
BOTH_FORMS = pytest.mark.parametrize("form", ["ktap", "tap"])

# Lines as a kernel or another test may print them, all of which mean something in KTAP.
LINES_OF_THE_PROTOCOL = (
    "ok 9 a case",
    "not ok 10 another",
    "1..99",
    "KTAP version 1",
    "TAP version 13",
    "Bail out! oops",
    "# Subtest: inner",
    "pragma +strict",
    "  ---",
)

_TAP_PARSER = r"""
use TAP::Parser; use JSON::PP;
binmode STDIN, ":utf8";
my $parser = TAP::Parser->new({ tap => do { local $/; <STDIN> } });
my (@tests, @unknown, $bail);
while (my $line = $parser->next) {
    push @tests, { ok => $line->is_actual_ok ? 1 : 0, number => $line->number,
        name => $line->description, directive => $line->directive,
        reason => $line->explanation } if $line->is_test;
    push @unknown, $line->as_string if $line->is_unknown;
    $bail = $line->explanation if $line->is_bailout;
}
print JSON::PP->new->ascii->encode({ tests => \@tests, unknown => \@unknown, bail => $bail,
    planned => $parser->tests_planned, errors => [$parser->parse_errors],
    skip_all => $parser->skip_all, has_problems => $parser->has_problems ? 1 : 0 });
"""


@dataclass(frozen=True)
class Judged:
    """What a parser made of a text.

    :param tests: of each, in order: whether ok, its number, its name without a directive that the
        parser knows, and that directive with its reason.
    :param errors: what is wrong with it as TAP.
    """

    planned: int
    tests: list
    bail: str | None
    errors: list


def by_perl(text):
    done = subprocess.run(
        ["perl", "-e", _TAP_PARSER], input=text, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["unknown"] == [line for line in text.splitlines() if line == "KTAP version 1"]
    tests = [
        (bool(t["ok"]), int(t["number"]), t["name"], t["directive"], t["reason"])
        for t in found["tests"]
    ]
    return Judged(int(found["planned"]), tests, found["bail"], found["errors"])


def by_tap_py(text):
    # Line by line: it would want a YAML parser for a whole TAP 13, which we do not write.
    lines = [Parser().parse_line(line) for line in io.StringIO(text).read().splitlines()]
    kinds = [line.category for line in lines]
    assert "unknown" not in kinds[1:]
    (plan,) = (line for line in lines if line.category == "plan")
    tests = []
    for line in lines:
        if line.category == "test":
            is_known = line.skip or line.todo
            name = line.description if is_known or not line.directive.text else None
            # A directive that it does not know is text like another to it.
            name = name or f"{line.description} # {line.directive.text}"
            directive = "SKIP" if line.skip else "TODO" if line.todo else ""
            tests.append((line.ok, line.number, name, directive, line.directive.reason or ""))
    bails = [line.reason for line in lines if line.category == "bail"]
    numbers = [test[1] for test in tests]
    errors = [] if numbers == list(range(1, plan.expected_tests + 1)) else ["plan"]
    return Judged(plan.expected_tests, tests, bails[0] if bails else None, errors)


JUDGES = pytest.mark.parametrize("judge", [by_perl, by_tap_py])


def totals(text):
    (line,) = re.findall("^# Totals: (.*)$", text, re.MULTILINE)
    return {name: int(count) for name, count in (pair.split(":") for pair in line.split())}


@JUDGES
@BOTH_FORMS
def test_every_outcome_is_read_as_what_it_is(judge, form):
    text = written(form, conformance_of(*ALL))
    judged = judge(text)
    fault = (
        "exit-with-pending-stamp: known fault of igc (fixed by Linux commit 45b33e805bd3): "
        "kernel page fault"
    )
    assert judged == Judged(
        planned=4,
        tests=[
            (True, 1, NAMES[0], "", ""),
            (True, 2, NAMES[1], "SKIP", "the driver returns no stamps"),
            (False, 3, NAMES[2], "", ""),
            # Unknown to TAP, it falls back to its "ok", as ktap.rst says.
            (True, 4, f"{NAMES[3]} # XFAIL {fault}", "", ""),
        ],
        bail=None,
        errors=[],
    )
    assert totals(text) == {"pass": 1, "fail": 1, "xfail": 1, "xpass": 0, "skip": 1, "error": 0}


@JUDGES
def test_a_strict_run_fails_a_known_fault_without_a_directive(judge):
    text = written("ktap", conformance_of(PASSED, KNOWN), is_strict=True)
    assert judge(text).tests == [(True, 1, NAMES[0], "", ""), (False, 2, NAMES[3], "", "")]
    assert f"\nnot ok 2 {NAMES[3]}\n" in text
    assert "known fault: exit-with-pending-stamp" in text
    assert totals(text) == {"pass": 1, "fail": 1, "xfail": 0, "xpass": 0, "skip": 0, "error": 0}


@pytest.mark.parametrize(("form", "first"), [("ktap", "KTAP version 1"), ("tap", "TAP version 13")])
def test_version_and_plan_come_first_and_totals_last(form, first):
    lines = written(form, conformance_of(*ALL)).splitlines()
    assert lines[:2] == [first, "1..4"]
    assert lines[2] == (
        "# xdptstamp conform: eth1, driver igc, zero-copy, kernel 6.12.117+deb13-amd64"
    )
    assert lines[-1] == "# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0"


def test_the_two_forms_differ_in_their_first_line_alone():
    ktap, tap = (written(form, conformance_of(*ALL)).splitlines() for form in ("ktap", "tap"))
    assert ktap[1:] == tap[1:]


@JUDGES
def test_an_empty_run_is_a_skipped_plan(judge):
    text = written("ktap", conformance_of())
    assert judge(text) == Judged(planned=0, tests=[], bail=None, errors=[])
    assert "\n1..0 # SKIP there is no case to run\n" in text
    assert not any(totals(text).values())


@JUDGES
@BOTH_FORMS
def test_an_interrupted_run_bails_out_and_does_not_pass(judge, form):
    text = written(form, conformance_of(PASSED, SKIPPED, ended_by="SIGINT"), 5)
    judged = judge(text)
    assert judged.bail == "ended by SIGINT"
    assert judged.planned == 5
    assert [test[:2] for test in judged.tests] == [(True, 1), (True, 2)]
    assert judged.errors
    assert text.splitlines()[-3:] == [
        "Bail out! ended by SIGINT",
        "# Planned tests != run tests (5 != 2)",
        "# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:1 error:0",
    ]


@JUDGES
def test_no_text_can_pass_for_a_line_of_the_protocol(judge):
    odd = "\n".join(LINES_OF_THE_PROTOCOL) + "\r\x1b[2J\u2028# SKIP"
    results = [
        replace(PASSED, seen=odd),
        replace(SKIPPED, seen=f"why # TODO not this # SKIP {odd}"),
        replace(FAILED, seen=odd, kernel_log=LINES_OF_THE_PROTOCOL, figures={odd: odd}),
        replace(KNOWN, seen=odd, fault_note=odd),
    ]
    text = written("ktap", conformance_of(*results, notes=[odd], ended_by=odd), 4)
    judged = judge(text)
    assert judged.errors == []
    assert [test[:2] for test in judged.tests] == [(True, 1), (True, 2), (False, 3), (True, 4)]
    assert [test[3] for test in judged.tests] == ["", "SKIP", "", ""]
    assert judged.tests[1][4].startswith(r"why \# TODO not this \# SKIP ok 9 a case\nnot ok 10")
    assert text.isascii()
    # What kunit_parser.py takes for the head of a nested test, at any indentation.
    assert not re.search(r"^\s*# Subtest: |^\s+K?TAP version", text, re.MULTILINE)


@settings(deadline=None)
@given(st.text(), st.text(), st.lists(st.text(), max_size=2))
def test_any_text_leaves_plan_numbers_and_outcomes_whole(seen, note, log):
    results = [
        replace(SKIPPED, seen=seen),
        replace(FAILED, seen=seen, kernel_log=tuple(log)),
        replace(KNOWN, fault_note=note),
        replace(PASSED, seen=note),
    ]
    judged = by_tap_py(written("ktap", conformance_of(*results, notes=[note])))
    assert judged.errors == []
    assert [(test[0], test[3]) for test in judged.tests] == [
        (True, "SKIP"),
        (False, ""),
        (True, ""),
        (True, ""),
    ]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(), min_size=5, max_size=5))
def test_perl_agrees_about_any_text(texts):
    results = [replace(SKIPPED, seen=text) for text in texts]
    results += [replace(FAILED, seen=text, kernel_log=(text,)) for text in texts]
    judged = by_perl(written("ktap", conformance_of(*results)))
    assert judged.errors == []
    assert [(test[0], test[3]) for test in judged.tests] == 5 * [(True, "SKIP")] + 5 * [(False, "")]


def test_a_name_cannot_hold_what_begins_a_directive():
    result = replace(PASSED, rule=replace(PASSED.rule, key="a#SKIP", group="b # TODO"))
    (line,) = (
        line
        for line in written("ktap", conformance_of(result)).splitlines()
        if line.startswith("ok ")
    )
    assert line == r"ok 1 xdptstamp.zero-copy.b \# TODO.a\#SKIP"


def test_each_case_is_written_as_it_ends(capsys):
    output = open_conform_output("ktap")
    output.begin(conformance_of(), 2)
    assert capsys.readouterr().out.splitlines()[:2] == ["KTAP version 1", "1..2"]
    output.line(SKIPPED)
    assert capsys.readouterr().out == f"ok 1 {NAMES[1]} # SKIP the driver returns no stamps\n"
    output.line(FAILED)
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == f"not ok 2 {NAMES[2]}"
    output.end(conformance_of(SKIPPED, FAILED))
    assert capsys.readouterr().out.splitlines() == [
        "# Totals: pass:0 fail:1 xfail:0 xpass:0 skip:1 error:0"
    ]


def test_a_finding_says_all_that_is_known_of_it_ahead_of_its_line():
    lines = written("ktap", conformance_of(FAILED)).splitlines()[3:-2]
    assert lines == [
        "# metadata-too-short: rule: A UMEM is registered with tx_metadata_len 8.",
        "# metadata-too-short: expected: EINVAL",
        "# metadata-too-short: seen: the kernel took it, and wrote the stamp over the packet's "
        "first 8 bytes",
        "# metadata-too-short: source: net/xdp/xdp_umem.c xdp_umem_reg()",
        "# metadata-too-short: figures: first_word=1763818000000000000, ratio=0.5",
        "# metadata-too-short: kernel log: [12.3] WARNING: CPU: 0 PID: 1 at net/xdp/xsk.c:1",
        "# metadata-too-short: kernel log: ok 7 not a line of KTAP",
        "# metadata-too-short: reproduce: xdptstamp conform eth1 --mode zero-copy "
        "--case metadata-too-short",
    ]
