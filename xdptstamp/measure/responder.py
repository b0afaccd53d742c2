# SPDX-License-Identifier: GPL-2.0-only
"""One queue of ping-pong: a request comes in, its reply goes out of the same frame.

What the BPF program stored ahead of the request stays readable behind the reply's Tx metadata
until the completion, so that all of a packet's capture points are read at once, vectorised, after
it is done, and nothing is copied in between.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdptstamp import packet, ring, stamp, txmd
from xdptstamp.measure.inflight import Frames, InFlight
from xdptstamp.measure.quick import NOT_HERE, quick_path
from xdptstamp.measure.rxmeta import (
    Metas,
    fill_csum_columns,
    fill_payload_ids,
    fill_rx_columns,
    is_ours,
    read_meta,
)
from xdptstamp.program import META_LEN, META_VERSION, VALID_REPLY, VALID_VLAN
from xdptstamp.sample import NULL, Batch, Cause, empty_batch
from xdptstamp.stamp import StampRules
from xdptstamp.xsk import Xsk

# version, l3_offset, l4_offset, ..., valid, ip_version, udp_csum: see program.META_DTYPE.
_META = struct.Struct("=IHH34xBBH")
_VLAN_OF_META = struct.Struct("=HH")
_VLAN_OFFSET = 32

_RX_BATCH = 16  # small: the first of a burst should not wait for the last


@dataclass(frozen=True, slots=True)
class ReplyConfig:
    """What to ask with each reply.

    :param has_replies: False: requests are received and recorded only.
    :param has_timestamps: ask for a Tx timestamp.
    :param is_csum_offloaded: let the NIC fill in the checksum.
    """

    has_replies: bool = True
    has_timestamps: bool = True
    is_csum_offloaded: bool = False

    @property
    def flags(self) -> int:
        timestamp = txmd.TIMESTAMP if self.has_timestamps else 0
        return timestamp | (txmd.CHECKSUM if self.is_csum_offloaded else 0)


@dataclass(slots=True)
class RxCounts:
    """The books of one queue's receiving side."""

    received: int = 0
    answered: int = 0
    without_meta: int = 0  # redirected by a program that is not ours: nothing known of it
    stamp_steps_back: int = 0  # stamps earlier than the one before, in the order of completions


