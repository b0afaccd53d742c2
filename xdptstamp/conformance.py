# SPDX-License-Identifier: GPL-2.0-only
"""The rules of the AF_XDP metadata contract as plain data, and what a driver made of each."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections import Counter
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

#: Raised by one whenever a reader of the old form would misread the new one.
SCHEMA_VERSION = 1

# What tells the JSON form from other documents.
_KIND = "conformance"

Mode = Literal["copy", "zero-copy"]
Outcome = Literal["pass", "fail", "skip", "known-fault"]

#: The group of what is run not case by case but round by round.
STORM = "storm"

OUTCOMES: tuple[Outcome, ...] = ("pass", "fail", "skip", "known-fault")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the contract.

    :param key: its name: "stamp-in-bounds".
    :param group: what it is about: "stamps", "negative".
    :param title: it in a few words.
    :param text: it in full, with what is done to try it.
    :param source: where it is written: documentation, or the place in the kernel's source.
    :param expected: what is right, by mode; a mode that is not in it has no such rule.
    :param danger: why it is run with ``--dangerous`` only; None: it harms no kernel known.
    """

    key: str
    group: str
    title: str
    text: str
    source: str
    expected: dict[Mode, str]
    danger: str | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What one case came to.

    :param seen: what was observed, with its figures; of a skip, why it was not run.
    :param fault: the key in ``drivers.toml`` of the known fault that explains it, else None.
    :param fault_note: that fault in a sentence, with its commit or place in the source.
    :param figures: what was counted, by name; integers where they are nanoseconds.
    :param kernel_log: lines of the kernel's log that appeared meanwhile and spoil it.
    """

    rule: Rule
    outcome: Outcome
    seen: str
    duration_ns: int = 0
    fault: str | None = None
    fault_note: str = ""
    figures: dict[str, int | float | str] = field(default_factory=dict)
    kernel_log: tuple[str, ...] = ()


@dataclass(slots=True)
class Conformance:
    """All that was run on one interface in one mode.

    :param ended_by: what ended it before its end: a signal, an error; None: nothing did.
    :param versions: of the software that ran it, by name.
    """

    ifname: str
    driver: str
    kernel: str
    mode: Mode
    argv: list[str]
    started_utc: str
    results: list[CaseResult] = field(default_factory=list)
    ended_by: str | None = None
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[Outcome, int]:
        """How many cases came to each outcome."""
        counts = Counter(result.outcome for result in self.results)
        return {outcome: counts[outcome] for outcome in OUTCOMES}

    def has_failed(self, *, is_strict: bool = False) -> bool:
        """Whether a case failed; ``is_strict``: a known fault is one, too."""
        counts = self.counts()
        return bool(counts["fail"] or (is_strict and counts["known-fault"]))

    def reproduce(self, result: CaseResult) -> str:
        """The command that runs this case alone."""
        danger = " --dangerous" if result.rule.danger else ""
        words = f"xdptstamp conform {shlex.quote(self.ifname)} --mode {self.mode}"
        if result.rule.group == STORM:
            return f"{words} --storm 100 --case {shlex.quote(result.rule.key)}{danger}"
        return f"{words} --case {shlex.quote(result.rule.key)}{danger}"

    def to_json(self) -> dict[str, Any]:
        """As plain data that JSON can hold; a figure that is no number becomes text."""
        data = asdict(self)
        for result in data["results"]:
            result["figures"] = {k: _finite(v) for k, v in result["figures"].items()}
        head = {"kind": _KIND, "schema_version": SCHEMA_VERSION}
        return {**head, **data, "counts": self.counts()}

    @classmethod
    def from_json(cls, data: Any) -> Conformance:
        """The opposite of :meth:`to_json`. What it does not know it leaves out.

        :raises ValueError: If it is none, of another schema or damaged; the message says where.
        """
        if not isinstance(data, dict) or data.get("kind") != _KIND:
            raise ValueError("it is not what xdptstamp conform writes as json")
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"schema version {version!r}, this xdptstamp reads {SCHEMA_VERSION}")
        conformance: Conformance = _decoded(cls, data, "")
        return conformance


# JSON has neither NaN nor infinity.
def _finite(value: float | str) -> float | str:
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return str(value) if is_odd else value


# `value` as what the annotation `hint` says it is; `where` it stands, for the message.
def _decoded(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _decoded_object(hint, value, where)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{where} is {value!r}, not one of {', '.join(args)}")
        return value
    if origin is dict:
        items = _checked(dict, value, where).items()
        return {_decoded(args[0], k, where): _decoded(args[1], v, f"{where}.{k}") for k, v in items}
    if origin in (list, tuple):
        items = enumerate(_checked((list, tuple), value, where))
        return origin(_decoded(args[0], each, f"{where}[{i}]") for i, each in items)
    return _checked(args if origin is UnionType else hint, value, where)


def _decoded_object(cls: Any, value: Any, where: str) -> Any:
    data, hints, found = _checked(dict, value, where), get_type_hints(cls), {}
    for item in dataclasses.fields(cls):
        name = f"{where}.{item.name}".lstrip(".")
        if item.name in data:
            found[item.name] = _decoded(hints[item.name], data[item.name], name)
        elif item.default is item.default_factory is dataclasses.MISSING:
            raise ValueError(f"{name} is missing")
    return cls(**found)


def _checked(kinds: Any, value: Any, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"{where} is of the wrong type: {value!r:.60}")
    return value
