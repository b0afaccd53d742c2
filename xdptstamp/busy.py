# SPDX-License-Identifier: GPL-2.0-only
"""What CPUs do beside a measurement: how fast they go, how deep they sleep, who takes interrupts.

The kernel counts the last two since it started; :class:`BusyWatch` reads them before and after a
run.
Whatever is not there, in a guest for one, is left out. Plain data that JSON can hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CPUS = "sys/devices/system/cpu"
_CPU_OF_HEADER = re.compile(r"CPU(\d+)")

# By (name, exit latency in us) and CPU; by interrupt number.
_Sleeps = dict[tuple[str, int], dict[int, int]]
_Interrupts = dict[int, tuple[str, dict[int, int]]]


class BusyWatch:
    """Counts from the moment it is made.

    :param ifname: whose interrupts are counted; None: nobody's.
    :param root: where /proc and /sys are looked for.
    """

    def __init__(self, ifname: str | None = None, root: Path = Path("/")) -> None:
        self._root = root
        self._irqs = _irqs_of(ifname, root) if ifname else []
        self._sleeps = _sleeps(root)
        self._interrupts = _interrupts(self._irqs, root)

    def idle_states(self) -> list[dict[str, Any]]:
        """How often CPUs have entered each idle state since then, the deepest last.

        ``latency_us``: to wake from it, as the driver states it; ``entered``: by CPU, as text.
        """
        found = []
        for (name, latency_us), after in sorted(_sleeps(self._root).items(), key=_latency):
            before = self._sleeps.get((name, latency_us), {})
            entered = _gained(before, after)
            if entered:
                found.append({"name": name, "latency_us": latency_us, "entered": entered})
        return found

    def interrupts(self) -> list[dict[str, Any]]:
        """The interface's interrupts since then: ``irq``, ``name``, and by CPU how many."""
        found = []
        for irq, (name, after) in _interrupts(self._irqs, self._root).items():
            taken = _gained(self._interrupts.get(irq, ("", {}))[1], after)
            if taken:
                found.append({"irq": irq, "name": name, "taken": taken})
        return found


def governors(root: Path = Path("/")) -> dict[str, list[int]]:
    """CPUs by the frequency governor they have; empty where there is none.

    :param root: where /sys is looked for.
    """
    found: dict[str, list[int]] = {}
    for path in (root / _CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor"):
        governor = _text(path)
        if governor:
            found.setdefault(governor, []).append(int(path.parts[-3].removeprefix("cpu")))
    return {governor: sorted(cpus) for governor, cpus in found.items()}


def _latency(item: tuple[tuple[str, int], Any]) -> tuple[int, str]:
    (name, latency_us), _ = item
    return latency_us, name


# Keys of a JSON object are text.
def _gained(before: dict[int, int], after: dict[int, int]) -> dict[str, int]:
    gained = {cpu: count - before.get(cpu, 0) for cpu, count in sorted(after.items())}
    return {str(cpu): count for cpu, count in gained.items() if count > 0}


def _sleeps(root: Path) -> _Sleeps:
    # Documentation/ABI/testing/sysfs-devices-system-cpu: usage counts the times it was entered.
    found: _Sleeps = {}
    for folder in (root / _CPUS).glob("cpu[0-9]*/cpuidle/state[0-9]*"):
        name, latency, usage = (_text(folder / each) for each in ("name", "latency", "usage"))
        if name and latency.isdecimal() and usage.isdecimal():
            cpu = int(folder.parts[-3].removeprefix("cpu"))
            found.setdefault((name, int(latency)), {})[cpu] = int(usage)
    return found


def _irqs_of(ifname: str, root: Path) -> list[int]:
    # The vectors of the device: of a virtio interface those of the PCI device it is on.
    device = root / "sys/class/net" / ifname / "device"
    for folder in (device, device / ".."):
        numbers = [path.name for path in folder.glob("msi_irqs/*")] or [_text(folder / "irq")]
        irqs = [int(number) for number in numbers if number.isdecimal() and number != "0"]
        if irqs:
            return sorted(irqs)
    return []


def _interrupts(irqs: list[int], root: Path) -> _Interrupts:
    lines = iter(_text(root / "proc/interrupts").splitlines()) if irqs else iter(())
    cpus = [int(number) for number in _CPU_OF_HEADER.findall(next(lines, ""))]
    return {
        irq: (name, dict(zip(cpus, counts, strict=True)))
        for irq, name, counts in _rows(lines, len(cpus))
        if irq in irqs
    }


# " 125:  7  0  PCI-MSIX-0000:03:00.0  1-edge  eth1-TxRx-0"
def _rows(lines: Iterator[str], num_cpus: int) -> Iterator[tuple[int, str, list[int]]]:
    for line in lines:
        number, _, rest = line.partition(":")
        words = rest.split()
        counts = words[:num_cpus]
        if number.strip().isdecimal() and len(counts) == num_cpus:
            if all(count.isdecimal() for count in counts):
                yield int(number), words[-1], [int(count) for count in counts]


def _text(path: Path) -> str:
    # Empty: it is not there, or not for this user to read; a CPU may be taken away at any time.
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
