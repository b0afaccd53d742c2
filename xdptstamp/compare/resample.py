# SPDX-License-Identifier: GPL-2.0-only
"""How sure the percentiles of one run are, by resampling: rounds, and within them blocks.

Packets close in time are alike, so not samples are drawn but blocks of them, in which what makes
neighbours alike stays whole. How long a block must be is taken from the run (D. N. Politis,
H. White, Automatic block-length selection for the dependent bootstrap, 2004, as corrected by
A. Patton and both, 2009). Of a run in rounds blocks are drawn within each, and whole rounds as
well; the greater spread counts.

Few blocks spread less than what they are drawn from: the standard error is widened for that, and
used with Student's t. Percentiles are interpolated within the buckets of the histograms.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdptstamp.compare.estimate import Estimate, Known, between_two
from xdptstamp.histogram import RELATIVE_ERROR, Histogram

Floats = npt.NDArray[np.float64]

#: Standard error that a value has of its bucket: it may lie anywhere in it. Of a difference of two.
BUCKET_SE = math.sqrt(2) * 2 * float(RELATIVE_ERROR) / math.sqrt(12) * 0.75

_NUM_DRAWS = 400
_MIN_BLOCKS, _LEAST_BLOCKS = 2, 6
_SLOW_SHARES = (0.5, 0.9)
_LONGER = 2
_SEED = 20040101  # the same runs give the same interval


@dataclass(frozen=True)
class Distribution:
    """The values of one interval in a run: rounds, and in each the pieces of it in order.

    :param rounds: histograms by round; a piece that is a whole round is its only block.
    """

    rounds: Sequence[Sequence[Histogram]]

    @functools.cached_property
    def whole(self) -> Histogram:
        """All of them together."""
        merged = Histogram()
        for pieces in self.rounds:
            for piece in pieces:
                merged.merge(piece)
        return merged

    @functools.cached_property
    def _table(self) -> _Table:
        return _Table([[piece for piece in each if piece.count] for each in self.rounds])

    def known(self, share: float, *, is_log: bool) -> Known | None:
        """A quantile and how sure it is; None: there are fewer than two blocks, or rounds."""
        table = self._table
        if not len(table.counts):
            return None
        blocks = table.blocks(share)
        num, num_blocks = len(blocks), sum(len(each) for each in blocks)
        is_nested = num > 1
        if num_blocks < _MIN_BLOCKS:
            return None
        # Blocks within each round; of several rounds, these too, each with its blocks. Blocks of
        # drawn rounds drawn again would have the spread within a round in it twice.
        beyond = table.num_beyond(blocks, share)
        errors = [_error(table.draw_blocks(blocks, share), beyond, is_log=is_log)]
        if is_nested:
            errors.append(_error(table.draw_rounds(blocks, share), num, is_log=is_log))
        df = num - 1.0 if is_nested else max(1.0, beyond - 1.0)
        whole = self.whole
        number = num if is_nested else whole.count
        return Known(quantile(whole, share), max(errors), df, number)


def quantile(whole: Histogram, share: float) -> float:
    """A quantile, interpolated within its bucket; ns."""
    if share >= 1:
        return float(whole.max)
    low, high, counts = whole.spans()
    return float(_interpolated(counts[None, :].astype(float), low, high, share)[0])


def between_samples(
    base: Distribution, other: Distribution, share: float, *, is_log: bool, bias: float
) -> Estimate | None:
    """The change of a quantile between two runs, as far as the samples of these tell.

    :param bias: on the scale of the change.
    """
    sides = [each.known(share, is_log=is_log) for each in (base, other)]
    if sides[0] is None or sides[1] is None:
        return None
    has_rounds = min(len(side.rounds) for side in (base, other)) > 1
    floor = BUCKET_SE * (1 if is_log else max(abs(side.value) for side in sides if side))
    of = "rounds" if has_rounds else "samples"
    return between_two(sides[0], sides[1], of, is_log=is_log, floor=floor, bias=bias)


class _Table:
    # Pieces by buckets: how many values of each piece are in each.
    def __init__(self, rounds: Sequence[Sequence[Histogram]]) -> None:
        pieces = [(number, piece.spans()) for number, each in enumerate(rounds) for piece in each]
        self._numbers = np.array([number for number, _ in pieces], np.int64)
        self._num_rounds = len(rounds)
        if not pieces:
            self.counts = np.zeros((0, 0))
            return
        # Buckets of the whole: minimum and maximum of a piece cut its own short.
        whole = Histogram()
        for each in rounds:
            for piece in each:
                whole.merge(piece)
        self._low, self._high, _ = whole.spans()
        self.counts = np.zeros((len(pieces), len(self._low)))
        for row, (_, (_, high, counts)) in enumerate(pieces):
            at = np.searchsorted(self._low, high, side="right") - 1
            np.add.at(self.counts[row], at, counts)

    # The counts of the blocks of each round, long enough for this quantile.
    def blocks(self, share: float) -> list[Floats]:
        # What is slow shows in the middle first: of the rare ones there are few in each piece.
        series = [self._shares(each) for each in {share, *_SLOW_SHARES}]
        found: list[Floats] = []
        for number in range(self._num_rounds):
            rows = np.flatnonzero(self._numbers == number)
            if not len(rows):
                continue
            length = math.ceil(_LONGER * max(block_length(each[rows]) for each in series))
            length = min(length, max(1, len(rows) // _LEAST_BLOCKS))
            starts = np.arange(0, len(rows) // length * length, length)
            # What is left over at the end goes with the last.
            found.append(np.add.reduceat(self.counts[rows], starts, axis=0))
        return found

    # In how many blocks there is a value beyond the quantile: where all are in a few, these few
    # are all that is known of it.
    def num_beyond(self, blocks: Sequence[Floats], share: float) -> int:
        limit = self._limit(share)
        return sum(int(np.count_nonzero(each[:, limit:].sum(axis=1))) for each in blocks)

    # The share of each piece's values that are not above the quantile of all.
    def _shares(self, share: float) -> Floats:
        within = self.counts[:, : self._limit(share) + 1].sum(axis=1)
        shares: Floats = within / self.counts.sum(axis=1)
        return shares

    def _limit(self, share: float) -> int:
        reached: Floats = np.cumsum(self.counts.sum(axis=0))
        return int(np.searchsorted(reached, share * float(reached[-1])))

    # The quantile of so many draws of blocks, as many in each round as it has.
    def draw_blocks(self, rounds: Sequence[Floats], share: float) -> Floats:
        rng = np.random.default_rng(_SEED)
        total = np.zeros((_NUM_DRAWS, self.counts.shape[1]))
        for blocks in rounds:
            num = len(blocks)
            total += rng.multinomial(num, [1 / num] * num, size=_NUM_DRAWS) @ blocks
        return _interpolated(total, self._low, self._high, share)

    # The same of rounds.
    def draw_rounds(self, rounds: Sequence[Floats], share: float) -> Floats:
        rng = np.random.default_rng(_SEED)
        num = len(rounds)
        wholes = np.array([blocks.sum(axis=0) for blocks in rounds])
        total = rng.multinomial(num, [1 / num] * num, size=_NUM_DRAWS) @ wholes
        return _interpolated(total, self._low, self._high, share)


# The standard error that draws of so many things tell: few spread less than what they are of.
def _error(drawn: Floats, num: int, *, is_log: bool) -> float:
    values = np.log(np.maximum(drawn, 1e-9)) if is_log else drawn
    return float(values.std(ddof=1)) * math.sqrt(num / max(num - 1, 1))


# The quantile of each row of counts, in a straight line through its bucket.
def _interpolated(
    counts: Floats, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], share: float
) -> Floats:
    reached = np.cumsum(counts, axis=1)
    rank = share * reached[:, -1]
    at = np.minimum((reached < rank[:, None]).sum(axis=1), counts.shape[1] - 1)
    rows = np.arange(len(counts))
    inside = counts[rows, at]
    before = reached[rows, at] - inside
    part = np.clip((rank - before) / np.maximum(inside, 1e-9), 0, 1)
    # A bucket of one value is that value.
    found: Floats = low[at] + part * (high[at] - low[at])
    return found


def block_length(series: Floats) -> int:
    """How many neighbours belong together, so that what is left is independent; at least 1."""
    num = len(series)
    if num < 8 or not series.std():
        return 1
    away = series - series.mean()
    spectrum = np.abs(np.fft.rfft(away, 2 * num)) ** 2
    covariance = np.fft.irfft(spectrum)[:num] / num
    correlation = covariance / covariance[0]
    run = max(5, math.ceil(math.sqrt(math.log10(num))))
    limit = 2 * math.sqrt(math.log10(num) / num)
    most = min(math.ceil(math.sqrt(num)) + run, num - 1)
    is_small = np.abs(correlation[1 : most + 1]) < limit
    last = next(
        (lag for lag in range(len(is_small) - run + 1) if is_small[lag : lag + run].all()), None
    )
    width = 2 * (last if last is not None else int(np.flatnonzero(~is_small)[-1]) + 1)
    if not width:
        return 1
    lags = np.arange(-min(width, num - 1), min(width, num - 1) + 1)
    window = np.clip(2 * (1 - np.abs(lags) / width), 0, 1)
    weighted = window * covariance[np.abs(lags)]
    slope, level = float((np.abs(lags) * weighted).sum()), float(weighted.sum())
    if level <= 0:
        return 1
    length: float = (2 * slope**2 / (4 / 3 * level**2)) ** (1 / 3) * math.cbrt(num)
    return max(1, math.ceil(min(length, 3 * math.sqrt(num), num / 3)))
