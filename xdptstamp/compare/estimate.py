# SPDX-License-Identifier: GPL-2.0-only
"""A change and how sure it is: from the spread between runs, or between the rounds of two runs.

Runs (boots) differ from each other more than the packets of any of them tell: memory lies
elsewhere, queues hash elsewhere. So with several runs a side each run counts as one value, and the
interval is Welch's (B. L. Welch, The generalization of Student's problem, 1947): it allows either
side a spread of its own, and holds its level with few runs. Where one side has one run it is taken
to spread as the other does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdptstamp.compare.power import needed, student, two_sided
from xdptstamp.contrast import CONFIDENCE

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A change: ``point`` plus or minus Student's t times ``se``, and ``bias`` on top.

    Where ``is_log`` it is the logarithm of a ratio.

    :param bias: what no number of packets makes smaller: how wrong two clocks' offset may be.
    :param num: rounds, runs or samples that it is from, on the side that has fewer.
    :param unit_se: the standard error if that were one alone; ``df_of``: degrees of freedom of so
        many.
    """

    point: float
    se: float
    df: float
    is_log: bool
    num: int
    num_of: str
    unit_se: float
    df_of: Callable[[int], float]
    bias: float = 0.0

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Its two ends, as a change: relative where it is a logarithm."""
        half = student(self.df, 1 - confidence) * self.se + self.bias
        return self.plain(self.point - half), self.plain(self.point + half)

    @property
    def change(self) -> float:
        """The change itself."""
        return self.plain(self.point)

    @property
    def p(self) -> float:
        """Probability of such a change, or a greater one, by chance."""
        distance = max(0.0, abs(self.point) - self.bias)
        if not self.se:
            return 0.0 if distance else 1.0
        return two_sided(distance / self.se, self.df)

    def more(self, change: float, alpha: float) -> int | None:
        """How many more it takes to find a change of that size at a level; None: no number does,
        or none that can be told."""
        return self.more_to_tell(self.own(change), alpha)

    def more_to_tell(self, distance: float, alpha: float) -> int | None:
        """The same of a distance on its own scale."""
        wanted = abs(distance) - self.bias
        if wanted <= 0 or not self.unit_se:
            return None
        total = needed(self.unit_se, self.num, self.df, self.df_of, change=wanted, alpha=alpha)
        return None if total is None else max(1, total - self.num)

    def own(self, change: float) -> float:
        """A change on its own scale."""
        return math.log1p(max(change, -1 + 1e-9)) if self.is_log else change

    def plain(self, value: float) -> float:
        """A point of the estimate as a change."""
        return math.expm1(min(value, 700.0)) if self.is_log else value


def between_runs(
    base: Sequence[float], other: Sequence[float], *, is_log: bool, floor: float = 0.0
) -> Estimate | None:
    """From one value a run; the logarithm is taken here. None: no side has two runs.

    :param floor: the standard error is not smaller than that.
    """
    sides = [np.log(np.array(v, float)) if is_log else np.array(v, float) for v in (base, other)]
    sizes = [len(side) for side in sides]
    if max(sizes) < 2:
        return None
    spreads = [float(side.var(ddof=1)) if len(side) > 1 else None for side in sides]
    variances = [max(filter(None, spreads), default=0.0) if v is None else v for v in spreads]
    parts = [variance / size for variance, size in zip(variances, sizes, strict=True)]
    if min(sizes) < 2:
        df = max(sizes) - 1.0
        per_run = 1.0
    else:
        df = satterthwaite(parts, [size - 1 for size in sizes])
        per_run = min(2.0, df / (min(sizes) - 1))
    se = math.sqrt(sum(parts))
    return Estimate(
        point=float(sides[1].mean() - sides[0].mean()),
        se=max(se, floor),
        df=df,
        is_log=is_log,
        num=min(sizes),
        num_of="runs",
        unit_se=max(math.sqrt(sum(variances)), floor * math.sqrt(min(sizes))),
        df_of=lambda count: max(1.0, per_run * (count - 1)),
    )


def satterthwaite(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances (F. E. Satterthwaite, 1946)."""
    total = sum(variances)
    if not total:
        return float(sum(freedoms))
    spread = sum(v * v / f for v, f in zip(variances, freedoms, strict=True))
    return total * total / spread


@dataclass(frozen=True, slots=True)
class Known:
    """A value of one run, and how sure that is.

    :param se: standard error of it, or of its logarithm; ``df``: degrees of freedom of that.
    :param num: rounds or samples that it is from.
    """

    value: float
    se: float
    df: float
    num: int


def between_two(
    base: Known, other: Known, num_of: str, *, is_log: bool, floor: float = 0.0, bias: float = 0.0
) -> Estimate:
    """From two runs, each with an error of its own."""
    variances = [each.se**2 for each in (base, other)]
    se = max(math.sqrt(sum(variances)), floor)
    df = max(1.0, satterthwaite(variances, [base.df, other.df]))
    num = min(base.num, other.num)
    change = math.log(other.value / base.value) if is_log else other.value - base.value
    return Estimate(
        point=change,
        se=se,
        df=df,
        is_log=is_log,
        num=num,
        num_of=num_of,
        unit_se=se * math.sqrt(num),
        df_of=lambda count: max(1.0, df * count / num),
        bias=bias,
    )


def between_rounds(
    base: Sequence[float], other: Sequence[float], *, is_log: bool, floor: float = 0.0
) -> Estimate | None:
    """From the rounds of two runs, those of one number held against each other.

    Rounds that follow each other are alike: where the means of neighbouring two say that the
    interval must be wider, it is. None: fewer than two rounds.
    """
    before, after = (np.array(values, float) for values in (base, other))
    away = np.log(after) - np.log(before) if is_log else after - before
    num = len(away)
    if num < 2:
        return None
    se, df = _mean_error(away)
    if num >= 6:
        # What neighbouring rounds have in common does not average out between them.
        pairs = away[: num // 2 * 2].reshape(-1, 2).mean(axis=1)
        pair_se, pair_df = _mean_error(pairs)
        tail = 1 - CONFIDENCE
        se = max(se, pair_se * student(pair_df, tail) / student(df, tail))
    return Estimate(
        point=float(away.mean()),
        se=max(se, floor),
        df=df,
        is_log=is_log,
        num=num,
        num_of="rounds",
        unit_se=max(se, floor) * math.sqrt(num),
        df_of=lambda count: max(1.0, count - 1.0),
    )


def _mean_error(values: Floats) -> tuple[float, float]:
    return float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1.0
