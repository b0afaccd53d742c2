# SPDX-License-Identifier: GPL-2.0-only
"""What ``mixed`` measures: settings, and one :class:`Round` for each time a setting was tried.

Plain data and arithmetic that both sides know. Counts are packets, durations integer nanoseconds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from xdptstamp.histogram import Histogram
from xdptstamp.sample import Cause

#: On the wire beside a frame with its FCS: preamble and start delimiter, inter-packet gap (IEEE
#: 802.3).
OVERHEAD_BYTES = 8 + 12
FCS_BYTES = 4

#: Where a packet stands in its pattern, for its hold time: it asked for a stamp itself, it comes
#: right behind one that did, or neither.
POSITIONS = ("stamped", "behind", "others")

#: Where the number of packets that arrived is from, the best first.
SOURCES = ("sink", "NIC Tx counters", "completions")


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One way to send: T packets with a timestamp, then N without, of one frame size.

    :param size_bytes: frame with its FCS.
    :param stamped: T; ``plain``: N. 0:1 is the baseline.
    :param every_ns: instead of a pattern, one stamped packet in each such interval and all others
        plain; 0: the pattern counts.
    :param has_second_app: the stamped packets of ``every_ns`` come from a second process on
        another queue (``--two-apps``); this one sends none.
    """

    size_bytes: int
    stamped: int
    plain: int
    every_ns: int = 0
    has_second_app: bool = False

    @property
    def ratio(self) -> str:
        """``1:10``."""
        return f"{self.stamped}:{self.plain}"

    @property
    def is_baseline(self) -> bool:
        """Whether nobody asks for a timestamp."""
        return not self.stamped and not self.every_ns

    @property
    def wire_bits(self) -> int:
        """Bits of one packet on the wire, with preamble, gap and FCS."""
        return 8 * (self.size_bytes + OVERHEAD_BYTES)


def _no_causes() -> dict[str, int]:
    return {cause.label: 0 for cause in Cause if cause is not Cause.NONE}


def _no_hold() -> dict[str, Histogram]:
    return {position: Histogram() for position in POSITIONS}


@dataclass(slots=True)
class Round:
    """One setting, measured once.

    Books: sent = completed + lost; requested = stamped + the sum of ``causes``; with a sink,
    sent = received + missing, and missing = the sum of ``located`` + ``unaccounted``. Beside a
    second app, what that one misses is in the last two as well.

    :param round: which repetition, from 0; ``setting``: index in the run's list of settings;
        ``order``: its place in the order of measuring.
    :param stream: number that its packets carry (:mod:`xdptstamp.stream`); ``second_stream``: those
        of the second app. None: not noted (by a version before), or there was none.
    :param duration_ns: from the first submit to the last completion.
    :param sent: descriptors submitted.
    :param lost: completions that never came, those of plain packets included.
    :param causes: by the label of each :class:`~xdptstamp.sample.Cause`.
    :param received: distinct packets the sink had; None: there was no sink.
    :param missing: numbers that the sink never saw, up to ``sent``.
    :param located: where missing packets went, by counter: ``{"partner rx_dropped": 3}``.
    :param unaccounted: missing and in no counter; negative: counted and not missing.
    :param pattern_errors: packets that broke the order of stamped and plain, at the sink.
    :param nic_sent: what the interface's own Tx counter gained; None: it has none.
    :param throttled_ns: waiting because ``--max-pending-timestamps`` were pending.
    :param user_ns: CPU time of the sending process, beside ``system_ns``.
    :param pause_frames: by counter, what it gained.
    :param wakeup_errors: by errno, how often the kernel refused to send for now.
    :param second_app: the books of the second process of ``--two-apps``.
    :param hold: submit to completion, by position.
    :param reap: from one look at the completions to the next.
    """

    round: int
    setting: int
    order: int
    is_warmup: bool = False
    stream: int | None = None
    second_stream: int | None = None
    duration_ns: int = 0
    sent: int = 0
    dropped_by_kernel: int = 0
    completed: int = 0
    lost: int = 0
    requested: int = 0
    stamped: int = 0
    causes: dict[str, int] = field(default_factory=_no_causes)
    received: int | None = None
    missing: int = 0
    reordered: int = 0
    duplicates: int = 0
    corrupted: int = 0
    pattern_errors: int = 0
    located: dict[str, int] = field(default_factory=dict)
    unaccounted: int = 0
    nic_sent: int | None = None
    throttled_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    pause_frames: dict[str, int] = field(default_factory=dict)
    wakeup_errors: dict[str, int] = field(default_factory=dict)
    second_app: dict[str, Any] | None = None
    hold: dict[str, Histogram] = field(default_factory=_no_hold)
    reap: Histogram = field(default_factory=Histogram)

    @property
    def source(self) -> str:
        """Where :attr:`arrived` is from: one of :data:`SOURCES`."""
        if self.received is not None:
            return SOURCES[0]
        return SOURCES[1] if self.nic_sent is not None else SOURCES[2]

    @property
    def arrived(self) -> int:
        """Packets that arrived, as far as :attr:`source` can tell."""
        if self.received is not None:
            return self.received
        if self.nic_sent is not None:
            return self.nic_sent
        return self.completed - self.dropped_by_kernel

    @property
    def pps(self) -> float:
        """Packets that arrived in a second."""
        return self.arrived * 1e9 / self.duration_ns if self.duration_ns else 0.0

    def to_json(self) -> dict[str, Any]:
        """For ``run.json``: without the histograms, with what is derived."""
        plain = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name not in ("hold", "reap")
        }
        return {**plain, "source": self.source, "arrived": self.arrived}
