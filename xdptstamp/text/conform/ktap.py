# SPDX-License-Identifier: GPL-2.0-only
"""KTAP version 1 (Documentation/dev-tools/ktap.rst), each case's lines as it ends.

Directives, totals and the way a run is broken off are those of the kernel's selftests
(tools/testing/selftests/kselftest/ktap_helpers.sh, net/lib/py/ksft.py): a known fault is
``ok N name # XFAIL reason``, and of a run that something ends ``Bail out!`` says so. What is to be
said of a case stands in diagnostic lines ahead of its result, each with the case's name, so that
no text of the kernel's log can pass for a line of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdptstamp.conformance import CaseResult, Conformance
from xdptstamp.text.conform.words import class_name, fault_words, finding_pairs, is_finding
from xdptstamp.text.lines import ascii_text, write_lines

#: The first line, by the name of the format. ktap.rst wants its own and allows TAP's. netdev's CI
#: takes cases up below TAP's alone, which is why the kernel's own Python tests have it since 2025
#: ("selftests: net: report output format as TAP 13 in Python tests").
VERSION_LINES = {"ktap": "KTAP version 1", "tap": "TAP version 13"}


class KtapOutput:
    """``--format ktap`` and ``tap``.

    :param version_line: one of :data:`VERSION_LINES`.
    :param is_strict: a known fault is a plain ``not ok``.
    """

    def __init__(self, version_line: str, *, is_strict: bool = False) -> None:
        self._version_line = version_line
        self._is_strict = is_strict
        self._conformance: Conformance | None = None
        self._num = 0
        self._totals = {"pass": 0, "fail": 0, "xfail": 0, "skip": 0}

    def begin(self, conformance: Conformance, num: int) -> None:
        """Write the version, the plan and where this is."""
        self._conformance, self._num = conformance, num
        plan = f"1..{num}" if num else "1..0 # SKIP there is no case to run"
        place = f"{conformance.ifname}, driver {conformance.driver}, {conformance.mode}"
        about = _diagnostic(f"xdptstamp conform: {place}, kernel {conformance.kernel}")
        write_lines([self._version_line, plan, about])

    def line(self, result: CaseResult) -> None:
        """Write what there is to say of a case, then its result."""
        assert self._conformance is not None, "begin() comes first"
        kind = self._kind(result)
        self._totals[kind] += 1
        word = "not ok" if kind == "fail" else "ok"
        name = f"{class_name(self._conformance.mode, result.rule)}.{result.rule.key}"
        line = f"{word} {sum(self._totals.values())} {_field(name)}"
        if kind == "skip":
            line += f" # SKIP {_field(result.seen)}"
        elif kind == "xfail":
            line += f" # XFAIL {_field(fault_words(result))}"
        write_lines([*self._diagnostics(self._conformance, result), line.rstrip()])

    def end(self, conformance: Conformance) -> None:
        """Write whether it went to its end, and the totals."""
        lines = [_diagnostic(f"note: {note}") for note in conformance.notes]
        if conformance.ended_by is not None:
            lines.append(f"Bail out! ended by {_field(conformance.ended_by)}")
        num = sum(self._totals.values())
        if num != self._num:
            lines.append(f"# Planned tests != run tests ({self._num} != {num})")
        totals = self._totals
        passed = f"pass:{totals['pass']} fail:{totals['fail']} xfail:{totals['xfail']}"
        write_lines([*lines, f"# Totals: {passed} xpass:0 skip:{totals['skip']} error:0"])

    def _kind(self, result: CaseResult) -> str:
        if result.outcome == "known-fault":
            return "fail" if self._is_strict else "xfail"
        return result.outcome

    def _diagnostics(self, conformance: Conformance, result: CaseResult) -> Iterator[str]:
        key = result.rule.key
        if is_finding(result):
            for what, text in finding_pairs(conformance.mode, result):
                yield _diagnostic(f"{key}: {what}: {text}")
        elif result.outcome == "pass" and result.seen:
            yield _diagnostic(f"{key}: seen: {result.seen}")
        if result.figures and result.outcome != "skip":
            figures = ", ".join(f"{name}={value}" for name, value in result.figures.items())
            yield _diagnostic(f"{key}: figures: {figures}")
        for line in result.kernel_log:
            yield _diagnostic(f"{key}: kernel log: {line}")
        if is_finding(result):
            yield _diagnostic(f"{key}: reproduce: {conformance.reproduce(result)}")


def _diagnostic(text: str) -> str:
    return f"# {ascii_text(text)}".rstrip()


# A description cannot hold a "#", and one in a reason could begin another directive for some
# readers: escaped as TAP 14 does.
def _field(text: str) -> str:
    return ascii_text(text).replace("#", "\\#").strip()
