# SPDX-License-Identifier: GPL-2.0-only
"""Completed packets on their way to the recorder: a file while packets are sent, rows afterwards.

A recorder that works beside a sender takes its bandwidth, and cannot keep up with it either. So
the sender appends what it saw as it was, 48 bytes a packet, and it is judged and recorded between
two phases, when nothing is being measured.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xdptstamp.errors import SystemCallError

#: What is kept of a packet, all int64: its number, the stamp field as found, when it was
#: submitted and when its completion was seen, when the completions before it were, and FLAGS.
FIELDS = ("number", "value", "tx_app_ns", "tx_comp_ns", "previous_comp_ns", "flags")
IS_REQUESTED, IS_DROPPED = 1, 2

Rows = npt.NDArray[np.int64]

_BUFFER_ROWS = 8192
_CHUNK_ROWS = 16384
_ROW_SIZE = 8 * len(FIELDS)
_COMP = FIELDS.index("tx_comp_ns")


class Spool:
    """Rows of :data:`FIELDS` in a file that has no name and goes with this process.

    :param folder: where its blocks are: a disk, for it may get large.
    :param inherited_fd: that of another process's spool, to write what it reads.
    :ivar error: what was wrong with the disk; from then on rows are counted in ``num_lost`` only,
        for the sender has its completions to take care of.
    :raises SystemCallError: If it cannot be made.
    """

    def __init__(self, folder: Path, inherited_fd: int | None = None) -> None:
        self._folder = folder
        try:
            if inherited_fd is not None:
                self._file = open(inherited_fd, "r+b", buffering=0)
            else:
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)
        except OSError as error:
            raise self._failure(error) from error
        self._fd = self._file.fileno()
        self._offsets = np.zeros(_BUFFER_ROWS, np.int64)
        self._values = np.zeros(_BUFFER_ROWS, np.uint64)
        self._flags = np.zeros(_BUFFER_ROWS, np.int64)
        # (rows, number that offsets count from, submitted, completed, completed before)
        self._groups: list[tuple[int, int, int, int, int]] = []
        self._filled = 0
        self.num_rows = self.num_lost = 0
        self.error: SystemCallError | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def fileno(self) -> int:
        """Its descriptor, for a process that is to write into it."""
        return self._fd

    def add(
        self,
        offsets: npt.NDArray[np.intp],
        values: npt.NDArray[np.uint64],
        flags: npt.NDArray[np.int64] | int,
        group: tuple[int, int, int, int],
    ) -> None:
        """Keep packets that were submitted together and completed together.

        :param offsets: of their numbers; ``values``: their stamp fields, ``flags`` alike. At most
            8192.
        :param group: number that offsets count from; tx_app_ns, tx_comp_ns, previous_comp_ns.
        """
        count = len(offsets)
        if self._filled + count > _BUFFER_ROWS:
            self.flush()
        start, end = self._filled, self._filled + count
        self._offsets[start:end] = offsets
        self._values[start:end] = values
        self._flags[start:end] = flags
        self._groups.append((count, *group))
        self._filled = end
        self.num_rows += count

    def flush(self) -> None:
        """Write what was kept."""
        data = self._rows().data.cast("B") if self._filled else b""
        try:
            while len(data) and self.error is None:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self.error = self._failure(error)
        self.num_lost += -(-len(data) // _ROW_SIZE)
        self._filled = 0
        self._groups.clear()

    def _rows(self) -> Rows:
        groups = np.array(self._groups, np.int64)
        rows: Rows = np.empty((self._filled, len(FIELDS)), np.int64)
        rows[:, 2:5] = np.repeat(groups[:, 2:], groups[:, 0], axis=0)
        rows[:, 0] = self._offsets[: self._filled] + np.repeat(groups[:, 1], groups[:, 0])
        rows[:, 1] = self._values[: self._filled].view(np.int64)
        rows[:, 5] = self._flags[: self._filled]
        return rows

    def chunks(self) -> Iterator[Rows]:
        """All rows in order, some at a time; those completed at one moment are never parted."""
        self.flush()
        rest: Rows = np.zeros((0, len(FIELDS)), np.int64)
        offset = 0
        while data := os.pread(self._fd, _CHUNK_ROWS * _ROW_SIZE, offset):
            size = len(data) // _ROW_SIZE * _ROW_SIZE  # cut off where the disk was full
            if not size:
                break
            data, offset = data[:size], offset + size
            rows = np.frombuffer(data, np.int64).reshape(-1, len(FIELDS))
            rows = np.concatenate((rest, rows)) if len(rest) else rows
            is_earlier = rows[:, _COMP] != rows[-1, _COMP]
            end = int(np.flatnonzero(is_earlier)[-1]) + 1 if is_earlier.any() else 0
            if end:
                yield rows[:end]
            rest = rows[end:]
        if len(rest):
            yield rest

    def clear(self) -> None:
        """Forget all rows and give the disk its room back."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._groups.clear()
        self._filled = self.num_rows = self.num_lost = 0

    def _failure(self, error: OSError) -> SystemCallError:
        advice = "Free space there, or give another --output-dir."
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "Give another --output-dir."
        return SystemCallError(
            error.errno or errno.EIO, "keeping samples", str(self._folder), advice
        )
