# SPDX-License-Identifier: GPL-2.0-only
"""The recorder when processes are killed and disks are full: the run opens all the same."""

import contextlib
import gc
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.recording_kit import make_batch, make_info, seqs, wait_for, wait_for_end
from xdptstamp.errors import RunFileError, SetupError
from xdptstamp.store import Recorder, create_run, open_run
from xdptstamp.store.recorder_start import RecorderStart

_MEASURE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import empty_batch
from xdptstamp.store import Recorder, create_run
info = RunInfo("", "ping-pong", "running", "2026-01-22T13:26:05Z", [])
run_dir = create_run(Path(sys.argv[1]), info)
recorder = Recorder(run_dir)
recorder.start(info)
print(run_dir.path, recorder.pid, flush=True)
batch = empty_batch(37)
put = 0
while True:
    if recorder.num_waiting < 32:
        batch["seq"] = np.arange(put, put + len(batch))
        recorder.put(batch)
        put += len(batch)
        os.write(1, b"%d\\n" % put)
"""


def test_a_measuring_process_killed_in_a_flood_loses_nothing(tmp_path):
    command = [sys.executable, "-c", _MEASURE, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as measuring:
        path, pid = measuring.stdout.readline().split()
        put = 0
        while put < 100_000:
            put = int(measuring.stdout.readline())
        measuring.kill()
        rest = measuring.stdout.read().split()
        put = int(rest[-1]) if rest else put
    wait_for_end(int(pid))
    run = open_run(Path(path.decode()))
    assert (run.info.state, run.info.ended_by) == ("interrupted", "killed")
    assert json.loads((run.path / "run.json").read_text())["state"] == "interrupted"
    assert run.info.ended_utc
    assert run.info.counts["recorder_overruns"] == 0
    got = seqs(run.path)
    # The last batch may be there although its number was not told any more.
    assert got.size in (put, put + 37)
    assert np.array_equal(got, np.arange(got.size))
    assert len((run.path / "samples.csv").read_text().splitlines()) == got.size + 1
    assert not [file.name for file in run.path.rglob(".*")]


def test_a_measuring_process_that_gives_up_leaves_an_interrupted_run(run_dir):
    with pytest.raises(SetupError), Recorder(run_dir) as recorder:
        recorder.put(make_batch(10))
        raise SetupError("eth1", "queue 0 is taken")
    wait_for_end(recorder.pid)
    run = open_run(run_dir.path)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "error")
    assert seqs(run_dir.path).size == 10


def test_a_killed_recorder_is_seen_and_nobody_waits_for_it(run_dir):
    with Recorder(run_dir, block_rows=64, num_blocks=4) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(64))
        wait_for(lambda: seqs(run_dir.path).size == 64)
        os.kill(recorder.pid, signal.SIGKILL)
        assert "killed by SIGKILL" in wait_for(lambda: recorder.error)
        for first in range(64, 6400, 64):
            recorder.put(make_batch(64, first))
            recorder.flush()
        assert recorder.num_overrun == 99 * 64 - 4 * 64
        with pytest.raises(RunFileError, match=r"killed by SIGKILL.*kept up to its last flush"):
            recorder.finish(make_info("complete"))
    run = open_run(run_dir.path)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "recorder")
    assert seqs(run_dir.path).size == 64


def test_a_recorder_that_cannot_start_says_so_and_leaves_nothing(run_dir, capfd):
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(SetupError, match=r"did not start \(exit code 1\)"):
        Recorder(run_dir, start=RecorderStart("xdptstamp.no_such_module"))
    gc.collect()
    assert "no_such_module" in capfd.readouterr().err
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_under_sudo_the_user_owns_all_of_the_run(tmp_path, monkeypatch, skip_or_fail):
    if os.geteuid() != 0:
        skip_or_fail("root", "gives files away")
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "2345")
    csv_file = tmp_path / "mine.csv"
    with create_run(tmp_path, make_info()) as run_dir, Recorder(run_dir, csv_file=csv_file) as rec:
        rec.start(make_info())
        rec.put(make_batch(10))
        rec.finish(make_info("complete"))
    made = [run_dir.path, csv_file, *run_dir.path.rglob("*")]
    assert {"run.json", "samples.csv", "00000.parquet"} <= {path.name for path in made}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(1234, 2345)}


# Full disks.


def random_batch(first, num_samples=4096):
    batch = make_batch(num_samples, first)
    rng = np.random.default_rng(first)
    for name in ("tx_app_ns", "tx_comp_ns", "rx_xdp_ns", "rx_hash"):
        batch[name] = rng.integers(2**60, 2**62, num_samples)
    return batch


def fill_up(recorder):
    """Put samples until the disk is full, 4 MB or so of them being closed before."""
    first = 0
    while recorder.error is None:
        assert first < 10_000_000
        if recorder.num_waiting < 32:
            recorder.put(random_batch(first))
            first += 4096
    return first


def test_a_full_disk_is_seen_named_and_harms_nothing_written_before(small_disk):
    with create_run(small_disk, make_info()) as run_dir, Recorder(run_dir) as recorder:
        recorder.start(make_info())
        recorder.put(random_batch(0))
        recorder.flush()
        wait_for(lambda: seqs(run_dir.path).size == 4096)
        put = 4096 + fill_up(recorder)
        assert "No space left on device" in recorder.error
        with pytest.raises(RunFileError) as caught:
            recorder.finish(make_info("complete"))
    message = str(caught.value)
    assert str(run_dir.path / "samples") in message
    assert "No space left on device. Free space there, or choose another place" in message
    assert f"of {put} samples are not kept" in message
    run = open_run(run_dir.path)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "recorder")
    assert seqs(run_dir.path)[:4096].tolist() == list(range(4096))
    assert not list(run_dir.path.rglob("*.tmp"))


def test_room_for_the_last_run_json_is_kept_however_full_the_disk_is(small_disk):
    with create_run(small_disk, make_info()) as run_dir, Recorder(run_dir) as recorder:
        recorder.start(make_info())
        recorder.put(random_batch(0))
        recorder.flush()
        wait_for(lambda: seqs(run_dir.path).size == 4096)
        with contextlib.suppress(OSError), open(small_disk / "filler", "wb", 0) as filler:
            while filler.write(b"x" * 4096):
                pass
        with pytest.raises(RunFileError, match=r"samples\.csv.*No space left on device"):
            recorder.finish(make_info("complete", counts={"received": 4096}))
    run = open_run(run_dir.path)
    assert (run.info.state, run.info.counts) == ("complete", {"received": 4096})
    assert seqs(run_dir.path).size == 4096


def test_a_full_disk_behind_the_csv_leaves_a_complete_run(small_disk, run_dir):
    csv_file = small_disk / "big.csv"
    with Recorder(run_dir, csv_file=csv_file) as recorder:
        recorder.start(make_info())
        for first in range(0, 40_960, 4096):
            recorder.put(random_batch(first))
        with pytest.raises(RunFileError, match=r"big\.csv: cannot write this CSV: No space left"):
            recorder.finish(make_info("complete"))
    assert list(small_disk.iterdir()) == []
    assert open_run(run_dir.path).info.state == "complete"
    assert seqs(run_dir.path).size == 40_960


def test_a_write_error_ends_the_run_and_keeps_the_rest(run_dir):
    with Recorder(run_dir) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(100))
        recorder.flush()
        wait_for(lambda: seqs(run_dir.path).size == 100)
        # Only for the recorder: EFBIG stands for whatever a disk may say.
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (50_000, hard))
        recorder.put(random_batch(100))
        recorder.flush()
        assert "00001.parquet: cannot write these samples" in wait_for(lambda: recorder.error)
        recorder.put(random_batch(4196, 4))
        with pytest.raises(RunFileError, match=r"File too large \(4100 of 4200 samples are not"):
            recorder.finish(make_info("complete"))
    run = open_run(run_dir.path)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "recorder")
    assert seqs(run_dir.path).tolist() == list(range(100))
    assert not list(run_dir.path.rglob("*.tmp"))
