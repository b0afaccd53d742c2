# SPDX-License-Identifier: GPL-2.0-only
"""Runs into sides, and sides into pairs: who is held against whom, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xdptstamp.compare.keys import KEYS, Noted, names_of, values_of
from xdptstamp.contrast import LETTERS, Side
from xdptstamp.errors import IncompatibleRunsError, XdptstampError
from xdptstamp.report import Recomputed

_SHOWN_VALUES = 4


@dataclass(slots=True)
class Member:
    """A run that takes part.

    :param side: letter of its side.
    """

    found: Recomputed
    values: Mapping[str, str | None]
    side: str = ""

    @property
    def name(self) -> str:
        """What it is called in a message."""
        return str(self.found.run.path)


@dataclass(slots=True)
class Cell:
    """Runs that agree in all keys that pair."""

    members: list[Member] = field(default_factory=list)

    def of(self, side: str) -> list[Member]:
        """Those of one side."""
        return [each for each in self.members if each.side == side]

    def values(self, name: str) -> list[str]:
        """The different values of a key, where it is noted."""
        return list(dict.fromkeys(v for m in self.members if (v := m.values[name]) is not None))

    @property
    def kind(self) -> str:
        """Of its runs."""
        return self.members[0].found.run.info.kind


def member(found: Recomputed) -> Member:
    """A run with its declared keys."""
    noted = Noted(found.run.info, found.settings, found.rounds)
    return Member(found, values_of(noted))


def make_sides(
    arguments: Sequence[tuple[str, Sequence[Member]]], by: Sequence[str]
) -> tuple[list[Side], list[Member]]:
    """Give each run its side.

    :param arguments: what the user named, and the runs in it.
    :param by: keys by whose values the runs of all arguments are grouped; empty: each argument is
        a side.
    :return: the sides, the base first; and all runs.
    :raises XdptstampError: If there are not two sides.
    """
    if not by:
        if len(arguments) < 2:
            raise XdptstampError(
                "one side alone: name two runs or folders of runs, or say with --by KEY "
                f"what tells the runs apart. Keys: {', '.join(KEYS)}"
            )
        groups = {str(n): (name, list(runs)) for n, (name, runs) in enumerate(arguments)}
    else:
        groups = _grouped([run for _, runs in arguments for run in runs], by)
    if len(groups) > len(LETTERS):
        raise XdptstampError(f"{len(groups)} sides: at most {len(LETTERS)} can be compared")
    sides, members = [], []
    for letter, (name, runs) in zip(LETTERS, groups.values(), strict=False):
        sides.append(Side(letter, name, len(runs)))
        for run in runs:
            run.side = letter
        members += runs
    return sides, members


def _grouped(runs: Sequence[Member], by: Sequence[str]) -> dict[str, tuple[str, list[Member]]]:
    groups: dict[str, tuple[str, list[Member]]] = {}
    seen = set()
    for run in runs:
        if run.name in seen:
            continue
        seen.add(run.name)
        unknown = [key for key in by if run.values[key] is None]
        if unknown:
            raise XdptstampError(f"{run.name}: does not note its {', '.join(unknown)} (--by)")
        name = ", ".join(f"{key} {run.values[key]}" for key in by)
        groups.setdefault(name, (name, []))[1].append(run)
    if len(groups) < 2:
        raise XdptstampError(f"nothing to compare: every run has {next(iter(groups))}")
    return groups


def make_cells(members: Sequence[Member], by: Sequence[str]) -> list[Cell]:
    """Runs that agree in the keys that pair, together.

    A key that a run does not note agrees with any value.

    :raises IncompatibleRunsError: If runs of one cell differ in a key that is held, or no cell has
        runs of two sides.
    """
    cells: list[Cell] = []
    # Those that know most first: an old run goes to them, and not they to it.
    for run in sorted(members, key=lambda each: sum(v is None for v in each.values.values())):
        cell = next((each for each in cells if not _differing(each, run, by)), None)
        if cell is None:
            cell = Cell()
            cells.append(cell)
        cell.members.append(run)
    order = {id(run): number for number, run in enumerate(members)}
    for cell in cells:
        cell.members.sort(key=lambda run: order[id(run)])
    cells.sort(key=lambda cell: order[id(cell.members[0])])
    _check_paired(cells, by)
    for cell in cells:
        if len({run.side for run in cell.members}) > 1:
            _check_held(cell, by)
    return cells


def _differing(cell: Cell, run: Member, by: Sequence[str]) -> list[str]:
    kind = run.found.run.info.kind
    return [
        name
        for name in names_of(is_held=False, by=[key for key in by if key != "kind"], kind=kind)
        if run.values[name] is not None and any(v != run.values[name] for v in cell.values(name))
    ]


# The base is in each pair.
def _check_paired(cells: Sequence[Cell], by: Sequence[str]) -> None:
    base = LETTERS[0]
    if any(cell.of(base) and len({run.side for run in cell.members}) > 1 for cell in cells):
        return
    bases = [cell for cell in cells if cell.of(base)]
    others = [cell for cell in cells if not cell.of(base)]
    nearest = min(
        ((a, b) for a in bases for b in others),
        key=lambda both: len(_differing(both[0], both[1].members[0], by)),
    )
    keys = _differing(nearest[0], nearest[1].members[0], by)
    both = Cell([*nearest[0].members, *nearest[1].members])
    raise IncompatibleRunsError(keys, _details(both, keys))


def _check_held(cell: Cell, by: Sequence[str]) -> None:
    names = names_of(is_held=True, by=by, kind=cell.kind)
    keys = [name for name in names if len(cell.values(name)) > 1]
    if keys:
        raise IncompatibleRunsError(keys, _details(cell, keys))


def _details(cell: Cell, keys: Sequence[str]) -> list[str]:
    lines = []
    for key in keys:
        shown = []
        for value in cell.values(key)[:_SHOWN_VALUES]:
            sides = sorted({run.side for run in cell.members if run.values[key] == value})
            shown.append(f"{' and '.join(sides)}: {value}")
        shown += ["..."] if len(cell.values(key)) > _SHOWN_VALUES else []
        lines.append(f"  {key}: {'; '.join(shown)}")
    if "kind" in keys:
        return [*lines, "Runs of different kinds measure different things."]
    options = " ".join(f"--by {key}" for key in keys)
    return [*lines, f"If that is what you compare: {options}"]
