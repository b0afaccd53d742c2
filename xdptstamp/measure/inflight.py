# SPDX-License-Identifier: GPL-2.0-only
"""Packets between submit and completion on one queue, and what is known of each.

Arrays are indexed by frame number (``addr // frame_size``): one packet uses one frame. The
memoryviews beside them are the same memory; one element is written through a memoryview at a
third of NumPy's cost, and the loop does so for each packet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xdptstamp import txmd
from xdptstamp.errors import SetupError
from xdptstamp.measure.txwake import TxWaker
from xdptstamp.stamp import Completed
from xdptstamp.xsk import Xsk

Frames = npt.NDArray[np.intp]

_IDLE, _PENDING, _LOST = 0, 1, 2
_REAP_BATCH = 256


@dataclass(slots=True)
class TxCounts:
    """The books of one queue's sending side; submitted = completed + lost + pending."""

    submitted: int = 0
    completed: int = 0
    lost: int = 0
    completed_after_lost: int = 0
    completed_unexpected: int = 0
    dropped_by_kernel: int = 0
    wakeup_errors: dict[str, int] = field(default_factory=dict)


class InFlight:
    """Submits packets of one socket and reaps their completions, matched by address only.

    :param capacity: at most so many packets between submit and completion.
    """

    def __init__(self, xsk: Xsk, capacity: int) -> None:
        num_frames = xsk.umem.num_frames
        self.xsk = xsk
        self.capacity = max(1, min(capacity, xsk.tx.size, xsk.comp.size))
        self.counts = TxCounts()
        self.num_pending = 0
        self.tx_app_ns = np.zeros(num_frames, dtype=np.int64)
        self.tx_comp_ns = np.zeros(num_frames, dtype=np.int64)
        self.tx_addr = np.zeros(num_frames, dtype=np.int64)
        self.tx_len = np.zeros(num_frames, dtype=np.int64)
        self.submit_number = np.zeros(num_frames, dtype=np.int64)
        self._has_option = np.zeros(num_frames, dtype=np.bool_)
        self._is_dropped = np.zeros(num_frames, dtype=np.bool_)
        self._state = np.zeros(num_frames, dtype=np.uint8)
        self._completed: list[int] = []  # frames, in the order of their completions
        self._returned: list[int] = []  # frames of completions that came after they were given up
        self._app = self.tx_app_ns.data
        self._comp = self.tx_comp_ns.data
        self._addr = self.tx_addr.data
        self._len = self.tx_len.data
        self._number = self.submit_number.data
        self._options = self._has_option.data
        self._states = self._state.data
        self._shift = xsk.umem.frame_size.bit_length() - 1
        self._last_comp_ns = 0
        self.waker = TxWaker(xsk, self._note_drop)
        self.counts.wakeup_errors = self.waker.errors
        #: Wakes the kernel until it has taken what the Tx ring holds, or takes no more for now.
        self.kick = self.waker.wake
        self.last_completed = -1  # greatest submit number that completed

    @property
    def num_free(self) -> int:
        """How many more packets may be submitted now."""
        free = self.capacity - self.num_pending
        if self.needs_kick or self.counts.lost:
            # What was given up may lie in the Tx ring still.
            free = min(free, self.xsk.tx.size - self.xsk.tx.num_waiting())
        return free

    @property
    def num_completed(self) -> int:
        """Completions reaped and not yet taken."""
        return len(self._completed)

    def send(self, packets: list[tuple[int, int]], options: int) -> None:
        """Submit (addr, len) packets, at most :attr:`num_free` of them, and wake the kernel.

        :param options: desc.options of all of them: :data:`~xdptstamp.txmd.OPTION` or 0.
        :raises SetupError: If the UMEM has no Tx metadata to go with the option: the kernel would
            take neither these packets nor any behind them.
        """
        if options and not self.xsk.umem.tx_metadata_len:
            raise SetupError(self.xsk.ifname, "desc.options ask for Tx metadata; the UMEM has none")
        ring = self.xsk.tx
        position, count = ring.reserve(len(packets))
        assert count == len(packets), "num_free promised more than the Tx ring holds"
        words, mask, upper = ring.words, ring.mask, options << 32
        for addr, length in packets:
            index = (position & mask) * 2
            words[index] = addr
            words[index + 1] = length | upper
            position += 1
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        ring.submit(count)
        self.kick()
        # Written down only now: nobody but this thread reads it, and the packets need not wait.
        for addr, length in packets:
            self.note_sent(addr, length, options, now_ns)

    def note_sent(self, addr: int, length: int, options: int, now_ns: int) -> None:
        """Write down a packet that was just submitted, as :meth:`send` itself does."""
        frame = addr >> self._shift
        self._app[frame] = now_ns
        self._addr[frame] = addr
        self._len[frame] = length
        self._number[frame] = self.counts.submitted
        self._options[frame] = options != 0
        self._states[frame] = _PENDING
        self.counts.submitted += 1
        self.num_pending += 1

    @property
    def needs_kick(self) -> bool:
        """Whether the last :attr:`kick` left packets in the Tx ring."""
        return self.waker.is_needed

    def _note_drop(self, position: int) -> None:
        ring = self.xsk.tx
        self._is_dropped[ring.words[(position & ring.mask) * 2] >> self._shift] = True
        self.counts.dropped_by_kernel += 1

    def reap(self) -> int:
        """Note the completions that have come; returns how many."""
        ring = self.xsk.comp
        if ring.is_empty():
            return 0
        start, count = ring.peek(_REAP_BATCH)
        if not count:
            return 0
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        words, mask, shift, states = ring.words, ring.mask, self._shift, self._states
        for position in range(start, start + count):
            addr = words[position & mask]
            frame = addr >> shift
            if states[frame] != _PENDING or self._addr[frame] != addr:
                self._note_strange(frame, addr)
                continue
            states[frame] = _IDLE
            self._comp[frame] = now_ns
            self._completed.append(frame)
            number = self._number[frame]
            if number > self.last_completed:  # noqa: PLR1730 - max() costs three times as much
                self.last_completed = number
            self.num_pending -= 1
            self.counts.completed += 1
        ring.release(count)
        return count

    def _note_strange(self, frame: int, addr: int) -> None:
        if self._states[frame] == _LOST and self._addr[frame] == addr:
            self._states[frame] = _IDLE
            self._is_dropped[frame] = False  # of this packet, not of the frame's next
            self._returned.append(frame)
            self.counts.completed_after_lost += 1
        else:
            self.counts.completed_unexpected += 1

    def take_completed(self, resets: list[tuple[int, int]]) -> tuple[Frames, Completed]:
        """The packets reaped since the last call, in the order of their completions.

        :param resets: (earliest, latest) time of each reset of the adapter or loss of its link, ns
            on CLOCK_TAI.
        :return: their frames, now the caller's, and what :func:`~xdptstamp.stamp.judge` needs.
        """
        frames = np.array(self._completed, dtype=np.intp)
        self._completed.clear()
        comp_ns = self.tx_comp_ns[frames]
        app_ns = self.tx_app_ns[frames]
        previous_ns = np.empty_like(comp_ns)
        if len(frames):
            previous_ns[0] = self._last_comp_ns
            previous_ns[1:] = comp_ns[:-1]
            self._last_comp_ns = int(comp_ns[-1])
        is_reset = np.zeros(len(frames), dtype=np.bool_)
        for earliest_ns, latest_ns in resets:
            is_reset |= (app_ns <= latest_ns) & (comp_ns >= earliest_ns)
        is_dropped = self._is_dropped[frames]
        self._is_dropped[frames] = False
        done = Completed(
            values=self._metadata(frames)[:, 1],
            is_requested=self.is_requested(frames),
            is_dropped=is_dropped,
            is_reset=is_reset,
            tx_app_ns=app_ns,
            tx_comp_ns=comp_ns,
            previous_comp_ns=previous_ns,
        )
        return frames, done

    def take_returned(self) -> list[int]:
        """Frames that came back after they were given up; now the caller's."""
        frames, self._returned = self._returned, []
        return frames

    def give_up(self, submitted_before_ns: int) -> Frames:
        """Stop waiting for packets submitted before that time (CLOCK_TAI).

        :return: their frames, in submit order. The kernel still has them: they must not be used
            until :meth:`take_returned` brings them back.
        """
        is_old = (self._state == _PENDING) & (self.tx_app_ns < submitted_before_ns)
        frames = np.flatnonzero(is_old)
        frames = frames[np.argsort(self.submit_number[frames])]
        self._state[frames] = _LOST
        self.num_pending -= len(frames)
        self.counts.lost += len(frames)
        return frames

    def is_requested(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """Whether a stamp was asked for, of each frame's packet."""
        has_flag: npt.NDArray[np.bool_] = self._metadata(frames)[:, 0] & txmd.TIMESTAMP != 0
        return has_flag & self._has_option[frames]

    def _metadata(self, frames: Frames) -> npt.NDArray[np.uint64]:
        # Flags, and the stamp field, of each packet; they lie there until the frame's next use.
        umem = self.xsk.umem
        return umem.gather(self.tx_addr[frames] - umem.tx_metadata_len, 16).view("<u8")
