# SPDX-License-Identifier: GPL-2.0-only
"""The parts of the run info that describe machine, versions, NIC and its counters.

Everything returned is plain data that JSON can hold.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xdptstamp.busy import governors
from xdptstamp.drivers import pause_counters
from xdptstamp.features import read_features
from xdptstamp.hwtstamp import read_hwtstamp
from xdptstamp.nic import Nic

# Boot parameters that change what is measured. Others are not kept: they may hold secrets.
_CMDLINE_KEYS = frozenset(
    "isolcpus nohz_full nohz rcu_nocbs rcu_nocb_poll irqaffinity mitigations preempt threadirqs "
    "idle nosmt nosoftlockup nowatchdog nmi_watchdog skew_tick tsc clocksource iommu intel_iommu "
    "amd_iommu pcie_aspm pcie_port_pm hugepages default_hugepagesz hugepagesz processor.max_cstate "
    "intel_idle.max_cstate intel_pstate amd_pstate cpufreq.default_governor maxcpus nr_cpus "
    "spectre_v2 spec_store_bypass_disable kpti nopti retbleed tsx efi".split()
)

# What firmware says when its maker filled in nothing; such a serial tells no two boards apart.
_NO_SERIAL = re.compile(
    r"|none|n/?a|unknown|default string|system serial number|not (specified|applicable|available)|"
    r"to be filled by o\.?e\.?m\.?|base board serial number|0*123456789\w*|[0f\-.\s]+|"
    r"03000200-0400-0500-0006-000700080009",
    re.IGNORECASE,
)
_SERIAL_FILES = {
    "product_uuid": "sys/class/dmi/id/product_uuid",
    "board_serial": "sys/class/dmi/id/board_serial",
    "device_tree_serial": "proc/device-tree/serial-number",
}
_VIRTUAL_VENDORS = ("qemu", "vmware", "xen", "innotek", "virtualbox", "amazon ec2", "google")

_DISTRIBUTIONS = ("xdptstamp", "numpy", "pandas", "pyarrow", "pyroute2", "scipy", "click", "rich")

#: The smallest set that ping-pong runs with; see the README. CAP_PERFMON: without it the kernel's
#: verifier allows no pointer to where a VLAN tag or an IPv6 extension may have moved a header.
CAPABILITIES = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON")

# Bits of /proc/self/status CapEff: include/uapi/linux/capability.h.
_BITS = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}


def collect_dut(root: Path = Path("/")) -> dict[str, Any]:
    """The machine: who it is, what it runs, how its CPUs are set.

    ``dut_id`` is the same after reboots and updates, and tells machines apart; it gives away
    neither machine-id nor serials. ``dut_id_from`` names what went into it: less of that can be
    read without root, which then is another id.

    :param root: where /proc, /sys and /etc are looked for.
    """
    uname = os.uname()
    dut_id, sources = _dut_id(root)
    return {
        "dut_id": dut_id,
        "dut_id_from": sources,
        "hostname": uname.nodename,
        "machine": uname.machine,
        "product": _product(root),
        "cpu_model": _cpu_model(root),
        "num_cpus": os.cpu_count(),
        "kernel_release": uname.release,
        "kernel_version": uname.version,
        "preemption": _preemption(uname.version, root),
        "cmdline": _cmdline(root),
        "governors": governors(root),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "is_guest": _is_guest(root),
    }


def collect_versions(libraries: Mapping[str, str] | None = None) -> dict[str, str]:
    """Versions of Python, of xdptstamp and of what it uses.

    :param libraries: versions known elsewhere (libxdp, libbpf), added as they are.
    """
    versions = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        versions[name] = _version(name)
    return {**versions, **(libraries or {})}


def _version(distribution: str) -> str:
    # As the folder's name says it (PEP 427). importlib.metadata reads the same, and takes the
    # modules for e-mail with it: the longest import of a measuring process.
    for place in sys.path:
        for folder in Path(place or ".").glob(f"{distribution}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").rpartition("-")[2]
    return "not installed"


def collect_nic(nic: Nic) -> dict[str, Any]:
    """The interface: identity, driver, settings, features, attached programs, hwtstamp."""
    link, driver, rings = nic.link(), nic.driver_info(), nic.ring_sizes()
    info, hwtstamp = nic.timestamping_info(), read_hwtstamp(nic)
    return {
        "ifname": link.ifname,
        "ifindex": link.ifindex,
        "identity": nic.identity(),
        "mac": link.mac,
        "kind": link.kind or "hardware",
        "driver": driver.driver,
        "driver_version": driver.version,
        "firmware": driver.firmware,
        "bus": driver.bus,
        "mtu": link.mtu,
        "is_up": link.is_up,
        "has_carrier": link.has_carrier,
        "operstate": link.operstate,
        "num_carrier_changes": link.carrier_changes,
        "speed_mbps": nic.speed_mbps(),
        "num_queues": asdict(nic.num_queues()),
        "ring_sizes": asdict(rings) if rings else None,
        "xdp_programs": [asdict(program) for program in link.xdp],
        "features": read_features(link.ifindex).to_json(),
        "timestamping": asdict(info) if info else None,
        "hwtstamp": {**asdict(hwtstamp), "text": str(hwtstamp)} if hwtstamp else None,
    }


def collect_counters(nic: Nic) -> dict[str, int]:
    """Every counter of the interface now: ``ethtool -S`` by its names, link counters as link.*."""
    link = {f"link.{name}": value for name, value in nic.link().statistics.items()}
    return {**nic.statistics(), **link}


def pause_frames(driver: str, counters: Mapping[str, int]) -> dict[str, int]:
    """Those of ``counters`` that count pause frames (flow control).

    See :func:`xdptstamp.drivers.pause_counters`. Empty: none does.
    """
    return {name: counters[name] for name in pause_counters(driver, counters)}


def tx_counter(kind: str, counters: Mapping[str, int]) -> str:
    """Which of ``counters`` has the packets of anybody that the interface has sent.

    Of hardware (no ``kind``) the driver's ``tx_packets``, where it has one (igc: the NIC's own
    count of good packets); else the kernel's link counter.
    """
    return "tx_packets" if not kind and "tx_packets" in counters else "link.tx_packets"


def pair_counters(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Both values of each counter that changed, as the run info holds them."""
    return {
        name: {"before": value, "after": after[name]}
        for name, value in before.items()
        if name in after and after[name] != value
    }


