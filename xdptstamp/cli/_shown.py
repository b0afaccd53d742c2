# SPDX-License-Identifier: GPL-2.0-only
"""Small answers of commands that look at a machine: facts as a table, or as one JSON line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

FORMATS = ("table", "jsonl")

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="What is printed.",
)


def show_facts(facts: Mapping[str, str], data: Mapping[str, Any], output_format: str) -> None:
    """Print ``facts`` by title, or ``data`` as JSON."""
    if output_format == "jsonl":
        click.echo(json.dumps(data))
        return
    table = new_table()
    for title, text in facts.items():
        table.add_row(title, text)
    print_table(table)


def new_table(*titles: str) -> Any:
    """A rich table without a box; numbers are to the right."""
    from rich.table import Table  # slow to import

    table = Table(box=None, pad_edge=False, show_header=bool(titles), header_style="underline")
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    return table


def print_table(table: Any, notes: Sequence[str] = ()) -> None:
    """Print a table, and sentences below it."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    console.print(table)
    for note in notes:
        console.print(f"note: {note}")
