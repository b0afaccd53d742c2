# SPDX-License-Identifier: GPL-2.0-only
"""What a case is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xdptstamp.conformance import Rule

if TYPE_CHECKING:
    from xdptstamp.conform.stand import Stand


class SkipError(Exception):
    """This case cannot be run here; the message is why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an observation means.

    :param seen: what was observed, in a sentence with its figures.
    """

    is_right: bool
    seen: str
    figures: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One rule, and how it is tried.

    :param observe: drives the kernel, returns what happened; raises :class:`SkipError`.
    :param judge: says what that means. Pure.
    :param faults: keys in ``drivers.toml`` of known faults that explain a failure.
    """

    rule: Rule
    observe: Callable[[Stand], Any]
    judge: Callable[[Any], Verdict]
    faults: tuple[str, ...] = ()


def all_of(*verdicts: Verdict) -> Verdict:
    """Right if all are; it says what the wrong ones saw, else what all did."""
    wrong = [verdict for verdict in verdicts if not verdict.is_right]
    figures = {name: value for verdict in verdicts for name, value in verdict.figures.items()}
    seen = "; ".join(verdict.seen for verdict in wrong or verdicts)
    return Verdict(not wrong, seen, figures)
