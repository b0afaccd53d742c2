# SPDX-License-Identifier: GPL-2.0-only
"""Writing files of a run: replaced in one step, owned by who called sudo, errors in words."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from xdptstamp.errors import RunFileError

_ELSEWHERE = "choose another place with --output-dir or XDPTSTAMP_OUTPUT_DIR"
_ADVICE = {
    errno.EACCES: f"Allow writing there, or {_ELSEWHERE}",
    errno.EPERM: f"Allow writing there, or {_ELSEWHERE}",
    errno.EROFS: _ELSEWHERE.capitalize(),
    errno.ENOTDIR: _ELSEWHERE.capitalize(),
    errno.ENOENT: "Make the folder first, or " + _ELSEWHERE,
    errno.ENOSPC: f"Free space there, or {_ELSEWHERE}",
    errno.EDQUOT: f"Raise the quota, or {_ELSEWHERE}",
    errno.EIO: "The disk is failing: see the kernel log, and " + _ELSEWHERE,
}
_READING_ADVICE = {
    errno.EACCES: "Allow reading it",
    errno.ENOENT: "Copy the whole folder of the run",
    errno.EIO: "The disk is failing: see the kernel log",
}
# What a filesystem without owners (vfat, some network ones) answers to chown.
_NO_OWNERS = (errno.EPERM, errno.EINVAL, errno.ENOTSUP)


def file_error(path: Path, doing: str, error: OSError) -> RunFileError:
    """The error to raise when ``doing`` something with ``path`` failed: why, and what to do."""
    return _error(path, doing, error, _ADVICE)


def read_error(path: Path, doing: str, error: OSError) -> RunFileError:
    """As :func:`file_error`, of a file of a run that is only read."""
    return _error(path, doing, error, _READING_ADVICE)


def _error(path: Path, doing: str, error: OSError, advices: Mapping[int, str]) -> RunFileError:
    reason = error.strerror or str(error)
    advice = advices.get(error.errno or 0)
    return RunFileError(path, f"cannot {doing}: {reason}" + (f". {advice}" if advice else ""))


def give_to_user(target: int | Path) -> None:
    """Give a file to the user who called sudo, if that is how we became root.

    :param target: open file descriptor, or path.
    :raises OSError: If the filesystem has owners and refuses.
    """
    owner = _sudo_user()
    if owner is None:
        return
    try:
        os.chown(target, *owner)
    except OSError as error:
        if error.errno not in _NO_OWNERS:
            raise


def make_dirs(path: Path) -> None:
    """Make a folder and those above it; what did not exist belongs to the sudo user."""
    if not path.is_dir():
        make_dirs(path.parent)
        with contextlib.suppress(FileExistsError):  # somebody else was faster
            path.mkdir()
            give_to_user(path)


@contextlib.contextmanager
def new_file(tmp: Path) -> Iterator[IO[bytes]]:
    """Write a file that is on disk in full, and the user's, once the block ends.

    It is removed if the block fails, so that a full disk has room for what matters more.
    """
    try:
        with open(tmp, "wb") as file:
            give_to_user(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise


def replace_file(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: a reader sees the old file or the new one, both whole.

    :raises RunFileError: If that fails; the old file is then still there.
    """
    tmp = hidden_tmp(path)
    try:
        with new_file(tmp) as file:
            file.write(data)
        tmp.replace(path)
    except OSError as error:
        raise file_error(path, "write", error) from error


def check_regular(path: Path) -> None:
    """Refuse what is there and is no regular file: a pipe or a device would be read for ever.

    :raises RunFileError: If so.
    :raises OSError: If it cannot be looked at, or is not there.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise RunFileError(path, "is no regular file")


def hidden_tmp(path: Path) -> Path:
    """Where ``path`` is written before it is renamed; data set readers skip dotted names."""
    return path.with_name(f".{path.name}.tmp")


def _sudo_user() -> tuple[int, int] | None:
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (uid.isdecimal() and gid.isdecimal()):
        return None
    return int(uid), int(gid)
