# SPDX-License-Identifier: GPL-2.0-only
"""A sink's books: which packets of each stream came, and how.

A batch is judged with a few NumPy calls and no Python for each packet. The result is what it
would be with the packets taken one by one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from xdptstamp import stream
from xdptstamp.measure.sink_report import StreamCounts

#: How far behind the greatest number a packet is still told from a duplicate. A power of two.
WINDOW = 1 << 16

#: Packets of further streams are foreign: what anybody sends must not fill the memory.
MAX_STREAMS = 1024

_U32 = 0xFFFFFFFF
_HALF_SPAN = stream.NUMBER_SPAN // 2

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


class StreamBook:
    """The packets of one stream. Numbers count on where those of 31 bits begin again at 0."""

    def __init__(self) -> None:
        self.counts = StreamCounts()
        self._highest = -1
        # Of each number in the window whether it came, at number % WINDOW. None: all came, as in
        # a stream that nothing has happened to.
        self._seen: _Bools | None = None

    def add(self, payloads: npt.NDArray[np.void], lens: _Ints) -> None:
        """Take a batch, in the order in which it came; all of this stream and not damaged.

        :param payloads: of :data:`xdptstamp.stream.DTYPE`.
        :param lens: bytes of each whole frame.
        """
        word = payloads["word"].astype(np.int64)
        numbers = self._unwrapped(word >> 1)
        is_stamped = (word & 1).astype(np.bool_)
        first = self._highest + 1
        if (numbers == np.arange(first, first + len(numbers))).all():
            self._note(numbers)
        else:
            is_received = self._add_slowly(numbers)
            numbers, is_stamped = numbers[is_received], is_stamped[is_received]
            payloads, lens = payloads[is_received], lens[is_received]
        self.counts.received += len(numbers)
        self.counts.stamped += int(np.count_nonzero(is_stamped))
        self.counts.pattern_errors += _pattern_errors(payloads, numbers, is_stamped)
        self.counts.bytes += int(lens.sum())

    def _unwrapped(self, numbers: _Ints) -> _Ints:
        # The nearest number to the greatest so far that ends in these 31 bits.
        distance = numbers - self._highest + _HALF_SPAN
        return self._highest + distance % stream.NUMBER_SPAN - _HALF_SPAN

    def _add_slowly(self, numbers: _Ints) -> _Bools:
        # Which of the numbers are received and distinct; the rest is counted here.
        top = np.maximum.accumulate(np.concatenate(([self._highest], numbers)))[:-1]
        is_old = numbers <= top - WINDOW
        is_old |= numbers < 0
        is_new = self._is_unseen(numbers)
        is_new &= ~is_old
        # Of a number that comes twice in the batch the first counts.
        candidates = np.flatnonzero(is_new)
        _, firsts = np.unique(numbers[candidates], return_index=True)
        is_received = np.zeros(len(numbers), dtype=np.bool_)
        is_received[candidates[firsts]] = True
        num_old, num_received = np.count_nonzero(is_old), np.count_nonzero(is_received)
        self.counts.too_late += int(num_old)
        self.counts.duplicates += int(len(numbers) - num_old - num_received)
        self.counts.reordered += int(np.count_nonzero(is_received & (numbers < top)))
        self._note(numbers[is_received])
        return is_received

    def _is_unseen(self, numbers: _Ints) -> _Bools:
        # Before the batch; of those in the window. Whatever is above the greatest is unseen.
        is_above: _Bools = numbers > self._highest
        if self._seen is None:
            return is_above
        return is_above | ~self._seen[numbers % WINDOW]

    def _note(self, numbers: _Ints) -> None:
        # These distinct numbers have come.
        if not len(numbers):
            return
        highest = max(self._highest, int(numbers.max()))
        step = highest - self._highest
        is_whole = step == len(numbers) and self._seen is None
        self._highest = highest
        self.counts.span = highest + 1
        if is_whole and int(numbers.min()) == highest - step + 1:
            return
        seen = self._opened_window(highest, step)
        seen[numbers[numbers > highest - WINDOW] % WINDOW] = True

    def _opened_window(self, highest: int, step: int) -> _Bools:
        # The window up to the new greatest number, of which those that were above it are unseen.
        if self._seen is None:
            self._seen = np.ones(WINDOW, dtype=np.bool_)
        step = min(step, WINDOW)
        self._seen[np.arange(highest - step + 1, highest + 1) % WINDOW] = False
        return self._seen


class SinkBooks:
    """The books of all streams; whatever is of none is ``foreign``."""

    def __init__(self) -> None:
        self._streams: dict[int, StreamBook] = {}
        self.foreign = 0
        self.forgotten = 0

    def counts(self) -> dict[int, StreamCounts]:
        """By stream id, in the order in which they began."""
        return {key: dataclasses.replace(book.counts) for key, book in self._streams.items()}

    def forget(self, stream_id: int) -> None:
        """Drop a stream's books; what comes of it later begins new ones."""
        book = self._streams.pop(stream_id, None)
        if book is not None:
            self.forgotten += book.counts.packets

    def add(self, payloads: npt.NDArray[np.void], lens: _Ints) -> None:
        """Take a batch, in the order in which it came.

        :param payloads: of :data:`xdptstamp.stream.DTYPE`, whatever they hold.
        :param lens: bytes of each whole frame.
        """
        is_ours = payloads["magic"] == stream.MAGIC
        if not is_ours.all():
            self.foreign += int(np.count_nonzero(~is_ours))
            payloads, lens = payloads[is_ours], lens[is_ours]
        is_whole = (payloads["word"] ^ payloads["complement"]) == _U32
        if is_whole.all():
            self._add_by_stream(payloads, lens)
        else:
            self._add_by_stream(payloads[is_whole], lens[is_whole])
            self._add_corrupted(payloads["stream"][~is_whole])

    def _add_by_stream(self, payloads: npt.NDArray[np.void], lens: _Ints) -> None:
        if not len(payloads):
            return
        ids = payloads["stream"]
        if (ids == ids[0]).all():
            self._add_to(int(ids[0]), payloads, lens)
            return
        for stream_id in np.unique(ids).tolist():
            is_its = ids == stream_id
            self._add_to(stream_id, payloads[is_its], lens[is_its])

    def _add_to(self, stream_id: int, payloads: npt.NDArray[np.void], lens: _Ints) -> None:
        book = self._streams.get(stream_id)
        if book is None:
            if len(self._streams) >= MAX_STREAMS:
                self.foreign += len(payloads)
                return
            book = self._streams[stream_id] = StreamBook()
        book.add(payloads, lens)

    def _add_corrupted(self, ids: npt.NDArray[np.uint32]) -> None:
        # What is damaged does not begin a stream: its id may be, too.
        for stream_id, count in zip(*np.unique(ids, return_counts=True), strict=True):
            book = self._streams.get(int(stream_id))
            if book is None:
                self.foreign += int(count)
            else:
                book.counts.corrupted += int(count)


def _pattern_errors(payloads: npt.NDArray[np.void], numbers: _Ints, is_stamped: _Bools) -> int:
    num_stamped = payloads["stamped"].astype(np.int64)
    period = num_stamped + payloads["plain"]
    has_pattern = period > 0
    is_wanted = numbers % np.maximum(period, 1) < num_stamped
    return int(np.count_nonzero((is_wanted != is_stamped) & has_pattern))
