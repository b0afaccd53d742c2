# SPDX-License-Identifier: GPL-2.0-only
"""The packets of a stream in the UMEM: frame i belongs to entry i of the Tx ring, for good.

So addresses and lengths are written once, and a batch is a slice of everything: its words, its
metadata, its options. Metadata and options of plain packets are rewritten as well where a pattern
has stamps: what a frame asked for the last time, some kernels do again (Linux v6.12).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdptstamp import stream, txmd
from xdptstamp.errors import SetupError
from xdptstamp.measure.pattern import Pattern
from xdptstamp.xsk import Xsk

_ALL_ONES = 0xFFFFFFFF
_U64 = (1 << 64) - 1
# Copied as one: twice as fast as a field after the other.
_REQUEST = np.dtype("V16")


class TxFrames:
    """Writes packets into the frames of one socket's Tx ring.

    :param xsk: with as many frames as its Tx ring has entries, from frame 0 on, for this alone.
    :param longest: the greatest batch.
    :ivar addrs: ``desc.addr`` of each entry, twice over: a slice of it never wraps.
    """

    def __init__(self, xsk: Xsk, longest: int) -> None:
        umem, size = xsk.umem, xsk.tx.size
        if umem.num_frames < size or umem.tx_metadata_len < txmd.METADATA_LEN:
            raise SetupError(xsk.ifname, "the UMEM has too few frames, or no room for Tx metadata")
        self._umem = umem
        self._size = size
        self._longest = longest
        self._descs = xsk.tx.descs
        self._options = self._descs["options"]
        frames = np.arange(size, dtype=np.uint64) * np.uint64(umem.frame_size)
        self._descs["addr"] = frames + np.uint64(umem.tx_metadata_len)
        self._options[:] = 0
        self.addrs: npt.NDArray[np.uint64] = np.tile(self._descs["addr"], 2)
        # Flags and stamp field of each frame, in one piece of 16 bytes. The metadata starts
        # tx_metadata_len ahead of the packet, whatever that is: where the frame does.
        strides = (umem.frame_size,)
        self._requests = np.ndarray((size,), _REQUEST, umem.view, strides=strides)
        self._stamps = np.ndarray((size,), "<u8", umem.view, txmd.STAMP_OFFSET, strides)
        self._buffer = np.zeros(longest, np.uint64)
        self._has_stamps = False

    def load(self, packet: bytes, payload_offset: int, pattern: Pattern) -> None:
        """Put packet 0 of a stream into all frames; none of them may be on its way.

        :param payload_offset: where the payload of :mod:`xdptstamp.stream` starts in it.
        """
        umem = self._umem
        rows = umem.array.reshape(umem.num_frames, umem.frame_size)[: self._size]
        start = umem.tx_metadata_len
        rows[:, start : start + len(packet)] = np.frombuffer(packet, np.uint8)
        self._descs["len"] = len(packet)
        self._requests[:] = _requests(np.zeros(self._size, np.bool_))
        self._options[:] = 0
        self._pattern = pattern
        self._has_stamps = pattern.has_stamps
        # Not aligned where the headers are of odd length; NumPy does not mind.
        self._words = np.ndarray(
            (self._size,),
            dtype=">u8",
            buffer=umem.view,
            offset=start + payload_offset + stream.WORD_OFFSET,
            strides=(umem.frame_size,),
        )
        # With w = 2 * number + stamped, word and complement together are (w + 1) * (2**32 - 1),
        # so a batch is a slice of this plus a constant.
        period = max(sum(pattern.ratio), 1)
        numbers = np.arange(period + self._longest, dtype=np.uint64)
        is_stamped = np.zeros(len(numbers), np.bool_)
        if pattern.ratio[0]:
            is_stamped[pattern.stamped_at(0, len(numbers))] = True
        self._request_tile, self._option_tile = _requests(is_stamped), _options(is_stamped)
        self._period = period
        self._tile = (2 * numbers + is_stamped + np.uint64(1)) * np.uint64(_ALL_ONES)

    def write(self, slot: int, number: int, count: int) -> None:
        """Write ``count`` packets from ``number`` on into the entries from ``slot`` on.

        Neither may wrap in between: not the slots, nor the 31 bits of a packet's number.
        """
        end, phase = slot + count, number % self._period
        shift = 2 * (number % stream.NUMBER_SPAN - phase) * _ALL_ONES & _U64
        words = self._buffer[:count]
        np.add(self._tile[phase : phase + count], np.uint64(shift), out=words)
        self._words[slot:end] = words
        if not self._has_stamps:
            return
        if not self._pattern.ratio[0]:
            self._write_irregular(slot, number, count)
            return
        self._requests[slot:end] = self._request_tile[phase : phase + count]
        self._options[slot:end] = self._option_tile[phase : phase + count]

    def _write_irregular(self, slot: int, number: int, count: int) -> None:
        # Stamped packets outside a fixed pattern are in no tile.
        end, mask = slot + count, self._pattern.mask(number, count)
        self._requests[slot:end] = _requests(mask)
        self._options[slot:end] = _options(mask)
        at = np.flatnonzero(mask)
        if len(at):
            self._words[slot + at] = stream.words(number + at, np.ones(len(at), np.bool_))

    def stamps(self, slot: int, count: int) -> npt.NDArray[np.uint64]:
        """The stamp fields as they are now, of ``count`` entries from ``slot`` on, in place."""
        return self._stamps[slot : slot + count]


def _requests(is_stamped: npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
    # Flags and stamp field: every stamp field gets the sentinel, so that no last stamp is read.
    words = np.zeros((len(is_stamped), 2), np.uint64)
    words[:, 0] = np.where(is_stamped, np.uint64(txmd.TIMESTAMP), np.uint64(0))
    words[:, 1] = txmd.SENTINEL
    return words.view(_REQUEST)[:, 0]


def _options(is_stamped: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    return np.where(is_stamped, np.uint32(txmd.OPTION), np.uint32(0))
