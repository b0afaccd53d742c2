# SPDX-License-Identifier: GPL-2.0-only
"""What a user reads of conform: the table, the list of rules, one rule in full, the matrix."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.unit.conform_kit import (
    ALL,
    BOUNDS,
    CLOSE,
    FAILED,
    KNOWN,
    PASSED,
    RULES,
    SHORT,
    SKIPPED,
    conformance_of,
    written,
)
from xdptstamp.conformance import CaseResult
from xdptstamp.text.conform.matrix import matrix_lines
from xdptstamp.text.conform.output import FORMATS, open_conform_output
from xdptstamp.text.conform.rules import explain_lines, list_lines

LONG = "word " * 40


def table(conformance, num=None, **options):
    return written("table", conformance, num, **options)


def assert_plain(text):
    for line in text.splitlines():
        is_command = line.startswith("xdptstamp conform ")
        assert line.isascii() and line.isprintable(), line
        assert len(line) <= 72 or is_command, line
        assert line == line.rstrip()


def test_golden_table():
    assert table(conformance_of(*ALL, notes=["hwtstamp was restored"])) == (
        """\
xdptstamp conform: HARDWARE timestamps
interface    eth1, driver igc
mode         zero-copy
kernel       6.12.117+deb13-amd64
time         from 2026-01-22T13:26:05Z

stamps
  stamp-in-bounds              pass         100 of 100 stamps in bounds
  stamp-not-stale              skip         the driver returns no stamps

negative
  metadata-too-short           FAIL
      the kernel took it, and wrote the stamp over the packet's first 8
      bytes
  close-with-pending           known fault
      the kernel log has a page fault

FAIL: metadata-too-short: a UMEM with 8 bytes of metadata is refused
rule         A UMEM is registered with tx_metadata_len 8.
expected     EINVAL
seen         the kernel took it, and wrote the stamp over the packet's
             first 8 bytes
source       net/xdp/xdp_umem.c xdp_umem_reg()
figures      first_word=1763818000000000000, ratio=0.5
kernel log
  [12.3] WARNING: CPU: 0 PID: 1 at net/xdp/xsk.c:1
  ok 7 not a line of KTAP
reproduce
xdptstamp conform eth1 --mode zero-copy --case metadata-too-short

known fault: close-with-pending: a socket may close while a stamp is
  pending
rule         One packet is sent, and the socket closed before its
             completion.
expected     the kernel goes on
seen         the kernel log has a page fault
known fault  exit-with-pending-stamp: known fault of igc (fixed by Linux
             commit 45b33e805bd3): kernel page fault
source       Linux commit 45b33e805bd3
reproduce
xdptstamp conform eth1 --mode zero-copy --case close-with-pending --dangerous

note         hwtstamp was restored

