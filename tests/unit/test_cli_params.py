# SPDX-License-Identifier: GPL-2.0-only
"""Durations, rates, ratios, sizes and policies as typed."""

from fractions import Fraction

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdptstamp.cli.params import (
    DURATION,
    INTERVAL,
    RATE,
    RATIOS,
    SCHED,
    SIZES,
    Rate,
    Scheduling,
)
from xdptstamp.rounds import Setting


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1ns", 1),
        ("250us", 250_000),
        ("1.5ms", 1_500_000),
        ("10s", 10_000_000_000),
        ("0.1s", 100_000_000),
        ("2m", 120_000_000_000),
        ("24h", 86_400_000_000_000),
        ("7d", 604_800_000_000_000),
        ("9223372036s", 9_223_372_036_000_000_000),
    ],
)
def test_durations_are_exact_nanoseconds(text, ns):
    assert DURATION.convert(text, None, None) == ns
    assert INTERVAL.convert(text, None, None) == ns


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10", "'10' is not a duration such as 250us or 10s"),
        ("10 s", "not a duration"),
        ("-1s", "not a duration"),
        ("1e3s", "not a duration"),
        ("1S", "not a duration"),
        ("", "not a duration"),
        ("\u0661s", "not a duration"),
        ("0.5ns", "not a whole number of nanoseconds"),
        ("300000d", "longer than 292 years"),
        ("0s", "is zero"),
        ("0", "is zero"),
        ("flood", "not a duration"),
    ],
)
def test_what_is_no_duration_is_refused(text, problem):
    with pytest.raises(click.BadParameter) as caught:
        DURATION.convert(text, None, None)
    assert problem in caught.value.message


@pytest.mark.parametrize("text", ["flood", "0", "0s"])
def test_an_interval_may_be_zero(text):
    assert INTERVAL.convert(text, None, None) == 0


def test_scheduling():
    assert SCHED.convert("fifo:80", None, None) == Scheduling("fifo", 80)
    assert str(Scheduling("fifo", 80)) == "fifo:80"


@pytest.mark.parametrize("text", ["fifo", "fifo:0", "fifo:100", "rr:5", "fifo:-1", "fifo:5x"])
def test_what_is_no_scheduling_is_refused(text):
    with pytest.raises(click.BadParameter, match="is not fifo:PRIO with PRIO from 1 to 99"):
        SCHED.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "ratios"),
    [
        ("1:1", ((1, 1),)),
        ("1:1,1:10,0:1", ((1, 1), (1, 10), (0, 1))),
        (" 1 : 1 , 1:10 ", ((1, 1), (1, 10))),
        ("1:1,01:1,1:10,1:1", ((1, 1), (1, 10))),
        ("1:0", ((1, 0),)),
        ("2:2,1:1", ((2, 2), (1, 1))),  # not the same: the order of packets differs
        ("65535:65535", ((65535, 65535),)),
        ("000000000001:1", ((1, 1),)),
    ],
)
def test_ratios_in_the_order_typed_and_each_once(text, ratios):
    assert RATIOS.convert(text, None, None) == ratios


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "1",
            "'1' is not a ratio T:N such as 1:10 (T packets with a timestamp, then N without); "
            "several are separated by commas",
        ),
        ("0:0", "'0:0' sends nothing; the baseline without timestamps is 0:1"),
        ("65536:1", "'65536:1': T and N are at most 65535"),
        ("1:65536", "at most 65535"),
        ("1:" + "9" * 5000, "at most 65535"),
        ("1:1,", "'' is not a ratio"),
        ("", "'' is not a ratio"),
        ("1:1;1:10", "'1:1;1:10' is not a ratio"),
        ("1:1 1:10", "is not a ratio"),
        ("1:-1", "is not a ratio"),
        ("1:1.5", "is not a ratio"),
        ("1:2:3", "is not a ratio"),
        ("\u0661:1", "is not a ratio"),
    ],
)
def test_what_is_no_ratio_is_refused(text, problem):
    with pytest.raises(click.BadParameter) as caught:
        RATIOS.convert(text, None, None)
    assert problem in caught.value.message


_PART = st.integers(0, 65535)


