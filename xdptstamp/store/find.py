# SPDX-License-Identifier: GPL-2.0-only
"""Which run is meant: a folder, its ``run.json``, a name among the results, the latest."""

from __future__ import annotations

import os
import re
from pathlib import Path

from xdptstamp.errors import RunFileError
from xdptstamp.store.reader import open_run
from xdptstamp.store.rundir import INFO_NAME

_STARTED = re.compile(r"([0-9]{8}T[0-9]{6}Z)-", re.ASCII)


def find_run(name: str, base: Path) -> Path:
    """The folder of a run.

    :param name: the folder, its ``run.json``, or its name below ``base``, in this order.
    :raises RunFileError: If there is none.
    """
    path = Path(name)
    found = next((each for each in (path, base / path) if os.path.lexists(each)), None)
    if found is None:
        raise RunFileError(path, f"no such run, neither here nor in {base}")
    if found.name == INFO_NAME and not found.is_dir():
        return found.parent
    if found.is_dir() and not os.path.lexists(found / INFO_NAME) and _runs_in(found):
        raise RunFileError(found, "holds runs and is none: name one of them, or --output-dir")
    return found


def find_runs(name: str, base: Path) -> list[Path]:
    """The folder of a run, or of each run in a folder of runs, the one that began first ahead.

    :param name: as :func:`find_run` takes it, or a folder of runs, itself or below ``base``.
    :raises RunFileError: If there is none.
    """
    path = Path(name)
    for each in (path, base / path):
        if each.is_dir() and not os.path.lexists(each / INFO_NAME):
            runs = _runs_in(each)
            if not runs:
                raise RunFileError(each, "holds no run")
            return sorted(runs, key=_age)
    return [find_run(name, base)]


def latest_run(base: Path) -> Path:
    """The run below ``base`` that began last.

    :raises RunFileError: If there is none.
    """
    try:
        paths = _runs_in(base)
    except OSError as error:
        problem = f"cannot look for runs here: {error.strerror}. Name one, or give --output-dir"
        raise RunFileError(base, problem) from error
    if not paths:
        raise RunFileError(base, "holds no run. Name one, or give --output-dir")
    return max(paths, key=_age)


def _runs_in(base: Path) -> list[Path]:
    return [path for path in base.iterdir() if os.path.lexists(path / INFO_NAME)]


# Folders are named by when they began. One that was named anew says it in its run.json; what
# cannot be read is older than all. Of one second the one that was written last.
def _age(path: Path) -> tuple[str, int, str]:
    match = _STARTED.match(path.name)
    if match:
        started = match[1]
    else:
        try:
            started = re.sub(r"[-:]", "", open_run(path).info.started_utc)
        except RunFileError:
            started = ""
    return started, os.lstat(path / INFO_NAME).st_mtime_ns, path.name
