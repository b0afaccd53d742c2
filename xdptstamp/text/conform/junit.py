# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML: one test suite, written when it has ended.

A known fault is skipped, with its own type; in a strict run it is a failure. A run that something
ended has a test case more, with an error: what was run until then may all have passed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from xdptstamp.conformance import CaseResult, Conformance
from xdptstamp.text.conform.words import class_name, fault_words, finding_pairs, is_finding
from xdptstamp.text.lines import write_lines
from xdptstamp.text.xml import add, ascii_xml, clean, element


class JunitOutput:
    """``--format junit``.

    :param is_strict: a known fault is a failure.
    """

    def __init__(self, *, is_strict: bool = False) -> None:
        self._is_strict = is_strict
        self._num = 0

    def begin(self, conformance: Conformance, num: int) -> None:
        """Nothing yet: the first line holds the counts."""
        self._num = num

    def line(self, result: CaseResult) -> None:
        """Nothing yet."""

    def end(self, conformance: Conformance) -> None:
        """Write the document."""
        cases = [self._case(conformance, result) for result in conformance.results]
        if conformance.ended_by is not None:
            cases.append(self._ended_case(conformance))
        root = Element("testsuites")
        suite = add(root, "testsuite", **self._suite_attributes(conformance, cases))
        properties = add(suite, "properties")
        for name, value in _properties(conformance):
            add(properties, "property", name=name, value=value)
        suite.extend(cases)
        if conformance.notes:
            add(suite, "system-out").text = clean("\n".join(conformance.notes))
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode")
        write_lines(['<?xml version="1.0" encoding="UTF-8"?>', ascii_xml(text)])

    def _suite_attributes(self, conformance: Conformance, cases: list[Element]) -> dict[str, str]:
        counts = {
            name: sum(case.find(element) is not None for case in cases)
            for name, element in (("failures", "failure"), ("errors", "error"), ("skipped",) * 2)
        }
        return {
            "name": f"xdptstamp.{conformance.mode}",
            "tests": str(len(cases)),
            **{name: str(count) for name, count in counts.items()},
            "time": _seconds(sum(result.duration_ns for result in conformance.results)),
            "timestamp": conformance.started_utc,
        }

    def _case(self, conformance: Conformance, result: CaseResult) -> Element:
        name = class_name(conformance.mode, result.rule)
        time = _seconds(result.duration_ns)
        case = element("testcase", classname=name, name=result.rule.key, time=time)
        if result.outcome == "skip":
            add(case, "skipped", type="skip", message=result.seen)
        elif result.outcome == "known-fault" and not self._is_strict:
            add(case, "skipped", type="known-fault", message=fault_words(result))
        elif is_finding(result):
            failure = add(case, "failure", type=result.outcome, message=result.seen)
            pairs = finding_pairs(conformance.mode, result)
            failure.text = clean("\n".join(f"{what}: {text}" for what, text in pairs))
        lines = list(_system_out(conformance, result))
        if lines:
            add(case, "system-out").text = clean("\n".join(lines))
        return case

    def _ended_case(self, conformance: Conformance) -> Element:
        name = f"xdptstamp.{conformance.mode}"
        case = element("testcase", classname=name, name="whole run", time=_seconds(0))
        done = f"{len(conformance.results)} of {self._num} cases were run"
        message = f"ended by {conformance.ended_by}: {done}"
        add(case, "error", type="ended", message=message)
        return case


def _properties(conformance: Conformance) -> Iterator[tuple[str, str]]:
    yield "driver", conformance.driver
    yield "kernel", conformance.kernel
    yield "mode", conformance.mode
    yield "ifname", conformance.ifname
    for name, version in conformance.versions.items():
        yield f"version.{name}", version
    yield "argv", shlex.join(conformance.argv)


def _system_out(conformance: Conformance, result: CaseResult) -> Iterator[str]:
    if result.outcome not in {"skip", "fail"} and result.seen:
        yield f"seen: {result.seen}"
    yield from (f"{name}={value}" for name, value in result.figures.items())
    yield from (f"kernel log: {line}" for line in result.kernel_log)
    if is_finding(result):
        yield f"reproduce: {conformance.reproduce(result)}"


def _seconds(ns: int) -> str:
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09d}"