class Responder:
    """Serves one socket; :meth:`serve`, :meth:`reap` and :meth:`harvest` are called in a loop.

    :param xsk: its fill ring holds all frames.
    :param numbers: shared by all queues: hands out ``seq``.
    """

    def __init__(
        self, xsk: Xsk, capacity: int, config: ReplyConfig, rules: StampRules, numbers: list[int]
    ) -> None:
        num_frames = xsk.umem.num_frames
        self.xsk = xsk
        self.flight = InFlight(xsk, capacity)
        self.rules = rules
        self.counts = RxCounts()
        self._has_replies = config.has_replies
        self._is_csum_offloaded = config.is_csum_offloaded
        self._flags = config.flags
        self._options = txmd.OPTION if config.flags else 0
        self._metadata_len = xsk.umem.tx_metadata_len
        self._numbers = numbers
        self._seq = np.zeros(num_frames, dtype=np.int64)
        self._rx_app_ns = np.zeros(num_frames, dtype=np.int64)
        self._rx_addr = np.zeros(num_frames, dtype=np.int64)
        self._rx_len = np.zeros(num_frames, dtype=np.int64)
        self._seqs = self._seq.data
        self._apps = self._rx_app_ns.data
        self._addrs = self._rx_addr.data
        self._lens = self._rx_len.data
        self._unanswered: list[int] = []
        self._shift = xsk.umem.frame_size.bit_length() - 1
        self._view = xsk.umem.view
        self._last_stamp_ns = 0
        self._answer_one: Callable[[], int] | None = None
        if config.has_replies and ring.uses_direct_access():
            self._answer_one = quick_path(self.flight, self._options, self._note_answered)

    def serve(self, limit: int) -> int:
        """Receive what has come, at most ``limit`` packets, and answer it; returns how many."""
        if limit < 1:
            return 0
        count = self._answer_one() if self._answer_one is not None else NOT_HERE
        return self._serve_any(limit) if count == NOT_HERE else count

    def _serve_any(self, limit: int) -> int:
        # Any packets, as many as there are.
        ring = self.xsk.rx
        start, count = ring.peek(min(_RX_BATCH, limit, self.flight.num_free))
        if not count:
            return 0
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        words, mask = ring.words, ring.mask
        received = []
        for position in range(start, start + count):
            index = (position & mask) * 2
            received.append((words[index], words[index + 1] & 0xFFFFFFFF))
        ring.release(count)
        replies = []
        for addr, length in received:
            reply = self._reply(addr, length) if self._has_replies else None
            if reply is None:
                self._unanswered.append(addr >> self._shift)
            else:
                replies.append(reply)
        if replies:
            self.flight.send(replies, self._options)
            self.counts.answered += len(replies)
        for addr, length in received:
            self._note(addr, length, now_ns)
        return count

    def _reply(self, addr: int, length: int) -> tuple[int, int] | None:
        # Turns the request at addr into its reply; None: not a packet our program has checked.
        view = self._view
        version, l3_offset, l4_offset, valid, ip_version, csum = _META.unpack_from(
            view, addr - META_LEN
        )
        if version != META_VERSION:
            return None
        if not valid & VALID_REPLY:
            if self._is_csum_offloaded:
                csum = packet.pseudo_sum(view, addr, l3_offset, ip_version)
            packet.turn_around(view, addr, l3_offset, ip_version, csum)
        elif not valid & VALID_VLAN:
            return addr, length  # the program has done it all
        if valid & VALID_VLAN:
            proto, tci = _VLAN_OF_META.unpack_from(view, addr - META_LEN + _VLAN_OFFSET)
            addr = packet.insert_vlan_tag(view, addr, proto, tci)
            length += packet.VLAN_LEN
            l4_offset += packet.VLAN_LEN
        metadata_addr = addr - self._metadata_len
        txmd.write_request(view, metadata_addr, self._flags, l4_offset, packet.UDP_CSUM_OFFSET)
        return addr, length

    def _note(self, addr: int, length: int, now_ns: int) -> None:
        # What the reply need not wait for.
        frame = addr >> self._shift
        self._seqs[frame] = self._numbers[0]
        self._apps[frame] = now_ns
        self._addrs[frame] = addr
        self._lens[frame] = length
        self._numbers[0] += 1
        self.counts.received += 1

    def _note_answered(self, addr: int, length: int, now_ns: int) -> None:
        self._note(addr, length, now_ns)
        self.counts.answered += 1

    def reap(self) -> int:
        """Note the completions that have come; returns how many."""
        return self.flight.reap()

    @property
    def num_unharvested(self) -> int:
        """Packets that are done and whose samples are not yet built."""
        return self.flight.num_completed + len(self._unanswered)

    def harvest(self, resets: list[tuple[int, int]]) -> Batch:
        """Build the samples of the packets that are done, and give their frames back to ``fill``.

        :param resets: as for :meth:`InFlight.take_completed`.
        :return: one row a packet, in the order of completions, then those without a reply.
        """
        frames, done = self.flight.take_completed(resets)
        stamps, causes = stamp.judge(self.rules, done)
        rows = self._tx_rows(frames, causes)
        rows["tx_hw_ns" if self.rules.is_hardware else "tx_sw_ns"] = stamps
        rows["tx_comp_ns"] = done.tx_comp_ns
        self._count_steps_back(stamps[stamps != NULL])
        if self._unanswered:
            silent = np.array(self._unanswered, dtype=np.intp)
            self._unanswered.clear()
            rows = np.concatenate((rows, self._unanswered_rows(silent)))
            frames = np.concatenate((frames, silent))
        self._refill(frames)
        self._refill(np.array(self.flight.take_returned(), dtype=np.intp))
        return rows

    def give_up(self, submitted_before_ns: int, *, is_drained: bool) -> Batch:
        """The samples of packets whose completion is waited for no longer.

        :param submitted_before_ns: only those submitted before that time, CLOCK_TAI.
        :param is_drained: the drain ran to its limit with the interface alive.
        """
        frames = self.flight.give_up(submitted_before_ns)
        causes = stamp.causes_of_uncompleted(
            self.flight.submit_number[frames], self.flight.last_completed, is_drained=is_drained
        )
        causes[~self.flight.is_requested(frames)] = Cause.NONE
        return self._tx_rows(frames, causes)

    def _count_steps_back(self, stamps: npt.NDArray[np.int64]) -> None:
        if len(stamps):
            steps = np.diff(stamps, prepend=self._last_stamp_ns)
            self.counts.stamp_steps_back += int(np.count_nonzero(steps < 0))
            self._last_stamp_ns = int(stamps[-1])

    def _rx_rows(self, frames: Frames, meta: Metas) -> Batch:
        # What was known at reception.
        rows = empty_batch(len(frames))
        rows["seq"] = self._seq[frames]
        rows["queue_id"] = self.xsk.queue_id
        rows["rx_app_ns"] = self._rx_app_ns[frames]
        fill_rx_columns(rows, meta)
        fill_payload_ids(rows, self.xsk.umem, meta, self._rx_addr[frames])
        return rows

    def _unanswered_rows(self, frames: Frames) -> Batch:
        meta = read_meta(self.xsk.umem, self._rx_addr[frames])
        has_meta = is_ours(meta)
        self.counts.without_meta += int(np.count_nonzero(~has_meta))
        frames = frames[has_meta]
        rows = self._rx_rows(frames, meta[has_meta])
        rows["addr"] = self._rx_addr[frames]
        rows["len"] = self._rx_len[frames]
        return rows

    def _tx_rows(self, frames: Frames, causes: npt.NDArray[np.uint8]) -> Batch:
        # Replies; _reply made sure that our program had stored its struct ahead of the request.
        umem, flight = self.xsk.umem, self.flight
        rx_addrs, tx_addrs = self._rx_addr[frames], flight.tx_addr[frames]
        meta = read_meta(umem, rx_addrs)
        rows = self._rx_rows(frames, meta)
        fill_csum_columns(rows, umem, meta, rx_addrs - tx_addrs, tx_addrs)
        rows["addr"] = tx_addrs
        rows["len"] = flight.tx_len[frames]
        rows["tx_app_ns"] = flight.tx_app_ns[frames]
        rows["cause"] = causes
        return rows

    def _refill(self, frames: Frames) -> None:
        # The fill ring has two entries for every frame, so this never meets a full one.
        if not len(frames):
            return
        ring = self.xsk.fill
        start, count = ring.reserve(len(frames))
        assert count == len(frames), "a frame was given back twice"
        ring.addrs[ring.entries(start, count)] = frames << self._shift
        ring.submit(count)
        if ring.needs_wakeup():
            self.xsk.wakeup_rx()
