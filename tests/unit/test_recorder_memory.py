# SPDX-License-Identifier: GPL-2.0-only
"""Recording does not grow: neither the measuring process nor the recorder."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import NULL, empty_batch
from xdptstamp.store import Recorder, create_run, open_run

EPOCH = 1_790_000_000_000_000_001
MB = 1 << 20
ROWS = 4096


def memory(pid):
    """Resident bytes now and at the most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return [int(found[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")]


def make_info(state):
    return RunInfo("", "ping-pong", state, "2026-01-22T13:26:05Z", [], dut={"hostname": "h"})


def busy_batch():
    """Samples that no codec makes small, with every interval there is."""
    rng = np.random.default_rng(1)
    batch = empty_batch(ROWS)
    for name in batch.dtype.names:
        if name.endswith("_ns"):
            batch[name] = EPOCH + rng.integers(0, 2**40, ROWS)
    batch["tx_hw_ns"] = NULL
    batch["cause"] = rng.integers(0, 9, ROWS)
    batch["rx_hash"] = rng.integers(0, 2**32, ROWS)
    return batch


def record_until(recorder, batch, put, num_samples):
    while put < num_samples:
        if recorder.num_waiting > 48:
            assert recorder.error is None
            time.sleep(0.001)
            continue
        batch["seq"] = np.arange(put, put + ROWS)
        recorder.put(batch)
        put += ROWS
    return put


@pytest.mark.slow
def test_ten_million_samples_take_no_more_memory_than_one(tmp_path):
    with create_run(tmp_path, make_info("running")) as run_dir, Recorder(run_dir) as recorder:
        recorder.start(make_info("running"))
        batch = busy_batch()
        put = record_until(recorder, batch, 0, 1_000_000)
        before = memory(os.getpid()), memory(recorder.pid)
        put = record_until(recorder, batch, put, 10_000_000)
        after = memory(os.getpid()), memory(recorder.pid)
        summary = recorder.finish(make_info("complete"))
        assert recorder.num_overrun == 0
    assert summary.num_samples == put >= 10_000_000
    assert not (run_dir.path / "samples.csv").exists()
    names = ("measuring now", "measuring peak", "recorder now", "recorder peak")
    pairs = zip(names, [*before[0], *before[1]], [*after[0], *after[1]], strict=True)
    grown = {name: (new - old) / MB for name, old, new in pairs}
    assert max(grown.values()) < 20, grown
    counted = sum(batch.size for batch in open_run(run_dir.path).batches(["seq"]))
    assert counted == put


_EXPORT = """
import sys
from pathlib import Path
from xdptstamp.store import open_run, write_csv
from xdptstamp.store.writer import limit_memory
limit_memory()
peaks = []
def note(rows):
    status = Path("/proc/self/status").read_text()
    peaks.append(int(status.split("VmHWM:")[1].split()[0]))
write_csv(open_run(Path(sys.argv[1])), Path(sys.argv[2]), on_chunk=note)
print(peaks[len(peaks) // 2], peaks[-1])
"""


def test_a_csv_is_written_in_bounded_memory(tmp_path):
    with create_run(tmp_path, make_info("running")) as run_dir, Recorder(run_dir) as recorder:
        recorder.start(make_info("running"))
        put = record_until(recorder, busy_batch(), 0, 1_200_000)
        recorder.finish(make_info("complete"))
    command = [sys.executable, "-c", _EXPORT, run_dir.path, tmp_path / "out.csv"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    halfway, end = (int(word) / 1024 for word in done.stdout.split())
    # Kept, the second half of the rows would be some 80 MB.
    assert end - halfway < 20
    with (tmp_path / "out.csv").open("rb") as file:
        assert sum(1 for _ in file) == put + 1


def test_what_is_measured_with_needs_no_parquet_library():
    source = "import sys, xdptstamp.store\nfrom xdptstamp.store import Recorder, create_run\n"
    source += "print(sorted({'pyarrow', 'pandas', 'click', 'rich'} & set(sys.modules)))\n"
    done = subprocess.run(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
