# SPDX-License-Identifier: GPL-2.0-only
"""Who owns which lab, so that what a killed owner left can be told from what is in use.

Each lab has a file of its name below :data:`CLAIMS_DIR`, locked (flock) for as long as a process
has it open: the owner, and the command that it runs. The kernel drops the lock with the last of
them, however they ended; a file without a lock is a lab to be removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xdptstamp.errors import SetupError, XdptstampError
from xdptstamp.lab.plan import NAME_PREFIX, NUM_PLANS, LabPlan

CLAIMS_DIR = Path("/run/xdptstamp/lab")

# A claim appears under its name only once it is locked; until then it has a name like this.
_UNFINISHED_PREFIX = "."


@dataclass(frozen=True, slots=True)
class Claim:
    """A number that is ours.

    :param plan: what is made from it.
    :param fd: keeps the lab from being taken for abandoned; a child may inherit it.
    """

    plan: LabPlan
    fd: int

    def abandon(self) -> None:
        """Leave the lab, which could not be removed, to the next sweep."""
        os.close(self.fd)

    def release(self) -> None:
        """Give the number back; the lab must be gone."""
        try:
            (CLAIMS_DIR / self.plan.name).unlink(missing_ok=True)
        finally:
            os.close(self.fd)


def claim(plans: Iterable[LabPlan]) -> Claim:
    """Claim the first of ``plans`` whose number nobody has.

    :raises SetupError: There is none, or no privilege.
    """
    try:
        CLAIMS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
        for plan in plans:
            fd = _claimed(plan.name)
            if fd is not None:
                return Claim(plan, fd)
    except OSError as error:
        raise _unusable(error) from None
    problem = f"all of its {NUM_PLANS} address ranges are taken: see `ip route show table all`"
    raise SetupError("lab veth", problem)


def sweep(remove: Callable[[str], None]) -> list[str]:
    """Call ``remove`` for each lab whose owner is gone, and give its number back.

    :return: The names of these labs.
    """
    swept = []
    try:
        paths = sorted(CLAIMS_DIR.iterdir()) if CLAIMS_DIR.is_dir() else []
        for path in paths:
            if not path.name.startswith((NAME_PREFIX, _UNFINISHED_PREFIX)):
                continue
            with _abandoned(path) as is_abandoned:
                if is_abandoned and path.name.startswith(NAME_PREFIX):
                    remove(path.name)
                    swept.append(path.name)
                if is_abandoned:
                    path.unlink()
    except XdptstampError:
        raise
    except OSError as error:
        raise _unusable(error) from None
    return swept


def _claimed(name: str) -> int | None:
    fd, unfinished = tempfile.mkstemp(prefix=_UNFINISHED_PREFIX, dir=CLAIMS_DIR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, _owner().encode())
        os.link(unfinished, CLAIMS_DIR / name)
    except (FileExistsError, BlockingIOError, FileNotFoundError):
        # Taken; or a sweep came between mkstemp and flock and took this for abandoned.
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return fd


def _owner() -> str:
    # For people who wonder whose lab it is; nothing here depends on it.
    return f"pid {os.getpid()}\nnetns {os.stat('/proc/thread-self/ns/net').st_ino}\n"


@contextlib.contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    # While the block runs the lock is ours: two sweeps never remove the same lab.
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # released a moment ago
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Without a name it was released between open and flock.
        yield os.fstat(fd).st_nlink > 0
    finally:
        os.close(fd)


def _unusable(error: OSError) -> SetupError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return SetupError("lab veth", f"no privilege to write {CLAIMS_DIR}: run as root")
    return SetupError("lab veth", f"cannot use {CLAIMS_DIR}: {error.strerror}")
