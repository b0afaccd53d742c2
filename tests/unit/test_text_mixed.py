# SPDX-License-Identifier: GPL-2.0-only
"""The tables of a ``mixed`` run: golden texts from hand-made rounds, and never over 72 columns."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.unit import mixed_kit as kit
from xdptstamp.checks import mixed_warnings
from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import Warning
from xdptstamp.sample import Cause
from xdptstamp.text.lines import duration
from xdptstamp.text.mixed import format_mixed
from xdptstamp.text.mixed_tables import (
    bandwidth_lines,
    hold_lines,
    setting_label,
    timestamp_lines,
)


def assert_plain(lines):
    for line in lines:
        assert line.isascii() and line.isprintable() and len(line) <= 72, line
        assert line == line.rstrip(), repr(line)


def block(lines, title):
    """The lines of one block, from its title to the next empty line."""
    start = next(i for i, line in enumerate(lines) if line.startswith(title))
    rest = lines[start:]
    return rest[: rest.index("")] if "" in rest else rest


def test_golden_on_a_veth():
    info = kit.info_of(obtained={"run_dir": "results/20251122T132640Z-board7-eth1-mixed"})
    lines = format_mixed(info, *kit.three_settings(), kit.summary_of(5))
    assert_plain(lines)
    assert (
        "\n".join(lines)
        == """\
xdptstamp mixed: SOFTWARE timestamps
run          20251122T132640Z-board7-eth1-mixed
state        complete
time         2025-11-22T13:26:40Z to 2025-11-22T13:26:50Z
host         board7
machine      Intel(R) Atom(R) x6425E, x86_64, 4 CPUs
kernel       6.12.57-rt14
interface    eth1, driver veth, 10000 Mbit/s (nominal: it moves as fast
             as the CPU can)
mode         copy (asked auto)
XDP mode     native
queue        0
CPU          1 (affinity)
rounds       6, 1s per setting after 200ms of warm-up, in random order
             (seed 42)
rate         as fast as it goes
batch        256 packets; pending timestamps not limited
bandwidth    arrived at the sink
partner      198.51.100.2 netns
timestamps   SOFTWARE, tx_sw_ns, clock tai: kernel let go of the packet
             (software stamp)

bandwidth: arrived at the sink; SOFTWARE timestamps
 size ratio      Mpps   Gbit/s  %link        vs 0:1 [95 %]   user    sys
   64 0:1       1.001   0.6727    6.7             baseline     30    700
   64 1:10     0.9922   0.6668    6.6 0.991 [0.990, 0.992]     30    700
   64 1:0      0.8033   0.5398    5.3 0.802 [0.800, 0.805]     30    700
  (Mpps: median of 6 rounds; Gbit/s: on the wire, with preamble, gap and
   FCS; user, sys: CPU ns per packet sent)
  (vs 0:1: geometric mean over 6 paired rounds)

timestamps: SOFTWARE timestamps
 size ratio         requested          stamped         missing % stamped
   64 0:1                   0                0               0         -
   64 1:10            541,200          541,197               3  99.999 %
      skipped=3
   64 1:0           4,819,800        4,819,800               0 100.000 %
      skipped=0
  (software stamps: no counter of a driver knows them)

hold time, submit to completion, in us; SOFTWARE timestamps
 size ratio  position         p50         p99       p99.9            max
   64 0:1    others        15.520      15.968      15.968         15.999
             period        10.976      12.000      12.000         12.000
   64 1:10   stamped       20.544      20.928      20.999         20.999
             behind       <period     <period           -        <period
             others        15.520      15.968      15.968         15.999
             period        10.976      12.000      12.000         12.000
   64 1:0    stamped       20.544      20.928      20.999         20.999
             period        10.976      12.000      12.000         12.000
  (behind: a plain packet right behind a stamped one; period: from one
   look at the completions to the next, no hold time is known finer than
   that)
  (max is exact, percentiles within 1/256; <period: below the p50 of
   that; -: too few packets for that percentile)

packets of all settings, warm-up left out
  sent                                    16,779,600
  completed                               16,779,600
  lost                                             0  0.000 %
  received                                16,779,600
  not received                                     0  0.000 %

samples recorded: 5

