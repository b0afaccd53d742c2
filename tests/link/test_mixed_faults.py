# SPDX-License-Identifier: GPL-2.0-only
"""What goes wrong in the middle of ``mixed``: it ends in time, says why, and calls nothing good.

The link, the partner, the processes and the disk really fail. Stamps out of range and completions
that do not come have no cause on a veth: there the answers of the kernel are doctored, on the way
from rings in which real packets go round.
"""

import contextlib
import errno
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from tests.link.mixing import (
    ENDLESS,
    RECORDER,
    SECOND_APP,
    SINK,
    MixedProcess,
    at_look,
    child_of,
    keys_of,
    message_of,
    opened,
    run_here,
    set_partner,
    wait_carrier,
)
from tests.link.running import assert_left_alone, the_run, wait_until
from xdptstamp.cli._mixed_output import MixedOutput
from xdptstamp.measure import mixed, second_app, sender, sink_client
from xdptstamp.measure.txframes import TxFrames
from xdptstamp.sample import NULL, Cause
from xdptstamp.store import iter_batches
from xdptstamp.store.recorder import Recorder

if os.environ.get("NETIF"):
    pytest.skip("a real link is not broken", allow_module_level=True)

SECOND_NS = 1_000_000_000
# What is stated, and that much for a busy machine to restore the interface and write the run.
GENEROUS_S = 8

UNACCOUNTED = ("unaccounted",)


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
        started = time.monotonic()
        done = run_here(capsys, "--output-dir", out, "--format", "jsonl", *args)
        assert time.monotonic() - started < 4 * GENEROUS_S
        return done

    return run


@pytest.fixture
def partner_up_again(shared_lab):
    """Whatever the test does to the partner's end, the next one finds it up."""
    yield
    set_partner(shared_lab, "up")
    wait_carrier(shared_lab.ifname)


class Fault:
    """Something that goes wrong once, and when it did."""

    def __init__(self, action):
        self._action = action
        self.at = None

    def __call__(self):
        self._action()
        self.at = time.monotonic()

    @property
    def seconds_ago(self):
        return time.monotonic() - self.at


def kill(pid, number=signal.SIGKILL):
    assert pid is not None, "no such process"
    os.kill(pid, number)


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def assert_failed(run, message):
    """The run is one that a fault has ended; nobody may rely on it."""
    assert run.info.state == "interrupted"
    assert run.info.ended_by == message
    assert "run-failed" in keys_of(run, is_untrusted=True)
    assert not run.info.is_trusted


def causes_of(rounds):
    """By label, over all rounds, without zeros."""
    labels = [cause.label for cause in Cause if cause is not Cause.NONE]
    counts = {label: sum(each.causes[label] for each in rounds) for label in labels}
    return {label: count for label, count in counts.items() if count}


# -- the interface, the link, the partner


def test_the_interface_vanishes(lab, popen_cli, out):
    running = MixedProcess(popen_cli, lab, out, *ENDLESS)
    running.wait_sending()
    ip("link", "delete", lab.ifname)
    done = running.ended_within(GENEROUS_S)
    message = f"{lab.ifname}: vanished: removed, or moved to another namespace"
    assert message_of(done) == message
    run, _, rounds = opened(out, may_miss=UNACCOUNTED)
    assert_failed(run, message)
    assert rounds[-1].sent == rounds[-1].completed + rounds[-1].lost > 0


def test_the_partners_end_goes_down(lab, popen_cli, out):
    running = MixedProcess(popen_cli, lab, out, *ENDLESS)
    running.wait_sending()
    set_partner(lab, "down")
    done = running.ended_within(GENEROUS_S)
    message = message_of(done)
    assert message.startswith(f"sink on network namespace {lab.environ['REMOTE_ARGS']}: ended")
    assert "is down: `ip link set " in message
    run, _, rounds = opened(out, may_miss=UNACCOUNTED)
    assert_failed(run, message)
    assert rounds[-1].dropped_by_kernel > 0


