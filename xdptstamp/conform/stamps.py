# SPDX-License-Identifier: GPL-2.0-only
"""Cases about the stamps themselves: which come, when they are of, and what else is left alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from xdptstamp.conform.case import Case, SkipError, Verdict
from xdptstamp.conform.exchange import Exchange
from xdptstamp.conform.stand import Socket, Stand
from xdptstamp.conformance import Rule

_DOC = "Documentation/networking/xsk-tx-metadata.rst"
_COUNT = 64
#: Packets in a burst that looks for the number of stamps that can be pending.
_BURST = 32
_NUM_BURSTS = 4
# The fast reader of CLOCK_TAI may step back between CPUs (ktime_get_tai_fast_ns).
_FAST_READER_NS = 10_000


def _one_at_a_time(stand: Stand) -> Exchange:
    stand.needs_stamps()
    with stand.socket() as lane:
        return stand.run(lane, stand.packets([True] * _COUNT), in_flight=1, batch=1)


def _judge_bounds(done: Exchange) -> Verdict:
    missing = int(np.count_nonzero(~done.is_written))
    false = int(np.count_nonzero(done.is_written & ~done.is_possible))
    figures: dict[str, int | float | str] = {
        "requested": len(done.found),
        "stamped": int(np.count_nonzero(done.is_stamped)),
        "missing": missing,
        "false": false,
    }
    if false:
        seen = f"{false} of {len(done.found)} stamps are of no time between submit and completion"
        return Verdict(False, seen, figures)
    if missing:
        return Verdict(False, f"{missing} of {len(done.found)} have none", figures)
    return Verdict(True, f"all {len(done.found)} lie between submit and completion", figures)


def _judge_order(done: Exchange) -> Verdict:
    stamps = done.found[done.is_stamped].astype(np.int64)
    if len(stamps) < 2:
        return Verdict(False, f"{len(stamps)} stamps: there is no order to see")
    steps = np.diff(stamps)
    back = steps[steps < 0]
    worst = int(-back.min()) if len(back) else 0
    allowed = 0 if done.is_zero_copy else _FAST_READER_NS
    seen = f"{len(back)} of {len(steps)} steps go back, by {worst} ns at most"
    return Verdict(worst <= allowed, seen, {"steps_back": len(back), "worst_ns": worst})


def _not_asked(stand: Stand) -> Exchange:
    pattern = [number % 4 == 0 for number in range(_COUNT)]
    stand.needs_stamps()
    with stand.socket() as lane:
        return stand.run(lane, stand.packets(pattern), in_flight=4, batch=4)


def _judge_not_asked(done: Exchange) -> Verdict:
    others = ~done.is_requested
    touched = int(np.count_nonzero(others & (done.is_written | ~done.is_intact)))
    uncompleted = int(np.count_nonzero(others & ~done.is_completed))
    num = int(np.count_nonzero(others))
    figures: dict[str, int | float | str] = {
        "plain": num,
        "touched": touched,
        "uncompleted": uncompleted,
    }
    if touched or uncompleted or not num:
        seen = f"of {num} plain packets {touched} were written to, {uncompleted} never completed"
        return Verdict(False, seen, figures)
    return Verdict(True, f"none of {num} plain packets was written to", figures)


def _flag_alone(stand: Stand) -> Exchange:
    packets = [dataclasses.replace(packet, options=0) for packet in stand.packets([True] * _COUNT)]
    with stand.socket() as lane:
        return stand.run(lane, packets, in_flight=1, batch=1)


def _option_alone(stand: Stand) -> Exchange:
    packets = [dataclasses.replace(packet, flags=0) for packet in stand.packets([True] * _COUNT)]
    with stand.socket() as lane:
        return stand.run(lane, packets, in_flight=1, batch=1)


@dataclasses.dataclass(slots=True)
class Reused:
    """The same frames twice: with a stamp, then without."""

    first: Exchange
    second: Exchange


def _reuse(stand: Stand) -> Reused:
    stand.needs_stamps()
    with stand.socket(Socket(size=64)) as lane:
        first = stand.run(lane, stand.packets([True] * 64), in_flight=1, batch=1)
        second = stand.run(lane, stand.packets([False] * 64), in_flight=1, batch=1)
    return Reused(first, second)


def _judge_reuse(done: Reused) -> Verdict:
    stamped = int(np.count_nonzero(done.first.is_stamped))
    old = np.isin(done.second.found, done.first.found[done.first.is_stamped])
    shown = int(np.count_nonzero((done.second.is_written | old) & done.second.is_completed))
    lost = int(np.count_nonzero(~done.second.is_completed))
    seen = f"{stamped} frames held a stamp; sent again without a request, {shown} show one"
    if lost:
        seen += f", {lost} never completed"
    return Verdict(stamped > 0 and not shown and not lost, seen, {"shown": shown})


def _length_case(length: int) -> Case:
    def observe(stand: Stand) -> Exchange:
        stand.needs_stamps()
        with stand.socket(Socket(tx_metadata_len=length)) as lane:
            pattern = [number % 2 == 0 for number in range(_COUNT)]
            return stand.run(lane, stand.packets(pattern), in_flight=2, batch=2)

    rule = Rule(
        key=f"metadata-length-{length}",
        group="stamps",
        title=f"stamps with {length} bytes of metadata",
        text=f"The UMEM is registered with tx_metadata_len {length}: a multiple of 8 below 256 "
        "that holds the request. Of 64 packets each second one asks for a stamp, which comes; the "
        "packets and the rest of the metadata stay as they were.",
        source=f"{_DOC}, General Design; xdp_umem_reg(), net/xdp/xdp_umem.c",
        expected={
            "copy": "all that asked are stamped, nothing else is written",
            "zero-copy": "all that asked are stamped, nothing else is written",
        },
    )
    return Case(rule, observe, judge_length, faults=("stamp-register-0-race",))


def judge_length(done: Exchange) -> Verdict:
    """Every request has its stamp, and nothing else was written."""
    asked = int(np.count_nonzero(done.is_requested))
    stamped = int(np.count_nonzero(done.is_stamped))
    spoilt = int(np.count_nonzero(~done.is_intact | (done.is_written & ~done.is_requested)))
    seen = f"{stamped} of {asked} stamped, {spoilt} of {len(done.found)} packets written to"
    figures: dict[str, int | float | str] = {"asked": asked, "stamped": stamped, "spoilt": spoilt}
    return Verdict(0 < asked == stamped and not spoilt, seen, figures)


@dataclasses.dataclass(slots=True)
class Bursts:
    """How many of each burst of stamped packets were stamped.

    :param num_slots: what the driver is known to have; None: not known.
    """

    stamped: list[int]
    size: int
    num_slots: int | None


def _bursts(stand: Stand) -> Bursts:
    stand.needs_stamps()
    stand.needs_zero_copy("stamps are the kernel's own, as many as there are packets")
    stamped = []
    with stand.socket() as lane:
        size = min(_BURST, stand.safe_in_flight(lane))
        for _ in range(_NUM_BURSTS):
            done = stand.run(lane, stand.packets([True] * size), batch=size)
            stamped.append(int(np.count_nonzero(done.is_stamped)))
    driver = stand.dut.driver
    return Bursts(stamped, size, driver.num_stamp_slots if driver else None)


def judge_bursts(bursts: Bursts) -> Verdict:
    """At least as many as the driver has room for."""
    least = min(bursts.stamped)
    figures: dict[str, int | float | str] = {"least": least, "most": max(bursts.stamped)}
    each = ", ".join(str(count) for count in bursts.stamped)
    seen = f"of bursts of {bursts.size}, {each} were stamped"
    if bursts.num_slots is None:
        return Verdict(least > 0, f"{seen}; how many can be pending is not known", figures)
    seen += f"; the driver keeps {bursts.num_slots} pending"
    return Verdict(least >= min(bursts.num_slots, bursts.size), seen, figures)


@dataclasses.dataclass(slots=True)
class Skipping:
    """Full speed with a stamp asked of each packet, and the driver's own count."""

    done: Exchange
    counted: int | None


