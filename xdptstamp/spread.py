# SPDX-License-Identifier: GPL-2.0-only
"""How sure a percentile is: a 95 % interval that takes no sample for more than it is worth.

Both ends are samples themselves (order statistics), of the ranks between which the true quantile
lies with that probability by the binomial distribution. No shape of the latencies is assumed.

Packets close in time are alike: one busy moment delays many. As if they were independent, the
interval would be far too narrow (half of them, and fewer, would hold the true value). So the run is
cut into :data:`NUM_BLOCKS` blocks of equal length, and the shares of samples at or below the
percentile are compared between blocks (batch means): where they differ v times as much as those of
independent samples would, n samples count as n / v. The same is done with neighbouring blocks taken
together, and the greater v counts, widened by Student's t for the number of blocks, and never less
than 1. What is slower than a tenth of the run no such interval can know.

Ends are widened to the ends of their buckets (:mod:`xdptstamp.histogram`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xdptstamp.histogram import Histogram

CONFIDENCE = 0.95

#: Parts of a run, equally long, in the order of its samples.
NUM_BLOCKS = 20

_MIN_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the true quantile lies.

    :param low: ns, beside ``high``; None: the samples are too few to say.
    :param num_effective: independent samples that would tell as much.
    """

    low: int | None
    high: int | None
    num_effective: int


def spread(whole: Histogram, blocks: Sequence[Histogram], q: float) -> Spread:
    """The interval of ``whole.quantile(q)``.

    :param blocks: of its values, those of each part of the run, in order; parts may be empty.
    :raises ValueError: If there is no value, or ``q`` is not a share.
    """
    value = whole.quantile(q)
    widening = max(_widening(whole, each, value, q) for each in (blocks, _paired(blocks)))
    number = max(1, int(whole.count / max(1.0, widening)))
    low, high = _ranks(number, q)
    # From ranks among the independent ones to ranks among all.
    scale = whole.count / number
    return Spread(
        whole.bounds(max(1, math.floor(low * scale)))[0] if low >= 1 else None,
        whole.bounds(min(whole.count, math.ceil(high * scale)))[1] if high <= number else None,
        number,
    )


def _paired(blocks: Sequence[Histogram]) -> list[Histogram]:
    pairs = []
    for start in range(0, len(blocks), 2):
        pair = Histogram()
        for block in blocks[start : start + 2]:
            pair.merge(block)
        pairs.append(pair)
    return pairs


# How much more the shares of the blocks vary than those of independent samples would.
def _widening(whole: Histogram, blocks: Sequence[Histogram], value: int, q: float) -> float:
    from scipy.special import ndtri, stdtrit

    blocks = [block for block in blocks if block.count]
    limit = _limit(whole, value, q)
    if len(blocks) < _MIN_BLOCKS or limit is None:
        return 1.0
    share = whole.count_to(limit) / whole.count
    squares = sum(
        block.count * (block.count_to(limit) / block.count - share) ** 2 for block in blocks
    )
    freedom, tail = len(blocks) - 1, (1 + CONFIDENCE) / 2
    student = float(stdtrit(freedom, tail)) / float(ndtri(tail))
    return squares / freedom / (share * (1 - share)) * student**2


# The value that parts the samples nearest to `q` of all those between two buckets: the bucket of
# the quantile may hold all that is above it, or below. None: it holds everything.
def _limit(whole: Histogram, value: int, q: float) -> int | None:
    at = whole.count_to(value)
    low, _ = whole.bounds(at)
    limits = [limit for limit in (value, low - 1) if 0 < whole.count_to(limit) < whole.count]
    return min(limits, key=lambda limit: abs(whole.count_to(limit) / whole.count - q), default=None)


# Ranks of the two ends among so many independent samples; 0 and one more than there are: none.
def _ranks(number: int, q: float) -> tuple[int, int]:
    tail = (1 - CONFIDENCE) / 2
    return _binomial(tail, number, q), _binomial(1 - tail, number, q) + 1


# The smallest k with P(X <= k) >= share, X of so many trials. scipy.stats has it, and takes long to
# import.
def _binomial(share: float, number: int, q: float) -> int:
    from scipy.special import bdtr, bdtrik

    k = math.ceil(float(bdtrik(share, number, q)))
    return k - 1 if k and float(bdtr(k - 1, number, q)) >= share else k
