# SPDX-License-Identifier: GPL-2.0-only
"""kill -9 in the middle of a flood: the kernel cleans up, and the run is there but for its end."""

import os
import signal

import numpy as np
import pytest

from tests.link.running import (
    Flood,
    PingPong,
    assert_left_alone,
    assert_next_start_works,
    is_alive,
    the_run,
    wait_until,
)
from xdptstamp.store import iter_batches, open_run

if os.environ.get("NETIF"):
    pytest.skip("the flood comes out of the partner's namespace", allow_module_level=True)


@pytest.fixture
def flooded(shared_lab, popen_cli, tmp_path):
    """A ping-pong in a flood, some of its samples in closed files, some not; and its recorder."""
    running = PingPong(popen_cli, shared_lab, tmp_path / "out")
    with Flood(shared_lab):
        wait_until(lambda: closed_files(running), "a closed file of samples")
        recorder_pid = running.recorder_pid
        yield running, recorder_pid
    wait_until(lambda: not is_alive(recorder_pid), "the recorder's end")


def closed_files(running):
    return list(running.out.glob("*/samples/*.parquet"))


def seqs_of(run):
    return np.concatenate([batch["seq"].copy() for batch in iter_batches(run)])


def num_flushed(running):
    """How many samples lie in closed files now."""
    (path,) = running.out.iterdir()
    return len(seqs_of(open_run(path)))


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def test_the_measuring_process(flooded, shared_lab, popen_cli, tmp_path):
    running, recorder_pid = flooded
    num_before = num_flushed(running)
    kill(running.pid)
    # The recorder has standard output, too, and ends it when all is written.
    done = running.process.wait()
    assert done.returncode == -signal.SIGKILL
    assert_left_alone(shared_lab.ifname)
    assert_next_start_works(popen_cli, shared_lab, tmp_path)

    wait_until(lambda: not is_alive(recorder_pid), "the recorder's end")
    run = the_run(running.out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "killed")
    assert run.info.obtained["mode"] == "copy"
    seqs = np.sort(seqs_of(run))
    assert len(seqs) > num_before > 0
    assert (seqs == np.arange(len(seqs))).all(), "a hole before the end"
    assert (run.path / "samples.csv").read_bytes().count(b"\n") == len(seqs) + 1
    assert not (run.path / ".lock").exists()
    assert "state        interrupted, ended by killed" in done.stdout


def test_the_measuring_process_and_its_recorder(flooded, shared_lab, popen_cli, tmp_path):
    running, recorder_pid = flooded
    kill(recorder_pid)
    kill(running.pid)
    done = running.process.wait()
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    assert_left_alone(shared_lab.ifname)
    assert_next_start_works(popen_cli, shared_lab, tmp_path)

    run = the_run(running.out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "killed")
    assert run.info.obtained["mode"] == "copy"
    seqs = np.sort(seqs_of(run))
    assert len(seqs) > 0
    assert (seqs == np.arange(len(seqs))).all(), "a hole before the end"


def test_the_recorder_alone(flooded, shared_lab, popen_cli, tmp_path):
    running, recorder_pid = flooded
    num_before = num_flushed(running)
    kill(recorder_pid)
    done = running.process.wait()
    assert done.returncode == 1
    assert done.stdout == ""
    (message,) = done.stderr.splitlines()
    assert message.startswith(f"Error: {the_run(running.out).path}: the recorder process ended")
    assert "killed by SIGKILL" in message
    assert "samples are kept up to its last flush. Measure again" in message
    assert_left_alone(shared_lab.ifname)
    run = the_run(running.out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "recorder")
    assert run.info.counts["received"] > len(seqs_of(run)) >= num_before > 0
