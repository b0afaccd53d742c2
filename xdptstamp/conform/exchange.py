# SPDX-License-Identifier: GPL-2.0-only
"""Packets sent over one socket, and everything that became of each."""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xdptstamp import txmd
from xdptstamp._sys.if_xdp import XDP_PKT_CONTD
from xdptstamp.conform.wire import Frame
from xdptstamp.xsk import Xsk

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: How long the next completion is waited for: a lost stamp holds igc's for 15 s and a bit.
SILENCE_NS = 20_000_000_000

_LOOK_S = 50e-6
_LEAST_METADATA = 16
_STUCK_NS = 200_000_000
_IDLE_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet to send.

    :param data: it, without FCS.
    :param flags: of its Tx metadata; None: the metadata is left as it is.
    :param options: of its descriptor.
    :param csum: start and offset of a checksum that is asked for.
    :param launch_ns: when it is to be sent, on the NIC's PHC; read where ``flags`` ask for it.
    :param parts: in how many descriptors it is sent.
    :param shift: bytes by which its address is off.
    """

    data: bytes
    flags: int | None = 0
    options: int = 0
    csum: tuple[int, int] = (0, 0)
    launch_ns: int = 0
    parts: int = 1
    shift: int = 0

    @property
    def is_requested(self) -> bool:
        """It asks for a stamp, as the documentation says that one asks."""
        return bool((self.flags or 0) & txmd.TIMESTAMP) and bool(self.options & txmd.OPTION)


@dataclass(slots=True)
class Exchange:
    """What became of N packets; every array has shape (N,), in the order of submission.

    :ivar is_requested: it asked for a stamp.
    :ivar submit_ns: CLOCK_TAI before it was submitted; ``done_ns`` when its completion was seen,
        -1: never.
    :ivar taken_ns: CLOCK_TAI when it was seen that the driver had taken it from the Tx ring, which
        in zero-copy mode it tells once the NIC has it; -1: that was not seen.
    :ivar place: of its completion among all of this exchange, -1: never.
    :ivar written: the stamp field as it was written, uint64; ``found`` as it was at completion.
    :ivar is_intact: neither the packet nor the rest of its metadata had changed at completion.
    :ivar num_foreign: completions of addresses that were not in flight, second ones included.
    :ivar errors: what wakeups returned, by name, EAGAIN apart.
    :ivar is_possible: a found value can be of a time between submission and completion.
    :ivar statistics: the socket's XDP_STATISTICS; ``counters`` of the driver, by role: differences.
    :ivar frames: what the link partner had on its wire, None where it cannot be asked; beside
        ``expected``: what was sent.
    """

    is_zero_copy: bool
    is_requested: Bools
    submit_ns: Int64s
    done_ns: Int64s
    place: Int64s
    written: npt.NDArray[np.uint64]
    found: npt.NDArray[np.uint64]
    is_intact: Bools
    num_foreign: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    is_possible: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))
    statistics: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    expected: list[bytes] = field(default_factory=list)
    frames: list[Frame] | None = None
    taken_ns: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def is_completed(self) -> Bools:
        """Its completion came."""
        completed: Bools = self.done_ns >= 0
        return completed

    @property
    def is_written(self) -> Bools:
        """The kernel wrote something into its stamp field."""
        written: Bools = self.is_completed & (self.found != self.written)
        return written

    @property
    def is_stamped(self) -> Bools:
        """It asked for a stamp and got one that can be true."""
        return self.is_requested & self.is_written & self.is_possible


class Lane:
    """One socket in the hands of a case.

    :param num_frames: the UMEM's first frames are for packets to send.
    :param tick: called while waiting; what it raises ends the exchange.
    """

    def __init__(self, xsk: Xsk, num_frames: int, tick: Callable[[], None]) -> None:
        self.xsk = xsk
        self._num_frames = num_frames
        self._tick = tick
        self._next_frame = 0

    def exchange(
        self,
        packets: Sequence[Packet],
        *,
        in_flight: int,
        batch: int = 32,
        silence_ns: int = SILENCE_NS,
        meanwhile: Iterator[None] | None = None,
    ) -> Exchange:
        """Send ``packets`` and wait for their completions.

        :param in_flight: at most so many are submitted and not completed.
        :param batch: at most so many are submitted together.
        :param silence_ns: it ends when no completion has come for so long.
        :param meanwhile: what else is done: one step of it after each batch.
        """
        run = _Run(self, packets, meanwhile)
        while not run.is_over(silence_ns):
            room = min(batch, in_flight - run.num_pending, len(packets) - run.num_sent)
            moved = run.submit(room) if room > 0 else 0
            moved += run.reap()
            if not moved:
                self._tick()
                run.idle()
        return run.result()

    def is_usable(self, data: bytes) -> bool:
        """Whether the socket sends one more plain packet, once, and without complaint."""
        done = self.exchange([Packet(data)], in_flight=1, silence_ns=_STUCK_NS)
        return bool(done.is_completed[0]) and not done.errors and not done.num_foreign

    def take_frame(self) -> int:
        """The next frame, in turn."""
        frame = self._next_frame
        self._next_frame = (frame + 1) % self._num_frames
        return frame


class _Run:
    # One exchange while it goes on.
    def __init__(
        self, lane: Lane, packets: Sequence[Packet], meanwhile: Iterator[None] | None
    ) -> None:
        count = len(packets)
        self._lane, self._xsk, self._packets = lane, lane.xsk, packets
        self._meanwhile = meanwhile
        self._pending: dict[int, int] = {}  # addr to number
        self._parts: dict[int, int] = {}  # addr of a further part to number
        self._errors: Counter[str] = Counter()
        self._num_completed = self._num_foreign = 0
        self._last_ns = self._stepped_ns = time.monotonic_ns()
        self.num_sent = 0
        self._submit_ns = np.zeros(count, np.int64)
        self._taken_ns = np.full(count, -1, np.int64)
        self._num_taken = self._num_descs = 0
        self._ends: list[int] = []  # of each packet: descriptors up to its last
        self._done_ns = np.full(count, -1, np.int64)
        self._place = np.full(count, -1, np.int64)
        self._written = np.zeros(count, np.uint64)
        self._found = np.zeros(count, np.uint64)
        self._is_intact = np.ones(count, np.bool_)
        self._images: dict[int, tuple[int, bytes]] = {}

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def is_over(self, silence_ns: int) -> bool:
        is_done = self.num_sent == len(self._packets) and not self._pending and not self._parts
        is_done = is_done and self._meanwhile is None
        return is_done or time.monotonic_ns() - self._last_ns > silence_ns

    def submit(self, count: int) -> int:
        tx, view = self._xsk.tx, self._xsk.umem.view
        entries: list[tuple[int, int]] = []
        number = self.num_sent
        for packet in self._packets[number : number + count]:
            entries += self._write(number, packet, view)
            number += 1
        start, got = tx.reserve(len(entries))
        if got < len(entries):
            # The kernel has not taken what was submitted before.
            tx.catch_up()
            for addr, _ in entries:
                self._pending.pop(addr, None)
                self._parts.pop(addr, None)
            self._wake()
            return 0
        for offset, (addr, rest) in enumerate(entries):
            index = ((start + offset) & tx.mask) * 2
            tx.words[index], tx.words[index + 1] = addr, rest
        self._submit_ns[self.num_sent : number] = time.clock_gettime_ns(time.CLOCK_TAI)
        for packet in self._packets[self.num_sent : number]:
            self._num_descs += packet.parts
            self._ends.append(self._num_descs)
        self.num_sent = number
        tx.submit(got)
        self._wake()
        self._note_taken()
        self._step()
        return count

    def _write(self, number: int, packet: Packet, view: memoryview) -> list[tuple[int, int]]:
        umem = self._xsk.umem
        size = -(-len(packet.data) // packet.parts)
        entries = []
        for part in range(packet.parts):
            addr = umem.tx_addr(self._lane.take_frame()) + packet.shift
            data = packet.data[part * size : (part + 1) * size]
            view[addr : addr + len(data)] = data
            options = packet.options if part == 0 else 0
            if part < packet.parts - 1:
                options |= XDP_PKT_CONTD
            if part == 0:
                first = addr
                self._pending[addr] = number
            else:
                self._parts[addr] = number
            entries.append((addr, len(data) | options << 32))
        self._write_metadata(number, packet, first, view)
        return entries

    def _write_metadata(self, number: int, packet: Packet, addr: int, view: memoryview) -> None:
        room = min(self._xsk.umem.tx_metadata_len, addr)
        start = addr - room
        if room and packet.flags is not None:
            if room >= _LEAST_METADATA:
                view[start:addr] = bytes(room)
                known = packet.flags & (txmd.TIMESTAMP | txmd.CHECKSUM)
                txmd.write_request(view, start, known, *packet.csum)
            if room >= txmd.METADATA_LEN:
                at = start + txmd.LAUNCH_OFFSET
                view[at : at + 8] = packet.launch_ns.to_bytes(8, "little")
            view[start : start + 8] = packet.flags.to_bytes(8, "little")
        if room:
            # Of a length that should have been refused it may lie in the packet.
            at = start + txmd.STAMP_OFFSET
            self._written[number] = int.from_bytes(view[at : at + 8], "little")
        end = addr + min(len(packet.data), self._xsk.umem.frame_size // 2)
        self._images[addr] = (start, bytes(view[start:end]))

    def _note_taken(self) -> None:
        num_descs = self._num_descs - self._xsk.tx.num_waiting()
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        while self._num_taken < self.num_sent and self._ends[self._num_taken] <= num_descs:
            self._taken_ns[self._num_taken] = now_ns
            self._num_taken += 1

    def reap(self) -> int:
        self._note_taken()
        comp, view = self._xsk.comp, self._xsk.umem.view
        start, count = comp.peek(comp.size)
        if not count:
            if self._pending and self._xsk.tx.num_waiting():
                self._wake()
            return 0
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        for position in range(start, start + count):
            self._take(comp.words[position & comp.mask], now_ns, view)
        comp.release(count)
        return count

    def _take(self, addr: int, now_ns: int, view: memoryview) -> None:
        number = self._pending.pop(addr, None)
        if number is None:
            if self._parts.pop(addr, None) is None:
                self._num_foreign += 1
            return
        # Not for any: a refused descriptor may complete again at each attempt, for ever.
        self._last_ns = time.monotonic_ns()
        self._done_ns[number] = now_ns
        self._place[number] = self._num_completed
        self._num_completed += 1
        start, image = self._images.pop(addr)
        now = bytearray(view[start : start + len(image)])
        if start < addr:
            at = txmd.STAMP_OFFSET
            self._found[number] = int.from_bytes(now[at : at + 8], "little")
            now[at : at + 8] = image[at : at + 8]
        self._is_intact[number] = bytes(now) == image

    def _wake(self) -> None:
        if self._xsk.config.is_need_wakeup and not self._xsk.tx.needs_wakeup():
            return
        for _ in range(self._xsk.tx.size):
            error = self._xsk.wakeup_tx()
            if error != errno.EAGAIN:
                break
            if self._xsk.is_zero_copy:
                return
        if error:
            self._errors[errno.errorcode.get(error, str(error))] += 1

    def idle(self) -> None:
        time.sleep(_LOOK_S)
        # What happens meanwhile may be what completions wait for.
        if time.monotonic_ns() - self._stepped_ns > _IDLE_NS:
            self._step()

    def _step(self) -> None:
        self._stepped_ns = time.monotonic_ns()
        if self._meanwhile is None:
            return
        try:
            next(self._meanwhile)
        except StopIteration:
            self._meanwhile = None
            self._last_ns = time.monotonic_ns()

    def result(self) -> Exchange:
        sent = range(len(self._packets))
        return Exchange(
            is_zero_copy=self._xsk.is_zero_copy,
            is_requested=np.array([self._packets[n].is_requested for n in sent], np.bool_),
            submit_ns=self._submit_ns,
            taken_ns=self._taken_ns,
            done_ns=self._done_ns,
            place=self._place,
            written=self._written,
            found=self._found,
            is_intact=self._is_intact,
            num_foreign=self._num_foreign,
            errors=dict(self._errors),
            statistics=self._xsk.statistics(),
            expected=[packet.data for packet in self._packets],
        )
