# SPDX-License-Identifier: GPL-2.0-only
"""The columns of samples, what they are, on which clock: as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from xdptstamp.sample import COLUMNS, COLUMNS_OF_KIND
from xdptstamp.store.selection import Field, fields_of
from xdptstamp.store.table import file_type
from xdptstamp.text.lines import WIDTH, ascii_text, wrap

_TITLES = ("column", "type", "unit", "clock", "null")
_GAP = "  "


def all_fields(times: str) -> list[Field]:
    """Every column that some kind of run has."""
    recorded = {name for names in COLUMNS_OF_KIND.values() for name in names}
    return fields_of([each.name for each in COLUMNS if each.name in recorded], times)


def schema_rows(
    fields: Sequence[Field], clocks: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """What is to be said of each column.

    :param clocks: of a run, by column; None: what the column's clock is in general.
    """
    for each in fields:
        name = each.column.name
        yield {
            "column": each.name,
            "type": file_type(each),
            "unit": each.unit,
            "clock": (clocks or {}).get(name, each.column.clock),
            "null": "yes" if each.column.is_nullable else "",
            "meaning": each.meaning,
            "kinds": ", ".join(kind for kind, names in COLUMNS_OF_KIND.items() if name in names),
        }


def schema_lines(rows: Sequence[Mapping[str, str]], *, has_kinds: bool) -> list[str]:
    """The table: ASCII lines of at most 72 columns, meanings wrapped in their own.

    :param has_kinds: name the kinds of run that have the column, too.
    """
    # The one type with a long name is words to whoever reads a CSV.
    cut = [{**row, "type": "string" if row["column"] == "cause" else row["type"]} for row in rows]
    widths = [max(len(title), *(len(row[title]) for row in cut)) for title in _TITLES]
    lines = [_line(dict(zip(_TITLES, _TITLES, strict=True)), widths) + "meaning"]
    for row in cut:
        head = _line({title: ascii_text(row[title]) for title in _TITLES}, widths)
        kinds = f" [{row['kinds']}]" if has_kinds else ""
        lines += wrap(row["meaning"] + kinds, head, " " * min(len(head), WIDTH // 2))
    return lines


def schema_json(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """One JSON object for each column."""
    return [json.dumps(row) for row in rows]


def _line(row: Mapping[str, str], widths: Sequence[int]) -> str:
    cells = (f"{row[title]:<{width}}" for title, width in zip(_TITLES, widths, strict=True))
    return _GAP.join(cells) + _GAP
