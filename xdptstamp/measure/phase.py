# SPDX-License-Identifier: GPL-2.0-only
"""One stream to send, and how that went: what a sender takes and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from xdptstamp.measure.holds import Holds
from xdptstamp.measure.pattern import Pattern

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Phase:
    """One stream to send.

    :param packet: packet 0, from the Ethernet header on, without FCS.
    :param payload_offset: where its payload (:mod:`xdptstamp.stream`) starts.
    :param duration_ns: send so long; then drain.
    :param interval_ns: from one packet to the next; None: as fast as it goes.
    :param max_pending: at most so many stamps between submit and completion; None: no limit.
    :param records_all: keep plain packets in the spool as well.
    :param is_spinning: never sleep while there is nothing to do.
    """

    packet: bytes
    payload_offset: int
    pattern: Pattern
    duration_ns: int
    interval_ns: Fraction | None = None
    max_pending: int | None = None
    records_all: bool = False
    is_spinning: bool = False


@dataclass(slots=True)
class Sent:
    """How a phase went.

    :param reason: what ended it: "duration", or what was told to the sender.
    :param duration_ns: from the first submit to the last completion.
    :param is_drained: the drain ran to its limit, or to its end.
    :param uncompleted: numbers of packets without a completion; ``uncompleted_app_ns`` when they
        were submitted (CLOCK_TAI), ``is_uncompleted_requested`` whether they ask for a stamp.
    :param last_completed: the greatest number that completed; -1: none.
    """

    reason: str
    sent: int
    completed: int
    num_requested: int
    completed_unexpected: int
    num_dropped: int
    duration_ns: int
    throttled_ns: int
    user_ns: int
    system_ns: int
    is_drained: bool
    last_completed: int
    uncompleted: Numbers
    uncompleted_app_ns: Numbers
    is_uncompleted_requested: npt.NDArray[np.bool_]
    holds: Holds
    wakeup_errors: dict[str, int] = field(default_factory=dict)
