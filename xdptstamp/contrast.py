# SPDX-License-Identifier: GPL-2.0-only
"""What a comparison of runs found: plain data that :mod:`xdptstamp.compare` makes and
:mod:`xdptstamp.text.contrast` writes.

A *side* is one or several runs of the same thing; the first is the base. A *pair* is the base and
another side on one DUT in one setting. A *figure* is a number that both may have ("64 1:10
bandwidth", "round trip p99"), and its *change* is how the other side differs from the base.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdptstamp.runinfo import Warning

#: Of every interval, and of what all verdicts together claim.
CONFIDENCE = 0.95

#: Letters of sides, in order.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Word(enum.StrEnum):
    """What is said of a change."""

    SLOWER = "slower"
    FASTER = "faster"
    HIGHER = "higher"
    LOWER = "lower"
    SAME = "same"
    NOT_ENOUGH = "not enough"
    NO_INTERVAL = "no interval"
    MISSING = "missing"

    @property
    def is_different(self) -> bool:
        """Whether the sides are called different."""
        return self in {Word.SLOWER, Word.FASTER, Word.HIGHER, Word.LOWER}


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a run.

    :param setting: of ``mixed``: size and ratio as a table names them; else empty.
    :param subject: ``bandwidth``, ``tx_app_to_tx_hw``, ``missing``.
    :param stat: ``p99`` or ``max``; empty where there is one number.
    :param unit: of its values: ``pps``, ``ns``, ``share`` or empty (a ratio).
    :param scale: what a change is: ``relative`` to the base, in ``points`` (of a share, 0.01 is one
        percentage point) or in ``ns``.
    :param words: what a smaller and a greater value are called.
    :param is_headline: of those that the user asked the run for in the first place.
    :param wire_bits: of bandwidth: bits of a packet on the wire, the same on both sides; 0: not so.
    """

    setting: str
    subject: str
    stat: str
    unit: str
    scale: str = "relative"
    words: tuple[Word, Word] = (Word.FASTER, Word.SLOWER)
    is_headline: bool = False
    wire_bits: int = 0

    @property
    def name(self) -> str:
        """``64 1:10 hold_stamped p99``."""
        return " ".join(part for part in (self.setting, self.subject, self.stat) if part)


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure of a side differs from the base's.

    :param base: the base's value, ``value`` the side's, in the figure's unit; None: it has none.
    :param point: the change, on the figure's scale. ``low``, ``high``: its 95 % interval.
    :param word: what is said; ``within``: of "same", the end of the interval that is further from
        0.
    :param more: of "not enough", so many more ``more_of`` ("rounds", "runs", "samples"; runs and
        samples of each side) would find a change of the resolution with 90 %; None: not known.
    :param p: probability of such a change, or a greater one, by chance.
    :param why: why there is no value, or no interval.
    """

    figure: Figure
    base: float | None
    value: float | None
    point: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    word: Word = Word.NO_INTERVAL
    within: float | None = None
    more: int | None = None
    more_of: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class LimitResult:
    """What became of a ``--fail-if`` in one pair.

    :param outcome: ``missed``, ``met``, ``inconclusive`` or ``no value``.
    :param low: of the interval it was judged by, beside ``high``; on the figure's scale.
    """

    text: str
    figure: str
    outcome: str
    message: str
    low: float | None = None
    high: float | None = None
    scale: str = "relative"


@dataclass(frozen=True, slots=True)
class SideRun:
    """A run in a side.

    :param doubts: why its numbers are not to be relied on; empty: they are.
    :param warnings: keys of its other warnings.
    """

    run_id: str
    path: str
    label: str | None
    started_utc: str
    doubts: tuple[Warning, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Pair:
    """The base and one other side, on one DUT in one setting.

    :param keys: what both have in common, by key, where it is known.
    :param unknown: keys that not every run of them notes.
    :param design: how the intervals came about: ``runs`` (the spread between them is in them) or
        ``one`` (one run a side: this boot only).
    """

    letter: str
    kind: str
    timestamps: str
    keys: dict[str, str]
    unknown: tuple[str, ...]
    base_runs: tuple[SideRun, ...]
    runs: tuple[SideRun, ...]
    design: str
    changes: Sequence[Change] = ()
    limits: list[LimitResult] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def is_doubted(self) -> bool:
        """Whether a run of it is not to be trusted."""
        return any(run.doubts for run in (*self.base_runs, *self.runs))


@dataclass(frozen=True, slots=True)
class Side:
    """One side: its letter, what it is called, and how many runs it has."""

    letter: str
    name: str
    num_runs: int


@dataclass(slots=True)
class Contrast:
    """A whole comparison.

    :param by: keys whose values make the sides; empty: the arguments do.
    :param resolution: a change that matters, relative: what "same" may differ by at most, and what
        "not enough" counts for.
    :param unpaired: what has no partner on the other side, in words.
    """

    sides: tuple[Side, ...]
    by: tuple[str, ...]
    resolution: float
    pairs: tuple[Pair, ...]
    unpaired: tuple[str, ...] = ()

    def changes(self) -> Iterator[tuple[Pair, Change]]:
        """All changes of all pairs."""
        for pair in self.pairs:
            for change in pair.changes:
                yield pair, change

    def doubted(self) -> dict[str, SideRun]:
        """The runs that are not to be trusted, by path."""
        runs = [run for pair in self.pairs for run in (*pair.base_runs, *pair.runs)]
        return {run.path: run for run in runs if run.doubts}

    def num_judged(self) -> int:
        """Figures that have an interval, of all pairs: what the verdicts allow for."""
        return sum(change.p is not None for _, change in self.changes())

    def limits(self, *outcomes: str) -> list[tuple[Pair, LimitResult]]:
        """The ``--fail-if`` with one of these outcomes."""
        found = [(pair, limit) for pair in self.pairs for limit in pair.limits]
        return [each for each in found if each[1].outcome in outcomes]


def verdict(pair: Pair) -> str:
    """One word for a pair: ``slower``, ``faster``, ``mixed`` (some this, some that), ``different``
    (no speed is), ``same``, ``not enough`` or ``nothing to compare``. Whether it is the same is
    decided by the headline figures, where there are any."""
    different = {change.word for change in pair.changes if change.word.is_different}
    speeds = different & {Word.SLOWER, Word.FASTER}
    if speeds:
        return "mixed" if len(speeds) == 2 else str(speeds.pop())
    if different:
        return "different"
    judged = [change for change in pair.changes if change.p is not None]
    words = {c.word for c in judged if c.figure.is_headline} or {c.word for c in judged}
    if not words:
        return "nothing to compare"
    return str(Word.NOT_ENOUGH if Word.NOT_ENOUGH in words else Word.SAME)


def json_number(value: float | None) -> Any:
    """A number as JSON may hold it: an integer stays one."""
    if value is None:
        return None
    return int(value) if float(value).is_integer() and abs(value) < 1 << 53 else float(value)
