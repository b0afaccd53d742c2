# SPDX-License-Identifier: GPL-2.0-only
"""Several guests one after the other, their runs compared by kernel; an answer for git bisect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xdptstamp.cli.session import EXIT_DOUBT
from xdptstamp.errors import SetupError, XdptstampError

if TYPE_CHECKING:
    from xdptstamp.compare import ChangeLimit
    from xdptstamp.contrast import Contrast
    from xdptstamp.lab.guest import GuestConfig

# What git bisect run makes of them: good, bad, this commit cannot be tested.
GOOD, BAD, UNTESTABLE = 0, 1, 125
# git bisect run ends at these; a signal is one of them.
_FIRST_END = 128


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is made of the runs of several kernels."""

    limits: Sequence[ChangeLimit]
    form: str


def order_of(num_kernels: int, repeats: int) -> list[int]:
    """Which kernel each boot has: all in turn, every second time backwards.

    What changes steadily on the machine meanwhile, such as its temperature, is in all alike.
    """
    turn = list(range(num_kernels))
    return [number for repeat in range(repeats) for number in (turn[::-1] if repeat % 2 else turn)]


def run_series(
    configs: Sequence[GuestConfig],
    order: Sequence[int],
    run_one: Callable[[GuestConfig], tuple[int, list[Path]]],
    comparison: Comparison,
) -> int:
    """Boot the guests in this order; then compare their runs, if they are of several kernels.

    Ends at the first command that fails: with another exit code than 0, or 3, which is that of a
    run not to be trusted.

    :param run_one: runs the command in a guest; its exit code, and the run folders that it made.
    :return: exit code; 3 if a limit is missed, cannot be told, or a run is not to be trusted.
    """
    made: list[Path] = []
    worst = 0
    for number, which in enumerate(order, start=1):
        click.echo(f"guest {number} of {len(order)}: kernel {configs[which].kernel}", err=True)
        code, folders = run_one(configs[which])
        made += folders
        if code not in (0, EXIT_DOUBT):
            return code
        worst = max(worst, code)
    if len(configs) == 1:
        return worst
    return max(worst, _compare(made, comparison))


def _compare(folders: Sequence[Path], comparison: Comparison) -> int:
    from xdptstamp.compare import compare, member
    from xdptstamp.report import recompute
    from xdptstamp.store import open_run
    from xdptstamp.text.contrast import contrast_text
    from xdptstamp.text.lines import write_lines

    if not folders:
        raise SetupError("comparison", "the command made no run below --output-dir")
    runs = [member(recompute(open_run(path))) for path in folders]
    found = compare([("the guests", runs)], ("kernel",), comparison.limits)
    write_lines(["", *contrast_text(found, comparison.form, is_unsure_fine=False)])
    return EXIT_DOUBT if _is_bad(found) else 0


def _is_bad(found: Contrast) -> bool:
    return bool(found.doubted() or found.limits("missed", "no value", "inconclusive"))


def bisect_code(run: Callable[[], int], is_up: Callable[[], bool]) -> int:
    """What git bisect run is to be told of a commit.

    :param run: boots, and returns the exit code; may raise.
    :param is_up: whether a guest that has booted has not yet ended as it should.
    :return: 0 if the code is 0; 1 if it is 3, or the kernel died or hung under the command; 125 if
        no guest came as far, or the command could not be run; what ends the bisection if a signal
        did.
    """
    from xdptstamp.lab.guest import GuestDiedError

    try:
        code = run()
    except XdptstampError as error:
        is_bad = isinstance(error, GuestDiedError) and is_up()
        is_end = error.exit_code >= _FIRST_END
        said = "ended" if is_end else "the kernel failed" if is_bad else "cannot be tested"
        click.echo(f"bisect: {said}: {error}", err=True)
        if is_end:
            return error.exit_code
        return BAD if is_bad else UNTESTABLE
    return code if code >= _FIRST_END else {0: GOOD, EXIT_DOUBT: BAD}.get(code, UNTESTABLE)
