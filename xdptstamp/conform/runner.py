# SPDX-License-Identifier: GPL-2.0-only
"""Runs cases one after the other, and says what each came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from xdptstamp.conform.case import Case, SkipError, Verdict
from xdptstamp.conform.stand import InterruptedCaseError, Stand
from xdptstamp.conformance import CaseResult, Conformance, Mode, Outcome
from xdptstamp.drivers import CORE, Fault, known_driver
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.faults import known_faults
from xdptstamp.kernellog import KernelLog
from xdptstamp.nic import Nic

#: Known faults that any case may set off: each sends packets that ask for nothing, too.
DANGERS = ("metadata-not-asked-for",)


class Runner:
    """Runs cases on one stand.

    :param log: read after each case: what the kernel complains of there fails it.
    :param is_daring: also cases that may crash this kernel.
    """

    def __init__(self, stand: Stand, log: KernelLog, *, is_daring: bool = False) -> None:
        self._stand = stand
        self._log = log
        self._is_daring = is_daring
        self._faults = _faults_of(stand.nic, stand.mode)

    def run(
        self,
        cases: Sequence[Case],
        into: Conformance,
        on_result: Callable[[CaseResult], None],
    ) -> None:
        """Run ``cases``; each result goes into ``into`` and to ``on_result``.

        Ends early where the interface is gone or a signal came; ``into.ended_by`` says so.
        """
        for case in cases:
            try:
                result = self._run(case)
            except InterruptedCaseError as error:
                into.ended_by = str(error)
                return
            into.results.append(result)
            on_result(result)

    def _run(self, case: Case) -> CaseResult:
        start_ns = time.monotonic_ns()
        self._log.lines()  # those of the case before are told with it
        outcome: Outcome
        try:
            self._check(case)
            self._stand.prepare()
            verdict = case.judge(case.observe(self._stand))
            outcome = "pass" if verdict.is_right else "fail"
        except SkipError as error:
            verdict, outcome = Verdict(False, str(error)), "skip"
        except (SetupError, SystemCallError) as error:
            verdict, outcome = Verdict(False, f"ended by an error: {error}"), "fail"
        lines = tuple(line.text for line in self._log.lines() if line.is_untrusted)
        if lines:
            seen = f"{verdict.seen}; the kernel complained: {lines[0]}"
            verdict, outcome = Verdict(False, seen, verdict.figures), "fail"
        # What the kernel complains of no known fault excuses.
        fault = self._explains(case) if outcome == "fail" and not lines else None
        return CaseResult(
            rule=case.rule,
            outcome="known-fault" if fault else outcome,
            seen=verdict.seen,
            duration_ns=time.monotonic_ns() - start_ns,
            fault=fault.key if fault else None,
            fault_note=fault.note(self._faults[fault.key][0]) if fault else "",
            figures=verdict.figures,
            kernel_log=lines,
        )

    def _check(self, case: Case) -> None:
        if self._stand.mode not in case.rule.expected:
            raise SkipError(f"the rule is not of {self._stand.mode} mode")
        for key in () if self._is_daring else DANGERS:
            if key in self._faults:
                name, fault = self._faults[key]
                raise SkipError(
                    f"it may crash this kernel: {fault.note(name)}; --dangerous runs it"
                )

    def _explains(self, case: Case) -> Fault | None:
        return next((self._faults[key][1] for key in case.faults if key in self._faults), None)


def fault_notes(nic: Nic, mode: Mode) -> dict[str, str]:
    """The known faults that this kernel may have in this mode, in sentences, by key."""
    return {key: fault.note(name) for key, (name, fault) in _faults_of(nic, mode).items()}


def _faults_of(nic: Nic, mode: Mode) -> dict[str, tuple[str, Fault]]:
    # Those that this kernel may have in this mode, with the name of what has them.
    row = known_driver(nic.driver_info().driver if mode == "zero-copy" else CORE)
    if row is None:
        return {}
    return {fault.key: (row.name, fault) for fault, _ in known_faults(nic, row)}
