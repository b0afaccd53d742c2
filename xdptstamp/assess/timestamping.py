# SPDX-License-Identifier: GPL-2.0-only
"""What XDP, AF_XDP and timestamping can do on an interface, and who else uses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xdptstamp.assess.rules import Answer, Rule, doubt, lacks, ok
from xdptstamp.drivers import Driver, Presence, known_driver
from xdptstamp.finding import Facts

_TX_ON, _RX_ALL = 1, 1
_NS_PER_S = 1_000_000_000
# A PHC this close to a clock is kept in step with it.
_IN_STEP_NS = 1_000_000
_TAI_NS = 37 * _NS_PER_S  # ahead of UTC, since 2017
_ROLES = ("skipped", "timed_out")


def _xdp(facts: Facts) -> Iterator[Answer]:
    features = facts["features"]
    if features["is_xdp"] is None:
        yield doubt(f"not known: {features['unknown']}")
    elif not features["is_xdp"]:
        yield lacks("not in the driver", "only the slow skb mode: copies, SOFTWARE timestamps")
    elif not features["is_redirect"]:
        yield lacks("in the driver, without XDP_REDIRECT", "use --xdp-mode skb")
    else:
        yield ok("in the driver (native)")


def _zero_copy(facts: Facts) -> Iterator[Answer]:
    features = facts["features"]
    if features["is_zero_copy"] is None:
        yield from _untold(features)
    elif not features["is_zero_copy"]:
        yield lacks("no: packets are copied")
    else:
        segments = features["zc_max_segs"] or 1
        more = "one buffer a packet" if segments == 1 else f"up to {segments} buffers a packet"
        yield ok(f"yes, {more}")


def _tx_timestamp(facts: Facts) -> Iterator[Answer]:
    features = facts["features"]
    if features["is_tx_timestamp"] is None:
        yield from _untold(features)
    elif features["is_tx_timestamp"]:
        yield ok("yes, HARDWARE")
    elif features["is_zero_copy"]:
        yield lacks("none in zero-copy mode", "--mode copy has SOFTWARE timestamps")
    else:
        yield lacks("SOFTWARE alone, of the kernel")


def _tx_checksum(facts: Facts) -> Iterator[Answer]:
    yield from _option(
        facts["features"], "is_tx_checksum", "not offered; xdptstamp sums up by itself"
    )


def _launch_time(facts: Facts) -> Iterator[Answer]:
    yield from _option(facts["features"], "is_tx_launch_time", "not offered")


def _option(features: dict[str, Any], name: str, without: str) -> Iterator[Answer]:
    # A kernel that does not tell has said so for the Tx timestamp.
    if features[name] is not None:
        yield ok("yes" if features[name] else without)


def _rx_metadata(facts: Facts) -> Iterator[Answer]:
    features = facts["features"]
    if features["is_rx_timestamp"] is None:
        yield from _untold(features)
        return
    names = {"timestamp": "is_rx_timestamp", "hash": "is_rx_hash", "VLAN tag": "is_rx_vlan_tag"}
    there = [word for word, name in names.items() if features[name]]
    missing = [word for word, name in names.items() if not features[name]]
    text = ", ".join(there) or "none"
    if there and missing:
        text += f"; no {' nor '.join(missing)}"
    if facts["link"]["kind"]:
        yield ok(text.replace("timestamp", "timestamp (none without hardware)"))
    elif not features["is_rx_timestamp"]:
        yield doubt(f"{text}: received packets have no HARDWARE timestamp")
    else:
        yield ok(text)
    if facts.get("strips_vlan_tags") and not features["is_rx_vlan_tag"]:
        advice = f"ethtool -K {facts['link']['ifname']} rxvlan off"
        yield doubt("the NIC strips VLAN tags, and nothing tells of them", advice)


def _untold(features: dict[str, Any]) -> Iterator[Answer]:
    yield doubt(
        f"not known: {features['unknown']}", "use a newer kernel; a run finds out by trying"
    )


def _programs(facts: Facts) -> Iterator[Answer]:
    programs = facts["link"]["xdp"]
    if not programs:
        yield ok("none attached")
    for program in programs:
        text = f"id {program['prog_id']} is attached ({program['mode']} mode)"
        advice = "end its owner (bpftool prog show), or use --force to replace it during the run"
        yield doubt(text, advice, is_blocking=True)


def _phc(facts: Facts) -> Iterator[Answer]:
    info, phc = facts["timestamping"], facts.get("phc")
    if info is None or info["phc_index"] < 0:
        yield lacks("none")
    elif phc is None:
        yield ok(f"/dev/ptp{info['phc_index']}")
    else:
        name = f" ({phc['name']})" if phc["name"] else ""
        yield ok(f"{phc['device']}{name}, read by method {phc['method']}")


def _phc_offset(facts: Facts) -> Iterator[Answer]:
    phc = facts.get("phc")
    if phc is None:
        return
    offset_ns = phc["offset_ns"]
    from_utc_ns = offset_ns + phc["tai_offset_s"] * _NS_PER_S
    text = f"{_seconds(offset_ns)} (+-{phc['uncertainty_ns'] / 1000:.3f} us)"
    advice = "each run measures it; xdptstamp phc set makes it 0"
    if abs(offset_ns) <= _IN_STEP_NS:
        yield ok(text)
    elif abs(from_utc_ns - _TAI_NS) <= _IN_STEP_NS:
        yield ok(f"{text}: the PHC is on TAI, which the kernel was not told")
    elif abs(from_utc_ns) <= _IN_STEP_NS:
        yield doubt(f"{text}: the PHC is on UTC", advice)
    else:
        yield doubt(f"{text}: the PHC is on no known time", advice)


def _seconds(offset_ns: int) -> str:
    seconds, rest = divmod(abs(offset_ns), _NS_PER_S)
    return f"{'-' if offset_ns < 0 else '+'}{seconds}.{rest:09d} s"


def _offered(facts: Facts) -> Iterator[Answer]:
    info, hwtstamp = facts["timestamping"], facts["hwtstamp"]
    if info is None or hwtstamp is None:
        yield lacks("no such setting")
        return
    if not info["tx_types"] >> _TX_ON & 1:
        yield lacks(f"{hwtstamp['text']}; Tx timestamps cannot be turned on")
    elif not info["rx_filters"] >> _RX_ALL & 1:
        text = f"{hwtstamp['text']}; not every received packet can be stamped"
        yield doubt(text, "see xdptstamp hwtstamp show")
    elif hwtstamp["is_tx_on"] and not facts.get("users"):
        advice = "is it ptp4l? it shares the timestamps; --hwtstamp keep leaves it as it is"
        yield doubt(f"{hwtstamp['text']}: something else turned it on", advice)
    else:
        yield ok(f"{hwtstamp['text']}; a run sets tx on, rx all, and restores it")


def _users(facts: Facts) -> Iterator[Answer]:
    users = facts["users"]
    if users:
        pids = ", ".join(map(str, users))
        yield doubt(f"a measurement of xdptstamp (process {pids})", "wait for its end")


def _slots(facts: Facts) -> Iterator[Answer]:
    driver = _driver_of(facts)
    if driver is None or driver.num_stamp_slots is None:
        return
    if driver.num_stamp_slots == 0:
        yield ok("no limit: each completion brings its packet's")
        return
    text = f"{driver.num_stamp_slots} at once, all queues and the stack together"
    if driver.tx_timeout_s is not None:
        text += f"; given up after {driver.tx_timeout_s:g} s"
    yield ok(text)


def _counters(facts: Facts) -> Iterator[Answer]:
    driver = _driver_of(facts)
    if driver is None or not (facts.get("features") or {}).get("is_tx_timestamp"):
        return
    found = facts["counters"]
    missing = [role for role in _ROLES if role not in found]
    if not missing:
        yield ok(", ".join(found.values()))
    elif not driver.counters:
        advice = "missing timestamps are not reconcilable: only our own books tell of them"
        yield doubt(f"{driver.name} counts no missing timestamps", advice)
    else:
        names = ", ".join(driver.counters[role] for role in missing if role in driver.counters)
        yield doubt(f"this kernel's {driver.name} has no {names}", "update the kernel")


def _faults(facts: Facts) -> Iterator[Answer]:
    name = facts.get("faults_of")
    if name is None:
        return
    if not facts["faults"]:
        yield ok(f"none of those known of {name}")
    for fault in facts["faults"]:
        source = f"{fault['source']}; {_certainty(fault)}"
        yield doubt(fault["effect"], fault["care"], source)


def _certainty(fault: dict[str, Any]) -> str:
    if fault["presence"] == Presence.PROBED:
        return f"this driver has no {fault['fixed_by']}, which the fix brings"
    if fault["absent_in"] is None:
        return "no fix is known"
    fixed = ", ".join((fault["absent_in"], *fault["stable"]))
    return f"judged by version (fixed in {fixed}); a distribution may have the fix"


def _driver_of(facts: Facts) -> Driver | None:
    return known_driver((facts.get("driver") or {}).get("driver", ""))


RULES = (
    Rule("xdp", "XDP", ("features",), _xdp),
    Rule("zero-copy", "zero-copy", ("features",), _zero_copy),
    Rule("tx-timestamp", "Tx timestamp", ("features",), _tx_timestamp),
    Rule("tx-checksum", "Tx checksum", ("features",), _tx_checksum),
    Rule("launch-time", "launch time", ("features",), _launch_time),
    Rule("rx-metadata", "Rx metadata", ("features",), _rx_metadata),
    Rule("xdp-program", "XDP program", (), _programs),
    Rule("phc", "PHC", ("timestamping",), _phc),
    Rule("phc-tai", "PHC - TAI", ("phc",), _phc_offset),
    Rule("hwtstamp", "hwtstamp", ("timestamping", "hwtstamp"), _offered),
    Rule("users", "in use by", ("users",), _users),
    Rule("stamp-slots", "stamp slots", (), _slots),
    Rule("counters", "stamp counters", ("counters",), _counters),
    Rule("fault", "known fault", ("faults",), _faults),
)
