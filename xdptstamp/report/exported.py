# SPDX-License-Identifier: GPL-2.0-only
"""The samples of a run in another form, streamed in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from xdptstamp.errors import RunFileError
from xdptstamp.run import Run
from xdptstamp.sample import COLUMNS_OF_KIND, Batch
from xdptstamp.store.export import csv_to, parquet_to
from xdptstamp.store.reader import sample_files
from xdptstamp.store.rundir import SAMPLES_NAME
from xdptstamp.store.selection import Selection
from xdptstamp.text.hwmeta import recorded_lines
from xdptstamp.text.jsonl import object_lines

#: The names ``--format`` takes.
FORMATS = ("csv", "parquet", "json", "hwmeta")

_CHUNK_ROWS = 4096


def check_samples(run: Run) -> None:
    """Refuse a run whose samples were left out of its folder.

    :raises RunFileError: If so.
    """
    if not sample_files(run.path) and not (run.path / SAMPLES_NAME).is_dir():
        raise RunFileError(run.path, f"its samples are not there: it has no {SAMPLES_NAME}/")


def export(out: IO[bytes], run: Run, name: str, selection: Selection, zero_ns: int) -> None:
    """Write what is selected of a run.

    :param name: one of :data:`FORMATS`; ``hwmeta`` takes all columns, and times as they are.
    :param zero_ns: time 0 of the run.
    :raises RunFileError: If the run cannot be read.
    """
    if name == "csv":
        csv_to(out, run, selection, zero_ns)
    elif name == "parquet":
        parquet_to(out, run, selection, zero_ns)
    elif name == "json":
        for batch in _small_batches(run, selection):
            _write(out, object_lines(selection.fields, batch, zero_ns))
    else:
        for lines in recorded_lines(run.info, _small_batches(run, selection)):
            _write(out, lines)


# Lines of text take many times the memory of their samples.
def _small_batches(run: Run, selection: Selection) -> Iterator[Batch]:
    for batch in selection.batches(run):
        for start in range(0, len(batch), _CHUNK_ROWS):
            yield batch[start : start + _CHUNK_ROWS]


def _write(out: IO[bytes], lines: list[str]) -> None:
    out.write("".join(f"{line}\n" for line in lines).encode("ascii"))


def check_columns(kind: str, columns: tuple[str, ...]) -> str | None:
    """What is wrong with a choice of columns; None: nothing."""
    known = COLUMNS_OF_KIND[kind]
    unknown = [name for name in columns if name not in known]
    if unknown:
        return f"a {kind} run has no column {', '.join(unknown)}. It has: {', '.join(known)}"
    twice = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
    return f"{', '.join(twice)}: named twice" if twice else None
