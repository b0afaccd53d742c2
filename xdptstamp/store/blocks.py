# SPDX-License-Identifier: GPL-2.0-only
"""Blocks of samples in memory shared by the measuring process and its recorder.

The measuring side fills block after block, in a ring, and posts each; the recorder releases them
in the same order. Neither waits for the other: without a free block, rows are counted as overrun.
An eventfd counts the posted blocks and orders the rows before the count on every architecture;
nobody waits for it, so that posting wakes nobody. Where the filling stands is one aligned word
besides, so that a recorder whose measuring process was killed knows of the last whole row.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdptstamp.errors import SetupError
from xdptstamp.sample import SAMPLE_DTYPE, Batch

#: Rows of a block, and blocks: 44 MB, room for 262144 samples while the recorder is busy.
BLOCK_ROWS = 4096
NUM_BLOCKS = 64

# Words of the header. Each side writes a cache line of its own.
_CURSOR = 0  # blocks posted << _FILLED_BITS | rows filled of the block after them
_OVERRUN = 1  # rows there was no block for
_RELEASED = 8  # blocks the recorder is done with
_HEARTBEAT = 9  # moves while the recorder gets on
_IN_OUTPUT = 10  # 1 while the recorder waits for a text output
_SHOULD_STOP = 11  # 1 once nobody reads the text output any more
_ERROR_SIZE = 12  # bytes of the error text, 0: no error
_STATUS = 16  # the live counters; behind them the rows of each posted block

_FILLED_BITS = 24
_ERROR_ROOM = 2048

#: Samples as opaque bytes: NumPy copies these at once, structures field by field (15 times slower).
RAW_ROW = np.dtype((np.void, SAMPLE_DTYPE.itemsize))


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the shared memory is laid out; equal on both sides."""

    num_blocks: int = NUM_BLOCKS
    block_rows: int = BLOCK_ROWS
    num_status: int = 0

    @property
    def rows_at(self) -> int:
        """Word where the numbers of rows of the posted blocks begin."""
        return _STATUS + self.num_status

    @property
    def error_at(self) -> int:
        """Byte where the error text begins."""
        return 8 * (self.rows_at + self.num_blocks)

    @property
    def samples_at(self) -> int:
        """Byte where the blocks begin: a page of their own."""
        return -(-(self.error_at + _ERROR_ROOM) // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.samples_at + self.num_blocks * self.block_rows * SAMPLE_DTYPE.itemsize


class _Shared:
    # The mapping is populated at once: no page fault while measuring, and no growth later.
    def __init__(self, memory_fd: int, geometry: Geometry) -> None:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        memory = mmap.mmap(memory_fd, geometry.size, flags)
        self._geometry = geometry
        self._words = memoryview(memory)[: geometry.error_at].cast("q")
        self._error = memoryview(memory)[geometry.error_at : geometry.error_at + _ERROR_ROOM]
        num_rows = geometry.num_blocks * geometry.block_rows
        self._samples: Batch = np.frombuffer(
            memory, SAMPLE_DTYPE, num_rows, offset=geometry.samples_at
        )
        #: The live counters, in the order of their names.
        self.status: npt.NDArray[np.int64] = np.frombuffer(
            memory, np.int64, geometry.num_status, offset=8 * _STATUS
        )

    @property
    def error(self) -> str | None:
        """What the recorder failed at."""
        size = self._words[_ERROR_SIZE]
        return bytes(self._error[:size]).decode(errors="replace") if size else None


class PostingSide(_Shared):
    """The measuring process's side.

    :ivar num_overrun: rows that found no free block.
    """

    def __init__(self, memory_fd: int, event_fd: int, geometry: Geometry) -> None:
        super().__init__(memory_fd, geometry)
        self.num_overrun = 0
        self._event_fd = event_fd
        self._raw = self._samples.view(RAW_ROW)
        self._posted = 0
        self._filled = 0
        self._start = 0  # row where the current block begins
        self._has_block = True
        self._is_closed = False

    @property
    def should_stop(self) -> bool:
        """Whether nobody reads the text output any more."""
        return bool(self._words[_SHOULD_STOP])

    @property
    def heartbeat(self) -> int:
        """Changes while the recorder gets on with its work."""
        return self._words[_HEARTBEAT]

    @property
    def is_in_output(self) -> bool:
        """Whether the recorder is waiting for who reads the text output."""
        return bool(self._words[_IN_OUTPUT])

    @property
    def num_waiting(self) -> int:
        """Blocks posted that the recorder has not taken in yet."""
        return self._posted - self._words[_RELEASED]

    @property
    def rows_per_block(self) -> int:
        """Rows of a block."""
        return self._geometry.block_rows

    @property
    def has_room(self) -> bool:
        """Whether a block's worth of rows can be put without an overrun."""
        return self.num_waiting + 2 < self._geometry.num_blocks

    def put(self, batch: Batch) -> None:
        """Copy rows into the current block; what finds no room is counted in ``num_overrun``."""
        filled = self._filled + len(batch)
        if filled < self._geometry.block_rows and self._has_block:
            at = self._start
            self._raw[at + self._filled : at + filled] = batch.view(RAW_ROW)
            self._filled = filled
            self._words[_CURSOR] = self._posted << _FILLED_BITS | filled
        else:
            self._put_in_parts(batch.view(RAW_ROW))

    def _put_in_parts(self, rows: Batch) -> None:
        while len(rows):
            if not (self._has_block or self._take_block()):
                self.num_overrun += len(rows)
                self._words[_OVERRUN] = self.num_overrun
                return
            part = rows[: self._geometry.block_rows - self._filled]
            at = self._start + self._filled
            self._raw[at : at + len(part)] = part
            self._filled += len(part)
            self._words[_CURSOR] = self._posted << _FILLED_BITS | self._filled
            if self._filled == self._geometry.block_rows:
                self._post()
            rows = rows[len(part) :]

    def flush(self) -> None:
        """Post the current block if it holds rows and another one is free."""
        # Without another one, posting would only give room away.
        if self._filled and self.num_waiting + 1 < self._geometry.num_blocks:
            self._post()

    def post_last(self) -> None:
        """Post the current block if it holds rows; nothing comes after it."""
        if self._filled:
            self._post()

    def close(self) -> None:
        """Take nothing any more: what is put from now on is overrun."""
        self._is_closed = True
        self._has_block = False
        self._filled = 0

    def _post(self) -> None:
        slot = self._posted % self._geometry.num_blocks
        self._words[self._geometry.rows_at + slot] = self._filled
        self._posted += 1
        self._filled = 0
        self._words[_CURSOR] = self._posted << _FILLED_BITS
        self._start = self._posted % self._geometry.num_blocks * self._geometry.block_rows
        self._has_block = False
        os.eventfd_write(self._event_fd, 1)

    def _take_block(self) -> bool:
        is_free = self.num_waiting < self._geometry.num_blocks
        self._has_block = is_free and not self._is_closed
        return self._has_block


class TakingSide(_Shared):
    """The recorder's side."""

    def __init__(self, memory_fd: int, event_fd: int, geometry: Geometry) -> None:
        super().__init__(memory_fd, geometry)
        self._event_fd = event_fd
        self._taken = 0

    @property
    def num_overrun(self) -> int:
        """Rows the measuring side had no block for."""
        return self._words[_OVERRUN]

    def num_posted(self) -> int:
        """Blocks that came since this was asked last."""
        try:
            return os.eventfd_read(self._event_fd)
        except BlockingIOError:
            return 0

    def take(self) -> Batch:
        """The next posted block, in place; valid until :meth:`release`."""
        slot = self._taken % self._geometry.num_blocks
        return self._block(slot, self._words[self._geometry.rows_at + slot])

    def release(self) -> None:
        """Give the block back that :meth:`take` gave."""
        self._taken += 1
        self._words[_RELEASED] = self._taken
        self.beat()

    def left_behind(self) -> list[Batch]:
        """What a measuring process that is gone had posted or filled, in place."""
        cursor = self._words[_CURSOR]
        posted, filled = cursor >> _FILLED_BITS, cursor & ((1 << _FILLED_BITS) - 1)
        batches = []
        while self._taken < posted:
            batches.append(self.take())
            self._taken += 1
        batches.append(self._block(posted % self._geometry.num_blocks, filled))
        return [batch for batch in batches if batch.size]

    def beat(self) -> None:
        """Tell the measuring side that work goes on."""
        self._words[_HEARTBEAT] += 1

    def set_in_output(self, is_in_output: bool) -> None:
        """Tell the measuring side whose time is running."""
        self._words[_IN_OUTPUT] = is_in_output

    def ask_to_stop(self) -> None:
        """Tell the measuring side that nobody reads the text output any more."""
        self._words[_SHOULD_STOP] = 1

    def set_error(self, text: str) -> None:
        """Tell the measuring side what failed; the first error stays."""
        if not self._words[_ERROR_SIZE]:
            data = text.encode()[:_ERROR_ROOM]
            self._error[: len(data)] = data
            self._words[_ERROR_SIZE] = len(data)

    def _block(self, slot: int, num_rows: int) -> Batch:
        at = slot * self._geometry.block_rows
        return self._samples[at : at + num_rows]


def make_memory(geometry: Geometry) -> int:
    """A file descriptor of anonymous memory, all of it allocated now.

    :raises SetupError: If there is not that much.
    """
    memory_fd = -1
    try:
        memory_fd = os.memfd_create("xdptstamp-samples", os.MFD_CLOEXEC)
        os.posix_fallocate(memory_fd, 0, geometry.size)
    except OSError as error:
        if memory_fd >= 0:
            os.close(memory_fd)
        problem = f"cannot allocate {geometry.size} bytes to hand over samples: {error.strerror}"
        raise SetupError("recorder", f"{problem}. Free memory, or raise its limit") from error
    return memory_fd
