# SPDX-License-Identifier: GPL-2.0-only
"""A long run with latencies that are made up, and what a command on it takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from xdptstamp.clock import ClockSample
from xdptstamp.comparison import Comparison
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Batch, empty_batch
from xdptstamp.store import create_run
from xdptstamp.store.writer import SampleWriter

T0_NS, SECOND_NS = 1_790_000_000_000_000_000, 1_000_000_000
OFFSET_NS, DRIFT_PPM = 37 * SECOND_NS, 50
# Mean of each, ns: to the XDP program, to the application, to submit, to the stamp, to completion.
MEANS = (10_000, 5_000, 4_000, 60_000, 77_000)
ROWS = 1 << 16


def phc_of(tai_ns: np.ndarray) -> np.ndarray:
    """The NIC's clock at times on CLOCK_TAI."""
    return tai_ns + OFFSET_NS + (tai_ns - T0_NS) * DRIFT_PPM // 1_000_000


def batches(count: int, spacing_ns: int, is_hardware: bool) -> Iterator[Batch]:
    """The samples of the run."""
    rng = np.random.default_rng(1)
    for first in range(0, count, ROWS):
        batch = empty_batch(min(ROWS, count - first))
        batch["seq"] = np.arange(first, first + len(batch))
        batch["len"] = 60
        wire = T0_NS + batch["seq"] * spacing_ns
        after = np.cumsum([rng.gamma(4, mean / 4, len(batch)) for mean in MEANS], axis=0)
        points = wire + after.astype(np.int64)
        for name, times in zip(
            ("rx_xdp_ns", "rx_app_ns", "tx_app_ns", "tx_sw_ns", "tx_comp_ns"), points, strict=True
        ):
            batch[name] = times
        if is_hardware:
            batch["rx_hw_ns"], batch["tx_hw_ns"] = phc_of(wire), phc_of(batch["tx_sw_ns"])
            batch["tx_sw_ns"] = -1
        yield batch


def make_run(base: Path, count: int, spacing_ns: int, is_hardware: bool) -> Path:
    """Write the run; its folder."""
    kind = "hardware" if is_hardware else "software"
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    info = RunInfo("", "ping-pong", "running", started, sys.argv, timestamps=kind)
    with create_run(base, info) as run_dir:
        writer = SampleWriter(run_dir.path / "samples", info.kind)
        for batch in batches(count, spacing_ns, is_hardware):
            writer.add(batch)
        writer.close_file()
        if is_hardware:
            end_ns = T0_NS + count * spacing_ns + 2 * SECOND_NS
            times = np.arange(T0_NS - SECOND_NS, end_ns, SECOND_NS)
            pairs = zip(times.tolist(), phc_of(times).tolist(), strict=True)
            found = Comparison(ClockSample(tai, phc, 500) for tai, phc in pairs)
            info.clock_comparison = {"method": "extended", "samples": found.to_json()}
        info.state, info.counts = "complete", {"received": count}
        run_dir.write_info(info)
    return run_dir.path


def measure(*arguments: str) -> str:
    """Run xdptstamp; what it took."""
    command = [sys.executable, "-m", "xdptstamp", *arguments]
    start = time.monotonic()
    nowhere = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=[nowhere])
    _, status, used = os.wait4(pid, 0)
    took = time.monotonic() - start
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    cpu = used.ru_utime + used.ru_stime
    return f"{took:8.2f} s {cpu:8.2f} s CPU {used.ru_maxrss / 1000:8.0f} MB"
