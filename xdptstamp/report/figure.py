# SPDX-License-Identifier: GPL-2.0-only
"""A figure as plain data, from which every drawer draws: the page, an image, a terminal.

Numbers are as they were measured: integer nanoseconds, shares from 0 to 1. A drawer shows
nanoseconds as microseconds, and times as seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Number = int | float

#: What an axis may hold: how a drawer shows its numbers.
UNITS = ("us", "s", "share", "count", "ratio", "pps")


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    :param unit: one of :data:`UNITS`; the values of ``us`` and ``s`` are nanoseconds.
    :param is_log: logarithmic; all values are above zero then.
    :param categories: their names, if it has no numbers: value n is the middle of name n.
    """

    title: str
    unit: str
    is_log: bool = False
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """One set of marks.

    :param form: ``steps`` (each y holds from the x before up to its own), ``line``, ``points``,
        ``bars`` (from ``low`` to ``high``, over ``x`` to ``x2``), ``whiskers`` (a point with a line
        from ``low`` to ``high``), ``details`` (a point for each packet of the run with a value of
        interval ``name``: seen from close by only).
    :param color: number of the colour, the dash and the mark; series of one thing share it.
    :param y: None: there is a gap.
    :param notes: what else is known of each point; or none.
    :param packets: index of the packet of each point among those of the run; or none.
    """

    name: str
    form: str
    color: int = 0
    x: Sequence[Number] = ()
    y: Sequence[Number | None] = ()
    x2: Sequence[Number] = ()
    low: Sequence[Number | None] = ()
    high: Sequence[Number | None] = ()
    notes: Sequence[str] = ()
    packets: Sequence[int] = ()

    def to_json(self) -> dict[str, Any]:
        """For the page: without what is empty."""
        pairs = ((item.name, getattr(self, item.name)) for item in dataclasses.fields(self))
        return {name: value for name, value in pairs if name == "color" or len(value)}


@dataclass(frozen=True, slots=True)
class Table:
    """A table, its cells as they are shown.

    :param title: says which kind of timestamps, where any are in it.
    :param rows: the first cell names the row.
    :param notes: below it.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    :param key: stable name, unlike any other of its run.
    :param title: what it shows; ``subtitle``: which kind of timestamps, on which clock.
    :param text: what is to be seen, for who does not see it.
    :param table: the same as numbers.
    :param link: figures of one link have one x axis: they are zoomed together. Empty: none.
    """

    key: str
    title: str
    subtitle: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    text: str
    table: Table
    notes: tuple[str, ...] = ()
    link: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the page: what it takes to draw it."""
        return {
            "key": self.key,
            "title": self.title,
            "link": self.link,
            "x": dataclasses.asdict(self.x),
            "y": dataclasses.asdict(self.y),
            "series": [each.to_json() for each in self.series],
        }


@dataclass(frozen=True, slots=True)
class Extent:
    """What the numbers of a figure span, as (least, greatest) of each axis."""

    x: tuple[Number, Number]
    y: tuple[Number, Number]


def extent_of(figure: Figure) -> Extent:
    """What the marks of a figure span that are seen from afar."""
    xs: list[Number] = []
    ys: list[Number] = []
    for series in figure.series:
        if series.form == "details":
            continue
        for values in (series.x, series.x2):
            xs += values
        for marks in (series.y, series.low, series.high):
            ys += [value for value in marks if value is not None]
    if figure.x.categories:
        xs = [-0.5, len(figure.x.categories) - 0.5]
    return Extent(_span(xs), _span(ys))


def _span(values: Sequence[Number]) -> tuple[Number, Number]:
    return (min(values), max(values)) if values else (0, 1)


@dataclass(frozen=True, slots=True)
class Drawn:
    """All figures of a run, or of several beside each other.

    :param packets: of the run, by column: what a mark's ``packets`` and ``details`` refer to.
    """

    figures: tuple[Figure, ...]
    packets: dict[str, Any] = field(default_factory=dict)
