# SPDX-License-Identifier: GPL-2.0-only
"""The link partner's side of ``mixed``: take every packet, look at it, give its frame back."""

from __future__ import annotations

import dataclasses
import select
import time
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xdptstamp import stream
from xdptstamp.collect import collect_counters
from xdptstamp.dut import Dut
from xdptstamp.errors import SetupError
from xdptstamp.linkwatch import LinkChange
from xdptstamp.measure.sink_books import SinkBooks
from xdptstamp.measure.sink_report import SinkReport
from xdptstamp.measure.stop import Stop
from xdptstamp.umem import Umem
from xdptstamp.xsk import Xsk

# A batch costs about 0.2 ms, and a frame is back in the fill ring after a tenth of that.
_BATCH = 2048
# While packets come the sink sleeps so long, whether there are any or not: in a poll for packets
# the kernel would wake it for each, and on a veth that is the sender's time.
_NAP_S = 250e-6
_HOUSEKEEPING_NS = 100_000_000

# The program counts each packet, but the kernel shows a poll's packets in the Rx ring at the end
# of the poll, and tells nobody when that is.
_SETTLE_NS = 1_000_000_000
_SETTLE_STEP_S = 0.001

# Frames of all queues together, as long as each queue has the least. 8192 are 8 ms at 1 Mpps: the
# time that another process may have the CPU.
_NUM_FRAMES = 16384
_MAX_FRAMES, _MIN_FRAMES = 8192, 2048

# From the Ethernet type to the end of the payload behind IPv4; the same payload behind IPv6 lies
# 20 bytes further on.
_TYPE_OFFSET = 12
_HEAD = np.dtype(
    {
        "names": ["proto", "payload"],
        "formats": [">u2", stream.DTYPE],
        "offsets": [0, 14 + 20 + 8 - _TYPE_OFFSET],
    }
)
_PAYLOAD6_OFFSET = 14 + 40 + 8
_IPV4, _IPV6 = 0x0800, 0x86DD
_MIN_LEN4 = _TYPE_OFFSET + _HEAD.itemsize
_MIN_LEN6 = _PAYLOAD6_OFFSET + stream.LEN

# What the kernel counts once for each packet that it could not put into the Rx ring.
_LOST_IN_RING = ("rx_dropped", "rx_ring_full")

_Ints = npt.NDArray[np.int64]


