# SPDX-License-Identifier: GPL-2.0-only
"""``ping-pong`` doing its job for a stranger: what it answers, prints, writes and returns."""

import contextlib
import csv
import json
import os
import pty
import re
import select
import subprocess
import sys

import pytest

from tests.link.running import (
    Client,
    PingPong,
    assert_left_alone,
    one_message,
    rows_of,
    the_run,
)
from xdptstamp.store import iter_batches

if os.environ.get("NETIF"):
    pytest.skip("these requests come out of the partner's namespace", allow_module_level=True)

WIDTH = 72
# For whoever starts before the sockets are there: the first request that is answered counts, too.
FIRST = 1


@pytest.fixture
def serve(shared_lab, popen_cli, tmp_path):
    """``serve(*args, requests=(b"xdp", ...))``: start, ask, end; (PingPong, CompletedProcess)."""

    def run(*args, requests=(b"xdp",) * 20, **client):
        running = PingPong(popen_cli, shared_lab, tmp_path / "out", *args)
        running.wait_answering(**client)
        with Client(shared_lab, **client) as asker:
            for request in requests:
                assert asker.ask(request) == request
        done = running.process.wait() if "--count" in args else running.end()
        assert_left_alone(shared_lab.ifname)
        return running, done

    return run


def assert_plain(text, except_for=()):
    """ASCII of at most 72 columns; only a path may be longer."""
    for line in text.splitlines():
        assert line.isascii() and line.isprintable(), line
        assert len(line) <= WIDTH or line.startswith("/"), line


# -- what it prints and writes


