# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp export``: the samples of a run in another form."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli._reading import (
    ended_cleanly,
    force_option,
    opened_output,
    output_dir_option,
    output_option,
)
from xdptstamp.cli.params import COLUMN_NAMES, MOMENT, Moment

if TYPE_CHECKING:
    from xdptstamp.run import Run
    from xdptstamp.store.selection import Selection


@dataclass(frozen=True, slots=True)
class _Options:
    format: str
    columns: tuple[str, ...] | None
    start: Moment | None
    end: Moment | None
    times: str
    output: str
    is_forced: bool


@click.command("export")
@click.argument("run_name", metavar="RUN", required=False)
@click.option(
    "--format",
    type=click.Choice(("csv", "parquet", "json", "hwmeta")),
    default="csv",
    show_default=True,
    help="json: an object a line; hwmeta: the lines of the kernel's xdp_hw_metadata.",
)
@click.option("--columns", type=COLUMN_NAMES, metavar="A,B,..", help="Default: all.")
@click.option(
    "--from",
    "start",
    type=MOMENT,
    metavar="TIME",
    help="1.5s since time 0 of the run, or a stamp of CLOCK_TAI in ns.",
)
@click.option("--to", "end", type=MOMENT, metavar="TIME", help="Up to there, and not with it.")
@click.option(
    "--times",
    type=click.Choice(("ns", "split", "relative")),
    default="ns",
    show_default=True,
    help="split: seconds and nanoseconds in two columns; relative: since time 0 of the run.",
)
@output_option
@force_option
@click.option("--schema", "is_schema", is_flag=True, help="List the columns, of RUN or of all.")
@output_dir_option
def command(run_name: str | None, is_schema: bool, output_dir: Path | None, **options: Any) -> None:
    """Write the samples of RUN: a folder, its run.json, or a name below --output-dir.

    A time has 19 digits, which a spreadsheet, base R or JavaScript does not keep: for these there
    is --times split, or relative. Nothing is overwritten without --force.
    """
    from xdptstamp.store import open_run
    from xdptstamp.store.find import find_run
    from xdptstamp.store.rundir import output_base

    with ended_cleanly():
        run = open_run(find_run(run_name, output_base(output_dir))) if run_name else None
        if is_schema:
            _show_schema(run, options["times"], options["format"])
        elif run is None:
            raise click.UsageError("Missing argument 'RUN'.")
        else:
            _export(run, _Options(**options))


def _show_schema(run: Run | None, times: str, output_format: str) -> None:
    from xdptstamp.sample import COLUMNS_OF_KIND
    from xdptstamp.store.selection import fields_of, time_zero
    from xdptstamp.text.lines import write_lines
    from xdptstamp.text.schema import all_fields, schema_json, schema_lines, schema_rows

    if run is None:
        rows = list(schema_rows(all_fields(times)))
    else:
        rows = list(schema_rows(fields_of(COLUMNS_OF_KIND[run.info.kind], times), run.info.clocks))
    if output_format == "json":
        write_lines(schema_json(rows))
        return
    write_lines(schema_lines(rows, has_kinds=run is None))
    if run is not None and times == "relative":
        write_lines(["", f"time 0 is {time_zero(run)} ns on CLOCK_TAI"])


def _export(run: Run, options: _Options) -> None:
    from xdptstamp.report.exported import export
    from xdptstamp.text.lines import write_lines

    selection, zero_ns = _select(run, options)
    binary = "Parquet is binary" if options.format == "parquet" else ""
    with opened_output(options.output, is_forced=options.is_forced, no_terminal=binary) as out:
        write_lines(_notes(run, options, selection, zero_ns), sys.stderr)
        export(out, run, options.format, selection, zero_ns)


def _select(run: Run, options: _Options) -> tuple[Selection, int]:
    from xdptstamp.report.exported import check_columns, check_samples
    from xdptstamp.sample import COLUMNS_OF_KIND
    from xdptstamp.store.selection import Selection, time_zero
    from xdptstamp.text.hwmeta import check_kind

    check_samples(run)
    if options.format == "hwmeta":
        check_kind(run.info)
        if options.columns or options.times != "ns":
            raise click.UsageError("--format hwmeta has its own lines: no --columns, no --times.")
    problem = check_columns(run.info.kind, options.columns or ())
    if problem:
        raise click.BadParameter(problem, param_hint="--columns")
    moments = options.start, options.end
    needs_zero = options.times == "relative" or any(m and m.is_relative for m in moments)
    zero_ns = (time_zero(run) or 0) if needs_zero else 0
    limits = [None if moment is None else moment.on_tai(zero_ns) for moment in moments]
    columns = options.columns or COLUMNS_OF_KIND[run.info.kind]
    return Selection(columns, options.times, *limits), zero_ns


def _notes(run: Run, options: _Options, selection: Selection, zero_ns: int) -> list[str]:
    from xdptstamp.store.selection import inexact_fields
    from xdptstamp.text.hwmeta import note_lines

    notes = note_lines(run.info) if options.format == "hwmeta" else []
    if selection.times == "relative":
        notes.append(f"note: time 0 is {zero_ns} ns on CLOCK_TAI")
        inexact = inexact_fields(run, selection, zero_ns)
        if inexact:
            far = f"note: {', '.join(inexact)}: too far from time 0 for a double to be exact;"
            notes += [far, "note: that clock does not follow CLOCK_TAI. --times split keeps it"]
    if run.info.state == "running":
        notes.append("note: this run is still being written; these are its samples by now")
    return notes
