# SPDX-License-Identifier: GPL-2.0-only
"""ping against a responder with faults, over loopback: the books are exact."""

import contextlib
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data_kit import info_of
from xdptstamp.checks.ping_doubts import ping_warnings
from xdptstamp.errors import SetupError
from xdptstamp.measure import _ping_loop
from xdptstamp.measure.ping import STATUS_NAMES, PingConfig, open_ping, wait_ready
from xdptstamp.measure.stop import Stop
from xdptstamp.sample import COLUMNS_OF_KIND, NULL
from xdptstamp.stats import Summary

ECHO = Path(__file__).with_name("ping_echo.py")
TIMEOUT_S = 60
SECOND = 1_000_000_000
# Long enough for a busy machine, where no request is to be given up.
PATIENT_NS = 20 * SECOND
CAPTURES = ("tx_app_ns", "tx_sw_ns", "rx_sw_ns", "rx_app_ns")


class Sink:
    """Keeps what was put."""

    def __init__(self):
        self.batches = []

    def put(self, batch):
        self.batches.append(batch.copy())

    @property
    def rows(self):
        return np.concatenate(self.batches)


class Echo:
    """A running responder."""

    def __init__(self, stack, address="127.0.0.1", **faults):
        self.address = address
        self.process = subprocess.Popen(
            [sys.executable, ECHO, address, json.dumps(faults)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self.end)
        self.port = int(self.read_line())

    def read_line(self):
        assert select.select([self.process.stdout], [], [], TIMEOUT_S)[0], "the responder is stuck"
        return self.process.stdout.readline()

    def release(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.read_line() == "released\n"

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def start_echo():
    with contextlib.ExitStack() as stack:
        yield lambda *args, **faults: Echo(stack, *args, **faults)


def no_tick(status):
    return None


def run_ping(echo, on_tick=no_tick, stop=None, sink=None, **config):
    config = {"interval_ns": 0, "timeout_ns": PATIENT_NS} | config
    sink = sink or Sink()
    with (
        contextlib.closing(Stop()) as never,
        open_ping(PingConfig(echo.address, port=echo.port, **config)) as pinger,
    ):
        result = pinger.run(sink, stop or never, on_tick)
    check_books(result, sink, config)
    return result, sink.rows


# What holds for every run, whatever was done to its packets.
def check_books(result, sink, config):
    counts, rows = result.counts, sink.rows
    assert counts["sent"] == counts["received"] + counts["lost"]
    parts = ("lost_here", "lost_bad_checksum", "not_received")
    assert counts["lost"] == sum(counts[name] for name in parts)
    assert all(len(batch) <= 256 for batch in sink.batches)
    assert counts["warmup_sent"] == counts["warmup_received"] + counts["warmup_lost"]
    num_sent = counts["warmup_sent"] + counts["sent"]
    assert sorted(rows["seq"]) == list(range(num_sent))
    answered, is_warmup = rows["rx_app_ns"] != NULL, rows["is_warmup"]
    assert np.count_nonzero(answered & ~is_warmup) == counts["received"]
    assert np.count_nonzero(answered & is_warmup) == counts["warmup_received"]
    assert np.all((rows["rx_sw_ns"] == NULL)[~answered])
    assert np.all(rows["tx_app_ns"] > 1 << 60)
    assert is_warmup.sum() == counts["warmup_sent"] == min(config.get("warmup", 0), num_sent)
    for name in CAPTURES:
        times = rows[name][rows[name] != NULL]
        assert np.all(times > 1 << 60), name
    for before, after in itertools.pairwise(CAPTURES):
        both = (rows[before] != NULL) & (rows[after] != NULL)
        assert np.all(rows[before][both] <= rows[after][both]), (before, after)


def warnings_of(result, **asked):
    """What the run is doubted for."""
    info = info_of("ping", counts=result.counts, obtained=result.obtained, asked=asked)
    return list(ping_warnings(info, Summary("ping")))


def counts_of(result, *names):
    return {name: result.counts[name] for name in names}


def test_a_fault_free_run(start_echo):
    result, rows = run_ping(start_echo(), count=2000, warmup=100)
    assert result.ended_by == "count"
    assert result.counts == {
        **dict.fromkeys(result.counts, 0),
        "sent": 2000,
        "received": 2000,
        "warmup_sent": 100,
        "warmup_received": 100,
        "would_block": result.counts["would_block"],
        "send_errors": {},
        "icmp_errors": {},
    }
    assert warnings_of(result) == []
    assert set(rows["len"]) == {60}
    assert result.obtained["kernel_timestamps"] == "rx+tx"
    for name in CAPTURES:
        assert np.all(rows[name] != NULL), name
    assert list(rows["seq"][rows["is_warmup"]]) == list(range(100))


def test_only_the_columns_of_its_kind_are_filled(start_echo):
    _, rows = run_ping(start_echo(), count=3)
    for name in rows.dtype.names:
        if name not in COLUMNS_OF_KIND["ping"]:
            assert np.all((rows[name] == NULL) | (rows[name] == 0)), name


# Counts are below what either socket's buffer holds, so that nothing is lost but by the fault.
@pytest.mark.parametrize("size", [None, 100, 1500])
@pytest.mark.parametrize(
    ("fault", "want"),
    [
        ("drop", {"lost": 100, "not_received": 100}),
        ("duplicate", {"duplicates": 100}),
        ("reorder", {"reordered": 100}),
        ("corrupt", {"corrupted": 100, "lost": 100}),
        ("shorten", {"corrupted": 100, "lost": 100}),
        ("reseq", {"corrupted": 100, "lost": 100}),
        ("stray", {"foreign": 100}),
    ],
)
def test_each_fault_is_counted_exactly(start_echo, fault, want, size):
    echo = start_echo(**{fault: 10})
    timeout_ns = SECOND if "lost" in want else PATIENT_NS
    # One more than the last fault, whose second reply would otherwise come after the end.
    result, rows = run_ping(
        echo, count=1001, size_bytes=size, interval_ns=10_000, timeout_ns=timeout_ns
    )
    names = ("lost", "duplicates", "reordered", "corrupted", "foreign", "late", "lost_here")
    assert counts_of(result, *names) == dict.fromkeys(names, 0) | counts_of(result) | {
        name: value for name, value in want.items() if name in names
    }
    assert result.counts["sent"] == 1001
    lost = np.sort(rows["seq"][rows["rx_app_ns"] == NULL])
    assert list(lost) == (list(range(9, 1001, 10)) if "lost" in want else [])


def test_all_faults_at_once(start_echo):
    faults = {"drop": 11, "duplicate": 13, "reorder": 17, "corrupt": 19, "stray": 23}
    result, _ = run_ping(start_echo(**faults), count=1000, interval_ns=20_000, timeout_ns=SECOND)
    kinds = [next((f for f, n in faults.items() if s % n == n - 1), "fine") for s in range(1000)]
    assert result.counts["not_received"] == kinds.count("drop") + kinds.count("corrupt")
    assert result.counts["duplicates"] == kinds.count("duplicate")
    assert result.counts["corrupted"] == kinds.count("corrupt")
    assert result.counts["foreign"] == kinds.count("stray")
    assert 0 < result.counts["reordered"] <= kinds.count("reorder")


def test_a_late_reply_does_not_make_its_request_answered(start_echo):
    echo = start_echo(late=10, late_s=1)
    result, rows = run_ping(echo, count=300, interval_ns=10_000_000, timeout_ns=SECOND // 4)
    late = result.counts["late"]
    assert late > 0  # those whose reply came before the run was over
    assert result.counts["lost"] == 30
    assert result.counts["duplicates"] == 0
    assert list(np.sort(rows["seq"][rows["rx_app_ns"] == NULL])) == list(range(9, 300, 10))
    warnings = {warning.key: warning for warning in warnings_of(result)}
    assert list(warnings) == ["ping-late", "ping-lost"]
    assert warnings["ping-late"].value == str(late)


def test_a_reply_to_a_request_that_left_the_window_is_late(start_echo):
    echo = start_echo(hold=100)

    class ReleasingSink(Sink):
        has_released = False

        def put(self, batch):
            super().put(batch)
            if not self.has_released and (batch["rx_app_ns"] == NULL).any():
                self.has_released = True
                echo.release()

    result, rows = run_ping(echo, sink=ReleasingSink(), count=3000, interval_ns=50_000, window=512)
    lost = rows["seq"][rows["rx_app_ns"] == NULL]
    assert set(range(100)) <= set(lost)
    assert result.counts["late"] == result.counts["lost"] == len(lost)
    assert result.counts["duplicates"] == 0


def test_losses_in_the_warmup_are_kept_apart(start_echo):
    result, _ = run_ping(
        start_echo(drop=10), count=500, warmup=95, interval_ns=20_000, timeout_ns=SECOND
    )
    names = ("sent", "lost", "not_received", "warmup_sent", "warmup_lost", "tx_stamps_missing")
    assert tuple(counts_of(result, *names).values()) == (500, 50, 50, 95, 9, 0)
    (warning,) = warnings_of(result)
    assert (warning.key, warning.limit) == ("ping-lost", "0.1 %")
    assert warning.value == "10.000 % of 500: 50 on the way or there"
    assert "the slowest may be among them" in warning.message
    assert warning.advice.startswith("lengthen --interval; what the DUT dropped")


def test_the_window_bounds_a_flood_that_nobody_answers(start_echo):
    result, rows = run_ping(start_echo(drop=1), count=5000, window=512, timeout_ns=SECOND // 10)
    assert result.counts["lost"] == result.counts["not_received"] == 5000
    assert np.all(rows["tx_sw_ns"] != NULL)
    assert [w.key for w in warnings_of(result)] == ["ping-no-reply"]


# That an answered row has both stamps and a lost one none is looked at for every run.
def test_a_slot_used_again_keeps_nothing(start_echo):
    _, rows = run_ping(
        start_echo(drop=10), count=3000, window=512, interval_ns=20_000, timeout_ns=SECOND
    )
    assert set(range(9, 3000, 10)) <= set(rows["seq"][rows["rx_app_ns"] == NULL])


def test_what_our_own_socket_drops_is_lost_here(start_echo):
    echo = start_echo(hold=32)
    ticks = []

    # Comes first after the first burst of 32: the replies come while nobody reads.
    def tick(status):
        ticks.append(status)
        if len(ticks) == 1:
            echo.release()

    result, _ = run_ping(echo, tick, count=64, rcvbuf_bytes=1, timeout_ns=SECOND)
    assert ticks[0]["sent"] == 32
    counts = result.counts
    assert counts["lost_here"] == counts["lost"] == counts["rx_overflow"] >= 16
    assert counts["not_received"] == 0
    assert "ping-lost-here" in [warning.key for warning in warnings_of(result)]


def test_an_ipv6_run(start_echo):
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    result, rows = run_ping(start_echo("::1"), count=500)
    assert counts_of(result, "sent", "received") == {"sent": 500, "received": 500}
    assert set(rows["len"]) == {80}
    assert np.all(rows["tx_sw_ns"] != NULL)


def test_spinning_counts_the_same(start_echo):
    result, _ = run_ping(
        start_echo(drop=10), count=200, interval_ns=100_000, wait="spin", timeout_ns=SECOND
    )
    assert counts_of(result, "received", "lost") == {"received": 180, "lost": 20}


def test_the_deadline_ends_the_sending(start_echo):
    result, _ = run_ping(start_echo(), interval_ns=10_000_000, deadline_ns=300_000_000)
    assert result.ended_by == "deadline"
    assert 0 < result.counts["sent"] <= 30
    assert result.counts["lost"] == 0


def test_a_stop_wakes_a_sleep_and_still_takes_the_last_reply(start_echo):
    ticks = []
    with contextlib.closing(Stop()) as stop:

        def tick(status):
            ticks.append(status)
            if status["sent"]:
                stop.request("SIGTERM")

        result, _ = run_ping(start_echo(), tick, stop, interval_ns=3600 * SECOND)
    assert (result.ended_by, result.is_complete) == ("SIGTERM", False)
    assert counts_of(result, "sent", "received") == {"sent": 1, "received": 1}
    assert tuple(ticks[0]) == STATUS_NAMES


@pytest.mark.parametrize("count", [None, 1])
def test_a_stop_waits_no_day_for_a_reply(start_echo, count, monkeypatch):
    monkeypatch.setattr(_ping_loop, "_MAX_LINGER_NS", SECOND // 5)
    with contextlib.closing(Stop()) as stop:

        def tick(status):
            if status["sent"]:
                stop.request("SIGINT")

        result, _ = run_ping(
            start_echo(drop=1),
            tick,
            stop,
            count=count,
            interval_ns=3600 * SECOND,
            timeout_ns=24 * 3600 * SECOND,
        )
    assert (result.ended_by, result.is_complete) == ("SIGINT", False)
    assert counts_of(result, "sent", "lost") == {"sent": 1, "lost": 1}


def test_a_sleep_looks_for_a_stop(start_echo, monkeypatch):
    waited_for = []
    real_select = select.select

    def spy(readable, *others):
        waited_for.append(readable)
        return real_select(readable, *others)

    echo = start_echo()
    monkeypatch.setattr(_ping_loop.select, "select", spy)
    with contextlib.closing(Stop()) as stop:
        run_ping(echo, stop=stop, count=3, interval_ns=SECOND // 20)
        assert [stop.fileno() in readable for readable in waited_for[:2]] == [True, True]


def test_a_tick_may_end_the_run(start_echo):
    result, _ = run_ping(start_echo(), lambda status: "output closed", interval_ns=SECOND // 100)
    assert (result.ended_by, result.is_complete) == ("output closed", False)
    assert result.counts["received"] == result.counts["sent"] > 0


def unused_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_closed_port_says_what_to_do():
    config = PingConfig("127.0.0.1", unused_port(), count=3, timeout_ns=SECOND // 10)
    with contextlib.closing(Stop()) as stop, open_ping(config) as pinger:
        with pytest.raises(SetupError) as caught:
            pinger.run(Sink(), stop)
    text = str(caught.value)
    assert f"127.0.0.1 port {config.port}" in text
    assert "ECONNREFUSED" in text
    assert "Start `xdptstamp ping-pong`" in text


def test_an_endless_run_does_not_wait_for_ever_for_the_first_reply(monkeypatch):
    monkeypatch.setattr(_ping_loop, "_PATIENCE_NS", SECOND // 5)
    config = PingConfig("127.0.0.1", unused_port(), timeout_ns=SECOND // 10)
    with contextlib.closing(Stop()) as stop, open_ping(config) as pinger:
        with pytest.raises(SetupError, match="nobody answers on that port"):
            pinger.run(Sink(), stop)


def test_waiting_for_an_answer_that_comes_late(start_echo):
    echo = start_echo(hold=2)  # the first two probes are not answered
    with contextlib.closing(Stop()) as stop:
        wait_ready(PingConfig(echo.address, echo.port), TIMEOUT_S * SECOND, stop)
    result, _ = run_ping(echo, count=10)  # and no probe's answer is in the way
    assert counts_of(result, "received", "foreign", "late") == dict(received=10, foreign=0, late=0)


def test_waiting_has_a_limit_and_says_why(start_echo):
    silent = start_echo(drop=1)
    config = PingConfig("127.0.0.1", unused_port())
    with contextlib.closing(Stop()) as stop:
        with pytest.raises(
            SetupError, match=r"within 0\.3 s: ECONNREFUSED: nobody answers on that"
        ):
            wait_ready(config, 3 * SECOND // 10, stop)
        with pytest.raises(SetupError, match=r"within 0\.3 s: is `xdptstamp ping-pong` running"):
            wait_ready(PingConfig("127.0.0.1", silent.port), 3 * SECOND // 10, stop)


def test_waiting_ends_with_a_stop():
    with contextlib.closing(Stop()) as stop:
        timer = threading.Timer(0.3, stop.request, ["SIGINT"])
        timer.start()
        wait_ready(PingConfig("127.0.0.1", unused_port()), 3600 * SECOND, stop)
        timer.join()
        assert stop.reason == "SIGINT"


def test_a_port_that_closes_in_mid_run_is_a_result(start_echo):
    result, _ = run_ping(
        start_echo(answers=50), count=200, interval_ns=1_000_000, timeout_ns=SECOND // 2
    )
    assert counts_of(result, "sent", "received") == {"sent": 200, "received": 50}
    assert result.counts["send_errors"] == {}
    assert result.counts["icmp_errors"]["ECONNREFUSED"] > 0
    assert "ICMP errors: ECONNREFUSED" in [warning.message for warning in warnings_of(result)]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (PingConfig("no-such-host.invalid"), "no-such-host.invalid: cannot be resolved to an addr"),
        (PingConfig("127.0.0.1", family="6"), "cannot be resolved to an IPv6 address"),
        (PingConfig("x" * 70), "cannot be resolved to an address: not a host name"),
        (PingConfig("224.0.0.1"), "224.0.0.1: is a multicast address"),
        (PingConfig("255.255.255.255"), "broadcast"),
        (PingConfig("127.0.0.1", source="192.0.2.77"), "192.0.2.77: cannot be sent from"),
        (PingConfig("127.0.0.1", interface="nosuch0"), "nosuch0: cannot be sent from"),
        (PingConfig("127.0.0.1", size_bytes=63), "take --size 64 or more"),
        (PingConfig("::1", size_bytes=83), "over IPv6; take --size 84 or more"),
        (PingConfig("127.0.0.1", size_bytes=70000), "take --size 65553 or less"),
    ],
)
def test_what_cannot_be_reached_or_sent_says_so(config, text):
    with pytest.raises(SetupError) as caught, open_ping(config):
        pass
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"port": 65536},
        {"count": 0},
        {"interval_ns": -1},
        {"family": "5"},
        {"deadline_ns": 0},
        {"timeout_ns": 0},
        {"warmup": -1},
        {"wait": "napi"},
        {"window": 256},
        {"window": 1000},
    ],
)
def test_a_value_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values()))) + "|deadline"):
        PingConfig("127.0.0.1", **wrong)


def test_a_process_with_too_many_files_is_told(start_echo):
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[1] < 1100:
        pytest.skip(f"only {limit[1]} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(1024)]
    try:
        with pytest.raises(SetupError, match="files open; close some"):
            with open_ping(PingConfig("127.0.0.1")):
                pass
    finally:
        for fd in fds:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
