# SPDX-License-Identifier: GPL-2.0-only
"""What of a run is exported: which columns, which samples, and in which form its times.

A time of 19 digits does not survive a reader that keeps every number as a double (spreadsheets,
base R, JavaScript): it loses up to 256 ns. So there are three forms:

- ``ns``: the columns as they are recorded;
- ``split``: two columns for each, ``tx_hw_sec`` and ``tx_hw_nsec``, as in a ``struct timespec``;
- ``relative``: ``tx_hw_rel_ns``, nanoseconds since time 0 of the run, whatever the clock. Time 0 is
  the first time on CLOCK_TAI that is known of the first sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdptstamp.run import Run
from xdptstamp.sample import COLUMNS_OF_KIND, NULL, Batch, Column, clock_of, column

#: The forms of times.
TIMES = ("ns", "split", "relative")

_NS_PER_S = 1_000_000_000
_MAX_EXACT = 1 << 53  # of a double
_PARTS = {"ns": ("",), "split": ("sec", "nsec"), "relative": ("rel",)}
_MEANINGS = {
    "": "{}",
    "sec": "{}: whole seconds",
    "nsec": "{}: nanoseconds beyond them",
    "rel": "{}: since time 0 of the run",
}

_Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One column of an export.

    :param column: of the run, that it is made of.
    :param part: "" as it is, "sec", "nsec" or "rel".
    """

    column: Column
    part: str = ""

    @property
    def name(self) -> str:
        """``tx_hw_ns``, ``tx_hw_sec``, ``tx_hw_nsec``, ``tx_hw_rel_ns``."""
        if not self.part:
            return self.column.name
        end = "rel_ns" if self.part == "rel" else self.part
        return f"{self.column.name.removesuffix('_ns')}_{end}"

    @property
    def dtype(self) -> str:
        """NumPy type."""
        return "i4" if self.part == "nsec" else self.column.dtype

    @property
    def unit(self) -> str:
        """``ns``, ``s``, ``bytes`` or empty."""
        return "s" if self.part == "sec" else self.column.unit

    @property
    def meaning(self) -> str:
        """What it is, in words."""
        return _MEANINGS[self.part].format(self.column.meaning)

    def values(self, batch: Batch, zero_ns: int) -> tuple[_Values, npt.NDArray[np.bool_] | None]:
        """The values in a batch, and where there are any; None: everywhere.

        :param zero_ns: time 0 of the run.
        """
        values = batch[self.column.name]
        if not self.column.is_nullable or self.column.name == "cause":
            return values, None
        is_valid = values != NULL
        if self.part == "rel":
            values = values - zero_ns
        elif self.part:
            seconds, rest = np.divmod(values, _NS_PER_S)
            values = seconds if self.part == "sec" else rest.astype(self.dtype)
        return values, is_valid


def fields_of(columns: Sequence[str], times: str) -> list[Field]:
    """The columns of an export, in the order of the run's ``columns``.

    :param times: one of :data:`TIMES`.
    """
    return [
        Field(column(name), part)
        for name in columns
        for part in (_PARTS[times] if column(name).unit == "ns" else ("",))
    ]


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a run is exported.

    :param columns: of the run, in the order wanted.
    :param times: one of :data:`TIMES`.
    :param from_ns: only samples whose first time on CLOCK_TAI is not before it; ``to_ns``: and
        before that. None: no limit. A sample without any time is in no range.
    """

    columns: tuple[str, ...]
    times: str = "ns"
    from_ns: int | None = None
    to_ns: int | None = None

    @property
    def fields(self) -> list[Field]:
        """The columns of the export."""
        return fields_of(self.columns, self.times)

    def batches(self, run: Run) -> Iterator[Batch]:
        """The samples of ``run`` that are selected, with at least these columns.

        :raises RunFileError: If they cannot be read.
        """
        if self.from_ns is None and self.to_ns is None:
            yield from run.batches(self.columns)
            return
        times = times_on_tai(run.info.kind)
        for batch in run.batches(tuple(dict.fromkeys([*self.columns, *times]))):
            first = first_times(batch, times)
            is_in = first != NULL
            if self.from_ns is not None:
                is_in &= first >= self.from_ns
            if self.to_ns is not None:
                is_in &= first < self.to_ns
            if is_in.any():
                yield batch if is_in.all() else batch[is_in]


def times_on_tai(kind: str) -> list[str]:
    """The columns of a kind of run that are times on CLOCK_TAI."""
    return [name for name in COLUMNS_OF_KIND[kind] if clock_of(name) == "tai"]


def first_times(batch: Batch, times: Sequence[str]) -> npt.NDArray[np.int64]:
    """The first time of each sample; :data:`~xdptstamp.sample.NULL`: it has none."""
    latest = np.iinfo(np.int64).max
    first = np.full(len(batch), latest)
    for name in times:
        first = np.minimum(first, np.where(batch[name] == NULL, latest, batch[name]))
    return np.where(first == latest, NULL, first)


def time_zero(run: Run) -> int | None:
    """Time 0 of a run, ns on CLOCK_TAI; None: no sample has a time.

    :raises RunFileError: If the samples cannot be read.
    """
    times = times_on_tai(run.info.kind)
    for batch in run.batches(times):
        known = first_times(batch, times)
        known = known[known != NULL]
        if len(known):
            return int(known[0])
    return None


def inexact_fields(run: Run, selection: Selection, zero_ns: int) -> list[str]:
    """Names of relative times that a double cannot hold: those of a NIC's clock that is far from
    CLOCK_TAI. Judged by the first value of each.

    :raises RunFileError: If the samples cannot be read.
    """
    found = []
    for batch in run.batches(selection.columns):
        for field in selection.fields:
            values, is_valid = field.values(batch, zero_ns)
            known = values if is_valid is None else values[is_valid]
            if field.part == "rel" and len(known) and abs(int(known[0])) > _MAX_EXACT:
                found.append(field.name)
        break
    return found
