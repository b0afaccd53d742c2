# SPDX-License-Identifier: GPL-2.0-only
"""The loop of a ping: send on schedule, take replies and kernel stamps, give up what is too old."""

from __future__ import annotations

import dataclasses
import errno
import secrets
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xdptstamp.errors import SetupError
from xdptstamp.measure import _udp_stamp as udp
from xdptstamp.measure._ping_books import (
    STATUS_NAMES,
    PingResult,
    silence_error,
    split_losses,
)
from xdptstamp.measure._ping_config import PingConfig, frame_bytes, payload_bytes
from xdptstamp.measure._ping_payload import Payload
from xdptstamp.measure._ping_window import PingWindow
from xdptstamp.measure.stop import Stop
from xdptstamp.sample import NULL, SampleSink

_BURST = 32  # requests sent before the replies are looked at again
_MAX_ERRORS = 1024  # messages of the error queue taken before the replies are looked at again
_TICK_NS = 100_000_000  # rows wait at most this long for a full batch
_MAX_BEHIND_NS = 1_000_000_000  # further behind the schedule, requests are left out, not caught up
_PATIENCE_NS = 5_000_000_000  # with errors and not one reply, a run ends after this
_MAX_LINGER_NS = 1_000_000_000  # for replies, after a stop was asked for
_NEVER = 1 << 63
_SECOND = 1_000_000_000


