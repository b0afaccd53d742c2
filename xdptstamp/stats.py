# SPDX-License-Identifier: GPL-2.0-only
"""Percentiles and counts of a run, in bounded memory while it lasts.

:class:`Histogram` counts int64 nanoseconds in log-linear buckets; :class:`Summary` keeps one per
interval of a kind of run, and the books of its stamps. Both grow with the range of the values,
never with their number, and can be pickled and merged.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from xdptstamp.sample import INTERVALS_OF_KIND, NULL, Batch, Cause, interval_name

#: No quantile is further than this from the sample it stands for, relative to that sample.
#: Values from -256 to 255 are exact.
RELATIVE_ERROR = Fraction(1, 256)

# Each octave above 2**_EXACT_BITS has half of 2**_EXACT_BITS buckets; their middle stands for them.
_EXACT_BITS = 8

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
        num_negative = int(self._negative.sum())
        if rank <= num_negative:
            # The bucket furthest from zero comes first.
            reached = np.cumsum(self._negative[::-1])
            bucket = self._negative.size - 1 - int(np.searchsorted(reached, rank))
            value = ~_middle(bucket)
        else:
            reached = np.cumsum(self._positive)
            value = _middle(int(np.searchsorted(reached, rank - num_negative)))
        return min(max(value, self._min), self._max)

    def is_supported(self, q: float) -> bool:
        """Whether at least one value is expected beyond ``q``: p99.9 takes 1000 values."""
        return self.count * (1 - _share(q)) >= 1

    def _need_values(self) -> None:
        if not self.count:
            raise ValueError("the histogram holds no value")

    def _widen(self, smallest: int, largest: int, count: int) -> None:
        self._min = min(self._min, smallest) if self.count else smallest
        self._max = max(self._max, largest) if self.count else largest
        self.count += count


class Summary:
    """What a run's samples amount to: interval histograms and the books of its stamps.

    Warm-up samples are counted in ``num_warmup`` and nowhere else. Of a ``ping``, loss,
    duplicates and reordering are in ``RunInfo.counts``: they have no sample.

    :ivar num_samples: samples that are not warm-up.
    :ivar num_warmup: samples of the warm-up.
    :ivar num_stamped: samples with a Tx stamp, hardware or software.
    :ivar num_not_requested: samples without a stamp and without a cause.
    :ivar causes: for each cause, in the order of :class:`Cause`, how many requested stamps are
        missing because of it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.num_samples = 0
        self.num_warmup = 0
        self.num_stamped = 0
        self.num_not_requested = 0
        self.causes: dict[Cause, int] = dict.fromkeys(tuple(Cause)[1:], 0)
        self._histograms = {pair: Histogram() for pair in INTERVALS_OF_KIND[kind]}

    @property
    def num_missing(self) -> int:
        """Requested stamps that are missing, of whatever cause."""
        return sum(self.causes.values())

    @property
    def intervals(self) -> dict[str, Histogram]:
        """Histogram by name (``rx_xdp_to_tx_sw_ns``) of each interval that any sample has."""
        pairs = self._histograms.items()
        return {interval_name(*pair): histogram for pair, histogram in pairs if histogram.count}

    def add(self, batch: Batch) -> None:
        """Take in a batch; columns that its dtype lacks count as null."""
        is_counted = ~batch["is_warmup"]
        self.num_warmup += batch.size - int(np.count_nonzero(is_counted))
        if not is_counted.all():
            batch = batch[is_counted]
        self.num_samples += batch.size
        self._add_stamps(batch)
        for (start, end), histogram in self._histograms.items():
            if start in _names(batch) and end in _names(batch):
                _add_interval(histogram, batch[start], batch[end])

    def merge(self, other: Summary) -> None:
        """Take in all that ``other`` has; both of one kind."""
        if other.kind != self.kind:
            raise ValueError(f"cannot merge a summary of {other.kind} into one of {self.kind}")
        self.num_samples += other.num_samples
        self.num_warmup += other.num_warmup
        self.num_stamped += other.num_stamped
        self.num_not_requested += other.num_not_requested
        for cause, count in other.causes.items():
            self.causes[cause] += count
        for pair, histogram in other._histograms.items():
            self._histograms[pair].merge(histogram)

    def _add_stamps(self, batch: Batch) -> None:
        is_stamped = np.zeros(batch.size, np.bool_)
        for name in ("tx_hw_ns", "tx_sw_ns"):
            if name in _names(batch):
                is_stamped |= batch[name] != NULL
        self.num_stamped += int(np.count_nonzero(is_stamped))
        if "cause" not in _names(batch):
            self.num_not_requested += int(np.count_nonzero(~is_stamped))
            return
        is_without = ~is_stamped & (batch["cause"] == Cause.NONE)
        self.num_not_requested += int(np.count_nonzero(is_without))
        for value, count in enumerate(np.bincount(batch["cause"]).tolist()):
            if count and value != Cause.NONE:
                self.causes[Cause(value)] += count


def _names(batch: Batch) -> tuple[str, ...]:
    return batch.dtype.names or ()


def _add_interval(histogram: Histogram, start: _Ints, end: _Ints) -> None:
    is_known = (start != NULL) & (end != NULL)
    if is_known.all():
        histogram.add(end - start)
    elif is_known.any():
        histogram.add(end[is_known] - start[is_known])


# 0.9 as the user wrote it: in binary, ten values would not quite support p90.
def _share(q: float) -> Fraction:
    share = Fraction(str(q))
    if not 0 <= share <= 1:
        raise ValueError(f"a quantile is a share from 0 to 1, not {q}")
    return share


def _counted(counts: _Ints, values: _Ints) -> _Ints:
    return _summed(counts, np.bincount(_buckets(values))) if values.size else counts


def _summed(one: _Ints, other: _Ints) -> _Ints:
    longer, shorter = (one, other) if one.size > other.size else (other, one)
    total = longer.copy()
    total[: shorter.size] += shorter
    return total


# The buckets of values >= 0. Bucket = value below 2**8, then 128 to each octave.
def _buckets(values: _Ints) -> _Ints:
    # frexp works on float64, which rounds 2**60 - 1 up into the next octave. With the bits below
    # the leading byte thinned out it cannot, and the leading bit stays.
    _, exponents = np.frexp((values & ~(values >> _EXACT_BITS)).astype(np.float64))
    shift = np.maximum(exponents.astype(np.int64) - _EXACT_BITS, 0)
    buckets: _Ints = (shift << (_EXACT_BITS - 1)) + (values >> shift)
    return buckets


# The middle of the values that share a bucket.
def _middle(bucket: int) -> int:
    half = 1 << (_EXACT_BITS - 1)
    shift = max(bucket // half - 1, 0)
    lowest = (bucket - shift * half) << shift
    return lowest + (1 << shift) // 2
