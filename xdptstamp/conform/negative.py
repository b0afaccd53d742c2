# SPDX-License-Identifier: GPL-2.0-only
"""Cases of what must be refused or ignored, and whether the socket is of use afterwards."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from xdptstamp import txmd
from xdptstamp._sys.if_xdp import XDP_UMEM_TX_METADATA_LEN
from xdptstamp.conform.case import Case, Verdict
from xdptstamp.conform.exchange import Exchange, Packet
from xdptstamp.conform.stand import Socket, Stand
from xdptstamp.conformance import Rule
from xdptstamp.errors import SystemCallError

_DOC = "Documentation/networking/xsk-tx-metadata.rst"
_SILENCE_NS = 500_000_000
_UNKNOWN_FLAG = 1 << 62
_UNKNOWN_UMEM_FLAG = 1 << 31
_UNKNOWN_OPTION = 1 << 30


@dataclass(slots=True)
class Registration:
    """A UMEM that should be refused.

    :param error: the errno's name; None: it was accepted, and ``done`` is what became of a packet
        that asked for a stamp.
    """

    error: str | None
    done: Exchange | None = None


def _register(length: int, flags: int) -> Callable[[Stand], Registration]:
    def observe(stand: Stand) -> Registration:
        wanted = Socket(tx_metadata_len=length, umem_flags=flags)
        try:
            with stand.socket(wanted) as lane:
                packets = stand.packets([True] * 4)
                done = stand.run(lane, packets, in_flight=1, silence_ns=_SILENCE_NS)
        except SystemCallError as error:
            return Registration(errno.errorcode.get(error.errno or 0, str(error.errno)))
        return Registration(None, done)

    return observe


def judge_refused(found: Registration) -> Verdict:
    """It must be refused with EINVAL."""
    if found.done is None:
        return Verdict(found.error == "EINVAL", f"refused: {found.error}")
    spoilt = int(np.count_nonzero(~found.done.is_intact | found.done.is_written))
    seen = f"accepted; of 4 packets with a request {spoilt} were written over"
    return Verdict(False, seen, {"spoilt": spoilt})


def judge_refused_or_ignored(found: Registration) -> Verdict:
    """Refused with EINVAL, or accepted and then no byte is written."""
    if found.done is None:
        return Verdict(found.error == "EINVAL", f"refused: {found.error}")
    spoilt = int(np.count_nonzero(~found.done.is_intact | found.done.is_written))
    return Verdict(not spoilt, f"accepted; {spoilt} of 4 packets were written to")


@dataclass(slots=True)
class Refusal:
    """A packet that should be refused or ignored, between two right ones.

    :param done: the three of them.
    :param is_usable: a plain packet sent behind them completed, once, without an error.
    """

    done: Exchange
    is_usable: bool


def _between(
    spoil: Callable[[Packet], Packet], length: int = txmd.METADATA_LEN
) -> Callable[[Stand], Refusal]:
    def observe(stand: Stand) -> Refusal:
        one, bad, other = stand.packets([False] * 3)
        with stand.socket(Socket(tx_metadata_len=length)) as lane:
            done = stand.run(lane, [one, spoil(bad), other], batch=1, silence_ns=_SILENCE_NS)
            return Refusal(done, lane.is_usable(stand.datagram()))

    return observe


def judge_between(found: Refusal) -> Verdict:
    """Nothing is written, the others are sent, and the socket goes on."""
    done = found.done
    others = int(np.count_nonzero(done.is_completed[[0, 2]]))
    written = int(np.count_nonzero(done.is_written | ~done.is_intact))
    invalid = done.statistics.get("tx_invalid_descs", 0)
    words = [f"{name} {count} times" for name, count in done.errors.items()]
    if invalid:
        words.append(f"tx_invalid_descs {invalid}")
    words.append("it completed" if done.is_completed[1] else "it never completed")
    words.append(f"{others} of 2 others completed")
    if done.num_foreign:
        words.append(f"{done.num_foreign} completions too many")
    if written:
        words.append(f"{written} written to")
    words.append("the socket goes on" if found.is_usable else "the socket is stuck")
    is_right = others == 2 and not done.num_foreign and not written and found.is_usable
    return Verdict(is_right, ", ".join(words), {"invalid": invalid})


def _ask_unknown(packet: Packet) -> Packet:
    return replace(packet, flags=_UNKNOWN_FLAG, options=txmd.OPTION)


def _ask_checksum_outside(packet: Packet) -> Packet:
    outside = (len(packet.data), 6)
    return replace(packet, flags=txmd.CHECKSUM, options=txmd.OPTION, csum=outside)


def _wrong_option(packet: Packet) -> Packet:
    return replace(packet, options=_UNKNOWN_OPTION)


def _no_room(packet: Packet) -> Packet:
    return replace(packet, flags=None, shift=-8)


def _ask_nothing_there(packet: Packet) -> Packet:
    return replace(packet, options=txmd.OPTION)


_GOES_ON = "; the others are sent, the socket goes on"
_STUCK = "copy-mode-stuck-behind-refused"


def _registration_rule(length: int) -> Rule:
    return Rule(
        key=f"umem-length-{length}",
        group="negative",
        title=f"a UMEM with {length} bytes of metadata is refused",
        text=f"XDP_UMEM_REG with XDP_UMEM_TX_METADATA_LEN and tx_metadata_len {length}, which is "
        "not a multiple of 8 from 16 to 248. A kernel that accepts less than 16 writes the stamp "
        "over the packet.",
        source=f"{_DOC}, General Design; xdp_umem_reg(), net/xdp/xdp_umem.c",
        expected={"copy": "EINVAL", "zero-copy": "EINVAL"},
    )


CASES = (
    *(
        Case(
            _registration_rule(length),
            _register(length, XDP_UMEM_TX_METADATA_LEN),
            judge_refused,
            faults=("umem-length-8-accepted",) if length == 8 else (),
        )
        for length in (8, 20, 256)
    ),
    Case(
        Rule(
            key="umem-length-0",
            group="negative",
            title="a UMEM with 0 bytes of metadata has none",
            text="XDP_UMEM_REG with XDP_UMEM_TX_METADATA_LEN and tx_metadata_len 0: refused, or "
            "packets that ask for a stamp get none and are not written to.",
            source="xdp_umem_reg(), net/xdp/xdp_umem.c",
            expected={"copy": "EINVAL, or nothing is written", "zero-copy": "the same"},
        ),
        _register(0, XDP_UMEM_TX_METADATA_LEN),
        judge_refused_or_ignored,
    ),
    Case(
        Rule(
            key="umem-unknown-flag",
            group="negative",
            title="a UMEM with a flag that nobody knows is refused",
            text="XDP_UMEM_REG with bit 31 of the flags.",
            source="xdp_umem_reg(), net/xdp/xdp_umem.c",
            expected={"copy": "EINVAL", "zero-copy": "EINVAL"},
        ),
        _register(24, XDP_UMEM_TX_METADATA_LEN | _UNKNOWN_UMEM_FLAG),
        judge_refused,
    ),
    Case(
        Rule(
            key="umem-flag-missing",
            group="negative",
            title="without XDP_UMEM_TX_METADATA_LEN the length is ignored",
            text="XDP_UMEM_REG with tx_metadata_len 24 and no flag: there is no metadata, and a "
            "request ahead of a packet is not looked at.",
            source="Linux commit d5e726d9143c (in v6.11)",
            expected={"copy": "nothing is written", "zero-copy": "nothing is written"},
        ),
        _register(24, 0),
        judge_refused_or_ignored,
    ),
    Case(
        Rule(
            key="unknown-metadata-flag",
            group="negative",
            title="an unknown flag in the metadata",
            text="Between two plain packets one whose metadata has bit 62 of the flags.",
            source=f"{_DOC}; xsk_skb_metadata(), net/xdp/xsk.c; xsk_buff_valid_tx_metadata()",
            expected={
                "copy": f"EINVAL from sendto(){_GOES_ON}",
                "zero-copy": f"sent without an offload{_GOES_ON}",
            },
        ),
        _between(_ask_unknown),
        judge_between,
        faults=(_STUCK,),
    ),
    Case(
        Rule(
            key="checksum-outside",
            group="negative",
            title="a checksum outside of the packet",
            text="Between two plain packets one that asks for a checksum whose place lies behind "
            "its end.",
            source="xsk_skb_metadata(), net/xdp/xsk.c",
            expected={
                "copy": f"EINVAL from sendto(){_GOES_ON}",
                "zero-copy": f"sent, or refused{_GOES_ON}",
            },
        ),
        _between(_ask_checksum_outside),
        judge_between,
        faults=(_STUCK,),
    ),
    Case(
        Rule(
            key="metadata-not-registered",
            group="negative",
            title="XDP_TX_METADATA on a UMEM without metadata",
            text="Between two plain packets one with XDP_TX_METADATA, in a UMEM that was "
            "registered without.",
            source="xsk_skb_metadata(), net/xdp/xsk.c; xsk_buff_get_metadata()",
            expected={
                "copy": f"EINVAL from sendto(){_GOES_ON}",
                "zero-copy": f"sent as it is{_GOES_ON}",
            },
        ),
        _between(_ask_nothing_there, length=0),
        judge_between,
        faults=(_STUCK,),
    ),
    Case(
        Rule(
            key="wrong-option",
            group="negative",
            title="an unknown bit in the descriptor's options",
            text="Between two plain packets one with bit 30 of desc.options.",
            source="xp_unused_options_set(), net/xdp/xsk_queue.h",
            expected={
                "copy": f"tx_invalid_descs{_GOES_ON}",
                "zero-copy": f"tx_invalid_descs{_GOES_ON}",
            },
        ),
        _between(_wrong_option),
        judge_between,
    ),
    Case(
        Rule(
            key="no-room-for-metadata",
            group="negative",
            title="a packet whose metadata would begin in another frame",
            text="Between two plain packets one whose address is 8 bytes short of leaving room "
            "for its metadata.",
            source="xp_aligned_validate_desc(), net/xdp/xsk_queue.h",
            expected={
                "copy": f"tx_invalid_descs{_GOES_ON}",
                "zero-copy": f"tx_invalid_descs{_GOES_ON}",
            },
        ),
        _between(_no_room),
        judge_between,
    ),
)
