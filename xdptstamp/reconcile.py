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


# What a verdict that leaves the run trusted means, and what to do.
_DOUBTS = {
    Verdict.BY_OTHERS: (
        "the driver counted more stamps as missing than this run misses",
        "run without ptp4l to compare; see `ethtool -S`",
    ),
    Verdict.NOT_RECONCILABLE: (
        "there is no driver counter to hold our missing stamps against",
        "read the kernel log: a driver may say there what it gave up",
    ),
}


@dataclass(frozen=True, slots=True)
class Balance:
    """One cause's books.

    :param role: the cause ("skipped").
    :param counter: the driver's name for it, None if it has none.
    :param num_ours: stamps of ours with this cause.
    :param num_driver: what the driver's counter gained, None if unknown.
    :param text: a sentence for the user.
    """

    role: str
    counter: str | None
    num_ours: int
    num_driver: int | None
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The books of every cause that a driver may count."""

    balances: tuple[Balance, ...]

    @property
    def is_untrusted(self) -> bool:
        """Whether some books cannot be true."""
        return bool(self._of(Verdict.DISTRUST))

    @property
    def texts(self) -> list[str]:
        """A sentence for each cause."""
        return [balance.text for balance in self.balances]

    def warnings(self) -> list[Warning]:
        """The doubts among them: one for each distrusted cause, one for each lesser verdict."""
        distrust = [
            Warning(
                key=f"counter-{balance.role.replace('_', '-')}",
                message=balance.text,
                value=str(balance.num_ours),
                limit=str(balance.num_driver),
                advice="read the kernel log and the driver's other counters; was it reset?",
                is_untrusted=True,
            )
            for balance in self._of(Verdict.DISTRUST)
        ]
        doubts = [
            Warning(
                key=f"counters-{verdict.replace(' ', '-')}",
                message=message,
                value="; ".join(balance.text for balance in self._of(verdict)),
                limit="the driver's count equals ours",
                advice=advice,
            )
            for verdict, (message, advice) in _DOUBTS.items()
            if self._of(verdict)
        ]
        return distrust + doubts

    def _of(self, verdict: Verdict) -> list[Balance]:
        return [balance for balance in self.balances if balance.verdict == verdict]


def reconcile(
    driver: Driver | None,
    before: Mapping[str, int],
    after: Mapping[str, int],
    counts: Mapping[str, int],
) -> Reconciliation:
    """Compare our counts with the driver's.

    :param driver: the table's row of the driver, None if it has none.
    :param before: the interface's counters before the run (``collect_counters``).
    :param after: and after it.
    :param counts: our stamps by the label of their cause; a cause that is not there counts 0.
    """
    return Reconciliation(
        tuple(_balance(driver, role, before, after, counts.get(role, 0)) for role in ROLES)
    )


def _balance(
    driver: Driver | None,
    role: str,
    before: Mapping[str, int],
    after: Mapping[str, int],
    num_ours: int,
) -> Balance:
    counter = driver.counters.get(role) if driver else None
    problem = _problem(driver, counter, before, after)
    word = role.replace("_", " ")
    if problem or counter is None:
        text = f"{word}: {num_ours} by our books, not reconcilable: {problem}"
        return Balance(role, counter, num_ours, None, Verdict.NOT_RECONCILABLE, text)
    num_driver = after[counter] - before[counter]
    verdict, comment = _judge(num_driver - num_ours)
    text = f"{word}: {num_ours} by our books, {num_driver} by the driver's {counter}: {comment}"
    return Balance(role, counter, num_ours, num_driver, verdict, text)


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


def _judge(extra: int) -> tuple[Verdict, str]:
    if extra == 0:
        return Verdict.EQUAL, "they agree"
    if extra > 0:
        return Verdict.BY_OTHERS, f"the other {extra} are of others (ptp4l?), or not recorded"
    return Verdict.DISTRUST, f"the driver knows nothing of {-extra}, do not trust this"