def test_the_table(serve, shared_lab, tmp_path):
    sizes = (1, 2, 3, 17, 18, 63, 64, 511, 1000, 1471, 1472)
    requests = [bytes(range(256)) * 6 for _ in sizes]
    requests = [request[:size] for request, size in zip(requests, sizes, strict=True)]
    extra = tmp_path / "extra.csv"
    running, done = serve(
        *("--count", len(sizes) + FIRST, "--label", "board 7", "--csv", extra),
        requests=requests,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert_plain(done.stdout)
    lines = done.stdout.splitlines()
    assert lines[0] == "xdptstamp ping-pong: SOFTWARE timestamps"
    for line in (
        "label        board 7",
        "state        complete, ended by count",
        f"interface    {shared_lab.ifname}, driver veth",
        "mode         copy (asked auto)",
        f"note         {shared_lab.ifname} has no hwtstamp setting to turn on",
        "first stamped packets, SOFTWARE timestamps",
        f"  stamped                  {len(sizes) + FIRST:>15}  100.000 %",
        "intervals in us, SOFTWARE timestamps",
    ):
        assert line in lines, line
    run = the_run(running.out)
    assert str(run.path) in lines
    assert str(extra) in done.stdout
    assert re.fullmatch(r"\d{8}T\d{6}Z-.+-ping-pong-board_7", run.path.name)
    assert extra.read_bytes() == (run.path / "samples.csv").read_bytes()
    with open(extra, encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    # Ethernet, IPv4 and UDP headers are 42 bytes. The queues take turns at writing.
    lengths = {int(row["seq"]): int(row["len"]) - 42 for row in rows}
    assert [lengths[seq] for seq in range(len(rows))] == [len("ready?"), *sizes]


def test_jsonl(serve):
    running, done = serve("--format", "jsonl", "--count", 20 + FIRST)
    assert done.returncode == 0
    start, *samples, end = (json.loads(line) for line in done.stdout.splitlines())
    assert (start["type"], end["type"]) == ("start", "end")
    assert start["info"]["state"] == "running"
    assert start["info"]["obtained"]["mode"] == "copy"
    run = the_run(running.out)
    assert end["info"]["obtained"].pop("run_dir") == str(run.path)
    assert end["info"]["obtained"].pop("csv") == str(run.path / "samples.csv")
    assert end["info"] == json.loads((run.path / "run.json").read_text())
    assert end["summary"]["num_stamped"] == len(samples) == 20 + FIRST
    assert {sample["seq"] for sample in samples} == set(range(len(samples)))
    for sample in samples:
        assert sample["type"] == "sample"
        times = [sample[f"{point}_ns"] for point in ("rx_xdp", "rx_app", "tx_app", "tx_sw")]
        assert times == sorted(times)
        assert {type(time) for time in times} == {int}


def test_hwmeta(serve):
    _, done = serve("--format", "hwmeta", "--count", 20 + FIRST)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "rxq: 2"
    stamp = re.compile(
        r"HW TX-complete-time:   (\d{19}) \(sec:\d+\.\d{4}\) "
        r"delta to User TX-complete-time sec:-?\d+\.\d{4} \(-?\d+\.\d{3} usec\)"
    )
    assert len([line for line in lines if stamp.fullmatch(line)]) == 20 + FIRST
    complete = re.compile(r"0x\w+: complete rx idx=\d+ addr=\w+")
    assert len([line for line in lines if complete.fullmatch(line)]) == 20 + FIRST
    assert lines[-1] == "detaching bpf program...."
    assert "note: SOFTWARE timestamps behind every TX-complete-time" in done.stderr
    assert_plain(done.stderr)


def test_a_limit_that_is_missed(serve):
    running, done = serve(
        "--quiet", "--fail-if", "turnaround p50 > 1ns", "--fail-if", "missing > 0"
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("--fail-if 'turnaround p50 > 1ns' is true") == 1
    assert "missing" not in done.stderr
    info = the_run(running.out).info
    assert info.state == "complete"
    assert [warning.key for warning in info.warnings if warning.is_untrusted] == ["fail-if"]


def test_a_terminal_sees_it_live(shared_lab, tmp_path):
    argv = [sys.executable, "-m", "xdptstamp", "ping-pong", shared_lab.ifname, "--count", "9"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [*argv, "--output-dir", str(tmp_path / "out")])
    text = b""
    with Client(shared_lab) as client, contextlib.suppress(OSError):  # EIO: the command has ended
        while True:
            client.send()
            if select.select([terminal], [], [], 0.05)[0]:
                text += os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"\x1b[2K" in text, "nothing was redrawn"
    assert b"intervals in us, SOFTWARE timestamps" in text


# -- what it answers


def test_a_plain_datagram_over_ipv6(serve, shared_lab):
    running, done = serve("--port", 7, "--wait", "spin", host=shared_lab.local_v6, port=7)
    assert done.returncode == 0
    info = the_run(running.out).info
    assert (info.asked["port"], info.obtained["wait"]) == (7, "spin")
    assert info.counts["answered"] == info.counts["received"] == 20 + FIRST
    # Requests came all the time it took to start: they were the stack's, not lost, not late.
    assert info.counts["passed_no_socket"] > 0
    assert info.counts["rx_dropped"] == info.counts["rx_ring_full"] == 0


@pytest.mark.parametrize("lab", [4], indirect=True)
def test_some_queues_alone(lab, popen_cli, tmp_path):
    args = ("--queue", 1, "--queue", 3, "--queue", 1)
    running = PingPong(popen_cli, lab, tmp_path / "out", *args)
    running.wait_recording()
    num_answered = 0
    # Which queue a request comes to is its ports' business.
    for _ in range(60):
        with Client(lab) as client:
            num_answered += client.ask(timeout_s=0.02) is not None
    done = running.end()
    assert done.returncode == 0
    run = the_run(running.out)
    assert run.info.obtained["queues"] == [1, 3]
    counts = run.info.counts
    assert counts["answered"] == counts["received"] >= num_answered > 0
    assert counts["passed_no_socket"] > 0
    assert counts["passed_no_socket"] + counts["received"] == 60
    assert {number for batch in iter_batches(run) for number in batch["queue_id"]} == {1, 3}


def test_it_only_receives(shared_lab, popen_cli, tmp_path):
    running = PingPong(popen_cli, shared_lab, tmp_path / "out", "--no-reply", "--count", 20)
    running.wait_recording()
    with Client(shared_lab) as client:
        while running.process.process.poll() is None:
            assert client.ask(timeout_s=0.01) is None
    done = running.process.wait()
    assert done.returncode == 0
    assert done.stdout.startswith("xdptstamp ping-pong: NO TIMESTAMPS\n")
    run = the_run(running.out)
    assert rows_of(run) == 20
    for batch in iter_batches(run):
        assert (batch["tx_app_ns"] == -1).all()
        assert (batch["rx_app_ns"] >= batch["rx_xdp_ns"]).all()


def test_it_replies_without_stamps(serve):
    running, done = serve("--no-timestamps")
    assert done.returncode == 0
    assert done.stdout.startswith("xdptstamp ping-pong: NO TIMESTAMPS\n")
    for batch in iter_batches(the_run(running.out)):
        assert (batch["tx_sw_ns"] == -1).all()
        assert (batch["tx_comp_ns"] >= batch["tx_app_ns"]).all()


def test_skb_mode(serve):
    running, done = serve("--xdp-mode", "skb")
    assert done.returncode == 0
    assert "warning: the XDP program runs in generic (skb) mode" in done.stdout
    info = the_run(running.out).info
    assert info.obtained["xdp_mode"] == "skb"
    assert info.counts["completed"] == 20 + FIRST


def test_a_duration(run_cli, shared_lab, tmp_path):
    args = ("ping-pong", "--duration", "200ms", "--output-dir", tmp_path)
    done = run_cli(*args, env={"NETIF": shared_lab.ifname})
    assert (done.returncode, done.stderr) == (0, "")
    assert "state        complete, ended by duration" in done.stdout
    assert "warning: no packet was measured" in done.stdout


# -- where it runs


def test_a_cpu_of_its_own_and_no_words(serve):
    cpu = max(os.sched_getaffinity(0))
    running, done = serve("--cpu", cpu, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert the_run(running.out).info.obtained["cpu"] == cpu


def test_real_time(serve, run_cli, shared_lab, tmp_path):
    if subprocess.run(["chrt", "--fifo", "50", "true"], check=False).returncode == 0:
        running, done = serve("--sched", "fifo:50")
        assert (done.returncode, done.stderr) == (0, "")
        obtained = the_run(running.out).info.obtained
        assert obtained["sched"] == "fifo:50"
        assert obtained["is_memory_locked"] is obtained["is_gc_frozen"] is True
        assert "scheduling   fifo:50" in done.stdout
    lacking = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    argv = [*lacking, sys.executable, "-m", "xdptstamp", "ping-pong", shared_lab.ifname]
    argv += ["--sched", "fifo:50", "--output-dir", tmp_path / "none"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert one_message(done, 1).startswith("SCHED_FIFO priority 50: refused: needs CAP_SYS_NICE")
    assert not (tmp_path / "none").exists()
