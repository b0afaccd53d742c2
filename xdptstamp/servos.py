# SPDX-License-Identifier: GPL-2.0-only
"""Programs that keep PTP clocks in step, and do not like anybody else to set them."""

from __future__ import annotations

from pathlib import Path

#: Their names: linuxptp's.
SERVOS = ("ptp4l", "phc2sys", "ts2phc")


def running_servos(root: Path = Path("/proc")) -> list[str]:
    """Those that run now, as far as this process can see: ``ptp4l (process 1234)``."""
    found = []
    for comm in sorted(root.glob("[0-9]*/comm")):
        try:
            name = comm.read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if name in SERVOS:
            found.append(f"{name} (process {comm.parent.name})")
    return found
