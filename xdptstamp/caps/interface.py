# SPDX-License-Identifier: GPL-2.0-only
"""What an interface can do and is set to: driver, link, XDP, timestamping, and who uses it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Any

from xdptstamp._rtnl import all_links
from xdptstamp.caps.reader import Reader
from xdptstamp.drivers import CORE, Driver, Fault, Presence, known_driver
from xdptstamp.errors import SetupError
from xdptstamp.faults import known_faults
from xdptstamp.features import Features, read_features
from xdptstamp.finding import Facts
from xdptstamp.hwtstamp import HwtstampConfig, read_hwtstamp
from xdptstamp.hwtstate import users_of
from xdptstamp.nic import Link, Nic

# Interfaces that no measurement is made on, and that only fill a list.
_HELPERS = {"ifb", "sit", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6tnl", "ipip", "vti"}


def read_interface(nic: Nic) -> Facts:
    """Facts about one interface.

    :raises SetupError: If it is gone.
    """
    reader = Reader()
    link = nic.link()
    reader.facts.values["link"] = _link_json(link)
    info = reader.ask("driver", nic.driver_info, asdict)
    reader.ask("refusal", lambda: _refusal(nic))
    reader.ask("speed_mbps", nic.speed_mbps)
    reader.ask("num_queues", nic.num_queues, asdict)
    reader.ask("ring_sizes", nic.ring_sizes, asdict)
    _read_settings(reader, nic)
    reader.ask("strips_vlan_tags", nic.strips_vlan_tags)
    reader.ask("features", lambda: read_features(nic.ifindex), Features.to_json)
    reader.ask("hwtstamp", lambda: read_hwtstamp(nic), _hwtstamp_json)
    reader.ask("users", lambda: users_of(nic.ifindex))
    driver = known_driver(info.driver) if info else None
    if driver is not None:
        _read_counters(reader, nic, driver)
    _read_faults(reader, nic, driver)
    _read_phc(reader, nic)
    return reader.facts


def read_settings(nic: Nic) -> Facts:
    """What delays packets, of the facts about an interface: interrupt coalescing, EEE, pause."""
    reader = Reader()
    _read_settings(reader, nic)
    return reader.facts


def _read_settings(reader: Reader, nic: Nic) -> None:
    reader.ask("coalescing", nic.coalescing, asdict)
    reader.ask("eee", nic.eee, asdict)
    reader.ask("pause", nic.pause, asdict)


def read_interfaces() -> list[Facts]:
    """A few facts about each interface that might be measured on."""
    links = [link for link in all_links() if not link.is_loopback and link.kind not in _HELPERS]
    found = []
    for link in sorted(links, key=lambda link: link.ifindex):
        with contextlib.suppress(SetupError):  # it has just gone
            found.append(_read_shortly(link, Nic(link.ifname)))
    return found


def _read_shortly(link: Link, nic: Nic) -> Facts:
    reader = Reader()
    reader.facts.values["link"] = _link_json(link)
    reader.ask("driver", nic.driver_info, asdict)
    reader.ask("refusal", lambda: _refusal(nic))
    reader.ask("features", lambda: read_features(nic.ifindex), Features.to_json)
    return reader.facts


def _link_json(link: Link) -> dict[str, Any]:
    kept = asdict(link)
    del kept["statistics"], kept["flags"]
    states = ("is_up", "is_loopback", "has_carrier")
    return {**kept, **{name: getattr(link, name) for name in states}}


def _refusal(nic: Nic) -> str | None:
    refusal = nic.refusal()
    return None if refusal is None else refusal.problem


def _hwtstamp_json(config: HwtstampConfig) -> dict[str, Any]:
    return {**asdict(config), "text": str(config), "is_tx_on": config.is_tx_on}


def _read_counters(reader: Reader, nic: Nic, driver: Driver) -> None:
    statistics = reader.ask("counters", nic.statistics, lambda names: _counters(driver, names))
    if statistics is not None:
        names = [name for name in driver.pause_counters if name in statistics]
        reader.facts.values["pause_counters"] = names


def _read_faults(reader: Reader, nic: Nic, driver: Driver | None) -> None:
    # In copy mode the driver has no part in what can go wrong.
    features = reader.facts.get("features")
    is_copied = features is not None and features["is_zero_copy"] is False
    row = known_driver(CORE) if is_copied else driver
    if row is not None:
        reader.facts.values["faults_of"] = row.name
        reader.ask("faults", lambda: known_faults(nic, row), _faults_json)


def _counters(driver: Driver, statistics: dict[str, int]) -> dict[str, str]:
    # Those that this kernel's driver really has.
    return {role: name for role, name in driver.counters.items() if name in statistics}


def _faults_json(faults: list[tuple[Fault, Presence]]) -> list[dict[str, Any]]:
    return [{**asdict(fault), "presence": str(presence)} for fault, presence in faults]


def _read_phc(reader: Reader, nic: Nic) -> None:
    info = reader.ask("timestamping", nic.timestamping_info, asdict)
    if info is not None and info.phc_index >= 0:
        reader.ask("phc", lambda: _phc(info.phc_index))


def _phc(index: int) -> dict[str, Any]:
    from xdptstamp.phc import Phc  # and NumPy with it

    with Phc(index) as phc:
        sample = phc.compare()
        return {
            "device": str(phc.path),
            "name": phc.name,
            "method": phc.method,
            "refused_methods": phc.refusals,
            **asdict(sample),
            "offset_ns": sample.offset_ns,
        }
