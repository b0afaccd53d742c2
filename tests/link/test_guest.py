# SPDX-License-Identifier: GPL-2.0-only
"""How ping-pong ends, whatever ends it: readable run, right exit code, nothing left behind.

All but a few tests share one link, so each start also proves that the one before left nothing.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.link.conftest import Link
from tests.link.running import (
    Client,
    PingPong,
    assert_left_alone,
    one_message,
    rows_of,
    the_run,
    wait_carrier,
    wait_until,
)
from xdptstamp._sys import libbpf
from xdptstamp.cli.session import Signals
from xdptstamp.lab import VethLab
from xdptstamp.linkwatch import LinkChange
from xdptstamp.nic import Nic
from xdptstamp.program import object_path

if os.environ.get("NETIF"):
    pytest.skip(
        "a real NIC is not removed, and its partner is no namespace", allow_module_level=True
    )


# Two signals within less are one wish.
A_SECOND_WISH_S = Signals._REPEAT_S + 0.1


@pytest.fixture
def start(shared_lab, popen_cli, tmp_path):
    """``start(*args, link=..., **options)``: a ping-pong."""

    def start_one(*args, link=shared_lab, **options):
        return PingPong(popen_cli, link, tmp_path / f"out-{link.ifname}", *args, **options)

    return start_one


def assert_ended_well(running, done, code, state, ended_by):
    """Exit code, state and books; returns the run's number of rows."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.stdout, done.stderr)
    run = the_run(running.out)
    assert (run.info.state, run.info.ended_by) == (state, ended_by)
    assert not any(run.info.counts["unaccounted"].values())
    assert rows_of(run) == run.info.counts["received"]
    assert not (run.path / ".lock").exists()
    return rows_of(run)


# -- signals


@pytest.mark.parametrize(
    ("name", "args", "code", "state"),
    [
        ("SIGINT", [], 0, "complete"),
        ("SIGHUP", ["--count", 1000000], 129, "interrupted"),
        ("SIGTERM", ["--duration", "1h"], 143, "interrupted"),
    ],
)
def test_a_signal_drains_restores_and_writes(start, shared_lab, name, args, code, state):
    running = start(*args)
    running.wait_answering()
    with Client(shared_lab) as client:
        client.converse(100)
        done = running.end(getattr(signal, name))
    assert assert_ended_well(running, done, code, state, name) == 101
    assert f"state        {state}, ended by {name}" in done.stdout
    assert "intervals in us, SOFTWARE timestamps" in done.stdout
    assert done.stderr == ""
    assert_left_alone(shared_lab.ifname)


def test_a_second_signal_skips_the_output_alone(start, shared_lab):
    running = start()
    running.wait_answering()
    with Client(shared_lab) as client, stopped(running.recorder_pid):
        client.converse(100)
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: not Nic(shared_lab.ifname).xdp_programs(), "a drained, restored DUT")
        time.sleep(A_SECOND_WISH_S)
        running.process.send_signal(signal.SIGTERM)
        wait_taken(running)
    done = running.process.wait()
    assert assert_ended_well(running, done, 0, "complete", "SIGINT") == 101
    assert (done.stdout, done.stderr) == ("", "")
    assert num_csv_rows(running) == 101


def test_timeout_signals_twice_and_means_it_once(start, shared_lab):
    running = start()
    running.wait_answering()
    done = running.end(signal.SIGINT, signal.SIGTERM)
    assert assert_ended_well(running, done, 0, "complete", "SIGINT") == 1
    assert "intervals in us, SOFTWARE timestamps" in done.stdout


def test_ctrl_c_before_there_is_anything_to_end(start, shared_lab):
    running = start()
    maps = Path(f"/proc/{running.pid}/maps")
    wait_until(lambda: "_multiarray_umath" in maps.read_text(), "the import of NumPy")
    done = running.end(signal.SIGINT)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not running.out.exists()
    assert_left_alone(shared_lab.ifname)


def test_a_signal_during_start_up(start, shared_lab):
    running = start("--count", 9)
    wait_until(Nic(shared_lab.ifname).xdp_programs, "an XDP program")
    done = running.end(signal.SIGTERM)
    assert assert_ended_well(running, done, 143, "interrupted", "SIGTERM") == 0
    assert "no packet was measured" in done.stdout
    assert_left_alone(shared_lab.ifname)


