# SPDX-License-Identifier: GPL-2.0-only
"""Numbers and blocks of plain text: ASCII, at most :data:`WIDTH` columns, integers throughout."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

#: Columns of plain output; what fits an e-mail and a cover letter.
WIDTH = 72

_STAMP_WORDS = {
    "hardware": "HARDWARE timestamps",
    "software": "SOFTWARE timestamps",
    "none": "NO TIMESTAMPS",
}


def stamp_words(timestamps: str) -> str:
    """The words every header and table carries, from ``RunInfo.timestamps``."""
    return _STAMP_WORDS.get(timestamps, f"UNKNOWN timestamps ({ascii_text(timestamps)})")


def ascii_text(value: object) -> str:
    """``value`` as printable ASCII; anything else escaped, so no name can steer a terminal."""
    return "".join(
        char if " " <= char <= "~" else char.encode("unicode_escape").decode("ascii")
        for char in str(value)
    )


def us(ns: int) -> str:
    """Nanoseconds as microseconds with all their digits: 14990 gives ``14.990``."""
    whole, rest = divmod(abs(ns), 1000)
    return f"{'-' if ns < 0 else ''}{whole:,}.{rest:03d}"


def duration(ns: int) -> str:
    """Nanoseconds exactly, in the largest unit that needs no fraction: ``5s``, ``250us``."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if ns and ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns"


def percent(part: int, whole: int) -> str:
    """``part`` of ``whole`` as ``0.123 %``, cut and not rounded; ``-`` of nothing.

    What is not zero never shows as zero, and what is not all never as 100.
    """
    if whole <= 0:
        return "-"
    thousandths = part * 100_000 // whole
    if part and not thousandths:
        return "<0.001 %"
    return f"{thousandths // 1000}.{thousandths % 1000:03d} %"


def wrap(
    text: str, indent: str = "", hang: str | None = None, *, keeps_words: bool = False
) -> list[str]:
    """``text`` broken at spaces.

    :param keeps_words: let a word that is longer than a line stand out; else it is cut.
    """
    return textwrap.wrap(
        ascii_text(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hang is None else hang,
        break_on_hyphens=False,
        break_long_words=not keeps_words,
    ) or [indent.rstrip()]


def pair(key: str, value: object, width: int = 12, *, keeps_words: bool = False) -> list[str]:
    """``key   value``, the value wrapped under itself; see :func:`wrap`."""
    head = f"{ascii_text(key):<{width}} "
    return wrap(str(value), head, " " * len(head), keeps_words=keeps_words)


def path_lines(key: str, path: object) -> list[str]:
    """``key   path``; a long path stands alone and whole, even past the width, to be copied."""
    line = f"{ascii_text(key):<12} {ascii_text(path)}"
    return [line] if len(line) <= WIDTH else [ascii_text(key), ascii_text(path)]


def book(rows: Iterable[tuple[str, int, str]], name_width: int = 24) -> list[str]:
    """Lines of a name, a count and a remark; the remark wrapped in its own column."""
    lines: list[str] = []
    for name, count, remark in rows:
        head = f"  {ascii_text(name):<{name_width}} {count:>15,}"
        if len(head) > WIDTH:
            lines += wrap(name, "  ", "    ")
            head = f"  {'':<{name_width}} {count:>15,}"
        words = ascii_text(remark).strip()
        if not words:
            lines += [head]
        elif len(head) + 2 + len(words) <= WIDTH:
            lines += [f"{head}  {words}"]
        else:
            lines += [head, *wrap(words, " " * 6)]
    return lines


def cells(name: str, values: Sequence[str], name_width: int, cell_width: int) -> str:
    """One table row, the values right-aligned."""
    return f"{name:<{name_width}}" + "".join(f"{value:>{cell_width}}" for value in values)


def write_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Write and flush ``lines``, by default to stdout.

    :raises BrokenPipeError: If nobody reads the stream any more.
    """
    target = sys.stdout if stream is None else stream
    target.write("".join(f"{line}\n" for line in lines))
    target.flush()
