# SPDX-License-Identifier: GPL-2.0-only
"""What was read of a machine or an interface, and what it means for a measurement."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Unread:
    """Why something could not be read, and what would tell it (empty: not known)."""

    why: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read, by name: data that JSON can hold; and what could not be.

    A name is in one of the two, or in neither where there is nothing of that kind.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unread: dict[str, Unread] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str) -> Any:
        """The value; None if it is not there or could not be read."""
        return self.values.get(name)


class Verdict(enum.StrEnum):
    """What a finding means: nothing to do, look at it, or something is not there."""

    OK = "ok"
    DOUBT = "doubt"
    LACKS = "lacks"


@dataclass(frozen=True, slots=True)
class Finding:
    """A line: what was found, what it means, what to do about it.

    :param key: stable name ("zero-copy"); there may be several of one key (known faults).
    :param title: what it is about, for people.
    :param text: what was found.
    :param advice: what to do; empty: nothing, or nothing helps.
    :param source: how it is known, and how sure; empty: it was read.
    :param is_blocking: no measuring command runs like this.
    """

    key: str
    title: str
    verdict: Verdict
    text: str
    advice: str = ""
    source: str = ""
    is_blocking: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Findings about one thing; ``title`` names it."""

    title: str
    findings: tuple[Finding, ...]
