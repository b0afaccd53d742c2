# SPDX-License-Identifier: GPL-2.0-only
"""What a ping reports at its end: the losses by where they happened, and the doubts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xdptstamp.errors import SetupError
from xdptstamp.runinfo import Warning

#: The counts that exist while a ping runs, in the order of a table.
STATUS_NAMES = (
    "sent",
    "received",
    "lost",
    "duplicates",
    "reordered",
    "corrupted",
    "foreign",
    "late",
)

NO_REPLY_ADVICE = "is `xdptstamp ping-pong` running on that port? Does a firewall drop it?"

_ADVICE = {
    "ECONNREFUSED": "nobody answers on that port. Start `xdptstamp ping-pong` there",
    "EHOSTUNREACH": "it does not answer ARP or ND. Is it up, and on this link?",
    "ENETUNREACH": "no route to it. Is the link up and has this end an address? See `ip route`",
    "ENETDOWN": "the interface is down. `ip link set DEV up`",
    "EPERM": "a firewall rule of this machine forbids it. See `nft list ruleset`",
    "EMSGSIZE": "the request is longer than the path's MTU. Take a smaller --size",
    "ENOBUFS": "the interface's queue is full. Take a longer --interval",
}


@dataclass(slots=True)
class PingResult:
    """What a ping did.

    :param ended_by: ``count``, ``deadline``, or the reason of whoever ended it before.
    :param is_complete: it was not ended before the count or the deadline.
    :param counts: its books; ``send_errors`` and ``icmp_errors`` by the name of the errno.
    :param obtained: what the machine granted, known at the end.
    """

    ended_by: str
    is_complete: bool
    counts: dict[str, Any]
    obtained: dict[str, Any]
    warnings: list[Warning]


def split_losses(
    lost: int, drops: int | None, before: Mapping[str, int], after: Mapping[str, int]
) -> dict[str, int]:
    """Where the replies to ``lost`` requests went.

    The drop counter of the socket is exact but takes in wrong checksums; the two counters of
    the network namespace tell them apart, but take in other sockets. Together they bound ours.

    :param drops: of the socket; None: not known.
    :param before: the namespace's UDP counters at the start. :param after: at the end.
    """
    delta = {name: after[name] - before.get(name, 0) for name in after}
    known = [number for number in (drops, delta.get("rx_overflow")) if number is not None]
    overflow = min(known, default=0)
    here = min(lost, overflow)
    bad_checksum = min(lost - here, delta.get("rx_bad_checksum", 0))
    return {
        "lost_here": here,
        "lost_bad_checksum": bad_checksum,
        "not_received": lost - here - bad_checksum,
        "rx_overflow": overflow,
        "rx_bad_checksum": delta.get("rx_bad_checksum", 0),
    }


def silence_error(
    remote: str, counts: Mapping[str, int], send_errors: Counter[str], icmp_errors: Counter[str]
) -> SetupError | None:
    """The error of a run that nothing answered though something said why, else None."""
    if any(counts[name] for name in ("received", "late", "corrupted", "foreign")):
        return None
    errors = icmp_errors or (send_errors if not counts["sent"] else None)
    if not errors:
        return None
    name, _ = errors.most_common(1)[0]
    return SetupError(remote, f"{name}: {_ADVICE.get(name, 'no request got through')}")


_DOUBTS = {
    "lost_here": (
        "replies dropped here, the socket was full",
        "lengthen --interval, or raise net.core.rmem_max",
    ),
    "rx_bad_checksum": (
        "UDP datagrams came here with a wrong checksum",
        "the DUT or its NIC makes wrong checksums: capture them with tcpdump -vv",
    ),
    "corrupted": (
        "replies differ from their request",
        "something between this end and the DUT alters packets",
    ),
    "left_out": (
        "requests left out, this end was more than a second behind",
        "lengthen --interval, or take --wait spin and a free CPU",
    ),
    "tx_stamps_missing": (
        "requests without the kernel's Tx timestamp",
        "lengthen --interval; if all lack it, see net.core.tstamp_allow_data",
    ),
    "late": (
        "replies came after their request was given up; those requests count as lost",
        "lengthen --timeout",
    ),
}


def judge(counts: Mapping[str, Any], obtained: Mapping[str, Any]) -> list[Warning]:
    """The doubts about a ping."""
    warnings = [
        Warning(f"ping-{key.replace('_', '-')}", text, str(counts[key]), "0", advice)
        for key, (text, advice) in _DOUBTS.items()
        if counts.get(key)
    ]
    for key, text in (("send_errors", "attempts to send failed"), ("icmp_errors", "ICMP errors")):
        for name, number in counts.get(key, {}).items():
            advice = _ADVICE.get(name, "see the errno's meaning")
            warnings.append(
                Warning(
                    f"ping-{key.replace('_', '-')}", f"{text}: {name}", str(number), "0", advice
                )
            )
    if counts["sent"] and not counts["received"]:
        warnings.append(Warning("ping-no-reply", "no reply came at all", "0", "1", NO_REPLY_ADVICE))
    if obtained["kernel_timestamps"] != "rx+tx":
        advice = "times of the application alone remain where they lack"
        found = obtained["kernel_timestamps"]
        warnings.append(
            Warning("ping-kernel-timestamps", "kernel timestamps", found, "rx+tx", advice)
        )
    if obtained["tai_offset_s"] != obtained["tai_offset_at_end_s"]:
        warnings.append(_tai_moved(obtained))
    return warnings


def _tai_moved(obtained: Mapping[str, Any]) -> Warning:
    return Warning(
        "ping-tai-offset",
        "the offset of CLOCK_TAI changed during the run: intervals across it are wrong",
        f"{obtained['tai_offset_at_end_s']} s",
        f"{obtained['tai_offset_s']} s",
        "let ptp4l, chrony or ntpd settle before the run",
        is_untrusted=True,
    )
