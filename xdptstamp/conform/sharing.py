# SPDX-License-Identifier: GPL-2.0-only
"""Cases of several users of one interface."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xdptstamp.conform.case import Case, SkipError, Verdict, all_of
from xdptstamp.conform.completions import judge_completions
from xdptstamp.conform.exchange import Exchange
from xdptstamp.conform.stand import PORT, Socket, Stand
from xdptstamp.conformance import Rule

_SO_TIMESTAMPING = 37
# linux/net_tstamp.h
_TX_HARDWARE, _TX_SOFTWARE, _SOFTWARE, _RAW_HARDWARE = 1 << 0, 1 << 1, 1 << 4, 1 << 6
_OPT_ID, _OPT_TSONLY = 1 << 7, 1 << 11
_SCM_TIMESTAMPING = struct.Struct("=qqqqqq")
# struct sock_extended_err: ee_errno, origin, type, code, pad, ee_info, ee_data
_EXTENDED_ERR = struct.Struct("=IBBBBII")
_IP_RECVERR = 11
_COUNT = 200
_SKB_EVERY = 10


def _plain(stand: Stand) -> Exchange:
    with stand.socket(Socket(tx_metadata_len=0)) as lane:
        return stand.run(lane, stand.packets([False] * _COUNT), in_flight=32)


def _plain_beside(stand: Stand) -> Exchange:
    usable = stand.nic.num_queues().usable
    if usable < 2:
        raise SkipError("there is one queue alone (ethtool -l)")
    with (
        stand.socket(Socket(queue_id=0)) as lane,
        stand.socket(Socket(queue_id=1, tx_metadata_len=0)) as other,
    ):
        beside = other.exchange(stand.packets([False] * _COUNT), in_flight=32)
        done = stand.run(lane, stand.packets([True, False] * 32), in_flight=2, batch=2)
    done.num_foreign += beside.num_foreign + int(np.count_nonzero(~beside.is_completed))
    return done


@dataclass(slots=True)
class Shared:
    """Stamps of two users at the same time.

    :param ids: what each stamp of the other user's was for (SOF_TIMESTAMPING_OPT_ID).
    :param stamps: those stamps, ns.
    :param sent: how many packets the other user sent.
    """

    done: Exchange
    ids: list[int]
    stamps: list[int]
    sent: int


class _StampUser:
    # A UDP socket that asks for the same kind of stamps.
    def __init__(self, host: str, *, is_hardware: bool) -> None:
        self.sent = 0
        self.ids: list[int] = []
        self.stamps: list[int] = []
        self._index = 4 if is_hardware else 0  # of scm_timestamping.ts[]: raw hardware, software
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asked = _TX_HARDWARE | _RAW_HARDWARE if is_hardware else _TX_SOFTWARE | _SOFTWARE
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, asked | _OPT_ID | _OPT_TSONLY)
        self._socket.connect((host, PORT))

    def send(self) -> None:
        try:
            self._socket.send(b"")
        except ConnectionRefusedError:  # the port unreachable that an earlier one met
            self._socket.send(b"")
        self.sent += 1

    def take(self) -> None:
        while True:
            try:
                _, ancillary, _, _ = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except (BlockingIOError, ConnectionRefusedError):
                return
            stamp = number = None
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING):
                    times = _SCM_TIMESTAMPING.unpack_from(data)
                    seconds, nanoseconds = times[self._index], times[self._index + 1]
                    stamp = seconds * 1_000_000_000 + nanoseconds
                elif (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR):
                    *_, number = _EXTENDED_ERR.unpack_from(data)
            if stamp and number is not None:
                self.ids.append(number)
                self.stamps.append(stamp)

    def has_all(self) -> bool:
        self.take()
        return len(self.ids) >= self.sent

    def close(self) -> None:
        self._socket.close()


def _shared(stand: Stand) -> Shared:
    stand.needs_stamps()
    user = _StampUser(stand.partner_address, is_hardware=stand.is_zero_copy)

    def others() -> Iterator[None]:
        for _ in range(_COUNT // _SKB_EVERY):
            for _ in range(_SKB_EVERY):
                yield
            user.send()
            user.take()

    try:
        with stand.socket() as lane:
            done = stand.run(
                lane, stand.packets([True] * _COUNT), in_flight=2, batch=1, meanwhile=others()
            )
        stand.await_true(user.has_all, 1.0)
    finally:
        user.close()
    return Shared(done, user.ids, user.stamps, user.sent)


def judge_shared(found: Shared) -> Verdict:
    """Each has stamps of its own, and no stamp is in both hands."""
    ours = found.done.found[found.done.is_stamped].astype(np.int64)
    false = int(np.count_nonzero(found.done.is_written & ~found.done.is_possible))
    both = len(set(ours.tolist()) & set(found.stamps))
    twice = len(found.ids) - len(set(found.ids))
    seen = (
        f"{len(ours)} of {len(found.done.found)} of ours stamped, {false} false; {len(found.ids)} "
        f"of {found.sent} of the stack's, {twice} twice; {both} in both"
    )
    figures: dict[str, int | float | str] = {
        "ours": len(ours),
        "others": len(found.ids),
        "false": false,
    }
    is_right = len(ours) > 0 and len(found.ids) > 0 and not (false or both or twice)
    return all_of(judge_completions(found.done), Verdict(is_right, seen, figures))


CASES = (
    Case(
        Rule(
            key="plain-af-xdp",
            group="sharing",
            title="a UMEM without metadata sends as ever",
            text=f"{_COUNT} packets from a UMEM that was registered without Tx metadata. Two "
            "drivers crashed here when they learned to stamp.",
            source="xsk_tx_metadata_complete(), include/net/xdp_sock.h: compl->tx_timestamp",
            expected={"copy": "all complete", "zero-copy": "all complete"},
        ),
        _plain,
        judge_completions,
        faults=("tx-not-woken-with-two-queues",),
    ),
    Case(
        Rule(
            key="plain-beside-stamped",
            group="sharing",
            title="a queue without metadata beside one with",
            text=f"{_COUNT} packets on queue 1, whose UMEM has no metadata, while queue 0 has a "
            "socket with; then 64 on queue 0 at 1:1.",
            source="struct xsk_tx_metadata_compl, include/net/xdp_sock.h",
            expected={"copy": "all complete, once", "zero-copy": "all complete, once"},
        ),
        _plain_beside,
        judge_completions,
        faults=("tx-not-woken-with-two-queues",),
    ),
    Case(
        Rule(
            key="so-timestamping-beside",
            group="sharing",
            title="SO_TIMESTAMPING at the same time: each gets its own",
            text=f"{_COUNT} packets of ours with a request, and each {_SKB_EVERY}th time one of a "
            "UDP socket that asks for the same kind of stamps: both get some, each for a packet "
            "of its own, and no stamp is in both hands.",
            source="igc: union of skb and xsk_tx_buffer in igc_tx_timestamp_request, igc.h",
            expected={"copy": "each its own", "zero-copy": "each its own"},
        ),
        _shared,
        judge_shared,
        faults=("tx-not-woken-with-two-queues", "stamp-register-0-race"),
    ),
)
