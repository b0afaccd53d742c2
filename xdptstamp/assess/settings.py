# SPDX-License-Identifier: GPL-2.0-only
"""What an interface's driver, link and settings mean."""

from __future__ import annotations

from collections.abc import Iterator

from xdptstamp.assess import spoilers
from xdptstamp.assess.rules import Answer, Rule, doubt, lacks, ok
from xdptstamp.assess.spoilers import Spoiler
from xdptstamp.drivers import known_driver
from xdptstamp.finding import Facts

#: Above it a packet does not fit into a frame (``dut.open_socket``).
MAX_MTU = 3818


def driver_words(facts: Facts) -> str:
    """Driver, kind and address: ``igc at 0000:03:00.0``, ``veth, a software interface``."""
    driver, kind = facts["driver"]["driver"], facts["link"]["kind"]
    name = driver or kind or "a driver without a name"
    if kind:
        return f"{name}, a software interface"
    bus = facts["driver"]["bus"]
    return f"{name} at {bus}" if bus else name


def _driver(facts: Facts) -> Iterator[Answer]:
    info = facts["driver"]
    firmware = f", firmware {info['firmware']}" if info["firmware"] else ""
    text = driver_words(facts) + firmware
    features = facts.get("features") or {}
    if features.get("is_tx_timestamp") and known_driver(info["driver"]) is None:
        advice = "missing timestamps cannot be held against its counters"
        yield doubt(f"{text}: xdptstamp knows neither its counters nor its faults", advice)
    else:
        yield ok(text)


def _use(facts: Facts) -> Iterator[Answer]:
    refusal = facts["refusal"]
    if refusal is not None:
        reason = refusal.removeprefix("refused: ").partition(". ")[0]
        yield doubt(reason, "choose another interface, or use --force", is_blocking=True)


def _link(facts: Facts) -> Iterator[Answer]:
    link, speed = facts["link"], facts["speed_mbps"]
    ifname, mtu = link["ifname"], link["mtu"]
    if not link["is_up"]:
        yield lacks("down", f"ip link set {ifname} up", is_blocking=True)
    elif not link["has_carrier"]:
        advice = "is the cable in, and the link partner up?"
        yield lacks("up, but no carrier", advice, is_blocking=True)
    else:
        yield ok(f"up, {speed} Mb/s, MTU {mtu}" if speed else f"up, MTU {mtu}")
    limit = _mtu_limit(facts)
    if mtu > limit:
        advice = f"ip link set {ifname} mtu {limit}"
        yield lacks(f"MTU {mtu} is too large for XDP", advice, is_blocking=True)


def _mtu_limit(facts: Facts) -> int:
    driver = known_driver((facts.get("driver") or {}).get("driver", ""))
    return (driver.max_xdp_mtu if driver else None) or MAX_MTU


def _queues(facts: Facts) -> Iterator[Answer]:
    queues = facts["num_queues"]
    if queues["is_exact"] and queues["combined"] == queues["rx"] == queues["tx"]:
        text = f"{queues['combined']}, each with Rx and Tx"
    else:
        text = f"{queues['rx']} Rx, {queues['tx']} Tx"
    yield ok(text if queues["is_exact"] else f"{text} allocated (those in use are not told)")


def _rings(facts: Facts) -> Iterator[Answer]:
    sizes = facts["ring_sizes"]
    if sizes is None:
        yield ok("none in hardware")
        return
    texts = [f"{name.title()} {sizes[name]} of {sizes[f'{name}_max']}" for name in ("rx", "tx")]
    yield ok(", ".join(texts))


def _coalescing(facts: Facts) -> Iterator[Answer]:
    found = facts["coalescing"]
    if found is None:
        yield ok("none")
        return
    driver_name = (facts.get("driver") or {}).get("driver", "")
    spoiler = spoilers.coalescing(found, driver_name, facts["link"]["ifname"])
    yield _doubt(spoiler) if spoiler else ok(spoilers.coalescing_words(found))


def _eee(facts: Facts) -> Iterator[Answer]:
    eee = facts["eee"]
    if eee is None:
        yield ok("none")
    elif spoiler := spoilers.eee(eee, facts["link"]["ifname"]):
        yield _doubt(spoiler)
    else:
        yield ok("on, not active on this link" if eee["is_enabled"] else "off")


def _pause(facts: Facts) -> Iterator[Answer]:
    pause = facts["pause"]
    if pause is None:
        yield ok("none")
    elif spoiler := spoilers.pause(pause, facts["link"]["ifname"]):
        yield _doubt(spoiler, ", and are counted" if facts.get("pause_counters") else "")
    else:
        yield ok("off")


def _doubt(spoiler: Spoiler, more: str = "") -> Answer:
    return doubt(f"{spoiler.value}: {spoiler.effect}{more}", spoiler.advice)


RULES = (
    Rule("driver", "driver", ("driver",), _driver),
    Rule("use", "other use", ("refusal",), _use),
    Rule("link", "link", ("speed_mbps",), _link),
    Rule("queues", "queues", ("num_queues",), _queues),
    Rule("rings", "rings", ("ring_sizes",), _rings),
    Rule("coalescing", "coalescing", ("coalescing",), _coalescing),
    Rule("eee", "EEE", ("eee",), _eee),
    Rule("pause", "flow control", ("pause",), _pause),
)
