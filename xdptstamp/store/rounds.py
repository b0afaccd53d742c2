# SPDX-License-Identifier: GPL-2.0-only
"""The rounds of a ``mixed`` run in its folder: ``rounds.csv`` and ``holds.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xdptstamp.rounds import Round, Setting
from xdptstamp.run import Run

ROUNDS_NAME, HOLDS_NAME = "rounds.csv", "holds.csv"


def write_rounds(path: Path, settings: Sequence[Setting], rounds: Sequence[Round]) -> None:
    """Write ``rounds.csv`` and ``holds.csv`` into the run folder ``path``; may be repeated.

    :raises RunFileError: If they cannot be written.
    """


def read_rounds(run: Run) -> tuple[list[Setting], list[Round]]:
    """The settings and rounds of a run, from its ``run.json`` and ``holds.csv``.

    :raises RunFileError: If they are not there, or damaged.
    """
    return [], []
