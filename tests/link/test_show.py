# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp show`` says again, from the files alone, what a measuring command printed."""

import json
import os
import signal

import pytest

from tests.link.running import PingPong, ping, the_run, wait_until

if os.environ.get("NETIF"):
    pytest.skip("nothing here is about a NIC", allow_module_level=True)


@pytest.fixture
def out(tmp_path):
    """Where runs go."""
    return tmp_path / "out"


def assert_said_again(printed, shown):
    """Every line that was printed is shown, in that order; returns the others."""
    rest = iter(shown.splitlines())
    others = []
    for line in printed.splitlines():
        for found in rest:
            if found == line:
                break
            others.append(found)
        else:
            pytest.fail(f"not shown, or not there: {line!r}")
    return [*others, *rest]


def last_object(text):
    """The object of the last line, without what ``show`` alone knows of percentiles."""
    data = json.loads(text.splitlines()[-1])
    for interval in data.get("summary", {"intervals": {}})["intervals"].values():
        interval.pop("ci95", None)
        interval.pop("num_effective", None)
    return data


def test_what_ping_pong_and_ping_printed_is_shown(popen_cli, run_cli, shared_lab, out):
    dut = PingPong(popen_cli, shared_lab, out / "dut")
    dut.wait_answering()
    partner = ping(shared_lab, out / "partner", "--count", 1200, "--interval", "0")
    done = dut.end()
    assert done.returncode == 0, done.stderr
    for printed, folder in ((done.stdout, out / "dut"), (partner.stdout, out / "partner")):
        shown = run_cli("show", "--output-dir", folder)
        assert (shown.returncode, shown.stderr) == (0, "")
        others = assert_said_again(printed, shown.stdout)
        assert others[0].startswith("command      xdptstamp ping")
        assert any(line.startswith("  95 % from") for line in others)


def test_what_jsonl_ended_with_is_shown(popen_cli, run_cli, shared_lab, out):
    dut = PingPong(popen_cli, shared_lab, out / "dut", "--format", "jsonl")
    dut.wait_answering()
    partner = ping(shared_lab, out / "partner", "--count", 20, "--format", "jsonl")
    done = dut.end()
    for printed, folder in ((done.stdout, out / "dut"), (partner.stdout, out / "partner")):
        shown = run_cli("show", "--output-dir", folder, "--format", "jsonl")
        assert last_object(shown.stdout) == last_object(printed)


@pytest.mark.serial
@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_what_mixed_printed_is_shown(run_cli, shared_lab, out, form):
    done = run_cli(
        *("mixed", shared_lab.ifname, "--ratio", "1:10", "--size", "64,512", "--format", form),
        *("--duration", "200ms", "--repeats", 3, "--output-dir", out),
        env=shared_lab.environ,
    )
    assert done.returncode == 0, done.stderr
    shown = run_cli("show", "--output-dir", out, "--format", form)
    assert shown.returncode == 0, shown.stderr
    if form == "table":
        others = assert_said_again(done.stdout, shown.stdout)
        assert others[0].startswith("command      xdptstamp mixed")
    else:
        printed, found = last_object(done.stdout), last_object(shown.stdout)
        # Every sample has its CSV, and mixed does not say so.
        assert found["info"]["obtained"].pop("csv").endswith("samples.csv")
        assert found["info"] == printed["info"]


def test_a_run_whose_processes_were_killed_is_shown_as_far_as_it_went(
    popen_cli, run_cli, shared_lab, out
):
    dut = PingPong(popen_cli, shared_lab, out)
    dut.wait_answering()
    ping(shared_lab, out.parent / "partner", "--count", 50)
    wait_until(lambda: list(out.glob("*/samples/*.parquet")), "a closed file of samples")
    recorder = dut.recorder_pid
    os.kill(dut.pid, signal.SIGSTOP)
    os.kill(recorder, signal.SIGKILL)
    os.kill(dut.pid, signal.SIGKILL)
    dut.process.wait()
    shown = run_cli("show", the_run(out).path)
    assert shown.returncode == 0
    assert "state        interrupted, ended by killed" in shown.stdout
    assert "no counts: the run did not live to write its own" in shown.stdout
    assert "interface    " in shown.stdout
