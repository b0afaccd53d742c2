# SPDX-License-Identifier: GPL-2.0-only
"""Percentiles and counts of a run, in bounded memory while it lasts.

:class:`Summary` keeps a histogram per interval of a kind of run, and the books of its stamps. It
grows with the range of the values, never with their number, and can be pickled and merged.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdptstamp.histogram import Histogram
from xdptstamp.sample import INTERVALS_OF_KIND, NULL, Batch, Cause, interval_name

_Ints = npt.NDArray[np.int64]


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
