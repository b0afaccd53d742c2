# SPDX-License-Identifier: GPL-2.0-only
"""The DUT's side of ``mixed``: every setting, round after round, and the books of each."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from xdptstamp.dut import Dut
from xdptstamp.errors import SetupError, XdptstampError
from xdptstamp.measure import mixed_samples
from xdptstamp.measure.mixed_books import Books
from xdptstamp.measure.mixed_plan import MixedConfig, first_packet, pattern_of, payload_offset
from xdptstamp.measure.phase import Phase, Sent
from xdptstamp.measure.second_app import SecondApp
from xdptstamp.measure.sender import INTERFACE_GONE, Sender
from xdptstamp.measure.sink_client import SinkClient
from xdptstamp.measure.spool import Spool
from xdptstamp.measure.stop import Stop
from xdptstamp.measure.vigil import Vigil
from xdptstamp.nexthop import NextHop
from xdptstamp.rounds import Round, Setting
from xdptstamp.sample import Batch

LOST = "completions never came"

#: What is sent without carrier arrives nowhere: a bandwidth is spoilt long before.
CARRIER_PATIENCE_NS = 2_000_000_000

_RULES_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a measurement works with, beside its DUT.

    :param sink: counts what arrives; None: nobody does.
    :param second_app: sends the stamped packets of ``--two-apps``; None: there is none.
    :param folder: where samples wait for the recorder.
    :param put: takes samples between two phases; may wait.
    :param on_tick: called about every 100 ms; returns a reason to end, or None.
    :param on_round: called with each round that was measured.
    """

    route: NextHop
    sink: SinkClient | None
    second_app: SecondApp | None
    folder: Path
    put: Callable[[Batch], None]
    on_tick: Callable[[], str | None]
    on_round: Callable[[Round], None]


@dataclass(slots=True)
class MixedResult:
    """How a measurement ended.

    :param rounds: those that were measured, warm-up ones included; the last may be cut short.
    :param is_complete: everything that was asked was done.
    :param failure: what went wrong for good, if that ended it.
    """

    rounds: list[Round] = field(default_factory=list)
    is_complete: bool = False
    ended_by: str = ""
    failure: XdptstampError | None = None
    num_resets: int = 0
    clock_step_ns: int = 0
    completed_unexpected: int = 0


class _Recording:
    # Takes samples until the recorder fails, and remembers why: the books of a round are closed all
    # the same.
    def __init__(self, put: Callable[[Batch], None]) -> None:
        self.failure: XdptstampError | None = None
        self._put = put

    def __call__(self, batch: Batch) -> None:
        if self.failure is None:
            try:
                self._put(batch)
            except XdptstampError as error:
                self.failure = error


