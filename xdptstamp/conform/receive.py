# SPDX-License-Identifier: GPL-2.0-only
"""Cases about Rx metadata: the stamp, hash and VLAN tag of packets that the link partner sends."""

from __future__ import annotations

import contextlib
import struct
import time
from dataclasses import dataclass, field

import numpy as np

from xdptstamp.conform.case import Case, SkipError, Verdict
from xdptstamp.conform.exchange import Bools, Lane
from xdptstamp.conform.stand import Socket, Stand, Tags
from xdptstamp.conformance import Rule
from xdptstamp.program import (
    META_DTYPE,
    META_LEN,
    META_VERSION,
    VALID_HASH,
    VALID_RX_HW,
    VALID_VLAN,
)

_DOC = "Documentation/networking/xdp-rx-metadata.rst"
_FLOWS, _EACH = 8, 4
_TCI, _CTAG = 0x600A, 0x8100
_TAG = struct.Struct("!HH")
_LIMIT_S = 0.2


@dataclass(slots=True)
class Received:
    """N packets as they came; all lists have N entries.

    :ivar flow: which flow each is of; ``sent_ns``, ``seen_ns``: CLOCK_TAI around it.
    :ivar rows: what the program stored, each of ``META_DTYPE``.
    :ivar tags: the TCI of a VLAN tag that is still in the packet, else None.
    :ivar is_possible: its Rx stamp can be of a time between.
    """

    num_sent: int
    flow: list[int] = field(default_factory=list)
    sent_ns: list[int] = field(default_factory=list)
    seen_ns: list[int] = field(default_factory=list)
    rows: list[np.void] = field(default_factory=list)
    tags: list[int | None] = field(default_factory=list)
    is_possible: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))

    def is_valid(self, bit: int) -> Bools:
        """Whether the program had that of the driver."""
        return np.array([bool(row["valid"] & bit) for row in self.rows], np.bool_)


def _receive(stand: Stand, tags: Tags = ()) -> Received:
    wire = stand.needs_wire()
    reason = stand.dut.program.no_hints_reason
    if reason:
        raise SkipError(f"the program cannot ask the driver: {reason}")
    got = Received(_FLOWS * _EACH)
    with contextlib.ExitStack() as stack:
        # RSS decides which of them a flow comes to.
        lanes = [
            stack.enter_context(stand.socket(Socket(queue_id=queue_id, size=64)))
            for queue_id in range(stand.nic.num_queues().usable)
        ]
        for lane in lanes:
            stand.dut.program.add_socket(lane.xsk.queue_id, lane.xsk.fd)
            stack.callback(stand.dut.program.remove_socket, lane.xsk.queue_id)
        for number in range(got.num_sent):
            flow = number % _FLOWS
            sent_ns = time.clock_gettime_ns(time.CLOCK_TAI)
            wire.send(stand.request(40000 + flow, tags))
            if stand.await_true(
                lambda: any(not lane.xsk.rx.is_empty() for lane in lanes), _LIMIT_S
            ):
                for lane in lanes:
                    _take(lane, got, flow, sent_ns)
    stamps = np.array([row["rx_hw_ns"] for row in got.rows], np.int64)
    first, last = np.array(got.sent_ns, np.int64), np.array(got.seen_ns, np.int64)
    got.is_possible = stand.stamp_clock().is_possible(stamps, first, last)
    return got


def _take(lane: Lane, got: Received, flow: int, sent_ns: int) -> None:
    ring, umem = lane.xsk.rx, lane.xsk.umem
    start, count = ring.peek(ring.size)
    for position in range(start, start + count):
        addr = ring.words[(position & ring.mask) * 2]
        row = np.frombuffer(umem.view[addr - META_LEN : addr], META_DTYPE)[0].copy()
        if row["version"] == META_VERSION:
            got.flow.append(flow)
            got.sent_ns.append(sent_ns)
            got.seen_ns.append(time.clock_gettime_ns(time.CLOCK_TAI))
            got.rows.append(row)
            proto, tci = _TAG.unpack_from(umem.view, addr + 12)
            got.tags.append(tci if proto == _CTAG else None)
        fill, room = lane.xsk.fill.reserve(1)
        if room:
            lane.xsk.fill.words[fill & lane.xsk.fill.mask] = addr - addr % umem.frame_size
            lane.xsk.fill.submit(1)
    ring.release(count)


