# SPDX-License-Identifier: GPL-2.0-only
"""A recorder process from its start until it is told what to record.

It imports for half a second, in an emulated guest for some. That can go on beside what comes
before a run::

    with contextlib.closing(RecorderStart()) as start:
        ...                                               # open the NIC
        with Recorder(run_dir, start=start) as recorder:
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from xdptstamp.errors import SetupError

#: Module that is run as the recorder process where no text output is wanted.
PLAIN_MODULE = "xdptstamp.store.recorder_process"

_READY_LIMIT_S = 60.0


class RecorderStart:
    """A recorder process that waits; :meth:`close` kills it unless it was handed over.

    :param module: the module to run.
    :raises SetupError: If it cannot be started.
    """

    def __init__(self, module: str = PLAIN_MODULE) -> None:
        self._is_ours = True
        self._socket, theirs = socket.socketpair()
        # In a session of its own, so that Ctrl-C reaches only who measures.
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=_environment(),
            )
        except OSError as error:
            self._socket.close()
            problem = f"cannot start {sys.executable}: {error.strerror}"
            raise SetupError("recorder", problem) from error
        finally:
            theirs.close()

    def hand_over(
        self, setup: object, fds: Sequence[int]
    ) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
        """Tell it what to record; returns once it is ready to, and it is the caller's.

        :param fds: descriptors that it gets, as many as :func:`take_over` is asked for.
        :raises SetupError: It has ended, or does not get ready.
        """
        try:
            socket.send_fds(self._socket, [b"\0"], fds)
        except OSError:
            raise self._failure() from None
        conn: Connection[Any, Any] = Connection(self._socket.detach())
        try:
            conn.send(setup)
            if not conn.poll(_READY_LIMIT_S):
                conn.close()
                raise self._failure(is_late=True)
            conn.recv()
        except (EOFError, OSError):
            conn.close()
            raise self._failure() from None
        self._is_ours = False
        return self._popen, conn

    def close(self) -> None:
        """End it if nobody has taken it."""
        if self._is_ours:
            self._is_ours = False
            self._popen.kill()
            self._popen.wait()
            self._socket.close()

    def _failure(self, *, is_late: bool = False) -> SetupError:
        if is_late:
            problem = f"the recorder process was not ready within {_READY_LIMIT_S:.0f} s"
        else:
            self._socket.close()  # one that waits for us still ends then
            self._popen.wait()
            problem = f"the recorder process did not start ({ending(self._popen.returncode)})"
        self.close()
        return SetupError("recorder", f"{problem}; what it printed above says why")


def take_over(fd: int, num_fds: int) -> tuple[Connection[Any, Any], Any, list[int]] | None:
    """In the recorder process: wait for what :meth:`RecorderStart.hand_over` gives.

    :param fd: the number this process was started with.
    :return: the connection, the setup, the descriptors; None: nothing is to be recorded after all.
    """
    with socket.socket(fileno=fd) as line:
        data, fds, _, _ = socket.recv_fds(line, 1, num_fds)
        if not data:
            return None
        conn: Connection[Any, Any] = Connection(line.detach())
    return conn, conn.recv(), fds


def ending(returncode: int | None) -> str:
    """How a process ended, in words."""
    if returncode is not None and returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"


# The same modules as here (-P: and none from whatever folder the user stands in); and no pool of
# threads on cores that measure.
def _environment() -> dict[str, str]:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