def _skipping(stand: Stand) -> Skipping:
    stand.needs_stamps()
    stand.needs_zero_copy("the kernel skips none")
    with stand.socket() as lane:
        done = stand.run(lane, stand.packets([True] * 512), batch=64)
    if "skipped" not in done.counters:
        raise SkipError("not reconcilable: no counter of this driver is known")
    return Skipping(done, done.counters["skipped"] + done.counters.get("timed_out", 0))


def judge_skipping(skipping: Skipping) -> Verdict:
    """Asked is stamped plus what the driver counts."""
    done = skipping.done
    asked = int(np.count_nonzero(done.is_requested))
    stamped = int(np.count_nonzero(done.is_stamped))
    missing = asked - stamped
    seen = (
        f"{asked} asked, {stamped} stamped, {missing} missing; the driver counts {skipping.counted}"
    )
    figures: dict[str, int | float | str] = {"asked": asked, "stamped": stamped}
    return Verdict(missing == skipping.counted, seen, figures)


_SAME = "every one"
CASES = (
    Case(
        Rule(
            key="stamp-in-bounds",
            group="stamps",
            title="a stamp lies between submit and completion",
            text="64 packets, one after the other, each asking for a timestamp: each has one, of a "
            "time between its submission and its completion on the stamp's clock (a NIC's by the "
            "measured offset and its uncertainty).",
            source=f"{_DOC}, Layout; xsk_tx_metadata_complete(), include/net/xdp_sock.h",
            expected={"copy": _SAME, "zero-copy": _SAME},
        ),
        _one_at_a_time,
        _judge_bounds,
        faults=("stamp-register-0-race",),
    ),
    Case(
        Rule(
            key="stamps-in-order",
            group="stamps",
            title="stamps of a queue never go back",
            text="The stamps of 64 packets sent one after the other on one queue are in the order "
            "of the packets. In copy mode the kernel reads CLOCK_TAI by a reader that may step "
            "back between CPUs; 10 us are allowed.",
            source="ktime_get_tai_fast_ns(), kernel/time/timekeeping.c, for copy mode",
            expected={"copy": "no step back beyond 10 us", "zero-copy": "no step back"},
        ),
        _one_at_a_time,
        _judge_order,
    ),
    Case(
        Rule(
            key="not-requested-untouched",
            group="stamps",
            title="what did not ask is not written to",
            text="Each fourth of 64 packets asks for a timestamp. Of the others neither the stamp "
            "field nor any other byte of metadata or packet has changed at completion.",
            source=f"{_DOC}: without the option the metadata area is ignored",
            expected={"copy": "none is written to", "zero-copy": "none is written to"},
        ),
        _not_asked,
        _judge_not_asked,
    ),
    Case(
        Rule(
            key="flag-without-option",
            group="stamps",
            title="a request without XDP_TX_METADATA is ignored",
            text="The metadata asks for a timestamp, the descriptor's options do not have "
            "XDP_TX_METADATA: nothing is written. Who reuses a frame without clearing its flags "
            "relies on it.",
            source=f"{_DOC}: if this option is not set, the metadata area is ignored",
            expected={"copy": "none is stamped", "zero-copy": "none is stamped"},
        ),
        _flag_alone,
        _judge_not_asked,
        faults=("flag-without-option-honoured",),
    ),
    Case(
        Rule(
            key="option-without-flag",
            group="stamps",
            title="XDP_TX_METADATA without a request asks for nothing",
            text="The descriptor's options have XDP_TX_METADATA and the metadata's flags are 0: "
            "the packet is sent and nothing is written.",
            source=f"{_DOC}, Layout: flags says which offloads are asked for",
            expected={"copy": "none is stamped", "zero-copy": "none is stamped"},
        ),
        _option_alone,
        _judge_not_asked,
    ),
    Case(
        Rule(
            key="reused-frame",
            group="stamps",
            title="a reused frame shows no old stamp",
            text="64 frames are sent with a request, then again without one, their field written "
            "anew: at completion it is as it was written. A late stamp would show here.",
            source="xsk_tx_metadata_complete(), include/net/xdp_sock.h, is the only writer",
            expected={"copy": "none shows one", "zero-copy": "none shows one"},
        ),
        _reuse,
        _judge_reuse,
    ),
    *(_length_case(length) for length in (16, 24, 32, 248)),
    Case(
        Rule(
            key="pending-stamps",
            group="stamps",
            title="as many stamps can be pending as the driver says",
            text=f"{_NUM_BURSTS} bursts of {_BURST} packets that all ask for a stamp: of each at "
            "least as many are stamped as the adapter can have pending. More may be: one that has "
            "come makes room.",
            source="igc: IGC_MAX_TX_TSTAMP_REGS, igc.h; `drivers.toml` for others",
            expected={"zero-copy": "at least the adapter's number in each burst"},
        ),
        _bursts,
        judge_bursts,
    ),
    Case(
        Rule(
            key="skipped-counted",
            group="stamps",
            title="every missing stamp is in the driver's counters",
            text="512 packets as fast as they go, all asking for a stamp: the missing ones are as "
            "many as the driver counts as skipped or timed out.",
            source="igc: tx_hwtstamp_skipped, tx_hwtstamp_timeouts, igc_ethtool.c",
            expected={"zero-copy": "missing is what the driver counts, exactly"},
        ),
        _skipping,
        judge_skipping,
    ),
)
