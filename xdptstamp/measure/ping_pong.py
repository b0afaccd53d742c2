# SPDX-License-Identifier: GPL-2.0-only
"""The DUT's side of ping-pong: answer each request, ask for its stamp, write everything down."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from xdptstamp import txmd
from xdptstamp.dut import Dut
from xdptstamp.errors import SystemCallError
from xdptstamp.linkwatch import LinkChange
from xdptstamp.measure.books import close_books
from xdptstamp.measure.responder import ReplyConfig, Responder
from xdptstamp.measure.stop import Stop
from xdptstamp.measure.vigil import Vigil
from xdptstamp.sample import Batch, SampleSink

#: How long completions are waited for: a lost stamp holds igc's queue for 15 s and a bit.
DRAIN_LIMIT_NS = 20_000_000_000

# Samples are built together: a batch costs a packet's time some ten times over. The recorder takes
# them at the same ticks.
_HARVEST_SIZE = 256
_HOUSEKEEPING_NS = 100_000_000
_EXPIRY_NS = 1_000_000_000
# While completions are awaited in poll mode the loop looks this often. The kernel wakes nobody
# for a completion, so this is the resolution of tx_comp_ns.
_REAP_PERIOD_S = 50e-6
_SPINS_PER_CLOCK = 16
_CARRIER_PATIENCE_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class PingPongConfig:
    """How to answer, and how long.

    :param wait: "poll" sleeps in the kernel for packets, "spin" never sleeps.
    :param count: receive so many packets and no more; None: no limit.
    :param duration_ns: end after that time; None: no limit.
    """

    has_replies: bool = True
    has_timestamps: bool = True
    wait: Literal["poll", "spin"] = "poll"
    count: int | None = None
    duration_ns: int | None = None

    @property
    def reply_flags(self) -> int | None:
        """What a reply asks for (:mod:`xdptstamp.txmd`); None: there are no replies."""
        if not self.has_replies:
            return None
        return txmd.TIMESTAMP if self.has_timestamps else 0


@dataclass(slots=True)
class PingPongResult:
    """How a measurement ended and what it counted.

    :param is_complete: what was asked was done.
    :param ended_by: why it ended before, else what ended it.
    :param failure: what is wrong with the interface, if that ended it.
    :param counts: the books, for the run info.
    :param clock_step_ns: the greatest step of CLOCK_TAI meanwhile; 0: none.
    """

    is_complete: bool
    ended_by: str
    failure: str | None
    counts: dict[str, Any]
    clock_step_ns: int


class PingPong:
    """One measurement on an acquired DUT.

    :param sink: takes the samples.
    :param stop: ends it early; draining follows.
    :param on_tick: called about every 100 ms with the live counts; it returns a reason to end,
        or None. It must not block.
    """

    def __init__(
        self,
        dut: Dut,
        config: PingPongConfig,
        sink: SampleSink,
        stop: Stop,
        on_tick: Callable[[dict[str, int]], str | None],
    ) -> None:
        self._dut = dut
        self._config = config
        self._sink = sink
        self._stop = stop
        self._on_tick = on_tick
        rules = dut.stamp_rules()
        reply = ReplyConfig(
            has_replies=config.has_replies,
            has_timestamps=config.has_timestamps,
            is_csum_offloaded=dut.is_hardware and bool(dut.features.is_tx_checksum),
        )
        self._numbers = [0]  # shared by the queues: the next seq
        self._limit = np.iinfo(np.int64).max if config.count is None else config.count
        self._responders = [
            Responder(xsk, dut.capacity, reply, rules, self._numbers) for xsk in dut.xsks
        ]
        self._vigil = Vigil(dut, _CARRIER_PATIENCE_NS)
        self._failure: str | None = None
        self._next_tick_ns = self._next_expiry_ns = 0
        self._end_ns = 0
        # Not earlier: what comes while a recorder starts is the stack's, and not answered late.
        for xsk in dut.xsks:
            dut.program.add_socket(xsk.queue_id, xsk.fd)

    def run(self) -> PingPongResult:
        """Measure until the count, the duration, a stop or a failure; then drain."""
        now_ns = time.monotonic_ns()
        if self._config.duration_ns is not None:
            self._end_ns = now_ns + self._config.duration_ns
        try:
            reason = self._spin() if self._config.wait == "spin" else self._poll()
        except BaseException:
            self._drain()  # some igc kernels page-fault over a socket closed with stamps pending
            raise
        is_drained = self._drain()
        self._collect_rest(is_drained=is_drained)
        counts = close_books(self._dut, self._responders)
        return PingPongResult(
            is_complete=reason in ("count", "duration") and self._failure is None,
            ended_by=self._failure or reason,
            failure=self._failure,
            counts=counts | {"link_resets": len(self._vigil.resets)},
            clock_step_ns=self._vigil.clock_step_ns,
        )

    def _spin(self) -> str:
        while True:
            for _ in range(_SPINS_PER_CLOCK):
                self._serve()
            reason = self._look_around()
            if reason:
                return reason

    def _poll(self) -> str:
        descriptors = [xsk.fd for xsk in self._dut.xsks]
        descriptors += [self._stop.fileno(), self._dut.watch.fileno()]
        news = select.poll()
        for descriptor in descriptors:
            news.register(descriptor, select.POLLIN)
        while True:
            # A packet that ends the sleep is served first.
            work = self._serve()
            reason = self._look_around()
            if reason:
                return reason
            if work:
                continue
            if any(responder.flight.num_pending for responder in self._responders):
                select.select(descriptors, (), (), _REAP_PERIOD_S)  # poll() knows milliseconds
            else:
                news.poll(self._sleep_ms())

    def _sleep_ms(self) -> float:
        until_ns = self._next_tick_ns
        if self._end_ns:
            until_ns = min(until_ns, self._end_ns)
        return max(0, until_ns - time.monotonic_ns()) / 1e6

    def _serve(self) -> int:
        # One round over all queues; returns how much there was to do.
        work = 0
        for responder in self._responders:
            work += responder.serve(self._limit - self._numbers[0])
            if responder.flight.num_pending:
                work += responder.reap()
        return work

    def _look_around(self) -> str | None:
        # What need not be done for each packet. Returns why to end, or None.
        for responder in self._responders:
            responder.reap()  # what is not pending may complete as well: it was given up
            if responder.flight.needs_kick:
                responder.flight.kick()
            if responder.num_unharvested >= _HARVEST_SIZE:
                self._harvest(responder)
        if self._numbers[0] >= self._limit:
            return "count"
        if self._stop.reason is not None:
            return self._stop.reason
        monotonic_ns = time.monotonic_ns()
        if self._end_ns and monotonic_ns >= self._end_ns:
            return "duration"
        if monotonic_ns >= self._next_tick_ns:
            self._next_tick_ns = monotonic_ns + _HOUSEKEEPING_NS
            return self._tick(monotonic_ns)
        return None

    def _tick(self, monotonic_ns: int) -> str | None:
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        self._failure = self._vigil.look()
        if self._failure is not None:
            return self._failure
        for responder in self._responders:
            if responder.num_unharvested:
                self._harvest(responder)
        if monotonic_ns >= self._next_expiry_ns:
            self._next_expiry_ns = monotonic_ns + _EXPIRY_NS
            rules = self._dut.stamp_rules()
            for responder in self._responders:
                responder.rules = rules
                self._put(responder.give_up(now_ns - DRAIN_LIMIT_NS, is_drained=True))
        return self._on_tick(self._live_counts())

    def _live_counts(self) -> dict[str, int]:
        counts = [responder.counts for responder in self._responders]
        return {
            **self._dut.program.counters(),
            "received": sum(count.received for count in counts),
            "answered": sum(count.answered for count in counts),
        }

    def _harvest(self, responder: Responder) -> None:
        if self._dut.is_hardware:
            self._vigil.look()
        self._put(responder.harvest(self._vigil.resets))

    def _put(self, batch: Batch) -> None:
        if len(batch):
            self._sink.put(batch)

    def _drain(self) -> bool:
        """Wait for all completions; returns whether the interface lived until the end."""
        for responder in self._responders:
            try:
                self._dut.program.remove_socket(responder.xsk.queue_id)
            except SystemCallError as error:
                self._failure = self._failure or str(error)
        deadline_ns = time.monotonic_ns() + DRAIN_LIMIT_NS
        while any(responder.flight.num_pending for responder in self._responders):
            if self._is_interface_gone():
                # What a socket without an interface still has to say is there already.
                for responder in self._responders:
                    responder.reap()
                return False
            if time.monotonic_ns() > deadline_ns:
                break
            if not sum(responder.reap() for responder in self._responders):
                for responder in self._responders:
                    # A driver may want to be woken to complete, as poll() does while measuring.
                    if responder.flight.needs_kick or responder.xsk.is_zero_copy:
                        responder.flight.kick()
                select.select([self._dut.watch], (), (), _REAP_PERIOD_S)
        return True

    def _is_interface_gone(self) -> bool:
        if self._dut.clocks is not None:
            self._dut.clocks.look()
        return self._dut.watch.check() in (LinkChange.DOWN, LinkChange.VANISHED)

    def _collect_rest(self, *, is_drained: bool) -> None:
        self._failure = self._failure or self._vigil.look()
        if self._dut.clocks is not None:
            self._dut.clocks.sample()  # what comes before it can be compared
        for responder in self._responders:
            self._harvest(responder)
            self._put(responder.give_up(np.iinfo(np.int64).max, is_drained=is_drained))