class Mixed:
    """One measurement on an acquired DUT with one queue.

    :param stop: ends it early; draining follows.
    """

    def __init__(self, dut: Dut, config: MixedConfig, around: Surroundings, stop: Stop) -> None:
        self._dut = dut
        self._config = config
        self._around = around
        self._stop = stop
        self._vigil = Vigil(dut, CARRIER_PATIENCE_NS)
        self._books = Books(dut, around.sink)
        news = (stop.fileno(), dut.watch.fileno())
        self._sender = Sender(dut.xsks[0], dut.capacity, config.batch, news)
        self._result = MixedResult()
        self._streams = secrets.randbits(16) << 16
        self._rules: list[mixed_samples.RulesFrom] = []
        self._next_rules_ns = 0

    def run(self) -> MixedResult:
        """Measure every setting in every round, or until a stop or a failure."""
        result = self._result
        try:
            with Spool(self._around.folder) as self._spool:
                result.ended_by = self._run_rounds() or "duration"
        except XdptstampError as error:
            result.failure, result.ended_by = error, str(error)
        if self._vigil.failure:
            # A sink that ends with its end of the link is but what that entailed.
            result.failure = SetupError(*self._vigil.failure.split(" ", 1))
        if result.failure is not None:
            result.ended_by = str(result.failure)
        result.is_complete = result.ended_by == "duration" and result.failure is None
        result.num_resets = len(self._vigil.resets)
        result.clock_step_ns = self._vigil.clock_step_ns
        return result

    def _run_rounds(self) -> str | None:
        config = self._config
        for order, (number, index) in enumerate(config.order()):
            for is_warmup in (True, False):
                each = Round(round=number, setting=index, order=order, is_warmup=is_warmup)
                duration_ns = config.warmup_ns if is_warmup else config.duration_ns
                reason = self._measure(each, config.settings[index], duration_ns)
                if reason is not None:
                    return reason
        return None

    def _measure(self, each: Round, setting: Setting, duration_ns: int) -> str | None:
        """Measure one setting once; returns why everything must end now, or None."""
        around, stream_id = self._around, self._next_stream()
        each.stream = stream_id
        phase = self._phase(setting, stream_id, duration_ns)
        opened = self._books.open()
        with contextlib.ExitStack() as stack:
            app = around.second_app if setting.has_second_app else None
            if app is not None:
                each.second_stream = app_stream = self._next_stream()
                packet = self._packet(setting.size_bytes, app_stream, (1, 0))
                app.start(packet, payload_offset(around.route), setting.every_ns)
                stack.callback(app.stop)
            self._rules = [(0, self._dut.stamp_rules())]
            sent = self._sender.run(phase, self._spool, self._look)
        self._result.rounds.append(each)
        _note_sent(each, sent)
        streams = {stream_id: sent.sent}
        if app is not None:
            streams[app_stream] = app.sent.sent
        self._vigil.look()  # stamps are judged by what has happened until now
        if self._dut.clocks is not None:
            self._dut.clocks.sample()
        recording = _Recording(around.put)
        self._record(each, setting, sent, recording)
        if app is not None:
            each.second_app = app.books(self._origin(each, setting, app.queue_id), recording)
        self._result.completed_unexpected += sent.completed_unexpected
        if self._spool.error is not None:
            raise self._spool.error
        self._books.close(opened, each, streams)
        around.on_round(each)
        if recording.failure is not None:
            raise recording.failure
        if each.lost:
            return LOST
        return None if sent.reason == "duration" else sent.reason

    def _next_stream(self) -> int:
        self._streams += 1
        return self._streams

    def _packet(self, size_bytes: int, stream_id: int, ratio: tuple[int, int]) -> bytes:
        return first_packet(self._around.route, self._config.port, size_bytes, stream_id, ratio)

    def _phase(self, setting: Setting, stream_id: int, duration_ns: int) -> Phase:
        config = self._config
        pattern = pattern_of(setting, self._sender.batch)
        return Phase(
            packet=self._packet(setting.size_bytes, stream_id, pattern.ratio),
            payload_offset=payload_offset(self._around.route),
            pattern=pattern,
            duration_ns=duration_ns,
            interval_ns=config.interval_ns(setting),
            max_pending=config.max_pending,
            records_all=config.records_all,
            is_spinning=config.is_spinning,
        )

    def _look(self) -> str | None:
        # What the sender need not do for each packet; returns why it must end.
        if self._vigil.look() is not None:
            return INTERFACE_GONE if self._vigil.is_gone else self._vigil.failure
        if self._stop.reason is not None:
            return self._stop.reason
        now_ns = time.monotonic_ns()
        if self._dut.is_hardware and now_ns >= self._next_rules_ns:
            self._next_rules_ns = now_ns + _RULES_NS
            self._rules.append((self._spool.num_rows, self._dut.stamp_rules()))
        return self._troubles() or self._around.on_tick()

    def _troubles(self) -> str | None:
        if self._spool.error is not None:
            return str(self._spool.error)
        try:
            for helper in (self._around.sink, self._around.second_app):
                if helper is not None:
                    helper.check()
        except SetupError as error:
            self._result.failure = error
            return str(error)
        return None

    def _record(
        self, each: Round, setting: Setting, sent: Sent, put: Callable[[Batch], None]
    ) -> None:
        origin = self._origin(each, setting, self._dut.xsks[0].queue_id)
        each.stamped, each.causes = mixed_samples.record(origin, self._spool, sent, put)
        if self._spool.error is None:
            self._spool.clear()

    def _origin(self, each: Round, setting: Setting, queue_id: int) -> mixed_samples.Origin:
        return mixed_samples.Origin(
            each, queue_id, setting.size_bytes, self._rules, self._vigil.resets
        )


def _note_sent(each: Round, sent: Sent) -> None:
    each.duration_ns = sent.duration_ns
    each.sent, each.completed, each.lost = sent.sent, sent.completed, len(sent.uncompleted)
    each.requested = sent.num_requested
    each.dropped_by_kernel = sent.num_dropped
    each.wakeup_errors = sent.wakeup_errors
    each.throttled_ns = sent.throttled_ns
    each.user_ns, each.system_ns = sent.user_ns, sent.system_ns
    each.hold, each.reap = sent.holds.by_position, sent.holds.reap
