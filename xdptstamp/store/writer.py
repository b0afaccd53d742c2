# SPDX-License-Identifier: GPL-2.0-only
"""Samples to Parquet, file after file, in memory that does not grow.

A file is written under a hidden name and renamed when it is closed and on disk, so that whoever
reads the folder meanwhile, or after a kill, sees whole files only.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xdptstamp.sample import SAMPLE_DTYPE, Batch
from xdptstamp.store.blocks import RAW_ROW
from xdptstamp.store.files import file_error, hidden_tmp, new_file
from xdptstamp.store.table import CHUNK_ROWS, repeating, schema_of_kind, to_arrow

#: A file is closed once it has this many rows, whenever the next flush is due.
FILE_ROWS = 8 * CHUNK_ROWS


def limit_memory() -> None:
    """Keep this process small and to one thread; for a process that only records."""
    # The C library's allocator gives memory back when told to; others keep it for speed.
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


class SampleWriter:
    """Writes ``NNNNN.parquet`` files of one run.

    :param folder: where to; it exists.
    :ivar num_rows: rows in closed files.
    :ivar num_pending: rows added and not yet in a closed file.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.num_rows = 0
        self.num_pending = 0
        self._folder = folder
        self._schema = schema_of_kind(kind)
        self._num_files = 0
        self._staged = np.zeros(CHUNK_ROWS, SAMPLE_DTYPE)
        self._raw = self._staged.view(RAW_ROW)
        self._num_staged = 0
        self._file = contextlib.ExitStack()
        self._parquet: Any = None

    def add(self, batch: Batch) -> None:
        """Take a copy of a batch.

        :raises RunFileError: If writing fails; what was pending is lost then.
        """
        self.num_pending += batch.size
        rows = batch.view(RAW_ROW)
        while rows.size:
            count = min(rows.size, CHUNK_ROWS - self._num_staged)
            self._raw[self._num_staged : self._num_staged + count] = rows[:count]
            self._num_staged += count
            rows = rows[count:]
            if self._num_staged == CHUNK_ROWS:
                self._write_staged()
        if self.num_pending >= FILE_ROWS:
            self.close_file()

    def close_file(self, *, needs_file: bool = False) -> None:
        """Close the current file and give it its name.

        :param needs_file: make one without rows rather than none.
        :raises RunFileError: If writing fails; what was pending is lost then.
        """
        if self.num_pending or (needs_file and not self._num_files):
            self._write_staged()
            with self._errors_named():
                self._parquet.close()
                self._file.close()
                hidden_tmp(self._path()).rename(self._path())
            self._parquet = None
            self._num_files += 1
            self.num_rows += self.num_pending
            self.num_pending = 0
            pa.default_memory_pool().release_unused()

    def _path(self) -> Path:
        return self._folder / f"{self._num_files:05d}.parquet"

    def _write_staged(self) -> None:
        batch = self._staged[: self._num_staged]
        self._num_staged = 0
        with self._errors_named():
            if self._parquet is None:
                self._parquet = self._open()
            if batch.size:
                self._parquet.write_batch(to_arrow(batch, self._schema))

    def _open(self) -> Any:
        sink = self._file.enter_context(new_file(hidden_tmp(self._path())))
        few = repeating(self._schema)
        return pq.ParquetWriter(sink, self._schema, compression="zstd", use_dictionary=few)

    # On an error the half-written file goes, and the disk has its room back.
    @contextlib.contextmanager
    def _errors_named(self) -> Any:
        path = self._path()
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            self._abandon(error)
            cause = error if isinstance(error, OSError) else OSError(str(error))
            raise file_error(path, "write these samples", cause) from error

    def _abandon(self, error: BaseException) -> None:
        if self._parquet is not None:
            # Closing writes the footer, which fails like what failed before it.
            with contextlib.suppress(OSError, pa.ArrowException):
                self._parquet.close()
            self._parquet = None
        # The file's own block ends with the error, and removes it.
        with contextlib.suppress(OSError):
            self._file.__exit__(type(error), error, error.__traceback__)
            hidden_tmp(self._path()).unlink(missing_ok=True)
        self._file = contextlib.ExitStack()