@pytest.mark.usefixtures("partner_up_again")
def test_no_carrier_while_nobody_counts(shared_lab, here, out, monkeypatch):
    fault = Fault(lambda: set_partner(shared_lab, "down"))
    at_look(monkeypatch, 10, fault)
    done = here("--no-sink", "--ratio", "1:0", "--repeats", 1, "--duration", "100s", "--seed", 1)
    assert fault.seconds_ago < 2 + GENEROUS_S
    message = f"{shared_lab.ifname}: has no carrier: is the cable in, the partner up?"
    assert message_of(done) == message
    run, settings, rounds = opened(out)
    assert_failed(run, message)
    last = rounds[-1]
    assert not settings[last.setting].is_baseline
    # In the two seconds without a link not one packet was sent, and none is said to be stamped.
    assert last.dropped_by_kernel > 0
    # Beside ours there may be a few packets of the stack's own on a link that goes.
    assert 0 <= last.located["DUT tx_dropped"] - last.dropped_by_kernel < 20
    num_left = last.sent - last.dropped_by_kernel
    assert last.nic_sent == last.arrived
    assert 0 <= last.nic_sent - num_left < 20
    assert last.stamped == num_left
    assert causes_of([last]) == {"invalid": last.dropped_by_kernel}
    # Half a second before, two of patience, and up to one until the kernel tells of the carrier.
    assert 2 * SECOND_NS < last.duration_ns < 6 * SECOND_NS
    assert {"stamps-invalid", "link-lost"} <= set(keys_of(run, is_untrusted=True))
    rows = np.concatenate([batch[batch["cause"] != 0] for batch in iter_batches(run)])
    assert len(rows) == last.dropped_by_kernel
    assert (rows["tx_sw_ns"] == NULL).all()


@pytest.mark.usefixtures("partner_up_again")
def test_a_carrier_that_comes_back_before_patience_ends(shared_lab, here, out, monkeypatch):
    def bounce():
        set_partner(shared_lab, "down")
        set_partner(shared_lab, "up")
        wait_carrier(shared_lab.ifname)

    at_look(monkeypatch, 4, bounce)
    done = here("--no-sink", "--ratio", "1:1", "--repeats", 1, "--duration", "500ms")
    assert done.returncode == 3
    run, _, rounds = opened(out)
    assert run.info.state == "complete"
    assert len(rounds) == 4
    assert run.info.counts["link_resets"] == 1
    assert "link-lost" in keys_of(run, is_untrusted=True)
    assert "UNTRUSTED: the adapter was reset, or lost its link" in done.stderr


def test_the_own_end_goes_down(lab, here, out, monkeypatch):
    fault = Fault(lambda: ip("link", "set", lab.ifname, "down"))
    at_look(monkeypatch, 10, fault)
    done = here("--no-sink", *ENDLESS, link=lab)
    assert fault.seconds_ago < GENEROUS_S
    message = f"{lab.ifname}: is down: `ip link set {lab.ifname} up`"
    assert message_of(done) == message
    run, _, rounds = opened(out)
    assert_failed(run, message)
    # What was submitted until the next look around is where it was put.
    last = rounds[-1]
    assert last.sent - last.completed == last.lost == last.located["left in Tx ring"] > 0
    assert "completions-lost" in keys_of(run, is_untrusted=True)
    assert_left_alone(lab.ifname)


# -- the processes


def test_the_sink_is_killed(shared_lab, here, out, monkeypatch):
    fault = Fault(lambda: kill(child_of(os.getpid(), SINK)))
    at_look(monkeypatch, 10, fault)
    done = here(*ENDLESS)
    assert fault.seconds_ago < GENEROUS_S
    subject = f"sink on network namespace {shared_lab.environ['REMOTE_ARGS']}"
    message = f"{subject}: ended with SIGKILL"
    assert message_of(done) == message
    run, _, rounds = opened(out)
    assert_failed(run, message)
    assert rounds[0].source == "sink"
    assert rounds[-1].received is None


def test_a_sink_that_hangs(here, out, monkeypatch):
    assert sink_client.REPORT_LIMIT_S + 2 * sink_client._END_LIMIT_S <= 20, "as stated"
    monkeypatch.setattr(sink_client.SinkClient.report, "__defaults__", (0.5,))
    monkeypatch.setattr(sink_client, "_END_LIMIT_S", 0.2)
    fault = Fault(lambda: kill(child_of(os.getpid(), SINK), signal.SIGSTOP))
    at_look(monkeypatch, 3, fault)
    done = here("--ratio", "1:1", "--repeats", 1, "--duration", "600ms")
    assert fault.seconds_ago < 0.6 + 0.5 + 0.4 + GENEROUS_S
    message = message_of(done)
    assert message.endswith(": gave no report within 0.5 s")
    run, _, _ = opened(out)
    assert_failed(run, message)


