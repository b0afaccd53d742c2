# SPDX-License-Identifier: GPL-2.0-only
"""Cases about the checksum that a packet may ask for."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np

from xdptstamp import txmd
from xdptstamp.conform.case import Case, Verdict, all_of
from xdptstamp.conform.completions import judge_completions
from xdptstamp.conform.exchange import Exchange, Packet
from xdptstamp.conform.stand import Stand
from xdptstamp.conform.wire import Frame
from xdptstamp.conformance import Rule
from xdptstamp.packet import UDP_CSUM_OFFSET, internet_checksum, pseudo_sum

_DOC = "Documentation/networking/xsk-tx-metadata.rst"
_L4_OFFSET = 14 + 20
_COUNT = 32
_IPPROTO_UDP = 17


@dataclass(slots=True)
class Sums:
    """What became of packets that asked for their checksum.

    :param is_offered: the driver says that it fills them in.
    """

    done: Exchange
    is_offered: bool


def _ask_for_sum(packet: Packet, flags: int) -> Packet:
    data = bytearray(packet.data)
    partial = pseudo_sum(memoryview(data), 0, 14, 4).to_bytes(2, sys.byteorder)
    data[_L4_OFFSET + UDP_CSUM_OFFSET : _L4_OFFSET + UDP_CSUM_OFFSET + 2] = partial
    asked = (_L4_OFFSET, UDP_CSUM_OFFSET)
    return replace(packet, data=bytes(data), flags=flags, options=txmd.OPTION, csum=asked)


def _sums(flags: int, stand: Stand) -> Sums:
    stand.needs_wire()
    packets = [_ask_for_sum(packet, flags) for packet in stand.packets([False] * _COUNT)]
    is_offered = not stand.is_zero_copy or bool(stand.dut.features.is_tx_checksum)
    with stand.socket() as lane:
        return Sums(stand.run(lane, packets, in_flight=1, batch=1), is_offered)


def has_right_sum(frame: Frame) -> bool:
    """Whether its UDP checksum is right, or left to whoever sends it on."""
    udp_len = int.from_bytes(frame.data[_L4_OFFSET + 4 : _L4_OFFSET + 6], "big")
    udp = frame.data[_L4_OFFSET : _L4_OFFSET + udp_len]
    pseudo = frame.data[26:34] + bytes((0, _IPPROTO_UDP)) + udp_len.to_bytes(2, "big")
    return frame.is_csum_left or internet_checksum(pseudo + udp) == 0


def judge_sums(found: Sums) -> Verdict:
    """Right where it is offered, else as it was sent."""
    frames = found.done.frames or []
    right = sum(1 for frame in frames if has_right_sum(frame))
    expected, num = set(found.done.expected), len(found.done.expected)
    as_sent = sum(1 for frame in frames if frame.data in expected and not has_right_sum(frame))
    offered = "offered" if found.is_offered else "not offered"
    seen = f"{offered}: of {num} packets {right} have a right checksum, {as_sent} the one sent"
    is_right = right + (0 if found.is_offered else as_sent) == num
    figures: dict[str, int | float | str] = {"right": right, "as_sent": as_sent}
    return all_of(judge_completions(found.done), Verdict(is_right, seen, figures))


def judge_sums_and_stamps(found: Sums) -> Verdict:
    """A field holds a true stamp, or what was written: never a third thing."""
    done = found.done
    false = int(np.count_nonzero(done.is_written & ~done.is_possible))
    stamped = int(np.count_nonzero(done.is_written & done.is_possible))
    seen = f"{stamped} of {len(done.found)} stamped, {false} hold something else"
    verdict = Verdict(stamped > 0 and not false, seen, {"stamped": stamped, "false": false})
    return all_of(judge_completions(done), verdict)


def _sums_and_stamps(stand: Stand) -> Sums:
    stand.needs_stamps()
    return _sums(txmd.CHECKSUM | txmd.TIMESTAMP, stand)


CASES = (
    Case(
        Rule(
            key="checksum",
            group="offloads",
            title="a checksum that is asked for is right on the wire, or left alone",
            text=f"{_COUNT} UDP packets whose checksum field holds the pseudo header's sum ask for "
            "their checksum. Where the driver offers it (xsk-features tx-checksum) it is right at "
            "the link partner; where it does not the field is as it was sent. In copy mode the "
            "stack fills it in, or leaves it to a virtual link's other end, which knows.",
            source=f"{_DOC}, Layout, csum_start and csum_offset",
            expected={"copy": "right, or marked as left", "zero-copy": "right, or as sent"},
        ),
        lambda stand: _sums(txmd.CHECKSUM, stand),
        judge_sums,
    ),
    Case(
        Rule(
            key="checksum-and-stamp",
            group="offloads",
            title="a checksum request is never taken for a stamp",
            text=f"{_COUNT} packets ask for both; the stamp comes into the bytes of csum_start and "
            "csum_offset. At completion the field holds a time between submit and completion, or "
            "what was written.",
            source="struct xsk_tx_metadata, include/uapi/linux/if_xdp.h",
            expected={"copy": "a true stamp in each", "zero-copy": "a true stamp or the request"},
        ),
        _sums_and_stamps,
        judge_sums_and_stamps,
    ),
)
