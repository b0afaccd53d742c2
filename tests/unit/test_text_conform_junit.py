# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML as a parser reads it that is not ours."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped

from tests.unit.conform_kit import (
    ALL,
    FAILED,
    KNOWN,
    PASSED,
    SKIPPED,
    conformance_of,
    written,
)


def suite_of(conformance, num=None, **options):
    """The one test suite of a run."""
    text = written("junit", conformance, num, **options)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>')
    (suite,) = JUnitXml.fromstring(text.encode())
    counts = (suite.tests, suite.failures, suite.errors, suite.skipped)
    assert counts == counted_by_parser(suite)
    return suite


def counted_by_parser(suite):
    """What the parser itself counts, whatever the attributes say."""
    results = [[type(each) for each in case.result] for case in suite]
    kinds = (Failure, Error, Skipped)
    return (len(results), *(sum(kind in found for found in results) for kind in kinds))


def test_names_counts_times_and_outcomes():
    suite = suite_of(conformance_of(*ALL))
    assert (suite.name, suite.timestamp) == ("xdptstamp.zero-copy", "2026-01-22T13:26:05Z")
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 0, 2)
    assert [(case.classname, case.name, case.is_passed) for case in suite] == [
        ("xdptstamp.zero-copy.stamps", "stamp-in-bounds", True),
        ("xdptstamp.zero-copy.stamps", "stamp-not-stale", False),
        ("xdptstamp.zero-copy.negative", "metadata-too-short", False),
        ("xdptstamp.zero-copy.negative", "close-with-pending", False),
    ]
    assert [case.time for case in suite] == [1.23456789, 0, 0.005, 0]
    assert suite.time == 1.23956789


def test_properties_say_what_was_tried_where():
    suite = suite_of(conformance_of(PASSED))
    assert {each.name: each.value for each in suite.properties()} == {
        "driver": "igc",
        "kernel": "6.12.117+deb13-amd64",
        "mode": "zero-copy",
        "ifname": "eth1",
        "version.xdptstamp": "0.1.0",
        "version.libbpf": "1.1.2",
        "argv": "xdptstamp conform eth1",
    }


def test_a_skip_has_its_reason_and_a_known_fault_a_type_of_its_own():
    skipped, known = suite_of(conformance_of(SKIPPED, KNOWN))
    (reason,) = skipped.result
    assert (reason.type, reason.message) == ("skip", "the driver returns no stamps")
    (fault,) = known.result
    assert isinstance(fault, Skipped)
    assert fault.type == "known-fault"
    assert fault.message == (
        "exit-with-pending-stamp: known fault of igc (fixed by Linux commit 45b33e805bd3): "
        "kernel page fault"
    )
    assert "seen: the kernel log has a page fault" in known.system_out


def test_a_strict_run_fails_a_known_fault():
    (known,) = suite_of(conformance_of(KNOWN), is_strict=True)
    (fault,) = known.result
    assert isinstance(fault, Failure)
    assert (fault.type, fault.message) == ("known-fault", "the kernel log has a page fault")
    assert "known fault: exit-with-pending-stamp: known fault of igc" in fault.text


def test_a_failure_has_rule_figures_log_and_command():
    (failed,) = suite_of(conformance_of(FAILED))
    (failure,) = failed.result
    assert failure.message.startswith("the kernel took it, and wrote the stamp")
    assert failure.text.splitlines() == [
        "rule: A UMEM is registered with tx_metadata_len 8.",
        "expected: EINVAL",
        "seen: the kernel took it, and wrote the stamp over the packet's first 8 bytes",
        "source: net/xdp/xdp_umem.c xdp_umem_reg()",
    ]
    assert failed.system_out.splitlines() == [
        "first_word=1763818000000000000",
        "ratio=0.5",
        "kernel log: [12.3] WARNING: CPU: 0 PID: 1 at net/xdp/xsk.c:1",
        "kernel log: ok 7 not a line of KTAP",
        "reproduce: xdptstamp conform eth1 --mode zero-copy --case metadata-too-short",
    ]


def test_an_empty_run_is_an_empty_suite():
    assert suite_of(conformance_of()).tests == 0


def test_an_interrupted_run_has_an_error_whatever_passed():
    suite = suite_of(conformance_of(PASSED, ended_by="SIGINT"), 5)
    assert (suite.tests, suite.failures, suite.errors) == (2, 0, 1)
    whole = list(suite)[1]
    assert (whole.classname, whole.name) == ("xdptstamp.zero-copy", "whole run")
    (error,) = whole.result
    assert (error.type, error.message) == ("ended", "ended by SIGINT: 1 of 5 cases were run")


def test_notes_are_the_output_of_the_suite():
    text = written("junit", conformance_of(PASSED, notes=["restored", "the link was lost"]))
    found = ElementTree.fromstring(text).findtext("testsuite/system-out")
    assert found == "restored\nthe link was lost"


@pytest.mark.parametrize(
    ("char", "shown"),
    [
        ("\0", "\\x00"),
        ("\x1b", "\\x1b"),
        ("\r", "\\r"),
        ("\ufffe", "\\ufffe"),
        ("\udcff", "\\udcff"),
        ("\x7f", "\x7f"),
        ("\t", "\t"),
        ("\xb5", "\xb5"),
        ("\U0001f600", "\U0001f600"),
        ("<&>\"'", "<&>\"'"),
        ("]]>", "]]>"),
    ],
)
def test_what_xml_cannot_hold_is_shown_and_the_rest_kept(char, shown):
    result = replace(FAILED, seen=f"a{char}b", kernel_log=(f"c{char}d",), figures={})
    (failed,) = suite_of(conformance_of(result, ifname=f"e{char}f"))
    (failure,) = failed.result
    assert failure.message == f"a{shown}b"
    assert f"seen: a{shown}b\n" in failure.text
    assert f"kernel log: c{shown}d\n" in failed.system_out


@settings(deadline=None)
@given(st.text(), st.text(), st.lists(st.text(), max_size=2))
def test_any_text_gives_a_document_with_the_right_counts(seen, word, log):
    results = [replace(each, seen=seen, kernel_log=tuple(log)) for each in ALL]
    conformance = conformance_of(
        *results, ifname=word, argv=[word], notes=[word], versions={word: word}, ended_by=word
    )
    assert suite_of(conformance).tests == 5


def test_the_document_is_ascii_whatever_stdout_can_write():
    text = written("junit", conformance_of(replace(FAILED, seen="5 \xb5s")))
    assert text.isascii()
    assert "5 &#181;s" in text
