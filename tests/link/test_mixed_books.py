# SPDX-License-Identifier: GPL-2.0-only
"""The books of ``mixed`` on a link: they add up to the packet, whatever is lost."""

import csv
import dataclasses
import itertools
import json
import os
import signal
import socket
import subprocess

import pyarrow.compute as pc
import pyarrow.dataset as pads
import pytest

from tests.link.mixing import keys_of, opened, run_here, wait_carrier
from xdptstamp._sys import netns
from xdptstamp.cli import _mixed_run
from xdptstamp.measure import mixed_books
from xdptstamp.measure.sender import Sender
from xdptstamp.measure.sink_client import SinkClient
from xdptstamp.rounds import Round
from xdptstamp.sample import Cause

if os.environ.get("NETIF"):
    pytest.skip("what a real link loses is not counted by either end", allow_module_level=True)

# A sink that has no processor for a moment loses packets.
pytestmark = pytest.mark.serial

CAUSES = [cause.label for cause in Cause if cause is not Cause.NONE]
PACE = ("--rate", "100kpps", "--repeats", 1, "--quiet")
EARLIER_NS = 10**18  # no stamp is that old


@pytest.fixture
def link(shared_lab, monkeypatch):
    """The module's link, named to a run of this process."""
    for name, value in shared_lab.environ.items():
        monkeypatch.setenv(name, value)
    return shared_lab


@pytest.fixture
def run_mixed(link, capsys, tmp_path):
    """``run_mixed(*args)``: (done, run, settings, rounds) of ``mixed`` in this process."""
    folders = itertools.count()

    def run(*args):
        out = tmp_path / f"out{next(folders)}"
        done = run_here(capsys, link.ifname, "--output-dir", out, *PACE, *args)
        return done, *opened(out)

    return run


class Looks:
    """Do things while packets are sent: ``at[n]`` at the n-th look around of each measured phase.

    The sender looks around when it begins and each 100 ms from then on.
    """

    def __init__(self, monkeypatch, shortest_ns):
        self.at = {}
        run = Sender.run

        def run_with_looks(sender, phase, spool, look):
            numbers = itertools.count()

            def look_and_do():
                if phase.duration_ns >= shortest_ns:
                    self.at.get(next(numbers), lambda: None)()
                return look()

            return run(sender, phase, spool, look_and_do)

        monkeypatch.setattr(Sender, "run", run_with_looks)


@pytest.fixture
def looks(monkeypatch):
    return Looks(monkeypatch, 100_000_000)


class Sinks(list):
    """The clients of sinks as they are started, with more options."""

    options = ()


@pytest.fixture
def sinks(monkeypatch):
    """The sinks that a run starts."""
    made = Sinks()

    class Noted(SinkClient):
        def __init__(self, partner, environ, *, port):
            super().__init__(partner, environ, port=port, options=made.options)
            made.append(self)

    monkeypatch.setattr(_mixed_run, "SinkClient", Noted)
    return made


# What the three places on disk say


