# SPDX-License-Identifier: GPL-2.0-only
"""What a sink has counted, as it prints it and as the sender reads it. Plain data.

Every packet that the sink's program redirected is in one place: redirected = rx_dropped +
rx_ring_full + left + forgotten + foreign + what the streams hold + unaccounted; and a stream holds
received + duplicates + too_late + corrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class StreamCounts:
    """One stream's books, in packets.

    :param received: distinct numbers.
    :param duplicates: numbers that had come before.
    :param reordered: those of ``received`` that came after a greater number.
    :param too_late: so far behind the greatest number that nobody knows whether they are
        duplicates; in neither count.
    :param corrupted: the word and its complement do not match.
    :param pattern_errors: those of ``received`` whose request for a timestamp breaks the pattern
        that they carry.
    :param stamped: those of ``received`` that say that their timestamp was requested.
    :param span: the greatest number and one; 0: none came.
    :param bytes: of ``received``, whole frames without FCS.
    """

    received: int = 0
    duplicates: int = 0
    reordered: int = 0
    too_late: int = 0
    corrupted: int = 0
    pattern_errors: int = 0
    stamped: int = 0
    span: int = 0
    bytes: int = 0

    @property
    def missing(self) -> int:
        """Numbers below ``span`` that never came, ``too_late`` ones perhaps among them.

        What was lost behind the last that came only the sender knows.
        """
        return self.span - self.received

    @property
    def packets(self) -> int:
        """All packets that came."""
        return self.received + self.duplicates + self.too_late + self.corrupted


@dataclass(frozen=True, slots=True)
class SinkReport:
    """The sink's books at one moment, everything in its rings taken before.

    :param streams: by stream id.
    :param ring: of all its sockets: the kernel's ``XDP_STATISTICS`` by their names
        (``rx_dropped``: no free frame, ``rx_ring_full``), and ``left``: still in the Rx rings.
    :param program: packets the XDP program saw, by its counters.
    :param foreign: redirected, and not a packet of a stream that is kept.
    :param forgotten: packets of streams that were forgotten.
    :param unaccounted: redirected, and in no other place; negative: in one too many.
    :param link: every counter of the interface: ``ethtool -S``, link counters as ``link.*``.
    """

    streams: dict[int, StreamCounts] = field(default_factory=dict)
    ring: dict[str, int] = field(default_factory=dict)
    program: dict[str, int] = field(default_factory=dict)
    foreign: int = 0
    forgotten: int = 0
    unaccounted: int = 0
    link: dict[str, int] = field(default_factory=dict)

    def stream(self, stream_id: int) -> StreamCounts:
        """The books of a stream; all 0 if nothing of it came."""
        return self.streams.get(stream_id) or StreamCounts()

    def to_json(self) -> dict[str, Any]:
        """As the sink prints it; :meth:`from_json` reads it."""
        return {
            **{item.name: getattr(self, item.name) for item in dataclasses.fields(self)},
            "streams": {str(key): dataclasses.asdict(each) for key, each in self.streams.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SinkReport:
        """Read what :meth:`to_json` gave; other keys are left alone.

        :raises KeyError, TypeError, ValueError: It is none.
        """
        fields = {item.name: data[item.name] for item in dataclasses.fields(cls)}
        streams = {int(key): StreamCounts(**each) for key, each in data["streams"].items()}
        return cls(**{**fields, "streams": streams})