class Schedule:
    """When requests are due: absolute times, so that lateness does not add up.

    :param interval_ns: 0: always.
    :param start_ns: of the first; CLOCK_MONOTONIC, as all times here.
    """

    def __init__(self, interval_ns: int, start_ns: int) -> None:
        self._interval_ns = interval_ns
        self.due_ns = start_ns
        self.num_left_out = 0

    def num_due(self, now_ns: int) -> int:
        """How many requests to send now, at most a burst."""
        if self._interval_ns == 0:
            return _BURST
        behind_ns = now_ns - self.due_ns
        if behind_ns < 0:
            return 0
        if behind_ns > _MAX_BEHIND_NS:  # we were stopped: a burst of all of them tells nothing
            num_missed = behind_ns // self._interval_ns
            self.num_left_out += num_missed
            self.due_ns += num_missed * self._interval_ns
            return 1
        return min(_BURST, behind_ns // self._interval_ns + 1)

    def advance(self, num_attempts: int) -> None:
        """Note that so many were attempted."""
        self.due_ns += num_attempts * self._interval_ns


@dataclass(frozen=True, slots=True)
class Hooks:
    """How a run and its caller reach each other; see :meth:`xdptstamp.measure.ping.Pinger.run`."""

    stop: Stop
    on_tick: Callable[[dict[str, int]], str | None]


class PingLoop:
    """One run over one socket: all that changes while it runs."""

    def __init__(
        self, config: PingConfig, stamped: udp.StampedSocket, sink: SampleSink, hooks: Hooks
    ) -> None:
        self._config, self._stamped, self._sock = config, stamped, stamped.sock
        self._stop, self._on_tick = hooks.stop, hooks.on_tick
        self._end_reason: str | None = None
        family = stamped.remote.family
        length = payload_bytes(config.size_bytes, family, stamped.mtu)
        self._payload = Payload(secrets.randbits(48), length)
        self._window = PingWindow(
            sink,
            config.window,
            num_warmup=config.warmup,
            frame_bytes=frame_bytes(family, length),
        )
        # Room for the headers of any device in front, and to see that a reply is too long.
        self._data = bytearray(length + 256)
        self._tai_offset_ns = udp.tai_offset_ns()
        self._limit = _NEVER if config.count is None else config.count + config.warmup
        self._num_attempts = self._num_would_block = self._num_left_out = 0
        self._send_errors: Counter[str] = Counter()
        self._icmp_errors: Counter[str] = Counter()
        # (when, requests sent by then): tells what is too old without a clock per request.
        self._sent_by: deque[tuple[int, int]] = deque()
        self._tick_ns = min(_TICK_NS, max(1, config.timeout_ns // 8))
        self._next_tick_ns = 0
        self._silent_since_ns: int | None = None

    def run(self) -> PingResult:
        """Send, take the replies, wait for the last ones.

        :raises SetupError: If nothing answered and an error says why.
        """
        before = udp.udp_counters(self._stamped.remote.family)
        start_ns = time.monotonic_ns()
        try:
            ended_by = self._send_all(start_ns)
            sending_ns = time.monotonic_ns() - start_ns
            ended_by = self._linger() or ended_by
        finally:
            self._drain_errors()
            self._window.flush()
        self._refuse_silence()
        counts = self._counts(before, udp.udp_counters(self._stamped.remote.family))
        obtained = {
            "kernel_timestamps": self._stamped.kernel_timestamps,
            "interval_ns": sending_ns // max(1, self._window.num_sent),
            "tai_offset_s": self._tai_offset_ns // _SECOND,
            "tai_offset_at_end_s": udp.tai_offset_ns() // _SECOND,
        }
        return PingResult(ended_by, ended_by in ("count", "deadline"), counts, obtained)

    def _send_all(self, start_ns: int) -> str:
        schedule = Schedule(self._config.interval_ns, start_ns)
        deadline_ns = start_ns + (self._config.deadline_ns or _NEVER)
        while self._num_attempts < self._limit:
            now_ns = time.monotonic_ns()
            reason = self._stop.reason or self._end_reason
            if reason is not None:
                return reason
            if now_ns >= deadline_ns:
                return "deadline"
            num_due = min(schedule.num_due(now_ns), self._limit - self._num_attempts)
            num_attempts = self._send(num_due)
            schedule.advance(num_attempts)
            self._num_left_out = schedule.num_left_out
            self._drain()
            self._tick(now_ns)
            if self._num_attempts < self._limit:
                is_blocked = num_attempts < num_due
                until_ns = _NEVER if is_blocked else schedule.due_ns
                self._pause(min(until_ns, deadline_ns), self._stop.fileno(), is_blocked)
        return "count"

    # Attempt num_due requests; returns how many, fewer if the send buffer is full.
    def _send(self, num_due: int) -> int:
        send, payload, window = self._sock.send, self._payload, self._window
        clock, clock_id = time.clock_gettime_ns, time.CLOCK_TAI
        if num_due:
            window.make_room(num_due)
        for num_attempts in range(num_due):
            now_ns = clock(clock_id)
            payload.write(window.num_sent, now_ns)
            try:
                send(payload.data)
            except BlockingIOError:
                self._num_would_block += 1
                return num_attempts
            except OSError as exc:
                self._num_attempts += 1
                if not self._sent_after(exc):
                    continue
            else:
                self._num_attempts += 1
            window.add(now_ns)
        return num_due

    # An ICMP error of an earlier request makes the next send fail, once, unsent: so try again.
    # Not after ENOBUFS: that packet did go, as far as the queue that dropped it.
    def _sent_after(self, exc: OSError) -> bool:
        if exc.errno != errno.ENOBUFS:
            try:
                self._sock.send(self._payload.data)
            except OSError as second:
                exc = second
            else:
                return True
        number = exc.errno or 0
        self._send_errors[errno.errorcode.get(number, str(number))] += 1
        return False

    def _drain(self) -> None:
        self._drain_replies()
        self._drain_errors()
        # After the error queue: a request's Tx stamp is there before its reply is.
        if self._window.num_free_rows == 0:
            self._window.flush()

    def _drain_replies(self) -> None:
        receive, data, buffers = self._sock.recvmsg_into, self._data, [self._data]
        read, answer = self._payload.read, self._window.answer
        clock, clock_id = time.clock_gettime_ns, time.CLOCK_TAI
        stamp_of, offset_ns = udp.software_stamp, self._tai_offset_ns
        for _ in range(self._window.num_free_rows):
            try:
                num_bytes, ancillary, _, _ = receive(buffers, udp.RX_ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error announces itself; the error queue has it, counted there
            now_ns = clock(clock_id)
            stamp_ns = stamp_of(ancillary[0][2]) if ancillary else 0
            seq, carried_ns = read(data, num_bytes)
            answer(seq, carried_ns, stamp_ns + offset_ns if stamp_ns else NULL, now_ns)

    # The whole packet comes back with its stamp, and says its seq itself. The kernel's counter
    # (SOF_TIMESTAMPING_OPT_ID) would not: whether a failed send uses a number up differs.
    def _drain_errors(self) -> None:
        receive, data, buffers = self._sock.recvmsg_into, self._data, [self._data]
        seq_at_end, stamp = self._payload.seq_at_end, self._window.stamp
        for _ in range(_MAX_ERRORS):
            try:
                num_bytes, ancillary, _, _ = receive(
                    buffers, udp.ERR_ANCILLARY_BYTES, socket.MSG_ERRQUEUE
                )
            except BlockingIOError:
                return
            stamp_ns = udp.tx_stamp(ancillary)
            if stamp_ns is None:
                self._icmp_errors[udp.error_name(ancillary)] += 1
            elif stamp_ns:
                stamp(seq_at_end(data, num_bytes), stamp_ns + self._tai_offset_ns)

    def _tick(self, now_ns: int) -> None:
        if now_ns < self._next_tick_ns:
            return
        self._next_tick_ns = now_ns + self._tick_ns
        while self._sent_by and self._sent_by[0][0] + self._config.timeout_ns <= now_ns:
            self._window.give_up(self._sent_by.popleft()[1])
        self._sent_by.append((now_ns, self._window.num_sent))
        self._window.flush()
        self._lose_patience(now_ns)
        self._end_reason = self._on_tick(self._books())

    def _pause(self, until_ns: int, wakeup_fd: int | None, is_blocked: bool) -> None:
        left_ns = min(until_ns, self._next_tick_ns) - time.monotonic_ns()
        if left_ns <= 0 or self._config.wait == "spin":
            return
        fd = self._sock.fileno()
        readable = [fd] if wakeup_fd is None else [fd, wakeup_fd]
        # select, not poll: poll counts in milliseconds. The error queue makes it readable too.
        select.select(readable, [fd] if is_blocked else [], [], left_ns / 1e9)

    # Wait for what is under way as long as for any other request; once a stop was asked for, not
    # longer than _MAX_LINGER_NS: a long --timeout is no reason to stay. Returns the reason if that
    # gave requests up, else None.
    def _linger(self) -> str | None:
        self._next_tick_ns = 0
        give_up_ns = _NEVER
        while self._window.num_waiting:
            self._drain()
            now_ns = time.monotonic_ns()
            self._tick(now_ns)
            reason = self._stop.reason or self._end_reason
            if reason is not None and give_up_ns == _NEVER:
                give_up_ns = now_ns + _MAX_LINGER_NS
            if now_ns >= give_up_ns and self._window.num_waiting:
                self._window.give_up(self._window.num_sent)
                return reason
            if self._window.num_waiting:
                self._pause(min(give_up_ns, self._next_tick_ns), None, is_blocked=False)
        return None

    def _lose_patience(self, now_ns: int) -> None:
        if self._silence_error() is None:
            self._silent_since_ns = None
        elif self._silent_since_ns is None:
            self._silent_since_ns = now_ns
        elif now_ns - self._silent_since_ns > _PATIENCE_NS:
            self._refuse_silence()

    def _refuse_silence(self) -> None:
        error = self._silence_error()
        if error is not None:
            raise error

    def _silence_error(self) -> SetupError | None:
        remote, window = str(self._stamped.remote), self._window
        counts = self._books()
        counts["sent"] = window.num_sent
        for name in ("received", "late"):  # an answer in the warm-up is one
            counts[name] += getattr(window.warmup, name)
        return silence_error(remote, counts, self._send_errors, self._icmp_errors)

    def _books(self) -> dict[str, int]:
        window = self._window
        counts = {
            **dataclasses.asdict(window.main),
            "sent": window.sent,
            "corrupted": window.corrupted,
            "foreign": window.foreign,
        }
        return {name: counts[name] for name in STATUS_NAMES}

    def _counts(self, before: dict[str, int], after: dict[str, int]) -> dict[str, Any]:
        window, granted = self._window, self._stamped.kernel_timestamps
        # The counters of drops know no warm-up: what they hold is laid at the other requests' door.
        losses = split_losses(window.main.lost, self._stamped.num_drops(), before, after)
        return {
            **self._books(),
            **losses,
            "warmup_sent": window.warmup_sent,
            "warmup_received": window.warmup.received,
            "warmup_lost": window.warmup.lost,
            "warmup_late": window.warmup.late,
            "left_out": self._num_left_out,
            "would_block": self._num_would_block,
            "tx_stamps_missing": window.sent - window.main.tx_stamps if "tx" in granted else 0,
            "rx_stamps_missing": window.main.received - window.main.rx_stamps
            if "rx" in granted
            else 0,
            "send_errors": dict(self._send_errors),
            "icmp_errors": dict(self._icmp_errors),
        }