def test_a_sink_without_time_for_a_moment(here, out, monkeypatch):
    # What its socket has no room for counts the interface of a veth as dropped, too.
    at_look(monkeypatch, 4, lambda: kill(child_of(os.getpid(), SINK), signal.SIGSTOP))
    at_look(monkeypatch, 6, lambda: kill(child_of(os.getpid(), SINK), signal.SIGCONT))
    done = here("--ratio", "1:1", "--repeats", 1, "--duration", "500ms")
    assert done.returncode == 0
    run, _, rounds = opened(out)
    located = [each.located for each in rounds if each.missing]
    assert located and all(
        set(each) <= {"sink rx_dropped", "sink rx_ring_full"} for each in located
    )
    (loss,) = [each for each in run.info.warnings if each.key == "loss-at-partner"]
    assert not loss.is_untrusted
    measured = [each for each in rounds if not each.is_warmup]
    sent = sum(each.sent for each in measured)
    names = {name for each in measured for name in each.located}
    assert f" % of {sent} (" in loss.value and all(name in loss.value for name in names)
    assert (loss.limit, loss.advice) == (
        "0.1 %",
        "give the sink a CPU of its own, or send slower with --rate",
    )


def test_the_recorder_is_killed(here, out, monkeypatch):
    fault = Fault(lambda: kill(child_of(os.getpid(), RECORDER)))
    at_look(monkeypatch, 10, fault)
    done = here("--no-sink", *ENDLESS)
    assert fault.seconds_ago < GENEROUS_S
    message = message_of(done)
    assert "the recorder process ended early (killed by SIGKILL)" in message
    assert "Measure again" in message
    run, _, rounds = opened(out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "recorder")
    assert rounds[-1].sent > 0


@pytest.mark.parametrize("options", [("--two-apps",), ("--ratio", "1:1")], ids=["two", "one"])
def test_the_recorder_is_killed_between_two_rounds(here, out, monkeypatch, options):
    original = Recorder.put_all

    def put_all(self, batch):
        kill(self.pid)
        while True:  # until what it shares with us has no room
            original(self, batch)

    monkeypatch.setattr(Recorder, "put_all", put_all)
    done = here("--no-sink", *options, "--repeats", 1, "--duration", "100ms", "--seed", 1)
    assert "the recorder process ended early (killed by SIGKILL)" in message_of(done)
    run, _, rounds = opened(out)
    assert run.info.state == "interrupted"
    # Nothing is kept of its samples; what became of each packet is known all the same.
    other = rounds[-1].second_app
    assert rounds[-1].requested + (other["requested"] if other else 0) > 0


def test_the_measuring_process_is_killed(shared_lab, popen_cli, out):
    running = MixedProcess(popen_cli, shared_lab, out, "--two-apps", *ENDLESS[2:])
    running.wait_sending()
    names = (RECORDER, SINK, SECOND_APP)
    assert None not in [child_of(running.pid, name) for name in names]
    kill(running.pid)
    done = running.ended_within(GENEROUS_S)
    assert done.returncode == -signal.SIGKILL
    assert_left_alone(shared_lab.ifname)
    wait_until(lambda: the_run(out).info.state != "running", "the recorder's end")
    run = the_run(out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "killed")
    assert "rounds" not in run.info.counts, "no bandwidth is there to be called good"
    # That sink, second app and recorder end as well is what `nothing_left` waits for.