4 of 4 cases: 1 pass, 1 FAIL, 1 skip, 1 known fault
"""
    )


def test_copy_mode_is_about_software_timestamps():
    assert table(conformance_of(PASSED, mode="copy")).startswith(
        "xdptstamp conform: SOFTWARE timestamps\n"
    )


def test_a_strict_table_says_that_known_faults_are_failures():
    conformance = conformance_of(PASSED, KNOWN)
    assert table(conformance).endswith("\n2 of 2 cases: 1 pass, 0 FAIL, 0 skip, 1 known fault\n")
    assert table(conformance, is_strict=True).endswith(
        "\n2 of 2 cases: 1 pass, 0 FAIL, 0 skip, 1 known fault (strict: a known\n"
        "  fault is a failure)\n"
    )
    assert "strict" not in table(conformance_of(PASSED), is_strict=True)


def test_an_interrupted_table_says_how_far_it_came():
    text = table(conformance_of(PASSED, ended_by="SIGINT"), 20)
    assert text.endswith(
        "\nENDED by SIGINT: 1 of 20 cases: 1 pass, 0 FAIL, 0 skip, 0 known fault\n"
    )


def test_an_empty_table_is_a_header_and_a_count():
    lines = table(conformance_of()).splitlines()
    assert lines[-2:] == ["", "0 of 0 cases: 0 pass, 0 FAIL, 0 skip, 0 known fault"]
    assert len(lines) == 7


def test_a_row_stands_there_as_soon_as_its_case_has_ended(capsys):
    output = open_conform_output("table")
    output.begin(conformance_of(), 3)
    assert "driver igc" in capsys.readouterr().out
    output.line(PASSED)
    output.line(SKIPPED)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "stamps",
        "  stamp-in-bounds              pass         100 of 100 stamps in bounds",
        "  stamp-not-stale              skip         the driver returns no stamps",
    ]


@settings(deadline=None)
@given(st.text(), st.text(max_size=100))
def test_any_text_leaves_the_table_plain(text, key):
    rule = replace(SHORT, key=key, title=text, text=text, group=text, source=text)
    results = [
        replace(each, rule=rule, seen=text, kernel_log=(text,), fault_note=text) for each in ALL
    ]
    shown = table(conformance_of(*results, ended_by=text, notes=[text], kernel=text))
    for line in shown.splitlines():
        assert line.isascii() and line.isprintable()


def test_long_texts_are_wrapped():
    rule = replace(SHORT, title=LONG, text=LONG, source=LONG, key="k" * 40)
    result = replace(FAILED, rule=rule, seen=LONG, kernel_log=(LONG, "x" * 200))
    assert_plain(table(conformance_of(result, notes=[LONG], kernel=LONG)))


def test_golden_list_of_rules():
    assert list_lines(RULES) == [
        "stamps",
        "  stamp-in-bounds              copy      zero-copy",
        "      stamps lie between submit and completion",
        "  stamp-not-stale              copy      zero-copy",
        "      a frame that is used again shows no stamp of before",
        "",
        "negative",
        "  metadata-too-short           copy      zero-copy",
        "      a UMEM with 8 bytes of metadata is refused",
        "  close-with-pending           -         zero-copy --dangerous",
        "      a socket may close while a stamp is pending",
        "      dangerous: kernels without Linux commit 45b33e805bd3 page-fault",
    ]
    assert list_lines([]) == []


def test_golden_explanation():
    assert explain_lines(CLOSE) == [
        "close-with-pending: a socket may close while a stamp is pending",
        "",
        "One packet is sent, and the socket closed before its completion.",
        "",
        "In zero-copy mode this is right: the kernel goes on",
        "",
        "There is no such rule in copy mode.",
        "",
        "Where it is written: Linux commit 45b33e805bd3",
        "",
        "It is run with --dangerous only: kernels without Linux commit",
        "45b33e805bd3 page-fault",
        "",
        "alone",
        "xdptstamp conform IFNAME --case close-with-pending --dangerous",
    ]


def test_an_explanation_has_what_is_right_in_each_mode():
    lines = explain_lines(BOUNDS)
    assert [line for line in lines if line.startswith("In ")] == [
        "In copy mode this is right: every stamp lies between submit and",
        "In zero-copy mode this is right: every stamp lies between submit and",
    ]
    assert "There is no such rule" not in "\n".join(lines)
    assert "dangerous" not in "\n".join(lines)


def test_long_rules_are_wrapped():
    rule = replace(CLOSE, title=LONG, text=LONG, source=LONG, danger=LONG, key="k" * 60)
    assert_plain("\n".join([*list_lines([rule]), *explain_lines(rule)]))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_an_output(form):
    assert written(form, conformance_of(*ALL)).endswith("\n")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="unknown format 'xml'; known: table, ktap, tap, junit, "):
        open_conform_output("xml")


def test_the_formats_are_known_without_what_only_some_need():
    program = (
        "import sys; import xdptstamp.text.conform.output; "
        "print({'numpy', 'rich', 'xml.etree.ElementTree'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


# The matrix, read by a parser of Markdown that is not ours.


def cells_of(lines):
    """The tables, each a list of rows of the cells' texts, as a reader of Markdown sees them."""
    tables = []
    for token in MarkdownIt("commonmark").enable("table").parse("\n".join(lines)):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            is_cell = True
        elif token.type in ("th_close", "td_close"):
            is_cell = False
        elif token.type == "inline" and tables and tables[-1] and is_cell:
            tables[-1][-1].append("".join(each.content for each in token.children))
    return tables


def headings_of(lines):
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
    return [
        "".join(each.content for each in tokens[index + 1].children)
        for index, token in enumerate(tokens)
        if token.type == "heading_open"
    ]


def bullets_of(lines):
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
    return [
        "".join(each.content for each in tokens[index + 2].children)
        for index, token in enumerate(tokens)
        if token.type == "list_item_open"
    ]


RUNS = [
    conformance_of(PASSED, FAILED, mode="copy", driver="veth", kernel="6.18.44", ifname="veth0"),
    conformance_of(PASSED, replace(FAILED, outcome="pass"), kernel="7.3.4-rc1+deb14"),
    conformance_of(*ALL, ended_by="SIGTERM"),
]


