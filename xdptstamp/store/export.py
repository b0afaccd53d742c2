# SPDX-License-Identifier: GPL-2.0-only
"""A run as CSV: exact integers, nulls blank, causes as words, booleans true or false."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from xdptstamp.errors import RunFileError
from xdptstamp.run import Run
from xdptstamp.sample import COLUMNS_OF_KIND
from xdptstamp.store.files import file_error, new_file

# What filesystems without hard links answer.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def check_new_file(file: Path) -> None:
    """Refuse a file that exists or has no folder, before anything is measured for it.

    :raises RunFileError: If so.
    """
    if os.path.lexists(file):
        raise RunFileError(file, "exists already and is not overwritten; give another name")
    if not file.absolute().parent.is_dir():
        raise RunFileError(file, "its folder does not exist; make it first")
    if not os.access(file.absolute().parent, os.W_OK | os.X_OK):
        raise RunFileError(file, "its folder does not allow writing; give another one")


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
    check_new_file(file)
    names = COLUMNS_OF_KIND[run.info.kind] if columns is None else tuple(columns)
    # Two exports to one name must not share it; the slower one is refused at the end.
    tmp = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with new_file(tmp) as out:
            num_rows = _write_rows(run, names, out, on_chunk)
        publish(tmp, file)
    except OSError as error:
        raise file_error(file, "write this CSV", error) from error
    return num_rows


def _write_rows(
    run: Run, names: Sequence[str], out: IO[bytes], on_chunk: Callable[[int], None] | None
) -> int:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    from xdptstamp.store.table import schema_of_kind, to_arrow

    whole = schema_of_kind(run.info.kind)
    num_rows = 0
    # Words need no quotes, and the library's own header would have them.
    options = pacsv.WriteOptions(include_header=False, quoting_style="none")
    out.write((",".join(names) + "\n").encode())
    for batch in run.batches(names):
        schema = pa.schema([whole.field(name) for name in names])
        pacsv.write_csv(_plain_words(to_arrow(batch, schema)), out, options)
        num_rows += batch.size
        if on_chunk is not None:
            on_chunk(num_rows)
    return num_rows


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
