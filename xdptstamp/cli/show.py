# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp show``: what was measured, worked out anew from a run's files."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xdptstamp.cli._reading import ended_cleanly, output_dir_option
from xdptstamp.cli._shown import format_option
from xdptstamp.cli.session import EXIT_DOUBT, EXIT_ERROR
from xdptstamp.errors import XdptstampError, printable

if TYPE_CHECKING:
    from xdptstamp.report import Recomputed


@click.command("show")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@format_option
@click.option("--plot", "has_plots", is_flag=True, help="Draw its plots, as wide as the terminal.")
@output_dir_option
def command(
    runs: tuple[str, ...], output_format: str, has_plots: bool, output_dir: Path | None
) -> None:
    """Show what each RUN measured, worked out anew from its files.

    RUN is a folder, its run.json, or a name below --output-dir; default: the latest run there.
    Below each percentile stand the ends of its 95 % interval. Ends with 3 if a run is not to be
    trusted, with 1 if one cannot be read; the others are shown all the same.
    """
    from xdptstamp.store.find import find_run, latest_run
    from xdptstamp.store.rundir import output_base

    if has_plots and output_format == "jsonl":
        raise click.UsageError("--plot draws for people: not with --format jsonl.")
    base = output_base(output_dir)
    codes = set()
    with ended_cleanly():
        for number, run in enumerate(runs or [None]):
            try:
                path = latest_run(base) if run is None else find_run(run, base)
                codes.add(_show(path, output_format, has_plots=has_plots, is_first=not number))
            except XdptstampError as error:
                if len(runs) < 2:
                    raise
                codes.add(EXIT_ERROR)
                sys.stdout.flush()
                click.echo(f"Error: {printable(str(error))}", err=True)
    click.get_current_context().exit(min(codes - {0}, default=0))


def _show(path: Path, output_format: str, *, has_plots: bool, is_first: bool) -> int:
    from xdptstamp.report import recompute
    from xdptstamp.report.shown import shown_json, shown_lines
    from xdptstamp.store import open_run
    from xdptstamp.text.lines import write_lines

    found = recompute(open_run(path))
    if output_format == "jsonl":
        write_lines([json.dumps(shown_json(found), separators=(",", ":"), allow_nan=False)])
    else:
        write_lines([*([] if is_first else ["", ""]), *shown_lines(found)])
    if has_plots:
        _draw(found)
    return 0 if found.run.info.is_trusted else EXIT_DOUBT


def _draw(found: Recomputed) -> None:
    from xdptstamp.report.figures import run_figures
    from xdptstamp.report.terminal import figure_lines
    from xdptstamp.text.lines import WIDTH, write_lines

    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else WIDTH
    has_color = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for figure in run_figures(found).figures:
        write_lines(["", *figure_lines(figure, width, has_color=has_color)])