run folder   results/20251122T132640Z-board7-eth1-mixed"""
    )


def test_golden_with_a_second_app_in_hardware():
    settings, rounds = kit.two_apps()
    rounds[0].wakeup_errors = {"EAGAIN": 5}
    rounds[0].pause_frames = {"rx_pause": 3, "tx_pause": 0}
    rounds[2].located = {"partner rx_dropped": 3}
    rounds[2].received, rounds[2].missing, rounds[2].unaccounted = rounds[2].sent - 4, 4, 1
    text = "skipped: 5 by our books, 5 by the driver's tx_hwtstamp_skipped: they agree"
    info = kit.info_of(
        timestamps="hardware",
        nic={"driver": "igc", "kind": "hardware", "speed_mbps": 2500},
        obtained={"mode": "zero-copy", "max_pending": 2, "cpu": None, "queues": [2, 3]},
        counts={"reconciliation": [text]},
    )
    lines = format_mixed(info, settings, rounds, kit.summary_of(0))
    assert_plain(lines)
    assert (
        "\n".join(lines)
        == """\
xdptstamp mixed: HARDWARE timestamps
run          20251122T132640Z-board7-eth1-mixed
state        complete
time         2025-11-22T13:26:40Z to 2025-11-22T13:26:50Z
host         board7
machine      Intel(R) Atom(R) x6425E, x86_64, 4 CPUs
kernel       6.12.57-rt14
interface    eth1, driver igc, 2500 Mbit/s
mode         zero-copy (asked auto)
XDP mode     native
queue        2, 3
CPU          any (no affinity)
rounds       5, 1s per setting, in random order (seed 42)
rate         as fast as it goes
batch        256 packets; pending timestamps at most 2
bandwidth    arrived at the sink
partner      198.51.100.2 netns
timestamps   HARDWARE, tx_hw_ns, clock phc: NIC sent the packet

bandwidth: arrived at the sink; HARDWARE timestamps
 size ratio      Mpps   Gbit/s  %link        vs 0:1 [95 %]   user    sys
   64 0:1       1.000   0.6720   26.8             baseline     30    700
   64 0:1 + app 1ms
               0.9900   0.6653   26.6 0.990 [0.990, 0.990]     30    700
   64 1 per 250us
               0.9850   0.6619   26.4 0.985 [0.985, 0.985]     30    700
  (Mpps: median of 5 rounds; Gbit/s: on the wire, with preamble, gap and
   FCS; user, sys: CPU ns per packet sent)
  (vs 0:1: geometric mean over 5 paired rounds)

timestamps: HARDWARE timestamps
 size ratio         requested          stamped         missing % stamped
   64 0:1                   0                0               0         -
   64 0:1 + app 1ms
                            0                0               0         -
      second app: sent=5,000  requested=5,000  stamped=4,990
        completed=5,000  lost=0  skipped=5  timed_out=5
      its submit to completion, us: p50=6.992  p99=8.928  p99.9=8.992
        max=8.999
   64 1 per 250us
                       20,000           20,000               0 100.000 %
      throttled=0.100% of the time
  (two queues: stamp registers shared, completion rings not)
  (one queue: one process owns the completion ring)
driver's stamp counters
  skipped: 5 by our books, 5 by the driver's tx_hwtstamp_skipped: they
    agree

hold time, submit to completion, in us; HARDWARE timestamps
 size ratio  position         p50         p99       p99.9            max
   64 0:1    others        15.520      15.968      15.968         15.999
             period         9.000       9.000       9.000          9.000
   64 0:1 + app 1ms
             others        15.520      15.968      15.968         15.999
             period         9.000       9.000       9.000          9.000
   64 1 per 250us
             others        15.520      15.968      15.968         15.999
             period         9.000       9.000       9.000          9.000
  (behind: a plain packet right behind a stamped one; period: from one
   look at the completions to the next, no hold time is known finer than
   that)
  (max is exact, percentiles within 1/256)

