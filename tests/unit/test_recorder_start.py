# SPDX-License-Identifier: GPL-2.0-only
"""A recorder process before it is told what to record: used, not wanted after all, left alone."""

import os
import select
import signal
import subprocess
import sys

import pytest

from tests.unit.recording_kit import make_batch, make_info
from xdptstamp.errors import SetupError
from xdptstamp.store import Recorder, create_run, open_run
from xdptstamp.store.recorder_start import RecorderStart

LIMIT_S = 60
STARTS_ONE = """
import os, time
from xdptstamp.store.recorder_start import RecorderStart
start = RecorderStart()
print(start._popen.pid, flush=True)
time.sleep(600)
"""


def test_what_was_started_before_records(tmp_path):
    start = RecorderStart()
    with create_run(tmp_path, make_info()) as run_dir, Recorder(run_dir, start=start) as recorder:
        start.close()  # it is the recorder's now
        recorder.start(make_info())
        recorder.put(make_batch(10))
        assert recorder.finish(make_info("complete")).num_samples == 10
    assert open_run(run_dir.path).info.state == "complete"


def test_one_that_is_not_wanted_is_gone():
    start = RecorderStart()
    pid = start._popen.pid
    start.close()
    start.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_whose_measuring_process_was_killed_ends():
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE], stdout=subprocess.PIPE, text=True
    ) as parent:
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert select.select([pidfd], [], [], LIMIT_S)[0]
    os.close(pidfd)


def test_one_that_was_killed_is_named(tmp_path):
    start = RecorderStart()
    start._popen.send_signal(signal.SIGKILL)
    with (
        create_run(tmp_path, make_info()) as run_dir,
        pytest.raises(SetupError, match="killed by SIGKILL"),
    ):
        Recorder(run_dir, start=start)


def test_one_that_cannot_be_told_is_not_waited_for():
    start = RecorderStart()
    with pytest.raises(SetupError, match="did not start"):
        start.hand_over("setup", [-1])  # no such descriptor
    with pytest.raises(ProcessLookupError):
        os.kill(start._popen.pid, 0)


def test_pandas_is_never_imported(tmp_path):
    script = f"""
import sys
from pathlib import Path
from tests.unit.recording_kit import make_batch
from xdptstamp.runinfo import RunInfo
from xdptstamp.store import create_run, open_run
from xdptstamp.store.writer import SampleWriter
info = RunInfo("", "ping-pong", "complete", "2026-01-22T13:26:05Z", [])
with create_run(Path({str(tmp_path)!r}), info) as run_dir:
    writer = SampleWriter(run_dir.path / "samples", "ping-pong")
    writer.add(make_batch(10))
    writer.close_file()
run = open_run(run_dir.path)
print(sum(len(batch) for batch in run.batches()), "pandas" in sys.modules)
"""
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "10 False\n"
