# SPDX-License-Identifier: GPL-2.0-only
"""``compare --fail-if`` and its exit codes: missed, met, and not to be told, which is not met."""

import re

import pytest

from tests.unit.compare_kit import compare, mixed, ping
from xdptstamp.compare import parse_change_limit


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four runs of ``mixed`` each, the second slower by 10 %; and two of ping, 20 % slower."""
    base = tmp_path_factory.mktemp("limits")
    for number in range(4):
        mixed(base / "a", number, 1)
        mixed(base / "b", 10 + number, 0.9, missing=900)
    ping(base / "quick", 1, 50, lost=3)
    ping(base / "late", 2, 60, lost=3)
    return base


def said(done):
    """What was said of limits, each in a line."""
    text = done.stdout[done.stdout.index("verdict: ") :]
    text = re.sub(r"\n  +(?!\()", " ", text)
    return [line for line in text.splitlines() if "--fail-if" in line]


@pytest.mark.parametrize(
    ("limit", "code", "word"),
    [
        ("bandwidth < -3%", 3, "MISSED"),
        ("bandwidth < -20%", 0, "met"),
        ("bandwidth <= -3%", 3, "MISSED"),
        ("bandwidth > +3%", 0, "met"),
        ("vs_baseline < -3%", 0, "met"),
        ("hold_stamped p50 > +5%", 3, "MISSED"),
        ("hold_stamped p50 > +1us", 3, "MISSED"),
        ("hold_stamped p50 > 5us", 0, "met"),
        ("missing > +0.1%", 3, "MISSED"),
        ("skipped > 2%", 0, "met"),
    ],
)
def test_a_limit_of_a_comparison(folders, limit, code, word):
    done = compare(folders / "a", folders / "b", "--fail-if", limit)
    assert done.exit_code == code, done.output
    assert said(done)
    assert all(line.startswith(f"{word}: --fail-if '{limit}'") for line in said(done))
    assert "this boot" not in " ".join(said(done))


def test_what_is_said_of_a_limit(folders):
    limits = ("bandwidth < -3%", "missing > 5%", "hold_others p50 > 900us")
    options = [each for limit in limits for each in ("--fail-if", limit)]
    lines = said(compare(folders / "a", folders / "b", *options))
    number = r"[+-]\d+\.\d+"
    assert re.fullmatch(
        rf"MISSED: --fail-if 'bandwidth < -3%' 64 0:1 bandwidth: is true, the change is from "
        rf"{number} to {number} %",
        lines[0],
    )
    assert lines[2:] == [
        "met: --fail-if 'missing > 5%' is not true of 64 1:10 missing",
        "met: --fail-if 'hold_others p50 > 900us' is not true of 64 0:1 hold_others p50",
    ]


def test_what_cannot_be_told_is_not_met_unless_the_user_says_so(folders):
    runs = [mixed(folders / "noisy" / name, seed, 1, 4, 0.1) for name, seed in (("c", 1), ("d", 2))]
    limit = ("--fail-if", "bandwidth < -1%")
    done = compare(*runs, *limit)
    assert done.exit_code == 3
    assert len(said(done)) == 2
    for line in said(done):
        assert re.fullmatch(
            r"UNSURE: --fail-if 'bandwidth < -1%' 64 \d:\d+ bandwidth: cannot be told(: "
            r"[\d,]+ more rounds)?, the change is from -\d+(\.\d+)? to \+\d+(\.\d+)? % "
            r"\(this boot only\)",
            line,
        ), line
    passed = compare(*runs, *limit, "--inconclusive", "pass")
    assert passed.exit_code == 0
    assert said(passed) == said(done)


def test_what_has_no_value_is_missed_whatever_the_user_says_of_the_unsure(folders):
    options = ("--fail-if", "round_trip p50 > 5%", "--inconclusive", "pass")
    done = compare(folders / "a", folders / "b", *options)
    assert done.exit_code == 3
    assert said(done) == [
        "NO VALUE: --fail-if 'round_trip p50 > 5%' neither side has such a figure"
    ]
    done = compare(folders / "quick", folders / "late", "--fail-if", "round_trip max > 5%")
    assert done.exit_code == 3
    assert said(done) == [
        "NO VALUE: --fail-if 'round_trip max > 5%' tx_app_to_rx_app max: no interval: one packet "
        "each (this boot only)"
    ]


def test_several_figures_of_a_limit_are_judged_by_wider_intervals(folders):
    runs = [
        mixed(folders / "one" / name, seed, speed)
        for name, seed, speed in (("e", 1, 1), ("f", 2, 0.99))
    ]
    lines = said(compare(*runs, "--fail-if", "bandwidth < 0%"))
    alone = re.search(r"kpps .*\[(.*?),(.*?)\]", compare(*runs).stdout)
    both = re.search(r"from (\S+) to (\S+) %", lines[0])
    assert float(both[1]) < float(alone[1]) <= float(alone[2]) < float(both[2])


@pytest.mark.parametrize(
    ("limit", "name", "stat", "is_above", "value", "is_ns"),
    [
        ("tx_app_to_hw p99 > +5%", "tx_app_to_tx_hw", "p99", True, 0.05, False),
        ("tx_app_to_tx_hw_ns p99.9 >= 5%", "tx_app_to_tx_hw", "p99.9", True, 0.05, False),
        ("turnaround max > -1.5us", "turnaround", "max", True, -1500, True),
        ("  bandwidth<-3%", "bandwidth", "", False, -0.03, False),
        ("missing > +0.1 %", "missing", "", True, 0.001, False),
        ("second_app p50 > 2ms", "second_app", "p50", True, 2e6, True),
    ],
)
def test_the_grammar(limit, name, stat, is_above, value, is_ns):
    found = parse_change_limit(limit)
    assert (found.name, found.stat, found.is_above) == (name, stat, is_above)
    assert (found.limit, found.is_ns) == (pytest.approx(value), is_ns)
    assert found.text == limit.strip()


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ("bandwidth", "not an expression"),
        ("bandwidth < ++3%", "not an expression"),
        ("colour > 3%", "unknown figure 'colour'"),
        ("stamped < 3%", "unknown figure 'stamped'"),
        ("bandwidth p50 < 3%", "bandwidth has no p50"),
        ("bandwidth < 3", "a change is in %"),
        ("bandwidth < 3us", "a change is in %"),
        ("turnaround > 3%", "turnaround needs one of p50 p90 p99 p99.9 max"),
        ("turnaround p95 > 3%", "turnaround needs one of p50 p90 p99 p99.9 max"),
        ("turnaround p50 > 3", "a change is in % or a duration"),
    ],
)
def test_what_is_no_limit_is_refused_with_the_grammar(folders, limit, problem):
    done = compare(folders / "a", folders / "b", "--fail-if", limit)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Invalid value for --fail-if: --fail-if '{limit}': {problem}.\n" in done.stderr
    assert "Examples: 'tx_app_to_hw p99 > +5%', 'bandwidth < -3%', 'missing > +0.1%'." in (
        done.stderr
    )


@pytest.mark.parametrize("value", ["3", "x%", "0%", "-1%", "101%"])
def test_what_is_no_percentage_is_refused(folders, value):
    done = compare(folders / "a", folders / "b", "--same-within", value)
    assert done.exit_code == 2
    assert f"'{value}' is no percentage from 0% to 100%, like 3%." in done.stderr


def test_a_change_that_matters_is_the_users_to_say(folders):
    done = compare(folders / "quick", folders / "quick", "--same-within", "50%")
    assert "B is the SAME as A within 50 % in tx_app_to_rx_app p50" in " ".join(done.stdout.split())
