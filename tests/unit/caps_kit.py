# SPDX-License-Identifier: GPL-2.0-only
"""Facts as they were read of an I226 under Linux 7.3.4, and of a veth, to be changed by tests."""

import copy
from dataclasses import asdict

from xdptstamp.drivers import DriverState, Presence, known_driver
from xdptstamp.features import from_masks
from xdptstamp.finding import Facts

MACHINE = {
    "machine": {
        "hostname": "board-7",
        "machine": "x86_64",
        "kernel_release": "7.3.4+deb13-amd64",
        "preemption": {"model": "PREEMPT_RT", "mode": None},
        "is_guest": False,
    },
    "af_xdp": "tx-metadata",
    "libxdp": "1.5.0",
    "libxdp_tx_metadata": True,
    "libbpf": "1.5",
    "btf": True,
    "missing_capabilities": [],
    "missing_for_sched": [],
    "lockable_bytes": None,
    "clocks": {"tai_offset_s": 37, "leap": "none"},
    "servos": [],
}
I226 = {
    "link": {
        "ifname": "eth1",
        "kind": "",
        "mtu": 1500,
        "xdp": [],
        "is_up": True,
        "has_carrier": True,
    },
    "driver": {"driver": "igc", "version": "", "firmware": "2017:888d", "bus": "0000:03:00.0"},
    "refusal": None,
    "speed_mbps": 2500,
    "num_queues": {"rx": 4, "tx": 4, "combined": 4, "is_exact": True},
    "ring_sizes": {"rx": 256, "tx": 256, "rx_max": 4096, "tx_max": 4096},
    "coalescing": {
        "rx_usecs": 0,
        "tx_usecs": 0,
        "is_adaptive_rx": None,
        "is_adaptive_tx": None,
    },
    "eee": {"is_enabled": False, "is_active": False},
    "pause": {"is_autoneg": True, "rx": False, "tx": False},
    "features": from_masks(11, 1, 3, 5).to_json(),
    "hwtstamp": {"text": "tx off, rx none", "is_tx_on": False},
    "users": [],
    "counters": {"skipped": "tx_hwtstamp_skipped", "timed_out": "tx_hwtstamp_timeouts"},
    "pause_counters": ["rx_flow_control_xon"],
    "faults_of": "igc",
    "faults": [],
    "timestamping": {"so_timestamping": 95, "phc_index": 0, "tx_types": 3, "rx_filters": 3},
    "phc": {
        "device": "/dev/ptp0",
        "name": "igc",
        "method": "precise",
        "uncertainty_ns": 100,
        "tai_offset_s": 37,
        "offset_ns": 12,
    },
}
VETH = {
    **I226,
    "link": {**I226["link"], "ifname": "veth0", "kind": "veth"},
    "driver": {"driver": "veth", "version": "1.0", "firmware": "", "bus": ""},
    "ring_sizes": None,
    "coalescing": None,
    "eee": None,
    "pause": None,
    "features": from_masks(35, None, 7, 0).to_json(),
    "hwtstamp": None,
    "timestamping": {"so_timestamping": 24, "phc_index": -1, "tx_types": 0, "rx_filters": 0},
}
for name in ("phc", "counters", "pause_counters", "faults_of", "faults"):
    del VETH[name]


def facts_of(base, /, unread=None, **changes):
    """Facts like ``base``, some parts of it being others; of a dictionary those that are named."""
    values = copy.deepcopy(base)
    for name, change in changes.items():
        if change and isinstance(change, dict) and isinstance(values.get(name), dict):
            values[name] |= change
        else:
            values[name] = change
    for name in unread or {}:
        values.pop(name, None)
    return Facts(values, unread or {})


def faults_json(driver, release, num_queues=4, btf=None):
    """Faults as they are read of that kernel."""
    state = DriverState(release, num_queues, btf)
    pairs = [(fault, fault.presence(state)) for fault in known_driver(driver).faults]
    return [
        {**asdict(fault), "presence": str(presence)}
        for fault, presence in pairs
        if presence != Presence.ABSENT
    ]
