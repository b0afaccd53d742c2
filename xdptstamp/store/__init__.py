# SPDX-License-Identifier: GPL-2.0-only
"""Runs on disk, written while measuring and read back anywhere.

- ``rundir``: :func:`create_run` makes a run folder; :class:`RunDir` keeps its ``run.json``.
- ``recorder``: :class:`Recorder`, the measuring process's way to a recorder process.
- ``recorder_process``: that process: Parquet files, the summary, the text outputs.
- ``reader``: :func:`open_run`, :func:`iter_batches`.
- ``export``: :func:`write_csv`.

Nothing heavy is imported before it is used: a measuring process needs no Parquet library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdptstamp.store.export import write_csv
    from xdptstamp.store.reader import iter_batches, open_run
    from xdptstamp.store.recorder import Recorder
    from xdptstamp.store.rundir import RunDir, create_run

__all__ = ["Recorder", "RunDir", "create_run", "iter_batches", "open_run", "write_csv"]

_MODULES = {
    "Recorder": "recorder",
    "RunDir": "rundir",
    "create_run": "rundir",
    "iter_batches": "reader",
    "open_run": "reader",
    "write_csv": "export",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
