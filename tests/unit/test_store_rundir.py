# SPDX-License-Identifier: GPL-2.0-only
"""Making run folders and opening them again, whatever happened in between."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xdptstamp.errors import RunFileError
from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.store import create_run, open_run
from xdptstamp.store.rundir import is_being_written


def make_info(**fields):
    basics = {
        "run_id": "",
        "kind": "ping-pong",
        "state": "running",
        "started_utc": "2026-01-22T13:26:05+00:00",
        "argv": ["xdptstamp", "ping-pong", "eth1"],
        "dut": {"hostname": "board7"},
        "nic": {"ifname": "eth1"},
    }
    return RunInfo(**(basics | fields))


def test_the_folder_says_when_where_and_what(tmp_path):
    with create_run(tmp_path, make_info(label="after fix")) as run_dir:
        assert run_dir.path.name == "20260122T132605Z-board7-eth1-ping-pong-after_fix"
        assert run_dir.info.run_id == run_dir.path.name
        assert (run_dir.path / "samples").is_dir()


def test_a_run_id_that_was_given_is_kept(tmp_path):
    with create_run(tmp_path, make_info(run_id="mine")) as run_dir:
        assert open_run(run_dir.path).info.run_id == "mine"


def test_times_of_other_zones_become_utc(tmp_path):
    with create_run(tmp_path, make_info(started_utc="2026-01-22T15:26:05+02:00")) as run_dir:
        assert run_dir.path.name.startswith("20260122T132605Z-")


@pytest.mark.parametrize(
    ("label", "end"),
    [
        ("../../etc/passwd", "-etc_passwd"),
        ("a b\n$(reboot)", "-a_b_reboot"),
        ("größe", "-gr_e"),
        ("///", "ping-pong"),
        ("x" * 500, "-" + "x" * 60),
    ],
)
def test_a_label_cannot_leave_the_results_folder(tmp_path, label, end):
    with create_run(tmp_path, make_info(label=label)) as run_dir:
        assert run_dir.path.parent == tmp_path
        assert run_dir.path.name.endswith(end)
        assert re.fullmatch(r"[\w.-]+", run_dir.path.name, re.ASCII)
        assert open_run(run_dir.path).info.label == label


def test_the_output_dir_comes_from_the_environment_or_is_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDPTSTAMP_OUTPUT_DIR", raising=False)
    with create_run(None, make_info()) as run_dir:
        assert run_dir.path.parent == tmp_path / "results"
    monkeypatch.setenv("XDPTSTAMP_OUTPUT_DIR", str(tmp_path / "over" / "there"))
    with create_run(None, make_info()) as run_dir:
        assert run_dir.path.parent == tmp_path / "over" / "there"


# Runs in a process of its own.
def _create_some(base, gate, names):
    gate.wait()
    for _ in range(20):
        with create_run(Path(base), make_info()) as run_dir:
            (run_dir.path / "mine").touch(exist_ok=False)
            names.put(run_dir.path.name)


def test_concurrent_runs_of_one_second_never_share_a_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    gate, names = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_create_some, args=(tmp_path, gate, names)) for _ in range(4)]
    for worker in workers:
        worker.start()
    got = [names.get(timeout=60) for _ in range(80)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    names.close()
    names.join_thread()
    assert len(set(got)) == 80 == len(list(tmp_path.iterdir()))


def test_what_was_written_is_read_back(tmp_path):
    info = make_info(
        counts={"received": np.int64(2**60 + 1)},
        obtained={"csv": Path("/x.csv")},
        warnings=[Warning("k", "m", "v", "l", "a", is_untrusted=True)],
    )
    with create_run(tmp_path, info) as run_dir:
        info.state = "complete"
        run_dir.write_info(info)
    run = open_run(run_dir.path)
    assert run.info.state == "complete"
    assert run.info.counts == {"received": 2**60 + 1}
    assert run.info.obtained == {"csv": "/x.csv"}
    assert run.info.warnings == info.warnings
    assert list(run.batches()) == []
    assert [path.name for path in run_dir.path.iterdir() if path.name != "samples"] == ["run.json"]


def test_not_a_number_never_reaches_the_file(tmp_path):
    with create_run(tmp_path, make_info()) as run_dir:
        before = (run_dir.path / "run.json").read_bytes()
        with pytest.raises(ValueError, match="JSON"):
            run_dir.write_info(make_info(counts={"x": float("nan")}))
        assert (run_dir.path / "run.json").read_bytes() == before


def test_a_run_that_is_being_written_is_running(tmp_path):
    with create_run(tmp_path, make_info()) as run_dir:
        assert open_run(run_dir.path).info.state == "running"


_KILLED = """
import os, signal, sys
from pathlib import Path
from xdptstamp.runinfo import RunInfo
from xdptstamp.store import create_run
info = RunInfo("", "ping", "running", "2026-01-22T13:26:05Z", [])
run_dir = create_run(Path(sys.argv[1]), info)
(run_dir.path / "samples" / ".00000.parquet.tmp").write_bytes(b"PAR1 half of")
print(run_dir.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, tmp_path], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -9
    path = Path(done.stdout.strip())
    assert json.loads((path / "run.json").read_text())["state"] == "running"
    assert not is_being_written(path)
    run = open_run(path)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "killed")
    assert list(run.batches()) == []


