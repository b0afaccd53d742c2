# SPDX-License-Identifier: GPL-2.0-only
"""Runs that were made on the virtual I226 held against its log, when they are over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xdptstamp.cli.session import EXIT_DOUBT

_DRIVER = "igc"  # what binds to a virtual I226, whatever else the guest has


def run_folders(folder: Path) -> set[Path]:
    """The run folders in a folder of results; none if it is not there."""
    return {file.parent for file in folder.glob("*/run.json")}


def report_truth(truth_csv: Path, run_dirs: Sequence[Path]) -> int:
    """Join each run with the log, add what was found to its folder, and print it.

    :param run_dirs: run folders; those of other NICs have nothing to join.
    :return: 3 if a run is not to be trusted by the truth, else 0.
    :raises RunFileError: If the log or a run cannot be read, or a run has its truth already.
    """
    from xdptstamp.join import KINDS, join_truth, read_truth_log
    from xdptstamp.store import open_run
    from xdptstamp.store.truth import write_truth
    from xdptstamp.text.lines import write_lines
    from xdptstamp.text.truth import truth_lines

    runs = [open_run(path) for path in run_dirs]
    runs = [run for run in runs if run.info.kind in KINDS and run.info.nic.get("driver") == _DRIVER]
    if not runs:
        return 0
    log, is_trusted = read_truth_log(truth_csv), True
    for run in runs:
        truth, table = join_truth(run, log)
        write_truth(run, truth.to_json(), table)
        write_lines(["", *truth_lines(truth)])
        is_trusted &= truth.is_trusted
    return 0 if is_trusted else EXIT_DOUBT
