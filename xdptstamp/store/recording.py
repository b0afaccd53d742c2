# SPDX-License-Identifier: GPL-2.0-only
"""What the recorder process puts on disk, and what becomes of it when the disk fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from xdptstamp.errors import RunFileError
from xdptstamp.run import Run
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Batch
from xdptstamp.stats import Summary, compared_columns, comparison_of
from xdptstamp.store.blocks import TakingSide
from xdptstamp.store.export import write_csv
from xdptstamp.store.files import replace_file
from xdptstamp.store.guarded_output import Problem
from xdptstamp.store.reader import iter_batches
from xdptstamp.store.rundir import CSV_NAME, INFO_NAME, SAMPLES_NAME, encode_info, free_reserve
from xdptstamp.store.writer import SampleWriter

#: Runs up to this size get a ``samples.csv``.
MAX_CSV_ROWS = 1_000_000


class Recording:
    """The files of one run while it lasts, and its summary.

    A write error never raises here: it is told to the measuring side, and kept for the end.

    :param path: the run folder.
    :param blocks: where errors and progress are told.
    :ivar summary: of all samples that came, also of those that could not be written.
    """

    def __init__(self, path: Path, info: RunInfo, blocks: TakingSide) -> None:
        self.summary = Summary(info.kind)
        self._path = path
        self._blocks = blocks
        self._writer = SampleWriter(path / SAMPLES_NAME, info.kind)
        self._num_rows = 0
        self._problem: Problem | None = None  # with samples or run info
        self._csv_problem: Problem | None = None
        self._write_info(info)

    @property
    def problem(self) -> Problem | None:
        """What could not be written."""
        return self._problem or self._csv_problem

    def add(self, batch: Batch) -> None:
        """Take a copy of a batch."""
        self._num_rows += batch.size
        self._write_samples(lambda: self._writer.add(batch))
        self.summary.add(batch)

    def flush(self) -> None:
        """Close the file that is being written, so that others can read it."""
        self._write_samples(self._writer.close_file)

    def compare(self, info: RunInfo) -> None:
        """Let the summary have what takes the comparison of clocks, from the samples on disk.

        :param info: the run info at the end.
        """
        self.flush()
        comparison = comparison_of(info)
        if self.summary.num_ends and (comparison is None or comparison.has_cover):
            run = Run(self._path, info, iter_batches)
            batches = run.batches(compared_columns(info.kind))
            self._write_samples(lambda: self.summary.compare(self._alive(batches), comparison))

    def _alive(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._blocks.beat()
            yield batch

    def end(self, info: RunInfo, csv_file: Path | None) -> Path | None:
        """Write the rest: samples, CSV, run info.

        :param csv_file: a CSV wanted besides ``samples.csv``.
        :return: the CSV to tell the user of, if there is one.
        """
        self._write_samples(lambda: self._writer.close_file(needs_file=True))
        csv = self._write_csvs(info, csv_file)
        if self._problem is not None:
            info.state, info.ended_by = "interrupted", "recorder"
        free_reserve(self._path)
        self._write_info(info)
        num_lost = self._num_rows - self._writer.num_rows
        if self._problem is not None and num_lost:
            path, text = self._problem
            self._problem = path, f"{text} ({num_lost} of {self._num_rows} samples are not kept)"
        return csv

    def _write_csvs(self, info: RunInfo, csv_file: Path | None) -> Path | None:
        files = [] if csv_file is None else [csv_file]
        if self._num_rows <= MAX_CSV_ROWS:
            files.append(self._path / CSV_NAME)
        run = Run(self._path, info, iter_batches)
        written = []
        for file in files:
            try:
                write_csv(run, file, on_chunk=lambda _: self._blocks.beat())
                written.append(file)
            except RunFileError as error:
                self._csv_problem = self._csv_problem or (error.path, error.problem)
        return written[0] if written else None

    # After the first error nothing more is added: nobody would see a hole between two files.
    def _write_samples(self, write: Callable[[], None]) -> None:
        if self._problem is None:
            self._try(write)

    # Tried at the end again; if that fails, the one before stays.
    def _write_info(self, info: RunInfo) -> None:
        self._try(lambda: replace_file(self._path / INFO_NAME, encode_info(info)))

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except RunFileError as error:
            self._problem = self._problem or (error.path, error.problem)
            self._blocks.set_error(str(error))
