# SPDX-License-Identifier: GPL-2.0-only
"""``--fail-if``: limits that a user sets on counts and intervals, judged exactly.

Shares and durations are compared as fractions, never as floats. A percentile is as exact as
:class:`xdptstamp.histogram.Histogram` gives it, and its warning says so; minimum and maximum are
exact.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from xdptstamp.bandwidth import BANDWIDTH_PPM
from xdptstamp.histogram import RELATIVE_ERROR
from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.sample import INTERVALS_OF_KIND, Cause, interval_name
from xdptstamp.stats import Summary
from xdptstamp.text.intervals import refusal

#: What each operator means.
OPERATORS: dict[str, Callable[[Fraction, Fraction], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
#: Nanoseconds of each unit of a duration.
NS_PER_UNIT = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
#: An expression; only a change has a sign (:mod:`xdptstamp.compare.limits`).
EXPRESSION = re.compile(
    r"\s*(?P<name>[a-z_]+)(?:\s+(?P<quantile>[a-z][a-z0-9.]*))?"
    r"\s*(?P<operator>>=|<=|>|<)\s*"
    r"(?P<sign>[+-]?)(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>%|[a-z]*)\s*",
    re.ASCII,
)
_QUANTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,4})?)", re.ASCII)

_CAUSE_OF_NAME = {cause.label: cause for cause in Cause if cause is not Cause.NONE}
#: Of each kind: the count that ``%`` is of, and the counts that its books hold.
BOOKS = {
    "ping-pong": (
        "received",
        (
            "answered",
            "refused",
            "rx_dropped",
            "rx_ring_full",
            "lost",
            "dropped_by_kernel",
            "recorder_overruns",
        ),
    ),
    "ping": ("sent", ("lost", "duplicates", "reordered", "corrupted", "recorder_overruns")),
    "mixed": (
        "sent",
        (
            "bandwidth",
            "lost",
            "dropped_by_kernel",
            "not_received",
            "reordered",
            "duplicates",
            "corrupted",
            "pattern_errors",
            "recorder_overruns",
        ),
    ),
}
# Shares that the books keep in millionths: the worst setting's packets per second, of the baseline.
_PPM_OF = {"bandwidth": BANDWIDTH_PPM}
#: Short names, by kind of timestamps.
ALIASES = {
    "turnaround": {
        "hardware": "rx_hw_to_tx_hw_ns",
        "software": "rx_xdp_to_tx_sw_ns",
    },
    "round_trip": {key: "tx_app_to_rx_app_ns" for key in ("hardware", "software", "none")},
}


@dataclass(frozen=True, slots=True)
class FailIf:
    """One ``--fail-if`` expression; the run fails if it is true, or cannot be told.

    :param text: as typed.
    :param name: a count, a cause or an interval (with ``_ns``), or ``turnaround``.
    :param quantile: share, 0 for the minimum and 1 for the maximum; None for a count.
    :param operator: ``>``, ``>=``, ``<`` or ``<=``.
    :param limit: count, nanoseconds or percent.
    :param is_percent: the limit is a share of what was requested, sent or received.
    """

    text: str
    name: str
    quantile: Fraction | None
    operator: str
    limit: Fraction
    is_percent: bool = False

    def check(self, info: RunInfo, summary: Summary) -> Warning | None:
        """A warning if the limit is missed, or if the run has no such value; else None."""
        try:
            value, shown = self._value(info, summary)
        except _NoValueError as error:
            return self._warning("has no value to judge", str(error), "run longer, or ask less")
        if not OPERATORS[self.operator](value, self.limit):
            return None
        return self._warning("is true", shown, "this limit is yours: --fail-if")

    def _value(self, info: RunInfo, summary: Summary) -> tuple[Fraction, str]:
        if self.quantile is not None:
            value = _interval_value(self.name, self.quantile, info, summary)
            is_exact = self.quantile in (0, 1)
            error = "" if is_exact else f" (within 1/{RELATIVE_ERROR.denominator})"
            return Fraction(value), f"{value} ns{error}"
        count, whole = _count_value(self.name, info, summary)
        if self.name in _PPM_OF:
            return Fraction(count * 100, whole), f"{count / whole:.4%} of the baseline"
        if not self.is_percent:
            return Fraction(count), str(count)
        if not whole:
            raise _NoValueError(f"{self.name}: nothing to take a share of")
        return Fraction(count * 100, whole), f"{count} of {whole}"

    def _warning(self, what: str, shown: str, advice: str) -> Warning:
        return Warning(
            key="fail-if",
            message=f"--fail-if '{self.text}' {what}",
            value=shown,
            limit=self.text,
            advice=advice,
            is_untrusted=True,
        )


class _NoValueError(Exception):
    pass


def parse_fail_if(text: str, kind: str | None = None) -> FailIf:
    """Read one ``--fail-if`` expression.

    :param kind: kind of run; names that this kind does not have are refused.
    :raises ValueError: If it is none; the message shows the grammar.
    """
    match = EXPRESSION.fullmatch(text)
    if match is None or match["sign"]:
        raise _grammar_error(text, "not an expression", kind)
    name, quantile, unit = match["name"], match["quantile"], match["unit"]
    number = Fraction(match["number"])
    if quantile is None:
        if name not in count_names(kind):
            raise _grammar_error(text, f"unknown count {name!r}", kind)
        if unit not in ("", "%") or (not unit and number.denominator != 1):
            raise _grammar_error(text, "a count is compared with a whole number or a %", kind)
        if name in _PPM_OF and unit != "%":
            raise _grammar_error(text, f"{name} is compared with a %", kind)
        return FailIf(text.strip(), name, None, match["operator"], number, unit == "%")
    full_name = full_interval_name(name, kind)
    if full_name is None:
        raise _grammar_error(text, f"unknown interval {name!r}", kind)
    if unit not in NS_PER_UNIT:
        raise _grammar_error(text, "an interval is compared with a duration", kind)
    share = quantile_share(quantile)
    if share is None:
        raise _grammar_error(text, f"unknown quantile {quantile!r}", kind)
    return FailIf(text.strip(), full_name, share, match["operator"], number * NS_PER_UNIT[unit])


# Kinds to look at: the one given, else all.
def _kinds(kind: str | None) -> list[str]:
    return [kind] if kind in BOOKS else list(BOOKS)


def count_names(kind: str | None) -> list[str]:
    """Counts and causes of a kind of run; None: of all."""
    causes = [] if kind == "ping" else ["missing", "stamped", *_CAUSE_OF_NAME]
    books = [name for each in _kinds(kind) for name in BOOKS[each][1]]
    return list(dict.fromkeys([*causes, *books]))


def interval_names(kind: str | None) -> list[str]:
    """Intervals of a kind of run, with ``_ns``; None: of all."""
    return [interval_name(*ends) for each in _kinds(kind) for ends in INTERVALS_OF_KIND[each]]


def full_interval_name(name: str, kind: str | None) -> str | None:
    """An interval's name with ``_ns``, of one with or without, or of a short one
    (``tx_app_to_hw`` for ``tx_app_to_tx_hw_ns``); of an alias itself; None: there is none."""
    if name in ALIASES and kind in (None, "ping" if name == "round_trip" else "ping-pong"):
        return name
    wanted = f"{name.removesuffix('_ns')}_ns"
    for full in interval_names(kind):
        start, _, end = full.partition("_to_")
        short = f"{start}_to_{end.removeprefix(start[:3])}"
        if wanted in (full, short):
            return full
    return None


def quantile_share(quantile: str) -> Fraction | None:
    """0 of ``min``, 1 of ``max``, 0.99 of ``p99``; None: it is none of these."""
    if quantile in ("min", "max"):
        return Fraction(quantile == "max")
    match = _QUANTILE.fullmatch(quantile)
    share = Fraction(match[1]) / 100 if match else Fraction(0)
    return share or None


def _grammar_error(text: str, problem: str, kind: str | None) -> ValueError:
    intervals = [name.removesuffix("_ns") for name in interval_names(kind)]
    aliases = [name for name in ALIASES if full_interval_name(name, kind)]
    return ValueError(
        f"--fail-if {text!r}: {problem}.\n"
        "It reads: COUNT OP NUMBER[%]  or  INTERVAL min|pNN|max OP DURATION\n"
        "OP is > >= < <=, DURATION like 50us (ns us ms s); % is of what was requested,\n"
        "sent or received; bandwidth is in % of the baseline.\n"
        "Examples: 'missing > 0.1%', 'turnaround p99.9 >= 1ms'.\n"
        f"COUNT: {' '.join(count_names(kind))}\n"
        f"INTERVAL: {' '.join([*aliases, *intervals])}"
    )


def _count_value(name: str, info: RunInfo, summary: Summary) -> tuple[int, int]:
    missing = summary.num_missing
    requested = summary.num_stamped + missing
    if name in ("missing", "stamped") or name in _CAUSE_OF_NAME:
        if not requested:
            raise _NoValueError(f"{name}: no timestamp was requested")
        counts = {"missing": missing, "stamped": summary.num_stamped}
        cause = _CAUSE_OF_NAME.get(name)
        return (counts[name] if cause is None else summary.causes.get(cause, 0)), requested
    count = info.counts.get(_PPM_OF.get(name, name))
    if not isinstance(count, int):
        raise _NoValueError(f"{name}: this run does not count it")
    if name in _PPM_OF:
        return count, 1_000_000
    whole = info.counts.get(BOOKS.get(info.kind, ("received", ()))[0])
    return count, whole if isinstance(whole, int) else 0


def _interval_value(name: str, share: Fraction, info: RunInfo, summary: Summary) -> int:
    if name in ALIASES:
        known = ALIASES[name].get(info.timestamps)
        if known is None:
            raise _NoValueError(f"{name}: the run has no timestamps")
        name = known
    reason = refusal(info, name)
    if reason:
        raise _NoValueError(f"{name}: {reason}")
    histogram = summary.intervals.get(name)
    if histogram is None or not histogram.count:
        raise _NoValueError(f"{name}: no sample has it")
    if share in (0, 1):
        return int(histogram.max if share else histogram.min)
    if not histogram.is_supported(float(share)):
        percentile = f"p{float(share * 100):g}"
        raise _NoValueError(f"{name}: {histogram.count} samples are too few for {percentile}")
    return int(histogram.quantile(float(share)))
