# SPDX-License-Identifier: GPL-2.0-only
"""The host's end of the line to the agent: commands in the guest, as the host sees them."""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import queue
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdptstamp.errors import SystemCallError, XdptstampError
from xdptstamp.lab.guest import agent

# What a shell returns when there is no such command, or it cannot be executed.
_EXIT_NOT_FOUND = 127
_EXIT_NOT_EXECUTABLE = 126

# Nothing the agent says is longer; what comes from a guest is not believed.
_MAX_MESSAGE = 1 << 20

_NO_MORE = b""

OnOutput = Callable[[bool, bytes], None]


class GuestProcess:
    """A command in the guest. What it writes is kept, unless ``on_output`` takes it.

    :attr:`returncode` is as of ``subprocess.Popen``: negative if a signal ended it.
    """

    def __init__(
        self, channel: Channel, number: int, asked: Mapping[str, Any], on_output: OnOutput | None
    ) -> None:
        self.argv: list[str] = asked["argv"]
        self.cwd: str = asked["cwd"]
        self.has_terminal = "rows" in asked
        self.returncode: int | None = None
        self._channel = channel
        self.number = number
        self._on_output = on_output
        self._kept = {False: bytearray(), True: bytearray()}
        self._underway = 0
        self._error: XdptstampError | None = None
        self._on_change: Callable[[], object] | None = None
        self._changed = threading.Condition()

    @property
    def stdout(self) -> str:
        """What it has written so far."""
        return self._kept[False].decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self._kept[True].decode(errors="replace")

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to come."""
        return self.returncode is not None or self._error is not None

    @property
    def room(self) -> int:
        """How many bytes :meth:`write` takes without waiting."""
        return agent.WINDOW - self._underway

    def write(self, data: bytes) -> None:
        """Write to its stdin; waits while the command does not read. Nothing if it has ended."""
        while data:
            with self._changed:
                self._changed.wait_for(lambda: self.room > 0 or self.has_ended)
                if self.has_ended:
                    return
                part = data[: self.room]
                self._underway += len(part)
            data = data[len(part) :]
            self._channel.send(agent.INPUT, self.number, part)

    def close_stdin(self) -> None:
        """Its stdin ends behind what was written."""
        self._channel.send(agent.INPUT, self.number, b"")

    def send_signal(self, number: int, *, is_group: bool = False) -> None:
        """Signal it, or with it all that it has started and that has not left its session's group.

        Nothing if it has ended.
        """
        self._channel.send_values(
            agent.SIGNAL, self.number, {"number": int(number), "is_group": is_group}
        )

    def resize(self, rows: int, columns: int) -> None:
        """Tell it the new size of its terminal."""
        self._channel.send_values(agent.RESIZE, self.number, {"rows": rows, "columns": columns})

    def wait(self, timeout: float | None = None) -> int:
        """Its return code, when it has ended.

        :param timeout: seconds.
        :raises subprocess.TimeoutExpired: It runs still.
        :raises XdptstampError: It could not be started, or the guest has died.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.has_ended, timeout):
                raise subprocess.TimeoutExpired(self.argv, timeout or 0)
        if self._error is not None:
            raise self._error
        assert self.returncode is not None
        return self.returncode

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Return when it has written ``text``, to stdout or stderr.

        :raises subprocess.TimeoutExpired: Not within ``timeout`` seconds, or it has ended without.
        """

        def is_there() -> bool:
            return text in self.stdout or text in self.stderr

        with self._changed:
            self._changed.wait_for(lambda: is_there() or self.has_ended, timeout)
            if not is_there():
                raise subprocess.TimeoutExpired(self.argv, timeout, self.stdout, self.stderr)

    def call_on_change(self, callback: Callable[[], object] | None) -> None:
        """Have it called, in another thread, when it has ended or takes more input; None: no more.

        It is not underway any more when this returns.
        """
        with self._changed:
            self._on_change = callback

    def take(self, kind: int, payload: bytes) -> None:
        """A message of the agent about this command."""
        if kind in {agent.OUTPUT, agent.ERRORS} and self._on_output is not None:
            self._on_output(kind == agent.ERRORS, payload)
            return
        with self._changed:
            if kind in {agent.OUTPUT, agent.ERRORS}:
                self._kept[kind == agent.ERRORS] += payload
            elif kind == agent.TAKEN:
                self._underway -= agent.NUMBER.unpack(payload)[0]
            elif kind == agent.ENDED:
                (self.returncode,) = agent.NUMBER.unpack(payload)
            elif kind == agent.REFUSED:
                self._error = self._refusal(*agent.REFUSAL.unpack(payload))
            self._tell()

    def fail(self, error: XdptstampError) -> None:
        """The guest has died under it."""
        with self._changed:
            if not self.has_ended:
                self._error = error
            self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._on_change is not None:
            self._on_change()

    def _refusal(self, number: int, is_cwd: bool) -> SystemCallError:
        error = SystemCallError(
            number, "exec", f"the folder {self.cwd}" if is_cwd else self.argv[0]
        )
        is_missing = number == errno.ENOENT and not is_cwd
        error.exit_code = _EXIT_NOT_FOUND if is_missing else _EXIT_NOT_EXECUTABLE
        return error


class Channel:
    """The line. From :meth:`start` on one thread reads it and one writes it.

    So nobody but the latter waits for a guest that hangs, and takes nothing.

    :param why_died: makes the error that commands get when the line ends before they do.
    """

    def __init__(self, line: socket.socket, why_died: Callable[[], XdptstampError]) -> None:
        self._line = line
        self._why_died = why_died
        self._commands: dict[int, GuestProcess] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._ready = threading.Event()
        self._outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=work, name="guest", daemon=True)
            for work in (self._read, self._write)
        ]

    def start(self) -> None:
        """Begin to read and write."""
        for thread in self._threads:
            thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the agent has said that it is ready, or the line has ended, by then."""
        return self._ready.wait(timeout_s)

    @property
    def is_over(self) -> bool:
        """Whether the line has ended."""
        return self._is_over.is_set()

    def popen(
        self,
        argv: Sequence[str],
        cwd: str,
        env: Mapping[str, str],
        terminal: tuple[int, int] | None,
        on_output: OnOutput | None,
    ) -> GuestProcess:
        """Start a command; see :meth:`xdptstamp.lab.guest.Guest.popen`."""
        asked: dict[str, Any] = {"argv": list(argv), "cwd": cwd, "env": dict(env)}
        if terminal is not None:
            asked["rows"], asked["columns"] = terminal
        with self._lock:
            self._count += 1
            process = GuestProcess(self, self._count, asked, on_output)
            self._commands[self._count] = process
        self.send_values(agent.START, process.number, asked)
        if self.is_over:
            process.fail(self._why_died())
        return process

    def send_values(self, kind: int, number: int, value: Mapping[str, Any]) -> None:
        """Send a message."""
        self.send(kind, number, marshal.dumps(dict(value), 4))

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send a message; lost without a word if the guest is gone, which its commands tell."""
        self._outgoing.put(agent.HEADER.pack(len(payload), kind, number) + payload)

    def quit(self, timeout_s: float) -> None:
        """Ask the agent for the end and wait until it has written everything back."""
        self.send(agent.QUIT, 0)
        self._is_over.wait(timeout_s)

    def close(self) -> None:
        """End the line."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._outgoing.put(_NO_MORE)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._line.close()

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while message := self._outgoing.get():
                self._line.sendall(message)

    def _read(self) -> None:
        try:
            with self._line.makefile("rb") as file:
                while self._take_one(file):
                    continue
        except (OSError, struct.error):
            pass
        self._is_over.set()
        self._ready.set()
        for process in list(self._commands.values()):
            if not process.has_ended:
                process.fail(self._why_died())

    def _take_one(self, file: Any) -> bool:
        header = file.read(agent.HEADER.size)
        if len(header) < agent.HEADER.size:
            return False
        length, kind, number = agent.HEADER.unpack(header)
        payload = file.read(length) if length <= _MAX_MESSAGE else b""
        if len(payload) < length or kind == agent.BYE:
            return False
        if kind == agent.READY:
            self._ready.set()
        elif number in self._commands:
            process = self._commands[number]
            process.take(kind, payload)
            if process.has_ended:
                del self._commands[number]
        return True


def default_environ() -> dict[str, str]:
    """The environment of this process, with the folders that have ip and the like on PATH."""
    environ = dict(os.environ)
    # Folders that are not there in the guest.
    for name in ("TMPDIR", "XDG_RUNTIME_DIR"):
        environ.pop(name, None)
    environ["PYTHONDONTWRITEBYTECODE"] = "1"  # they could not be written
    environ["PATH"] = f"{environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    return environ