packets of all settings, warm-up left out
  sent                                    14,875,000
  completed                               14,875,000
  lost                                             0  0.000 %
  received                                14,874,996
  not received                                     4  <0.001 %
  missing: partner rx_dropped                      3
  missing: unaccounted                             1
  pause frames: rx_pause                           3
  kernel refused: EAGAIN                           5"""
    )


def test_warnings_and_the_verdict_follow_the_tables():
    settings, rounds = kit.three_settings()
    rounds[3].sent += 1
    info = kit.info_of()
    info.warnings = mixed_warnings(info, settings, rounds)
    lines = format_mixed(info, settings, rounds, kit.summary_of(5))
    assert_plain(lines)
    assert any("sent - completed - lost = +1" in line for line in lines)
    assert lines[-1] == "NOT TO BE TRUSTED: see the warnings marked UNTRUSTED."


def set_source(rounds, source):
    for each in rounds:
        if source != "sink":
            each.received = None
        if source == "NIC Tx counters":
            each.nic_sent = each.sent


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("sink", "bandwidth: arrived at the sink; SOFTWARE timestamps"),
        ("NIC Tx counters", "bandwidth: NIC Tx counters; SOFTWARE timestamps"),
        (
            "completions",
            "bandwidth: completions, nobody counted what arrived; SOFTWARE timestamps",
        ),
    ],
)
def test_the_title_names_the_source(source, words):
    settings, rounds = kit.three_settings()
    set_source(rounds, source)
    lines = bandwidth_lines(kit.info_of(), settings, rounds)
    assert "\n".join(lines).startswith(words + "\n size ratio")


def test_sources_that_differ_are_said():
    settings, rounds = kit.three_settings()
    set_source(rounds[5:8], "completions")
    text = " ".join(bandwidth_lines(kit.info_of(), settings, rounds)[:2])
    assert text.startswith("bandwidth: SOURCES DIFFER between rounds: arrived at the sink;")


def table_of(rounds, settings=(kit.BASELINE, kit.ONE_TEN), **info):
    return bandwidth_lines(kit.info_of(**info), list(settings), rounds)


def test_one_round_has_no_interval_and_silence_has_no_ratio():
    rounds = [kit.round_of(0, 0, 1_000_000), kit.round_of(0, 1, 900_000)]
    lines = table_of(rounds)
    assert any(line.endswith("0.900 [-]     30    700") for line in lines)
    assert "  ([-]: no interval, it takes two paired rounds)" in lines
    rounds[1].received = 0
    lines = table_of(rounds)
    assert "   64 1:10          0        0    0.0            0.000 [-]     30    700" in lines
    assert "  (0.000 [-]: nothing arrived in 1 round, there is no interval)" in lines
    rounds[0].duration_ns = 0
    assert any("      -     30    700" in line for line in table_of(rounds))


def test_without_baseline_or_speed_there_is_a_dash():
    lines = table_of([kit.round_of(0, 1, 900_000)], nic={"speed_mbps": None})
    assert "   64 1:10     0.9000   0.6048      -                    -     30    700" in lines


def test_nothing_measured():
    info = kit.info_of()
    assert bandwidth_lines(info, [kit.BASELINE], []) == ["bandwidth: no round was measured"]
    assert hold_lines(info, [kit.BASELINE], [])[1:] == ["  (no completion was seen)"]
    assert_plain(format_mixed(info, [kit.BASELINE], [], kit.summary_of(0)))
    assert_plain(format_mixed(info, [], [], kit.summary_of(0)))


def test_slow_rates_keep_their_figures():
    rounds = [kit.round_of(0, 0, 1000), kit.round_of(0, 1, 12_346)]
    lines = table_of(rounds)
    assert lines[2].startswith("   64 0:1    0.001000")
    assert lines[3].startswith("   64 1:10    0.01235")


def test_no_percentile_is_shown_below_the_reaping_period():
    each = kit.round_of(0, 0, 1000)
    kit.add_holds(each, others=[5_000] * 900 + [20_000] * 200, reap=[10_000] * 1000)
    lines = hold_lines(kit.info_of(), [kit.BASELINE], [each])
    assert lines[2].split() == ["64", "0:1", "others", "<period", *["20.000"] * 3]
    assert lines[3].split() == ["period", *["10.000"] * 4]
    assert any("<period: below the p50 of" in line for line in lines)


def test_few_packets_support_no_percentile():
    each = kit.add_holds(kit.round_of(0, 0, 3), others=[5_000] * 3)
    lines = hold_lines(kit.info_of(), [kit.BASELINE], [each])
    assert lines[2].split() == ["64", "0:1", "others", "5.000", "-", "-", "5.000"]
    assert any("-: too few packets" in line for line in lines)


def test_hardware_without_counters_says_nothing_of_software():
    lines = timestamp_lines(kit.info_of(timestamps="hardware"), *kit.three_settings())
    assert not any("software" in line for line in lines)


def test_labels():
    assert setting_label(Setting(64, 3, 7)) == "3:7"
    assert setting_label(Setting(64, 0, 1, 1_500_000)) == "1 per 1500us"
    assert setting_label(Setting(64, 0, 1, 10**9, has_second_app=True)) == "0:1 + app 1s"
    assert [duration(ns) for ns in (0, 1, 1000, 60 * 10**9)] == ["0ns", "1ns", "1us", "60s"]


def wild_round(number, setting, count, ns, source):
    """A round with every number as large as it gets, books that do not balance included."""
    each = Round(number, setting, number, duration_ns=ns, sent=count, completed=count)
    each.requested = each.stamped = count
    for cause in each.causes:
        each.causes[cause] = count
    each.received = count if source == 0 else None
    each.nic_sent = count if source == 1 else None
    each.unaccounted, each.missing = -count, count
    each.located = {"partner a_counter_with_quite_a_long_name_that_a_driver_may_have": count}
    each.throttled_ns = each.user_ns = each.system_ns = ns
    each.second_app = {"requested": count, "stamped": 0, "causes": {"skipped": count}}
    return kit.add_holds(each, stamped=[ns] * 3, behind=[1], others=[ns // 7] * 2, reap=[ns] * 2)


def assert_fits(settings, rounds, summary):
    info = kit.info_of(label="x" * 100, nic={"driver": "d" * 90})
    info.warnings = mixed_warnings(info, settings, rounds)
    assert_plain(format_mixed(info, settings, rounds, summary))


WILD = [Setting(9018, 0, 1), Setting(9018, 65535, 65535), Setting(64, 0, 1, 10**18 + 1, True)]


@pytest.mark.parametrize("ns", [1, 1000, 10**9, 10**15])
@pytest.mark.parametrize("count", [0, 1, 123_456_789_012, 2**62])
def test_extreme_numbers_fit(ns, count):
    rounds = [wild_round(n, index, count, ns, 0) for n in range(2) for index in range(3)]
    assert_fits(WILD, rounds, kit.summary_of(3))


def test_ten_gpps_keep_their_columns():
    rounds = [kit.round_of(0, 0, 10**10), kit.round_of(0, 1, 10**10)]
    lines = table_of(rounds, nic={"speed_mbps": None})
    assert lines[2].startswith("   64 0:1     10000.0   6720.0      -")
    rounds = [kit.round_of(0, 0, 10**13), kit.round_of(0, 1, 10**13)]
    lines = table_of(rounds)
    assert lines[2] == "   64 0:1"
    assert lines[3].startswith("      Mpps=10000000.0  Gbit/s=6720000.0")


BIG = st.integers(0, 2**60)


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(BIG, BIG, st.integers(0, 2)), min_size=1, max_size=6), st.data())
def test_any_numbers_fit(numbers, data):
    rounds = [
        wild_round(number, data.draw(st.integers(0, 2)), count, ns, source)
        for number, (count, ns, source) in enumerate(numbers)
    ]
    assert_fits(WILD, rounds, kit.summary_of(0))


@given(st.sampled_from([cause for cause in Cause if cause]), st.integers(1, 10**12))
def test_any_cause_is_shown(cause, count):
    each = kit.miss(kit.round_of(0, 0, 10**12, requested=10**12), cause, count)
    lines = timestamp_lines(kit.info_of(), [kit.ALL], [each])
    assert f"      {cause.label}={count:,}" in lines


def test_text_from_outside_steers_no_terminal():
    info = kit.info_of(partner={"host": "\x1b[2J"}, dut={"cpu_model": "\u2603"})
    info.warnings = [Warning("k", "m\x07", "v", "l", "a")]
    assert_plain(format_mixed(info, *kit.three_settings(), kit.summary_of(0)))
