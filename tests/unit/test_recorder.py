# SPDX-License-Identifier: GPL-2.0-only
"""The recorder: what is put is on disk or counted, and the measuring side never waits."""

import gc
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.unit.recording_kit import make_batch, make_info, seqs, wait_for
from xdptstamp.errors import RunFileError
from xdptstamp.stats import Summary
from xdptstamp.store import Recorder, open_run
from xdptstamp.store.recorder_process import flush_interval


def test_what_is_put_is_on_disk(run_dir):
    with Recorder(run_dir, block_rows=64) as recorder:
        recorder.start(make_info())
        for first in range(0, 1000, 10):
            recorder.put(make_batch(10, first))
        info = make_info("complete", counts={"recorder_overruns": recorder.num_overrun})
        summary = recorder.finish(info)
    assert recorder.num_overrun == 0
    run = open_run(run_dir.path)
    assert run.info.state == "complete"
    batches = np.concatenate(list(run.batches()))
    assert batches["seq"].tolist() == list(range(1000))
    want = np.concatenate([make_batch(10, first) for first in range(0, 1000, 10)])
    for name in batches.dtype.names:
        assert np.array_equal(batches[name], want[name]), name
    again = Summary("ping-pong")
    again.add(batches)
    assert (summary.num_samples, summary.num_stamped) == (again.num_samples, 900)
    assert summary.causes == again.causes
    histogram = summary.intervals["tx_app_to_tx_sw_ns"]
    assert (histogram.count, histogram.min, histogram.max) == (900, 1001, 1001)
    assert len((run_dir.path / "samples.csv").read_text().splitlines()) == 1001
    assert not list(run_dir.path.rglob("*.tmp"))


def test_batches_larger_than_blocks_and_strided_ones_are_whole(run_dir):
    with Recorder(run_dir, block_rows=7, num_blocks=64) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(100))
        recorder.put(make_batch(200, 100)[::2])
        recorder.put(make_batch(0))
        recorder.finish(make_info("complete"))
    assert seqs(run_dir.path).tolist() == [*range(100), *range(100, 300, 2)]


def test_a_run_of_nothing_is_a_run(run_dir):
    with Recorder(run_dir) as recorder:
        recorder.start(make_info())
        summary = recorder.finish(make_info("complete"))
    assert summary.num_samples == 0
    assert open_run(run_dir.path).info.state == "complete"
    assert seqs(run_dir.path).size == 0
    assert [file.name for file in (run_dir.path / "samples").iterdir()] == ["00000.parquet"]


def test_a_csv_is_written_where_asked(run_dir, tmp_path):
    with Recorder(run_dir, csv_file=tmp_path / "mine.csv") as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(3))
        recorder.finish(make_info("complete"))
    mine, own = (tmp_path / "mine.csv").read_text(), (run_dir.path / "samples.csv").read_text()
    assert mine == own
    with pytest.raises(RunFileError, match="exists already"):
        Recorder(run_dir, csv_file=tmp_path / "mine.csv")


def test_flushed_samples_are_readable_while_recording(run_dir):
    with Recorder(run_dir) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(10))
        recorder.flush()
        assert wait_for(lambda: seqs(run_dir.path).size) == 10
        assert open_run(run_dir.path).info.state == "running"
        recorder.put(make_batch(5, 10))
        recorder.flush()
        assert wait_for(lambda: seqs(run_dir.path).size > 10)
        recorder.finish(make_info("complete"))
    assert len(list((run_dir.path / "samples").iterdir())) == 2


def test_flushes_become_rarer_as_a_run_gets_longer():
    assert [flush_interval(s) for s in (0, 60, 600, 1800, 90_000)] == [1, 1, 10, 30, 30]


@pytest.mark.parametrize(("is_flushing", "num_kept"), [(False, 4 * 16), (True, 3 * 10 + 16)])
def test_overruns_are_counted_to_the_last_sample(run_dir, is_flushing, num_kept):
    with Recorder(run_dir, block_rows=16, num_blocks=4) as recorder:
        # Not started yet, it takes nothing in: the blocks fill up.
        for first in range(0, 1000, 10):
            recorder.put(make_batch(10, first))
            if is_flushing:
                recorder.flush()
        assert recorder.num_overrun == 1000 - num_kept
        recorder.start(make_info())
        wait_for(lambda: recorder.num_waiting == 0)
        recorder.put(make_batch(16, 1000))
        assert recorder.num_overrun == 1000 - num_kept
        recorder.finish(make_info("complete"))
    assert seqs(run_dir.path).tolist() == [*range(num_kept), *range(1000, 1016)]


def test_what_comes_after_the_end_is_overrun(run_dir):
    with Recorder(run_dir, block_rows=16) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(10))
        recorder.finish(make_info("complete"))
        recorder.put(make_batch(100))
        recorder.flush()
        recorder.skip_output()
        assert recorder.num_overrun == 100
        assert recorder.error is None
    assert seqs(run_dir.path).size == 10


def test_a_flood_balances(run_dir):
    with Recorder(run_dir, block_rows=256, num_blocks=8) as recorder:
        recorder.start(make_info())
        for first in range(0, 300_000, 1000):
            recorder.put(make_batch(1000, first))
        overrun = recorder.num_overrun
        recorder.finish(make_info("complete"))
    got = seqs(run_dir.path)
    assert got.size + overrun == 300_000
    assert np.all(np.diff(got) > 0)


def test_the_recorder_is_a_modest_process(run_dir):
    with Recorder(run_dir) as recorder:
        assert os.sched_getscheduler(recorder.pid) == os.SCHED_BATCH
        assert os.getpriority(os.PRIO_PROCESS, recorder.pid) > os.getpriority(os.PRIO_PROCESS, 0)


def test_the_recorder_can_be_kept_off_a_cpu(run_dir):
    with Recorder(run_dir) as recorder:
        allowed = os.sched_getaffinity(0)
        cpu = max(allowed)
        assert recorder.keep_off({cpu}) == (len(allowed) > 1)
        assert os.sched_getaffinity(recorder.pid) == ((allowed - {cpu}) or {cpu})
        assert not recorder.keep_off(allowed)


def test_neither_ctrl_c_nor_sigterm_ends_the_recorder(run_dir):
    with Recorder(run_dir) as recorder:
        assert os.getsid(recorder.pid) == recorder.pid != os.getsid(0)
        recorder.start(make_info())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(recorder.pid, number)
        recorder.put(make_batch(10))
        recorder.finish(make_info("complete"))
    assert seqs(run_dir.path).size == 10


def test_nothing_is_left_of_a_finished_recorder(run_dir):
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with Recorder(run_dir) as recorder:
        recorder.start(make_info())
        recorder.finish(make_info("complete"))
        pid = recorder.pid
    # The shared memory lasts as long as the object, whose counters may still be asked for.
    del recorder
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not Path(f"/proc/{pid}").exists()
