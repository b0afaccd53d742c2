# SPDX-License-Identifier: GPL-2.0-only
"""The samples of a run in pieces: by setting, by round, and each round in some short ones, in
order. Memory does not grow with the number of samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xdptstamp.across import Compared
from xdptstamp.columns import Columns
from xdptstamp.run import Run
from xdptstamp.sample import COLUMNS_OF_KIND, Batch
from xdptstamp.stats import Summary, compared_columns, comparison_of
from xdptstamp.store.reader import num_samples, sample_files

#: So many pieces a run has at least, if it has the samples.
NUM_PIECES = 128

#: Pieces by round, those of one setting.
Rounds = list[list[Summary]]


def read_pieces(run: Run) -> dict[int, Rounds]:
    """The pieces of each setting; what is no ``mixed`` has setting 0 alone.

    :raises RunFileError: If the samples cannot be read.
    """
    kind, comparison = run.info.kind, comparison_of(run.info)
    total = sum(num_samples(file) for file in sample_files(run.path))
    length = max(1, -(-total // NUM_PIECES))
    found: dict[tuple[int, int, int], tuple[Summary, Compared]] = {}
    for key, batch in _cut(run, length):
        if key not in found:
            found[key] = Summary(kind), Compared(kind, comparison)
        columns = Columns(batch)
        found[key][0].add_columns(columns)
        if comparison is None or comparison.has_cover:
            found[key][1].add(columns)
    has_ends = any(summary.num_ends for summary, _ in found.values())
    settings: dict[int, dict[int, list[Summary]]] = {}
    for (setting, round_, _), (summary, compared) in found.items():
        if has_ends and (comparison is None or comparison.has_cover):
            summary.take(compared)
        if summary.num_samples:
            settings.setdefault(setting, {}).setdefault(round_, []).append(summary)
    return {setting: list(rounds.values()) for setting, rounds in settings.items()}


# (setting, round, number of the piece) and its samples.
def _cut(run: Run, length: int) -> Iterator[tuple[tuple[int, int, int], Batch]]:
    kind = run.info.kind
    extra = [name for name in ("cause", "setting", "round") if name in COLUMNS_OF_KIND[kind]]
    at = 0
    for batch in run.batches([*compared_columns(kind), *extra]):
        keys = np.zeros((len(batch), 3), np.int64)
        if "setting" in extra:
            keys[:, 0] = batch["setting"]
        keys[:, 1] = batch["round"]
        keys[:, 2] = (at + np.arange(len(batch))) // length
        at += len(batch)
        ends = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
        for first, piece in zip([0, *ends.tolist()], np.split(batch, ends), strict=True):
            if len(piece):
                setting, round_, number = keys[first].tolist()
                yield (setting, round_, number), piece
