# SPDX-License-Identifier: GPL-2.0-only
"""Measure the runs of the study, or those named, and keep each in its folder of results/study."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from runs import StudyRun, study_runs

# A row of each stamped packet is millions of rows; what they amount to is in rounds and holds.
_LEFT_OUT = ("samples", "samples.csv", "truth.parquet")


def main(names: list[str]) -> int:
    """0, or 2 for a name that is none."""
    runs = {each.name: each for each in study_runs()}
    if unknown := [name for name in names if name not in runs]:
        print(f"no such run: {' '.join(unknown)}; there are: {' '.join(runs)}", file=sys.stderr)
        return 2
    for name in names or runs:
        _measure(runs[name])
    return 0


def _measure(each: StudyRun) -> None:
    words = each.words()
    print(f"\n$ {shlex.join(words)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "XDPTSTAMP_OUTPUT_DIR": folder}
        subprocess.run(words, env=environ, check=True)
        (made,) = Path(folder).glob("*/run.json")
        for name in _LEFT_OUT:
            path = made.parent / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        shutil.rmtree(each.path, ignore_errors=True)
        each.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made.parent, each.path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
