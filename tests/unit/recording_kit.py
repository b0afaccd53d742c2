# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the recorder share: runs and samples to record, and waiting for it."""

import contextlib
import os
import select
import time

import numpy as np

from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Cause, empty_batch
from xdptstamp.store import open_run

EPOCH = 1_790_000_000_000_000_001


def make_info(state="running", **fields):
    basics = {"run_id": "", "kind": "ping-pong", "started_utc": "2026-01-22T13:26:05Z"}
    return RunInfo(state=state, argv=["x"], **(basics | fields))


def make_batch(num_samples, first=0):
    batch = empty_batch(num_samples)
    batch["seq"] = np.arange(first, first + num_samples)
    batch["tx_app_ns"] = EPOCH + batch["seq"]
    batch["tx_sw_ns"] = batch["tx_app_ns"] + 1001
    batch["cause"][5::10] = Cause.SKIPPED
    batch["tx_sw_ns"][5::10] = -1
    return batch


def wait_for(condition, limit_s=60):
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def wait_for_end(pid):
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            assert select.select([pidfd], [], [], 60)[0], "the recorder process did not end"
        finally:
            os.close(pidfd)


def seqs(path):
    return np.concatenate([np.zeros(0, int), *(b["seq"] for b in open_run(path).batches(["seq"]))])
