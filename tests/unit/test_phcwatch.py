# SPDX-License-Identifier: GPL-2.0-only
"""Watching a PHC: when it is sampled, what it says when it cannot be, what is judged by it."""

from __future__ import annotations

import errno
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.unit.test_stamp import completed
from xdptstamp import phcwatch
from xdptstamp.clock import ClockSample
from xdptstamp.comparison import Comparison
from xdptstamp.errors import SystemCallError
from xdptstamp.linkwatch import LinkChange
from xdptstamp.measure.vigil import Vigil
from xdptstamp.phcwatch import PhcWatch
from xdptstamp.sample import NULL, Cause
from xdptstamp.stamp import StampRules, judge

SECOND, MS, US = 1_000_000_000, 1_000_000, 1_000
T0 = 1_790_000_000_000_000_000


class Clocks:
    """A PHC, CLOCK_TAI and CLOCK_MONOTONIC that stand still until they are moved on."""

    def __init__(self):
        self.path, self.method, self.refusals = "/dev/ptp0", None, {}
        self.elapsed_ns = self.offset_ns = 0
        self.error = None
        self.num_reads = 0

    def compare(self):
        self.num_reads += 1
        self.method = "extended"
        if self.error is not None:
            raise self.error
        tai = T0 + self.elapsed_ns
        return ClockSample(tai, tai + self.offset_ns, US)

    def pass_by(self, ns):
        self.elapsed_ns += ns


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    fake = SimpleNamespace(monotonic_ns=lambda: 5 * SECOND + clocks.elapsed_ns)
    monkeypatch.setattr(phcwatch, "time", fake)
    return clocks


def test_the_first_sample_is_taken_at_once_and_then_one_a_second(clocks):
    watch = PhcWatch(clocks)
    for _ in range(35):
        watch.look()
        clocks.pass_by(100 * MS)
    assert clocks.num_reads == len(watch.comparison) == 4
    times = [sample.tai_ns - T0 for sample in watch.comparison.samples]
    assert times == [0, SECOND, 2 * SECOND, 3 * SECOND]


def test_everything_is_handed_on_from_the_first_sample(clocks):
    watch, heard = PhcWatch(clocks), []
    clocks.pass_by(SECOND)
    watch.sample()
    watch.tell(lambda sample, continues: heard.append((sample, continues)))
    clocks.pass_by(SECOND)
    clocks.offset_ns = -SECOND // 2
    watch.sample()
    assert [sample for sample, _ in heard] == list(watch.comparison.samples)
    assert [continues for _, continues in heard] == [False, True, False]


def test_a_clock_that_is_gone_is_said_and_may_come_back(clocks):
    watch = PhcWatch(clocks)
    clocks.pass_by(SECOND)
    clocks.error = SystemCallError(errno.ENODEV, "PTP_SYS_OFFSET", "/dev/ptp0")
    watch.look()
    assert watch.to_json()["problem"] == "PTP_SYS_OFFSET failed on /dev/ptp0: No such device"
    clocks.pass_by(MS * 20)
    assert not watch.refresh()
    clocks.error = None
    clocks.pass_by(SECOND)
    watch.look()
    assert watch.to_json()["problem"] == ""
    assert len(watch.comparison) == 2


def test_the_run_info_has_it_all(clocks):
    watch = PhcWatch(clocks)
    clocks.pass_by(SECOND)
    watch.sample()
    data = watch.to_json()
    assert (data["device"], data["method"]) == ("/dev/ptp0", "extended")
    assert data["uncertainty"].startswith("half of the shortest window")
    assert (data["drift_ppb"], data["drift_uncertainty_ppb"]) == (0, 2000)
    assert Comparison.from_json(data["samples"]).samples == watch.comparison.samples
    if time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(time.CLOCK_REALTIME) < SECOND:
        assert "TAI offset is 0" in data["notes"][0]


def rules_of(watch):
    return StampRules(is_hardware=True, is_hwtstamp_on=True, clock=watch)


def test_a_clock_set_a_moment_ago_makes_no_stamp_invalid(clocks):
    """Set in mid-run: what came before it is judged by what was, what came behind by what is."""
    watch = PhcWatch(clocks)
    clocks.pass_by(SECOND)
    watch.sample()
    clocks.pass_by(500 * MS)
    clocks.offset_ns = 37 * SECOND
    app = SECOND + np.array([100 * MS, 400 * MS])
    stamps = T0 + app + 50 * US
    stamps[1] += 37 * SECOND
    done = completed(*stamps.tolist(), app=app, comp=app + 100 * US)
    assert clocks.num_reads == 2
    found, causes = judge(rules_of(watch), done)
    assert found.tolist() == stamps.tolist()
    assert causes.tolist() == [Cause.NONE, Cause.NONE]
    assert clocks.num_reads == 3
    assert watch.comparison.num_stretches == 2


def test_a_stamp_that_is_wrong_on_both_sides_of_a_step_stays_invalid(clocks):
    watch = PhcWatch(clocks)
    clocks.pass_by(SECOND)
    watch.sample()
    clocks.pass_by(500 * MS)
    clocks.offset_ns = 37 * SECOND
    app = SECOND + 100 * MS
    done = completed(T0 + app + 20 * SECOND, app=app, comp=app + 100 * US)
    found, causes = judge(rules_of(watch), done)
    assert (found.tolist(), causes.tolist()) == ([NULL], [Cause.INVALID])


def test_a_flood_of_wrong_stamps_does_not_make_a_flood_of_readings(clocks):
    watch = PhcWatch(clocks)
    done = completed(T0 + 3600 * SECOND, app=0, comp=100 * US)
    for _ in range(100):
        assert judge(rules_of(watch), done)[1].tolist() == [Cause.INVALID]
        clocks.pass_by(MS)
    assert clocks.num_reads <= 11


# In the loop of a measurement.


class Watch:
    """A link that does what it is told."""

    def __init__(self):
        self.change = LinkChange.NONE

    def check(self, *, asks=False):
        return self.change


def test_a_reset_of_the_adapter_breaks_the_comparison(clocks):
    watch, link = PhcWatch(clocks), Watch()
    dut = SimpleNamespace(clocks=watch, watch=link, is_hardware=True)
    vigil = Vigil(dut, SECOND)
    now_ns = time.clock_gettime_ns(time.CLOCK_TAI)
    clocks.elapsed_ns = now_ns - T0 - 3 * SECOND
    for _ in range(3):
        vigil.look()
        clocks.pass_by(SECOND)
    assert watch.comparison.offset_at(now_ns - 2 * SECOND) is not None
    link.change = LinkChange.CARRIER_BOUNCED
    vigil.look()
    link.change = LinkChange.NONE
    clocks.pass_by(SECOND)
    vigil.look()
    assert len(vigil.resets) == 1
    earliest, latest = vigil.resets[0]
    for moment in (earliest, (earliest + latest) // 2, latest):
        assert watch.comparison.offset_at(moment) is None
