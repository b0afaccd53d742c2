# SPDX-License-Identifier: GPL-2.0-only
"""The recorder and its process: what is put is on disk, whoever dies, and nobody waits."""

import contextlib
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from xdptstamp.errors import RunFileError, SetupError
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Cause, empty_batch
from xdptstamp.stats import Summary
from xdptstamp.store import Recorder, create_run, open_run
from xdptstamp.store.recorder_process import flush_interval

EPOCH = 1_790_000_000_000_000_001

# An output that tells what it is called with, in a file and on standard output.
FAKE_OUTPUT = """
import json, sys
from xdptstamp.store.recorder_process import main

class Output:
    def __init__(self, args):
        self.path, self.fault = args
        self.num_rows = 0

    def tell(self, word, **facts):
        with open(self.path, "a") as file:
            print(json.dumps({"word": word, **facts}), file=file)
        if self.fault == word:
            raise RuntimeError("a bug in the output")
        print(word)

    def start(self, info):
        self.tell("start", kind=info.kind, obtained=info.obtained)

    def batch(self, batch, summary, status):
        self.num_rows += len(batch)
        self.tell("batch", rows=self.num_rows, seen=summary.num_samples, status=status)

    def tick(self, summary, status):
        self.tell("tick", seen=summary.num_samples, status=status)

    def end(self, info, summary):
        self.tell("end", state=info.state, seen=summary.num_samples, obtained=info.obtained)

if __name__ == "__main__":
    sys.exit(main(Output))
"""


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


@pytest.fixture
def run_dir(tmp_path):
    with create_run(tmp_path / "results", make_info()) as run_dir:
        yield run_dir


@pytest.fixture
def fake_output(tmp_path, monkeypatch):
    """Arguments for a Recorder with the output above; and what it was told."""
    (tmp_path / "fake_output.py").write_text(FAKE_OUTPUT)
    monkeypatch.syspath_prepend(tmp_path)
    told = tmp_path / "told"

    def arguments(fault=""):
        return {"module": "fake_output", "output_args": (str(told), fault)}

    def calls():
        lines = told.read_text().splitlines() if told.exists() else []
        return [json.loads(line) for line in lines]

    return arguments, calls


@contextlib.contextmanager
def standard_output(fd):
    """Who is started inside has ``fd`` as its standard output."""
    saved = os.dup(1)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


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
    again = Summary.of_batches("ping-pong", run.batches())
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


def test_the_output_is_called_as_agreed(run_dir, fake_output, capfd):
    arguments, calls = fake_output
    with Recorder(run_dir, status_names=("received", "answered"), **arguments()) as recorder:
        assert calls() == []
        recorder.start(make_info(obtained={"mode": "copy"}))
        recorder.status[:] = [2**60 + 1, 7]
        wait_for(lambda: len(calls()) > 3)
        recorder.put(make_batch(10))
        recorder.flush()
        wait_for(lambda: any(call["word"] == "batch" for call in calls()))
        assert recorder.error is None
        assert not recorder.should_stop
        recorder.finish(make_info("complete"))
    told = calls()
    assert told[0] == {"word": "start", "kind": "ping-pong", "obtained": {"mode": "copy"}}
    status = {"received": 2**60 + 1, "answered": 7}
    batches = [call for call in told if call["word"] == "batch"]
    assert batches == [{"word": "batch", "rows": 10, "seen": 10, "status": status}]
    assert told[-2]["word"] in ("tick", "batch")
    places = {"run_dir": str(run_dir.path), "csv": str(run_dir.path / "samples.csv")}
    assert told[-1] == {"word": "end", "state": "complete", "seen": 10, "obtained": places}
    assert [call["word"] for call in told].count("end") == 1
    assert capfd.readouterr().out.split() == [call["word"] for call in told]


def test_the_verdict_on_the_samples_is_written_and_shown(run_dir, fake_output):
    arguments, calls = fake_output
    info = make_info()

    def judge(summary):
        info.counts["judged"] = summary.num_samples
        info.state = "complete"

    with Recorder(run_dir, **arguments()) as recorder:
        recorder.start(info)
        recorder.put(make_batch(10))
        recorder.finish(info, judge=judge)
    assert open_run(run_dir.path).info.counts == {"judged": 10}
    assert calls()[-1]["state"] == "complete"


def test_a_verdict_that_fails_leaves_an_interrupted_run(run_dir):
    with pytest.raises(ZeroDivisionError), Recorder(run_dir) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(10))
        recorder.finish(make_info("complete"), judge=lambda _: 1 / 0)
    wait_for_end(recorder.pid)
    assert open_run(run_dir.path).info.state == "interrupted"
    assert seqs(run_dir.path).size == 10


def test_the_recorder_is_a_modest_process(run_dir):
    with Recorder(run_dir) as recorder:
        assert os.sched_getscheduler(recorder.pid) == os.SCHED_BATCH
        assert os.getpriority(os.PRIO_PROCESS, recorder.pid) > os.getpriority(os.PRIO_PROCESS, 0)


def test_a_second_signal_skips_the_output_only(run_dir, fake_output):
    arguments, calls = fake_output
    with Recorder(run_dir, **arguments()) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(10))
        recorder.finish(make_info("complete"), skip_output=True)
    assert "end" not in [call["word"] for call in calls()]
    assert open_run(run_dir.path).info.state == "complete"
    assert seqs(run_dir.path).size == 10


