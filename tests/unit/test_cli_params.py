# SPDX-License-Identifier: GPL-2.0-only
"""Durations, rates and policies as typed."""

import click
import pytest

from xdptstamp.cli.params import DURATION, INTERVAL, SCHED, Scheduling


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
