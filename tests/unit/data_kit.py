# SPDX-License-Identifier: GPL-2.0-only
"""Whole runs for the tests of what reads them, and DuckDB as their second opinion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np

from tests.unit.mixed_kit import three_settings
from xdptstamp.clock import ClockSample
from xdptstamp.comparison import Comparison
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Cause, empty_batch
from xdptstamp.store import create_run, open_run
from xdptstamp.store.rounds import rounds_json, write_rounds
from xdptstamp.store.writer import SampleWriter

T0 = 1_790_000_000_000_000_001
SECOND = 1_000_000_000
OFFSET, PPB = 37 * SECOND, 50_000
OLD_RUNS = sorted(path.parent for path in (Path(__file__).parent / "old_runs").glob("*/run.json"))


def phc_of(tai):
    """The NIC's clock of all these runs, 37 s ahead and 50 ppm too fast."""
    return tai + OFFSET + (tai - T0) * PPB // SECOND


def info_of(kind="ping-pong", timestamps="software", **fields):
    basics = {
        "run_id": "",
        "kind": kind,
        "state": "running",
        "started_utc": "2026-01-22T13:26:05Z",
        "ended_utc": "2026-01-22T13:26:15Z",
        "argv": ["xdptstamp", kind, "eth1", "--label", "two words"],
        "timestamps": timestamps,
        "nic": {"ifname": "eth1", "driver": "igc", "speed_mbps": 2500},
        "dut": {"hostname": "board7", "machine": "x86_64", "kernel_release": "6.18"},
        "asked": {"mode": "auto", "queues": None},
        "obtained": {"mode": "copy", "queues": [0, 1], "notes": ["nothing special"]},
    }
    return RunInfo(**(basics | fields))


def latencies(rng, mean, size):
    """Positive, skewed, and alike from one packet to the next: a slow wave is in them."""
    wave = 1 + 0.5 * np.sin(np.arange(size) / 200 + rng.uniform(0, 6))
    return (rng.gamma(4, mean / 4, size) * wave).astype(np.int64) + 1


def ping_pong_samples(count, timestamps="software", spacing_ns=10_000, seed=1):
    """Replies, a tenth of the stamps of which are missing, the first hundredth warm-up."""
    rng = np.random.default_rng(seed)
    batch = empty_batch(count)
    batch["seq"] = np.arange(count)
    batch["len"], batch["queue_id"] = 60, batch["seq"] % 2
    wire = T0 + batch["seq"] * spacing_ns
    batch["rx_xdp_ns"] = wire + latencies(rng, 9_000, count)
    batch["rx_app_ns"] = batch["rx_xdp_ns"] + latencies(rng, 5_000, count)
    batch["tx_app_ns"] = batch["rx_app_ns"] + latencies(rng, 4_000, count)
    sent = batch["tx_app_ns"] + latencies(rng, 60_000, count)
    batch["tx_comp_ns"] = sent + latencies(rng, 70_000, count)
    is_missing = rng.random(count) < 0.1
    stamps = phc_of(sent) if timestamps == "hardware" else sent
    stamps = np.where(is_missing, -1, stamps)
    batch["tx_hw_ns" if timestamps == "hardware" else "tx_sw_ns"] = stamps
    if timestamps == "hardware":
        batch["rx_hw_ns"] = phc_of(wire)
    causes = rng.choice([Cause.SKIPPED, Cause.TIMED_OUT, Cause.INVALID], count)
    batch["cause"] = np.where(is_missing, causes, Cause.NONE)
    batch["is_warmup"][: count // 100] = True
    return batch


def comparison_json(last_ns):
    """How the clocks compared once a second from before :data:`T0` until behind ``last_ns``."""
    times = range(T0 - SECOND, last_ns + 2 * SECOND, SECOND)
    found = Comparison(ClockSample(time, phc_of(time), 500, 37) for time in times)
    drift = found.drift_ppb()
    return {
        "device": "/dev/ptp0",
        "method": "extended",
        "uncertainty": "half of the shortest window",
        "drift_ppb": drift[0],
        "drift_uncertainty_ppb": drift[1],
        "notes": [],
        "problem": "",
        "samples": found.to_json(),
    }


def write_run(base, info, samples, rows_per_file=None):
    """A complete run, by the store's own writer."""
    with create_run(base, info) as run_dir:
        writer = SampleWriter(run_dir.path / "samples", info.kind)
        for first in range(0, len(samples), rows_per_file or max(len(samples), 1)):
            writer.add(samples[first : first + (rows_per_file or len(samples))])
            writer.close_file()
        writer.close_file(needs_file=True)
        info.state = "complete" if info.state == "running" else info.state
        run_dir.write_info(info)
    return run_dir.path


def ping_pong_run(base, count, timestamps="software", **fields):
    """A run of :func:`ping_pong_samples` in files of unequal length."""
    spacing_ns = fields.pop("spacing_ns", 10_000)
    samples = ping_pong_samples(count, timestamps, spacing_ns)
    info = info_of(timestamps=timestamps, **fields)
    info.counts = info.counts or {"received": count, "answered": count, "refused_by": {"x": 3}}
    if timestamps == "hardware":
        info.clock_comparison = comparison_json(int(samples["tx_comp_ns"].max()))
    return write_run(base, info, samples, rows_per_file=max(1, count * 3 // 7))


def mixed_run(base, timestamps="software", samples=None):
    """A run of ``mixed`` with :func:`tests.unit.mixed_kit.three_settings`."""
    settings, rounds = three_settings()
    if samples is None:
        samples = empty_batch(0)
    info = info_of("mixed", timestamps)
    info.counts = rounds_json(settings, rounds)
    path = write_run(base, info, samples)
    write_rounds(path, settings, rounds)
    return path


def sql(query, **tables):
    """The rows of a query by DuckDB; ``{name}`` stands for the files of a table."""
    names = {name: f"'{path}'" for name, path in tables.items()}
    with duckdb.connect() as connection:
        return connection.execute(query.format(**names)).fetchall()


def samples_of(path):
    return f"{path}/samples/*.parquet"


def xdptstamp(*arguments, env=None, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "xdptstamp", *map(str, arguments)]
    options = {"capture_output": True, "text": True} | options
    return subprocess.run(command, check=False, env={**os.environ, **(env or {})}, **options)


def info_json(path):
    return json.loads((path / "run.json").read_text(encoding="utf-8"))


def edit_info(path, **fields):
    """Change the run info of a run on disk."""
    content = info_json(path) | fields
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")


def open_again(path):
    return open_run(path)
