# SPDX-License-Identifier: GPL-2.0-only
"""What a measuring process asks of the scheduler: a CPU of its own, real time, no page faults."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
from collections.abc import Iterator
from typing import Any

from xdptstamp._sys import libc
from xdptstamp.errors import SetupError, SystemCallError

# SCHED_RESET_ON_FORK: what this process starts later must not run in real time, too.
_RESET_ON_FORK = os.SCHED_RESET_ON_FORK


@contextlib.contextmanager
def real_time(cpu: int | None, fifo_priority: int | None) -> Iterator[dict[str, Any]]:
    """Pin this process to ``cpu``; with a priority (1 to 99) also SCHED_FIFO, mlockall, no GC.

    :return: what was obtained, for the run info.
    :raises SetupError: No such CPU, or no privilege.
    """
    with contextlib.ExitStack() as undo:
        obtained: dict[str, Any] = {"cpu": None, "sched": "other"}
        if cpu is not None:
            _pin(cpu, undo)
            obtained["cpu"] = cpu
        if fifo_priority is not None:
            _set_fifo(fifo_priority, undo)
            obtained["sched"] = f"fifo:{fifo_priority}"
            obtained["is_memory_locked"] = True
            obtained["is_gc_frozen"] = True
        yield obtained


def _pin(cpu: int, undo: contextlib.ExitStack) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise SetupError(f"CPU {cpu}", f"cannot be used; there are: {sorted(before)}") from error
    undo.callback(os.sched_setaffinity, 0, before)


def _set_fifo(priority: int, undo: contextlib.ExitStack) -> None:
    subject = f"SCHED_FIFO priority {priority}"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | _RESET_ON_FORK, os.sched_param(priority))
    except PermissionError as error:
        problem = "refused: needs CAP_SYS_NICE (and a real-time budget in this cgroup)"
        raise SetupError(subject, problem) from error
    except OSError as error:
        raise SetupError(subject, f"refused: {error.strerror}; priorities go 1 to 99") from error
    undo.callback(os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0))
    try:
        libc.lock_memory()
    except SystemCallError as error:
        if error.errno not in (errno.EPERM, errno.ENOMEM):
            raise
        raise SetupError("memory", "cannot be locked: needs CAP_IPC_LOCK") from error
    undo.callback(libc.unlock_memory)
    gc.collect()
    gc.freeze()
    gc.disable()
    undo.callback(gc.enable)
    undo.callback(gc.unfreeze)
