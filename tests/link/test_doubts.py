# SPDX-License-Identifier: GPL-2.0-only
"""Warnings that real things provoke on a veth: what the user reads of each."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.link.conftest import CliProcess
from tests.link.mixing import opened, run_here
from tests.link.running import LIMIT_S, PingPong, the_run, wait_until
from xdptstamp.collect import collect_counters
from xdptstamp.nic import Nic

if os.environ.get("NETIF"):
    pytest.skip("a process is stopped in the middle of a measurement", allow_module_level=True)

# More than the frames of two queues.
NUM_REQUESTS, NUM_FRAMES = 6000, 2048
SHORT = ("--no-sink", "--ratio", "1:1", "--repeats", 1, "--duration", "100ms")


def warning_of(run, key):
    """The only warning of that key, and that the run is trusted for all that."""
    (warning,) = [each for each in run.info.warnings if each.key == key]
    assert not warning.is_untrusted
    return warning


def printed(text):
    """Text without its line breaks, all lines within the width."""
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith("/")) <= 72
    return " ".join(text.split())


@pytest.fixture(scope="module")
def overrun(shared_lab, tmp_path_factory):
    """Of a DUT that had no time while more requests came than it has frames, and of its partner:
    what each printed, and its run."""
    out = tmp_path_factory.mktemp("overrun")
    with contextlib.ExitStack() as stack:

        def popen(*args):
            process = CliProcess([sys.executable, "-m", "xdptstamp", *map(str, args)], os.environ)
            stack.callback(process.end)
            return process

        dut = PingPong(popen, shared_lab, out / "dut")
        dut.wait_answering()
        nic = Nic(shared_lab.ifname)
        before = collect_counters(nic)["link.rx_packets"]
        os.kill(dut.pid, signal.SIGSTOP)
        partner = start_ping(shared_lab, out / "partner", stack)
        wait_until(
            lambda: collect_counters(nic)["link.rx_packets"] - before >= NUM_REQUESTS,
            "all requests",
        )
        os.kill(dut.pid, signal.SIGCONT)
        told, _ = partner.communicate(timeout=LIMIT_S)
        done = dut.end()
        assert (partner.returncode, done.returncode) == (0, 0), (told, done.stderr)
        return {
            "dut": (printed(done.stdout), the_run(out / "dut")),
            "partner": (printed(told), the_run(out / "partner")),
        }


def start_ping(link, out, stack):
    args = ("--count", NUM_REQUESTS, "--interval", "flood", "--timeout", "2s", "--output-dir", out)
    argv = [sys.executable, "-m", "xdptstamp", "ping", link.local_v4, *map(str, args)]
    process = link.partner.popen(argv, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.kill)
    stack.callback(process.stdout.close)
    return process


def test_a_dut_without_time_finds_its_fill_ring_empty_and_drops_packets(overrun):
    text, run = overrun["dut"]
    counts = run.info.counts
    assert counts["rx_dropped"] >= NUM_REQUESTS - 2 * NUM_FRAMES
    for key, count, advice in (
        ("rx-dropped", "rx_dropped", "send slower, or use --wait spin and a --cpu of its own"),
        (
            "rx-fill-ring-empty-descs",
            "rx_fill_ring_empty_descs",
            "send slower, use --wait spin, or give the process its own --cpu",
        ),
    ):
        warning = warning_of(run, key)
        assert (warning.value, warning.limit) == (str(counts[count]), "0")
        assert f"{warning.value}; limit: 0 [{key}] {advice}" in text


def test_its_partner_misses_replies(overrun):
    text, run = overrun["partner"]
    counts = run.info.counts
    assert counts["lost"] >= NUM_REQUESTS - 2 * NUM_FRAMES
    assert counts["received"] > 0
    warning = warning_of(run, "ping-lost")
    assert warning.value.endswith(" on the way or there") or "here" in warning.value
    assert f" % of {NUM_REQUESTS}: " in warning.value
    assert f"{warning.value}; limit: 0.1 % [ping-lost] lengthen --interval; what the DUT" in text


def doubts_of(capsys, link, monkeypatch, out, *args):
    for name, value in link.environ.items():
        monkeypatch.setenv(name, value)
    done = run_here(capsys, "--output-dir", out, *SHORT, *args)
    # Untrusted it may be for something else, on a machine that gives it no processor for long.
    assert done.returncode in (0, 3), done.stderr
    run, _, _ = opened(out)
    return printed(done.stdout), run


def test_a_sender_that_computes_more_than_it_sends(capsys, shared_lab, monkeypatch, tmp_path):
    args = (capsys, shared_lab, monkeypatch, tmp_path / "out", "--batch", 1)
    text, run = doubts_of(*args)
    warning = warning_of(run, "generator-limited")
    share = re.fullmatch(r"user share of the baseline: 64 0:1 (\d+) %", warning.value)
    assert int(share[1]) > 25
    shown = f"{warning.value}; limit: 25 % [generator-limited] give it a CPU of its own with --cpu"
    assert shown in text
    assert "link-not-filled" not in text  # nobody fills a veth


def test_a_rate_that_no_veth_keeps(capsys, shared_lab, monkeypatch, tmp_path):
    args = (capsys, shared_lab, monkeypatch, tmp_path / "out", "--rate", "50Mpps")
    text, run = doubts_of(*args)
    warning = warning_of(run, "rate-missed")
    assert warning.value.startswith("of 50Mpps: 64 0:1 ")
    assert f"{warning.value}; limit: 95 % [rate-missed] give it a CPU of its own" in text
    assert "generator-limited" not in text


def test_a_run_notes_what_may_spoil_it_and_a_veth_has_none_of_it(overrun):
    _, run = overrun["dut"]
    assert {name: run.info.nic[name] for name in ("coalescing", "eee", "pause")} == dict.fromkeys(
        ("coalescing", "eee", "pause")
    )
    assert run.info.nic["interrupts"] == run.info.nic["pause_counters"] == []
    assert "unread" not in run.info.nic
    for _, each in overrun.values():
        assert isinstance(each.info.dut["idle_states"], list)
        assert isinstance(each.info.dut["governors"], dict)
