# SPDX-License-Identifier: GPL-2.0-only
"""Values, changes and verdicts as words and short numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xdptstamp.contrast import Change, Figure, LimitResult, Pair, Word, verdict

_DIGITS = 5
_MAX_NAMES = 4
_UNITS = {
    "pps": ((1e6, "Mpps"), (1e3, "kpps"), (1.0, "pps")),
    "bps": ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")),
    "ns": ((1e3, "us"),),
    "share": ((0.01, "%"),),
    "": ((1.0, ""),),
}
# What is a number a packet, and not a time that somebody waits.
_PLAIN_NS = ("cpu_user", "cpu_system")


def unit_of(figure: Figure, value: float | None) -> tuple[float, str]:
    """What a value is divided by, and the unit it is then in."""
    if figure.subject in _PLAIN_NS:
        return 1.0, "ns"
    return _fitting(figure.unit, value)


def bit_unit(value: float | None) -> tuple[float, str]:
    """The same of bits in a second."""
    return _fitting("bps", value)


def _fitting(unit: str, value: float | None) -> tuple[float, str]:
    units = _UNITS[unit]
    found = next((each for each in units if value is not None and abs(value) >= each[0]), None)
    return found or units[-1]


def number(value: float | None, factor: float) -> str:
    """Five digits: ``12.345``, ``0.58093``, ``0``; ``-`` where there is none."""
    if value is None:
        return "-"
    scaled = value / factor
    if not scaled:
        return "0"
    decimals = _DIGITS - 1 - math.floor(math.log10(abs(scaled)))
    if decimals > _DIGITS + 1:
        return f"{scaled:.1e}"
    return f"{scaled:.{max(0, min(decimals, _DIGITS))}f}"


def change_text(change: Change) -> str:
    """``-2.71 [-3.92,-1.40]``: in percent, in percentage points, or in the unit of its values."""
    if change.point is None:
        return ""
    ends = (change.low, change.high)
    known = [value for value in (change.point, *ends) if value is not None]
    factor = _factor(change)
    most = max(abs(value) / factor for value in known)
    texts = [_signed(value / factor, most) for value in known]
    return texts[0] if len(texts) == 1 else f"{texts[0]} [{','.join(texts[1:])}]"


def _factor(change: Change) -> float:
    is_plain = change.figure.scale in ("ns", "plain")
    return unit_of(change.figure, change.base)[0] if is_plain else 0.01


def _signed(value: float, most: float) -> str:
    if abs(value) >= 99_950:
        return f"{value:+.0e}"
    if most and most < 0.005:
        return f"{value:+.0e}" if value else "+0"
    return f"{value:+.{2 if most < 9.995 else 1 if most < 99.95 else 0}f}"


def verdict_text(change: Change, pair: Pair) -> str:
    """What is said of a change: ``slower``, ``same within 2.1 %``, ``not enough: 3 more runs``."""
    word = change.word
    if word.is_different:
        return f"{word}, this boot" if pair.design == "one" else str(word)
    if word is Word.SAME:
        return f"same within {_within(change)}"
    if word is Word.NOT_ENOUGH:
        if change.more is None:
            return f"not enough: {change.why}" if change.why else "not enough to tell"
        return f"not enough: {more_text(change)}"
    if word is Word.MISSING:
        return change.why
    return change.why or str(word)


def more_text(change: Change) -> str:
    """``3 more runs``."""
    count = change.more or 0
    of = change.more_of.removesuffix("s") if count == 1 else change.more_of
    if count >= 1_000_000:
        return f"{-(-count // 1_000_000)}M more {of}"
    return f"{-(-count // 1000)}k more {of}" if count >= 1000 else f"{count} more {of}"


# Rounded up: never less than what it is.
def _within(change: Change) -> str:
    within = change.within or 0.0
    if change.figure.scale in ("ns", "plain"):
        return f"{_up(within / _factor(change))} {unit_of(change.figure, change.base)[1]}"
    unit = "points" if change.figure.scale == "points" else "%"
    return f"{_up(within * 100)} {unit}"


def _up(value: float) -> str:
    if value < 1e-6:
        return f"{value:.0e}" if value else "0"
    decimals = 1 if value >= 0.1 else -math.floor(math.log10(value))
    return f"{math.ceil(value * 10**decimals - 1e-9) / 10**decimals:.{decimals}f}"


def overall(pair: Pair, resolution: float) -> str:
    """The verdict on a pair as a sentence, with how often each word is said."""
    found, letter = verdict(pair), pair.letter
    if found in ("slower", "faster"):
        what = f"{letter} is {found.upper()} than A"
    elif found == "mixed":
        what = f"{letter} is SLOWER than A in some figures and FASTER in others"
    elif found == "different":
        what = f"{letter} DIFFERS from A, but not in speed"
    elif found == "same":
        what = f"{letter} is the SAME as A within {100 * resolution:g} %{_headline(pair)}"
    elif found == "not enough":
        what = f"NOT ENOUGH to say that {letter} is the same as A, or different{_headline(pair)}"
    else:
        what = f"{letter} and A have nothing whose change has an interval"
    names = [c.figure.name for c in pair.changes if c.word.is_different]
    shown = f" ({', '.join(names[:_MAX_NAMES])}{', ...' if names[_MAX_NAMES:] else ''})"
    boot = ", this boot only" if pair.design == "one" else ""
    return f"{what}{shown if names else ''}{boot}. All figures: {count_text(pair)}"


# What the word is about, where it is not about all.
def _headline(pair: Pair) -> str:
    subjects = dict.fromkeys(
        " ".join(part for part in (change.figure.subject, change.figure.stat) if part)
        for change in pair.changes
        if change.figure.is_headline and change.p is not None
    )
    return f" in {' and '.join(subjects)}" if subjects else ""


def count_text(pair: Pair) -> str:
    """``2 slower, 11 same, 3 not enough, 4 no interval``."""
    words = [change.word for change in pair.changes]
    return ", ".join(f"{words.count(word)} {word}" for word in Word if word in words) or "none"


def met_text(limits: Sequence[LimitResult]) -> str:
    """The same of limits of one ``--fail-if`` that are all met."""
    about = limits[0].figure if len(limits) == 1 else f"each of {len(limits)} figures"
    return f"met: --fail-if '{limits[0].text}' is not true of {about}"


def limit_text(limit: LimitResult, pair: Pair) -> str:
    """What became of a ``--fail-if``, as a sentence."""
    about = f"{limit.figure}: " if limit.figure else ""
    ends = ""
    if limit.low is not None and limit.high is not None:
        factor, unit = (1000, "us") if limit.scale in ("ns", "plain") else (0.01, "%")
        unit = "points" if limit.scale == "points" else unit
        low, high = (_signed(end / factor, abs(end) / factor) for end in (limit.low, limit.high))
        ends = f", the change is from {low} to {high} {unit}"
    word = {"missed": "MISSED", "met": "met", "no value": "NO VALUE", "inconclusive": "UNSURE"}
    boot = " (this boot only)" if pair.design == "one" else ""
    return f"{word[limit.outcome]}: --fail-if '{limit.text}' {about}{limit.message}{ends}{boot}"
