# SPDX-License-Identifier: GPL-2.0-only
"""Each book of ``mixed``, broken on purpose: the run says which, and is not trusted.

With one DUT and one sink for all of them. How such a run ends is in test_mixed_books.py.
"""

import contextlib
import dataclasses
import itertools
import os
from fractions import Fraction

import numpy as np
import pytest

from xdptstamp.checks import mixed_warnings
from xdptstamp.checks.mixed_books import open_books
from xdptstamp.dut import DutConfig, acquire
from xdptstamp.measure import mixed, mixed_books, sender
from xdptstamp.measure.mixed import Mixed, Surroundings
from xdptstamp.measure.mixed_plan import MixedConfig
from xdptstamp.measure.sender import Sender
from xdptstamp.measure.sink_client import SinkClient
from xdptstamp.measure.spool import Spool
from xdptstamp.measure.stop import Stop
from xdptstamp.measure.txframes import TxFrames
from xdptstamp.nexthop import resolve
from xdptstamp.rounds import Setting
from xdptstamp.runinfo import RunInfo

if os.environ.get("NETIF"):
    pytest.skip("what a real link loses is not counted by either end", allow_module_level=True)

# 4000 packets a round, and 400 of warm-up.
SETTINGS = (Setting(64, 0, 1), Setting(64, 1, 2))
CONFIG = MixedConfig(SETTINGS, 1, 40_000_000, seed=1, batch=256, pps=Fraction(100_000))
TX_RING = 1024
LATER_NS = 3 * 10**18  # no stamp is that new


@pytest.fixture(scope="module")
def shared_sink(shared_lab):
    with SinkClient(shared_lab.partner, shared_lab.environ) as client:
        client.ready()
        yield client


class DoctoredSink:
    """A sink whose reports are lies: ``doctor(report)`` changes them."""

    def __init__(self, client):
        self._client = client
        self.doctor = lambda report: None

    def __getattr__(self, name):
        return getattr(self._client, name)

    def report(self):
        report = self._client.report()
        self.doctor(report)
        return report


@pytest.fixture
def sink(shared_sink, monkeypatch):
    """The module's sink, whose words change."""
    monkeypatch.setattr(mixed_books, "_SETTLE_S", 0.02)
    return DoctoredSink(shared_sink)


@pytest.fixture(scope="module")
def dut(shared_lab, shared_sink):
    config = DutConfig(
        shared_lab.ifname,
        queues=(0,),
        port=None,
        num_tx_frames=TX_RING,
        max_tx_skb_budget=TX_RING,
    )
    with acquire(config) as acquired:
        yield acquired


@pytest.fixture
def measure(shared_lab, dut, sink, tmp_path):
    """``measure()``: the result, and the warnings that make it untrusted."""

    def run(config=CONFIG):
        around = Surroundings(
            route=resolve(shared_lab.remote_v4, shared_lab.ifname),
            sink=sink,
            second_app=None,
            folder=tmp_path,
            put=lambda batch: None,
            on_tick=lambda: None,
            on_round=lambda each: None,
        )
        with contextlib.closing(Stop()) as stop:
            result = Mixed(dut, config, around, stop).run()
        info = RunInfo("", "mixed", "complete", "2026-01-22T13:26:05Z", [], asked={"rate": "1pps"})
        found = mixed_warnings(info, config.settings, result.rounds)
        return result, [warning for warning in found if warning.is_untrusted]

    return run


@pytest.fixture
def broken(measure):
    """``broken(keys, *texts)``: the run is not trusted, for these reasons, and says so.

    Returns its rounds.
    """

    def run(keys, *texts, **config):
        result, warnings = measure(dataclasses.replace(CONFIG, **config))
        assert [warning.key for warning in warnings] == keys.split()
        told = "; ".join(f"{warning.message}: {warning.value}" for warning in warnings)
        for text in texts:
            assert text in told
        return result.rounds

    return run


UNBALANCED = "packets or stamps are unaccounted for: the books do not add up"


def test_nothing_is_broken_by_itself(measure):
    result, warnings = measure()
    assert (result.ended_by, result.is_complete, warnings) == ("duration", True, [])
    assert len(result.rounds) == 4
    for each in result.rounds:
        assert each.received == each.sent > 0
        assert (each.located, each.unaccounted, open_books(each)) == ({}, 0, {})


@pytest.mark.parametrize("off", [-1, 1])
def test_a_sink_that_miscounts_by_one(sink, broken, off):
    def doctor(report):
        for counts in report.streams.values():
            counts.received += off

    sink.doctor = doctor
    rounds = broken("books-unbalanced", UNBALANCED, f"unaccounted = {-off:+d}")
    assert {each.unaccounted for each in rounds} == {-off}


def test_a_counter_that_gains_without_a_loss(sink, broken):
    gained = itertools.count()
    sink.doctor = lambda report: report.link.update(
        {"link.rx_missed_errors": report.link["link.rx_missed_errors"] + next(gained)}
    )
    rounds = broken("books-unbalanced", UNBALANCED, "unaccounted = -")
    for each in rounds:
        assert each.located == {"partner rx_missed_errors": -each.unaccounted}


