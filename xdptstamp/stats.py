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

from xdptstamp.across import Compared, is_across
from xdptstamp.columns import Columns, count
from xdptstamp.comparison import Comparison
from xdptstamp.histogram import Histogram
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import (
    COLUMNS_OF_KIND,
    INTERVALS_OF_KIND,
    Batch,
    Cause,
    clock_of,
    interval_name,
)
from xdptstamp.stampseries import StampSeries


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
    :ivar stamps: how the Tx stamps follow each other.
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
        self.stamps = StampSeries(kind)
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
        self.add_columns(Columns(batch))

    def add_columns(self, columns: Columns) -> None:
        """The same of a batch that was taken apart."""
        self.num_warmup += columns.num_warmup
        self.num_samples += columns.size
        self._add_stamps(columns)
        self.stamps.add(columns)
        for pair, histogram in self._histograms.items():
            rows = columns.rows_of(pair)
            if rows is not None and is_across(pair):
                name = interval_name(*pair)
                self.num_ends[name] = self.num_ends.get(name, 0) + count(rows, columns.size)
            elif rows is not None:
                histogram.add(columns[pair[1]][rows] - columns[pair[0]][rows])

    def compare(self, batches: Iterable[Batch], comparison: Comparison | None) -> None:
        """Work the intervals across clocks out, and those on the NIC's anew if that was set.

        :param batches: all samples that :meth:`add` had, with :func:`compared_columns` at least.
        :param comparison: of the run; None: the NIC's clock is taken to be CLOCK_TAI.
        """
        compared = Compared(self.kind, comparison)
        for batch in batches:
            compared.add(Columns(batch))
        self.take(compared)

    def take(self, compared: Compared) -> None:
        """Take the intervals across clocks of the samples that :meth:`add` had."""
        for pair, histogram in compared.histograms.items():
            name = interval_name(*pair)
            self.num_ends.setdefault(name, self._histograms[pair].count)
            self._histograms[pair] = histogram
            self.uncertainties[name] = compared.uncertainties[pair]

    def merge(self, other: Summary) -> None:
        """Take in all that ``other`` has; both of one kind, its samples the later ones."""
        if other.kind != self.kind:
            raise ValueError(f"cannot merge a summary of {other.kind} into one of {self.kind}")
        self.num_samples += other.num_samples
        self.num_warmup += other.num_warmup
        self.num_stamped += other.num_stamped
        self.num_not_requested += other.num_not_requested
        for cause, number in other.causes.items():
            self.causes[cause] += number
        self.stamps.merge(other.stamps)
        for pair, histogram in other._histograms.items():
            self._histograms[pair].merge(histogram)
        for name, histogram in other.uncertainties.items():
            self.uncertainties.setdefault(name, Histogram()).merge(histogram)
        for name, number in other.num_ends.items():
            self.num_ends[name] = self.num_ends.get(name, 0) + number

    def _add_stamps(self, columns: Columns) -> None:
        hardware, software = columns.rows("tx_hw_ns"), columns.rows("tx_sw_ns")
        is_stamped = np.zeros(columns.size, np.bool_)
        for rows in (hardware, software):
            if rows is not None:
                is_stamped[rows] = True
        self.num_stamped += int(np.count_nonzero(is_stamped))
        if "cause" not in columns.names:
            self.num_not_requested += int(np.count_nonzero(~is_stamped))
            return
        causes = columns["cause"]
        self.num_not_requested += int(np.count_nonzero(~is_stamped & (causes == Cause.NONE)))
        for value, number in enumerate(np.bincount(causes).tolist()):
            if number and value != Cause.NONE:
                self.causes[Cause(value)] += number


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
