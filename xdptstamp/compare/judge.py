# SPDX-License-Identifier: GPL-2.0-only
"""Runs held against each other: :func:`compare` makes a :class:`~xdptstamp.contrast.Contrast`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from xdptstamp.compare.changes import Seen, seen
from xdptstamp.compare.figures import Counts, Data, figures_of
from xdptstamp.compare.keys import names_of
from xdptstamp.compare.limits import ChangeLimit
from xdptstamp.compare.sides import Cell, Member, make_cells, make_sides
from xdptstamp.compare.verdicts import RESOLUTION, verdicts
from xdptstamp.contrast import (
    LETTERS,
    Contrast,
    Figure,
    Pair,
    SideRun,
)
from xdptstamp.runinfo import Warning

_ALWAYS = {"missing", "lost", "not_received"}


def compare(
    arguments: Sequence[tuple[str, Sequence[Member]]],
    by: Sequence[str] = (),
    limits: Sequence[ChangeLimit] = (),
    resolution: float = RESOLUTION,
) -> Contrast:
    """Hold runs against each other.

    :param arguments: what the user named, and the runs in it; see
        :func:`xdptstamp.compare.sides.make_sides`.
    :param resolution: a change that matters, relative.
    :raises IncompatibleRunsError: If runs differ in a declared key that is not compared.
    :raises XdptstampError: If there are not two sides, or a file cannot be read.
    """
    sides, members = make_sides(arguments, by)
    cells = make_cells(members, by)
    pairs, found = [], []
    for cell in cells:
        if not cell.of(LETTERS[0]):
            continue
        singles = [side.letter for side in sides if len(cell.of(side.letter)) == 1]
        needs_pieces = LETTERS[0] in singles and len(singles) > 1
        data = {
            id(run): figures_of(run.found, by, needs_pieces=needs_pieces) for run in cell.members
        }
        for side in sides[1:]:
            if cell.of(side.letter):
                pairs.append(_pair(cell, side.letter, by))
                found.append(_seen_figures(cell, side.letter, data))
    for pair, figures, changes in zip(pairs, found, verdicts(found, resolution), strict=True):
        pair.changes = changes
        for limit in limits:
            pair.limits += limit.judge(figures, pair.timestamps)
    unpaired = tuple(_unpaired(cells, [side.letter for side in sides]))
    return Contrast(tuple(sides), tuple(by), resolution, tuple(pairs), unpaired)


def _pair(cell: Cell, letter: str, by: Sequence[str]) -> Pair:
    base, other = cell.of(LETTERS[0]), cell.of(letter)
    both = Cell([*base, *other])
    names = [
        name for held in (False, True) for name in names_of(is_held=held, by=by, kind=cell.kind)
    ]
    noted = {name: values[0] for name in names if (values := both.values(name))}
    unknown = [name for name in noted if any(run.values[name] is None for run in both.members)]
    return Pair(
        letter=letter,
        kind=cell.kind,
        timestamps=base[0].found.run.info.timestamps,
        keys=noted,
        unknown=tuple(unknown),
        base_runs=tuple(_side_run(run) for run in base),
        runs=tuple(_side_run(run) for run in other),
        design="one" if len(base) == len(other) == 1 else "runs",
        notes=tuple(_notes(base, other)),
    )


def _side_run(run: Member) -> SideRun:
    info = run.found.run.info
    doubts = [warning for warning in info.warnings if warning.is_untrusted]
    if info.state == "running":
        doubts.append(_still_running())
    others = dict.fromkeys(w.key for w in info.warnings if not w.is_untrusted)
    return SideRun(
        info.run_id, run.name, info.label, info.started_utc, tuple(doubts), tuple(others)
    )


def _still_running() -> Warning:
    return Warning(
        "still-running",
        "it is still being written",
        "state running",
        "complete",
        "compare it when it has ended",
        is_untrusted=True,
    )


def _notes(base: Sequence[Member], other: Sequence[Member]) -> list[str]:
    notes = []
    both = {run.name for run in base} & {run.name for run in other}
    if both:
        notes.append(f"on both sides: {', '.join(sorted(both))}")
    if min(len(base), len(other)) == 1 < max(len(base), len(other)):
        notes.append("one side has one run: it is taken to spread as the runs of the other do")
    return notes


def _seen_figures(cell: Cell, letter: str, data: Mapping[int, Mapping[Figure, Data]]) -> list[Seen]:
    base, other = ([data[id(run)] for run in cell.of(side)] for side in (LETTERS[0], letter))
    names = dict.fromkeys(figure for run in (*base, *other) for figure in run)
    found = []
    for figure in names:
        sides = [[run[figure] for run in side if figure in run] for side in (base, other)]
        if figure.unit == "share" and figure.subject not in _ALWAYS and not _any(*sides):
            continue
        whole, why = [], ""
        for name, side, having in zip((LETTERS[0], letter), (base, other), sides, strict=True):
            # Where some runs lack it, the others alone would not be the side.
            is_whole = len(having) == len(side)
            whole.append(having if is_whole else [])
            if having and not is_whole:
                why = f"in {len(having)} of {len(side)} runs of {name}"
        each = seen(figure, whole[0], whole[1])
        found.append(dataclasses.replace(each, why=why) if why else each)
    return found


# Whether anything was counted at all.
def _any(*sides: Sequence[Data]) -> bool:
    counts = [each for side in sides for each in side if isinstance(each, Counts)]
    return any(count for each in counts for count, _ in each.parts)


# What has no partner: those of the base that no side has, and those that the base has not.
def _unpaired(cells: Sequence[Cell], letters: Sequence[str]) -> list[str]:
    lines = []
    for cell in cells:
        missing = [letter for letter in letters if not cell.of(letter)]
        for letter in letters:
            runs = cell.of(letter)
            if not runs or not missing or (letter != LETTERS[0] and LETTERS[0] not in missing):
                continue
            names = ", ".join(run.name for run in runs)
            lines.append(f"{letter} alone has these, {' and '.join(missing)} none: {names}")
    return lines
