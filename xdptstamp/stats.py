# SPDX-License-Identifier: GPL-2.0-only
"""Percentiles and counts of a run, in bounded memory while it lasts.

:class:`Summary` keeps a histogram per interval of a kind of run, and the books of its stamps. It
grows with the range of the values, never with their number, and can be pickled and merged.
Intervals across two clocks need the comparison of these, known in full only when the run is over:
:meth:`Summary.compare` then takes them from the samples that were kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from xdptstamp.comparison import Comparison
from xdptstamp.histogram import Histogram
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import (
    COLUMNS_OF_KIND,
    INTERVALS_OF_KIND,
    NULL,
    Batch,
    Cause,
    clock_of,
    interval_name,
)

_Ints = npt.NDArray[np.int64]
_Pair = tuple[str, str]


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
    :ivar uncertainties: of each interval across clocks that was compared, by name: how wrong its
        values may be.
    :ivar num_ends: of each interval across clocks, by name: samples that have both ends. Those that
        are not in its histogram could not be compared.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.num_samples = 0
        self.num_warmup = 0
        self.num_stamped = 0
        self.num_not_requested = 0
        self.causes: dict[Cause, int] = dict.fromkeys(tuple(Cause)[1:], 0)
        self.uncertainties: dict[str, Histogram] = {}
        self.num_ends: dict[str, int] = {}
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
        for pair, histogram in self._histograms.items():
            if not set(pair) <= set(_names(batch)):
                continue
            if _is_across(pair):
                self._count_ends(pair, _are_known(batch, pair))
            else:
                _add_interval(histogram, batch[pair[0]], batch[pair[1]])

    def compare(self, batches: Iterable[Batch], comparison: Comparison | None) -> None:
        """Work the intervals across clocks out, and those on the NIC's anew if that was set.

        :param batches: all samples that :meth:`add` had, with :func:`compared_columns` at least.
        :param comparison: of the run; None: the NIC's clock is taken to be CLOCK_TAI.
        """
        has_steps = comparison is not None and comparison.num_stretches > 1
        pairs = [pair for pair in self._histograms if _is_across(pair)]
        pairs += [pair for pair in self._histograms if has_steps and _is_within_phc(pair)]
        for pair in pairs:
            name = interval_name(*pair)
            self.num_ends.setdefault(name, self._histograms[pair].count)
            self._histograms[pair], self.uncertainties[name] = Histogram(), Histogram()
        for batch in batches:
            counted = batch[~batch["is_warmup"]]
            for pair in pairs if counted.size else ():
                self._add_compared(pair, counted, comparison)

    def _add_compared(self, pair: _Pair, batch: Batch, comparison: Comparison | None) -> None:
        batch = batch[_are_known(batch, pair)]
        start, end = batch[pair[0]], batch[pair[1]]
        sure: _Ints = np.zeros(len(batch), np.int64)
        if comparison is not None:
            first, last = _span(batch)
            if _is_within_phc(pair):
                is_good = comparison.stretch_of(first, last) >= 0
            elif clock_of(pair[0]) == "phc":
                start, sure = comparison.to_tai(start, first, last)
                is_good = sure != NULL
            else:
                end, sure = comparison.to_tai(end, first, last)
                is_good = sure != NULL
            start, end, sure = start[is_good], end[is_good], sure[is_good]
        self._histograms[pair].add(end - start)
        self.uncertainties[interval_name(*pair)].add(sure)

    def _count_ends(self, pair: _Pair, is_known: npt.NDArray[np.bool_]) -> None:
        count = int(np.count_nonzero(is_known))
        if count:
            name = interval_name(*pair)
            self.num_ends[name] = self.num_ends.get(name, 0) + count

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
        for name, histogram in other.uncertainties.items():
            self.uncertainties.setdefault(name, Histogram()).merge(histogram)
        for name, count in other.num_ends.items():
            self.num_ends[name] = self.num_ends.get(name, 0) + count

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


def compared_columns(kind: str) -> list[str]:
    """The columns that :meth:`Summary.compare` needs of a kind of run."""
    names = COLUMNS_OF_KIND[kind]
    return [name for name in names if clock_of(name) or name == "is_warmup"]


def comparison_of(info: RunInfo) -> Comparison | None:
    """How the NIC's clock compared with CLOCK_TAI in a run.

    :return: None: it is taken to be CLOCK_TAI, as the user asked. Where nothing was measured, a
        comparison that covers nothing.
    """
    if is_assumed(info):
        return None
    samples = info.clock_comparison.get("samples")
    return Comparison.from_json(samples) if samples else Comparison()


def is_assumed(info: RunInfo) -> bool:
    """Whether the user said that the NIC's clock is CLOCK_TAI (``--assume-phc-is-tai``)."""
    return bool(info.asked.get("assume_phc_is_tai"))


def _is_across(pair: _Pair) -> bool:
    return clock_of(pair[0]) != clock_of(pair[1])


def _is_within_phc(pair: _Pair) -> bool:
    return clock_of(pair[0]) == clock_of(pair[1]) == "phc"


def _are_known(batch: Batch, pair: _Pair) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (batch[pair[0]] != NULL) & (batch[pair[1]] != NULL)
    return found


# The first and the last time on CLOCK_TAI that is known of each packet.
def _span(batch: Batch) -> tuple[_Ints, _Ints]:
    first: _Ints = np.full(len(batch), np.iinfo(np.int64).max)
    last: _Ints = np.full(len(batch), NULL)
    for name in _names(batch):
        if clock_of(name) == "tai":
            times = batch[name]
            first = np.minimum(first, np.where(times == NULL, first, times))
            last = np.maximum(last, times)
    return first, last


def _names(batch: Batch) -> tuple[str, ...]:
    return batch.dtype.names or ()


def _add_interval(histogram: Histogram, start: _Ints, end: _Ints) -> None:
    is_known = (start != NULL) & (end != NULL)
    if is_known.all():
        histogram.add(end - start)
    elif is_known.any():
        histogram.add(end[is_known] - start[is_known])
