# SPDX-License-Identifier: GPL-2.0-only
"""Sends one stream after another from one socket, at full speed or paced; nothing per packet.

A stream's packets are numbered from 0; packet n leaves from entry (base + n) of the Tx ring and
from that entry's frame. Completions are matched by address: those that come in order, as almost
all do, by comparing a slice; the others one by one.
"""

from __future__ import annotations

import resource
import select
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from xdptstamp import stream
from xdptstamp.measure.holds import Holds
from xdptstamp.measure.pattern import EveryPattern
from xdptstamp.measure.phase import Phase, Sent
from xdptstamp.measure.spool import IS_DROPPED, IS_REQUESTED, Spool
from xdptstamp.measure.txframes import TxFrames
from xdptstamp.measure.txwake import TxWaker
from xdptstamp.xsk import Xsk

#: Nothing is waited for longer than this without one completion coming: a lost stamp holds igc's
#: queue for 15 s and a bit.
STALL_LIMIT_NS = 20_000_000_000

STALLED = "completions stopped"

#: What ``look`` returns to say that no completion will come any more.
INTERFACE_GONE = "the interface is gone"

_LOOK_NS = 100_000_000
# How long the loop sleeps where it has nothing to do: the kernel wakes nobody for a completion.
_IDLE_S = 50e-6


