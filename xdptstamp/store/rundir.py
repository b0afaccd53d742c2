# SPDX-License-Identifier: GPL-2.0-only
"""The folder of a run while it is written.

::

    with create_run(None, info) as run_dir:     # results/20260122T132600Z-host-eth1-ping-pong
        run_dir.write_info(info)                # run.json, replaced in one step

Who writes a run holds a lock on its file ``.lock``; the recorder process inherits it. A run.json
that says "running" without that lock is of a run that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import operator
import os
import re
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xdptstamp.runinfo import RunInfo
from xdptstamp.store.files import file_error, give_to_user, make_dirs, replace_file

INFO_NAME = "run.json"
LOCK_NAME = ".lock"
SAMPLES_NAME = "samples"
CSV_NAME = "samples.csv"

_MAX_PART = 60  # characters of one part of a folder's name
_RESERVE_SIZE = 1 << 16


@dataclass(slots=True)
class RunDir:
    """A run folder that this process is writing.

    :param info: what ``run.json`` was last given here.
    :param lock_fd: keeps the run "running"; children that write to it too inherit it.
    """

    path: Path
    info: RunInfo
    lock_fd: int

    def write_info(self, info: RunInfo) -> None:
        """Replace ``run.json``.

        :raises RunFileError: If it cannot be written; the one before is then still there.
        """
        self.info = info
        replace_file(self.path / INFO_NAME, encode_info(info))

    def close(self) -> None:
        """Give up the lock: nothing will be written any more."""
        if self.lock_fd >= 0:
            (self.path / LOCK_NAME).unlink(missing_ok=True)
            os.close(self.lock_fd)
            self.lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def create_run(output_dir: Path | None, info: RunInfo) -> RunDir:
    """Make a new run folder and its first ``run.json``.

    :param output_dir: where run folders go; None: see :func:`output_base`.
    :param info: names the folder by ``started_utc``, ``dut["hostname"]`` (else that of here),
        ``nic["ifname"]``, ``kind`` and ``label``; an empty ``run_id`` becomes the folder's name.
    :return: the folder, locked, to be closed.
    :raises RunFileError: If it cannot be made.
    """
    path = base = output_base(output_dir)
    try:
        make_dirs(base)
        path = _make_unique_dir(base.absolute(), _folder_name(info))
    except OSError as error:
        raise file_error(path, "make a run folder here", error) from error
    info.run_id = info.run_id or path.name
    try:
        return _fill(path, info)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise file_error(path, "make this run folder", error) from error
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def output_base(output_dir: Path | None) -> Path:
    """Where run folders are: ``output_dir``, else ``XDPTSTAMP_OUTPUT_DIR``, else ``results``."""
    return output_dir or Path(os.environ.get("XDPTSTAMP_OUTPUT_DIR") or "results")


def encode_info(info: RunInfo) -> bytes:
    """The bytes of ``run.json``.

    :raises TypeError, ValueError: If the info holds what JSON cannot (NaN, objects).
    """
    text = json.dumps(info.to_json(), indent=2, default=_plain, allow_nan=False)
    return text.encode() + b"\n"


def decode_info(data: bytes) -> RunInfo:
    """The opposite of :func:`encode_info`.

    :raises KeyError, TypeError, ValueError: If it is not a run info of a known schema.
    """
    content = json.loads(data)
    if not isinstance(content, dict):
        raise TypeError("it holds no JSON object")
    return RunInfo.from_json(content)


def is_being_written(path: Path) -> bool:
    """Whether a process holds the lock of the run folder ``path``.

    :raises OSError: If the lock cannot be tried.
    """
    try:
        lock_fd = os.open(path / LOCK_NAME, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock_fd)
    return False


# NumPy's integers and paths are welcome in a run info.
def _plain(value: Any) -> int | str:
    return os.fspath(value) if isinstance(value, os.PathLike) else operator.index(value)


def _fill(path: Path, info: RunInfo) -> RunDir:
    (path / SAMPLES_NAME).mkdir()
    give_to_user(path / SAMPLES_NAME)
    run_dir = RunDir(path, info, _lock(path / LOCK_NAME))
    try:
        run_dir.write_info(info)
    except BaseException:
        run_dir.close()
        raise
    return run_dir


def _lock(path: Path) -> int:
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        give_to_user(lock_fd)
        # However full the disk is at the end, there is room to say how the run ended.
        os.posix_fallocate(lock_fd, 0, _RESERVE_SIZE)
        # Waits only for a reader who is trying the lock at this moment.
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
    except OSError:
        os.close(lock_fd)
        raise
    return lock_fd


def free_reserve(path: Path) -> None:
    """Give back the room that run folder ``path`` keeps for its last ``run.json``."""
    with contextlib.suppress(FileNotFoundError):
        os.truncate(path / LOCK_NAME, 0)


# mkdir decides who gets a name, also between processes.
def _make_unique_dir(base: Path, name: str) -> Path:
    for number in itertools.count(1):
        path = base / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        give_to_user(path)
        return path
    raise AssertionError("unreachable")


def _folder_name(info: RunInfo) -> str:
    started = datetime.fromisoformat(info.started_utc)
    if started.tzinfo is not None:
        started = started.astimezone(UTC)
    host = info.dut.get("hostname") or socket.gethostname()
    parts = [host, info.nic.get("ifname") or "any", info.kind, info.label or ""]
    clean = [_clean(str(part)) for part in parts]
    return "-".join([started.strftime("%Y%m%dT%H%M%SZ"), *(part for part in clean if part)])


# What is safe in a folder's name, in a shell and on any filesystem.
def _clean(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:_MAX_PART]
