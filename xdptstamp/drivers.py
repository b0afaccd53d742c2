# SPDX-License-Identifier: GPL-2.0-only
"""What is known of each driver: counter names, stamp slots, timeouts, faults."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Fault:
    """A known fault of a driver, what it does and what xdptstamp does about it."""

    key: str
    effect: str
    care: str
    fixed_by: str = ""
    seen_on: str = ""


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver's row; every field is optional knowledge.

    :param counters: role ("skipped", "timed_out") to name in ``ethtool -S``.
    :param pause_counters: names in ``ethtool -S`` that count pause frames.
    :param num_stamp_slots: stamps pending at once on the adapter; None: not known.
    :param tx_timeout_s: seconds until the driver gives a stamp up; None: not known.
    """

    name: str
    counters: dict[str, str]
    num_stamp_slots: int | None = None
    tx_timeout_s: float | None = None
    faults: tuple[Fault, ...] = ()
    pause_counters: tuple[str, ...] = ()


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
            **row,
        )
    return table


def known_driver(name: str) -> Driver | None:
    """The row of driver ``name`` (as ``ethtool -i`` reports it), None if the table lacks it."""
    return _table().get(name)
