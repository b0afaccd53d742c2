# SPDX-License-Identifier: GPL-2.0-only
"""What a ping reports at its end: the losses by where they happened, and why nothing came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xdptstamp.errors import SetupError
from xdptstamp.unreached import ERRNO_ADVICE

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
    return SetupError(remote, f"{name}: {ERRNO_ADVICE.get(name, 'no request got through')}")
