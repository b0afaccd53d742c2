# SPDX-License-Identifier: GPL-2.0-only
"""The run info of a measurement on a DUT: what surrounds it, before and after."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from xdptstamp import collect
from xdptstamp._sys import libbpf, libxdp
from xdptstamp.busy import BusyWatch
from xdptstamp.caps import read_settings
from xdptstamp.drivers import Driver, pause_counters
from xdptstamp.dut import Dut
from xdptstamp.errors import SetupError
from xdptstamp.kernellog import KernelLine, KernelLog, kernel_log_warnings
from xdptstamp.nic import Nic
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import COLUMNS_OF_KIND, clock_of

_PARTNER_VARIABLES = ("REMOTE_TYPE", "REMOTE_ARGS", "REMOTE_V4", "REMOTE_V6")


class Environment:
    """Watches the counters and the kernel log of one run.

    :param info: gets what is found.
    :ivar before: every counter of the interface before the run; ``after``: and after it.
    """

    def __init__(self, dut: Dut, kernel_log: KernelLog, info: RunInfo) -> None:
        self._dut = dut
        self._log = kernel_log
        self._info = info
        self._lines: list[KernelLine] = []
        self._busy: BusyWatch | None = None
        self.before: dict[str, int] = {}
        self.after: dict[str, int] = {}

    @property
    def driver(self) -> Driver | None:
        """What is known of the interface's driver."""
        return self._dut.driver

    def begin(self, obtained: Mapping[str, Any], *, has_timestamps: bool) -> None:
        """Note machine, NIC, versions and counters before the run."""
        info, dut = self._info, self._dut
        kind = "hardware" if dut.is_hardware else "software"
        info.timestamps = kind if has_timestamps and dut.has_timestamps else "none"
        info.obtained = {**dut.obtained(), **obtained, "notes": dut.notes}
        info.dut = collect.collect_dut()
        info.nic = collect.collect_nic(dut.nic) | _settings(dut.nic)
        info.versions = collect.collect_versions(
            {"libbpf": libbpf.version(), "libxdp": libxdp.version_text()}
        )
        info.partner = {
            name.lower(): os.environ[name] for name in _PARTNER_VARIABLES if name in os.environ
        }
        info.clocks = {
            name: clock_of(name) for name in COLUMNS_OF_KIND[info.kind] if clock_of(name)
        }
        self._note_clocks()
        # That a link came up, here or at the sink, is what setting up makes of it, no news.
        self._lines = [line for line in self._log.lines() if line.kind != "link"]
        self.before = collect.collect_counters(dut.nic)
        self._busy = BusyWatch(dut.nic.current_name)

    def end(self) -> None:
        """Note the counters after the run, and what the kernel logged meanwhile."""
        info = self._info
        self._note_clocks()
        if self._busy is not None:
            info.dut["idle_states"] = self._busy.idle_states()
            info.nic["interrupts"] = self._busy.interrupts()
        with contextlib.suppress(SetupError):  # the interface is gone, and its counters with it
            self.after = collect.collect_counters(self._dut.nic)
            info.counters = collect.pair_counters(self.before, self.after)
        lines = self._lines + self._log.lines()
        info.warnings += kernel_log_warnings(lines, self._log.num_lost)
        info.obtained["kernel_log"] = self._log.problem or [
            line.text for line in lines if line.is_remarkable
        ]

    def _note_clocks(self) -> None:
        dut = self._dut
        if dut.clocks is not None:
            self._info.clock_comparison = dut.clocks.to_json()
        elif dut.is_hardware:
            self._info.clock_comparison = {"problem": "the NIC has no PHC that may be read"}


def _settings(nic: Nic) -> dict[str, Any]:
    facts = read_settings(nic)
    found = {
        **facts.values,
        "pause_counters": pause_counters(nic.driver_info().driver, nic.statistics()),
    }
    if facts.unread:
        found["unread"] = {name: unread.why for name, unread in facts.unread.items()}
    return found
