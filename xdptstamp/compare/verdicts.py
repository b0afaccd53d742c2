# SPDX-License-Identifier: GPL-2.0-only
"""What is said of each change: different, the same, or that it is not enough to tell."""

from __future__ import annotations

from collections.abc import Sequence

from xdptstamp.compare.changes import Seen
from xdptstamp.compare.family import different, weights
from xdptstamp.contrast import CONFIDENCE, Change, Figure, Word

#: A change that matters, unless the user says another.
RESOLUTION = 0.03

# A share is not asked to be more alike than that of this one.
_LEAST_SHARE = 0.01


def verdicts(found: Sequence[Sequence[Seen]], resolution: float = RESOLUTION) -> list[list[Change]]:
    """The changes of the figures of some pairs.

    All figures of all pairs are one family: what is said of any is said with one confidence.

    :param resolution: a change that matters, relative.
    """
    judged = [each for figures in found for each in figures if _counts_for(each)]
    shares = weights([each.figure.is_headline for each in judged])
    alpha = 1 - CONFIDENCE
    ps = [each.estimate.p for each in judged if each.estimate is not None]
    called = dict(zip(map(id, judged), different(ps, shares, alpha), strict=True))
    alphas = {id(each): alpha * share for each, share in zip(judged, shares, strict=True)}
    return [
        [
            _change(each, called.get(id(each), False), resolution, alphas.get(id(each), alpha))
            for each in figures
        ]
        for figures in found
    ]


# What never was on either side cannot be called different, and takes no part of the chance (R. E.
# Tarone, A modified Bonferroni method for discrete data, 1990).
def _counts_for(found: Seen) -> bool:
    return found.estimate is not None and not _is_nothing(found)


def _is_nothing(found: Seen) -> bool:
    return found.figure.unit == "share" and not found.base and not found.value


def _change(found: Seen, is_called: bool, resolution: float, alpha: float) -> Change:
    figure, estimate = found.figure, found.estimate
    if found.base is None or found.value is None:
        return Change(figure, found.base, found.value, word=Word.MISSING, why=found.why)
    if estimate is None:
        point = _plain_change(figure, found.base, found.value)
        return Change(figure, found.base, found.value, point, why=found.why)
    low, high = estimate.interval()
    limit = _limit(figure, found.base, resolution)
    within, more, why = max(abs(low), abs(high)), None, ""
    if is_called:
        word = figure.words[estimate.point > 0]
    elif within <= limit or _is_nothing(found):
        word = Word.SAME
    else:
        word, more = Word.NOT_ENOUGH, estimate.more(limit, alpha)
        why = "clocks too unsure" if estimate.bias >= estimate.own(limit) else ""
    return Change(
        figure,
        found.base,
        found.value,
        estimate.change,
        low,
        high,
        estimate.p,
        word,
        within if word is Word.SAME else None,
        more,
        estimate.num_of,
        why,
    )


# The change that matters, on the figure's scale.
def _limit(figure: Figure, base: float, resolution: float) -> float:
    if figure.scale == "relative":
        return resolution
    return resolution * (max(base, _LEAST_SHARE) if figure.scale == "points" else abs(base))


def _plain_change(figure: Figure, base: float, value: float) -> float:
    return value / base - 1 if figure.scale == "relative" else value - base
