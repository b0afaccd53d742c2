# SPDX-License-Identifier: GPL-2.0-only
"""``--fail-if`` and the warnings: each provoked, and each silent without its reason."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdptstamp.checks import parse_fail_if, run_warnings
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import NULL, Cause, empty_batch
from xdptstamp.stats import Summary

START = 1763818000000000000


def run_of(num=4000, missing=0, cause=Cause.SKIPPED, timestamps="software", **fields):
    """A run of ``num`` packets; tx_app to stamp takes 1 us for the first, 2 us for the next..."""
    stamp, receive = {
        "hardware": ("tx_hw_ns", "rx_hw_ns"),
        "software": ("tx_sw_ns", "rx_xdp_ns"),
    }[timestamps]
    batch = empty_batch(num)
    batch["seq"] = range(num)
    batch[receive] = batch["tx_app_ns"] = START
    batch[stamp] = START + (batch["seq"] + 1) * 1000
    batch[stamp][:missing] = NULL
    batch["cause"][:missing] = cause
    summary = Summary("ping-pong")
    summary.add(batch)
    info = RunInfo(
        run_id="r",
        kind="ping-pong",
        state="complete",
        started_utc="2025-01-01T00:00:00Z",
        argv=[],
        timestamps=timestamps,
        asked={"mode": "auto", "xdp_mode": "auto", "hwtstamp": "auto", "format": "table"},
        obtained={"mode": "copy" if timestamps == "software" else "zero-copy"},
        counts={"received": num, "answered": num, "refused": 0},
    )
    for key, value in fields.items():
        if isinstance(value, dict):
            getattr(info, key).update(value)
        else:
            setattr(info, key, value)
    return info, summary


def ping_of(**counts):
    summary = Summary("ping")
    batch = empty_batch(100)
    batch["tx_app_ns"] = START
    batch["rx_app_ns"] = START + 70_000
    summary.add(batch)
    info, _ = run_of()
    info.kind = "ping"
    info.counts = {"sent": 100, "received": 100, "lost": 0, **counts}
    return info, summary


@pytest.mark.parametrize(
    ("text", "missing", "is_missed"),
    [
        ("missing > 0", 0, False),
        ("missing > 0", 1, True),
        ("missing>=1", 1, True),
        ("missing > 0.1%", 2, False),  # exactly 0.1 % of 2000
        ("missing >= 0.1%", 2, True),
        ("missing > 0.1 %", 3, True),
        ("skipped > 2", 3, True),
        ("skipped > 3", 3, False),
        ("timed_out > 0", 3, False),
        ("stamped < 2000", 1, True),
        ("stamped < 99%", 20, False),
        ("stamped < 99%", 21, True),
        ("refused > 0", 0, False),
        ("refused > 0%", 0, False),
    ],
)
def test_counts(text, missing, is_missed):
    info, summary = run_of(2000, missing=missing)
    warning = parse_fail_if(text).check(info, summary)
    assert (warning is not None) == is_missed
    if warning:
        assert warning.is_untrusted and warning.key == "fail-if"
        assert text in warning.message and warning.limit == text


def test_percent_shows_the_parts_of_the_share():
    warning = parse_fail_if("missing > 0.1%").check(*run_of(2000, missing=21))
    assert warning.value == "21 of 2000"
    assert warning.message == "--fail-if 'missing > 0.1%' is true"


@pytest.mark.parametrize(
    ("text", "is_missed"),
    [
        ("tx_app_to_tx_sw max > 1999us", True),  # the maximum is 2 ms
        ("tx_app_to_tx_sw max > 2ms", False),
        ("tx_app_to_tx_sw_ns max >= 2ms", True),
        ("tx_app_to_tx_sw_ns min < 1us", False),
        ("tx_app_to_tx_sw_ns min <= 1000 ns", True),
        ("tx_app_to_sw min <= 1.0us", True),
        ("tx_app_to_sw p50 > 900us", True),
        ("tx_app_to_sw p50 > 1.1ms", False),
        ("rx_xdp_to_tx_sw p99.9 >= 1ms", True),
        ("turnaround p50 > 10us", True),
        ("turnaround max > 1s", False),
    ],
)
def test_intervals(text, is_missed):
    warning = parse_fail_if(text).check(*run_of(2000))
    assert (warning is not None) == is_missed
    if warning:
        assert warning.is_untrusted and " ns" in warning.value


def test_maximum_is_shown_exactly_and_a_percentile_with_its_error():
    assert parse_fail_if("turnaround max > 1us").check(*run_of(2000)).value == "2000000 ns"
    value = parse_fail_if("turnaround p50 > 1us").check(*run_of(2000)).value
    assert value.endswith(" ns (within 1/256)")


@pytest.mark.parametrize(
    ("text", "run", "value"),
    [
        ("turnaround p99.9 > 1s", run_of(num=999), "999 samples are too few for p99.9"),
        ("tx_sw_to_tx_comp max > 1s", run_of(2000), "no sample has it"),
        ("turnaround max > 1s", run_of(num=0), "no sample has it"),
        ("missing > 0", run_of(num=0), "no timestamp was requested"),
        ("duplicates > 0", run_of(2000), "this run does not count it"),
        ("rx_dropped > 1%", run_of(num=0, counts={"rx_dropped": 0}), "take a share of"),
        ("turnaround max > 1s", run_of(timestamps="software", num=9, missing=9), "no sample"),
        (
            "tx_app_to_hw max > 1s",
            run_of(2000, timestamps="hardware"),
            "two clocks (tai, phc), no measured offset",
        ),
    ],
)
def test_value_that_does_not_exist_fails(text, run, value):
    warning = parse_fail_if(text).check(*run)
    assert warning is not None and warning.is_untrusted
    assert value in warning.value
    assert "has no value to judge" in warning.message


def test_turnaround_follows_the_kind_of_timestamps():
    info, summary = run_of(2000, timestamps="hardware")
    assert parse_fail_if("turnaround max >= 2ms").check(info, summary) is not None
    info.timestamps = "none"
    warning = parse_fail_if("turnaround max > 1s").check(info, summary)
    assert "the run has no timestamps" in warning.value


@pytest.mark.parametrize(
    ("text", "is_missed"),
    [
        ("lost > 0", False),
        ("lost >= 0", True),
        ("duplicates > 1%", True),
        ("round_trip max > 69us", True),
        ("round_trip max > 70us", False),
    ],
)
def test_ping(text, is_missed):
    warning = parse_fail_if(text, "ping").check(*ping_of(duplicates=2))
    assert (warning is not None) == is_missed


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        ("", None, "not an expression"),
        ("missing", None, "not an expression"),
        ("missing > x", None, "not an expression"),
        ("missing > -1", None, "not an expression"),
        ("missing = 1", None, "not an expression"),
        ("missing > 1 > 2", None, "not an expression"),
        ("mising > 0", None, "unknown count 'mising'"),
        ("none > 0", None, "unknown count 'none'"),
        ("missing > 0.5", None, "whole number or a %"),
        ("missing > 5us", None, "whole number or a %"),
        ("turnaround > 5us", None, "unknown count 'turnaround'"),
        ("missing p50 > 5us", None, "unknown interval 'missing'"),
        ("turnaround p50 > 5", None, "compared with a duration"),
        ("turnaround p50 > 5%", None, "compared with a duration"),
        ("turnaround p50 > 5min", None, "compared with a duration"),
        ("turnaround q50 > 5us", None, "unknown quantile 'q50'"),
        ("turnaround p0 > 5us", None, "unknown quantile 'p0'"),
        ("turnaround p100 > 5us", None, "unknown quantile 'p100'"),
        ("duplicates > 0", "ping-pong", "unknown count 'duplicates'"),
        ("missing > 0", "ping", "unknown count 'missing'"),
        ("turnaround p50 > 5us", "ping", "unknown interval 'turnaround'"),
        ("round_trip p50 > 5us", "ping-pong", "unknown interval 'round_trip'"),
    ],
)
def test_bad_expression_shows_the_grammar(text, kind, problem):
    with pytest.raises(ValueError) as caught:
        parse_fail_if(text, kind)
    message = str(caught.value)
    assert problem in message and repr(text) in message
    assert "COUNT OP NUMBER[%]" in message and "INTERVAL min|pNN|max OP DURATION" in message


def test_grammar_names_what_can_be_asked():
    with pytest.raises(ValueError) as caught:
        parse_fail_if("x > 1", "ping-pong")
    for name in ("missing", "lost_by_driver", "turnaround", "rx_xdp_to_tx_sw", "rx_ring_full"):
        assert name in str(caught.value)
    assert "round_trip" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_parses_or_is_a_value_error(text):
    try:
        parsed = parse_fail_if(text)
    except ValueError:
        return
    assert parsed.limit >= 0


@given(st.integers(0, 2000), st.integers(0, 100_000))
def test_shares_are_compared_exactly(missing, thousandths):
    text = f"missing > {thousandths // 1000}.{thousandths % 1000:03d}%"
    warning = parse_fail_if(text).check(*run_of(2000, missing=missing))
    assert (warning is not None) == (Fraction(missing, 2000) > Fraction(thousandths, 100_000))


def test_run_without_reason_for_doubt_has_no_warning():
    for timestamps in ("software", "hardware"):
        assert run_warnings(*run_of(timestamps=timestamps)) == []
    assert [w.key for w in run_warnings(*ping_of())] == ["few-samples"]  # 100 packets


INVALID = (
    "look whether the link partner was up and the MTU kept; a HARDWARE stamp is also invalid if "
    "the driver gave the stamp of another packet"
)
# What provokes each warning, and what the user reads: value, limit, advice.
PROVOKED = [
    (
        "no-packets",
        run_of(num=0),
        "0 packets",
        "at least one",
        "look at the link and the partner; xdptstamp ping HOST sends what ping-pong answers",
    ),
    (
        "stamps-missing",
        run_of(missing=41),
        "41 of 4000",
        "1 %",
        "send slower: the adapter has few stamp slots, shared with ptp4l",
    ),
    ("stamps-invalid", run_of(missing=1, cause=Cause.INVALID), "1", "0", INVALID),
    (
        "stamps-lost-by-driver",
        run_of(missing=2, cause=Cause.LOST_BY_DRIVER),
        "2",
        "0",
        "see the driver's known faults in the notes, and update the kernel",
    ),
    (
        "stamps-timed-out",
        run_of(missing=1, cause=Cause.TIMED_OUT),
        "1",
        "0",
        "look at the kernel log and at the driver's known faults in the notes",
    ),
    ("rx-ring-full", run_of(counts={"rx_ring_full": 5}), "5", "0", "send slower or use --cpu"),
    (
        "rx-dropped",
        run_of(counts={"rx_dropped": 6}),
        "6",
        "0",
        "send slower, or use --wait spin and a --cpu of its own",
    ),
    (
        "rx-fill-ring-empty-descs",
        run_of(counts={"rx_fill_ring_empty_descs": 7}),
        "7",
        "0",
        "send slower, use --wait spin, or give the process its own --cpu",
    ),
    (
        "copy-mode",
        run_of(asked={"mode": "zero-copy"}),
        "copy",
        "zero-copy",
        "use a driver with AF_XDP zero-copy; these stamps are taken by software",
    ),
    (
        "skb-mode",
        run_of(obtained={"xdp_mode": "skb"}),
        "skb",
        "native",
        "use --xdp-mode native if the driver has it",
    ),
    (
        "cross-clock-deltas",
        run_of(asked={"format": "hwmeta"}),
        "opted out by --format hwmeta",
        "a measured offset",
        "rely on such deltas only while the PHC follows CLOCK_TAI",
    ),
    (
        "recorder-overruns",
        run_of(counts={"recorder_overruns": 4}),
        "4 of 4004",
        "0; untrusted above 1 per mille",
        "send slower, or put the results on a faster disk",
    ),
    (
        "recorder-overruns",
        run_of(counts={"recorder_overruns": 5}),
        "5 of 4005",
        "0; untrusted above 1 per mille",
        "send slower, or put the results on a faster disk",
    ),
    (
        "few-samples",
        run_of(num=3687),
        "3687 samples",
        "3688 independent ones",
        "run 2 times as long, or do not quote p99.9",
    ),
    (
        "stamp-steps-back",
        run_of(counts={"stamp_steps_back": 4}),
        "4",
        "0",
        "the kernel's clock may step back by little from CPU to CPU: use --cpu",
    ),
    (
        "books-unbalanced",
        run_of(counts={"unaccounted": {"received": -3, "answered": 0}}),
        "received -3",
        "0",
        "look whether another program used the interface or its counters; please report it",
    ),
]


@pytest.mark.parametrize(("key", "run", "value", "limit", "advice"), PROVOKED)
def test_warning_is_provoked(key, run, value, limit, advice):
    (warning,) = run_warnings(*run)
    assert (warning.key, warning.value, warning.limit) == (key, value, limit)
    assert warning.advice == advice and warning.message
    is_untrusted = key in ("copy-mode", "books-unbalanced") or value.startswith("5 of")
    assert warning.is_untrusted == is_untrusted


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (Cause.DISABLED, "run with --hwtstamp on"),
        (Cause.UNSUPPORTED, "use a driver that offers tx-timestamp in its xsk-features"),
        (Cause.SKIPPED, "send slower: the adapter has few stamp slots, shared with ptp4l"),
        (Cause.RESET, "keep the link up and other XDP programs away during the run"),
        (Cause.INVALID, INVALID),
        (Cause.NOT_COMPLETED, "let the run drain; do not interrupt it twice"),
    ],
)
def test_stamps_that_are_missing_are_told_with_what_helps(cause, advice):
    warnings = run_warnings(*run_of(missing=41, cause=cause, timestamps="hardware"))
    missing = warnings[0]
    assert (missing.key, missing.value, missing.limit) == ("stamps-missing", "41 of 4000", "1 %")
    assert missing.message == f"timestamps are missing, most of them {cause.label}"
    assert missing.advice == advice


@pytest.mark.parametrize(
    "run",
    [
        run_of(missing=40),  # 1 % is the limit, not past it
        run_of(num=3688),
        run_of(counts={"rx_ring_full": 0, "rx_dropped": 0, "stamp_steps_back": 0}),
        run_of(asked={"mode": "copy"}),
        run_of(asked={"hwtstamp": "on"}),  # a veth has none, and the notes say so
        run_of(counts={"unaccounted": {"received": 0, "answered": 0}}),
    ],
)
def test_warning_is_absent_at_its_limit(run):
    assert run_warnings(*run) == []


def test_packets_that_asked_for_nothing():
    info, _ = run_of()
    batch = empty_batch(3)
    batch["rx_app_ns"] = START
    summary = Summary("ping-pong")
    summary.add(batch)
    assert [warning.key for warning in run_warnings(info, summary)] == ["nothing-requested"]
    info.timestamps = "none"  # --no-timestamps
    assert run_warnings(info, summary) == []


def test_doubt_is_not_said_twice():
    info, summary = run_of(counts={"rx_ring_full": 5})
    info.warnings = run_warnings(info, summary)
    assert run_warnings(info, summary) == []


def test_advice_names_the_most_frequent_cause():
    (warning, _) = run_warnings(*run_of(missing=50, cause=Cause.TIMED_OUT))
    assert "most of them timed_out" in warning.message and "kernel log" in warning.advice