def _stamps(stand: Stand) -> Received:
    if stand.dut.features.is_rx_timestamp is not True:
        raise SkipError("the driver does not offer Rx timestamps to XDP (xdp-rx-metadata-features)")
    stand.needs_zero_copy("what is received is compared where the PHC is, with zero-copy sockets")
    return _receive(stand)


def judge_stamps(got: Received) -> Verdict:
    """Each has a stamp of a time between sending and seeing it."""
    valid = got.is_valid(VALID_RX_HW)
    false = int(np.count_nonzero(valid & ~got.is_possible))
    num = len(got.flow)
    stamped = int(np.count_nonzero(valid))
    seen = f"{num} of {got.num_sent} received, {stamped} stamped, {false} at no possible time"
    figures: dict[str, int | float | str] = {"received": num, "stamped": stamped, "false": false}
    return Verdict(got.num_sent == num == stamped and not false, seen, figures)


def _hashes(stand: Stand) -> Received:
    if stand.dut.features.is_rx_hash is not True:
        raise SkipError("the driver does not offer the hash to XDP (xdp-rx-metadata-features)")
    return _receive(stand)


def judge_hashes(got: Received) -> Verdict:
    """A flow has one hash; where there are several flows, not all are alike."""
    valid = got.is_valid(VALID_HASH)
    by_flow: dict[int, set[int]] = {}
    for flow, row, is_valid in zip(got.flow, got.rows, valid, strict=True):
        if is_valid:
            by_flow.setdefault(flow, set()).add(int(row["hash"]))
    mixed = sum(1 for values in by_flow.values() if len(values) > 1)
    none = int(np.count_nonzero(~valid))
    seen = (
        f"{len(got.flow)} of {got.num_sent} received, {len(by_flow)} flows, {none} without a hash"
    )
    seen += f", {mixed} flows with several"
    figures: dict[str, int | float | str] = {"flows": len(by_flow), "mixed": mixed, "none": none}
    is_right = len(got.flow) == got.num_sent and not mixed and not none
    return Verdict(is_right, seen, figures)


def _tags(stand: Stand) -> Received:
    if stand.dut.features.is_rx_vlan_tag is not True:
        raise SkipError("the driver does not offer the VLAN tag to XDP (xdp-rx-metadata-features)")
    return _receive(stand, ((_CTAG, _TCI),))


def judge_tags(got: Received) -> Verdict:
    """The tag is told, or still in the packet, and what the link partner sent."""
    told = [
        bool(is_valid and row["vlan_tci"] == _TCI)
        for row, is_valid in zip(got.rows, got.is_valid(VALID_VLAN), strict=True)
    ]
    num, by_kfunc = len(got.rows), sum(told)
    kept = sum(tag == _TCI for tag, is_told in zip(got.tags, told, strict=True) if not is_told)
    seen = (
        f"{num} of {got.num_sent} received: of {by_kfunc} the kfunc tells the tag, {kept} have it"
    )
    figures: dict[str, int | float | str] = {"received": num, "told": by_kfunc, "kept": kept}
    return Verdict(got.num_sent == num == by_kfunc + kept, seen, figures)


_SENT = f"The link partner sends {_FLOWS * _EACH} UDP packets of {_FLOWS} flows"
CASES = (
    Case(
        Rule(
            key="rx-stamp",
            group="receive",
            title="an Rx stamp lies between sending and seeing the packet",
            text=f"{_SENT}, one after the other; all come, each with an Rx timestamp of a "
            "time between, on the PHC by its measured offset.",
            source=f"{_DOC}, bpf_xdp_metadata_rx_timestamp",
            expected={"zero-copy": "each has one, of a possible time"},
        ),
        _stamps,
        judge_stamps,
    ),
    Case(
        Rule(
            key="rx-hash",
            group="receive",
            title="packets of a flow have one hash",
            text=f"{_SENT}: those of one flow all show the same hash.",
            source=f"{_DOC}, bpf_xdp_metadata_rx_hash",
            expected={"copy": "one hash a flow", "zero-copy": "one hash a flow"},
        ),
        _hashes,
        judge_hashes,
    ),
    Case(
        Rule(
            key="rx-vlan-tag",
            group="receive",
            title="a VLAN tag is told, or still in the packet",
            text=f"{_SENT} with an 802.1Q tag: the kfunc tells that tag where it was stripped; "
            "else it is in the packet.",
            source=f"{_DOC}, bpf_xdp_metadata_rx_vlan_tag",
            expected={"copy": "each tag as it was sent", "zero-copy": "each tag as it was sent"},
        ),
        _tags,
        judge_tags,
    ),
)
