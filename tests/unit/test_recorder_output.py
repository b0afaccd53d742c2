# SPDX-License-Identifier: GPL-2.0-only
"""The recorder and its text output, which may fail in any way without harm to the run."""

import contextlib
import json
import os
import subprocess

import pytest

from tests.unit.recording_kit import make_batch, make_info, seqs, wait_for, wait_for_end
from xdptstamp.errors import RunFileError
from xdptstamp.store import Recorder, open_run
from xdptstamp.store.recorder_start import RecorderStart

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


@pytest.fixture
def fake_output(tmp_path, monkeypatch):
    """Arguments for a Recorder with the output above; and what it was told."""
    (tmp_path / "fake_output.py").write_text(FAKE_OUTPUT)
    monkeypatch.syspath_prepend(tmp_path)
    told = tmp_path / "told"

    def arguments(fault=""):
        return {"start": RecorderStart("fake_output"), "output_args": (str(told), fault)}

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
        recorder = Recorder(run_dir, start=RecorderStart("quiet_output"))
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
