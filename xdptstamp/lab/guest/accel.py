# SPDX-License-Identifier: GPL-2.0-only
"""Whether KVM really boots a guest here: found by trying, because /dev/kvm does not tell.

A nested KVM can be there, run a few instructions and never get through a kernel's start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
from pathlib import Path

from xdptstamp.lab.guest.qemu import Machine

_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# A working KVM gets to the first process in less than one.
_LIMIT_S = 2

#: What the init script says first.
ALIVE = b"xdptstamp-guest: alive"


def choose_accel(machine: Machine) -> str:
    """``kvm`` if this guest comes up with it, else ``tcg``. What came out is kept until reboot."""
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return "tcg"
    note = _note()
    with contextlib.suppress(OSError):
        if (known := note.read_text(encoding="ascii")) in {"kvm", "tcg"}:
            return known
    accel = "kvm" if _comes_up(machine) else "tcg"
    # Where it cannot be kept it is tried again next time.
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(accel, encoding="ascii")
    return accel


def _note() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    return Path(cache) / "xdptstamp" / f"kvm-{boot_id}"


def _comes_up(machine: Machine) -> bool:
    # The same guest without its NICs and the agent's line, told to stop as soon as it runs.
    trial = dataclasses.replace(
        machine, accel="kvm", nics=(), agent=None, kernel_words="xdptstamp.trial"
    )
    try:
        subprocess.run(
            trial.argv(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT_S,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return False
    return ALIVE in machine.console.read_bytes()