class Sender:
    """One socket's sending side; :meth:`run` sends a stream and drains it.

    :param capacity: at most so many packets between submit and completion.
    :param batch: at most so many are submitted at once.
    :param news: descriptors that wake a sleeping loop (a stop, the link).
    """

    def __init__(self, xsk: Xsk, capacity: int, batch: int, news: tuple[int, ...] = ()) -> None:
        self._xsk = xsk
        self._capacity = max(1, min(capacity, xsk.tx.size, xsk.comp.size))
        #: The greatest batch.
        self.batch = max(1, min(batch, self._capacity))
        self._news = select.poll()
        for fd in news:
            self._news.register(fd, select.POLLIN)
        self._frames = TxFrames(xsk, self.batch)
        self._mask = xsk.tx.mask
        self._shift = xsk.umem.frame_size.bit_length() - 1
        self._is_done = np.zeros(xsk.tx.size, np.bool_)  # completed before an earlier one was
        self._is_dropped = np.zeros(xsk.tx.size, np.bool_)
        self._num_early = 0
        self._has_drops = False
        self._waker = TxWaker(xsk, self._note_drop)
        self._base = self._position()

    def _position(self) -> int:
        start, _ = self._xsk.tx.reserve(0)
        return start

    def _note_drop(self, position: int) -> None:
        self._is_dropped[position & self._mask] = True
        self._has_drops = True

    def run(self, phase: Phase, spool: Spool, look: Callable[[], str | None]) -> Sent:
        """Send one stream and wait for its completions.

        :param spool: gets a row for each completed packet that asked for a stamp.
        :param look: called every 100 ms; returns why to stop at once, or None. While draining
            only :data:`INTERFACE_GONE` counts.
        """
        self._begin(phase, spool)
        before = resource.getrusage(resource.RUSAGE_SELF)
        try:
            reason = self._send(look)
            is_drained = self._drain(look)
        except BaseException:
            # Some igc kernels page-fault over a socket closed with stamps pending.
            self._drain(look)
            raise
        after = resource.getrusage(resource.RUSAGE_SELF)
        return self._end(reason, before, after, is_drained=is_drained)

    def _begin(self, phase: Phase, spool: Spool) -> None:
        self._phase = phase
        self._pattern = phase.pattern
        self._spool = spool
        self._base = self._position()
        self._next = self._done = 0  # numbers: to be sent next, oldest not completed
        self._num_stamped_done = self._num_unexpected = 0
        self._last_completed = -1
        self._batches: deque[tuple[int, int]] = deque()  # (number behind its last, submitted at)
        self._comp_ns = 0
        self._first_submit_ns = self._last_comp_monotonic_ns = 0
        self._throttled_ns = self._throttled_since_ns = 0
        self._is_dropped[:] = False
        self._has_drops = False
        self._errors_before = dict(self._waker.errors)
        self._dropped_before = self._waker.num_dropped
        self._holds = Holds(phase.pattern)
        self._frames.load(phase.packet, phase.payload_offset, phase.pattern)

    # The loop: fill, submit, wake, reap.
    def _send(self, look: Callable[[], str | None]) -> str:
        phase, waker = self._phase, self._waker
        start_ns = now_ns = self._last_comp_monotonic_ns = time.monotonic_ns()
        end_ns, look_ns = start_ns + phase.duration_ns, start_ns
        while now_ns < end_ns:
            count = self._room(now_ns - start_ns, now_ns)
            if count:
                count = self._submit(count, now_ns)
            if not count and waker.is_needed:
                waker.wake()
            num_reaped = self._reap(now_ns)
            if not count and not num_reaped:
                self._idle(start_ns, now_ns)
            now_ns = time.monotonic_ns()
            if now_ns >= look_ns:
                look_ns = now_ns + _LOOK_NS
                reason = look() or self._stall(now_ns)
                if reason is not None:
                    return reason
        return "duration"

    def _room(self, elapsed_ns: int, now_ns: int) -> int:
        # How many packets may be submitted now.
        phase = self._phase
        count = min(self.batch, self._capacity - (self._next - self._done))
        if phase.interval_ns is not None:
            due = int(elapsed_ns / phase.interval_ns) + 1 - self._next
            count = min(count, max(due, 0))
        pattern = self._pattern
        if count and isinstance(pattern, EveryPattern):
            pattern.plan(self._next, now_ns)
        if count and phase.max_pending is not None and pattern.has_stamps:
            count = self._throttle(count, phase.max_pending, now_ns)
        return count

    def _throttle(self, count: int, max_pending: int, now_ns: int) -> int:
        # The next stamped packet waits, and all behind it: the pattern stays exact.
        num_pending = self._pattern.num_stamped(self._next) - self._num_stamped_done
        room = self._pattern.room(self._next, count, max(max_pending - num_pending, 0))
        if room and self._throttled_since_ns:
            self._throttled_ns += now_ns - self._throttled_since_ns
            self._throttled_since_ns = 0
        if room < count:
            # It waits, too, while those before it are sent: in copy mode they are gone by then.
            self._throttled_since_ns = self._throttled_since_ns or now_ns
        return room

    def _submit(self, count: int, now_ns: int) -> int:
        # Returns how many. Before v6.17 a kernel that takes no more for now may have taken, and
        # completed, what the ring does not show yet.
        ring, number = self._xsk.tx, self._next
        _, count = ring.reserve(count)
        if not count:
            return 0
        end = number + count
        while number < end:
            slot = (self._base + number) & self._mask
            part = min(
                end - number,
                ring.size - slot,
                stream.NUMBER_SPAN - number % stream.NUMBER_SPAN,
            )
            self._frames.write(slot, number, part)
            number += part
        self._next = end
        self._first_submit_ns = self._first_submit_ns or now_ns
        self._batches.append((end, time.clock_gettime_ns(time.CLOCK_TAI)))
        self._waker.send(count)
        return count

    def _reap(self, now_ns: int) -> int:
        ring, done = self._xsk.comp, self._done
        self._holds.look(now_ns)
        start, count = ring.peek(ring.size)
        if not count:
            return 0
        comp_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        addrs = ring.addrs[start & ring.mask : (start & ring.mask) + count]
        if len(addrs) < count:
            addrs = np.concatenate((addrs, ring.addrs[: count - len(addrs)]))
        slot = (self._base + done) & self._mask
        expected = self._frames.addrs[slot : slot + count]
        is_in_order = not self._num_early and done + count <= self._next
        # As bytes: a sixth of what comparing arrays costs.
        if is_in_order and addrs.tobytes() == expected.tobytes():
            self._complete(done, done + count, comp_ns)
            self._done = done + count
            self._num_stamped_done = self._pattern.num_stamped(self._done)
        else:
            self._complete_one_by_one(addrs, comp_ns)
        ring.release(count)
        self._comp_ns = comp_ns
        self._last_comp_monotonic_ns = now_ns
        while self._batches and self._batches[0][0] <= self._done:
            self._batches.popleft()
        if isinstance(self._pattern, EveryPattern):
            self._pattern.forget(self._done)
        return count

    def _complete(self, start: int, end: int, comp_ns: int) -> None:
        # A run of packets, in order; each batch of submits within it was submitted at one time.
        self._last_completed = max(self._last_completed, end - 1)
        for batch_end, app_ns in self._batches:
            if start >= end:
                break
            part_end = min(end, batch_end)
            if part_end <= start:
                continue
            self._holds.note(start, part_end, comp_ns - app_ns)
            if self._pattern.has_stamps or self._phase.records_all:
                self._keep(start, part_end, app_ns, comp_ns)
            start = part_end

    def _keep(self, start: int, end: int, app_ns: int, comp_ns: int) -> None:
        # Rows of packets that were submitted together and completed together, ring wrap included.
        size = self._xsk.tx.size
        while start < end:
            slot = (self._base + start) & self._mask
            part_end = min(end, start + size - slot)
            self._keep_part(slot, start, part_end - start, app_ns, comp_ns)
            start = part_end

    def _keep_part(self, slot: int, start: int, count: int, app_ns: int, comp_ns: int) -> None:
        at = self._pattern.stamped_at(start, count)
        flags: npt.NDArray[np.int64] | int = IS_REQUESTED
        if self._phase.records_all:
            flags = np.zeros(count, np.int64)
            flags[at] = IS_REQUESTED
            at = np.arange(count)
        if self._has_drops:
            flags = flags | np.where(self._is_dropped[slot + at], IS_DROPPED, 0)
            # Also where nothing is kept: the next packet of that frame is another.
            self._is_dropped[slot : slot + count] = False
        if len(at):
            values = self._frames.stamps(slot, count)[at]
            self._spool.add(at, values, flags, (start, app_ns, comp_ns, self._comp_ns))

    def _complete_one_by_one(self, addrs: npt.NDArray[np.uint64], comp_ns: int) -> None:
        # Out of order (copy mode), or not ours at all. Rare, so a loop will do.
        known = self._frames.addrs
        for addr in addrs.tolist():
            slot = addr >> self._shift
            number = self._done + ((slot - self._base - self._done) & self._mask)
            is_pending = slot <= self._mask and int(known[slot]) == addr and number < self._next
            if not is_pending or self._is_done[slot]:
                self._num_unexpected += 1
                continue
            self._complete(number, number + 1, comp_ns)
            self._num_stamped_done += int(self._pattern.mask(number, 1)[0])
            self._is_done[slot] = True
            self._num_early += 1
            self._advance()

    def _advance(self) -> None:
        while self._is_done[slot := (self._base + self._done) & self._mask]:
            self._is_done[slot] = False
            self._num_early -= 1
            self._done += 1

    def _stall(self, now_ns: int) -> str | None:
        is_waiting = self._next > self._done
        return STALLED if is_waiting and self._silence_ns(now_ns) > STALL_LIMIT_NS else None

    def _silence_ns(self, now_ns: int) -> int:
        return now_ns - self._last_comp_monotonic_ns

    def _idle(self, start_ns: int, now_ns: int) -> None:
        if self._next == self._done:
            # Nothing is on its way: silence is nobody's fault.
            self._last_comp_monotonic_ns = now_ns
        if self._phase.is_spinning:
            return
        wait_s = _IDLE_S
        interval_ns = self._phase.interval_ns
        if interval_ns is not None and self._next == self._done:
            due_ns = start_ns + int(self._next * interval_ns)
            wait_s = min(max((due_ns - now_ns) / 1e9, 0), _LOOK_NS / 1e9)
        self._sleep(wait_s)

    def _sleep(self, seconds: float) -> None:
        # poll() knows no less than a millisecond; what is shorter is slept through.
        if seconds >= 0.001:
            self._news.poll(int(seconds * 1000))
        else:
            time.sleep(seconds)

    def _drain(self, look: Callable[[], str | None]) -> bool:
        # Waits for all completions; returns whether the interface lived until the end of it.
        now_ns = look_ns = time.monotonic_ns()
        self._last_comp_monotonic_ns = max(self._last_comp_monotonic_ns, 0) or now_ns
        # From the last sign of life: what a stall was waited for is not waited for again.
        deadline_ns = self._last_comp_monotonic_ns + STALL_LIMIT_NS
        while self._next > self._done:
            if self._waker.is_needed or self._xsk.is_zero_copy:
                # A driver may want to be woken to complete.
                self._waker.wake()
            if self._reap(now_ns):
                deadline_ns = now_ns + STALL_LIMIT_NS
            elif now_ns > deadline_ns:
                return True
            else:
                time.sleep(_IDLE_S)
            now_ns = time.monotonic_ns()
            if now_ns >= look_ns:
                look_ns = now_ns + _LOOK_NS
                if look() == INTERFACE_GONE:
                    self._reap(now_ns)
                    return False
        return True

    def _end(
        self,
        reason: str,
        before: resource.struct_rusage,
        after: resource.struct_rusage,
        *,
        is_drained: bool,
    ) -> Sent:
        if self._throttled_since_ns:
            # As part of the duration, which ends with the last completion.
            self._throttled_ns += self._last_comp_monotonic_ns - self._throttled_since_ns
        self._holds.fold()
        numbers = np.arange(self._done, self._next)
        if self._num_early:
            numbers = numbers[~self._is_done[(self._base + numbers) & self._mask]]
        ends = np.array([end for end, _ in self._batches], np.int64)
        times = np.array([app_ns for _, app_ns in self._batches], np.int64)
        app_ns = times[np.searchsorted(ends, numbers, side="right")] if len(ends) else numbers
        mask = self._pattern.mask
        requested = [bool(mask(number, 1)[0]) for number in numbers.tolist()]
        errors = {
            name: count - self._errors_before.get(name, 0)
            for name, count in self._waker.errors.items()
            if count > self._errors_before.get(name, 0)
        }
        return Sent(
            reason=reason,
            sent=self._next,
            completed=self._next - len(numbers),
            num_requested=self._pattern.num_stamped(self._next),
            completed_unexpected=self._num_unexpected,
            num_dropped=self._waker.num_dropped - self._dropped_before,
            duration_ns=max(self._last_comp_monotonic_ns - self._first_submit_ns, 0),
            throttled_ns=max(self._throttled_ns, 0),
            user_ns=round((after.ru_utime - before.ru_utime) * 1e9),
            system_ns=round((after.ru_stime - before.ru_stime) * 1e9),
            is_drained=is_drained,
            last_completed=self._last_completed,
            uncompleted=numbers,
            uncompleted_app_ns=app_ns,
            is_uncompleted_requested=np.array(requested, np.bool_),
            holds=self._holds,
            wakeup_errors=errors,
        )
