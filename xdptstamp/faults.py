# SPDX-License-Identifier: GPL-2.0-only
"""Which known faults of its driver an interface has: looked for in the driver, else by version."""

from __future__ import annotations

import os
from pathlib import Path

from xdptstamp.drivers import Driver, DriverState, Fault, Presence
from xdptstamp.nic import Nic

_BTF = Path("/sys/kernel/btf")


def driver_state(nic: Nic, driver: Driver, btf: Path = _BTF) -> DriverState:
    """The driver as it runs here.

    :param btf: where the kernel shows type information of its modules.
    """
    return DriverState(
        release=os.uname().release,
        num_queues=nic.num_queues().rx,
        btf=_read(btf / driver.module),
        qdiscs=nic.qdiscs(),
    )


def known_faults(nic: Nic, driver: Driver) -> list[tuple[Fault, Presence]]:
    """The faults that the driver of an interface has, or may have.

    :raises SetupError: If the interface is gone.
    """
    state = driver_state(nic, driver)
    found = [(fault, fault.presence(state)) for fault in driver.faults]
    return [(fault, presence) for fault, presence in found if presence != Presence.ABSENT]


def _read(path: Path) -> bytes | None:
    # Only modules have files of their own, and only of a kernel with CONFIG_DEBUG_INFO_BTF_MODULES.
    try:
        return path.read_bytes()
    except OSError:
        return None
