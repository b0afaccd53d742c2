# SPDX-License-Identifier: GPL-2.0-only
"""The process: one loop for the clients, the tester, the timers and the Tx queues."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from xdptstamp.lab.i226.control import Control
from xdptstamp.lab.i226.port import Port
from xdptstamp.lab.i226.schedule import Schedule
from xdptstamp.lab.i226.truth import TruthLog
from xdptstamp.lab.i226.vfio_user import Connection, HungUpError

# Tx descriptors of a queue in one round: some milliseconds at most until others are served.
_TX_ROUND = 64
# A client that takes no answers for so long is let go: the other one needs the server within 5 s.
_SEND_LIMIT_S = 2


class Server:
    """Serves ports, each on a UNIX socket of its own, until it is told to stop.

    One client at a time has a port; who comes while it is taken waits.
    """

    def __init__(self, ports: list[Port], schedule: Schedule, truth: TruthLog) -> None:
        self._ports = ports
        self._schedule = schedule
        self._truth = truth
        self._selector = selectors.DefaultSelector()
        self._is_stopped = False
        self._waking: socket.socket | None = None

    def listen(self, port: Port, path: Path) -> None:
        """Offer a port on a socket at ``path``."""
        sock = _listening(path)
        self._watch(sock, partial(self._connect, port, sock))

    def listen_for_control(self, path: Path) -> None:
        """Listen to testers on a socket at ``path``."""
        sock = _listening(path)
        self._watch(sock, partial(self._connect_control, sock))

    def watch_for_end(self, file: Any) -> None:
        """Stop when ``file`` ends.

        :raises OSError: It is nothing that can be waited for.
        """
        self._watch(file, partial(self._read_to_end, file))

    def stop_on(self, number: signal.Signals) -> None:
        """Stop at a signal."""
        # select goes on waiting after a signal's handler (PEP 475), but not past a byte.
        woken, waking = socket.socketpair()
        waking.setblocking(False)
        signal.set_wakeup_fd(waking.fileno())
        self._waking = waking
        self._watch(woken, partial(woken.recv, 64))
        signal.signal(number, lambda *_: self.stop())

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._is_stopped = True

    def run(self) -> None:
        """Serve."""
        schedule, ports = self._schedule, self._ports
        while not self._is_stopped:
            times_ns = [time for port in ports for time in port.times_ns()]
            for key, _ in self._selector.select(schedule.seconds_left(times_ns)):
                key.data()
            schedule.run()
            for port in ports:
                port.run(_TX_ROUND)
            for port in ports:
                port.receiver.run()
            self._truth.flush()

    def _watch(self, file: Any, action: Callable[[], object]) -> None:
        self._selector.register(file, selectors.EVENT_READ, action)

    def _connect(self, port: Port, listening: socket.socket) -> None:
        sock, _ = listening.accept()
        sock.settimeout(_SEND_LIMIT_S)
        self._selector.unregister(listening)
        connection = Connection(sock, port)
        self._watch(sock, partial(self._serve, port, connection, listening))

    def _serve(self, port: Port, connection: Connection, listening: socket.socket) -> None:
        try:
            connection.serve()
        except (HungUpError, OSError) as error:
            if str(error):
                print(f"i226: client of port {port.config.number}: {error}", file=sys.stderr)
            self._selector.unregister(connection.sock)
            connection.close()
            port.disconnect()
            self._watch(listening, partial(self._connect, port, listening))

    def _connect_control(self, listening: socket.socket) -> None:
        sock, _ = listening.accept()
        sock.settimeout(1)
        control = Control(sock, self._ports)
        self._watch(sock, partial(self._serve_control, control))

    def _serve_control(self, control: Control) -> None:
        if not control.serve():
            self._selector.unregister(control.sock)
            control.sock.close()

    def _read_to_end(self, file: Any) -> None:
        if not file.read1(4096):
            self.stop()


def _listening(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
    except OSError as error:
        raise OSError(f"no socket at {path}: {error}") from None
    sock.listen(4)
    return sock
