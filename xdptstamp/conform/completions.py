# SPDX-License-Identifier: GPL-2.0-only
"""Cases about completions, and about what they stand for: packets on the wire."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from xdptstamp.conform.case import Case, SkipError, Verdict, all_of
from xdptstamp.conform.exchange import Exchange
from xdptstamp.conform.stand import Socket, Stand
from xdptstamp.conformance import Rule
from xdptstamp.hwtstamp import NicHwtstamp

_AF_XDP = "Documentation/networking/af_xdp.rst"
#: Ratios of packets with a request to those without.
_RATIOS = ((0, 1), (1, 10), (1, 1), (1, 0))
_STALL_NS = 3_000_000_000


def _pattern(ratio: tuple[int, int], count: int) -> list[bool]:
    cycle = itertools.cycle([True] * ratio[0] + [False] * ratio[1])
    return list(itertools.islice(cycle, count))


@dataclass(slots=True)
class ByRatio:
    """One exchange for each ratio."""

    exchanges: dict[str, Exchange]


def _each_ratio(stand: Stand) -> ByRatio:
    exchanges = {}
    with stand.socket(Socket(size=64)) as lane:
        for ratio in _RATIOS:
            packets = stand.packets(_pattern(ratio, 200))
            exchanges["{}:{}".format(*ratio)] = stand.run(lane, packets, batch=16)
    return ByRatio(exchanges)


def judge_completions(done: Exchange) -> Verdict:
    """Each address once, and in zero-copy mode in the order of submission."""
    lost = int(np.count_nonzero(~done.is_completed))
    places = done.place[done.is_completed]
    late = int(np.count_nonzero(np.diff(places) < 0)) if done.is_zero_copy else 0
    figures: dict[str, int | float | str] = {
        "sent": len(done.place),
        "lost": lost,
        "foreign": done.num_foreign,
        "out_of_order": late,
    }
    num = len(done.place)
    if lost or done.num_foreign or late:
        seen = (
            f"of {num} {lost} never completed, {done.num_foreign} more than once, {late} too late"
        )
        return Verdict(False, seen, figures)
    return Verdict(True, f"all {num} completed once{', in order' * done.is_zero_copy}", figures)


def judge_ratios(done: ByRatio) -> Verdict:
    """Completions are right at every ratio."""
    verdicts = []
    for ratio, exchange in done.exchanges.items():
        verdict = judge_completions(exchange)
        figures = {f"{ratio} {name}": value for name, value in verdict.figures.items()}
        verdicts.append(Verdict(verdict.is_right, f"{ratio}: {verdict.seen}", figures))
    return all_of(*verdicts)


def _on_the_wire(stand: Stand) -> Exchange:
    stand.needs_wire()
    with stand.socket() as lane:
        return stand.run(lane, stand.packets(_pattern((1, 10), 400)), in_flight=32, batch=16)


def judge_wire(done: Exchange) -> Verdict:
    """What completed was on the wire once, unaltered, in its order."""
    assert done.frames is not None
    # A frame may have been padded on its way.
    seen_at: dict[bytes, list[int]] = {}
    for place, frame in enumerate(done.frames):
        seen_at.setdefault(frame.data, []).append(place)
    missing = sum(1 for data in done.expected if data not in seen_at)
    twice = sum(1 for places in seen_at.values() if len(places) > 1)
    altered = sum(1 for data in seen_at if data not in set(done.expected))
    firsts = [seen_at[data][0] for data in done.expected if data in seen_at]
    late = sum(1 for one, other in itertools.pairwise(firsts) if other < one)
    num = len(done.expected)
    figures: dict[str, int | float | str] = {"missing": missing, "altered": altered, "twice": twice}
    if missing or altered or twice or late:
        seen = f"on the wire {missing} of {num} missing, {altered} altered, {twice} twice"
        return Verdict(False, f"{seen}, {late} out of order", figures)
    return Verdict(True, f"all {num} on the wire as sent", figures)


def _wrap(stand: Stand) -> Exchange:
    with stand.socket(Socket(size=32)) as lane:
        return stand.run(lane, stand.packets(_pattern((1, 2), 320)), in_flight=24, batch=7)


def judge_wrap(done: Exchange) -> Verdict:
    """Completions are right, and no plain packet was written to."""
    plain = ~done.is_requested
    touched = int(np.count_nonzero(plain & (done.is_written | ~done.is_intact)))
    figures: dict[str, int | float | str] = {"touched": touched}
    return all_of(
        judge_completions(done),
        Verdict(not touched, f"{touched} plain packets written to", figures),
    )


def _above_ring(stand: Stand) -> Exchange:
    stand.needs_zero_copy("no hardware ring is in the way")
    size = 1 << (3 * stand.ring_size - 1).bit_length()
    with stand.socket(Socket(size=size)) as lane:
        packets = stand.packets([False] * (3 * stand.ring_size))
        return stand.run(lane, packets, in_flight=size, batch=size, silence_ns=_STALL_NS)


def _hwtstamp_off(stand: Stand) -> Exchange:
    stand.needs_zero_copy("stamps do not depend on the NIC's setting")
    hwtstamp = NicHwtstamp(stand.nic)
    before = hwtstamp.get()
    if before is None:
        raise SkipError("the interface has no hwtstamp setting")
    hwtstamp.set(replace(before, tx_type=0))
    try:
        with stand.socket() as lane:
            return stand.run(lane, stand.packets(_pattern((1, 1), 128)), batch=16)
    finally:
        hwtstamp.set(before)


def judge_without_stamps(done: Exchange) -> Verdict:
    """All complete, none is written to."""
    written = int(np.count_nonzero(done.is_written))
    figures: dict[str, int | float | str] = {"written": written}
    return all_of(judge_completions(done), Verdict(not written, f"{written} were stamped", figures))


def _multi_buffer(stand: Stand) -> Exchange:
    stand.needs_wire()
    stand.needs_stamps()
    segments = stand.dut.features.zc_max_segs
    if stand.is_zero_copy and segments is not None and segments < 2:
        raise SkipError(f"the driver sends {segments} buffer a packet (zc-max-segs)")
    packets = [
        replace(packet, parts=3)
        for packet in stand.packets(_pattern((1, 1), 64), length=min(1200, stand.nic.link().mtu))
    ]
    with stand.socket(Socket(is_multi_buffer=True)) as lane:
        return stand.run(lane, packets, in_flight=16, batch=4)


def _tagged(stand: Stand) -> Exchange:
    stand.needs_wire()
    stand.needs_stamps()
    packets = stand.packets([True] * 32, length=80, tags=((0x8100, 0x6007),))
    with stand.socket() as lane:
        return stand.run(lane, packets, in_flight=1, batch=1)


def judge_sent_and_stamped(done: Exchange) -> Verdict:
    """On the wire as sent, and every request stamped."""
    asked = int(np.count_nonzero(done.is_requested))
    stamped = int(np.count_nonzero(done.is_stamped))
    figures: dict[str, int | float | str] = {"asked": asked, "stamped": stamped}
    stamps = Verdict(0 < asked == stamped, f"{stamped} of {asked} stamped", figures)
    return all_of(judge_completions(done), judge_wire(done), stamps)


_ALL_ONCE = "each address exactly once"
CASES = (
    Case(
        Rule(
            key="completions-at-every-ratio",
            group="completions",
            title="every packet completes once, whatever asks for stamps",
            text="200 packets each at 0:1, 1:10, 1:1 and 1:0 of those with a request to those "
            "without, as fast as they go: each address comes back exactly once; in zero-copy mode "
            "in the order of submission, for completions behind a pending stamp are held.",
            source=f"{_AF_XDP}, UMEM Completion Ring; igc_clean_tx_irq(), igc_main.c",
            expected={"copy": _ALL_ONCE, "zero-copy": f"{_ALL_ONCE}, in order"},
        ),
        _each_ratio,
        judge_ratios,
        faults=("tx-not-woken-with-two-queues", "stamp-register-0-race"),
    ),
    Case(
        Rule(
            key="completed-is-sent",
            group="completions",
            title="what completed was on the wire, once and unaltered",
            text="400 packets at 1:10, each with a serial: the link partner has each of them once, "
            "byte for byte, in order.",
            source=f"{_AF_XDP}, TX Ring",
            expected={"copy": "all arrive, as sent", "zero-copy": "all arrive, as sent"},
        ),
        _on_the_wire,
        judge_wire,
        faults=("tx-not-woken-with-two-queues",),
    ),
    Case(
        Rule(
            key="ring-wrap",
            group="completions",
            title="rings wrap, whatever the batch",
            text="320 packets at 1:2 through rings of 32, seven at a time: completions are right "
            "through ten wraps, and no frame shows what belongs to another.",
            source=f"{_AF_XDP}, Rings",
            expected={
                "copy": "all complete, none written to",
                "zero-copy": "all complete, none written to",
            },
        ),
        _wrap,
        judge_wrap,
        faults=("tx-not-woken-with-two-queues",),
    ),
    Case(
        Rule(
            key="in-flight-above-ring",
            group="completions",
            title="more in flight than the hardware ring holds",
            text="Three times as many plain packets as the hardware's Tx ring has descriptors are "
            "submitted at once: the driver takes what it has room for, and all complete.",
            source="xsk_tx_peek_desc(), net/xdp/xsk.c: what is taken must be sent",
            expected={"zero-copy": "all complete"},
        ),
        _above_ring,
        judge_completions,
        faults=("completions-lost-above-ring", "tx-not-woken-with-two-queues"),
    ),
    Case(
        Rule(
            key="hwtstamp-off",
            group="completions",
            title="without hwtstamp there are no stamps, and all completes",
            text="The NIC's Tx timestamping is turned off; 128 packets at 1:1 complete, and no "
            "stamp field is written. The setting is put back.",
            source="Documentation/networking/timestamping.rst, SIOCSHWTSTAMP",
            expected={"zero-copy": "all complete, none is stamped"},
        ),
        _hwtstamp_off,
        judge_without_stamps,
        faults=("tx-not-woken-with-two-queues",),
    ),
    Case(
        Rule(
            key="multi-buffer",
            group="completions",
            title="a packet in three buffers, metadata ahead of the first",
            text="64 packets of three descriptors each (XDP_PKT_CONTD), each second one with a "
            "request ahead of its first buffer: whole on the wire, stamped, completed.",
            source=f"{_AF_XDP}, Multi-Buffer Support",
            expected={"copy": "whole, stamped", "zero-copy": "whole, stamped"},
        ),
        _multi_buffer,
        judge_sent_and_stamped,
    ),
    Case(
        Rule(
            key="vlan-tagged",
            group="completions",
            title="a packet with a VLAN tag of its own",
            text="32 packets with an 802.1Q tag in them and a request: on the wire with the tag, "
            "stamped.",
            source="net/core/dev.c, netif_skb_features(), for copy mode",
            expected={"copy": "tag kept, stamped", "zero-copy": "tag kept, stamped"},
        ),
        _tagged,
        judge_sent_and_stamped,
    ),
)