def test_frames_that_were_too_short_and_yet_delivered(sink, measure):
    gained = itertools.count()
    sink.doctor = lambda report: report.link.update({"link.rx_length_errors": next(gained)})
    result, warnings = measure()
    assert warnings == []
    assert all(each.located == {} and each.unaccounted == 0 for each in result.rounds)


def test_a_sink_that_listens_elsewhere(broken):
    keys = "nothing-arrived books-unbalanced"
    rounds = broken(keys, "nothing arrived: that is not a bandwidth", port=9094)
    for each in rounds:
        assert each.unaccounted == each.missing == each.sent


def test_rows_that_are_lost_on_their_way(broken, monkeypatch):
    chunks = Spool.chunks

    def chunks_but_three(self):
        found = chunks(self)
        yield from (rows[3:] for rows in itertools.islice(found, 1))
        yield from found

    monkeypatch.setattr(Spool, "chunks", chunks_but_three)
    rounds = broken("books-unbalanced", "requested - stamped - causes = +3")
    (measured,) = [each for each in rounds if each.requested and not each.is_warmup]
    assert measured.requested - measured.stamped == 3


def test_rows_that_come_twice(broken, monkeypatch):
    chunks = Spool.chunks
    monkeypatch.setattr(Spool, "chunks", lambda self: (np.repeat(r, 2, 0) for r in chunks(self)))
    rounds = broken("books-unbalanced", "requested - stamped - causes = -")
    assert all(each.stamped == 2 * each.requested for each in rounds)


def meddle(monkeypatch, number, change):
    """Change word and complement of that packet of each stream, before it is sent."""
    write = TxFrames.write

    def write_and_change(frames, slot, start, count):
        write(frames, slot, start, count)
        if start <= number < start + count:
            words = frames._words[slot + number - start :][:1].view(np.uint8)
            words[:] = np.frombuffer(change(words.tobytes()), np.uint8)

    monkeypatch.setattr(TxFrames, "write", write_and_change)


def whole(word):
    """The word and its complement."""
    return word.to_bytes(4, "big") + (word ^ 0xFFFFFFFF).to_bytes(4, "big")


@pytest.mark.parametrize("number", [1200, 1201])
def test_one_packet_that_breaks_the_pattern(broken, monkeypatch, number):
    # One that asks for a stamp and does not say so, and one that says so and does not.
    meddle(monkeypatch, number, lambda data: whole(int.from_bytes(data[:4], "big") ^ 1))
    rounds = broken("pattern-broken", "break the pattern of stamped and plain: 2")
    broken_ones = [each for each in rounds if each.pattern_errors]
    assert [(each.is_warmup, each.pattern_errors) for each in broken_ones] == [(False, 1)] * 2


def test_one_packet_that_is_damaged(broken, monkeypatch):
    meddle(monkeypatch, 1200, lambda data: data[:5] + bytes([data[5] ^ 8]) + data[6:])
    rounds = broken("packets-corrupted", "arrived with other contents than were sent")
    for each in rounds:
        if not each.is_warmup:
            assert each.located == {"sink corrupted": each.corrupted}
            assert (each.corrupted, each.missing, each.unaccounted) == (1, 1, 0)


def test_one_number_that_comes_twice_and_one_that_never_does(broken, monkeypatch):
    meddle(monkeypatch, 1200, lambda data: whole(int.from_bytes(data[:4], "big") - 6))
    rounds = broken("books-unbalanced", "unaccounted = +1")
    for each in rounds:
        if not each.is_warmup:
            assert (each.duplicates, each.missing, each.unaccounted) == (1, 1, 1)


def test_a_completion_that_is_swallowed(measure, monkeypatch):
    monkeypatch.setattr(sender, "STALL_LIMIT_NS", 30_000_000)
    reap, is_over = Sender._reap, []

    def reap_but_one(self, now_ns):
        ring = self._xsk.comp
        is_measured = self._phase.duration_ns == CONFIG.duration_ns
        if is_measured and self._done > 1200 and not is_over and ring.num_waiting():
            is_over.append(True)
            ring.words[ring.consumer_position & ring.mask] = 1 << 40
        return reap(self, now_ns)

    monkeypatch.setattr(Sender, "_reap", reap_but_one)
    result, warnings = measure()
    (lost,) = [warning for warning in warnings if warning.key == "completions-lost"]
    assert (lost.message, lost.value) == ("completions that never came", "1")
    rounds = result.rounds
    assert [each.lost for each in rounds] == [0] * (len(rounds) - 1) + [1]
    assert (result.completed_unexpected, result.is_complete) == (1, False)
    assert result.ended_by == mixed.LOST
    causes = rounds[-1].causes
    assert causes["lost_by_driver"] == rounds[-1].requested - rounds[-1].stamped <= 1


@pytest.mark.parametrize("value", [1, 393250, LATER_NS])
def test_a_stamp_that_cannot_be_true(broken, monkeypatch, value):
    keep = Sender._keep_part

    def keep_with_a_lie(self, slot, start, *args):
        if self._phase.duration_ns == CONFIG.duration_ns and start == 0:  # which asks for a stamp
            self._frames.stamps(slot, 1)[0] = value
        keep(self, slot, start, *args)

    monkeypatch.setattr(Sender, "_keep_part", keep_with_a_lie)
    rounds = broken("stamps-invalid", "stamps that cannot be true")
    assert [each.causes["invalid"] for each in rounds if each.requested] == [0, 1]
