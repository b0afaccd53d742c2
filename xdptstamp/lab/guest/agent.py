# SPDX-License-Identifier: GPL-2.0-only
"""The guest's end of the line to the host: runs commands, several at once, and reports on them.

A program of its own, that imports nothing of ours and little else: each import costs on an
emulated CPU. The host imports it for the protocol. A message is a header (:data:`HEADER`: length
of the rest, kind, number of the command) and a payload; kinds are below. What is structured comes
here by marshal, which is built in and takes only plain values: json would be most of the start.
The other way it is fixed numbers, for the host believes nothing of what a guest sends.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal has, without its import of enum
import fcntl
import marshal
import os
import select
import struct
import sys
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = struct.Struct("<IBI")

# To the guest.
START = 1  # marshal: argv, cwd, env; rows and columns if it is to get a terminal
INPUT = 2  # bytes for stdin; none: it ends
SIGNAL = 3  # marshal: number, is_group
RESIZE = 4  # marshal: rows, columns
QUIT = 5

# To the host.
READY = 16
OUTPUT = 17  # bytes of stdout, or of the terminal
ERRORS = 18  # bytes of stderr
TAKEN = 19  # NUMBER: how many bytes the command's stdin has taken
ENDED = 20  # NUMBER: code (negative: signal)
REFUSED = 21  # NUMBER: errno, for it could not be started; whether cwd is the reason
BYE = 22

NUMBER = struct.Struct("<i")
REFUSAL = struct.Struct("<i?")

# More than this of a command's input is not underway: the host waits for TAKEN.
WINDOW = 1 << 16

_CHUNK = 1 << 15
_END_OF_INPUT = b"\x04"
# Output is not read from commands while this much waits for the host.
_ENOUGH = 1 << 18


class _Line:
    # The virtio port: messages both ways, without blocking.
    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.unsent = bytearray()
        self._received = bytearray()

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        self.unsent += HEADER.pack(len(payload), kind, number) + payload

    def flush(self) -> None:
        while self.unsent:
            try:
                sent = os.write(self.fd, self.unsent[:_CHUNK])
            except BlockingIOError:
                return
            del self.unsent[:sent]

    def receive(self) -> list[tuple[int, int, bytes]]:
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return []
        if not data:
            sys.exit("the host is gone")
        self._received += data
        messages = []
        while len(self._received) >= HEADER.size:
            length, kind, number = HEADER.unpack_from(self._received)
            end = HEADER.size + length
            if len(self._received) < end:
                break
            messages.append((kind, number, bytes(self._received[HEADER.size : end])))
            del self._received[:end]
        return messages


class _Command:
    # A running child: its pid, and our ends of its streams.
    def __init__(self, number: int, asked: dict[str, Any]) -> None:
        self.number = number
        self.waiting = bytearray()  # for its stdin
        self.is_input_over = False
        self.pidfd = -1
        self.is_terminal = "rows" in asked
        self.outputs: dict[int, int] = {}  # fd: kind of message
        if self.is_terminal:
            self.input, theirs = os.openpty()
            self.outputs[self.input] = OUTPUT
            self.resize(asked)
            streams = [theirs, theirs, theirs]
        else:
            stdin, self.input = os.pipe()
            output, stdout = os.pipe()
            errors, stderr = os.pipe()
            self.outputs.update({output: OUTPUT, errors: ERRORS})
            streams = [stdin, stdout, stderr]
        for fd in (self.input, *self.outputs):
            os.set_blocking(fd, False)
        try:
            self.pid = _spawn(asked, streams, self.is_terminal)
        except OSError:
            self.close()
            raise
        finally:
            for fd in set(streams):
                os.close(fd)
        self.pidfd = os.pidfd_open(self.pid)

    def resize(self, asked: dict[str, Any]) -> None:
        size = struct.pack("HHHH", asked["rows"], asked["columns"], 0, 0)
        fcntl.ioctl(self.input, termios.TIOCSWINSZ, size)

    def signal(self, asked: dict[str, Any]) -> None:
        # Ours to signal until it is waited for; a group has the number of its leader.
        if asked["is_group"]:
            os.killpg(self.pid, asked["number"])
        else:
            os.kill(self.pid, asked["number"])

    def feed(self) -> int:
        # Write what waits; returns how much was taken, or is of no use any more.
        taken = 0
        while self.waiting:
            try:
                done = os.write(self.input, self.waiting)
            except BlockingIOError:
                break
            except OSError:  # EPIPE, or EIO of a terminal: nobody reads it
                done = len(self.waiting)
            del self.waiting[:done]
            taken += done
        if self.is_input_over and not self.waiting and not self.is_terminal and self.input >= 0:
            os.close(self.input)
            self.input = -1
        return taken

    def read(self, fd: int) -> bytes | None:
        # None if there is nothing now; nothing ever again: the fd is closed and forgotten.
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # EIO: the last user of a terminal is gone
            data = b""
        if not data:
            del self.outputs[fd]
            if fd != self.input:
                os.close(fd)
        return data or None

    def close(self) -> None:
        for fd in {self.input, self.pidfd, *self.outputs} - {-1}:
            os.close(fd)


def _spawn(asked: dict[str, Any], streams: list[int], is_terminal: bool) -> int:
    # Returns the pid of the command, a session of its own.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(asked, streams, is_terminal)
        except OSError as error:
            os.write(writer, REFUSAL.pack(error.errno or 0, error.filename == asked["cwd"]))
        finally:
            os._exit(127)
    os.close(writer)
    with open(reader, "rb") as file:
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        number, is_cwd = REFUSAL.unpack(failure)
        raise OSError(number, "exec", asked["cwd"] if is_cwd else None)
    return pid


def _become(asked: dict[str, Any], streams: list[int], is_terminal: bool) -> None:
    os.setsid()
    if is_terminal:
        fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)  # Python ignores them
    os.chdir(asked["cwd"])
    os.execvpe(asked["argv"][0], asked["argv"], asked["env"])


class _Agent:
    def __init__(self, line: _Line) -> None:
        self._line = line
        self._commands: dict[int, _Command] = {}
        self._is_over = False

    def run(self) -> None:
        while not self._is_over or self._line.unsent:
            self._wait()
            for kind, number, payload in self._line.receive():
                self._obey(kind, number, payload)
            for command in list(self._commands.values()):
                self._serve(command)
            self._line.flush()

    def _wait(self) -> None:
        events = {self._line.fd: select.POLLIN | (select.POLLOUT if self._line.unsent else 0)}
        for command in self._commands.values():
            events[command.pidfd] = select.POLLIN
            if command.waiting:
                events[command.input] = select.POLLOUT
            if len(self._line.unsent) < _ENOUGH:
                for fd in command.outputs:
                    events[fd] = events.get(fd, 0) | select.POLLIN
        poller = select.poll()
        for fd, mask in events.items():
            poller.register(fd, mask)
        poller.poll()

    def _obey(self, kind: int, number: int, payload: bytes) -> None:
        if kind == START:
            try:
                self._commands[number] = _Command(number, marshal.loads(payload))
            except OSError as error:
                refusal = REFUSAL.pack(error.errno or 0, error.filename is not None)
                self._line.send(REFUSED, number, refusal)
        elif kind == QUIT:
            os.sync()
            self._line.send(BYE, number)
            self._is_over = True
        elif command := self._commands.get(number):
            if kind == INPUT:
                # On a terminal the end of input is a key.
                command.waiting += payload or (_END_OF_INPUT if command.is_terminal else b"")
                command.is_input_over |= not payload
            elif kind == SIGNAL:
                command.signal(marshal.loads(payload))
            elif kind == RESIZE:
                command.resize(marshal.loads(payload))

    def _serve(self, command: _Command) -> None:
        # Ended before what it wrote is read, not after: so all of it is.
        pid, status = os.waitpid(command.pid, os.WNOHANG)
        if taken := command.feed():
            self._line.send(TAKEN, command.number, NUMBER.pack(taken))
        for fd, kind in list(command.outputs.items()):
            while pid or len(self._line.unsent) < _ENOUGH:
                data = command.read(fd)
                if data is None:
                    break
                self._line.send(kind, command.number, data)
        if pid:
            command.close()
            del self._commands[command.number]
            code = os.waitstatus_to_exitcode(status)
            self._line.send(ENDED, command.number, NUMBER.pack(code))


def serve(fd: int) -> None:
    """Serve the host at the other end of ``fd`` until it asks for the end.

    :raises SystemExit: The host is gone, and so is everything that anybody waits for.
    """
    line = _Line(fd)
    line.send(READY, 0)
    _Agent(line).run()


def main() -> None:
    """Serve the port that is named, once stdin has ended: then the links have their carrier."""
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_CLOEXEC)
    sys.stdin.read()
    serve(fd)


if __name__ == "__main__":
    main()