@pytest.mark.parametrize("is_hanging", [False, True], ids=["killed", "hanging"])
def test_the_second_app(here, out, monkeypatch, is_hanging):
    assert second_app._STOP_LIMIT_S <= 30 and second_app._END_LIMIT_S <= 5, "as stated"
    monkeypatch.setattr(second_app, "_STOP_LIMIT_S", 1)
    monkeypatch.setattr(second_app, "_END_LIMIT_S", 0.2)
    number = signal.SIGSTOP if is_hanging else signal.SIGKILL
    fault = Fault(lambda: kill(child_of(os.getpid(), SECOND_APP), number))
    options = ("--two-apps", "--repeats", 1, "--seed", 1)  # it comes first in this order
    if is_hanging:
        at_look(monkeypatch, 3, fault)
        done = here("--no-sink", *options, "--duration", "600ms")
    else:
        at_look(monkeypatch, 10, fault)
        done = here("--no-sink", *options, "--duration", "100s")
    assert fault.seconds_ago < GENEROUS_S
    message = message_of(done)
    assert message.startswith("the second app: ")
    how = "did not answer within 1 s" if is_hanging else "has ended (killed by SIGKILL)"
    assert how in message
    run, _, _ = opened(out)
    assert_failed(run, message)


# -- the disk


def test_the_disk_fills(here, small_disk, monkeypatch):
    out = small_disk / "out"
    started = time.monotonic()
    done = here("--no-sink", "--output-dir", out, "--ratio", "1:0", "--repeats", 1,
                "--duration", "100s", "--seed", 1)  # fmt: skip
    assert time.monotonic() - started < GENEROUS_S
    assert "No space left on device. Free space there, or " in message_of(done)
    run, _, rounds = opened(out, may_miss=["requested - stamped - causes"])
    assert run.info.state == "interrupted"
    # Of those that write there, either may meet it first.
    ended_by = run.info.ended_by
    assert ended_by == "recorder" or ended_by.startswith(f"keeping samples failed on {run.path}")
    assert not run.info.is_trusted
    # What found no room was not looked at, and is not said to be stamped.
    last = rounds[-1]
    assert 0 < last.stamped < last.requested == last.sent == last.completed
    rows = sum(len(batch) for batch in iter_batches(run))
    assert rows <= sum(each.stamped for each in rounds)


def test_a_disk_without_any_room(here, small_disk, monkeypatch):
    out = small_disk / "out"
    shown = MixedOutput.round

    def fill_up(self, each):
        shown(self, each)
        with contextlib.suppress(OSError), open(small_disk / "filler", "ab", 0) as filler:
            while filler.write(b"x" * 4096):
                pass

    monkeypatch.setattr(MixedOutput, "round", fill_up)
    done = here("--no-sink", "--output-dir", out, "--ratio", "1:0", "--repeats", 2,
                "--duration", "100ms", "--seed", 1)  # fmt: skip
    assert os.strerror(errno.ENOSPC) in message_of(done)
    (path,) = out.iterdir()
    run = the_run(out)
    assert run.path == path
    assert run.info.state == "interrupted"
    assert not run.info.is_trusted
    assert run.info.counts["rounds"][0]["sent"] > 0, "run.json has room of its own"


# -- stamps and completions


# A skipped stamp, where csum_start and csum_offset lie; none; the sign bit; the last packet's; the
# future.
WRONG_STAMPS = (
    lambda stamps: 393250,
    lambda stamps: 0,
    lambda stamps: 1 << 63,
    lambda stamps: stamps - SECOND_NS,
    lambda stamps: stamps + SECOND_NS,
)


def test_stamps_out_of_range(here, out, monkeypatch):
    wrong, stamps = set(), TxFrames.stamps

    def doctored(self, slot, count):
        values = stamps(self, slot, count).copy()
        for number, change in enumerate(WRONG_STAMPS):
            at = slice(7 * number, None, 7 * len(WRONG_STAMPS))
            values[at] = change(values[at])
        wrong.update(values[::7].tolist())
        counted.append(len(values[::7]))
        return values

    counted = []
    monkeypatch.setattr(TxFrames, "stamps", doctored)
    args = ("--no-sink", "--ratio", "1:0", "--repeats", 1, "--duration", "200ms")
    done = here(*args)
    assert done.returncode == 3
    run, _, rounds = opened(out)
    assert run.info.state == "complete"
    assert causes_of(rounds) == {"invalid": sum(counted)}
    assert sum(each.requested for each in rounds) > sum(counted) > 0
    assert {393250, 0, 1 << 63} < wrong
    assert keys_of(run, is_untrusted=True) == ["stamps-invalid"]
    assert "UNTRUSTED: stamps that cannot be true" in done.stderr
    for batch in iter_batches(run):
        stamped = batch["tx_sw_ns"][batch["tx_sw_ns"] != NULL]
        assert not wrong & set(stamped.tolist()), "one is shown as a stamp"


