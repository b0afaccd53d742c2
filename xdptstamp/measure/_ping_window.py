# SPDX-License-Identifier: GPL-2.0-only
"""The requests of a ping that may still be answered, their times, and the books."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xdptstamp.measure._ping_payload import FOREIGN
from xdptstamp.sample import NULL, SampleSink, empty_batch

#: Rows per batch handed to the sink.
BATCH_ROWS = 256

_WAITING, _ANSWERED, _LOST = range(1, 4)

_TIMES = ("tx_app_ns", "tx_sw_ns", "rx_sw_ns", "rx_app_ns")


@dataclass(slots=True)
class Book:
    """What became of some requests; ``lost``: given up without a reply."""

    received: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    late: int = 0
    tx_stamps: int = 0
    rx_stamps: int = 0


class PingWindow:
    """A ring keyed by seq: bounded memory, no Python object per request.

    A request leaves it when it is answered or given up; its row goes to the sink then. What
    became of the last ``num_slots`` requests stays known, to tell a duplicate from a late reply.

    :param num_slots: power of two, at least 512.
    :param num_warmup: the first requests, marked as warm-up.
    :param frame_bytes: length of each request without FCS, for the rows.
    :ivar num_sent: requests, those of the warm-up included; the seq of the next one.
    :ivar warmup: the book of the warm-up; ``main``: of all others.
    """

    def __init__(
        self, sink: SampleSink, num_slots: int, *, num_warmup: int, frame_bytes: int
    ) -> None:
        self._mask = num_slots - 1
        self._sink = sink
        self._num_warmup = num_warmup
        self._frame_bytes = frame_bytes
        self._arrays = {name: np.full(num_slots, NULL, np.int64) for name in _TIMES}
        self._states = np.zeros(num_slots, np.uint8)
        # A memoryview takes a single int four times as fast as the array it looks into.
        self._tx_app, self._tx_sw, self._rx_sw, self._rx_app = (
            self._arrays[name].data for name in _TIMES
        )
        self._state = self._states.data
        self._late_arrays = [self._arrays[name] for name in _TIMES if name != "tx_app_ns"]
        self._done = np.zeros(BATCH_ROWS, np.int64)
        self._done_seqs = self._done.data
        self._num_done = 0
        self._tail = 0  # every request before it was answered or given up
        self._first_known = 0  # the slots of those before it are taken by others
        self._largest = -1
        self.num_sent = 0
        self.warmup, self.main = Book(), Book()
        self.corrupted = self.foreign = 0  # whose they are cannot be told

    @property
    def num_waiting(self) -> int:
        """Requests without a reply, and not given up."""
        done = self.main.received + self.main.lost + self.warmup.received + self.warmup.lost
        return self.num_sent - done

    @property
    def warmup_sent(self) -> int:
        """Requests of the warm-up."""
        return min(self.num_sent, self._num_warmup)

    @property
    def sent(self) -> int:
        """Requests after the warm-up."""
        return self.num_sent - self.warmup_sent

    @property
    def num_free_rows(self) -> int:
        """Answers that fit before the next :meth:`flush`."""
        return BATCH_ROWS - self._num_done

    def make_room(self, num_requests: int) -> None:
        """Ready the slots of the next ``num_requests``, if need be by giving the oldest up."""
        num_slots = self._mask + 1
        end = self.num_sent + num_requests
        if end - self._tail > num_slots:
            self.give_up(min(self._tail + num_slots // 4, self.num_sent))
        self._first_known = max(self._first_known, end - num_slots)
        for first, last in self._pieces(self.num_sent, end):
            for array in self._late_arrays:
                array[first:last] = NULL
            self._states[first:last] = _WAITING

    def add(self, tx_app_ns: int) -> None:
        """Enter the request ``seq == num_sent``, just submitted, into the room made for it."""
        self._tx_app[self.num_sent & self._mask] = tx_app_ns
        self.num_sent += 1

    def stamp(self, seq: int, tx_sw_ns: int) -> None:
        """Enter the kernel's Tx stamp of request ``seq``."""
        if self._first_known <= seq < self.num_sent:
            slot = seq & self._mask
            self._book_of(seq).tx_stamps += self._tx_sw[slot] == NULL
            self._tx_sw[slot] = tx_sw_ns  # of several devices in a row the last is the wire's

    def answer(self, seq: int, carried_ns: int, rx_sw_ns: int, rx_app_ns: int) -> None:
        """Enter a reply to request ``seq``.

        :param seq: or FOREIGN or CORRUPTED, as :meth:`Payload.read` has it.
        :param carried_ns: the time of sending that it carries, :data:`NULL` if it has none.
        :param rx_sw_ns: the kernel's stamp, :data:`NULL` if it has none.
        """
        slot = seq & self._mask
        if not self._first_known <= seq < self.num_sent:
            self._reject(seq)
        elif carried_ns != NULL and carried_ns != self._tx_app[slot]:
            self.corrupted += 1
        elif self._state[slot] != _WAITING:
            self._repeated(seq)
        else:
            self._state[slot] = _ANSWERED
            self._rx_sw[slot] = rx_sw_ns
            self._rx_app[slot] = rx_app_ns
            book = self._book_of(seq)
            book.rx_stamps += rx_sw_ns != NULL
            book.received += 1
            # Type-P-reordered of RFC 4737: of first arrivals, those below the largest seq seen.
            if seq < self._largest:
                book.reordered += 1
            else:
                self._largest = seq
            self._done_seqs[self._num_done] = seq
            self._num_done += 1

    def _book_of(self, seq: int) -> Book:
        return self.warmup if seq < self._num_warmup else self.main

    def _reject(self, seq: int) -> None:
        if 0 <= seq < self._first_known:
            self._book_of(seq).late += 1  # given up so long ago that its slot is another's
        elif seq == FOREIGN:
            self.foreign += 1
        else:
            self.corrupted += 1  # or of a request never sent

    def _repeated(self, seq: int) -> None:
        book, slot = self._book_of(seq), seq & self._mask
        if self._state[slot] == _ANSWERED:
            book.duplicates += 1
        else:
            book.late += 1
            # A further copy of this one is a duplicate. The request stays lost.
            self._state[slot] = _ANSWERED

    # The requests from seq start to before end as ranges of slots: two where the ring wraps.
    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        while start < end:
            first = start & self._mask
            length = min(end - start, self._mask + 1 - first)
            yield first, first + length
            start += length

    def give_up(self, before: int) -> None:
        """Give up what still waits of the requests before seq ``before``."""
        self.flush()
        for first, last in self._pieces(self._tail, before):
            part = self._states[first:last]
            waiting = np.flatnonzero(part == _WAITING)
            part[waiting] = _LOST
            seqs = waiting + self._tail
            num_warmup = int(np.count_nonzero(seqs < self._num_warmup))
            self.warmup.lost += num_warmup
            self.main.lost += len(seqs) - num_warmup
            self._put(seqs)
            self._tail += last - first

    def flush(self) -> None:
        """Hand the rows of answered requests to the sink."""
        num_done, self._num_done = self._num_done, 0
        self._put(self._done[:num_done])

    def _put(self, seqs: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        for first in range(0, len(seqs), BATCH_ROWS):
            part = seqs[first : first + BATCH_ROWS]
            batch = empty_batch(len(part))
            batch["seq"] = part
            batch["len"] = self._frame_bytes
            batch["is_warmup"] = part < self._num_warmup
            for name in _TIMES:
                batch[name] = self._arrays[name][part & self._mask]
            self._sink.put(batch)