def num_frames(num_queues: int) -> int:
    """Frames for each queue of a sink: a power of two."""
    share = max(_MIN_FRAMES, min(_MAX_FRAMES, _NUM_FRAMES // num_queues))
    return 1 << share.bit_length() - 1


class Inbox(Protocol):
    """Somebody who may ask for something while packets come."""

    def fileno(self) -> int:
        """Readable when there is something to serve."""

    def serve(self) -> str | None:
        """Answer what was asked; returns why to end, or None."""


class _Heads:
    # Copies of the same number of bytes from many places of a UMEM, as records. Four times as
    # fast as gathering the bytes one by one.
    def __init__(self, umem: Umem, dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        length = dtype.itemsize
        self._all = np.ndarray(
            (umem.size - length + 1,), f"V{length}", buffer=umem.array, strides=(1,)
        )

    def at(self, addrs: _Ints) -> npt.NDArray[np.void]:
        return self._all[addrs].view(self._dtype)


class _Queue:
    # One socket: takes what is in its Rx ring, and keeps its fill ring full.
    def __init__(self, xsk: Xsk, books: SinkBooks) -> None:
        self.xsk = xsk
        self._books = books
        self._heads = _Heads(xsk.umem, _HEAD)
        self._payloads = _Heads(xsk.umem, stream.DTYPE)

    def take(self) -> int:
        """Take what has come, at most a batch; returns how many packets."""
        ring = self.xsk.rx
        start, count = ring.peek(_BATCH)
        if not count:
            return 0
        descs = ring.descs[ring.entries(start, count)]
        ring.release(count)
        addrs, lens = descs["addr"].astype(np.int64), descs["len"].astype(np.int64)
        heads = self._heads.at(addrs + _TYPE_OFFSET)
        payloads, is_whole = heads["payload"], (heads["proto"] == _IPV4) & (lens >= _MIN_LEN4)
        if not is_whole.all():
            is_ipv6 = (heads["proto"] == _IPV6) & (lens >= _MIN_LEN6)
            payloads = payloads.copy()
            payloads[is_ipv6] = self._payloads.at(addrs[is_ipv6] + _PAYLOAD6_OFFSET)
            is_whole |= is_ipv6
        self._give_back(addrs)
        if not is_whole.all():
            self._books.foreign += int(np.count_nonzero(~is_whole))
            payloads, lens = payloads[is_whole], lens[is_whole]
        self._books.add(payloads, lens)
        return count

    def _give_back(self, addrs: _Ints) -> None:
        # The fill ring has two entries for every frame, so this never meets a full one.
        ring = self.xsk.fill
        start, count = ring.reserve(len(addrs))
        assert count == len(addrs), "a frame was given back twice"
        ring.addrs[ring.entries(start, count)] = addrs & -self.xsk.umem.frame_size
        ring.submit(count)
        if ring.needs_wakeup():
            self.xsk.wakeup_rx()


class Sink:
    """Takes packets from the moment it is made until :meth:`finish`.

    :param dut: acquired as a sink: ``DutConfig(is_sink=True)``.
    """

    def __init__(self, dut: Dut) -> None:
        self._dut = dut
        self.books = SinkBooks()
        #: What is wrong with the interface, if that ended it.
        self.failure: str | None = None
        self._queues = [_Queue(xsk, self.books) for xsk in dut.xsks]
        self._next_check_ns = 0
        for xsk in dut.xsks:
            dut.program.add_socket(xsk.queue_id, xsk.fd)

    def run(self, stop: Stop, duration_ns: int | None = None, inbox: Inbox | None = None) -> str:
        """Take packets until a stop, the end of the duration, the inbox or a failure ends it.

        :return: which of them did.
        """
        end_ns = None if duration_ns is None else time.monotonic_ns() + duration_ns
        others = [source.fileno() for source in (stop, self._dut.watch, inbox) if source]
        while True:
            count = self._take()
            ready = self._sleep(count, others, end_ns)
            reason = stop.reason or self._look_around(end_ns)
            if reason is None and inbox is not None and inbox.fileno() in ready:
                reason = inbox.serve()
            if reason is not None:
                return reason

    def report(self) -> SinkReport:
        """The books, after everything that is in the rings was taken."""
        deadline_ns = time.monotonic_ns() + _SETTLE_NS
        while True:
            while self._take() and time.monotonic_ns() < deadline_ns:
                continue
            report = self._read()
            if not report.unaccounted or time.monotonic_ns() >= deadline_ns:
                return dataclasses.replace(report, link=self._link_counters())
            time.sleep(_SETTLE_STEP_S)

    def finish(self) -> SinkReport:
        """Leave packets to the stack from now on; the last books."""
        for queue in self._queues:
            self._dut.program.remove_socket(queue.xsk.queue_id)
        return self.report()

    def _take(self) -> int:
        # One round over all queues; returns the most that one of them had.
        return max(queue.take() for queue in self._queues)

    def _sleep(self, count: int, others: list[int], end_ns: int | None) -> list[int]:
        # Returns which of the others are ready. A full batch has more behind it.
        if count:
            return select.select(others, (), (), _NAP_S if count < _BATCH else 0)[0]
        until_ns = self._next_check_ns if end_ns is None else min(self._next_check_ns, end_ns)
        timeout_s = max(0, until_ns - time.monotonic_ns()) / 1e9
        return select.select([*self._fds(), *others], (), (), timeout_s)[0]

    def _fds(self) -> list[int]:
        return [queue.xsk.fd for queue in self._queues]

    def _look_around(self, end_ns: int | None) -> str | None:
        # Why to end, or None. A link without carrier is waited for: the DUT may have reset it.
        now_ns = time.monotonic_ns()
        if end_ns is not None and now_ns >= end_ns:
            return "duration"
        if now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + _HOUSEKEEPING_NS
            change = self._dut.watch.check()
            if change in (LinkChange.DOWN, LinkChange.VANISHED):
                what = self._dut.watch.describe(change)
                self.failure = f"{self._dut.nic.ifname} {what}"
        return self.failure

    def _read(self) -> SinkReport:
        program = self._dut.program.counters()
        ring: dict[str, int] = {"left": 0}
        for queue in self._queues:
            for name, count in queue.xsk.statistics().items():
                ring[name] = ring.get(name, 0) + count
            ring["left"] += queue.xsk.rx.num_waiting()
        counts = self.books.counts()
        placed = ring["left"] + sum(ring[name] for name in _LOST_IN_RING)
        placed += self.books.foreign + self.books.forgotten
        placed += sum(count.packets for count in counts.values())
        return SinkReport(
            streams=counts,
            ring=ring,
            program=program,
            foreign=self.books.foreign,
            forgotten=self.books.forgotten,
            unaccounted=program["redirected"] - placed,
        )

    def _link_counters(self) -> dict[str, int]:
        try:
            return collect_counters(self._dut.nic)
        except SetupError:  # gone, and with it what it had counted
            return {}
