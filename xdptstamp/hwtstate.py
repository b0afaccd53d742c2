# SPDX-License-Identifier: GPL-2.0-only
"""Who uses the hwtstamp setting of an interface, and what it was before the first of them.

Users announce themselves by binding an abstract unix socket: such names are per network
namespace, seen by every user, and gone with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xdptstamp.errors import SetupError, SystemCallError

# /proc/self is the process's first thread, which may be in another network namespace.
_UNIX_SOCKETS = Path("/proc/thread-self/net/unix")
_NETNS = Path("/proc/thread-self/ns/net")

_LOCK_TIMEOUT_S = 10.0
_BACKLOG = 128


class Announcement:
    """Says that this process uses the setting of an interface, until closed or dead."""

    def __init__(self, ifindex: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        name = f"xdptstamp-{ifindex}-{os.getpid()}"
        try:
            # A process may hold the same interface more than once.
            for suffix in itertools.chain([""], (f"-{n}" for n in itertools.count(2))):
                if _bind(self._socket, name + suffix):
                    return
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Withdraw it."""
        self._socket.close()


def users_of(ifindex: int) -> list[int]:
    """Process ids of the announced users of an interface, in this network namespace."""
    pattern = re.compile(rf" @xdptstamp-{ifindex}-(\d+)(?:-\d+)?$", re.MULTILINE)
    return sorted(int(pid) for pid in pattern.findall(_UNIX_SOCKETS.read_text()))


@contextlib.contextmanager
def interface_lock(ifindex: int, timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[None]:
    """Only one process at a time looks at users and setting of an interface, and changes them.

    :raises SetupError: If another process holds the lock for longer than ``timeout_s``.
    """
    name = f"xdptstamp-{ifindex}-lock"
    deadline = time.monotonic() + timeout_s
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with lock:
        while not _bind(lock, name):
            left = deadline - time.monotonic()
            if left <= 0:
                problem = f"another process holds its hwtstamp lock (@{name}) for {timeout_s:g} s"
                raise SetupError(f"interface {ifindex}", f"{problem}; end that process")
            _await_release(name, left)
        lock.listen(_BACKLOG)
        yield


def _bind(sock: socket.socket, name: str) -> bool:
    try:
        sock.bind(b"\0" + name.encode())
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise SystemCallError(error.errno or errno.EIO, "bind", f"@{name}") from None
    return True


def _await_release(name: str, timeout_s: float) -> None:
    # The holder accepts nobody; a connection to it ends when its socket is closed.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as waiter:
        waiter.setblocking(False)
        try:
            waiter.connect(b"\0" + name.encode())
        except (ConnectionRefusedError, BlockingIOError):
            # Just released, or bound and not listening yet, or too many wait: bind again.
            os.sched_yield()
            return
        poller = select.poll()
        poller.register(waiter, select.POLLIN)
        poller.poll(timeout_s * 1000)


@dataclass(frozen=True, slots=True)
class Record:
    """What an interface's hwtstamp was (``original``), and what was set instead (``ours``).

    Both are (flags, tx_type, rx_filter). Name and MAC guard against another interface that got
    the same number.
    """

    ifname: str
    mac: str
    original: tuple[int, int, int]
    ours: tuple[int, int, int]


class RecordFile:
    """The file that holds the record of one interface of the current network namespace.

    :param folders: where it may be, the best first; None: /run/xdptstamp, and
        XDG_RUNTIME_DIR for a user who may not write there.
    :param kind: what the record is for; those of one interface may differ in it.
    """

    def __init__(
        self, ifindex: int, folders: list[Path] | None = None, kind: str = "hwtstamp"
    ) -> None:
        name = f"{kind}-{_NETNS.stat().st_ino}-{ifindex}.json"
        self._paths = [folder / name for folder in (folders or _usual_folders())]
        self.path = self._paths[0]
        self._unwritten: Record | None = None  # what no folder took, known to this process alone

    def read(self) -> Record | None:
        """The record, None if there is none."""
        found = [(path.stat().st_mtime_ns, path) for path in self._paths if path.is_file()]
        if self._unwritten is not None or not found:
            return self._unwritten
        self.path = max(found)[1]
        try:
            return _parse(json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            return None  # not ours to understand, so nothing is restored from it

    def write(self, record: Record) -> str:
        """Replace the record, in the first folder that takes it.

        :return: why it could not be written anywhere; empty if it was.
        """
        problems = []
        for path in self._paths:
            try:
                _replace(path, json.dumps(asdict(record), indent=1) + "\n")
            except OSError as error:
                problems.append(f"{path.parent}: {error.strerror}")
            else:
                self.path, self._unwritten = path, None
                return ""
        self._unwritten = record
        return f"the original hwtstamp setting cannot be kept on disk ({'; '.join(problems)})"

    def remove(self) -> None:
        """Remove the record, and its folder when that was the last.

        :raises SystemCallError: If a record may not be removed.
        """
        self._unwritten = None
        for path in self._paths:
            if not path.is_file():
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                number = error.errno or errno.EIO
                raise SystemCallError(number, "unlink", str(path), "Remove it.") from None
            # Others may have their records in there, or the folder may be somebody's own.
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _usual_folders() -> list[Path]:
    folders = [Path("/run/xdptstamp")]
    own = os.environ.get("XDG_RUNTIME_DIR")
    if own:
        folders.append(Path(own) / "xdptstamp")
    return folders


def _parse(data: dict[str, Any]) -> Record:
    original, ours = (_triple(data[key]) for key in ("original", "ours"))
    return Record(str(data["ifname"]), str(data["mac"]), original, ours)


def _triple(values: list[Any]) -> tuple[int, int, int]:
    flags, tx_type, rx_filter = (int(value) for value in values)
    return flags, tx_type, rx_filter


def _replace(path: Path, text: str) -> None:
    # Somebody who removed the last other record may take the folder away in between.
    for attempt in itertools.count():
        path.parent.mkdir(mode=0o755, exist_ok=True)
        try:
            fd, name = tempfile.mkstemp(prefix=".", dir=path.parent)
            break
        except FileNotFoundError:
            if attempt == 10:
                raise
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o644)
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
