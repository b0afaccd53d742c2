# SPDX-License-Identifier: GPL-2.0-only
"""A figure in plain characters, as wide as a terminal. A series has a letter of its own: small for
a line or a bar, capital for a point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from xdptstamp.report.figure import Axis, Figure, Number, Series, extent_of
from xdptstamp.text.lines import ascii_text, us

_HEIGHT = 16
_MARKS = "abcdefgh"
_COLORS = (34, 33, 32, 35, 36, 31, 94, 95)  # SGR
_MIN_WIDTH = 40
_SCALES = {"us": 1e3, "s": 1e9, "share": 0.01}


def figure_lines(figure: Figure, width: int, *, has_color: bool = False) -> list[str]:
    """A figure as ASCII lines.

    :param width: columns there are; no line is longer, nor of fewer than 40.
    :param has_color: color the letters, for a terminal.
    """
    width = max(width, _MIN_WIDTH)
    plot = _Plot(figure, width)
    for series in figure.series:
        plot.add(series)
    lines = [*_wrapped(f"{figure.title} ({figure.subtitle})", width), figure.y.title]
    lines += plot.lines(has_color)
    names: dict[int, str] = {}
    for series in figure.series:
        names.setdefault(series.color, series.name)
    legend = [f"{_mark(color)} {ascii_text(name)}" for color, name in names.items()]
    lines += _wrapped("  ".join(legend), width)
    return [*lines, *_wrapped(figure.text, width)]


def _mark(color: int) -> str:
    return _MARKS[color % len(_MARKS)]


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(ascii_text(text), width, break_on_hyphens=False)


class _Plot:
    # Cells of characters, from the top left; each with the color of its series.
    def __init__(self, figure: Figure, width: int) -> None:
        self._x, self._y = figure.x, figure.y
        extent = extent_of(figure)
        self._xs, self._ys = _range(figure.x, extent.x), _range(figure.y, extent.y)
        height = self._ys[1] - self._ys[0]
        self._labels = {
            row: _label(figure.y, self._ys[1] - row / (_HEIGHT - 1) * height)
            for row in (0, _HEIGHT // 2, _HEIGHT - 1)
        }
        self._left = max(len(text) for text in self._labels.values()) + 1
        self._width = width - self._left - 1
        self._cells: dict[tuple[int, int], tuple[int, bool]] = {}

    def add(self, series: Series) -> None:
        """Put the marks of a series where they belong."""
        if series.form == "steps":
            self._steps(series)
        elif series.form == "bars":
            for x, x2, low, high in zip(series.x, series.x2, series.low, series.high, strict=True):
                for column in range(self._column(x), self._column(x2) + 1):
                    self._fill(column, low, high, series.color)
        else:
            for x, low, high in zip(series.x, series.low, series.high, strict=False):
                self._fill(self._column(x), low, high, series.color)
            for x, y in zip(series.x, series.y, strict=True):
                self._fill(self._column(x), y, y, series.color, is_point=True)

    def lines(self, has_color: bool) -> Iterator[str]:
        """The cells with both axes."""
        for row in range(_HEIGHT):
            label = self._labels.get(row, "")
            cells = "".join(self._cell(row, column, has_color) for column in range(self._width))
            yield f"{label:>{self._left}}|{cells}".rstrip()
        yield " " * self._left + "+" + "-" * self._width
        yield from self._below()

    def _cell(self, row: int, column: int, has_color: bool) -> str:
        color, is_point = self._cells.get((row, column), (-1, False))
        if color < 0:
            return " "
        text = _mark(color).upper() if is_point else _mark(color)
        return f"\x1b[{_COLORS[color % len(_COLORS)]}m{text}\x1b[0m" if has_color else text

    # The labels of the x axis: those that have room, and its title.
    def _below(self) -> Iterator[str]:
        text = ""
        for column, label in self._x_labels():
            at = max(
                0,
                min(
                    self._left + 1 + column - len(label) // 2,
                    self._left + 1 + self._width - len(label),
                ),
            )
            if not text or at > len(text):
                text = f"{text:<{at}}{label}"
        yield text.rstrip()
        yield f"{'':<{self._left + 1}}{ascii_text(self._x.title)}"

    def _x_labels(self) -> Iterator[tuple[int, str]]:
        if self._x.categories:
            for place, name in enumerate(self._x.categories):
                yield self._column(place), ascii_text(name)
            return
        for part in range(5):
            at = self._xs[0] + part / 4 * (self._xs[1] - self._xs[0])
            yield round(part / 4 * (self._width - 1)), _label(self._x, at)

    def _steps(self, series: Series) -> None:
        start = 0
        previous = series.y[0]
        for x, y in zip(series.x, series.y, strict=True):
            end = self._column(x)
            for column in range(start, end + 1):
                self._fill(column, y, y, series.color)
            self._fill(start, y, previous, series.color)
            start, previous = end, y

    def _fill(
        self,
        column: int,
        low: Number | None,
        high: Number | None,
        color: int,
        *,
        is_point: bool = False,
    ) -> None:
        if low is None or high is None:
            return
        ends = sorted((self._row(low), self._row(high)))
        for row in range(ends[0], ends[1] + 1):
            self._cells[row, column] = color, is_point

    def _column(self, x: Number) -> int:
        return round(_share(self._x, self._xs, x) * (self._width - 1))

    def _row(self, y: Number) -> int:
        return round((1 - _share(self._y, self._ys, y)) * (_HEIGHT - 1))


def _on(axis: Axis, value: Number) -> float:
    return math.log10(value) if axis.is_log else float(value)


def _range(axis: Axis, span: Sequence[Number]) -> tuple[float, float]:
    low, high = _on(axis, span[0]), _on(axis, span[1])
    if low < high:
        return low, high
    # A half is nothing beside the largest times.
    margin = max(0.5, abs(low) / 100)
    return low - margin, high + margin


def _share(axis: Axis, span: tuple[float, float], value: Number) -> float:
    return min(1.0, max(0.0, (_on(axis, value) - span[0]) / (span[1] - span[0])))


def _label(axis: Axis, at: float) -> str:
    value = 10**at if axis.is_log else at
    if axis.unit == "us":
        return us(round(value))
    shown = value / _SCALES.get(axis.unit, 1.0)
    text = f"{shown:.4g}" if abs(shown) < 1e4 else f"{shown:,.0f}"
    return f"{text} %" if axis.unit == "share" else text
