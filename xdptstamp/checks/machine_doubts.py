# SPDX-License-Identifier: GPL-2.0-only
"""What the machine and the interface did to a run, by what its run info has noted of them.

``caps`` says the same of settings before a run, by the same judges
(:mod:`xdptstamp.assess.spoilers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xdptstamp.assess import spoilers
from xdptstamp.assess.spoilers import SHORT_US, Spoiler, cpu_words
from xdptstamp.drivers import pause_counters
from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.stats import Summary

#: The share of packets that waking a CPU may delay and no percentile up to p99.9 shows it.
MAX_WOKEN_PER_MILLE = 1
#: Of an interface's interrupts, those of one of them that CPUs beside its first one may take: it is
#: moved but once by whoever sets an affinity.
MAX_MOVED_PERCENT = 1

# What a run that counts packets is measured by.
_PACKETS = {"ping-pong": "received", "ping": "sent", "mixed": "sent"}


def machine_warnings(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    """Everything that spoilt a run from outside, as far as its run info tells."""
    for spoiler in _spoilers(info):
        yield _warning(spoiler)
    yield from _check_pause(info)
    yield from _check_idle(info, summary)
    yield from _check_interrupts(info)


def pause_warning(moved: Mapping[str, int]) -> Iterator[Warning]:
    """Pause frames that came while a run lasted.

    :param moved: what each counter gained.
    """
    words = [f"{name} {count}" for name, count in moved.items() if count]
    if words:
        yield Warning(
            "pause-frames",
            "pause frames: flow control held the sender back, which looks like cost",
            ", ".join(words),
            "0",
            "turn it off on both ends (ethtool -A IFNAME rx off tx off), and measure again",
        )


def _spoilers(info: RunInfo) -> Iterator[Spoiler]:
    nic, ifname = info.nic, str(info.nic.get("ifname") or "IFNAME")
    driver = nic.get("driver") or ""
    found = [
        spoilers.coalescing(nic["coalescing"], driver, ifname) if nic.get("coalescing") else None,
        spoilers.eee(nic["eee"], ifname) if nic.get("eee") else None,
        spoilers.governor(info.dut.get("governors") or {}, _own_cpus(info)),
    ]
    yield from (each for each in found if each is not None)


def _warning(spoiler: Spoiler) -> Warning:
    message = f"{spoiler.title}: {spoiler.effect}"
    return Warning(spoiler.key, message, spoiler.value, spoiler.limit, spoiler.advice)


# The CPU the measuring process was pinned to; None: it ran on any.
def _own_cpus(info: RunInfo) -> set[int] | None:
    cpu = info.obtained.get("cpu")
    return {cpu} if isinstance(cpu, int) else None


def _check_pause(info: RunInfo) -> Iterator[Warning]:
    # Those of mixed are in its rounds, without what came between these.
    driver, nic = info.nic.get("driver") or "", info.nic
    names = pause_counters(driver, info.counters)
    if info.kind != "mixed":
        gained = {n: info.counters[n]["after"] - info.counters[n]["before"] for n in names}
        yield from pause_warning(gained)
    spoiler = spoilers.pause(nic["pause"], nic.get("ifname", "")) if nic.get("pause") else None
    # Flow control is on by default, and harmless until a frame comes.
    if spoiler is not None and nic.get("pause_counters") == []:
        yield Warning(
            "pause-uncounted",
            "flow control is on, and no counter of the driver tells whether pause frames came",
            spoiler.value,
            spoiler.limit,
            spoiler.advice,
        )


def _check_idle(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    cpus = _idle_cpus(info)
    deep = [
        (state, sum(entered.values()), list(entered))
        for state in info.dut.get("idle_states") or []
        if state["latency_us"] >= SHORT_US
        if (entered := _of_cpus(state["entered"], cpus))
    ]
    packets = info.counts.get(_PACKETS.get(info.kind, ""))
    packets = packets if isinstance(packets, int) else summary.num_samples
    if sum(count for _, count, _ in deep) * 1000 > MAX_WOKEN_PER_MILLE * packets:
        words = [
            f"{state['name']} ({state['latency_us']} us) {count} times on {cpu_words(on)}"
            for state, count, on in deep
        ]
        yield Warning(
            "idle-states",
            "CPUs slept deeply, and took up to their exit latency to wake for a packet",
            f"{', '.join(words)}; {packets} packets",
            f"below {SHORT_US} us, or {MAX_WOKEN_PER_MILLE} in 1000 packets",
            f"cpupower idle-set -D {SHORT_US}, or keep /dev/cpu_dma_latency open at 0",
        )


# Whose sleep can delay a packet; None: anybody's. Beside a sender that is never idle and runs
# anywhere the other CPUs sleep, and nobody waits for them.
def _idle_cpus(info: RunInfo) -> set[int] | None:
    own, taking = _own_cpus(info), set(_taken(info))
    if own is None and info.kind != "mixed":
        return None
    return (own or set()) | taking


def _of_cpus(by_cpu: Mapping[str, int], cpus: set[int] | None) -> dict[int, int]:
    found = {int(cpu): count for cpu, count in by_cpu.items() if cpu.isdecimal()}
    return {cpu: count for cpu, count in found.items() if cpus is None or cpu in cpus}


# The interface's interrupts by CPU.
def _taken(info: RunInfo) -> dict[int, int]:
    total: dict[int, int] = {}
    for each in info.nic.get("interrupts") or []:
        for cpu, count in _of_cpus(each["taken"], None).items():
            total[cpu] = total.get(cpu, 0) + count
    return total


def _check_interrupts(info: RunInfo) -> Iterator[Warning]:
    moved = []
    for each in info.nic.get("interrupts") or []:
        taken = _of_cpus(each["taken"], None)
        total = sum(taken.values())
        beside = total - max(taken.values(), default=0)
        if beside * 100 > MAX_MOVED_PERCENT * total:
            moved.append(f"{each['irq']} ({each['name']}) on {cpu_words(taken)}")
    if moved:
        yield Warning(
            "interrupts-moved",
            "the interface's interrupts moved from CPU to CPU while it was measured",
            f"interrupt {', '.join(moved)}",
            f"{100 - MAX_MOVED_PERCENT} % of each on one CPU",
            "stop irqbalance, and write one CPU into /proc/irq/N/smp_affinity_list",
        )
    yield from _check_shared_cpu(info)


def _check_shared_cpu(info: RunInfo) -> Iterator[Warning]:
    # A process that never sleeps in real time keeps the softirq off its CPU; one that is scheduled
    # as others are is interrupted, and both wait for each other.
    cpu = info.obtained.get("cpu")
    is_busy = info.kind == "mixed" or info.obtained.get("wait") == "spin"
    count = _taken(info).get(cpu, 0) if isinstance(cpu, int) else 0
    if is_busy and count * 100 > sum(_taken(info).values()):
        yield Warning(
            "interrupts-on-own-cpu",
            "the interface's interrupts are taken by the CPU on which the measuring process spins",
            f"CPU {cpu}: {count} of {sum(_taken(info).values())} interrupts",
            "1 %",
            "give the process another --cpu, or move them by /proc/irq/N/smp_affinity_list",
        )