def test_a_signal_while_a_carrier_is_awaited(start, shared_lab):
    set_peer(shared_lab, "down")
    try:
        running = start("--count", 9)
        wait_until(Nic(shared_lab.ifname).xdp_programs, "an XDP program")
        done = running.end(signal.SIGINT)
    finally:
        set_peer(shared_lab, "up")
        wait_carrier(Nic(shared_lab.ifname), 10)
    assert_ended_well(running, done, 130, "interrupted", "SIGINT")
    assert_left_alone(shared_lab.ifname)


def test_a_signal_while_the_csv_is_written(start, shared_lab):
    running = start("--count", 300)
    running.wait_answering()
    with Client(shared_lab) as client, stopped(running.recorder_pid):
        client.converse(299)
        wait_until(lambda: not Nic(shared_lab.ifname).xdp_programs(), "no XDP program")
        running.process.send_signal(signal.SIGINT)
        wait_taken(running)
    done = running.process.wait()
    assert assert_ended_well(running, done, 0, "complete", "count") == 300
    assert num_csv_rows(running) == 300
    assert "intervals in us, SOFTWARE timestamps" in done.stdout


@contextlib.contextmanager
def stopped(pid):
    """A process that stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_taken(running):
    """Wait until no signal is pending."""
    status = Path(f"/proc/{running.pid}/status")
    wait_until(lambda: "ShdPnd:\t0000000000000000" in status.read_text(), "taken signals")


def num_csv_rows(running):
    return (the_run(running.out).path / "samples.csv").read_bytes().count(b"\n") - 1


# -- the interface


def test_interfaces_that_go_in_mid_run(start, shared_lab):
    """Three at once; the fourth, on a link of its own, goes on meanwhile."""
    ends = {
        "del": "vanished: removed, or moved to another namespace",
        "down": "is down: `ip link set {} up`",
        "carrier": "has no carrier: is the cable in, the partner up?",
    }
    with contextlib.ExitStack() as stack:
        labs = {how: Link(stack.enter_context(VethLab()).environ) for how in ends}
        fourth = start()
        running = {how: start(link=lab) for how, lab in labs.items()}
        for each in (fourth, *running.values()):
            each.wait_answering()
        for lab in labs.values():
            with Client(lab) as client:
                client.converse(50)
                for _ in range(500):  # the interface goes in the middle of these
                    client.send()
        subprocess.run(["ip", "link", "del", labs["del"].ifname], check=True)
        subprocess.run(["ip", "link", "set", labs["down"].ifname, "down"], check=True)
        set_peer(labs["carrier"], "down")
        said = {how: assert_said(each, ends[how]) for how, each in running.items()}
        assert said["del"] == said["down"] == []
        # It was waited for, long enough for a line of progress.
        (progress,) = said["carrier"]
        assert re.fullmatch(
            r"xdptstamp: 10 s, \d+ packets, \d+ SOFTWARE timestamps, \d+ missing", progress
        )
        with Client(shared_lab) as client:
            client.converse(50)
        assert_ended_well(fourth, fourth.end(), 0, "complete", "SIGTERM")


def test_a_removal_is_not_taken_for_going_down(nothing_left):
    for _ in range(10):
        with VethLab() as lab, Nic(lab.ifname).watch() as watch:
            removal = subprocess.Popen(["ip", "link", "del", lab.ifname])
            while (change := watch.check()) < LinkChange.DOWN:
                continue
            assert change == LinkChange.VANISHED
            assert removal.wait() == 0


def assert_said(running, problem):
    """Readable run, summary and message; returns what stood before the message."""
    done = running.process.wait()
    problem = f"{running.link.ifname} {problem.format(running.link.ifname)}"
    num_rows = assert_ended_well(running, done, 1, "interrupted", problem)
    assert num_rows > 50
    assert num_csv_rows(running) == num_rows
    assert f"  received                 {num_rows:>15,}" in done.stdout.splitlines()
    has_counters = bool(the_run(running.out).info.counters)
    assert has_counters == ("vanished" not in problem)
    *before, last = done.stderr.splitlines()
    assert last == f"Error: {problem}"
    return before


def set_peer(link, state):
    peer = link.ifname.replace("xdpt", "peer")
    assert link.partner.run(["ip", "link", "set", peer, state]).returncode == 0


# -- other users of the interface


def test_a_second_ping_pong_on_the_same_interface(start, shared_lab, run_cli, tmp_path):
    running = start()
    running.wait_answering()
    (program,) = Nic(shared_lab.ifname).xdp_programs()
    args = ("ping-pong", shared_lab.ifname, "--output-dir", tmp_path)
    refused = one_message(run_cli(*args), 1)
    assert f"XDP program id {program.prog_id} is attached already (native mode)" in refused
    assert "End its owner, or use --force" in refused
    forced = one_message(run_cli(*args, "--force"), 1)
    assert "hangs on a bpf_link, which only its owner can end, even with --force" in forced
    with Client(shared_lab) as client:
        client.converse(50)
    assert assert_ended_well(running, running.end(), 0, "complete", "SIGTERM") == 51


def test_a_program_that_was_there_is_put_back(start, shared_lab, run_cli, tmp_path):
    nic = Nic(shared_lab.ifname)
    foreign = libbpf.BpfObject(object_path(), "foreign")
    foreign.choose_program("xdptstamp_plain", ("xdptstamp_hints",))
    foreign.load()
    fd = foreign.program_fd("xdptstamp_plain")
    libbpf.attach_xdp(fd, nic.ifindex, libbpf.XDP_FLAGS_DRV_MODE, nic.ifname)
    try:
        before = nic.xdp_programs()
        refused = one_message(run_cli("ping-pong", nic.ifname, "--output-dir", tmp_path), 1)
        assert f"XDP program id {before[0].prog_id} is attached already" in refused
        running = start("--force")
        running.wait_answering()
        assert nic.xdp_programs() != before
        assert assert_ended_well(running, running.end(), 0, "complete", "SIGTERM") == 1
        assert nic.xdp_programs() == before
    finally:
        libbpf.detach_xdp(nic.ifindex, libbpf.XDP_FLAGS_DRV_MODE, nic.ifname)
        foreign.close()


# -- where it writes to


def test_a_reader_that_has_enough(shared_lab, tmp_path):
    command = f"{sys.executable} -m xdptstamp ping-pong {shared_lab.ifname} --format jsonl"
    pipe = f"{command} --output-dir {tmp_path / 'out'} --count 1000000 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f'{pipe}; echo "${{PIPESTATUS[0]}}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    first, code = done.stdout.splitlines()
    assert json.loads(first)["type"] == "start"
    assert (code, done.stderr) == ("141", "")
    run = the_run(tmp_path / "out")
    assert (run.info.state, run.info.ended_by) == ("interrupted", "output closed")
    assert_left_alone(shared_lab.ifname)


def test_a_standard_output_that_is_not_open(shared_lab, tmp_path):
    command = f"{sys.executable} -m xdptstamp ping-pong {shared_lab.ifname} --duration 1ms"
    command += f" --output-dir {tmp_path / 'out'} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert the_run(tmp_path / "out").info.state == "complete"


def test_a_disk_that_fills(start, shared_lab, tmp_path):
    with small_disk(tmp_path / f"out-{shared_lab.ifname}") as disk:
        running = start("--quiet")
        running.wait_answering()
        with Client(shared_lab) as client:
            while not list(disk.glob("*/samples/[0-9]*.parquet")):
                assert running.process.process.poll() is None
                client.send()
            # Almost: how the run ended is still to be written. What is recorded meanwhile may
            # make it too much.
            other = disk / "other"
            with contextlib.suppress(OSError):
                other.write_bytes(bytes(max(shutil.disk_usage(disk).free - 65536, 0)))
            while running.process.process.poll() is None:
                client.send()
        other.unlink()
        done = running.process.wait()
        message = one_message(done, 1)
        assert "No space left on device. Free space there, or choose another place" in message
        assert "samples are not kept)" in message
        run = the_run(running.out)
        assert run.info.state == "interrupted"
        assert 0 < rows_of(run) < run.info.counts["received"]
    assert_left_alone(shared_lab.ifname)


@contextlib.contextmanager
def small_disk(folder):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
