# SPDX-License-Identifier: GPL-2.0-only
"""Cases about the launch time that a packet may ask for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xdptstamp import txmd
from xdptstamp.clock import ClockSample
from xdptstamp.conform.case import Case, SkipError, Verdict, all_of
from xdptstamp.conform.completions import judge_completions
from xdptstamp.conform.exchange import Exchange, Packet
from xdptstamp.conform.stand import Socket, Stand
from xdptstamp.conformance import Rule

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_DOC = "Documentation/networking/xsk-tx-metadata.rst"
_NUM, _NUM_DROPPED = 16, 32
_APART_NS = 20_000_000
_AHEAD_NS = 200_000_000
# Nothing is said of a packet that the driver took later than this before its time, and nothing of
# any where more than half of them were.
_LEAST_AHEAD_NS = 2_000_000
_LEAST_JUDGED = _NUM // 2
# A stamp is of another place of the NIC than the launch; what is missed is missed by more.
_EARLY_NS, _LATE_NS = 1_000, 1_000_000
# Longer than the packets take that are not to wait for it.
_FAR_AHEAD_NS = 2_000_000_000
# A NIC may count launch times from the start of a cycle: igc from that of a second of its clock.
_CYCLE_NS = 1_000_000_000
# The next turn of a cycle is no farther than two.
_WAIT_S = 3.0
# Which cycle a time is of these find by CLOCK_TAI: igc_tx_launchtime(), igc_main.c.
_BY_TAI = ("igc",)
_LEAST_OFF_NS = 1_000_000
# The best of so many: this machine may be busy at any one.
_NUM_LOOKS = 5
_TOO_SLOW = "this machine was too slow to have packets with the NIC ahead of their time"


@dataclass(slots=True)
class Launches:
    """Packets that had a time to be sent at.

    :param launch_ns: of each, on the clock of its stamp.
    :param is_ahead: of each, whether the NIC had it before; nothing is said of the others.
    """

    done: Exchange
    launch_ns: Int64s
    is_ahead: Bools

    @property
    def off_ns(self) -> Int64s:
        """How long after its time each was sent that the NIC had before, and that has a stamp."""
        is_judged = self.done.is_stamped & self.is_ahead
        stamps = np.where(is_judged, self.done.found, 0).astype(np.int64)
        off_ns: Int64s = (stamps - self.launch_ns)[is_judged]
        return off_ns


def _needs_launch_times(stand: Stand) -> ClockSample:
    # Returns how the PHC and CLOCK_TAI stand.
    stand.needs_zero_copy("the time goes to the driver in skb->tstamp, past any qdisc: not judged")
    if not stand.dut.features.is_tx_launch_time:
        raise SkipError("the driver does not offer launch times (xsk-features)")
    stand.stamp_clock()
    clocks = stand.dut.clocks
    for _ in range(_NUM_LOOKS):
        if clocks is not None:
            clocks.sample()
        if clocks is None or clocks.problem:
            raise SkipError("the NIC's clock, which launch times are on, cannot be read")
    assert clocks is not None
    return min(clocks.comparison.samples[-_NUM_LOOKS:], key=lambda each: each.uncertainty_ns)


def _packets(stand: Stand, launch_ns: Int64s) -> list[Packet]:
    flags = txmd.TIMESTAMP | txmd.LAUNCH_TIME
    packets = stand.packets([True] * len(launch_ns))
    return [
        replace(packet, flags=flags, launch_ns=each_ns)
        for packet, each_ns in zip(packets, launch_ns.tolist(), strict=True)
    ]


def _queue(stand: Stand, *, has_etf: bool) -> int | None:
    etf_queues = stand.nic.etf_queues()
    usable = range(stand.nic.num_queues().usable)
    return next((queue for queue in usable if (queue in etf_queues) == has_etf), None)


def _launch(stand: Stand) -> Launches:
    clocks = _needs_launch_times(stand)
    offset_ns = clocks.offset_ns
    driver = stand.nic.driver_info().driver
    queue_id = _queue(stand, has_etf=True)
    if queue_id is None:
        # Not set up here: that is the machine's owner's to do, and to undo.
        raise SkipError(
            "no ETF qdisc is offloaded on a queue: below an mqprio 100: that keeps other traffic "
            f"off it, tc qdisc replace dev {stand.nic.ifname} parent 100:QUEUE+1 etf clockid "
            "CLOCK_TAI delta 500000 offload (stmmac: not of queue 0)"
        )
    if "taprio" in stand.nic.qdiscs():
        raise SkipError("taprio's gates say as well when a packet is sent")
    if driver in _BY_TAI and abs(offset_ns) > _LEAST_OFF_NS:
        raise SkipError(
            f"the PHC is {offset_ns:,} ns (+-{clocks.uncertainty_ns:,}) off CLOCK_TAI, by which "
            f"{driver} finds the cycle of a launch time: set them alike (phc2sys, and the kernel's "
            "TAI offset)"
        )
    with stand.socket(Socket(queue_id=queue_id)) as lane:
        launch_ns = _launch_times(time.clock_gettime_ns(time.CLOCK_TAI) + offset_ns)
        begin_ns = launch_ns[0] - offset_ns - _AHEAD_NS
        # No sooner: igc's check for a hung Tx queue, igc_clean_tx_irq(), knows no launch times, and
        # resets the adapter for a packet that waits for more than a second.
        stand.await_true(lambda: time.clock_gettime_ns(time.CLOCK_TAI) >= begin_ns, _WAIT_S)
        # Each holds a stamp's place in the NIC until it is sent; the next is submitted then.
        in_flight = min(max(stand.dut.stamp_rules().num_slots, 2), 4)
        done = stand.run(lane, _packets(stand, launch_ns), in_flight=in_flight, batch=1)
    found = Launches(done, launch_ns, _is_taken_ahead(done, launch_ns - offset_ns))
    if is_too_slow(found):
        raise SkipError(_TOO_SLOW)
    return found


def is_too_slow(found: Launches) -> bool:
    """Too few were ahead to call right what is right of them.

    What is wrong is wrong of any: a driver that sends late, or completes nothing, is the cause of
    it that the packets behind come late, too.
    """
    is_few = int(np.count_nonzero(found.is_ahead)) < _LEAST_JUDGED
    return is_few and judge_launches(found).is_right


def _is_taken_ahead(done: Exchange, launch_tai_ns: Int64s) -> Bools:
    # A busy machine may leave it in the Tx ring for long.
    taken_ns = done.taken_ns
    is_ahead: Bools = (taken_ns >= 0) & (taken_ns <= launch_tai_ns - _LEAST_AHEAD_NS)
    return is_ahead


def _launch_times(now_ns: int) -> Int64s:
    # Half of them in the one cycle, half in the next.
    half_ns = (_NUM - 1) * _APART_NS // 2
    middle_ns = -(-(now_ns + _AHEAD_NS + half_ns) // _CYCLE_NS) * _CYCLE_NS
    return middle_ns - half_ns + _APART_NS * np.arange(_NUM, dtype=np.int64)


def judge_launches(found: Launches) -> Verdict:
    """Each on the wire at its time: not before, and soon."""
    off_ns, num = found.off_ns, int(np.count_nonzero(found.is_ahead))
    too_late = len(found.is_ahead) - num
    early = int(np.count_nonzero(off_ns < -_EARLY_NS))
    late = int(np.count_nonzero(off_ns > _LATE_NS))
    seen = f"{len(off_ns)} of {num} stamped, {early} of them early, {late} late"
    figures: dict[str, int | float | str] = {"stamped": len(off_ns), "early": early, "late": late}
    if len(off_ns):
        seen += f": {off_ns.min():,} to {off_ns.max():,} ns after their time"
        figures |= {"least_ns": int(off_ns.min()), "greatest_ns": int(off_ns.max())}
    if too_late:
        seen += f"; {too_late} more were too late with the NIC to be judged"
        figures["not_judged"] = too_late
    verdict = Verdict(len(off_ns) == num and not early and not late, seen, figures)
    return all_of(judge_completions(found.done), verdict)


def _launch_without_etf(stand: Stand) -> Launches:
    offset_ns = _needs_launch_times(stand).offset_ns
    queue_id = _queue(stand, has_etf=False)
    if queue_id is None:
        raise SkipError("an ETF qdisc is offloaded on each queue")
    with stand.socket(Socket(queue_id=queue_id)) as lane:
        now_ns = time.clock_gettime_ns(time.CLOCK_TAI) + offset_ns
        launch_ns = np.full(_NUM_DROPPED, now_ns + _FAR_AHEAD_NS)
        done = stand.run(lane, _packets(stand, launch_ns), in_flight=1, batch=1)
    found = Launches(done, launch_ns, _is_taken_ahead(done, launch_ns - offset_ns))
    is_right = bool(done.is_stamped.all()) and bool(np.all(found.off_ns < 0))
    if is_right and not found.is_ahead.all():
        raise SkipError(_TOO_SLOW)
    return found


def judge_launches_without_etf(found: Launches) -> Verdict:
    """Stamped as without, and not at the time that was asked for."""
    off_ns, num = found.off_ns, len(found.launch_ns)
    kept = int(np.count_nonzero(off_ns >= 0))
    seen = f"{len(off_ns)} of {num} stamped, {kept} of them at the time asked for, or later"
    figures: dict[str, int | float | str] = {"stamped": len(off_ns), "kept": kept}
    verdict = Verdict(len(off_ns) == num and not kept, seen, figures)
    return all_of(judge_completions(found.done), verdict)


CASES = (
    Case(
        Rule(
            key="launch-time-without-etf",
            group="offloads",
            title="a launch time on a queue without ETF is dropped, the packet is not",
            text=f"{_NUM_DROPPED} packets ask for a stamp and a launch time "
            f"{_FAR_AHEAD_NS // 10**9} s ahead on a queue without an offloaded ETF qdisc: sent at "
            "once, stamped, completed.",
            source="igc_xsk_request_launch_time(), igc_main.c",
            expected={"zero-copy": "sent at once, and stamped"},
        ),
        _launch_without_etf,
        judge_launches_without_etf,
    ),
    Case(
        Rule(
            key="launch-time",
            group="offloads",
            title="a packet with a launch time is on the wire then",
            text=f"{_NUM} packets ask for a stamp and for launch times {_APART_NS // 10**6} ms "
            "apart, over the turn of a second of the NIC's clock, on a queue whose ETF qdisc is "
            f"offloaded. By its stamp each is sent no more than {_EARLY_NS // 1000} us before its "
            f"time and no more than {_LATE_NS // 10**6} ms after it, in order. One that "
            f"the NIC has less than {_LEAST_AHEAD_NS // 10**6} ms ahead is not judged.",
            source=f"{_DOC}, Launch Time",
            expected={"zero-copy": "sent at its time"},
        ),
        _launch,
        judge_launches,
    ),
)