def test_the_matrix_has_a_row_for_each_case_and_a_column_for_each_run():
    cases, runs = cells_of(matrix_lines(RUNS))
    assert cases == [
        ["case", "veth copy 6.18.44", "igc zero-copy 7.3.4", "igc zero-copy 6.12.117"],
        ["stamps", "", "", ""],
        ["stamp-in-bounds", "pass", "pass", "pass"],
        ["stamp-not-stale", "not run", "not run", "skip"],
        ["negative", "", "", ""],
        ["metadata-too-short", "FAIL", "pass", "FAIL"],
        ["close-with-pending", "-", "not run", "known fault"],
    ]
    assert runs[1] == [
        "veth copy 6.18.44",
        "veth0",
        "6.18.44",
        "2026-01-22T13:26:05Z",
        "1 pass, 1 FAIL, 0 skip, 0 known fault",
    ]
    assert runs[3][-1] == "1 pass, 1 FAIL, 1 skip, 1 known fault; ENDED by SIGTERM"


def test_the_matrix_lists_findings_with_source_and_command():
    lines = matrix_lines(RUNS)
    assert headings_of(lines) == [
        "Cases",
        "Runs",
        "Findings",
        "veth copy 6.18.44: metadata-too-short: FAIL",
        "igc zero-copy 6.12.117: metadata-too-short: FAIL",
        "igc zero-copy 6.12.117: close-with-pending: known fault",
        "Skipped",
    ]
    assert bullets_of(lines)[:9] == [
        "case: a UMEM with 8 bytes of metadata is refused",
        "rule: A UMEM is registered with tx_metadata_len 8.",
        "expected: EINVAL",
        "seen: the kernel took it, and wrote the stamp over the packet's first 8 bytes",
        "source: net/xdp/xdp_umem.c xdp_umem_reg()",
        "figures: first_word=1763818000000000000, ratio=0.5",
        "kernel log: [12.3] WARNING: CPU: 0 PID: 1 at net/xdp/xsk.c:1",
        "kernel log: ok 7 not a line of KTAP",
        "reproduce: xdptstamp conform veth0 --mode copy --case metadata-too-short",
    ]
    assert bullets_of(lines)[-1] == (
        "stamp-not-stale of igc zero-copy 6.12.117: the driver returns no stamps"
    )


def test_runs_that_are_alike_are_told_apart():
    cases, _ = cells_of(matrix_lines([RUNS[0], RUNS[0], conformance_of(PASSED, kernel="next")]))
    assert cases[0][1:] == ["veth copy 6.18.44", "veth copy 6.18.44 (2)", "igc zero-copy next"]


def test_a_matrix_without_findings_says_so():
    lines = matrix_lines([conformance_of(PASSED)])
    assert lines[-2:] == ["", "None."]
    assert headings_of(lines) == ["Cases", "Runs", "Findings"]
    assert matrix_lines([])[-2:] == ["", "None."]


@pytest.mark.parametrize(
    "text",
    [
        "a|b|c",
        "`one` and ``two``",
        "ends in `",
        "*bold* _it_ __init__ tx_hwtstamp_skipped",
        "<script>alert(1)</script> &amp; <a@b.c>",
        "[link](http://x) ![image](y)",
        "back\\slash \\| bar",
        "~~gone~~",
    ],
)
def test_what_means_something_to_markdown_is_shown_as_it_is(text):
    result = replace(FAILED, seen=text, kernel_log=(text,), figures={})
    lines = matrix_lines([conformance_of(result, ifname=text, ended_by=text)])
    bullets = bullets_of(lines)
    assert f"seen: {text}" in bullets
    assert f"kernel log: {text}" in bullets
    _, runs = cells_of(lines)
    assert runs[1][1] == text


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_text_leaves_the_matrix_whole(seen, word):
    results = [replace(each, seen=seen, fault_note=seen, kernel_log=(seen,)) for each in ALL]
    conformance = conformance_of(*results, ifname=word, kernel=word, driver=word, ended_by=seen)
    lines = matrix_lines([conformance, conformance])
    cases, runs = cells_of(lines)
    assert [len(row) for row in cases] == [3] * 7
    assert [len(row) for row in runs] == [5] * 3
    assert len(headings_of(lines)) == 4 + 4


def test_a_result_of_a_rule_without_that_mode_has_no_expectation():
    odd = CaseResult(CLOSE, "fail", "it ran all the same")
    text = table(conformance_of(odd, mode="copy"))
    assert "expected" not in text
