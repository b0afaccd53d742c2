# SPDX-License-Identifier: GPL-2.0-only
"""A run that was read back: its info, where it lies, and its samples when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Batch


@dataclass(frozen=True, slots=True)
class Run:
    """One run. The store opens it; who judges or draws runs needs nothing else.

    :param path: the run folder.
    :param info: its run info; ``state`` is "interrupted" if whoever wrote it is gone.
    :param reader: how to read the samples of this run.
    """

    path: Path
    info: RunInfo
    reader: Callable[[Run, Sequence[str] | None], Iterator[Batch]] = field(repr=False)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """Read the samples in order, a bounded batch at a time.

        :param columns: columns wanted; all that the run has, if None.
        :return: arrays with these columns alone, a missing value being ``sample.NULL``.
        :raises RunFileError: If a file of samples cannot be read.
        """
        return self.reader(self, columns)
