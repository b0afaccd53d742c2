# SPDX-License-Identifier: GPL-2.0-only
"""Everything that a run's files say, worked out anew: what its command printed, and how sure it is.

The samples are read once, a file a thread, in memory that does not grow with their number.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xdptstamp.across import Compared
from xdptstamp.checks import mixed_warnings, run_warnings
from xdptstamp.columns import Columns
from xdptstamp.comparison import Comparison
from xdptstamp.errors import RunFileError
from xdptstamp.histogram import Histogram
from xdptstamp.join.books import Truth
from xdptstamp.rounds import Round, Setting
from xdptstamp.run import Run
from xdptstamp.runinfo import Warning
from xdptstamp.sample import COLUMNS_OF_KIND, NULL, Batch, empty_batch
from xdptstamp.spread import NUM_BLOCKS, Spread, spread
from xdptstamp.stats import Summary, compared_columns, comparison_of
from xdptstamp.store.reader import iter_file, num_samples, sample_files
from xdptstamp.store.rounds import read_rounds
from xdptstamp.store.rundir import CSV_NAME, SAMPLES_NAME
from xdptstamp.store.truth import TRUTH_NAME, read_truth
from xdptstamp.text.intervals import QUANTILES
from xdptstamp.text.packets import NUM_PACKETS, keep_first, packet_view

_MAX_THREADS = 4


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What a run's files say.

    :param run: its info has the warnings that follow from the samples, if the run lacked them.
    :param spreads: how sure each percentile is, by interval (with ``_ns``) and title ("p99").
    :param packets: the first ones worth showing.
    :param settings: of ``mixed``, beside ``rounds``; empty if the run has none.
    :param has_samples: False: they are not in the folder, and ``summary`` is empty.
    :param truth: what really happened, where that is known.
    """

    run: Run
    summary: Summary
    spreads: dict[str, dict[str, Spread]]
    packets: Batch
    settings: Sequence[Setting]
    rounds: Sequence[Round]
    has_samples: bool
    truth: Truth | None


def recompute(run: Run) -> Recomputed:
    """Work a run out anew.

    :raises RunFileError: If a file of it cannot be read.
    """
    info, files = run.info, sample_files(run.path)
    has_samples = bool(files) or (info.state != "complete" and (run.path / SAMPLES_NAME).is_dir())
    blocks, worth_showing = _read(run, files)
    summary = Summary(info.kind)
    for block in blocks:
        summary.merge(block)
    spreads = _spreads(summary, blocks)
    settings, rounds = _rounds(run)
    info.warnings += _missing_files(files)
    if info.state != "running":
        # Those the command had are there; what it did not live to judge, or could not, is added.
        if rounds:
            info.warnings += mixed_warnings(info, settings, rounds)
        # In copy mode the hold times stand for the intervals, which mixed then does not show.
        is_shown = info.kind != "mixed" or info.timestamps == "hardware"
        found = run_warnings(info, summary, spreads if is_shown else None)
        info.warnings += found if has_samples else []
    info.obtained["run_dir"] = str(run.path.absolute())
    csv = run.path.absolute() / CSV_NAME
    info.obtained["csv"] = str(csv) if csv.is_file() else None
    return Recomputed(
        run,
        summary,
        spreads,
        _first_packets(run, worth_showing) if info.kind != "mixed" else empty_batch(0),
        settings,
        rounds,
        has_samples,
        _truth(run.path),
    )


def _rounds(run: Run) -> tuple[list[Setting], list[Round]]:
    # One that was killed has none: they are written at the end.
    if run.info.kind != "mixed" or "rounds" not in run.info.counts:
        return [], []
    return read_rounds(run)


def _truth(path: Path) -> Truth | None:
    data = read_truth(path)
    try:
        return None if data is None else Truth.from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFileError(path / TRUTH_NAME, f"damaged: {error}") from error


class _Block:
    """A part of a run's samples, or of one of its files.

    :param comparison: of the run's clocks; None: the NIC's is taken to be CLOCK_TAI.
    """

    def __init__(self, kind: str, comparison: Comparison | None) -> None:
        self.summary = Summary(kind)
        self.compared = Compared(kind, comparison)
        self._is_compared = comparison is None or comparison.has_cover

    def add(self, batch: Batch) -> None:
        """Take samples in."""
        columns = Columns(batch)
        self.summary.add_columns(columns)
        if self._is_compared:
            self.compared.add(columns)

    def merge(self, other: _Block) -> None:
        """Take in what another one has."""
        self.summary.merge(other.summary)
        self.compared.merge(other.compared)

    def whole(self, *, has_ends: bool) -> Summary:
        """The summary with the intervals across clocks, if these were compared.

        :param has_ends: whether any sample of the run has both ends of one.
        """
        if self._is_compared and has_ends:
            self.summary.take(self.compared)
        return self.summary


