# SPDX-License-Identifier: GPL-2.0-only
"""The declared keys: what two runs must have in common before their numbers are held against each
other.

Those that *pair* say what was measured where: runs that differ in one are not of one pair. Those
that are *held* are what may have changed meanwhile: a difference in one of them, which nobody asked
about, is refused. A run that does not note a key (an old one) is taken to agree, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdptstamp.bandwidth import sources
from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import RunInfo
from xdptstamp.text.lines import duration
from xdptstamp.text.mixed_tables import setting_label

#: Keys of a setting of ``mixed``: they pair settings, not runs.
SETTING_KEYS = ("size", "ratio")


@dataclass(frozen=True, slots=True)
class Noted:
    """What is known of a run: its info, and of ``mixed`` its settings and rounds."""

    info: RunInfo
    settings: Sequence[Setting] = ()
    rounds: Sequence[Round] = ()


def _text(value: object) -> str | None:
    if value is None or value in ("", [], {}):
        return None
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, Mapping):
        return " ".join(f"{name}={each}" for name, each in sorted(value.items()))
    return str(value)


def _of(part: str, name: str) -> Callable[[Noted], str | None]:
    return lambda noted: _text(getattr(noted.info, part).get(name))


# What was not asked for is known to be so, if the run notes what it was asked at all.
def _asked(name: str, absent: str) -> Callable[[Noted], str | None]:
    def value(noted: Noted) -> str | None:
        asked: Mapping[str, Any] = noted.info.asked
        return (_text(asked[name]) or absent) if name in asked else None

    return value


def _obtained(name: str, absent: str) -> Callable[[Noted], str | None]:
    def value(noted: Noted) -> str | None:
        obtained: Mapping[str, Any] = noted.info.obtained
        return (_text(obtained[name]) or absent) if name in obtained else None

    return value


def _kernel(noted: Noted) -> str | None:
    # Two builds of one tree differ in their version alone.
    known = (noted.info.dut.get("kernel_release"), noted.info.dut.get("kernel_version"))
    return " ".join(str(each) for each in known if each) or None


def _governors(noted: Noted) -> str | None:
    found: Mapping[str, Sequence[int]] = noted.info.dut.get("governors") or {}
    return ", ".join(f"{name}={len(found[name])}" for name in sorted(found)) or None


def _dut(noted: Noted) -> str | None:
    dut = noted.info.dut
    host = _text(dut.get("hostname"))
    return f"{dut['dut_id']} ({host})" if dut.get("dut_id") else host


# A virtual link has another address each time.
def _nic(noted: Noted) -> str | None:
    nic = noted.info.nic
    return _text(nic.get("mac")) if nic.get("bus") else None


# That of a driver in the kernel is the kernel's.
def _driver_version(noted: Noted) -> str | None:
    version = _text(noted.info.nic.get("driver_version"))
    return None if version == noted.info.dut.get("kernel_release") else version


def _interval(noted: Noted) -> str | None:
    interval_ns = noted.info.asked.get("interval_ns")
    return duration(interval_ns) if isinstance(interval_ns, int) else None


def _sizes(noted: Noted) -> str | None:
    if noted.settings:
        return ",".join(str(size) for size in sorted({each.size_bytes for each in noted.settings}))
    return _text(noted.info.obtained.get("size_bytes"))


def _ratios(noted: Noted) -> str | None:
    found = [setting_label(each) for each in noted.settings if not each.is_baseline]
    return ",".join(dict.fromkeys(found)) or None


@dataclass(frozen=True, slots=True)
class Key:
    """A declared key.

    :param of: its value in a run; None: not noted.
    :param is_held: it may have changed meanwhile; else it pairs.
    """

    name: str
    meaning: str
    of: Callable[[Noted], str | None]
    is_held: bool = False


#: All of them, in the order shown.
KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key("kind", "kind of run", lambda noted: noted.info.kind),
        Key("timestamps", "hardware or software", lambda noted: noted.info.timestamps),
        Key("dut", "the machine", _dut),
        Key("nic", "its card, by MAC address", _nic),
        Key("mode", "zero-copy or copy", _of("obtained", "mode")),
        Key("xdp-mode", "native or skb", _of("obtained", "xdp_mode")),
        Key("queues", "queues used", _of("obtained", "queues")),
        Key("cpu", "CPU it was bound to", _obtained("cpu", "any")),
        Key("sched", "scheduling class", _of("obtained", "sched")),
        Key("wait", "poll or spin", _of("obtained", "wait")),
        Key("batch", "packets submitted together", _of("obtained", "batch")),
        Key("pending", "--max-pending-timestamps", _obtained("max_pending", "not limited")),
        Key("rate", "--rate", _asked("rate", "as fast as it goes")),
        Key("interval", "of ping", _interval),
        Key("family", "IPv4 or IPv6, of ping", _of("obtained", "family")),
        Key("size", "frame size", _sizes),
        Key("ratio", "stamped to plain", _ratios),
        Key("kernel", "release and build", _kernel, is_held=True),
        Key("preemption", "of the kernel", _of("dut", "preemption"), is_held=True),
        Key("cmdline", "of the kernel, what matters", _of("dut", "cmdline"), is_held=True),
        Key("governors", "on how many CPUs", _governors, is_held=True),
        Key("cpu-model", "of the DUT", _of("dut", "cpu_model"), is_held=True),
        Key("driver", "of the NIC", _of("nic", "driver"), is_held=True),
        Key("driver-version", "if not the kernel's", _driver_version, is_held=True),
        Key("firmware", "of the NIC", _of("nic", "firmware"), is_held=True),
        Key("speed", "of the link, Mbit/s", _of("nic", "speed_mbps"), is_held=True),
        Key("rings", "their sizes", _of("nic", "ring_sizes"), is_held=True),
        Key("hwtstamp", "the NIC's setting", _of("obtained", "hwtstamp"), is_held=True),
        Key("umem", "frames and metadata", _of("obtained", "umem"), is_held=True),
        Key("budget", "XDP_MAX_TX_SKB_BUDGET", _of("obtained", "max_tx_skb_budget"), is_held=True),
        Key("partner", "type of the link partner", _of("partner", "remote_type"), is_held=True),
        Key(
            "counted-by",
            "who counted what arrived",
            lambda noted: _text(sources(noted.rounds)),
            is_held=True,
        ),
        Key("xdptstamp", "its version", _of("versions", "xdptstamp"), is_held=True),
        Key("label", "--label", lambda noted: _text(noted.info.label), is_held=True),
    )
}

#: Never compared unless asked for: what the user wrote.
_FREE = ("label",)


def names_of(*, is_held: bool, by: Sequence[str], kind: str) -> list[str]:
    """The keys of one sort that must agree, where runs are compared ``by`` others."""
    free = {*_FREE, *by, *(SETTING_KEYS if kind == "mixed" else ())}
    return [key.name for key in KEYS.values() if key.is_held == is_held and key.name not in free]


def values_of(noted: Noted) -> dict[str, str | None]:
    """All declared keys of a run."""
    return {name: key.of(noted) for name, key in KEYS.items()}


def setting_name(setting: Setting, by: Sequence[str]) -> str:
    """What a setting is called and paired by, without what is compared."""
    parts = [] if "size" in by else [str(setting.size_bytes)]
    if "ratio" not in by or setting.is_baseline:
        parts.append(setting_label(setting))
    else:
        parts.append("stamped")
    return " ".join(parts)
