# SPDX-License-Identifier: GPL-2.0-only
"""Compare the stamps we missed with what the driver counted as skipped and timed out."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from xdptstamp.drivers import Driver
from xdptstamp.runinfo import Warning
from xdptstamp.sample import Cause

#: Causes that a driver may count, by their role in the table of drivers.
ROLES = (Cause.SKIPPED.label, Cause.TIMED_OUT.label)


class Verdict(enum.StrEnum):
    """What the driver's counter says about ours."""

    EQUAL = "equal"
    BY_OTHERS = "by others"
    DISTRUST = "distrust"
    NOT_RECONCILABLE = "not reconcilable"


@dataclass(frozen=True, slots=True)
class Balance:
    """One cause's books.

    :param role: the cause ("skipped").
    :param counter: the driver's name for it, None if it has none.
    :param num_ours: stamps of ours with this cause.
    :param num_driver: what the driver's counter gained, None if unknown.
    :param num_by_others: what of that were requests of others, None if unknown.
    :param text: a sentence for the user.
    """

    role: str
    counter: str | None
    num_ours: int
    num_driver: int | None
    num_by_others: int | None
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The books of every cause that a driver may count."""

    balances: tuple[Balance, ...]

    @property
    def is_untrusted(self) -> bool:
        """Whether some books cannot be true."""
        return any(balance.verdict == Verdict.DISTRUST for balance in self.balances)

    @property
    def texts(self) -> list[str]:
        """A sentence for each cause."""
        return [balance.text for balance in self.balances]

    def warnings(self) -> list[Warning]:
        """The doubts among them."""
        return [
            Warning(
                key=f"counter-{balance.role.replace('_', '-')}",
                message=balance.text,
                value=str(balance.num_ours),
                limit=str(balance.num_driver),
                advice="read the kernel log and the driver's other counters; was it reset?",
                is_untrusted=True,
            )
            for balance in self.balances
            if balance.verdict == Verdict.DISTRUST
        ]


def reconcile(
    driver: Driver | None,
    before: Mapping[str, int],
    after: Mapping[str, int],
    counts: Mapping[str, int],
    *,
    has_other_users: bool | None = None,
) -> Reconciliation:
    """Compare our counts with the driver's.

    :param driver: the table's row of the driver, None if it has none.
    :param before: the interface's counters before the run (``collect_counters``).
    :param after: and after it.
    :param counts: our stamps by the label of their cause; a cause that is not there counts 0.
    :param has_other_users: whether somebody else asks this NIC for Tx stamps; None: not known.
    """
    return Reconciliation(
        tuple(
            _balance(driver, role, before, after, counts.get(role, 0), has_other_users)
            for role in ROLES
        )
    )


def _balance(  # noqa: PLR0917 - one row of one table
    driver: Driver | None,
    role: str,
    before: Mapping[str, int],
    after: Mapping[str, int],
    num_ours: int,
    has_other_users: bool | None,
) -> Balance:
    counter = driver.counters.get(role) if driver else None
    problem = _problem(driver, counter, before, after)
    word = role.replace("_", " ")
    if problem or counter is None:
        text = f"{word}: {num_ours} by our books, not reconcilable: {problem}"
        return Balance(role, counter, num_ours, None, None, Verdict.NOT_RECONCILABLE, text)
    num_driver = after[counter] - before[counter]
    extra = num_driver - num_ours
    verdict = _verdict(extra, has_other_users)
    text = f"{word}: {_text(verdict, num_ours, num_driver, counter, has_other_users)}"
    by_others = extra if verdict in {Verdict.EQUAL, Verdict.BY_OTHERS} else None
    return Balance(role, counter, num_ours, num_driver, by_others, verdict, text)


def _problem(
    driver: Driver | None,
    counter: str | None,
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> str:
    if driver is None:
        return "the driver's counters are not known to xdptstamp"
    if counter is None:
        return f"driver {driver.name} has no such counter"
    if counter not in before or counter not in after:
        return f"`ethtool -S` of this {driver.name} has no {counter}"
    if after[counter] < before[counter]:
        return f"{counter} fell from {before[counter]} to {after[counter]}: it was reset"
    return ""


def _verdict(extra: int, has_other_users: bool | None) -> Verdict:
    if extra == 0:
        return Verdict.EQUAL
    if extra < 0 or has_other_users is False:
        return Verdict.DISTRUST
    return Verdict.BY_OTHERS


def _text(
    verdict: Verdict, num_ours: int, num_driver: int, counter: str, has_other_users: bool | None
) -> str:
    books = f"{num_ours} by our books, {num_driver} by the driver's {counter}"
    if verdict == Verdict.EQUAL:
        return f"{books}: they agree"
    if verdict == Verdict.BY_OTHERS:
        sure = "were requests of others" if has_other_users else "must be requests of others"
        return f"{books}: the other {num_driver - num_ours} {sure}"
    if num_driver < num_ours:
        return f"{books}: the driver knows nothing of {num_ours - num_driver}, do not trust this"
    return f"{books}: nobody else uses stamps, so the books do not balance, do not trust this"