@given(st.lists(st.tuples(_PART, _PART).filter(any), min_size=1, unique=True))
def test_ratios_come_back_from_their_text(ratios):
    text = ",".join(Setting(64, *ratio).ratio for ratio in ratios)
    assert RATIOS.convert(text, None, None) == tuple(ratios)
    assert RATIOS.convert(tuple(ratios), None, None) == tuple(ratios)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("64", (64,)),
        ("64,512,1518", (64, 512, 1518)),
        (" 1518 ,64, 1518", (1518, 64)),
        ("9216", (9216,)),
    ],
)
def test_sizes_in_the_order_typed_and_each_once(text, sizes):
    assert SIZES.convert(text, None, None) == sizes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("63", "'63': the frame with its FCS has from 64 to 9216 bytes"),
        ("64,9217", "'9217': the frame"),
        ("0", "'0': the frame"),
        ("9" * 5000, "the frame with its FCS has"),
        (
            "64B",
            "'64B' is not a frame size in bytes such as 64; several are separated by commas",
        ),
        ("64,,512", "'' is not a frame size"),
        ("-64", "is not a frame size"),
        ("64.0", "is not a frame size"),
        ("", "'' is not a frame size"),
    ],
)
def test_what_is_no_size_is_refused(text, problem):
    with pytest.raises(click.BadParameter) as caught:
        SIZES.convert(text, None, None)
    assert problem in caught.value.message


@given(st.lists(st.integers(64, 9216), min_size=1, unique=True))
def test_sizes_come_back_from_their_text(sizes):
    assert SIZES.convert(",".join(map(str, sizes)), None, None) == tuple(sizes)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100kpps", Rate(pps=Fraction(100_000))),
        ("2.5Mpps", Rate(pps=Fraction(2_500_000))),
        ("7pps", Rate(pps=Fraction(7))),
        ("0.5pps", Rate(pps=Fraction(1, 2))),
        ("1Gbit", Rate(bits=Fraction(10**9))),
        ("300Mbit", Rate(bits=Fraction(300_000_000))),
        ("64kbit", Rate(bits=Fraction(64_000))),
        (" 1bit ", Rate(bits=Fraction(1))),
    ],
)
def test_rates_are_exact(text, rate):
    assert RATE.convert(text, None, None) == rate
    assert str(rate) == text.strip()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "100",
            "'100' is not a rate such as 100kpps or 1Gbit: pps, kpps, Mpps; bit, kbit, Mbit, Gbit "
            "(a second, on the wire)",
        ),
        ("100k", "is not a rate"),
        ("100Kpps", "is not a rate"),
        ("100 kpps", "is not a rate"),
        ("1mbit", "is not a rate"),
        ("1GBit", "is not a rate"),
        ("-1pps", "is not a rate"),
        ("1e3pps", "is not a rate"),
        ("", "is not a rate"),
        ("\u0661pps", "is not a rate"),
        ("9" * 5000 + "pps", "is not a rate"),
        ("0pps", "'0pps' is zero; it must be more"),
        ("0.0Gbit", "is zero"),
        ("0.0001pps", "'0.0001pps' is out of range: from 0.001pps to 1000000Gpps"),
        ("9999999Gbit", "is out of range"),
    ],
)
def test_what_is_no_rate_is_refused(text, problem):
    with pytest.raises(click.BadParameter) as caught:
        RATE.convert(text, None, None)
    assert problem in caught.value.message


def test_a_rate_in_bits_counts_what_is_on_the_wire():
    # IEEE 802.3: a frame of 64 bytes takes 672 bit times, so 1 Gbit/s is 1 488 095 of them.
    smallest = Setting(64, 1, 1).wire_bits
    assert Rate(bits=Fraction(10**9)).interval_ns(smallest) == 672
    assert int(Rate(bits=Fraction(10**9)).packets_per_s(smallest)) == 1_488_095
    assert Rate(pps=Fraction(100_000)).interval_ns(smallest) == 10_000
    assert Rate(pps=Fraction(3)).interval_ns(1) == Fraction(10**9, 3)


def test_a_rate_of_neither_kind_is_a_mistake():
    with pytest.raises(ValueError, match="packets or bits"):
        Rate().interval_ns(672)


@given(st.integers(1, 10**15), st.sampled_from(["pps", "bits"]))
def test_rates_come_back_from_their_text(thousandths, kind):
    rate = Rate(**{kind: Fraction(thousandths, 1000)})
    assert RATE.convert(str(rate), None, None) == rate
    assert RATE.convert(rate, None, None) == rate


def test_a_rate_that_no_decimals_can_write_is_cut():
    assert str(Rate(pps=Fraction(1, 3))).startswith("0.3333333333")
