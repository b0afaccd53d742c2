# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a report as one image, by matplotlib; equal runs give equal bytes.

In an SVG text is text: it can be searched, and read by who does not see the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

from xdptstamp.errors import UnsupportedError
from xdptstamp.report.figure import Axis, Figure, Number, Series, extent_of
from xdptstamp.text.lines import ascii_text

_COLORS = ("#0b5fd0", "#b5460f", "#137a4b", "#8a2c9e", "#7d6000", "#0a7286", "#b0185c", "#4a4f57")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 2, 2)), (0, (10, 3)), (0, (4, 4)), "-.", ":")
_SCALES = {"us": 1e3, "s": 1e9, "share": 0.01}
# Inches. The places are fixed: to have them worked out takes longer than to draw.
_WIDTH, _HEIGHT, _LEFT, _RIGHT = 9.0, 2.5, 1.05, 0.15
_HEAD, _FOOT, _SLANTED, _LEGEND = 0.55, 0.5, 0.45, 0.25
_COLUMNS = 3  # of a legend
_MANY = 8  # categories, whose names have no room beside each other
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xdptstamp",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    # A `$` in a label is no formula.
    "text.parse_math": False,
}


def check_library() -> None:
    """Refuse where matplotlib is missing.

    :raises UnsupportedError: If so; it says how to get it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        needs = "matplotlib: pip install 'xdptstamp[plot]'"
        raise UnsupportedError("drawing PNG and SVG", needs, "none") from error


def draw_image(
    out: IO[bytes], form: str, title: str, groups: Sequence[tuple[str, Sequence[Figure]]]
) -> None:
    """Write all figures below each other.

    :param form: ``png`` or ``svg``.
    :param groups: the figures by name of their run.
    :raises UnsupportedError: If matplotlib is missing.
    """
    check_library()
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    drawn = [(name, figure) for name, figures in groups for figure in figures]
    feet = [_foot(figure) for _, figure in drawn]
    height = 0.5 + max(1.0, sum(feet) + (_HEAD + _HEIGHT) * len(drawn))
    with mpl.rc_context({**mpl.rcParamsDefault, **_SETTINGS}):
        canvas = Canvas(figsize=(_WIDTH, height))
        FigureCanvasAgg(canvas)
        canvas.text(0.15 / _WIDTH, 1 - 0.25 / height, _text(title), fontsize=10)
        bottom, width = height - 0.3, (_WIDTH - _LEFT - _RIGHT) / _WIDTH
        for (name, figure), foot in zip(drawn, feet, strict=True):
            bottom -= _HEAD + _HEIGHT
            place = _LEFT / _WIDTH, bottom / height, width, _HEIGHT / height
            bottom -= foot
            axes = canvas.add_axes(place)
            _draw(axes, name if len(groups) > 1 else "", figure)
        if not drawn:
            canvas.text(0.1, 0.5, "There is nothing to draw: no samples, and no rounds.")
        metadata = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
        # A long report must not pass the 65535 pixels that an image may have.
        dpi = min(100.0, 60_000 / height)
        canvas.savefig(out, format=form, dpi=dpi, metadata=metadata)


def _draw(axes: Any, name: str, figure: Figure) -> None:
    head = f"{name}: {figure.title}" if name else figure.title
    axes.set_title(f"{_text(head)}\n{_text(figure.subtitle)}", fontsize=9, loc="left")
    axes.set_xlabel(_text(figure.x.title))
    axes.set_ylabel(_text(figure.y.title))
    axes.grid(True, linewidth=0.4, alpha=0.6)
    named: set[int] = set()
    for series in figure.series:
        label = "_" if series.color in named else _text(series.name)
        named.add(series.color)
        _DRAWERS[series.form](axes, figure, series, label)
    if len(named) > 1:
        below = -_labels_height(figure) / _HEIGHT
        look = {"fontsize": 8, "frameon": False, "ncols": _COLUMNS, "borderaxespad": 0}
        axes.legend(loc="upper left", bbox_to_anchor=(0, below), **look)
    _scale(axes, figure)


# What is below the axis: its labels, its title, the legend.
def _foot(figure: Figure) -> float:
    names = len({series.color for series in figure.series})
    rows = -(-names // _COLUMNS) if names > 1 else 0
    return _labels_height(figure) + _LEGEND * rows


def _labels_height(figure: Figure) -> float:
    return _FOOT + (_SLANTED if len(figure.x.categories) > _MANY else 0)


def _scale(axes: Any, figure: Figure) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    extent = extent_of(figure)
    for axis, which, (low, high) in ((figure.x, "x", extent.x), (figure.y, "y", extent.y)):
        end = " %" if axis.unit == "share" else ""
        drawn = getattr(axes, f"{which}axis")
        if axis.is_log:
            getattr(axes, f"set_{which}scale")("log")
            # Few decades need more than their own labels.
            is_short = high < 50 * low
            drawn.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,)))
            drawn.set_minor_locator(NullLocator() if is_short else LogLocator(subs="auto"))
            drawn.set_minor_formatter(NullFormatter())
            margin = 1.2 if low == high else (high / low) ** 0.04
            unit = _unit(axis)
            getattr(axes, f"set_{which}lim")(low / unit / margin, high / unit * margin)
        if not axis.categories:
            drawn.set_major_formatter(FuncFormatter(lambda value, _, end=end: _number(value) + end))
    if figure.x.categories:
        places = list(range(len(figure.x.categories)))
        labels = [_text(each) for each in figure.x.categories]
        look = {"rotation": 45, "ha": "right"} if len(places) > _MANY else {}
        axes.set_xticks(places, labels, **look)
        axes.set_xlim(*extent.x)


def _number(value: float) -> str:
    return f"{value:,.10g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.4g}"


def _unit(axis: Axis) -> float:
    return _SCALES.get(axis.unit, 1.0)


def _scaled(axis: Axis, values: Sequence[Number | None]) -> list[float]:
    unit = _unit(axis)
    return [float("nan") if value is None else value / unit for value in values]


def _look(series: Series) -> dict[str, Any]:
    return {"color": _COLORS[series.color % len(_COLORS)]}


def _steps(axes: Any, figure: Figure, series: Series, label: str) -> None:
    x, y = _scaled(figure.x, series.x), _scaled(figure.y, series.y)
    dash = _DASHES[series.color % len(_DASHES)]
    axes.step(x, y, where="pre", label=label, linestyle=dash, linewidth=1.4, **_look(series))
    axes.plot(x[-1:], y[-1:], "o", markersize=4, **_look(series))


def _line(axes: Any, figure: Figure, series: Series, label: str) -> None:
    x, y = _scaled(figure.x, series.x), _scaled(figure.y, series.y)
    axes.plot(x, y, ".-", markersize=3, linewidth=1, label=label, **_look(series))
    low, high = _scaled(figure.y, series.low), _scaled(figure.y, series.high)
    axes.fill_between(x, low, high, alpha=0.2, linewidth=0, **_look(series))


def _points(axes: Any, figure: Figure, series: Series, label: str) -> None:
    x, y = _scaled(figure.x, series.x), _scaled(figure.y, series.y)
    axes.plot(x, y, "o", markersize=3.5, label=label, **_look(series))


def _bars(axes: Any, figure: Figure, series: Series, label: str) -> None:
    from matplotlib.collections import PolyCollection

    starts, ends = _scaled(figure.x, series.x), _scaled(figure.x, series.x2)
    lows, highs = _scaled(figure.y, series.low), _scaled(figure.y, series.high)
    # None is so narrow that it is not seen.
    least = (max(ends) - min(starts)) / 1000 or 1.0
    ends = [max(end, start + least) for start, end in zip(starts, ends, strict=True)]
    boxes = [
        ((x, low), (x2, low), (x2, high), (x, high))
        for x, x2, low, high in zip(starts, ends, lows, highs, strict=True)
    ]
    look = {"facecolor": _look(series)["color"], "edgecolor": _look(series)["color"]}
    axes.add_collection(PolyCollection(boxes, alpha=0.5, linewidth=0.5, label=label, **look))
    axes.autoscale_view()


def _whiskers(axes: Any, figure: Figure, series: Series, label: str) -> None:
    x, y = _scaled(figure.x, series.x), _scaled(figure.y, series.y)
    axes.plot(x, y, "o", markersize=4, label=label, **_look(series))
    low, high = _scaled(figure.y, series.low), _scaled(figure.y, series.high)
    below = [a - b for a, b in zip(y, low, strict=True)]
    above = [b - a for a, b in zip(y, high, strict=True)]
    known = [at for at, end in enumerate(series.low) if end is not None]
    if known:
        errors = [[max(0.0, ends[at]) for at in known] for ends in (below, above)]
        places = [x[at] for at in known], [y[at] for at in known]
        axes.errorbar(*places, yerr=errors, fmt="none", capsize=3, linewidth=1.2, **_look(series))


def _nothing(axes: Any, figure: Figure, series: Series, label: str) -> None:
    """Single packets are not seen from afar."""


_DRAWERS = {
    "steps": _steps,
    "line": _line,
    "points": _points,
    "bars": _bars,
    "whiskers": _whiskers,
    "details": _nothing,
}


def _text(value: object) -> str:
    return ascii_text(value)
