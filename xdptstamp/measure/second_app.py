# SPDX-License-Identifier: GPL-2.0-only
"""The second process of ``--two-apps``: one stamped packet in each interval, on its own queue.

It shares the adapter's stamp registers with the saturating sender, and not its completion ring.
Run as a program it serves the one that started it, and ends with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from xdptstamp.dut import DutConfig, capacity, open_socket
from xdptstamp.errors import SetupError, XdptstampError
from xdptstamp.histogram import Histogram
from xdptstamp.measure import mixed_samples
from xdptstamp.measure.pattern import RatioPattern
from xdptstamp.measure.phase import Phase, Sent
from xdptstamp.measure.sender import Sender
from xdptstamp.measure.spool import Spool
from xdptstamp.nic import Nic
from xdptstamp.sample import NULL, Batch
from xdptstamp.xsk import Mode

_START_LIMIT_S = 60.0
# Stamps may be pending when it is told to stop; it drains as every sender does.
_STOP_LIMIT_S = 30.0
_END_LIMIT_S = 5.0
_FOREVER_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class _Setup:
    config: DutConfig
    queue_id: int
    mode: Mode
    folder: Path
    spool_fd: int


class SecondApp:
    """The process, as the one that started it sees it. A context manager.

    :param config: of the DUT that is acquired; its sockets are opened alike.
    :param queue_id: a queue that nobody else has.
    :param folder: where samples wait.
    :raises SetupError: It does not start, in its own words.
    """

    def __init__(self, config: DutConfig, queue_id: int, mode: Mode, folder: Path) -> None:
        self.queue_id = queue_id
        self._spool = Spool(folder)
        ours, theirs = socket.socketpair()
        try:
            # In a session of its own: Ctrl-C reaches us alone, and we drain both.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._spool.fileno()),
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )
        finally:
            theirs.close()
        self._conn: Connection[Any, Any] = Connection(ours.detach())
        self._sent: Sent | None = None
        try:
            self._tell(_Setup(config, queue_id, mode, folder, self._spool.fileno()))
            self._hear(_START_LIMIT_S)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SecondApp:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def sent(self) -> Sent:
        """How its last stream went."""
        assert self._sent is not None, "it has not been stopped"
        return self._sent

    def check(self) -> None:
        """:raises SetupError: It has ended."""
        if self._process.poll() is not None:
            raise self._ended()

    def start(self, packet: bytes, payload_offset: int, every_ns: int) -> None:
        """Begin to send; returns once it does.

        :param packet: packet 0 of its stream, all of whose packets ask for a stamp.
        """
        self._tell((packet, payload_offset, every_ns))
        self._hear(_START_LIMIT_S)

    def stop(self) -> None:
        """Let it drain, and take how it went.

        :raises SetupError: It has ended.
        """
        self._tell("stop")
        self._sent = self._hear(_STOP_LIMIT_S)
        if self._sent is not None and self._sent.reason not in ("stop", "duration"):
            raise SetupError("the second app", self._sent.reason)

    def books(self, origin: mixed_samples.Origin, put: Callable[[Batch], None]) -> dict[str, Any]:
        """Judge and hand on the samples of the last stream.

        :return: for :attr:`~xdptstamp.rounds.Round.second_app`; ``latency`` is a histogram of
            submit to stamp in software, of submit to completion in hardware.
        """
        latency = Histogram()

        def take(batch: Batch) -> None:
            put(batch)
            end = "tx_comp_ns" if origin.rules[-1][1].is_hardware else "tx_sw_ns"
            is_known = (batch[end] != NULL) & (batch["tx_app_ns"] != NULL)
            latency.add((batch[end] - batch["tx_app_ns"])[is_known])

        sent = self.sent
        stamped, causes = mixed_samples.record(origin, self._spool, sent, take)
        self._spool.clear()
        return {
            "sent": sent.sent,
            "requested": sent.num_requested,
            "stamped": stamped,
            "causes": causes,
            "completed": sent.completed,
            "lost": len(sent.uncompleted),
            "latency": latency,
        }

    def close(self) -> None:
        """End it: its end of the connection is what it waits for."""
        self._conn.close()
        try:
            self._process.wait(_END_LIMIT_S + _STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._spool.close()

    def _tell(self, message: object) -> None:
        try:
            self._conn.send(message)
        except OSError:
            raise self._ended() from None

    def _hear(self, limit_s: float) -> Any:
        try:
            if not self._conn.poll(limit_s):
                problem = f"did not answer within {limit_s:.0f} s"
                raise SetupError("the second app", problem)
            answer = self._conn.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(answer, XdptstampError):
            raise answer
        return answer

    def _ended(self) -> SetupError:
        code = self._process.wait(_END_LIMIT_S)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return SetupError("the second app", f"has ended ({how}); measure again")


class _Server:
    # The process itself: one stream from "start" to "stop", as often as it is told.
    def __init__(self, conn: Connection[Any, Any], setup: _Setup, stack: contextlib.ExitStack):
        self._conn = conn
        nic = Nic(setup.config.ifname)
        xsk = open_socket(nic, setup.config, setup.queue_id, setup.mode)
        stack.callback(xsk.close)
        self._spool = stack.enter_context(Spool(setup.folder, setup.spool_fd))
        self._sender = Sender(xsk, capacity(nic, setup.mode, xsk.tx.size), 1, (conn.fileno(),))

    def serve(self) -> None:
        self._conn.send("ready")
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                self._run(*self._conn.recv())

    def _run(self, packet: bytes, payload_offset: int, every_ns: int) -> None:
        phase = Phase(
            packet=packet,
            payload_offset=payload_offset,
            pattern=RatioPattern(1, 0, 1),
            duration_ns=_FOREVER_NS,
            interval_ns=Fraction(every_ns),
        )
        self._conn.send("sending")
        sent = self._sender.run(phase, self._spool, self._look)
        self._spool.flush()
        if self._spool.error is not None:
            sent = dataclasses.replace(sent, reason=str(self._spool.error))
        self._conn.recv()  # "stop", which ended it or comes soon
        self._conn.send(sent)

    def _look(self) -> str | None:
        # News is "stop", or that nobody is there any more.
        if self._spool.error is not None:
            return str(self._spool.error)
        return "stop" if self._conn.poll(0) else None


def main() -> int:
    """Serve the one whose connection is named by the first argument."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    conn: Connection[Any, Any] = Connection(int(sys.argv[1]))
    with contextlib.ExitStack() as stack:
        try:
            server = _Server(conn, conn.recv(), stack)
        except XdptstampError as error:
            conn.send(SetupError("the second app", str(error)))
            return 1
        server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
