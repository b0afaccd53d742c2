# SPDX-License-Identifier: GPL-2.0-only
"""``compare --fail-if``: limits that a user sets on changes.

A limit is missed where the whole interval of the change lies beyond it, met where none of it does.
Where the limit lies inside the interval, the runs do not tell: that is neither, and is not taken
for met. Where a limit is about several figures, each is judged by a wider interval, so that they
are missed by chance no more often together than one would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdptstamp.checks.fail_if import (
    ALIASES,
    EXPRESSION,
    NS_PER_UNIT,
    count_names,
    full_interval_name,
    interval_names,
)
from xdptstamp.compare.changes import Seen
from xdptstamp.contrast import CONFIDENCE, LimitResult
from xdptstamp.rounds import POSITIONS
from xdptstamp.text.intervals import QUANTILES

_STATS = (*(title for title, _ in QUANTILES), "max")
_ROUND_TIMES = (*(f"hold_{position}" for position in POSITIONS), "second_app")
_RATIOS = ("bandwidth", "bits", "vs_baseline", "cpu_user", "cpu_system")
_NO_COUNTS = {"bandwidth", "stamped", "recorder_overruns"}


@dataclass(frozen=True, slots=True)
class ChangeLimit:
    """One ``--fail-if`` of a comparison.

    :param name: subject of a figure, or an alias of one.
    :param stat: ``p99``, or empty.
    :param is_above: it is missed above ``limit``, else below.
    :param limit: a share (0.05 is 5 %, or 5 percentage points of a count) or, where ``is_ns``, ns.
    """

    text: str
    name: str
    stat: str
    is_above: bool
    limit: float
    is_ns: bool

    def judge(self, found: Sequence[Seen], timestamps: str) -> list[LimitResult]:
        """What became of it in one pair: one result for each figure it is about."""
        aliases = ALIASES.get(self.name)
        name = aliases.get(timestamps, "") if aliases else self.name
        name = name.removesuffix("_ns")
        about = [s for s in found if s.figure.subject == name and s.figure.stat == self.stat]
        if not about:
            why = "neither side has such a figure"
            return [LimitResult(self.text, "", "no value", why)]
        confidence = 1 - (1 - CONFIDENCE) / len(about)
        return [self._judged(each, confidence) for each in about]

    def _judged(self, found: Seen, confidence: float) -> LimitResult:
        name, estimate = found.figure.name, found.estimate
        limit = self._on_scale(found)
        if estimate is None or limit is None:
            why = found.why or "a change relative to nothing"
            return LimitResult(self.text, name, "no value", f"no interval: {why}")
        low, high = estimate.interval(confidence)
        if low > limit if self.is_above else high < limit:
            outcome, message = "missed", "is true"
        elif high <= limit if self.is_above else low >= limit:
            outcome, message = "met", "is not true"
        else:
            outcome = "inconclusive"
            more = estimate.more_to_tell(estimate.point - estimate.own(limit), 1 - confidence)
            how = "" if more is None else f": {more:,} more {estimate.num_of}"
            message = f"cannot be told{how}"
        return LimitResult(self.text, name, outcome, message, low, high, found.figure.scale)

    # The limit as a change on the figure's scale; None: it has none there.
    def _on_scale(self, found: Seen) -> float | None:
        scale, base = found.figure.scale, found.base
        if scale == "points" or (scale == "relative") != self.is_ns:
            return self.limit
        if base is None or not base:
            return None
        return self.limit / base if scale == "relative" else self.limit * abs(base)


def parse_change_limit(text: str) -> ChangeLimit:
    """Read one ``--fail-if`` expression of ``compare``.

    :raises ValueError: If it is none; the message shows the grammar.
    """
    match = EXPRESSION.fullmatch(text)
    if match is None:
        raise _grammar_error(text, "not an expression")
    name, stat, unit = match["name"], match["quantile"] or "", match["unit"]
    limit = float(match["sign"] + match["number"])
    is_above = match["operator"].startswith(">")
    subject = full_interval_name(name, None) or (name if name in _ROUND_TIMES else None)
    if subject is not None:
        if stat not in _STATS:
            raise _grammar_error(text, f"{name} needs one of {' '.join(_STATS)}")
        if unit in NS_PER_UNIT:
            ns = limit * NS_PER_UNIT[unit]
            return ChangeLimit(text.strip(), _bare(subject), stat, is_above, ns, True)
    elif name not in _names():
        raise _grammar_error(text, f"unknown figure {name!r}")
    elif stat:
        raise _grammar_error(text, f"{name} has no {stat}")
    if unit != "%":
        raise _grammar_error(text, "a change is in %" + (" or a duration" if subject else ""))
    return ChangeLimit(text.strip(), _bare(subject or name), stat, is_above, limit / 100, False)


def _bare(name: str) -> str:
    return name.removesuffix("_ns")


def _names() -> list[str]:
    counts = [name for name in (*count_names(None), "throttled") if name not in _NO_COUNTS]
    return [*_RATIOS, *counts]


def _grammar_error(text: str, problem: str) -> ValueError:
    intervals = list(dict.fromkeys(_bare(name) for name in interval_names(None)))
    return ValueError(
        f"--fail-if {text!r}: {problem}.\n"
        "It reads: FIGURE OP CHANGE%  or  INTERVAL p50|p90|p99|p99.9|max OP CHANGE%|DURATION\n"
        "OP is > >= < <=, CHANGE is of the side from the base, as +5 or -3; of a count in\n"
        "percentage points of what was requested, sent or received; DURATION like +50us.\n"
        "Examples: 'tx_app_to_hw p99 > +5%', 'bandwidth < -3%', 'missing > +0.1%'.\n"
        f"FIGURE: {' '.join(_names())}\n"
        f"INTERVAL: {' '.join([*ALIASES, *_ROUND_TIMES, *intervals])}"
    )