@dataclass(slots=True)
class _File:
    """What one file has.

    :param blocks: by number of the run's block.
    :param has_packets: whether any of its packets is worth showing by itself.
    """

    blocks: dict[int, _Block] = field(default_factory=dict)
    has_packets: bool = False


def _read(run: Run, files: Sequence[Path]) -> tuple[list[Summary], list[Path]]:
    """A summary of each block, and the files with packets that are worth showing."""
    kind, comparison = run.info.kind, comparison_of(run.info)
    columns = [*compared_columns(kind), *_plain_columns(kind)]
    needed = packet_view(kind, run.info.timestamps).needed
    blocks = [_Block(kind, comparison) for _ in range(NUM_BLOCKS)]

    def read(number: int) -> _File:
        found, at = _File(), starts[number]
        for batch in iter_file(files[number], columns):
            for block, piece in _pieces(batch, at, starts[-1]):
                if block not in found.blocks:
                    found.blocks[block] = _Block(kind, comparison)
                found.blocks[block].add(piece)
            at += len(batch)
            found.has_packets = found.has_packets or bool((batch[needed] != NULL).any())
        return found

    worth_showing = []
    with ThreadPoolExecutor(num_threads(len(files))) as pool:
        starts = [0, *itertools.accumulate(pool.map(num_samples, files))]
        for file, found in zip(files, pool.map(read, range(len(files))), strict=True):
            for block, part in found.blocks.items():
                blocks[block].merge(part)
            worth_showing += [file] if found.has_packets else []
    # As the recorder does: where no sample has both ends there is nothing to take.
    has_ends = any(block.summary.num_ends for block in blocks)
    return [block.whole(has_ends=has_ends) for block in blocks], worth_showing


def num_threads(num_files: int) -> int:
    """How many files are read at a time."""
    return max(1, min(len(os.sched_getaffinity(0)), _MAX_THREADS, num_files))


def _plain_columns(kind: str) -> list[str]:
    return [name for name in ("cause", "queue_id") if name in COLUMNS_OF_KIND[kind]]


# Sample n of all is in block n * NUM_BLOCKS // total.
def _pieces(batch: Batch, at: int, total: int) -> list[tuple[int, Batch]]:
    first, last = (n * NUM_BLOCKS // total for n in (at, at + len(batch) - 1))
    ends = [-(-block * total // NUM_BLOCKS) - at for block in range(first + 1, last + 1)]
    pieces = zip(range(first, last + 1), np.split(batch, ends), strict=True)
    return [(block, piece) for block, piece in pieces if len(piece)]


def _spreads(whole: Summary, blocks: Sequence[Summary]) -> dict[str, dict[str, Spread]]:
    of_blocks = [block.intervals for block in blocks]
    found = {}
    for name, histogram in whole.intervals.items():
        parts = [each.get(name) or Histogram() for each in of_blocks]
        found[name] = {
            title: spread(histogram, parts, share)
            for title, share in QUANTILES
            if histogram.is_supported(share)
        }
    return found


def _first_packets(run: Run, files: Sequence[Path]) -> Batch:
    view = packet_view(run.info.kind, run.info.timestamps)
    first: Batch | None = None
    for file in files:
        for batch in iter_file(file, view.columns):
            first = keep_first(batch[:0] if first is None else first, batch, view)
            if len(first) == NUM_PACKETS:
                return first
    return empty_batch(0) if first is None else first


# The files are numbered without a gap; one that is gone nobody would see.
def _missing_files(files: Sequence[Path]) -> list[Warning]:
    expected = [f"{number:05d}.parquet" for number in range(len(files))]
    odd = [(file.name, name) for file, name in zip(files, expected, strict=True)]
    found = next(((has, should) for has, should in odd if has != should), None)
    if found is None:
        return []
    return [
        Warning(
            "samples-files",
            "the files of samples are not those that the run wrote",
            f"{found[0]} where {found[1]} should be",
            "numbered from 00000 without a gap",
            "copy the run's folder again, all of it",
            is_untrusted=True,
        )
    ]
