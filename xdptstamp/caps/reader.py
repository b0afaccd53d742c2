# SPDX-License-Identifier: GPL-2.0-only
"""Asks one question after the other, and keeps the answer, or why there was none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xdptstamp.errors import SetupError, SystemCallError, XdptstampError
from xdptstamp.finding import Facts, Unread

_T = TypeVar("_T")


class Reader:
    """Collects :attr:`facts`."""

    def __init__(self) -> None:
        self.facts = Facts()

    def ask(
        self,
        name: str,
        question: Callable[[], _T | None],
        to_json: Callable[[_T], Any] | None = None,
    ) -> _T | None:
        """The answer, noted as ``name``; None, and the reason noted, if it cannot be had.

        :param to_json: makes data that JSON can hold of an answer that is not None.
        """
        try:
            answer = question()
        except (XdptstampError, OSError) as error:
            self.facts.unread[name] = _unread(error)
            return None
        if answer is None or to_json is None:
            self.facts.values[name] = answer
        else:
            self.facts.values[name] = to_json(answer)
        return answer


def _unread(error: XdptstampError | OSError) -> Unread:
    if isinstance(error, SystemCallError):
        advice = error.advice.rstrip(".")
        return Unread(f"{error.call}: {error.strerror}", advice[:1].lower() + advice[1:])
    if isinstance(error, SetupError):
        problem, _, advice = error.problem.partition(": ")
        return Unread(f"{error.subject}: {problem}", advice)
    if isinstance(error, XdptstampError):
        return Unread(str(error))
    return Unread(f"{error.filename}: {error.strerror}")
