# SPDX-License-Identifier: GPL-2.0-only
"""The command line of ``mixed``: what each option does, what is printed, and what is refused."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.link.mixing import (
    ENDLESS,
    SECOND_APP,
    SINK,
    MixedProcess,
    child_of,
    keys_of,
    lines_of,
    opened,
    run_here,
)
from tests.link.running import assert_left_alone, is_alive, one_message, wait_until
from xdptstamp.dut import CAPABILITIES
from xdptstamp.rounds import Setting
from xdptstamp.sample import NULL
from xdptstamp.store import iter_batches

if os.environ.get("NETIF"):
    pytest.skip("no two copies, and no other user, on a real NIC", allow_module_level=True)

MS = 1_000_000
WIDTH = 72
# So slow that a sink which gets no processor for 400 ms loses nothing.
PACE = ("--rate", "20kpps")
RUN_XDPTSTAMP = [sys.executable, "-m", "xdptstamp"]


@pytest.fixture
def out(tmp_path):
    """Where runs go."""
    return tmp_path / "out"


@pytest.fixture
def here(shared_lab, monkeypatch, capsys, out):
    """``here(*args, link=shared_lab)``: ``mixed`` in this process; a CompletedProcess."""

    def run(*args, link=shared_lab):
        for name, value in link.environ.items():
            monkeypatch.setenv(name, value)
        return run_here(capsys, "--output-dir", out, *args)

    return run


def rows_of(run):
    """All samples, in one array."""
    return np.concatenate([batch.copy() for batch in iter_batches(run)])


def measured(rounds):
    return [each for each in rounds if not each.is_warmup]


# -- what is printed


@pytest.mark.serial
def test_the_tables(here, out, shared_lab):
    done = here("--ratio", "1:10", "--duration", "300ms", "--repeats", 2)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    run, _, rounds = opened(out)
    # A long path stands whole on a line of its own.
    assert lines.pop().removeprefix("run folder   ") == str(run.path)
    too_long = [line for line in lines if len(line) > WIDTH or not line.isascii()]
    assert too_long == []
    titles = [
        line for line in lines if line.startswith(("bandwidth: ", "timestamps: ", "hold time, "))
    ]
    assert titles == [
        "bandwidth: arrived at the sink; SOFTWARE timestamps",
        "timestamps: SOFTWARE timestamps",
        "hold time, submit to completion, in us; SOFTWARE timestamps",
    ]
    header = dict(line.split(None, 1) for line in lines[1 : lines.index("")] if line[0] != " ")
    assert header["kernel"] == os.uname().release
    assert header["interface"].startswith(f"{shared_lab.ifname}, driver veth")
    assert header["mode"] == "copy (asked auto)"
    assert header["bandwidth"] == "arrived at the sink"
    assert {"run", "time", "host", "machine", "rounds", "batch", "partner"} <= set(header)
    # The same sums in the table as in the run.
    requested = sum(each.requested for each in measured(rounds))
    (row,) = [line for line in lines if line.startswith("   64 1:10   ") and "100.000 %" in line]
    assert row.split()[2:5] == [f"{requested:,}", f"{requested:,}", "0"]


@pytest.mark.serial
def test_json_lines_of_a_sweep(here, out, tmp_path):
    csv_file = tmp_path / "samples.csv"
    done = here(
        "--format", "jsonl", "--ratio", "1:10,0:1", "--size", "64,512", "--repeats", 2,
        "--duration", "20ms", "--seed", 7, "--fail-if", "missing > 0%", "--csv", csv_file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run, settings, rounds = opened(out)
    pairs = [(size, ratio) for size in (64, 512) for ratio in ((0, 1), (1, 10))]
    assert settings == [Setting(size, *ratio) for size, ratio in pairs]
    # Each setting once a round, in the order that the seed gives; each after its warm-up.
    chance, order = random.Random(7), []
    for _ in range(2):
        order.append(list(range(4)))
        chance.shuffle(order[-1])
    assert order != sorted(order)
    twice = [(number, index) for number, row in enumerate(order) for index in row for _ in (0, 1)]
    assert [(each.round, each.setting) for each in rounds] == twice
    assert [each.is_warmup for each in rounds] == 8 * [True, False]
    found = lines_of(done)
    assert [len(found[kind]) for kind in ("start", "round", "end")] == [1, 16, 1]
    assert [each["sent"] for each in found["round"]] == [each.sent for each in rounds]
    assert found["start"][0]["info"]["obtained"]["seed"] == 7
    assert found["end"][0]["info"]["counts"]["rounds"] == run.info.counts["rounds"]
    num_lines = csv_file.read_bytes().count(b"\n")
    assert num_lines == 1 + len(rows_of(run)) == 1 + sum(each.requested for each in rounds)


def test_a_bandwidth_limit_that_is_missed(here, out):
    done = here(
        "--quiet", "--no-sink", "--ratio", "1:1", "--repeats", 1, "--duration", "50ms",
        "--fail-if", "bandwidth < 1%", "--fail-if", "bandwidth < 9999%",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    run, _, _ = opened(out)
    (warning,) = [each for each in run.info.warnings if each.key == "fail-if"]
    assert warning.limit == "bandwidth < 9999%"
    assert keys_of(run, is_untrusted=True) == ["fail-if"]
    first, *rest = done.stderr.splitlines()
    assert first.startswith("UNTRUSTED: --fail-if 'bandwidth < 9999%' is true")
    assert "warning" not in "".join(rest), "what does not make it fail"


def test_without_a_sink_the_nic_counts(here, out):
    done = here("--no-sink", "--ratio", "1:1", "--repeats", 1, "--duration", "200ms")
    assert done.returncode == 0, done.stdout
    assert "bandwidth: NIC Tx counters" in done.stdout
    run, _, rounds = opened(out)
    assert {each.source for each in rounds} == {"NIC Tx counters"}
    # The stack may send a packet of its own meanwhile.
    assert all(0 <= each.nic_sent - each.sent <= 2 for each in rounds)
    assert "no-sink" in keys_of(run, is_untrusted=False)
    assert "sink" not in run.info.partner
    expected = [0, 1]
    random.Random(run.info.obtained["seed"]).shuffle(expected)
    assert [each.setting for each in measured(rounds)] == expected, "a seed that reproduces it"


# -- what is sent


@pytest.mark.serial
def test_every_packet_recorded_at_a_rate_over_ipv6(here, out, shared_lab):
    done = here(
        "--record-all", "--rate", "20kpps", "--ratio", "1:3", "--repeats", 1, "--duration",
        "300ms", "--to", shared_lab.remote_v6, "--size", 128,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run, settings, rounds = opened(out)
    assert run.info.asked["rate"] == "20kpps"
    assert run.info.partner["address"] == shared_lab.remote_v6
    rows = rows_of(run)
    assert len(rows) == sum(each.sent for each in rounds) == sum(each.received for each in rounds)
    for each in measured(rounds):
        # Behind time it catches up; ahead of it is one packet.
        assert 0.9 * 6000 <= each.sent <= 6001
        own = rows[(rows["setting"] == each.setting) & ~rows["is_warmup"]]
        assert sorted(own["seq"].tolist()) == list(range(each.sent))
        is_stamped = own["tx_sw_ns"] != NULL
        period = 4 if settings[each.setting].stamped else 1 << 30
        wanted = (own["seq"] % period == 0) & bool(settings[each.setting].stamped)
        assert (is_stamped == wanted).all()


@pytest.mark.serial
def test_the_next_stamp_waits_for_those_that_are_pending(here, out):
    done = here(
        "--ratio", "1:1", "--repeats", 1, "--duration", "100ms", "--max-pending-timestamps", 2
    )
    assert done.returncode == 0, done.stdout[-3000:]
    _, settings, rounds = opened(out)
    for each in measured(rounds):
        assert (each.throttled_ns > 0) == bool(settings[each.setting].stamped)
        assert each.throttled_ns <= each.duration_ns
        assert each.pattern_errors == 0
    assert "pending timestamps at most 2" in done.stdout
    assert "throttled=" in done.stdout


@pytest.mark.serial
def test_two_apps_on_two_queues(here, out):
    done = here("--two-apps", "--interval", "1ms", "--duration", "400ms", "--repeats", 1)
    assert (done.returncode, done.stderr) == (0, "")
    run, settings, rounds = opened(out)
    assert settings == [Setting(64, 0, 1), Setting(64, 0, 1, MS, True)]
    rows = rows_of(run)
    assert set(rows["queue_id"]) == {1}, "the saturating app asks for no stamp"
    assert set(rows["setting"]) == {1}
    (each,) = [each for each in measured(rounds) if each.setting]
    own = np.sort(rows["tx_app_ns"][~rows["is_warmup"]])
    assert len(own) == each.second_app["sent"] == each.second_app["stamped"]
    # One per interval, as long as the other one sends, and while it is told to stop.
    assert 0.95 * each.duration_ns / MS <= len(own) <= 2 * each.duration_ns / MS
    assert 0.9 * MS <= (own[-1] - own[0]) / (len(own) - 1) <= 1.1 * MS
    assert each.requested == 0
    text = done.stdout
    assert " 64 0:1 + app 1ms\n" in text
    assert f"second app: sent={len(own)}  requested={len(own)}  stamped={len(own)}" in text
    assert "its submit to stamp, us: p50=" in text
    assert "(two queues: stamp registers shared, completion rings not)" in text
    (latency,) = [h for h in [each.second_app["latency"]] if h.count == len(own)]
    assert 0 < latency.min <= latency.max < 400 * MS


@pytest.mark.serial
def test_two_apps_on_one_queue(here, out):
    done = here(
        "--two-apps", "--same-queue", "--interval", "1ms", "--duration", "400ms", "--repeats", 1
    )
    assert (done.returncode, done.stderr) == (0, "")
    run, settings, rounds = opened(out)
    assert settings == [Setting(64, 0, 1), Setting(64, 0, 1, MS)]
    rows = rows_of(run)
    assert set(rows["queue_id"]) == {0}
    (each,) = [each for each in measured(rounds) if each.setting]
    assert each.second_app is None
    assert each.requested == each.stamped == np.count_nonzero(~rows["is_warmup"])
    # Fewer on a machine that is busy with something else.
    assert 0.2 * each.duration_ns / MS <= each.requested <= each.duration_ns / MS + 1
    assert each.pattern_errors == 0
    assert "(one queue: one process owns the completion ring)" in done.stdout


# -- its end


@pytest.mark.serial
def test_ctrl_c_in_the_middle(shared_lab, popen_cli, out):
    argv = ("mixed", shared_lab.ifname, "--output-dir", out, "--two-apps", "--seed", 1, *PACE)
    process = popen_cli(*argv, "--duration", "100s", "--repeats", 1, env=shared_lab.environ)
    wait_until(lambda: list(out.glob("*/samples/*.parquet")), "the samples of the warm-up")
    children = [child_of(process.process.pid, name) for name in (SINK, SECOND_APP)]
    assert all(map(is_alive, children))
    pressed = time.monotonic()
    process.press_ctrl_c()
    done = process.wait()
    assert time.monotonic() - pressed < 10
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "")
    run, _, rounds = opened(out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "SIGINT")
    assert "state        interrupted, ended by SIGINT" in done.stdout
    titles = ("\nbandwidth: ", "\ntimestamps: ", "\nhold time, ")
    assert all(title in done.stdout for title in titles)
    # Both apps were drained, and the sink asked, after the signal.
    last = rounds[-1]
    assert not last.is_warmup
    assert last.sent == last.received == last.completed
    assert last.second_app["sent"] == last.second_app["stamped"]
    assert not any(map(is_alive, children))
    assert_left_alone(shared_lab.ifname)


@pytest.mark.serial
def test_a_second_copy_is_refused_and_the_first_one_unharmed(here, shared_lab, popen_cli, out):
    running = MixedProcess(popen_cli, shared_lab, out.with_name("first"), *ENDLESS, *PACE)
    running.wait_sending()
    message = one_message(here("--quiet"), 1)
    assert message.startswith(f"sink on network namespace {shared_lab.environ['REMOTE_ARGS']}: ")
    assert " is attached already (native mode). End its owner, or use --force" in message
    message = one_message(here("--quiet", "--no-sink"), 1)
    assert message.startswith(f"{shared_lab.ifname}: "), message
    assert " is attached already (native mode). End its owner, or use --force" in message
    assert not out.exists()
    running.process.press_ctrl_c()
    done = running.process.wait()
    assert done.returncode == 128 + signal.SIGINT
    _, _, rounds = opened(running.out)
    assert rounds[-1].sent == rounds[-1].received > 0


@contextlib.contextmanager
def started(shared_lab, *args, **streams):
    argv = [*RUN_XDPTSTAMP, "mixed", shared_lab.ifname, "--no-sink", "--repeats", "1", *args]
    env = {**os.environ, **shared_lab.environ}
    process = subprocess.Popen(list(map(str, argv)), env=env, stderr=subprocess.PIPE, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_reader_that_goes_away(shared_lab, out):
    # As `| head -1` does.
    options = ("--format", "jsonl", "--duration", "2s", "--output-dir", out)
    with started(shared_lab, *options, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b'{"type": "start"')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + signal.SIGPIPE
    run, _, rounds = opened(out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "output closed")
    assert rounds[0].sent > 0


def test_a_full_standard_output(shared_lab, out):
    options = ("--format", "table", "--duration", "20ms", "--output-dir", out)
    with open("/dev/full", "wb") as full, started(shared_lab, *options, stdout=full) as process:
        message = process.stderr.read().decode()
        assert process.wait() == 1
    assert message == (
        "Error: the text output: cannot be written: No space left on device; the run folder has "
        "what was measured\n"
    )
    run, _, _ = opened(out)
    assert run.info.state == "complete"


# -- what is refused

WRONG_ARGUMENTS = {
    "ratio": (["--ratio", "1"], "'1' is not a ratio T:N such as 1:10"),
    "empty ratio": (["--ratio", "1:1,"], "'' is not a ratio T:N"),
    "ratio of nothing": (["--ratio", "0:0"], "'0:0' sends nothing; the baseline"),
    "great ratio": (["--ratio", "1:99999999"], "T and N are at most "),
    "size": (["--size", "big"], "'big' is not a frame size in bytes"),
    "small size": (["--size", "63"], "'63': the frame with its FCS has from 64 to "),
    "repeats": (["--repeats", "0"], "0 is not in the range x>=1"),
    "duration": (["--duration", "5"], "'5' is not a duration such as 250us or 10s"),
    "no duration": (["--duration", "0s"], "'0s' is zero; it must be longer"),
    "batch": (["--batch", "1025"], "1025 is not in the range 1<=x<=1024"),
    "rate": (["--rate", "fast"], "'fast' is not a rate such as 100kpps or 1Gbit"),
    "no rate": (["--rate", "0pps"], "'0pps' is zero; it must be more"),
    "pending": (["--max-pending-timestamps", "-1"], "-1 is not in the range x>=0"),
    "port": (["--port", "0"], "0 is not in the range 1<=x<=65535"),
    "same queue alone": (["--same-queue"], "--same-queue goes with --two-apps."),
    "interval alone": (["--interval", "1ms"], "--interval goes with --two-apps."),
    "second queue alone": (["--second-queue", "1"], "--second-queue goes with --two-apps."),
    "ratio of two apps": (["--two-apps", "--ratio", "1:1"], "--two-apps has no --ratio"),
    "one queue twice": (
        ["--two-apps", "--second-queue", "0"],
        "--second-queue is --queue; for one queue there is --same-queue.",
    ),
    "same queue and another": (
        ["--two-apps", "--same-queue", "--second-queue", "1"],
        "--same-queue has no --second-queue.",
    ),
    "priority": (["--sched", "fifo:100"], "'fifo:100' is not fifo:PRIO"),
    "format": (["--format", "hwmeta"], "'hwmeta' is not one of 'table', 'jsonl'"),
    "limit": (["--fail-if", "turnaround p99 > 1us"], "unknown interval 'turnaround'"),
    "bandwidth without %": (["--fail-if", "bandwidth < 95"], "bandwidth is compared with a %"),
    "unknown": (["--ratios", "1:1"], "No such option"),
}


@pytest.mark.parametrize(("args", "message"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_wrong_arguments(here, out, args, message):
    done = here(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())
    assert not out.exists()


def test_no_interface_named(here, shared_lab):
    environ = {**shared_lab.environ, "NETIF": ""}
    done = here(link=type(shared_lab)(environ))
    assert done.returncode == 2
    assert "Missing argument 'IFNAME': the interface (or set NETIF)." in done.stderr


REFUSED = {
    "broadcast MAC": (
        ["--dst-mac", "ff:ff:ff:ff:ff:ff"],
        "ff:ff:ff:ff:ff:ff: is the broadcast MAC address; packets go to one host only",
    ),
    "multicast MAC": (["--dst-mac", "01:00:5e:00:00:01"], "is a multicast MAC address"),
    "no MAC": (["--dst-mac", "02:00"], "02:00: is not a MAC address such as "),
    "broadcast": (["--to", "255.255.255.255"], "255.255.255.255: is a broadcast address"),
    "multicast": (["--to", "224.0.0.1"], "224.0.0.1: is a multicast address"),
    "itself": (["--to", "{LOCAL_V4}"], "{LOCAL_V4}: is "),
    "too small for IPv6": (
        ["--to", "{REMOTE_V6}"],
        "frame of 64 bytes: cannot be sent to {REMOTE_V6} (MTU 1500); --size goes from ",
    ),
    "too large for the MTU": (["--size", "1519"], "frame of 1519 bytes: cannot be sent to "),
    "one size of many": (["--size", "64,1518,1522"], "frame of 1522 bytes: cannot be sent to "),
    "queue": (["--queue", "7"], "{NETIF}: no queue 7; there is queues 0 to 1"),
    "second queue": (
        ["--two-apps", "--second-queue", "2"],
        "{NETIF}: has no queue 2 for the second app (2 in all, ethtool -l); use --second-queue, "
        "or --same-queue",
    ),
    "zero-copy": (
        ["--mode", "zero-copy"],
        "bind failed on {NETIF} queue 0, zero-copy: Operation not supported. ",
    ),
    "CPU": (["--cpu", "4095"], "CPU 4095"),
    "a file that is there": (["--csv", __file__], f"{__file__}: "),
    "no interface": (["nosuch0"], "nosuch0: no such interface; there are: "),
    "loopback": (["lo"], "lo: refused: it is the loopback interface"),
}


@pytest.mark.parametrize(("args", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(here, out, shared_lab, args, message):
    args = [arg.format(**shared_lab.environ) for arg in args]
    done = here("--no-sink", *args)
    assert message.format(**shared_lab.environ) in one_message(done, 1)
    assert not out.exists() or not list(out.iterdir()), "a run of nothing"
    assert_left_alone(shared_lab.ifname)


@pytest.mark.parametrize("lab", [1], indirect=True)
def test_a_second_app_needs_a_second_queue(here, lab, out):
    message = one_message(here("--two-apps", "--no-sink", link=lab), 1)
    assert message == (
        f"{lab.ifname}: has no queue 1 for the second app (1 in all, ethtool -l); use "
        "--second-queue, or --same-queue"
    )
    assert not out.exists()
    done = here("--two-apps", "--no-sink", "--same-queue", "--quiet", "--repeats", 1,
                "--duration", "20ms", link=lab)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_no_partner_named(here, out, shared_lab):
    environ = {**shared_lab.environ, "REMOTE_V4": "", "REMOTE_V6": ""}
    message = one_message(here(link=type(shared_lab)(environ)), 1)
    assert message == (
        "link partner: not named: give its address by --to (or set REMOTE_V4, REMOTE_V6)"
    )
    assert not out.exists()


def test_a_partner_that_is_not_there(here, out, shared_lab):
    environ = {**shared_lab.environ, "REMOTE_ARGS": "xdpt-nosuch"}
    message = one_message(here(link=type(shared_lab)(environ)), 1)
    assert "network namespace xdpt-nosuch" in message
    assert not out.exists()
    assert_left_alone(shared_lab.ifname)


# -- privilege


needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed"
)


@pytest.fixture
def with_capabilities(shared_lab, tmp_path):
    """``with_capabilities(names, *args, cwd=tmp_path)``: ``mixed`` as root with no others."""

    def run(names, *args, cwd=tmp_path):
        sets = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in names)])
        change = ["setpriv", f"--inh-caps={sets}", f"--bounding-set={sets}"]
        argv = [*change, *RUN_XDPTSTAMP, "mixed", shared_lab.ifname, *args]
        env = {**os.environ, **shared_lab.environ}
        return subprocess.run(
            list(map(str, argv)), env=env, cwd=cwd, capture_output=True, text=True, check=False
        )

    return run


@needs_setpriv
def test_without_privilege(with_capabilities, shared_lab, tmp_path):
    message = one_message(with_capabilities([], "--no-sink"), 1)
    assert message == (
        f"{shared_lab.ifname}: needs CAP_NET_ADMIN and CAP_NET_RAW and CAP_BPF and CAP_PERFMON: "
        "run as root (sudo), or give it these alone"
    )
    assert not list(tmp_path.iterdir())


@needs_setpriv
@pytest.mark.serial
def test_the_smallest_set_of_capabilities(with_capabilities, tmp_path):
    options = ("--no-sink", "--quiet", "--repeats", 1, "--duration", "20ms")
    done = with_capabilities(CAPABILITIES, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run, _, rounds = opened(tmp_path / "results")
    assert run.info.state == "complete"
    assert sum(each.stamped for each in rounds) > 0


@needs_setpriv
def test_a_folder_that_it_may_not_write_to(with_capabilities, shared_lab, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    message = one_message(with_capabilities(CAPABILITIES, "--no-sink", cwd=folder), 1)
    assert "Permission denied" in message
    assert "--output-dir" in message
    assert not list(folder.iterdir())
    assert_left_alone(shared_lab.ifname)