def missing_capabilities(needed: Iterable[str], root: Path = Path("/")) -> list[str]:
    """Those of ``needed`` ("CAP_NET_ADMIN") that this process does not have in effect.

    CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON, as it does in the kernel.
    """
    status = (root / "proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    has_admin = bool(mask >> _BITS["CAP_SYS_ADMIN"] & 1)
    covered = {"CAP_BPF", "CAP_PERFMON"} if has_admin else set[str]()
    return [name for name in needed if name not in covered and not mask >> _BITS[name] & 1]


def _dut_id(root: Path) -> tuple[str, list[str]]:
    facts = {"machine_id": _read(root / "etc/machine-id")}
    for name, path in _SERIAL_FILES.items():
        serial = _read(root / path)
        if serial and not _NO_SERIAL.fullmatch(serial):
            facts[name] = serial
    known = {name: value for name, value in facts.items() if value}
    if not known:
        known = {"hostname": os.uname().nodename}
    # machine-id(5) asks for a keyed hash: the id must not leave the machine.
    text = "\n".join(f"{name}={value}" for name, value in known.items())
    digest = hmac.new(text.encode(), b"xdptstamp dut", hashlib.sha256).hexdigest()
    return digest[:16], list(known)


def _product(root: Path) -> str | None:
    dmi = root / "sys/class/dmi/id"
    names = [_read(dmi / name) for name in ("sys_vendor", "product_name", "board_name")]
    known = [name for name in names if name and not _NO_SERIAL.fullmatch(name)]
    return ", ".join(known) or _read(root / "proc/device-tree/model")


def _cpu_model(root: Path) -> str | None:
    # x86, then arm64 (which has no model name but the device tree's), then riscv.
    text = _read(root / "proc/cpuinfo") or ""
    match = re.search(r"^(?:model name|Model|uarch)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else _read(root / "proc/device-tree/model")


def _preemption(version: str, root: Path) -> dict[str, str | None]:
    models = ("PREEMPT_RT", "PREEMPT_DYNAMIC", "PREEMPT")
    model = next((name for name in models if name in version.split()), None)
    # "none voluntary (full) lazy"; debugfs is for root, and may not be mounted.
    text = _read(root / "sys/kernel/debug/sched/preempt") or ""
    active = re.search(r"\((\w+)\)", text)
    asked = next((item for item in _cmdline(root) if item.startswith("preempt=")), None)
    mode = active[1] if active else (asked.partition("=")[2] if asked else None)
    return {"model": model or "none", "mode": mode}


def _cmdline(root: Path) -> list[str]:
    items = (_read(root / "proc/cmdline") or "").split()
    return [item for item in items if item.partition("=")[0] in _CMDLINE_KEYS]


def _is_guest(root: Path) -> bool | None:
    # None: nothing here tells.
    cpuinfo = _read(root / "proc/cpuinfo") or ""
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    vendor = (_read(root / "sys/class/dmi/id/sys_vendor") or "").lower()
    if (flags and "hypervisor" in flags[1].split()) or vendor.startswith(_VIRTUAL_VENDORS):
        return True
    if (root / "proc/device-tree/hypervisor").exists():
        return True
    return False if flags or vendor else None


def _read(path: Path) -> str | None:
    # None: not there on this machine, or not for this user to read.
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.strip("\0 \t\n") or None
