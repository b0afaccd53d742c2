# SPDX-License-Identifier: GPL-2.0-only
"""What the facts about a machine mean."""

from __future__ import annotations

from collections.abc import Iterator

from xdptstamp.assess import spoilers
from xdptstamp.assess.rules import Answer, Rule, apply_rules, doubt, lacks, ok
from xdptstamp.finding import Facts, Section

#: What the UMEM of one queue pins (``DutConfig``'s frames).
UMEM_BYTES = 4 << 20
#: Where the rings are used without libxdp (``ring.uses_direct_access``).
X86 = ("x86_64", "i686", "i386")


def assess_machine(facts: Facts) -> Section:
    """Findings about a machine, from :func:`xdptstamp.caps.read_machine`."""
    return Section(f"machine {facts['machine']['hostname']}", apply_rules(_RULES, facts))


def _kernel(facts: Facts) -> Iterator[Answer]:
    machine = facts["machine"]
    words = [f"Linux {machine['kernel_release']}"]
    if machine["preemption"]["model"] != "none":
        words.append(machine["preemption"]["model"])
    if machine["is_guest"]:
        words.append("a guest")
    yield ok(", ".join(words))


def _af_xdp(facts: Facts) -> Iterator[Answer]:
    answers = {
        "tx-metadata": ok("sockets, and Tx metadata in their UMEM"),
        "no-tx-metadata": lacks(
            "sockets, but no Tx metadata in their UMEM",
            "Linux 6.11 or newer has it (late 6.10.y as well); sink needs none",
            is_blocking=True,
        ),
        "none": lacks("none", "use a kernel with CONFIG_XDP_SOCKETS", is_blocking=True),
    }
    yield answers[facts["af_xdp"]]


def _libxdp(facts: Facts) -> Iterator[Answer]:
    version, install = facts["libxdp"], "apt install libxdp1 (Debian)"
    if version == "none":
        if facts["machine"]["machine"] in X86:
            yield doubt("none: --dispatcher cannot be used", install)
        else:
            advice = f"on this CPU the rings need it: {install}"
            yield lacks("none", advice, is_blocking=True)
        return
    name = "version unknown" if version == "unknown" else f"libxdp.so.{version}"
    unread = facts.unread.get("libxdp_tx_metadata")
    if unread is not None:
        yield doubt(f"{name}; not known whether it has Tx metadata", unread.advice)
    elif facts["libxdp_tx_metadata"]:
        yield ok(f"{name}, with Tx metadata")
    else:
        yield ok(f"{name} has no Tx metadata (1.5.2 has): the kernel is asked directly")


def _libbpf(facts: Facts) -> Iterator[Answer]:
    version = facts["libbpf"]
    if version == "none":
        yield lacks("none", "apt install libbpf1 (Debian)", is_blocking=True)
    else:
        yield ok(version)


def _btf(facts: Facts) -> Iterator[Answer]:
    if facts["btf"]:
        yield ok("of the kernel")
    else:
        advice = "use a kernel with CONFIG_DEBUG_INFO_BTF"
        yield lacks("none: no Rx timestamp, hash or VLAN tag can be asked for", advice)


def _privilege(facts: Facts) -> Iterator[Answer]:
    missing = facts["missing_capabilities"]
    if missing:
        advice = "run as root (sudo), or give it these alone"
        yield lacks(f"{_join(missing)} to measure", advice, is_blocking=True)
    else:
        yield ok("enough to measure")
    missing = facts["missing_for_sched"]
    if missing:
        yield doubt(f"no {_join(missing)}: --sched cannot be used", "run as root (sudo)")


def _locked_memory(facts: Facts) -> Iterator[Answer]:
    limit = facts["lockable_bytes"]
    if limit is None:
        yield ok("no limit")
        return
    num_queues, size = limit // UMEM_BYTES, f"{limit / (1 << 20):.3g} MiB"
    advice = "raise it (ulimit -l), or give CAP_IPC_LOCK"
    if num_queues:
        queues = "one queue" if num_queues == 1 else f"{num_queues} queues"
        yield doubt(f"{size}: enough for {queues}", advice)
    else:
        yield lacks(f"{size}: not enough for one queue", advice, is_blocking=True)


def _tai(facts: Facts) -> Iterator[Answer]:
    offset_s = facts["clocks"]["tai_offset_s"]
    if offset_s:
        yield ok(f"{offset_s} s ahead of UTC")
    else:
        yield ok("not told to the kernel, as is usual: CLOCK_TAI shows UTC")
    leap = facts["clocks"]["leap"]
    if leap != "none":
        when = "is happening" if leap == "happening" else f"({leap}) at the end of this UTC day"
        yield doubt(f"leap second {when}: CLOCK_REALTIME steps", "do not measure across it")


def _governor(facts: Facts) -> Iterator[Answer]:
    found = facts["machine"].get("governors")  # none in a guest
    if not found:
        return
    spoiler = spoilers.governor(found)
    if spoiler:
        yield doubt(f"{spoiler.value}: {spoiler.effect}", spoiler.advice)
    else:
        yield ok(", ".join(found))


def _servos(facts: Facts) -> Iterator[Answer]:
    servos = facts["servos"]
    if not servos:
        yield ok("no ptp4l, phc2sys or ts2phc runs")
        return
    advice = "they ask for timestamps, too, and steer the clock; end them to measure alone"
    yield doubt(f"{', '.join(servos)} {'runs' if len(servos) == 1 else 'run'}", advice)


def _join(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


_RULES = (
    Rule("kernel", "kernel", ("machine",), _kernel),
    Rule("af-xdp", "AF_XDP", ("af_xdp",), _af_xdp),
    Rule("libxdp", "libxdp", ("libxdp",), _libxdp),
    Rule("libbpf", "libbpf", ("libbpf",), _libbpf),
    Rule("btf", "BTF", ("btf",), _btf),
    Rule("privilege", "privilege", ("missing_capabilities", "missing_for_sched"), _privilege),
    Rule("locked-memory", "locked memory", ("lockable_bytes",), _locked_memory),
    Rule("tai", "TAI", ("clocks",), _tai),
    Rule("governor", "CPU speed", ("machine",), _governor),
    Rule("servos", "clock servos", ("servos",), _servos),
)
