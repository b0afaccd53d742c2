# SPDX-License-Identifier: GPL-2.0-only
"""The forms that ``conform --format`` offers, and who writes each to stdout."""

from __future__ import annotations

import json
from typing import Protocol

from xdptstamp.conformance import CaseResult, Conformance
from xdptstamp.text.lines import write_lines

#: The names ``--format`` takes. ``tap`` is ``ktap`` under the version line of TAP.
FORMATS = ("table", "ktap", "tap", "junit", "json")


class ConformOutput(Protocol):
    """Writes results to stdout while they come.

    All three raise BrokenPipeError once nobody reads stdout any more.
    """

    def begin(self, conformance: Conformance, num: int) -> None:
        """Where, and in which mode, ``num`` cases are about to be run."""

    def line(self, result: CaseResult) -> None:
        """A case has ended."""

    def end(self, conformance: Conformance) -> None:
        """All have, or something ended them (``ended_by``)."""


def open_conform_output(name: str, *, is_strict: bool = False) -> ConformOutput:
    """The output for a ``--format`` name.

    :param is_strict: a known fault is a failure.
    :raises ValueError: If no format has that name.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; known: {', '.join(FORMATS)}")
    if name == "json":
        return _JsonOutput()
    if name == "junit":
        from xdptstamp.text.conform.junit import JunitOutput

        return JunitOutput(is_strict=is_strict)
    if name == "table":
        from xdptstamp.text.conform.table import TableOutput

        return TableOutput(is_strict=is_strict)
    from xdptstamp.text.conform.ktap import VERSION_LINES, KtapOutput

    return KtapOutput(VERSION_LINES[name], is_strict=is_strict)


class _JsonOutput:
    # One document at the end; what is read back by xdptstamp.store.conformance.
    def begin(self, conformance: Conformance, num: int) -> None:
        pass

    def line(self, result: CaseResult) -> None:
        pass

    def end(self, conformance: Conformance) -> None:
        write_lines([json.dumps(conformance.to_json(), indent=2, allow_nan=False)])