def test_output_that_nobody_takes_can_be_skipped_while_it_waits(run_dir, fake_output):
    arguments, _ = fake_output
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)
    with standard_output(writing):
        recorder = Recorder(run_dir, block_rows=8, num_blocks=4, **arguments())
    with recorder:
        recorder.start(make_info())
        wait_for(lambda: recorder._blocks.is_in_output)
        # It waits for its reader; the measuring side does not wait for it.
        recorder.put(make_batch(100))
        assert recorder.num_overrun == 100 - 32
        recorder.skip_output()
        recorder.finish(make_info("complete"))
    assert seqs(run_dir.path).size == 32
    os.close(reading)
    os.close(writing)


def test_a_reader_that_goes_away_stops_the_run_and_harms_nothing(run_dir, fake_output, capfd):
    arguments, _ = fake_output
    reading, writing = os.pipe()
    with standard_output(writing):
        recorder = Recorder(run_dir, **arguments())
    os.close(writing)
    with recorder:
        recorder.start(make_info())
        recorder.put(make_batch(10))
        assert os.read(reading, 5) == b"start"
        assert not recorder.should_stop
        os.close(reading)
        wait_for(lambda: recorder.should_stop)
        assert recorder.error is None
        recorder.finish(make_info("complete"))
    assert open_run(run_dir.path).info.state == "complete"
    assert seqs(run_dir.path).size == 10
    assert capfd.readouterr().err == ""


def test_a_reader_that_goes_away_is_noticed_without_anything_to_show(run_dir):
    source = "import sys\nfrom xdptstamp.store.recorder_process import main\n"
    source += "class Quiet:\n    start = batch = tick = end = lambda *_: None\n"
    source += "sys.exit(main(lambda _: Quiet()))\n"
    (run_dir.path / "quiet_output.py").write_text(source)
    reading, writing = os.pipe()
    with pytest.MonkeyPatch.context() as patch, standard_output(writing):
        patch.syspath_prepend(run_dir.path)
        recorder = Recorder(run_dir, module="quiet_output")
    os.close(writing)
    with recorder:
        recorder.start(make_info())
        os.close(reading)
        wait_for(lambda: recorder.should_stop)
        recorder.finish(make_info("complete"))


def test_a_full_disk_behind_standard_output_is_an_error(run_dir, fake_output):
    arguments, _ = fake_output
    full = os.open("/dev/full", os.O_WRONLY)
    with standard_output(full):
        recorder = Recorder(run_dir, **arguments())
    os.close(full)
    with recorder:
        recorder.start(make_info())
        recorder.put(make_batch(10))
        assert "standard output: cannot write" in wait_for(lambda: recorder.error)
        assert recorder.should_stop
        with pytest.raises(RunFileError, match="No space left"):
            recorder.finish(make_info("complete"))
    assert open_run(run_dir.path).info.state == "complete"
    assert seqs(run_dir.path).size == 10


@pytest.mark.parametrize("word", ["start", "batch", "tick", "end"])
def test_a_bug_in_the_output_costs_no_sample(run_dir, fake_output, word, capfd):
    arguments, calls = fake_output
    with Recorder(run_dir, **arguments(word)) as recorder:
        recorder.start(make_info())
        recorder.put(make_batch(10))
        recorder.flush()
        if word != "end":
            wait_for(lambda: word in [call["word"] for call in calls()])
        with pytest.raises(RunFileError, match="a bug in the output"):
            recorder.finish(make_info("complete"))
    assert "RuntimeError" in capfd.readouterr().err
    assert open_run(run_dir.path).info.state == "complete"
    assert seqs(run_dir.path).size == 10


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


def test_a_recorder_killed_while_it_is_waited_for_is_named(run_dir, fake_output):
    arguments, _ = fake_output
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)
    with standard_output(writing):
        recorder = Recorder(run_dir, **arguments())
    with recorder:
        recorder.start(make_info())
        wait_for(lambda: recorder._blocks.is_in_output)
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {recorder.pid}"])
        with pytest.raises(RunFileError, match="killed by SIGKILL"):
            recorder.finish(make_info("complete"))
        killer.wait()
    assert open_run(run_dir.path).info.state == "interrupted"
    os.close(reading)
    os.close(writing)


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


def test_a_recorder_that_cannot_start_says_so_and_leaves_nothing(run_dir, capfd):
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(SetupError, match=r"did not start \(exit code 1\)"):
        Recorder(run_dir, module="xdptstamp.no_such_module")
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


@pytest.fixture
def small_disk(tmp_path, skip_or_fail):
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "xdptstamp-test", str(place)]
    if os.geteuid() != 0:
        skip_or_fail("root", "mounts a small disk")
    done = subprocess.run(mount, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        skip_or_fail("root", f"cannot mount a small disk: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


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


def test_a_disk_without_room_for_run_json_keeps_the_old_one(small_disk):
    with create_run(small_disk, make_info()) as run_dir, Recorder(run_dir) as recorder:
        recorder.start(make_info())
        recorder.put(random_batch(0))
        recorder.flush()
        wait_for(lambda: seqs(run_dir.path).size == 4096)
        with contextlib.suppress(OSError), open(small_disk / "filler", "wb", 0) as filler:
            while filler.write(b"x" * 4096):
                pass
        with pytest.raises(RunFileError, match="No space left on device"):
            recorder.finish(make_info("complete"))
    run = open_run(run_dir.path)
    assert run.info.state == "interrupted"
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