def closed_run(base, **fields):
    with create_run(base, make_info(state="complete", **fields)) as run_dir:
        return run_dir.path


def damaged(path, change):
    content = json.loads((path / "run.json").read_text())
    change(content)
    (path / "run.json").write_text(json.dumps(content))


def message_of(path):
    with pytest.raises(RunFileError) as caught:
        open_run(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_run_is_refused_with_one_line(tmp_path):
    assert "no such run folder" in message_of(tmp_path / "nothing" / "here")
    assert "not a run: there is no run.json" in message_of(tmp_path)
    (tmp_path / "file").touch()
    assert "not a run" in message_of(tmp_path / "file")


def test_a_damaged_run_json_is_refused_with_one_line(tmp_path):
    path = closed_run(tmp_path)
    whole = (path / "run.json").read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 3):
        (path / "run.json").write_bytes(whole[:size])
        assert "run.json: truncated or damaged" in message_of(path)
    (path / "run.json").write_bytes(b"\xff\xfe\x00")
    assert "truncated or damaged" in message_of(path)
    (path / "run.json").write_text("[1]")
    assert "no JSON object" in message_of(path)


def test_what_this_version_cannot_know_is_refused(tmp_path):
    path = closed_run(tmp_path)
    damaged(path, lambda content: content.update(schema_version=99))
    assert "schema version 99" in message_of(path)
    damaged(path, lambda content: content.update(schema_version=1, kind="poetry"))
    assert "unknown kind of run: 'poetry'" in message_of(path)
    damaged(path, lambda content: content.update(kind="ping", state="resting"))
    assert "unknown state 'resting'" in message_of(path)
    damaged(path, lambda content: content.pop("state"))
    assert "state" in message_of(path)


def test_what_a_later_version_adds_is_ignored(tmp_path):
    path = closed_run(tmp_path)
    damaged(path, lambda content: content.update(mood="good"))
    assert open_run(path).info.state == "complete"


def as_user(uid, action):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        action()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)


@pytest.fixture
def root(skip_or_fail):
    if os.geteuid() != 0:
        skip_or_fail("root", "takes another user's place")


def open_ways(path):
    """A folder as pytest makes it is closed to others; open it up to the root."""
    for folder in (path, *path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o055)


def test_an_unwritable_place_is_named_with_advice(root, tmp_path):
    open_ways(tmp_path)
    (tmp_path / "closed").mkdir(mode=0o755)

    def attempt():
        with pytest.raises(RunFileError) as caught:
            create_run(tmp_path / "closed" / "results", make_info())
        assert f"{tmp_path}/closed" in str(caught.value)
        assert "Permission denied" in str(caught.value)
        assert "--output-dir or XDPTSTAMP_OUTPUT_DIR" in str(caught.value)

    assert as_user(65534, attempt) == 0


def test_an_unreadable_run_is_named(root, tmp_path):
    path = closed_run(tmp_path)
    open_ways(path)
    (path / "run.json").chmod(0o600)
    assert as_user(65534, lambda: "Permission denied" in message_of(path) or os._exit(2)) == 0


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(RunFileError, match="cannot make a run folder here"):
        create_run(tmp_path / "results", make_info())


def test_under_sudo_the_user_owns_the_run(root, tmp_path, monkeypatch):
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "2345")
    with create_run(tmp_path / "new" / "place", make_info()) as run_dir:
        made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
        assert run_dir.path / "run.json" in made
        assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(1234, 2345)}
    assert tmp_path.stat().st_uid == 0


def test_without_sudo_root_owns_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setenv("SUDO_GID", "2345")
    with create_run(tmp_path, make_info()) as run_dir:
        assert (run_dir.path / "run.json").stat().st_uid == os.geteuid()
        assert (run_dir.path / "run.json").stat().st_gid == os.getegid()
