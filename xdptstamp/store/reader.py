# SPDX-License-Identifier: GPL-2.0-only
"""Reading runs, complete or not: ``run = open_run(path)``, then ``iter_batches(run)``."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xdptstamp.errors import RunFileError
from xdptstamp.run import Run
from xdptstamp.runinfo import RunInfo, check_version
from xdptstamp.sample import COLUMNS_OF_KIND, Batch, column
from xdptstamp.store.files import check_regular, read_error
from xdptstamp.store.rundir import INFO_NAME, SAMPLES_NAME, is_being_written
from xdptstamp.store.shapes import INFO, check_comparison, check_shape, parse_json
from xdptstamp.store.truth import truth_warnings

_SAMPLES_FILE = re.compile(r"[0-9].*\.parquet", re.DOTALL)


def open_run(path: Path) -> Run:
    """Open a run folder, also one that is being written or was killed.

    What a join with the truth found is among the warnings.

    :return: the run; a "running" one that nobody writes any more reads as "interrupted".
    :raises RunFileError: If it is no run, damaged, unreadable or of an unknown schema.
    """
    path = Path(path)
    info = _read_info(path / INFO_NAME)
    try:
        if info.state == "running" and not is_being_written(path):
            # Whoever wrote it may have finished between the two looks.
            info = _read_info(path / INFO_NAME)
            if info.state == "running":
                info.state, info.ended_by = "interrupted", info.ended_by or "killed"
    except OSError as error:
        raise read_error(path, "see whether this run is still being written", error) from error
    info.warnings += truth_warnings(path)
    return Run(path, info, iter_batches)


def iter_batches(run: Run, columns: Sequence[str] | None = None) -> Iterator[Batch]:
    """Read a run's samples in order with bounded memory. See :meth:`Run.batches`.

    :raises RunFileError: If a file of samples cannot be read, or lacks a column.
    """
    known = COLUMNS_OF_KIND[run.info.kind]
    names = known if columns is None else tuple(columns)
    unknown = [name for name in names if name not in known]
    if unknown:
        problem = f"runs of kind {run.info.kind} have no column {', '.join(unknown)}"
        raise RunFileError(run.path, problem)
    for file in sample_files(run.path):
        yield from iter_file(file, names)


def sample_files(path: Path) -> list[Path]:
    """The closed files of samples of a run folder, oldest first; none where they were left out.

    :raises RunFileError: If the folder of samples cannot be read.
    """
    folder = path / SAMPLES_NAME
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFileError(folder, f"cannot read the samples: {error.strerror}") from error
    # By number: the name's width grows after 99999 files.
    names = [name for name in names if _SAMPLES_FILE.fullmatch(name)]
    return [folder / name for name in sorted(names, key=lambda name: (len(name), name))]


def num_samples(file: Path) -> int:
    """How many samples a file holds, by its footer.

    :raises RunFileError: If it cannot be read.
    """
    with _opened(file) as parquet:
        return int(parquet.metadata.num_rows)


def iter_file(file: Path, names: Sequence[str]) -> Iterator[Batch]:
    """Read one file of samples, a bounded batch at a time.

    :param names: columns of its kind of run.
    :raises RunFileError: If it cannot be read, or lacks a column.
    """
    from xdptstamp.store.table import CHUNK_ROWS, to_batch

    with _opened(file) as parquet:
        there = set(parquet.schema_arrow.names)
        missing = [n for n in names if n not in there and not column(n).is_nullable]
        if missing:
            raise RunFileError(file, f"has no column {', '.join(missing)}")
        # What may be null is null in a file from before the column was.
        read = [name for name in names if name in there]
        for records in parquet.iter_batches(CHUNK_ROWS, columns=read, use_threads=False):
            yield to_batch(records, names)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_regular(file)
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            yield parquet
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunFileError(file, f"cannot read these samples: {error}") from error


def _read_info(path: Path) -> RunInfo:
    try:
        check_regular(path)
        content = parse_json(path.read_bytes())
        check_version(content)
        check_shape(content, INFO)
        info = RunInfo.from_json(content)
        if samples := info.clock_comparison.get("samples"):
            check_comparison(samples)
    except (FileNotFoundError, NotADirectoryError) as error:
        problem = "no such run folder"
        if path.parent.exists():
            problem = f"not a run: there is no {INFO_NAME} in it"
        raise RunFileError(path.parent, problem) from error
    except OSError as error:
        raise RunFileError(path, f"cannot read it: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        problem = f"truncated or damaged, it is not valid JSON ({error})"
        raise RunFileError(path, problem) from error
    except (KeyError, TypeError, ValueError) as error:
        raise RunFileError(path, f"not a run info that can be read here: {error}") from error
    if info.kind not in COLUMNS_OF_KIND:
        raise RunFileError(path, f"unknown kind of run: {info.kind!r}")
    return info
