# SPDX-License-Identifier: GPL-2.0-only
"""What is known of each driver: counter names, stamp slots, timeouts, faults."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """A known fault of a driver in zero-copy mode.

    :param effect: what it does.
    :param care: what xdptstamp does about it, or its user can.
    :param source: how it is known: the fix, or the kernel it was seen on and the place.
    :param absent_in: the first kernel known not to have it ("7.3"); None: none.
    :param max_queues: it needs at most so many queues; None: any number.
    """

    key: str
    effect: str
    care: str
    source: str
    absent_in: str | None = None
    max_queues: int | None = None

    def can_be(self, release: str, num_queues: int) -> bool:
        """Whether the kernel ``release`` (as ``uname -r``) may have it with so many queues."""
        if self.max_queues is not None and num_queues > self.max_queues:
            return False
        return self.absent_in is None or _version(release) < _version(self.absent_in)

    def note(self, driver: str) -> str:
        """A sentence for the user."""
        return f"known fault of {driver} ({self.source}): {self.effect}; {self.care}"


@dataclass(frozen=True, slots=True)
class Latency:
    """What a driver corrects its stamps by: the way between the NIC's stamp unit and the wire.

    :param name: of the constants in its source, of ``direction`` and ``speed``.
    :param tx_ns: added to Tx stamps, by the link's speed in Mb/s; ``rx_ns``: taken off Rx stamps.
    """

    name: str
    tx_ns: dict[int, int]
    rx_ns: dict[int, int]

    def of(self, direction: Literal["tx", "rx"], speed_mbps: int) -> tuple[int, str] | None:
        """The constant in ns and its name, None if there is none for that speed."""
        values = self.tx_ns if direction == "tx" else self.rx_ns
        if speed_mbps not in values:
            return None
        return values[speed_mbps], self.name.format(direction=direction.upper(), speed=speed_mbps)


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver's row; every field is optional knowledge.

    :param counters: role ("skipped", "timed_out") to name in ``ethtool -S``.
    :param pause_counters: names in ``ethtool -S`` that count pause frames.
    :param num_stamp_slots: stamps pending at once on the adapter; None: not known.
    :param tx_timeout_s: seconds until the driver gives a stamp up; None: not known.
    :param latency: what it corrects stamps by; None: not known.
    """

    name: str
    counters: dict[str, str]
    num_stamp_slots: int | None = None
    tx_timeout_s: float | None = None
    faults: tuple[Fault, ...] = ()
    pause_counters: tuple[str, ...] = ()
    latency: Latency | None = None


def _version(release: str) -> tuple[int, int]:
    numbers = re.match(r"([0-9]+)\.([0-9]+)", release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


@functools.cache
def _table() -> dict[str, Driver]:
    text = resources.files("xdptstamp").joinpath("drivers.toml").read_text(encoding="utf-8")
    table = {}
    for name, row in tomllib.loads(text).items():
        faults = tuple(Fault(**fault) for fault in row.pop("faults", []))
        table[name] = Driver(
            name=name,
            counters=row.pop("counters", {}),
            faults=faults,
            pause_counters=tuple(row.pop("pause_counters", ())),
            latency=_latency(row.pop("latency", None)),
            **row,
        )
    return table


def _latency(row: dict[str, Any] | None) -> Latency | None:
    # The keys of a table are text in TOML.
    if row is None:
        return None
    tx_ns, rx_ns = ({int(k): v for k, v in row[name].items()} for name in ("tx_ns", "rx_ns"))
    return Latency(row["name"], tx_ns, rx_ns)


def known_driver(name: str) -> Driver | None:
    """The row of driver ``name`` (as ``ethtool -i`` reports it), None if the table lacks it."""
    return _table().get(name)
