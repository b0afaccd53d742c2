# SPDX-License-Identifier: GPL-2.0-only
"""What is known of each driver: counter names, stamp slots, timeouts, faults."""

from __future__ import annotations

import enum
import functools
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

#: The row of ``drivers.toml`` with the faults of AF_XDP itself, in copy mode.
CORE = "af_xdp"

# Names that count pause frames of a driver we do not know; next to them some count microseconds or
# changes of state.
_PAUSE = re.compile(r"pause|flow_?control|xoff|xon", re.IGNORECASE)
_NO_PAUSE_FRAMES = re.compile(r"duration|transition|storm|xon_2_xoff", re.IGNORECASE)


class Presence(enum.StrEnum):
    """Whether a driver has a fault: known not to, perhaps (by its version), known to (probed)."""

    ABSENT = "absent"
    POSSIBLE = "possible"
    PROBED = "probed"


@dataclass(frozen=True, slots=True)
class DriverState:
    """A driver as it runs here, as far as its faults depend on that.

    :param release: of the kernel, as ``uname -r`` says it.
    :param num_queues: of the interface.
    :param btf: the driver's type information, which names its functions; None: not to be had.
    :param qdiscs: kinds of queueing disciplines on the interface; None: not known.
    """

    release: str
    num_queues: int
    btf: bytes | None = None
    qdiscs: frozenset[str] | None = None

    def has_function(self, name: str) -> bool | None:
        """Whether the driver has a function of that name; None: not known."""
        return None if self.btf is None else b"\0%s\0" % name.encode() in self.btf


@dataclass(frozen=True, slots=True)
class Fault:
    """A known fault of a driver in zero-copy mode.

    :param effect: what it does.
    :param care: what xdptstamp does about it, or its user can.
    :param source: how it is known: the fix, or the kernel it was seen on and the place.
    :param since: the first kernel that has it ("6.16"); None: the first that could.
    :param absent_in: the first kernel known not to have it ("7.3"); None: none.
    :param stable: releases of older series that are known not to have it, nor later ones
        ("6.12.78").
    :param fixed_by: a function that only a driver with the fix has.
    :param max_queues: it needs at most so many queues; None: any number.
    :param qdiscs: it needs one of these queueing disciplines on the interface; empty: none.
    """

    key: str
    effect: str
    care: str
    source: str
    since: str | None = None
    absent_in: str | None = None
    stable: tuple[str, ...] = ()
    fixed_by: str | None = None
    max_queues: int | None = None
    qdiscs: tuple[str, ...] = ()

    def presence(self, state: DriverState) -> Presence:
        """Whether a driver in that state has it."""
        if not self._is_provoked(state) or _is_before(state.release, self.since):
            return Presence.ABSENT
        if self.fixed_by is not None:
            # A distribution may have the fix in any version.
            has_fix = state.has_function(self.fixed_by)
            if has_fix is not None:
                return Presence.ABSENT if has_fix else Presence.PROBED
        return Presence.ABSENT if self._is_fixed(state.release) else Presence.POSSIBLE

    def can_be(self, release: str, num_queues: int) -> bool:
        """Whether the kernel ``release`` (as ``uname -r``) may have it with so many queues."""
        return self.presence(DriverState(release, num_queues)) != Presence.ABSENT

    def note(self, driver: str) -> str:
        """A sentence for the user."""
        return f"known fault of {driver} ({self.source}): {self.effect}; {self.care}"

    def _is_provoked(self, state: DriverState) -> bool:
        if self.max_queues is not None and state.num_queues > self.max_queues:
            return False
        return not self.qdiscs or state.qdiscs is None or bool(state.qdiscs & set(self.qdiscs))

    def _is_fixed(self, release: str) -> bool:
        found, fixed = _version(release), [_version(text) for text in self.stable]
        if self.absent_in is not None and found >= _version(self.absent_in):
            return True
        return any(found[:2] == each[:2] and found >= each for each in fixed)


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

    :param name: as ``ethtool -i`` reports it.
    :param module: the kernel's name for it.
    :param counters: role ("skipped", "timed_out") to name in ``ethtool -S``.
    :param pause_counters: names in ``ethtool -S`` that count pause frames.
    :param num_stamp_slots: stamps pending at once on the adapter; 0: no limit, each completion
        brings its packet's; None: not known.
    :param tx_timeout_s: seconds until the driver gives a stamp up; None: not known, or it does not
        wait for any.
    :param latency: what it corrects stamps by; None: not known.
    :param max_xdp_mtu: above it the driver takes no XDP program; None: not known.
    :param dynamic_usecs: values of ``ethtool -C rx-usecs`` (and tx-usecs) that are not times, but
        make it choose them by the traffic.
    """

    name: str
    counters: dict[str, str]
    module: str = ""
    num_stamp_slots: int | None = None
    tx_timeout_s: float | None = None
    faults: tuple[Fault, ...] = ()
    pause_counters: tuple[str, ...] = ()
    latency: Latency | None = None
    max_xdp_mtu: int | None = None
    dynamic_usecs: tuple[int, ...] = ()


def _version(release: str) -> tuple[int, int, int]:
    numbers = re.match(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", release)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3] or 0)) if numbers else (0, 0, 0)


def _is_before(release: str, version: str | None) -> bool:
    # A release that says nothing may be any.
    return version is not None and (0, 0, 0) < _version(release) < _version(version)


@functools.cache
def _table() -> dict[str, Driver]:
    text = resources.files("xdptstamp").joinpath("drivers.toml").read_text(encoding="utf-8")
    return {name: _driver(name, row) for name, row in tomllib.loads(text).items()}


def _driver(name: str, row: dict[str, Any]) -> Driver:
    faults = tuple(Fault(**_frozen(fault)) for fault in row.pop("faults", []))
    latency = _latency(row.pop("latency", None))
    rest = {"module": name, "counters": {}, **_frozen(row)}
    return Driver(name=name, faults=faults, latency=latency, **rest)


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(each) if isinstance(each, list) else each for key, each in row.items()}


def _latency(row: dict[str, Any] | None) -> Latency | None:
    # The keys of a table are text in TOML.
    if row is None:
        return None
    tx_ns, rx_ns = ({int(k): v for k, v in row[name].items()} for name in ("tx_ns", "rx_ns"))
    return Latency(row["name"], tx_ns, rx_ns)


def known_driver(name: str) -> Driver | None:
    """The row of driver ``name`` (as ``ethtool -i`` reports it), None if the table lacks it."""
    return _table().get(name)


def pause_counters(driver_name: str, names: Iterable[str]) -> list[str]:
    """Those of ``names`` (of ``ethtool -S``) that count pause frames.

    Of a driver we know they are in its row; else the names say so.
    """
    driver = known_driver(driver_name)
    if driver is not None and driver.pause_counters:
        there = set(names)
        return [name for name in driver.pause_counters if name in there]
    return [n for n in names if _PAUSE.search(n) and not _NO_PAUSE_FRAMES.search(n)]
