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


def skipped(num_ours: int, num_driver: int, has_other_users: bool | None = None) -> Balance:
    result = reconcile(
        igc(),
        {SKIPPED: 100, TIMED_OUT: 7},
        {SKIPPED: 100 + num_driver, TIMED_OUT: 7},
        {"skipped": num_ours},
        has_other_users=has_other_users,
    )
    balance, other = result.balances
    assert (balance.role, other.role) == ("skipped", "timed_out")
    assert other.verdict == Verdict.EQUAL
    assert result.is_untrusted == (balance.verdict == Verdict.DISTRUST)
    assert len(result.warnings()) == result.is_untrusted
    return balance


def test_books_that_agree() -> None:
    balance = skipped(2230, 2230)
    assert (balance.verdict, balance.num_by_others) == (Verdict.EQUAL, 0)
    assert balance.text == (
        "skipped: 2230 by our books, 2230 by the driver's tx_hwtstamp_skipped: they agree"
    )


@pytest.mark.parametrize(("known", "text"), [(True, "were"), (None, "must be")])
def test_more_by_the_driver_is_by_others(known: bool | None, text: str) -> None:
    balance = skipped(3, 10, known)
    assert (balance.verdict, balance.num_by_others) == (Verdict.BY_OTHERS, 7)
    assert balance.text.endswith(f": the other 7 {text} requests of others")


def test_more_by_the_driver_when_nobody_else_asks_is_distrust() -> None:
    balance = skipped(3, 10, False)
    assert (balance.verdict, balance.num_by_others) == (Verdict.DISTRUST, None)
    assert "nobody else uses stamps" in balance.text


@pytest.mark.parametrize("known", [True, False, None])
def test_more_by_us_is_distrust(known: bool | None) -> None:
    balance = skipped(10, 3, known)
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
    assert balance.num_driver is balance.num_by_others is None
    assert balance.text.startswith("skipped: 4 by our books, not reconcilable: ")
    assert reason in balance.text
    assert not result.is_untrusted
    assert result.warnings() == []
    assert result.texts[0] == balance.text
