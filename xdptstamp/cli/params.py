# SPDX-License-Identifier: GPL-2.0-only
"""Parameter types that commands share: durations, scheduling policies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # older clicks, good enough at run time, have no generic ParamType
    _IntType = click.ParamType[int]
    _SchedulingType = click.ParamType["Scheduling"]
else:
    _IntType = _SchedulingType = click.ParamType

_NUMBER_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", re.ASCII)
_NS_PER = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_MAX_NS = (1 << 63) - 1
_MAX_PRIORITY = 99


@dataclass(frozen=True, slots=True)
class Scheduling:
    """A scheduling policy of Linux: ``fifo`` with a priority from 1 to 99."""

    policy: str
    priority: int

    def __str__(self) -> str:
        return f"{self.policy}:{self.priority}"


class _Duration(_IntType):
    name = "duration"

    # zero_words: words that mean 0; without any, 0 itself is refused.
    def __init__(self, *zero_words: str) -> None:
        self._zero_words = zero_words

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if text in self._zero_words:
            return 0
        match = _NUMBER_UNIT.fullmatch(text)
        if match is None or (match[2] not in _NS_PER and Fraction(match[1]) != 0):
            words = "".join(f" or {word!r}" for word in self._zero_words)
            units = ", ".join(_NS_PER)
            self.fail(f"{text!r} is not a duration such as 250us or 10s{words} ({units})", param)
        duration_ns = Fraction(match[1]) * _NS_PER.get(match[2], 1)
        self._check(text, duration_ns, param)
        return int(duration_ns)

    def _check(self, text: str, duration_ns: Fraction, param: click.Parameter | None) -> None:
        if duration_ns.denominator != 1:
            self.fail(f"{text!r} is not a whole number of nanoseconds", param)
        if duration_ns > _MAX_NS:
            self.fail(f"{text!r} is longer than 292 years", param)
        if duration_ns == 0 and not self._zero_words:
            self.fail(f"{text!r} is zero; it must be longer", param)


class _Scheduling(_SchedulingType):
    name = "fifo:PRIO"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Scheduling:
        if isinstance(value, Scheduling):
            return value
        match = re.fullmatch(r"fifo:([0-9]{1,2})", str(value), re.ASCII)
        if match is None or not 1 <= int(match[1]) <= _MAX_PRIORITY:
            self.fail(f"{value!r} is not fifo:PRIO with PRIO from 1 to {_MAX_PRIORITY}", param)
        return Scheduling("fifo", int(match[1]))


#: ``250us 10s 24h`` as nanoseconds, above zero.
DURATION = _Duration()
#: The same; ``flood`` and 0 are zero.
INTERVAL = _Duration("flood", "0")
#: ``fifo:PRIO`` as :class:`Scheduling`.
SCHED = _Scheduling()
