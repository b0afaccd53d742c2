# SPDX-License-Identifier: GPL-2.0-only
"""From a request to its outcome: a stamp that can be true, or the cause of its absence.

The kernel gives no validity bit: whether a stamp came is told by the sentinel being gone, whether
it can be true by its lying between submit and completion on its own clock. Why one is missing is
seen where possible, and else inferred from time: the driver answers a request it has no slot for
at once, and one whose stamp is lost only after its timeout.

One packet is :func:`request` and :func:`read`; many are :func:`judge`, which is vectorised: arrays
of one length, one element a packet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xdptstamp import txmd
from xdptstamp.clock import Bools, Int64s, SameClock, StampClock
from xdptstamp.sample import NULL, Cause
from xdptstamp.umem import Umem

_SENTINEL_MASK = np.uint64(txmd.SENTINEL)
# A completion this close to the driver's timeout was released by it, as a share of it. The
# driver looks from its watchdog, so the real release comes up to a second or two later.
_TIMEOUT_SHARE = 0.9


#: desc.options of a packet whose Tx metadata was written by :func:`request`.
OPTION = txmd.OPTION


def request(umem: Umem, addr: int) -> None:
    """Ask for a timestamp of the packet at ``addr``; submit it with :data:`OPTION`."""
    txmd.write_request(umem.view, addr - umem.tx_metadata_len, txmd.TIMESTAMP)


def read(umem: Umem, addr: int) -> int | None:
    """The timestamp of the completed packet at ``addr``, in ns; None if the kernel wrote none.

    In zero-copy mode it is the NIC's, on its PHC; in copy mode the kernel's, CLOCK_TAI.
    """
    return txmd.read_stamp(umem.view, addr - umem.tx_metadata_len)


@dataclass(frozen=True, slots=True)
class StampRules:
    """What one socket's stamps can be.

    :param is_hardware: zero-copy: stamps are the NIC's, on its PHC; else the kernel's, CLOCK_TAI.
    :param is_offered: the driver offers Tx timestamps (xsk-features); in copy mode the kernel
        always does.
    :param is_hwtstamp_on: the NIC's hwtstamp setting as read back; None: it has none.
    :param timeout_ns: when the driver gives a stamp up; None: not known.
    :param num_slots: stamps that can be pending at once, and so be lost at once.
    :param clock: the clock that stamps are on: what its times are on CLOCK_TAI, and how sure.
    """

    is_hardware: bool = False
    is_offered: bool = True
    is_hwtstamp_on: bool | None = None
    timeout_ns: int | None = None
    num_slots: int = 1
    clock: StampClock = field(default_factory=SameClock)


@dataclass(frozen=True, slots=True)
class Completed:
    """Packets whose completion came, in the order of their completions.

    :param values: the stamp fields as found, uint64.
    :param is_requested: a stamp was asked for.
    :param is_dropped: the kernel dropped the packet, and yet completed and stamped it.
    :param is_reset: the adapter was reset, or its link went, between submit and completion.
    :param previous_comp_ns: completion of the packet before, on the same queue, CLOCK_TAI.
    """

    values: npt.NDArray[np.uint64]
    is_requested: Bools
    is_dropped: Bools
    is_reset: Bools
    tx_app_ns: Int64s
    tx_comp_ns: Int64s
    previous_comp_ns: Int64s


def judge(rules: StampRules, done: Completed) -> tuple[Int64s, npt.NDArray[np.uint8]]:
    """Which stamps are there and true, and why the others are missing.

    :return: the stamps in ns on their clock, :data:`~xdptstamp.sample.NULL` where there is none,
        and the causes (:class:`~xdptstamp.sample.Cause`), both of the packets' shape.
    """
    has_value = ((done.values & _SENTINEL_MASK) != _SENTINEL_MASK) & done.is_requested
    stamps = np.where(has_value, done.values, 0).astype(np.int64)
    is_possible = _are_possible(rules.clock, stamps, done)
    # A clock that was set since it was last looked at must not make true stamps invalid.
    is_doubtful = has_value & ~is_possible & ~done.is_dropped
    if is_doubtful.any() and rules.clock.refresh():
        is_possible = _are_possible(rules.clock, stamps, done)

    is_true = has_value & is_possible & ~done.is_dropped
    causes = np.full(len(stamps), Cause.NONE, dtype=np.uint8)
    is_missing = done.is_requested & ~has_value
    if is_missing.any():
        causes[is_missing] = _causes_of_missing(rules, done, is_missing)[is_missing]
    causes[done.is_requested & (done.is_dropped | (has_value & ~is_possible))] = Cause.INVALID
    return np.where(is_true, stamps, NULL), causes


def _are_possible(clock: StampClock, stamps: Int64s, done: Completed) -> Bools:
    # 0 is no time, and what would be negative passes the limits of int64, on any clock.
    return (stamps > 0) & clock.is_possible(stamps, done.tx_app_ns, done.tx_comp_ns)


def _causes_of_missing(
    rules: StampRules, done: Completed, is_missing: Bools
) -> npt.NDArray[np.uint8]:
    # The more certain cause wins.
    causes = np.full(len(done.values), Cause.SKIPPED, dtype=np.uint8)
    if rules.timeout_ns is not None:
        limit_ns = int(rules.timeout_ns * _TIMEOUT_SHARE)
        causes[_are_timed_out(limit_ns, rules.num_slots, done, is_missing)] = Cause.TIMED_OUT
    causes[done.is_reset] = Cause.RESET
    if rules.is_hardware and rules.is_hwtstamp_on is False:
        causes[:] = Cause.DISABLED
    if not rules.is_offered:
        causes[:] = Cause.UNSUPPORTED
    return causes


def _are_timed_out(limit_ns: int, num_slots: int, done: Completed, is_missing: Bools) -> Bools:
    # Completions seen at one moment were released together. Their wait counts from the release
    # before, and of those that waited to the limit the first ones are to blame, as many as there
    # are slots: packets behind a lost stamp complete late, too.
    is_first = np.ones(len(done.tx_comp_ns), dtype=np.bool_)
    is_first[1:] = done.tx_comp_ns[1:] != done.tx_comp_ns[:-1]
    release = np.cumsum(is_first) - 1
    released_before_ns = done.previous_comp_ns[is_first][release]
    wait_ns = done.tx_comp_ns - np.maximum(done.tx_app_ns, released_before_ns)
    is_late = is_missing & (wait_ns >= limit_ns)
    num_late = np.cumsum(is_late)
    num_late_before = (num_late - is_late)[is_first][release]
    is_timed_out: Bools = is_late & (num_late - num_late_before <= num_slots)
    return is_timed_out


def causes_of_uncompleted(
    submitted: Int64s, last_completed: int, *, is_drained: bool
) -> npt.NDArray[np.uint8]:
    """Why packets have no completion when waiting for it ended.

    :param submitted: their submit numbers on one queue.
    :param last_completed: the greatest submit number that completed there; -1: none.
    :param is_drained: the drain ran to its limit, with the socket and the interface alive.
    :return: ``LOST_BY_DRIVER`` where a later packet did complete, or the drain ran to its limit;
        else ``NOT_COMPLETED``.
    """
    is_lost = (submitted < last_completed) | is_drained
    return np.where(is_lost, Cause.LOST_BY_DRIVER, Cause.NOT_COMPLETED).astype(np.uint8)
