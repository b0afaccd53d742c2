# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp compare``: runs held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli._reading import ended_cleanly, output_dir_option
from xdptstamp.cli.session import EXIT_DOUBT

if TYPE_CHECKING:
    from xdptstamp.compare import ChangeLimit
    from xdptstamp.compare.sides import Member
    from xdptstamp.contrast import Contrast

    _ShareType = click.ParamType[float]  # older clicks have no generic ParamType
else:
    _ShareType = click.ParamType

#: Of a comparison.
FORMATS = ("table", "json", "junit", "md")


class _Percent(_ShareType):
    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / 100
        except ValueError:
            share = 0.0
        if not text.endswith("%") or not 0 < share <= 1:
            self.fail(f"{text!r} is no percentage from 0% to 100%, like 3%.", param, ctx)
        return share


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="A B [C]...")
@click.option(
    "--by",
    multiple=True,
    metavar="KEY",
    help="Runs differ in this key, and its values are the sides: kernel, mode, label, ... "
    "Repeatable. Default: A, B, C are.",
)
@click.option(
    "--same-within",
    "resolution",
    type=_Percent(),
    default="3%",
    show_default=True,
    help="A change that matters: what is certainly less is the same.",
)
@click.option(
    "--fail-if",
    "fail_ifs",
    multiple=True,
    metavar="LIMIT",
    help="Exit with 3 if so, or if it cannot be told: 'tx_app_to_hw p99 > +5%', "
    "'bandwidth < -3%', 'missing > +0.1%'. Repeatable.",
)
@click.option(
    "--inconclusive",
    type=click.Choice(("fail", "pass")),
    default="fail",
    show_default=True,
    help="What a --fail-if comes to that the runs do not tell.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="md: plain text of 72 columns, for a cover letter.",
)
@output_dir_option
def command(runs: tuple[str, ...], by: tuple[str, ...], **options: Any) -> None:
    """Hold runs against each other: how B (and C, ...) differ from A, and how sure that is.

    A, B, C are runs, or folders of runs; these are paired by DUT and setting. Runs that differ in
    what nobody asked about (kernel, driver, ...) are refused: --by says what is compared. With one
    run a side the answer is about this boot only. Ends with 3 if a --fail-if is missed, or a run is
    not to be trusted; a difference by itself ends with 0.
    """
    from xdptstamp.compare import compare
    from xdptstamp.text.contrast import contrast_text
    from xdptstamp.text.lines import write_lines

    limits = parse_limits(options["fail_ifs"])
    _check_keys(by)
    is_unsure_fine = options["inconclusive"] == "pass"
    with ended_cleanly():
        arguments = _read(runs, options["output_dir"])
        found = compare(arguments, by, limits, options["resolution"])
        lines = contrast_text(found, options["output_format"], is_unsure_fine=is_unsure_fine)
        write_lines(lines)
    click.get_current_context().exit(_exit_code(found, is_unsure_fine=is_unsure_fine))


def _read(names: Sequence[str], output_dir: Path | None) -> list[tuple[str, list[Member]]]:
    from xdptstamp.compare import member
    from xdptstamp.report import recompute
    from xdptstamp.store import open_run
    from xdptstamp.store.find import find_runs
    from xdptstamp.store.rundir import output_base

    base = output_base(output_dir)
    return [
        (name, [member(recompute(open_run(path))) for path in find_runs(name, base)])
        for name in names
    ]


def parse_limits(texts: Sequence[str]) -> list[ChangeLimit]:
    """What --fail-if was given; wrong usage if it cannot be read."""
    if not texts:
        return []
    from xdptstamp.compare import parse_change_limit

    try:
        return [parse_change_limit(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fail-if") from error


def _check_keys(by: Sequence[str]) -> None:
    if not by:
        return
    from xdptstamp.compare.keys import KEYS

    known = [name for name in KEYS if name != "kind"]
    unknown = [name for name in by if name not in known]
    if unknown:
        problem = f"no key {', '.join(map(repr, unknown))}. Keys: {', '.join(known)}"
        raise click.BadParameter(problem, param_hint="--by")


def _exit_code(found: Contrast, *, is_unsure_fine: bool) -> int:
    bad = ["missed", "no value", *([] if is_unsure_fine else ["inconclusive"])]
    return EXIT_DOUBT if found.doubted() or found.limits(*bad) else 0
