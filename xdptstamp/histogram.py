# SPDX-License-Identifier: GPL-2.0-only
"""Distributions of int64 nanoseconds in log-linear buckets: bounded memory, stated error."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

#: No quantile is further than this from the sample it stands for, relative to that sample.
#: Values from -256 to 255 are exact.
RELATIVE_ERROR = Fraction(1, 256)

# Each octave above 2**_EXACT_BITS has half of 2**_EXACT_BITS buckets; their middle stands for them.
_EXACT_BITS = 8
# Of a float64. Octaves are counted from that of 2**(_EXACT_BITS - 2): the values of the next one,
# the last that are exact, are then in the buckets of their own number.
_MANTISSA_BITS, _EXPONENT_BIAS = 52, 1023
_FIRST_OCTAVE = (_EXPONENT_BIAS + _EXACT_BITS - 2) << (_EXACT_BITS - 1)

_Ints = npt.NDArray[np.int64]


class Histogram:
    """Distribution of int64 nanoseconds, negative ones included.

    Count, minimum and maximum are exact; quantiles are within :data:`RELATIVE_ERROR`.
    At most 117 KiB, however many values.
    """

    __slots__ = ("_max", "_min", "_negative", "_positive", "count")

    def __init__(self) -> None:
        self.count = 0
        self._min = 0
        self._max = 0
        self._positive: _Ints = np.zeros(0, np.int64)  # of the values 0, 1, 2 ...
        self._negative: _Ints = np.zeros(0, np.int64)  # of the values -1, -2, -3 ...

    @property
    def min(self) -> int:
        """The smallest value. :raises ValueError: If there is none."""
        self._need_values()
        return self._min

    @property
    def max(self) -> int:
        """The largest value. :raises ValueError: If there is none."""
        self._need_values()
        return self._max

    def add(self, values: npt.ArrayLike) -> None:
        """Count every one of ``values``, integer nanoseconds."""
        array = np.asarray(values)
        if not array.size:
            return
        if array.dtype.kind not in "iu":
            raise TypeError(f"a histogram takes integer nanoseconds, not {array.dtype}")
        numbers = array.astype(np.int64, copy=False)
        self._widen(int(numbers.min()), int(numbers.max()), numbers.size)
        if self._min >= 0:
            self._positive = _counted(self._positive, numbers)
            return
        is_negative = numbers < 0
        self._positive = _counted(self._positive, numbers[~is_negative])
        self._negative = _counted(self._negative, ~numbers[is_negative])

    def add_times(self, values: npt.ArrayLike, times: npt.ArrayLike) -> None:
        """Count each of ``values``, integer nanoseconds, as often as ``times`` says."""
        repeats = np.asarray(times, dtype=np.int64)
        numbers = np.asarray(values, dtype=np.int64)[repeats > 0]
        if not numbers.size:
            return
        repeats = repeats[repeats > 0]
        self._widen(int(numbers.min()), int(numbers.max()), int(repeats.sum()))
        is_negative = numbers < 0
        self._positive = _counted(self._positive, numbers[~is_negative], repeats[~is_negative])
        self._negative = _counted(self._negative, ~numbers[is_negative], repeats[is_negative])

    def buckets(self) -> list[tuple[int, int]]:
        """(value, how often) of every bucket that is not empty, in ascending order.

        The value is the middle of the bucket, within :data:`RELATIVE_ERROR` of what it stands for.
        """
        negative = [(~_middle(at), count) for at, count in _occupied(self._negative)]
        positive = [(_middle(at), count) for at, count in _occupied(self._positive)]
        return negative[::-1] + positive

    def spans(self) -> tuple[_Ints, _Ints, _Ints]:
        """The least and the greatest value, and how often, of every bucket that is not empty, in
        ascending order; the first and the last end at minimum and maximum."""
        below, above = np.flatnonzero(self._negative)[::-1], np.flatnonzero(self._positive)
        (low_below, high_below), (low, high) = _spans(below), _spans(above)
        least, greatest = np.concatenate([~high_below, low]), np.concatenate([~low_below, high])
        counts = np.concatenate([self._negative[below], self._positive[above]])
        return np.maximum(least, self._min), np.minimum(greatest, self._max), counts

    def merge(self, other: Histogram) -> None:
        """Count everything that ``other`` counted."""
        if other.count:
            self._widen(other._min, other._max, other.count)
            self._positive = _summed(self._positive, other._positive)
            self._negative = _summed(self._negative, other._negative)

    def quantile(self, q: float) -> int:
        """The value that the share ``q`` of all values does not exceed (nearest rank).

        :param q: 0.999 for p99.9; 0 gives the minimum and 1 the maximum, both exact.
        :return: nanoseconds, within :data:`RELATIVE_ERROR`, never outside minimum and maximum.
        :raises ValueError: If there is no value, or ``q`` is not a share.
        """
        self._need_values()
        share = _share(q)
        rank = max(1, -(-share.numerator * self.count // share.denominator))
        if rank == 1:
            return self._min
        if rank == self.count:
            return self._max
        is_negative, bucket = self._bucket_of(rank)
        value = ~_middle(bucket) if is_negative else _middle(bucket)
        return min(max(value, self._min), self._max)

    def bounds(self, rank: int) -> tuple[int, int]:
        """The least and the greatest that the value of a rank can be: 1 is the smallest.

        :raises ValueError: If there is no such rank.
        """
        if not 1 <= rank <= self.count:
            raise ValueError(f"{self.count} values have no rank {rank}")
        is_negative, bucket = self._bucket_of(rank)
        low, high = _span(bucket)
        if is_negative:
            low, high = ~high, ~low
        return max(low, self._min), min(high, self._max)

    def count_to(self, value: int) -> int:
        """How many values are in the bucket of ``value``, or below it."""
        bucket = int(_buckets(np.array([~value if value < 0 else value], np.int64))[0])
        if value < 0:
            return int(self._negative[bucket:].sum())
        return int(self._negative.sum() + self._positive[: bucket + 1].sum())

    def is_supported(self, q: float) -> bool:
        """Whether at least one value is expected beyond ``q``: p99.9 takes 1000 values."""
        return self.count * (1 - _share(q)) >= 1

    # Whether the value of that rank is negative, and its bucket.
    def _bucket_of(self, rank: int) -> tuple[bool, int]:
        num_negative = int(self._negative.sum())
        if rank <= num_negative:
            # The bucket furthest from zero comes first.
            reached = np.cumsum(self._negative[::-1])
            return True, self._negative.size - 1 - int(np.searchsorted(reached, rank))
        reached = np.cumsum(self._positive)
        return False, int(np.searchsorted(reached, rank - num_negative))

    def _need_values(self) -> None:
        if not self.count:
            raise ValueError("the histogram holds no value")

    def _widen(self, smallest: int, largest: int, count: int) -> None:
        self._min = min(self._min, smallest) if self.count else smallest
        self._max = max(self._max, largest) if self.count else largest
        self.count += count


def _occupied(counts: _Ints) -> list[tuple[int, int]]:
    return [(at, int(counts[at])) for at in np.flatnonzero(counts).tolist()]


# 0.9 as the user wrote it: in binary, ten values would not quite support p90.
def _share(q: float) -> Fraction:
    share = Fraction(str(q))
    if not 0 <= share <= 1:
        raise ValueError(f"a quantile is a share from 0 to 1, not {q}")
    return share


def _counted(counts: _Ints, values: _Ints, times: _Ints | None = None) -> _Ints:
    if not values.size:
        return counts
    # bincount sums weights as float64, exact below 2**53.
    return _summed(counts, np.bincount(_buckets(values), times).astype(np.int64, copy=False))


def _summed(one: _Ints, other: _Ints) -> _Ints:
    longer, shorter = (one, other) if one.size > other.size else (other, one)
    total = longer.copy()
    total[: shorter.size] += shorter
    return total


# The buckets of values >= 0. Bucket = value below 2**8, then 128 to each octave.
def _buckets(values: _Ints) -> _Ints:
    # Exponent and first seven bits of a float64 (IEEE 754) are just that, but for where they start.
    # float64 rounds 2**60 - 1 up into the next octave. With the bits below the leading byte
    # thinned out it cannot, and the leading byte stays.
    thinned = values & ~(values >> _EXACT_BITS)
    buckets: _Ints = thinned.astype(np.float64).view(np.int64)
    buckets >>= _MANTISSA_BITS - _EXACT_BITS + 1
    buckets -= _FIRST_OCTAVE
    half = 1 << (_EXACT_BITS - 1)
    is_small = values < half
    return np.where(is_small, values, buckets) if is_small.any() else buckets


# The middle of the values that share a bucket.
def _middle(bucket: int) -> int:
    low, high = _span(bucket)
    return low + (high - low + 1) // 2


# Of many buckets what _span() says of one.
def _spans(buckets: _Ints) -> tuple[_Ints, _Ints]:
    half = 1 << (_EXACT_BITS - 1)
    shift = np.maximum(buckets // half - 1, 0)
    low = (buckets - shift * half) << shift
    return low, low + (np.int64(1) << shift) - 1


# The least and the greatest of them.
def _span(bucket: int) -> tuple[int, int]:
    half = 1 << (_EXACT_BITS - 1)
    shift = max(bucket // half - 1, 0)
    low = (bucket - shift * half) << shift
    return low, low + (1 << shift) - 1
