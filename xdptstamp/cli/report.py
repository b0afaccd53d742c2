# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp report``: runs as a page, a letter or an image, for who was not there."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from xdptstamp.cli._reading import (
    ended_cleanly,
    force_option,
    opened_output,
    output_dir_option,
    output_option,
)
from xdptstamp.cli.session import EXIT_DOUBT

if TYPE_CHECKING:
    from xdptstamp.report.reported import Reported

_NO_TERMINAL = {"html": "A page is nothing to read here", "png": "PNG is binary"}


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(("html", "md", "png", "svg")),
    default="html",
    show_default=True,
    help="html: one page that needs nothing else; md: a cover letter, plain text; png, svg: the "
    "plots as an image (pip install 'xdptstamp[plot]').",
)
@output_option
@force_option
@output_dir_option
def command(
    runs: tuple[str, ...], form: str, output: str, is_forced: bool, output_dir: Path | None
) -> None:
    """Write what each RUN measured for others to read, all of them in one file.

    RUN is a folder, its run.json, or a name below --output-dir; default: the latest run there.
    Nothing is overwritten without --force. Ends with 3 if a run is not to be trusted; the file is
    written all the same, and says so.
    """
    from xdptstamp.report.reported import report_of
    from xdptstamp.store import open_run
    from xdptstamp.store.find import find_run, latest_run
    from xdptstamp.store.rundir import output_base

    if form in ("png", "svg"):
        from xdptstamp.report.image import check_library

        check_library()
    base = output_base(output_dir)
    with ended_cleanly():
        paths = [find_run(run, base) for run in runs] or [latest_run(base)]
        words = _NO_TERMINAL.get(form, "")
        with opened_output(output, is_forced=is_forced, no_terminal=words) as out:
            reported = report_of([open_run(path) for path in paths], has_figures=form != "md")
            _write(out, form, reported)
    click.get_current_context().exit(0 if reported.is_trusted else EXIT_DOUBT)


def _write(out: IO[bytes], form: str, reported: Reported) -> None:
    if form == "html":
        from xdptstamp.report.webpage import page_parts

        for part in page_parts(reported):
            out.write(part.encode())
    elif form == "md":
        from xdptstamp.report.letter import letter_lines

        for line in letter_lines(reported):
            out.write(f"{line}\n".encode())
    else:
        from xdptstamp.report.image import draw_image

        groups = list(zip(reported.names, reported.drawn, strict=True))
        groups = [*([("all runs", reported.beside)] if reported.beside.figures else []), *groups]
        title = f"xdptstamp: {', '.join(reported.names)}"
        draw_image(out, form, title, [(name, drawn.figures) for name, drawn in groups])
