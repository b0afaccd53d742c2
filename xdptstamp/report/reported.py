# SPDX-License-Identifier: GPL-2.0-only
"""What a report is made of, whatever it is drawn as: the runs, their figures, how to make them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdptstamp.report.beside import beside_figures
from xdptstamp.report.figure import Drawn
from xdptstamp.report.figures import MAX_PACKETS, run_figures
from xdptstamp.report.recomputed import Recomputed, recompute
from xdptstamp.run import Run
from xdptstamp.runinfo import RunInfo
from xdptstamp.text.lines import ascii_text

# A page with many runs has fewer single packets of each, and no fewer than this.
_MIN_PACKETS = 500


@dataclass(frozen=True, slots=True)
class Reported:
    """Runs with their figures, in the order asked for.

    :param names: unlike each other, the label where there is one.
    :param beside: the figures of all runs together; empty of a single one.
    """

    runs: tuple[Recomputed, ...]
    names: tuple[str, ...]
    drawn: tuple[Drawn, ...]
    beside: Drawn

    @property
    def is_trusted(self) -> bool:
        """Whether all may be relied on."""
        return all(run.run.info.is_trusted for run in self.runs)


def report_of(runs: Sequence[Run], *, has_figures: bool = True) -> Reported:
    """Work runs out anew, with their figures.

    :param has_figures: False: leave them empty.
    :raises RunFileError: If one cannot be read.
    """
    found = tuple(recompute(run) for run in runs)
    names = run_names([each.run.info for each in found])
    most = max(_MIN_PACKETS, MAX_PACKETS // max(1, len(found)))
    if not has_figures:
        return Reported(found, names, tuple(Drawn(()) for _ in found), Drawn(()))
    drawn = tuple(run_figures(each, most) for each in found)
    beside = beside_figures(found, names) if len(found) > 1 else Drawn(())
    return Reported(found, names, drawn, beside)


def run_names(infos: Sequence[RunInfo]) -> tuple[str, ...]:
    """What to call each run, as ASCII: its label, or its id where it has none or another has the
    same."""
    labels = [info.label for info in infos]
    chosen = [
        info.label if info.label and labels.count(info.label) == 1 else info.run_id
        for info in infos
    ]
    names = [ascii_text(name) for name in chosen]
    return tuple(
        f"{name} ({number})" if names.count(name) > 1 else name
        for number, name in enumerate(names, 1)
    )


def commands(info: RunInfo) -> Iterator[tuple[str, list[str]]]:
    """(what it does, the command) to make the run again and to look at it."""
    yield "measure again", list(info.argv)
    seed = info.obtained.get("seed")
    if isinstance(seed, int) and "--seed" not in info.argv:
        yield "measure again, in the same order", [*info.argv, "--seed", str(seed)]
    run = info.run_id
    yield "show its figures", ["xdptstamp", "show", run]
    yield "write a page of it", ["xdptstamp", "report", run, "-o", "report.html"]
    yield (
        "take its samples",
        ["xdptstamp", "export", run, "--format", "parquet", "-o", "samples.parquet"],
    )
