# SPDX-License-Identifier: GPL-2.0-only
"""What a machine offers to any measurement: kernel, libraries, privileges, clocks."""

from __future__ import annotations

import resource
from dataclasses import asdict
from pathlib import Path

from xdptstamp._sys import libbpf, libxdp, xsk
from xdptstamp.caps.reader import Reader
from xdptstamp.collect import CAPABILITIES, collect_dut, missing_capabilities
from xdptstamp.errors import UnsupportedError
from xdptstamp.finding import Facts
from xdptstamp.servos import running_servos

#: What ``--sched`` takes besides.
SCHED_CAPABILITIES = ("CAP_SYS_NICE", "CAP_IPC_LOCK")


def read_machine() -> Facts:
    """Facts about this machine and this process: nothing of it depends on an interface."""
    reader = Reader()
    reader.ask("machine", collect_dut)
    reader.ask("af_xdp", _af_xdp)
    reader.ask("libxdp", libxdp.version_text)
    reader.ask("libxdp_tx_metadata", _libxdp_tx_metadata)
    reader.ask("libbpf", libbpf.version)
    reader.ask("btf", lambda: Path("/sys/kernel/btf/vmlinux").exists())
    reader.ask("missing_capabilities", lambda: missing_capabilities(CAPABILITIES))
    reader.ask("missing_for_sched", lambda: missing_capabilities(SCHED_CAPABILITIES))
    reader.ask("lockable_bytes", _lockable_bytes)
    reader.ask("clocks", _clocks)
    reader.ask("servos", running_servos)
    return reader.facts


def _af_xdp() -> str:
    try:
        return "tx-metadata" if xsk.accepts_tx_metadata() else "no-tx-metadata"
    except UnsupportedError:
        return "none"


def _libxdp_tx_metadata() -> bool:
    if libxdp.exports_umem_options():
        xsk.accepts_tx_metadata()  # libxdp does not tell that it may not try
    return libxdp.has_umem_options()


def _lockable_bytes() -> int | None:
    # None: no limit. What a UMEM pins counts unless the process may lock anything.
    if not missing_capabilities(["CAP_IPC_LOCK"]):
        return None
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _clocks() -> dict[str, object]:
    from xdptstamp.phc import system_clocks  # and NumPy with it

    return asdict(system_clocks())