def assert_same_books(run, settings, rounds):
    """run.json (``rounds``), rounds.csv and Parquet say the same of every round, and it adds up."""
    with open(run.path / "rounds.csv", newline="", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(rounds)
    table = pads.dataset(run.path / "samples", format="parquet").to_table()
    assert len(table) == sum(each.requested for each in rounds)
    for row, each in zip(rows, rounds, strict=True):
        assert_same_numbers(row, each)
        keys = ("round", "setting", "is_warmup")
        is_its = pc.field(keys[0]) == each.round
        for name in keys[1:]:
            is_its &= pc.field(name) == getattr(each, name)
        samples = table.filter(is_its)
        assert_same_stamps(samples, each)
        setting = settings[each.setting]
        period = setting.stamped + setting.plain
        asked = [n for n in range(each.sent) if n % period < setting.stamped]
        assert sorted(samples["seq"].to_pylist()) == asked
        assert each.sent == each.completed + each.lost
        if each.received is not None:
            assert each.sent == each.received + each.missing
            assert each.missing == sum(each.located.values()) + each.unaccounted


def assert_same_numbers(row, each):
    names = {item.name for item in dataclasses.fields(Round)} & set(row)
    names -= {"located", "pause_frames", "wakeup_errors", "second_app", "is_warmup"}
    assert {"sent", "requested", "received", "missing", "unaccounted"} <= names
    for name in names:
        value = getattr(each, name)
        assert row[name] == ("" if value is None else str(value)), name
    assert {name: int(row[name]) for name in CAUSES} == each.causes
    located = dict(pair.split("=") for pair in row["located"].split(";") if pair)
    assert {name: int(count) for name, count in located.items()} == each.located


def assert_same_stamps(samples, each):
    stamps = samples["tx_sw_ns"].drop_null()
    assert len(stamps) == each.stamped
    assert samples["tx_hw_ns"].null_count == len(samples)
    assert not len(stamps) or pc.min(stamps).as_py() > EARLIER_NS
    # A stamp or a cause, never both, never neither.
    has_cause = pc.is_valid(samples["cause"])
    assert pc.equal(has_cause, pc.is_null(samples["tx_sw_ns"])).to_pylist() == [True] * len(samples)
    found = dict.fromkeys(CAUSES, 0)
    for value in pc.value_counts(samples["cause"].drop_null()).to_pylist():
        name = value["values"]
        found[name if isinstance(name, str) else Cause(name).label] = value["counts"]
    assert found == each.causes
    assert each.requested == each.stamped + sum(found.values())


def test_every_place_on_disk_has_the_same_books(run_mixed):
    done, run, settings, rounds = run_mixed("--ratio", "1:1,3:7", "--duration", "100ms")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert_same_books(run, settings, rounds)
    assert len(rounds) == 6
    data = json.loads((run.path / "run.json").read_text())
    assert [each["sent"] for each in data["counts"]["rounds"]] == [each.sent for each in rounds]
    for each in rounds:
        assert each.received == each.sent > 0
        assert (each.located, each.unaccounted) == ({}, 0)
        assert set(each.causes.values()) == {0}


# Packets that are really lost


def only_round_with(rounds, *names):
    """The only rounds in which something was located; it is in these counters."""
    found = [each for each in rounds if each.located]
    assert found
    for each in found:
        assert set(each.located) <= set(names), each.located
        assert each.unaccounted == 0
    return found


def test_what_a_busy_sink_has_no_room_for_is_located_in_its_rings(run_mixed, looks, sinks):
    # 20000 packets in 200 ms; a queue of the sink holds 8192.
    looks.at = {
        1: lambda: os.kill(sinks[0].pid, signal.SIGSTOP),
        3: lambda: os.kill(sinks[0].pid, signal.SIGCONT),
    }
    done, run, settings, rounds = run_mixed("--ratio", "1:1", "--duration", "400ms")
    assert done.returncode == 0, done.stderr
    assert_same_books(run, settings, rounds)
    for each in only_round_with(rounds, "sink rx_dropped", "sink rx_ring_full"):
        assert each.missing > 1000
        assert each.stamped == each.requested  # they were sent
        assert each.dropped_by_kernel == 0
    assert "loss-at-partner" in keys_of(run, is_untrusted=False)


def ip_at_partner(link, *args):
    argv = ["ip", "-n", link.environ["REMOTE_ARGS"], "link", "set", peer_of(link), *map(str, args)]
    subprocess.run(argv, check=True)


def peer_of(link):
    names = netns.call_inside(link.environ["REMOTE_ARGS"], socket.if_nameindex)
    return next(name for _, name in names if name != "lo")


def test_what_the_peer_refuses_is_located_at_the_dut(link, run_mixed, looks):
    # Its MTU is too small for a moment.
    looks.at = {
        1: lambda: ip_at_partner(link, "mtu", 1280),
        2: lambda: ip_at_partner(link, "mtu", 1500),
    }
    args = ("--ratio", "1:2", "--size", 1518, "--duration", "300ms")
    done, run, settings, rounds = run_mixed(*args)
    assert_same_books(run, settings, rounds)
    assert len(only_round_with(rounds, "DUT tx_dropped")) == 2
    for each in rounds:
        assert each.located.get("DUT tx_dropped", 0) == each.dropped_by_kernel
        # Of the dropped ones a third asked for a stamp, and no other stamp is missing.
        assert each.causes["invalid"] == each.requested - each.stamped
        if each.requested and each.located:
            assert abs(3 * each.causes["invalid"] - each.dropped_by_kernel) <= 6
    assert done.returncode == 3
    assert "stamps that cannot be true, or of packets the kernel dropped" in done.stderr
    assert keys_of(run, is_untrusted=True) == ["stamps-invalid"]
    (missing,) = [each for each in run.info.warnings if each.key == "stamps-missing"]
    # By the samples, which leave the warm-up out as the rounds do.
    counts = [each for each in rounds if not each.is_warmup]
    requested = sum(each.requested for each in counts)
    assert missing.value == f"{sum(e.causes['invalid'] for e in counts)} of {requested}"
    assert (missing.limit, missing.message[-7:]) == ("1 %", "invalid")


def test_what_a_link_that_is_down_for_a_moment_loses_is_located(link, run_mixed, looks):
    # Without a sink: that would end with its interface down.
    looks.at = {1: lambda: ip_at_partner(link, "down"), 2: lambda: ip_at_partner(link, "up")}
    try:
        done, run, settings, rounds = run_mixed(
            "--ratio", "1:2", "--duration", "300ms", "--no-sink"
        )
    finally:
        wait_carrier(link.ifname)
    assert_same_books(run, settings, rounds)
    assert len(only_round_with(rounds, "DUT tx_dropped")) == 2
    for each in rounds:
        lost = each.located.get("DUT tx_dropped", 0)
        dropped = each.dropped_by_kernel
        # Beside ours there are a few packets that the stack sends on a link that comes and goes.
        assert 0 <= lost - dropped < 20
        assert 0 <= each.nic_sent - (each.sent - dropped) < 20
        assert each.causes["invalid"] == each.requested - each.stamped
        if each.requested and lost:
            assert abs(3 * each.causes["invalid"] - dropped) <= 6
    assert done.returncode == 3
    assert keys_of(run, is_untrusted=True) == ["link-lost", "stamps-invalid"]


def test_packets_that_meet_no_socket_are_located_at_the_sinks_program(run_mixed, sinks):
    sinks.options = ("--queue", "1")  # what is sent on queue 0 arrives on queue 0
    done, run, settings, rounds = run_mixed("--ratio", "1:1", "--duration", "50ms")
    assert_same_books(run, settings, rounds)
    for each in only_round_with(rounds, "sink program passed_no_socket"):
        assert (each.received, each.missing) == (0, each.sent)
        assert each.stamped == each.requested
    assert done.returncode == 3
    assert keys_of(run, is_untrusted=True) == ["nothing-arrived"]


def test_a_run_whose_books_do_not_add_up_says_so_and_ends_with_3(
    link, capsys, tmp_path, monkeypatch
):
    class Miscounting(SinkClient):
        def report(self, *args):
            found = super().report(*args)
            for counts in found.streams.values():
                counts.received -= 1
            return found

    monkeypatch.setattr(_mixed_run, "SinkClient", Miscounting)
    monkeypatch.setattr(mixed_books, "_SETTLE_S", 0.02)
    args = (*PACE, "--ratio", "1:1", "--duration", "50ms")
    done = run_here(capsys, link.ifname, "--output-dir", tmp_path / "out", *args)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("UNTRUSTED: packets or stamps are unaccounted for: the books")
    assert "unaccounted = +1" in done.stderr
    run, _, rounds = opened(tmp_path / "out", may_miss=("unaccounted",))
    assert keys_of(run, is_untrusted=True) == ["books-unbalanced"]
    assert not run.info.is_trusted
    assert [each.unaccounted for each in rounds] == [1] * 4