class Completions:
    """A completion ring that keeps the entries of some packets to itself.

    :param withheld: numbers of those entries, counted from the socket's first on.
    """

    def __init__(self, ring, withheld):
        self.size, self.mask = ring.size, ring.mask
        self.addrs = np.zeros(ring.size, np.uint64)
        self.first_withheld_at = self.last_look_at = None
        self._ring, self._withheld = ring, withheld
        self._num_seen = self._position = 0

    def peek(self, _count):
        self.last_look_at = time.monotonic()
        start, count = self._ring.peek(self._ring.size)
        kept = 0
        for position in range(start, start + count):
            if self._num_seen in self._withheld:
                self.first_withheld_at = self.first_withheld_at or self.last_look_at
            else:
                entry = (self._position + kept) & self.mask
                self.addrs[entry] = self._ring.addrs[position & self.mask]
                kept += 1
            self._num_seen += 1
        if count:
            self._ring.release(count)
        return self._position, kept

    def release(self, count):
        self._position += count


@pytest.fixture
def withhold(monkeypatch):
    """``withhold(numbers, limit_s)``: keep completions back; silence is borne so long only."""

    def install(numbers, limit_s):
        rings, real = [], mixed.Sender

        def doctored(xsk, *args, **options):
            xsk.comp = Completions(xsk.comp, numbers)
            rings.append(xsk.comp)
            return real(xsk, *args, **options)

        monkeypatch.setattr(mixed, "Sender", doctored)
        monkeypatch.setattr(sender, "STALL_LIMIT_NS", round(limit_s * SECOND_NS))
        return rings

    assert sender.STALL_LIMIT_NS == 20 * SECOND_NS, "as stated"
    return install


def assert_waited_once(ring, limit_s):
    # Sending waits for the limit; draining does not wait as long again.
    assert 0.8 * limit_s < ring.last_look_at - ring.first_withheld_at < 1.8 * limit_s


class FromNowOn:
    """All numbers once it was called."""

    def __init__(self):
        self._has_come = False

    def __call__(self):
        self._has_come = True

    def __contains__(self, _number):
        return self._has_come


def test_completions_stop(here, out, withhold, monkeypatch):
    stop = FromNowOn()
    rings = withhold(stop, 1)
    at_look(monkeypatch, 10, stop)
    done = here("--no-sink", "--ratio", "1:0", "--repeats", 1, "--duration", "100s", "--seed", 1)
    assert done.returncode == 3
    (ring,) = rings
    assert_waited_once(ring, 1)
    run, _, rounds = opened(out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "completions never came")
    _, last = rounds
    assert last.sent > last.completed == last.stamped > 0
    assert causes_of([last]) == {"lost_by_driver": last.sent - last.completed}
    assert "completions-lost" in keys_of(run, is_untrusted=True)
    assert "UNTRUSTED: completions that never came" in done.stderr


def test_some_completions_never_come(here, out, withhold):
    # Of what comes behind them all come, out of order, until the ring has no room for more.
    rings = withhold((5001, 5004, 5008), 0.5)
    done = here("--no-sink", "--ratio", "1:1", "--repeats", 1, "--duration", "100s", "--seed", 1)
    assert done.returncode == 3
    (ring,) = rings
    assert ring.last_look_at - ring.first_withheld_at < 4
    run, _, rounds = opened(out)
    assert (run.info.state, run.info.ended_by) == ("interrupted", "completions never came")
    (last,) = rounds
    # Two of them asked for a stamp.
    assert last.lost == last.sent - last.completed == 3
    assert causes_of([last]) == {"lost_by_driver": 2}
    assert last.stamped == last.requested - 2
    assert "completions-lost" in keys_of(run, is_untrusted=True)
    rows = np.concatenate([batch[batch["cause"] != 0] for batch in iter_batches(run)])
    assert sorted(rows["seq"]) == [5004, 5008]
