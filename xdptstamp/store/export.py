# SPDX-License-Identifier: GPL-2.0-only
"""Samples of a run as CSV or as one Parquet file, streamed; files that appear when they are whole.

In a CSV integers are exact, nulls blank, causes words, booleans true or false. There is no text
from anywhere else in it, so no cell can be a spreadsheet's formula.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from xdptstamp.errors import RunFileError
from xdptstamp.run import Run
from xdptstamp.sample import COLUMNS_OF_KIND
from xdptstamp.store.files import file_error, new_file
from xdptstamp.store.rundir import INFO_NAME, SAMPLES_NAME
from xdptstamp.store.selection import Selection

# What filesystems without hard links answer.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def check_new_file(file: Path, advice: str = "give another name") -> None:
    """Refuse a file that exists or has no folder, before anything is measured for it.

    :raises RunFileError: If so.
    """
    if os.path.lexists(file):
        raise RunFileError(file, f"exists already and is not overwritten; {advice}")
    _check_folder(file.absolute().parent, file)


def _check_folder(folder: Path, file: Path) -> None:
    if not folder.is_dir():
        raise RunFileError(file, "its folder does not exist; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunFileError(file, "its folder does not allow writing; give another one")


@contextlib.contextmanager
def new_output(
    file: Path, *, is_forced: bool = False, advice: str = "give another name"
) -> Iterator[IO[bytes]]:
    """Write a file that appears when the block has ended, and not at all if it fails.

    :param is_forced: replace a regular file of that name, unless it is a run's.
    :param advice: where it exists.
    :raises RunFileError: If it exists, or cannot be written.
    """
    try:
        with _whole_file(file, advice, is_forced=is_forced) as out:
            yield out
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFileError(file, f"cannot write this file: {reason}") from error


@contextlib.contextmanager
def _whole_file(
    file: Path, advice: str = "give another name", *, is_forced: bool = False
) -> Iterator[IO[bytes]]:
    _check_place(file, advice, is_forced=is_forced)
    # Two exports to one name must not share it; without force the slower one is refused at the end.
    tmp = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    with new_file(tmp) as out:
        yield out
    if is_forced:
        tmp.replace(file)
    else:
        publish(tmp, file)


def _check_place(file: Path, advice: str, *, is_forced: bool) -> None:
    folder = Path(os.path.realpath(file.absolute().parent))
    if folder.name == SAMPLES_NAME and (folder.parent / INFO_NAME).exists():
        raise RunFileError(file, "would be taken for samples of that run; give another place")
    if not (is_forced and os.path.lexists(file)):
        check_new_file(file, advice)
        return
    if not file.is_file():
        raise RunFileError(file, "is no regular file and is not replaced; give another name")
    if (folder / INFO_NAME).exists():
        raise RunFileError(file, "belongs to a run and is not replaced; give another name")
    _check_folder(folder, file)


def write_csv(
    run: Run,
    file: Path,
    columns: Sequence[str] | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> int:
    """Write a run's samples as CSV with bounded memory; the file appears when it is whole.

    :param columns: columns wanted, in this order; all that the run has, if None.
    :param on_chunk: called with the rows written so far.
    :return: number of rows.
    :raises RunFileError: If the file exists or cannot be written, or the run cannot be read.
    """
    names = COLUMNS_OF_KIND[run.info.kind] if columns is None else tuple(columns)
    try:
        with _whole_file(file) as out:
            return csv_to(out, run, Selection(names), on_chunk=on_chunk)
    except OSError as error:
        raise file_error(file, "write this CSV", error) from error


def csv_to(
    out: IO[bytes],
    run: Run,
    selection: Selection,
    zero_ns: int = 0,
    *,
    on_chunk: Callable[[int], None] | None = None,
) -> int:
    """Write what is selected as CSV.

    :param zero_ns: time 0 of the run, for relative times.
    :return: number of rows.
    :raises RunFileError: If the run cannot be read.
    """
    import pyarrow.csv as pacsv

    num_rows, fields = 0, selection.fields
    # Words need no quotes, and the library's own header would have them.
    options = pacsv.WriteOptions(include_header=False, quoting_style="none")
    out.write((",".join(field.name for field in fields) + "\n").encode())
    for records in _records(run, selection, zero_ns):
        pacsv.write_csv(_plain_words(records), out, options)
        num_rows += records.num_rows
        if on_chunk is not None:
            on_chunk(num_rows)
    return num_rows


def parquet_to(out: IO[bytes], run: Run, selection: Selection, zero_ns: int = 0) -> int:
    """Write what is selected as Parquet: one file, each column with its unit, clock and meaning.

    :param zero_ns: time 0 of the run, for relative times; the file's metadata has it then.
    :return: number of rows.
    :raises RunFileError: If the run cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from xdptstamp.store.table import CHUNK_ROWS, repeating, schema_of_fields

    extra = {"run_id": run.info.run_id, "times": selection.times}
    if selection.times == "relative":
        extra["time_0_ns"] = str(zero_ns)
    schema = schema_of_fields(selection.fields, run.info.kind, extra)
    num_rows, waiting = 0, pa.Table.from_batches([], schema)
    options = {"compression": "zstd", "use_dictionary": repeating(schema)}
    with pq.ParquetWriter(out, schema, **options) as writer:
        for records in _records(run, selection, zero_ns):
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([records], schema)])
            if waiting.num_rows >= CHUNK_ROWS:
                writer.write_table(waiting)
                waiting = waiting.slice(waiting.num_rows)
            num_rows += records.num_rows
        if waiting.num_rows:
            writer.write_table(waiting)
    return num_rows


def _records(run: Run, selection: Selection, zero_ns: int) -> Iterator[Any]:
    from xdptstamp.store.table import schema_of_fields, to_records

    fields = selection.fields
    schema = schema_of_fields(fields, run.info.kind)
    for batch in selection.batches(run):
        yield to_records(batch, fields, schema, zero_ns)


# CSV has no dictionaries.
def _plain_words(records: object) -> object:
    import pyarrow as pa

    table = pa.Table.from_batches([records])
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    return table


def publish(tmp: Path, file: Path) -> None:
    """Give the whole file ``tmp`` its name, which nobody has.

    :raises RunFileError: If somebody has it, who came meanwhile.
    """
    # A link fails where a rename would overwrite.
    try:
        os.link(tmp, file)
    except FileExistsError as error:
        raise RunFileError(file, "appeared meanwhile and is not overwritten") from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        check_new_file(file)
        tmp.replace(file)
    finally:
        tmp.unlink(missing_ok=True)
