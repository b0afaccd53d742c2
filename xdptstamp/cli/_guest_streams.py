# SPDX-License-Identifier: GPL-2.0-only
"""The streams of a command in a guest, passed on so that one can leave a guest that hangs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdptstamp.cli._guest_patience import Patience
    from xdptstamp.lab.guest import GuestProcess

_CHUNK = 1 << 16
# What is typed, or pasted, to a guest that takes nothing.
_MAX_UNSENT = 1 << 20


class Output:
    """What the command writes, on to our own stdout and stderr, in the thread that it comes in.

    While they take no more, no more is read from the guest.
    """

    def __init__(self) -> None:
        self.process: GuestProcess | None = None
        self._fds = {fd: _own_description(fd) for fd in (1, 2)}
        self._stopped, self._stop = os.pipe2(os.O_CLOEXEC)

    def write(self, is_error: bool, data: bytes) -> None:
        """Write it all, however long that takes, unless :meth:`stop` is called."""
        fd = self._fds[2 if is_error else 1]
        while data:
            try:
                if self._stopped in select.select([self._stopped], [fd], [])[0]:
                    return
                data = data[os.write(fd, data[: select.PIPE_BUF]) :]
            except BlockingIOError:  # there was room, but not for as much
                continue
            except OSError:
                # As it would find it out itself, if it had our pipe.
                if self.process is not None:
                    self.process.send_signal(signal.SIGPIPE, is_group=True)
                return

    def say(self, text: str, *, is_raw: bool = False) -> None:
        """Our own word, on a line of its own; not if nobody takes it."""
        fd = self._fds[2]
        line_end = "\r\n" if is_raw else "\n"
        before = line_end if os.isatty(fd) else ""
        with contextlib.suppress(OSError):
            if select.select([], [fd], [], 0)[1]:
                os.write(fd, f"{before}{text}{line_end}".encode())

    def stop(self) -> None:
        """Nothing of the command's is written any more, whoever waits to."""
        os.write(self._stop, b"x")

    def close(self) -> None:
        """Nobody calls any of these any more."""
        for fd in (self._stopped, self._stop, *self._fds.values()):
            os.close(fd)


def _own_description(fd: int) -> int:
    # One that does not wait, of a terminal or a pipe: theirs is also that of others, who would not
    # expect it. A file's has the position.
    if os.isatty(fd) or stat.S_ISFIFO(os.fstat(fd).st_mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # nobody reads it, or it is somebody else's terminal
            return os.open(f"/proc/self/fd/{fd}", flags)
    return os.dup(fd)


class Input:
    """Our stdin, on to the command's."""

    def __init__(self, process: GuestProcess, patience: Patience) -> None:
        self._process = process
        self._patience = patience
        self._was_terminal = os.isatty(0)
        self._unsent = b""
        self._is_over = False
        self._is_closed = False

    @property
    def is_read(self) -> bool:
        """Whether to :meth:`take` when there is something."""
        # The keys that leave a guest are to be seen even if it has no room for any.
        has_room = not self._unsent and self._process.room > 0
        return not self._is_over and (self._process.has_terminal or has_room)

    def take(self) -> None:
        """Read what there is."""
        try:
            data = os.read(0, _CHUNK)
        except OSError:  # the terminal is gone
            data = b""
        self._is_over = not data
        if self._process.has_terminal:
            self._patience.take_keys(data)
        if self._is_over and self._was_terminal and not os.isatty(0):
            self._patience.take_end_of_terminal()
        self._unsent = (self._unsent + data)[:_MAX_UNSENT]

    def pass_on(self) -> None:
        """Write as much as there is room for; its end, behind all of it."""
        room = self._process.room
        if self._unsent and room > 0:
            self._process.write(self._unsent[:room])
            self._unsent = self._unsent[room:]
        if self._is_over and not self._unsent and not self._is_closed:
            self._process.close_stdin()
            self._is_closed = True
