# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp ping`` as a user meets it: over a link, by signals, without privilege."""

import contextlib
import json
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xdptstamp.sample import NULL
from xdptstamp.store import iter_batches, open_run

ECHO = Path(__file__).parents[1] / "unit" / "ping_echo.py"
TIMEOUT_S = 60
CAPTURED = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@pytest.fixture
def start_echo():
    """``start_echo(address, **faults)``: a responder; returns its port."""
    with contextlib.ExitStack() as stack:

        def start(address="127.0.0.1", **faults):
            process = subprocess.Popen(
                [sys.executable, ECHO, address, json.dumps(faults)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(_end, process)
            assert select.select([process.stdout], [], [], TIMEOUT_S)[0], "no port was told"
            return int(process.stdout.readline())

        yield start


@pytest.fixture
def start_partner_echo(nothing_left):
    """``start_partner_echo(lab)``: a responder on the link partner; returns its port."""
    with contextlib.ExitStack() as stack:

        def start(lab):
            process = lab.partner.popen(
                [sys.executable, str(ECHO), lab.remote_v4, "{}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(_end, process)
            return int(process.stdout.readline())

        yield start


def _end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def the_run(folder):
    (path,) = folder.iterdir()
    return open_run(path)


def rows_of(run):
    return [batch.copy() for batch in iter_batches(run)]


def test_a_run_on_disk_says_what_was_shown(run_cli, start_echo, tmp_path):
    port = start_echo(drop=10)
    done = run_cli(
        *("ping", "127.0.0.1", "--port", port, "--count", 200, "--interval", "200us"),
        *("--timeout", "500ms", "--output-dir", tmp_path, "--label", "first", "--warmup", 20),
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = the_run(tmp_path)
    assert run.info.state == "complete"
    assert run.info.ended_by == "count"
    assert run.info.timestamps == "software"
    assert run.info.clocks == dict.fromkeys(run.info.clocks, "tai")
    assert (run.info.counts["sent"], run.info.counts["warmup_sent"]) == (200, 20)
    assert run.info.counts["lost"] == run.info.counts["not_received"] == 20
    assert run.info.counts["warmup_lost"] == 2
    batches = rows_of(run)
    assert sum(map(len, batches)) == 220
    assert sum((batch["rx_app_ns"] == NULL).sum() for batch in batches) == 22
    assert "SOFTWARE timestamps" in done.stdout
    for line in ("sent", "received", "lost", "tx_app_to_rx_app"):
        assert line in done.stdout


def test_requests_cross_the_link_to_the_dut(lab, start_echo, tmp_path):
    if lab.is_real:
        pytest.skip("the responder is on loopback addresses of a veth lab")
    for host in (lab.local_v4, lab.local_v6):
        port = start_echo(host)
        out = tmp_path / host.replace(":", "_")
        argv = [sys.executable, "-m", "xdptstamp", "ping", host, "--port", str(port)]
        argv += ["--count", "300", "--interval", "100us", "--size", "1518", "--quiet"]
        done = lab.partner.run([*argv, "--output-dir", str(out)], timeout=TIMEOUT_S, **CAPTURED)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        info = the_run(out).info
        assert info.counts["received"] == info.counts["sent"] == 300
        assert info.counts["tx_stamps_missing"] == 0
        assert info.obtained["mtu"] == 1500
        assert info.nic["ifname"]


def test_a_frame_longer_than_the_mtu_is_refused(lab, tmp_path):
    argv = [sys.executable, "-m", "xdptstamp", "ping", lab.local_v4, "--size", "9000"]
    done = lab.partner.run([*argv, "--output-dir", str(tmp_path)], timeout=TIMEOUT_S, **CAPTURED)
    assert done.returncode == 1
    assert "(MTU 1500)" in done.stderr
    assert "take --size 1518 or less" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_host_of_the_lab_is_the_default(run_cli, start_echo, tmp_path):
    port = start_echo()
    args = ("ping", "--port", port, "--count", 5, "--output-dir", tmp_path, "--quiet")
    done = run_cli(*args, env={"LOCAL_V4": "127.0.0.1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert the_run(tmp_path).info.obtained["host"] == "127.0.0.1"


def test_without_a_host_the_usage_says_what_is_missing(run_cli):
    done = run_cli("ping", "-6")
    assert done.returncode == 2
    assert "Missing argument 'HOST'" in done.stderr
    assert "LOCAL_V6" in done.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_run_early_and_keeps_it_whole(popen_cli, start_echo, tmp_path, name, code):
    port = start_echo()
    process = popen_cli(
        *("ping", "127.0.0.1", "--port", port, "--count", 1000000, "--interval", "1ms"),
        *("--output-dir", tmp_path, "--format", "jsonl"),
    )
    process.wait_for('"seq":50,')
    process.send_signal(getattr(signal, name))
    done = process.wait()
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    run = the_run(tmp_path)
    assert (run.info.state, run.info.ended_by) == ("interrupted", name)
    assert run.info.counts["received"] == run.info.counts["sent"] > 50
    assert sum(map(len, rows_of(run))) == run.info.counts["sent"]


def test_a_signal_while_waiting_for_the_dut_leaves_no_run(popen_cli, start_echo, tmp_path):
    port = start_echo(drop=1)
    process = popen_cli(
        *("ping", "127.0.0.1", "--port", port, "--wait-ready", "1h", "--output-dir", tmp_path)
    )
    _await_signal_handler(process.process.pid)
    process.press_ctrl_c()
    done = process.wait()
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


def test_waiting_for_the_dut_is_not_part_of_the_run(run_cli, start_echo, tmp_path):
    port = start_echo(hold=1)
    done = run_cli(
        *("ping", "127.0.0.1", "--port", port, "--wait-ready", "30s", "--count", 10),
        *("--output-dir", tmp_path, "--quiet"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert the_run(tmp_path).info.counts["sent"] == 10
    assert the_run(tmp_path).info.counts["received"] == 10


# SIGTERM is caught as soon as SIGINT is; Python itself catches only the latter.
def _await_signal_handler(pid):
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)  # nothing tells when a process changes its handlers
    pytest.fail("the command never caught SIGTERM")


def test_ctrl_c_is_how_an_endless_run_ends(popen_cli, start_echo, tmp_path):
    port = start_echo()
    process = popen_cli(
        *("ping", "127.0.0.1", "--port", port, "--output-dir", tmp_path, "--format", "jsonl")
    )
    process.wait_for('"seq":20,')
    process.press_ctrl_c()
    assert process.wait().returncode == 0
    assert the_run(tmp_path).info.state == "complete"


def test_a_missed_limit_is_exit_code_3(run_cli, start_echo, tmp_path):
    port = start_echo(drop=10)
    args = ("ping", "127.0.0.1", "--port", port, "--count", 100, "--timeout", "300ms")
    done = run_cli(*args, "--output-dir", tmp_path, "--fail-if", "lost > 5%")
    assert done.returncode == 3
    assert "--fail-if 'lost > 5%' is true" in done.stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["192.0.2.1"], "no route to it"),
        (["no-such-host.invalid"], "cannot be resolved"),
        (["127.0.0.1", "--port", "9", "--count", "3"], "nobody answers on that port"),
    ],
)
def test_what_cannot_be_reached_is_one_message(run_cli, tmp_path, args, text):
    done = run_cli("ping", *args, "--timeout", "200ms", "--quiet", "--output-dir", tmp_path)
    assert done.returncode == 1
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


# ARP and ND give up after some three seconds.
def test_an_address_that_nobody_has_is_an_error(lab, run_cli, tmp_path):
    if lab.is_real:
        pytest.skip("no route is added to a real NIC")
    nobodys = "198.51.100.77"
    subprocess.run(["ip", "route", "add", nobodys, "dev", lab.ifname], check=True)
    done = run_cli(
        *("ping", nobodys, "--count", 3, "--timeout", "10s", "--quiet", "--output-dir", tmp_path)
    )
    assert done.returncode == 1
    assert "it does not answer ARP or ND" in done.stderr


def test_a_link_that_goes_down_in_mid_run_is_counted(lab, popen_cli, start_partner_echo, tmp_path):
    if lab.is_real:
        pytest.skip("the link of a real NIC is not taken down")
    port = start_partner_echo(lab)
    out = tmp_path / "out"
    process = popen_cli(
        *("ping", lab.remote_v4, "--port", port, "--count", 1000, "--interval", "2ms"),
        *("--output-dir", out, "--format", "jsonl", "--timeout", "300ms"),
    )
    process.wait_for('"seq":100,')
    subprocess.run(["ip", "link", "set", lab.ifname, "down"], check=True)
    done = process.wait()
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    counts = the_run(out).info.counts
    failed = sum(counts["send_errors"].values())
    assert failed > 0
    assert counts["sent"] + failed == 1000
    assert counts["received"] > 100


# What the queue of the interface refuses was never sent; the stamps of the others stay with them.
def test_a_full_queue_of_the_interface_is_counted(lab, run_cli, start_partner_echo, tmp_path):
    if lab.is_real:
        pytest.skip("no qdisc is set on a real NIC")
    tbf = ["tbf", "rate", "1mbit", "burst", "2000", "limit", "3000"]
    done = subprocess.run(
        ["tc", "qdisc", "replace", "dev", lab.ifname, "root", *tbf], check=False, **CAPTURED
    )
    if done.returncode != 0:
        pytest.skip(f"this kernel has no tbf qdisc: {done.stderr.strip()}")
    port = start_partner_echo(lab)
    out = tmp_path / "out"
    done = run_cli(
        *("ping", lab.remote_v4, "--port", port, "--count", 3000, "--interval", "flood"),
        *("--output-dir", out, "--timeout", "10s"),
    )
    assert done.returncode == 0
    assert "attempts to send failed: ENOBUFS" in done.stdout
    run = the_run(out)
    counts = run.info.counts
    assert counts["send_errors"].keys() == {"ENOBUFS"}
    assert counts["sent"] + counts["send_errors"]["ENOBUFS"] == 3000
    assert counts["received"] == counts["sent"]
    assert counts["tx_stamps_missing"] == counts["duplicates"] == 0
    for batch in rows_of(run):
        assert (batch["tx_app_ns"] <= batch["tx_sw_ns"]).all()
        assert (batch["tx_sw_ns"] <= batch["rx_sw_ns"]).all()


# Without capabilities; the user stays, since another may not reach the interpreter.
def test_it_needs_no_privilege(start_echo, tmp_path):
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    port = start_echo()
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    assert _capabilities_of([*drop, "cat", "/proc/self/status"]) == 0
    argv = [sys.executable, "-m", "xdptstamp", "ping", "127.0.0.1", "--port", str(port)]
    argv += ["--count", "500", "--interval", "flood", "--output-dir", str(tmp_path), "--quiet"]
    done = subprocess.run([*drop, *argv], timeout=TIMEOUT_S, check=False, **CAPTURED)
    assert (done.stderr, done.returncode, done.stdout) == ("", 0, "")
    info = the_run(tmp_path).info
    assert info.counts["received"] == 500
    assert info.obtained["kernel_timestamps"] == "rx+tx"
    assert info.counts["tx_stamps_missing"] == info.counts["rx_stamps_missing"] == 0
    assert info.obtained["is_rcvbuf_forced"] is False


def _capabilities_of(argv):
    done = subprocess.run(argv, timeout=TIMEOUT_S, check=True, **CAPTURED)
    line = next(line for line in done.stdout.splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)
