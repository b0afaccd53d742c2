# SPDX-License-Identifier: GPL-2.0-only
"""Many figures, one verdict: which of them may be called different, so that with a probability of
95 % none is by chance.

Holm's step-down with weights (S. Holm, A simple sequentially rejective multiple test procedure,
1979): it needs no figure to be independent of another. The headline figures have most of the
weight, so that the many percentiles of a run do not drown its bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Of all chance, the headline figures get this together.
HEADLINE_WEIGHT = 0.8


def weights(is_headline: Sequence[bool]) -> list[float]:
    """The share of each figure in all chance; they sum to 1."""
    num, rest = sum(is_headline), len(is_headline) - sum(is_headline)
    if not num or not rest:
        return [1 / len(is_headline)] * len(is_headline) if is_headline else []
    return [HEADLINE_WEIGHT / num if each else (1 - HEADLINE_WEIGHT) / rest for each in is_headline]


def different(ps: Sequence[float], shares: Sequence[float], alpha: float) -> list[bool]:
    """Which may be called different.

    :param ps: probability of each by chance alone; ``shares``: of :func:`weights`.
    :param alpha: the probability that any of them is called so by chance.
    """
    found = [False] * len(ps)
    left = set(range(len(ps)))
    while left:
        total = sum(shares[i] for i in left)
        best = min(left, key=lambda i: ps[i] / shares[i])
        if ps[best] > alpha * shares[best] / total:
            break
        found[best] = True
        left.remove(best)
    return found
