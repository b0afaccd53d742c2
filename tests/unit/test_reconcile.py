# SPDX-License-Identifier: GPL-2.0-only
"""Our books against the driver's."""

from __future__ import annotations

import pytest

from xdptstamp.drivers import Driver, known_driver
from xdptstamp.reconcile import Balance, Verdict, reconcile

SKIPPED, TIMED_OUT = "tx_hwtstamp_skipped", "tx_hwtstamp_timeouts"


def igc() -> Driver:
    driver = known_driver("igc")
    assert driver is not None
    return driver


def skipped(num_ours: int, num_driver: int) -> Balance:
    result = reconcile(
        igc(),
        {SKIPPED: 100, TIMED_OUT: 7},
        {SKIPPED: 100 + num_driver, TIMED_OUT: 7},
        {"skipped": num_ours},
    )
    balance, other = result.balances
    assert (balance.role, other.role) == ("skipped", "timed_out")
    assert other.verdict == Verdict.EQUAL
    assert result.is_untrusted == (balance.verdict == Verdict.DISTRUST)
    assert len(result.warnings()) == (balance.verdict != Verdict.EQUAL)
    return balance


def test_books_that_agree() -> None:
    balance = skipped(2230, 2230)
    assert balance.verdict == Verdict.EQUAL
    assert balance.text == (
        "skipped: 2230 by our books, 2230 by the driver's tx_hwtstamp_skipped: they agree"
    )


def test_more_by_the_driver_is_by_others_or_not_recorded() -> None:
    balance = skipped(3, 10)
    assert balance.verdict == Verdict.BY_OTHERS
    assert balance.text.endswith(": the other 7 are of others (ptp4l?), or not recorded")


def test_more_by_the_driver_is_a_warning_that_leaves_trust() -> None:
    before, after = {SKIPPED: 0, TIMED_OUT: 0}, {SKIPPED: 7, TIMED_OUT: 0}
    (warning,) = reconcile(igc(), before, after, {}).warnings()
    assert (warning.key, warning.is_untrusted) == ("counters-by-others", False)
    assert warning.value.startswith("skipped: 0 by our books, 7 by the driver's")


def test_a_driver_without_counters_is_said_once() -> None:
    (warning,) = reconcile(None, {}, {}, {}).warnings()
    assert "skipped: 0" in warning.value
    assert "timed out: 0" in warning.value


def test_more_by_us_is_distrust() -> None:
    balance = skipped(10, 3)
    assert balance.verdict == Verdict.DISTRUST
    assert balance.text == (
        "skipped: 10 by our books, 3 by the driver's tx_hwtstamp_skipped: "
        "the driver knows nothing of 7, do not trust this"
    )


def test_distrust_is_a_warning_that_ends_trust() -> None:
    counters = {SKIPPED: 0, TIMED_OUT: 0}
    (warning,) = reconcile(igc(), counters, counters, {"timed_out": 2}).warnings()
    assert warning.is_untrusted
    assert warning.key == "counter-timed-out"
    assert (warning.value, warning.limit) == ("2", "0")
    assert warning.message.startswith("timed out: 2 by our books, 0 by the driver's")


@pytest.mark.parametrize(
    ("driver", "before", "after", "reason"),
    [
        (None, {}, {}, "the driver's counters are not known to xdptstamp"),
        (Driver("some", {}), {}, {}, "driver some has no such counter"),
        (igc(), {}, {SKIPPED: 1}, "`ethtool -S` of this igc has no tx_hwtstamp_skipped"),
        (igc(), {SKIPPED: 9}, {SKIPPED: 1}, "fell from 9 to 1: it was reset"),
    ],
)
def test_without_a_counter_it_is_not_reconcilable(
    driver: Driver | None, before: dict[str, int], after: dict[str, int], reason: str
) -> None:
    result = reconcile(driver, before, after, {"skipped": 4})
    balance = result.balances[0]
    assert balance.verdict == Verdict.NOT_RECONCILABLE
    assert balance.num_driver is None
    assert balance.text.startswith("skipped: 4 by our books, not reconcilable: ")
    assert reason in balance.text
    assert not result.is_untrusted
    (warning,) = result.warnings()
    assert (warning.key, warning.is_untrusted) == ("counters-not-reconcilable", False)
    assert balance.text in warning.value
    assert result.texts[0] == balance.text
