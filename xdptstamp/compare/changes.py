# SPDX-License-Identifier: GPL-2.0-only
"""The change of one figure: from the runs of two sides to a value of each and an estimate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xdptstamp.compare.estimate import (
    Estimate,
    Known,
    between_rounds,
    between_runs,
    between_two,
)
from xdptstamp.compare.figures import Counts, Data, Quantile, Values
from xdptstamp.compare.resample import BUCKET_SE, between_samples, block_length, quantile
from xdptstamp.contrast import Figure

_LEAST_BLOCKS = 6


@dataclass(frozen=True, slots=True)
class Seen:
    """A figure on both sides.

    :param base: value of the base, ``value`` of the other side; None: it has none.
    :param estimate: of the change; None: there is no interval, and ``why``.
    """

    figure: Figure
    base: float | None
    value: float | None
    estimate: Estimate | None = None
    why: str = ""


def seen(figure: Figure, base: Sequence[Data], other: Sequence[Data]) -> Seen:
    """A figure of two sides, each with the data of its runs; none: the side has it not."""
    if not base or not other:
        return Seen(figure, _value(base), _value(other), None, _absent(base, other))
    if len(base) == len(other) == 1:
        return _of_two(figure, base[0], other[0])
    return _of_many(figure, base, other)


def _absent(base: Sequence[Data], other: Sequence[Data]) -> str:
    if not base and not other:
        return "neither side has it"
    return f"{'the base' if not base else 'the other side'} has none"


# One run a side: this boot only.


def _of_two(figure: Figure, base: Data, other: Data) -> Seen:
    if isinstance(base, Values) and isinstance(other, Values):
        return _of_two_values(figure, base, other)
    if isinstance(base, Quantile) and isinstance(other, Quantile):
        return _of_two_quantiles(figure, base, other)
    if isinstance(base, Counts) and isinstance(other, Counts):
        return _of_two_counts(figure, base, other)
    raise TypeError(f"{figure.name}: {type(base).__name__} against {type(other).__name__}")


def _of_two_values(figure: Figure, base: Values, other: Values) -> Seen:
    numbers = sorted(base.by_round.keys() & other.by_round.keys())
    sides = [[each.by_round[number] for number in numbers] for each in (base, other)]
    if not numbers:
        return Seen(figure, _value([base]), _value([other]), None, "no round of one number in both")
    is_log = min(map(min, sides)) > 0
    figure = figure if is_log else _plain(figure)
    values = [_mean(side, is_log=is_log) for side in sides]
    estimate = between_rounds(*sides, is_log=is_log)
    return Seen(figure, values[0], values[1], estimate, "" if estimate else "one round")


def _of_two_quantiles(figure: Figure, base: Quantile, other: Quantile) -> Seen:
    values, why = [_value([base]), _value([other])], ""
    if values[0] is None or values[1] is None:
        return Seen(figure, values[0], values[1], None, "too few samples")
    finest_ns = max(base.finest_ns, other.finest_ns)
    is_log = min(values[0], values[1]) > 0
    figure = figure if is_log else _plain(figure)
    if base.share >= 1:
        why = "one packet each"
    elif max(values[0], values[1]) < finest_ns:
        why = "finer than the period"
    if why:
        return Seen(figure, values[0], values[1], None, why)
    sure = [each.uncertainty_ns for each in (base, other)]
    bias = sure[0] / values[0] + sure[1] / values[1] if is_log else float(sum(sure))
    estimate = between_samples(
        base.distribution, other.distribution, base.share, is_log=is_log, bias=bias
    )
    return Seen(figure, values[0], values[1], estimate, "" if estimate else "one round")


def _of_two_counts(figure: Figure, base: Counts, other: Counts) -> Seen:
    values = [_value([base]), _value([other])]
    known = [_known_share(each) for each in (base, other)]
    if known[0] is None or known[1] is None:
        return Seen(figure, values[0], values[1], None, "one count a run")
    of = "rounds" if base.num_rounds and other.num_rounds else "samples"
    floor = _chance([base], [other])
    return Seen(
        figure, values[0], values[1], between_two(known[0], known[1], of, is_log=False, floor=floor)
    )


# A share of one run, by the spread of its rounds or blocks (a ratio of sums).
def _known_share(counts: Counts) -> Known | None:
    if len(counts.parts) < 2:
        return None
    some, whole = (np.array(column, float) for column in zip(*counts.parts, strict=True))
    if not counts.num_rounds:
        length = min(2 * block_length(some / whole), max(1, len(some) // _LEAST_BLOCKS))
        starts = np.arange(0, len(some) // length * length, length)
        some, whole = (np.add.reduceat(each, starts) for each in (some, whole))
    num = len(some)
    if num < 2:
        return None
    share = some.sum() / whole.sum()
    squares = float(((some - share * whole) ** 2).sum())
    se = math.sqrt(squares * num / (num - 1)) / float(whole.sum())
    return Known(float(share), se, num - 1.0, counts.num_rounds or int(whole.sum()))


# Several runs on one side at least: each is one value.


def _of_many(figure: Figure, base: Sequence[Data], other: Sequence[Data]) -> Seen:
    sides = [[_value([each]) for each in side] for side in (base, other)]
    kept = [[value for value in side if value is not None] for side in sides]
    if sides != kept:
        values = [_value(side) for side in (base, other)]
        return Seen(figure, values[0], values[1], None, "too few samples")
    is_count = isinstance(base[0], Counts)
    is_log = not is_count and min(map(min, kept)) > 0
    figure = figure if is_log or is_count else _plain(figure)
    values = [_mean(side, is_log=is_log) for side in kept]
    floor = _within(base, other, is_log=is_log)
    if is_count:
        floor = _chance(base, other)
    elif isinstance(base[0], Quantile):
        if max(kept[0] + kept[1]) < max(each.finest_ns for each in (*base, *other)):  # type: ignore[union-attr]
            return Seen(figure, values[0], values[1], None, "finer than the period")
        floor = BUCKET_SE * (1 if is_log else max(map(abs, kept[0] + kept[1])))
    return Seen(figure, values[0], values[1], between_runs(*kept, is_log=is_log, floor=floor))


# What the rounds of each run leave open: runs that happen to be alike do not spread less.
def _within(base: Sequence[Data], other: Sequence[Data], *, is_log: bool) -> float:
    total = 0.0
    for side in (base, other):
        for run in side:
            if isinstance(run, Values) and len(run.by_round) > 1:
                values = np.array(list(run.by_round.values()), float)
                # A round of nothing, in a run that is not nothing (a ratio of sums), has no log.
                values = np.log(np.maximum(values, 1e-9)) if is_log else values
                total += float(values.var(ddof=1)) / len(values) / len(side) ** 2
    return math.sqrt(total)


# The standard error of a difference of shares by counting alone: what is 0 of few is not 0.
def _chance(base: Sequence[Data], other: Sequence[Data]) -> float:
    total = 0.0
    for side in (base, other):
        parts = [part for each in side if isinstance(each, Counts) for part in each.parts]
        some, whole = (sum(column) for column in zip(*parts, strict=True))
        share = (some + 1) / (whole + 2)
        total += share * (1 - share) / whole
    return math.sqrt(max(total, 0.0))


def _value(side: Sequence[Data]) -> float | None:
    values = [_of_run(each) for each in side]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    is_log = min(known) > 0 and not any(isinstance(each, Counts) for each in side)
    return _mean(known, is_log=is_log)


def _of_run(data: Data) -> float | None:
    if isinstance(data, Values):
        if data.weights is not None:
            total = sum(data.weights.values())
            return sum(data.by_round[r] * weight for r, weight in data.weights.items()) / total
        values = list(data.by_round.values())
        return _mean(values, is_log=min(values) > 0)
    if isinstance(data, Counts):
        whole = sum(each for _, each in data.parts)
        return sum(each for each, _ in data.parts) / whole if whole else None
    merged = data.distribution.whole
    is_there = merged.count and (data.share >= 1 or merged.is_supported(data.share))
    return quantile(merged, data.share) if is_there else None


def _mean(values: Sequence[float], *, is_log: bool) -> float:
    if len(values) == 1:
        return float(values[0])
    array = np.array(values, float)
    return float(np.exp(np.log(array).mean()) if is_log else array.mean())


# Where a value is not positive there is no ratio: the change is a difference.
def _plain(figure: Figure) -> Figure:
    return dataclasses.replace(figure, scale="ns" if figure.unit == "ns" else "plain")
