# SPDX-License-Identifier: GPL-2.0-only
"""Settings of a NIC and of CPUs that spoil a measurement: one judge for each, of plain data.

``caps`` says what they find before a run, the warnings of a run what they find of its run info.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdptstamp.drivers import known_driver

#: A delay shorter than what a packet takes through a stack is not worth a word. A ping-pong over
#: igc in zero-copy mode takes 15 us from the wire to the application and 66 us to the reply (Linux
#: commit 15fd021bc427, "igc: Add Tx hardware timestamp request for AF_XDP zero-copy packet").
SHORT_US = 10

# They keep a CPU at one speed; "userspace" at what somebody has set. All others follow the load.
_STEADY_GOVERNORS = ("performance", "userspace")


@dataclass(frozen=True, slots=True)
class Spoiler:
    """A setting that spoils a measurement.

    :param title: what is set, for the beginning of a sentence.
    :param value: how it is set.
    :param effect: what that does to a measurement.
    """

    key: str
    title: str
    value: str
    effect: str
    limit: str
    advice: str


def coalescing_words(found: Mapping[str, Any]) -> str:
    """``rx-usecs 3, adaptive-rx on``."""
    usecs = [(f"{side}-usecs", found[f"{side}_usecs"]) for side in ("rx", "tx")]
    words = [f"{name} {value}" for name, value in usecs if value is not None]
    words += [f"adaptive-{side} on" for side in ("rx", "tx") if found[f"is_adaptive_{side}"]]
    return ", ".join(words) or "by packets alone"


def coalescing(found: Mapping[str, Any], driver_name: str, ifname: str) -> Spoiler | None:
    """Interrupts that are held back.

    :param found: :class:`xdptstamp.nic.Coalescing` as a dictionary.
    """

    def spoiler(effect: str, options: str) -> Spoiler:
        limit = f"less than {SHORT_US} us, and not by the traffic"
        advice = f"ethtool -C {ifname} {options}"
        words = coalescing_words(found)
        return Spoiler("coalescing", "interrupt coalescing", words, effect, limit, advice)

    if found["is_adaptive_rx"] or found["is_adaptive_tx"]:
        options = "adaptive-rx off adaptive-tx off rx-usecs 0"
        return spoiler("the driver chooses the delay by the traffic", options)
    driver = known_driver(driver_name)
    for side in ("rx", "tx"):  # a queue may have one interrupt for both, which rx-usecs sets
        usecs, options = found[f"{side}_usecs"] or 0, f"{side}-usecs 0"
        if driver is not None and usecs in driver.dynamic_usecs:
            return spoiler(f"{usecs} has {driver.name} choose the delay by the traffic", options)
        if usecs >= SHORT_US:
            return spoiler("latencies and hold times are longer by up to that", options)
    return None


def eee(found: Mapping[str, Any], ifname: str) -> Spoiler | None:
    """Energy-Efficient Ethernet, if the link partner has agreed to it.

    :param found: :class:`xdptstamp.nic.Eee` as a dictionary.
    """
    if not (found["is_enabled"] and found["is_active"]):
        return None
    advice = f"ethtool --set-eee {ifname} eee off"
    effect = "waking the link delays packets"
    return Spoiler("eee", "Energy-Efficient Ethernet", "active", effect, "off", advice)


def pause(found: Mapping[str, Any], ifname: str) -> Spoiler | None:
    """Flow control by pause frames.

    :param found: :class:`xdptstamp.nic.Pause` as a dictionary.
    """
    on = [name.title() for name in ("rx", "tx") if found[name]]
    if not on:
        return None
    advice = f"ethtool -A {ifname} autoneg off rx off tx off"
    value, effect = f"{' and '.join(on)} on", "pause frames stop the sender"
    return Spoiler("pause", "flow control", value, effect, "off", advice)


def governor(
    found: Mapping[str, Sequence[int]], cpus: Collection[int] | None = None
) -> Spoiler | None:
    """CPUs whose speed follows their load: they are slow just after they slept.

    :param found: CPUs by the name of their frequency governor.
    :param cpus: those that matter; None: all.
    """
    moving = {
        name: [cpu for cpu in of_name if cpus is None or cpu in cpus]
        for name, of_name in found.items()
        if name not in _STEADY_GOVERNORS
    }
    words = [f"{name} on {cpu_words(of_name)}" for name, of_name in moving.items() if of_name]
    if not words:
        return None
    return Spoiler(
        "governor",
        "frequency governor",
        ", ".join(words),
        "the CPU's speed follows its load, and latencies with it",
        "performance",
        "cpupower frequency-set -g performance",
    )


def cpu_words(cpus: Collection[int]) -> str:
    """``CPU 3``, ``CPUs 0-3, 8``."""
    parts: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if parts and cpu == parts[-1][-1] + 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    words = [str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts]
    return f"CPU{'s' if len(set(cpus)) > 1 else ''} {', '.join(words)}"
