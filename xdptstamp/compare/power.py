# SPDX-License-Identifier: GPL-2.0-only
"""How many rounds, runs or samples it takes to find a change of a given size."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

#: With this probability a change is found.
POWER = 0.9

_MAX_FACTOR = 1 << 20
_GRID = (np.arange(40) + 0.5) / 40


def student(df: float, alpha: float) -> float:
    """The two-sided limit of Student's t: beyond it lies ``alpha``."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 1 - alpha / 2))


def two_sided(t: float, df: float) -> float:
    """The probability of a t that is further from 0."""
    from scipy.special import stdtr

    return float(2 * stdtr(df, -abs(t)))


def needed(
    unit_se: float,
    num: int,
    df: float,
    df_of: Callable[[int], float],
    *,
    change: float,
    alpha: float,
) -> int | None:
    """How many it takes in all, where ``num`` said that one alone has a standard error of
    ``unit_se``.

    The spread is itself known from few: what it may truly be, given what was seen, is averaged
    over (chi-squared with ``df``), so that a spread which looked small by luck does not promise too
    much.

    :param df_of: degrees of freedom of so many.
    :param change: to be found with :data:`POWER`, at the level ``alpha`` (two-sided).
    :return: within a hundredth; None: more than can be told.
    """
    from scipy.special import chdtri

    shares = np.sqrt(chdtri(df, 1 - _GRID) / df)

    def is_enough(count: int) -> bool:
        noncentrality = change * math.sqrt(count) / unit_se * shares
        return _power(noncentrality, df_of(count), alpha) >= POWER

    # Near what it would be with a spread that is known for sure.
    guess = max(num, 2, math.ceil((3.5 * unit_se / change) ** 2))
    low, high = guess, guess
    while not is_enough(high):
        low, high = high, 2 * high
        if high > num * _MAX_FACTOR:
            return None
    while low > num and is_enough(low):
        low, high = low // 2, low
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return max(high, num)


# P(T > limit), T noncentral Student's: Abramowitz and Stegun 26.7.10.
def _power(noncentrality: npt.NDArray[np.float64], df: float, alpha: float) -> float:
    from scipy.special import ndtr

    limit = student(df, alpha)
    z = (limit * (1 - 1 / (4 * df)) - noncentrality) / math.sqrt(1 + limit**2 / (2 * df))
    return float(np.mean(ndtr(-z)))
