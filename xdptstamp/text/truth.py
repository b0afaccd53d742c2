# SPDX-License-Identifier: GPL-2.0-only
"""What the join of a run with the virtual I226's log found, as text."""

from __future__ import annotations

from collections.abc import Callable

from xdptstamp.join import Side, Truth
from xdptstamp.join.verdict import place_of
from xdptstamp.text.lines import ascii_text, cells, path_lines, wrap
from xdptstamp.text.summary import warning_lines

_NAME_WIDTH, _CELL_WIDTH = 34, 18


def truth_lines(truth: Truth) -> list[str]:
    """The books side by side, the first rows of which something is wrong, and the verdict."""
    lines = wrap(f"Truth (virtual I226), run {truth.run_id}", "", "  ")
    lines += path_lines("log", truth.log + (", its last line cut" if truth.is_log_cut else ""))
    heads = [ascii_text(side.direction.capitalize()) for side in truth.sides]
    lines.append(cells("", heads, _NAME_WIDTH, _CELL_WIDTH))
    for name, value in _ROWS:
        values = [value(side) for side in truth.sides]
        lines.append(cells(f"  {name}", values, _NAME_WIDTH, _CELL_WIDTH))
    for side in truth.sides:
        lines += [line for row in side.named for line in _named_lines(side, row)]
    for warning in truth.warnings:
        lines += warning_lines(warning)
    return [*lines, *wrap(_verdict(truth), "", "  ")]


def _verdict(truth: Truth) -> str:
    if not truth.is_trusted:
        return "NOT TO BE TRUSTED: see the warnings marked UNTRUSTED."
    joined = sum(side.num_joined for side in truth.sides)
    if not joined:
        return "no stamp to hold against the truth"
    return f"every one of {joined:,} stamps is exact: error 0 ns"


def _named_lines(side: Side, row: dict[str, object]) -> list[str]:
    error = f" by {row['error_ns']:+} ns" if "error_ns" in row else ""
    text = f"{side.direction.capitalize()} of {place_of(row)}: {row['problem']}{error}"
    return wrap(text, "  ", "    ")


def _count(name: str) -> Callable[[Side], str]:
    return lambda side: f"{getattr(side, name):,}"


def _nanoseconds(name: str) -> Callable[[Side], str]:
    def text(side: Side) -> str:
        value = getattr(side, name)
        return "-" if value is None else f"{value:,} ns"

    return text


def _range(name: str) -> Callable[[Side], str]:
    def text(side: Side) -> str:
        value = getattr(side, name)
        if value is None:
            return "-"
        least, greatest = value
        return f"{least:,} ns" if least == greatest else f"{least:,}..{greatest:,} ns"

    return text


def _of_tx(name: str) -> Callable[[Side], str]:
    return lambda side: f"{getattr(side, name):,}" if side.direction == "tx" else "-"


_ROWS: tuple[tuple[str, Callable[[Side], str]], ...] = (
    ("stamps of the run", _count("num_stamps")),
    ("joined with the wire", _count("num_joined")),
    ("smallest error", _nanoseconds("min_error_ns")),
    ("largest error", _nanoseconds("max_error_ns")),
    ("not exact", _count("num_wrong")),
    ("FALSE: never delivered", _count("num_false")),
    ("delivered, not in the run", _count("num_missing")),
    ("requests taken, by the run", _of_tx("num_requests_run")),
    ("requests the model saw", _of_tx("num_requests_model")),
    ("driver corrects by", _range("driver_ns")),
    ("model: register to wire", _range("model_ns")),
    ("constant of the driver", _nanoseconds("constant_ns")),
)
