# SPDX-License-Identifier: GPL-2.0-only
"""The process that is the NIC: ``python -m xdptstamp.lab.i226`` with its sockets."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xdptstamp.errors import SetupError
from xdptstamp.lab.guest.nics import served_socket

_MODULE = "xdptstamp.lab.i226"
_LIMIT_S = 20
_END_LIMIT_S = 5
_EXIT_USAGE = 2  # argparse's


class DeviceServer:
    """A running server. It ends with this process, however that ends: its stdin closes then.

    :param folder: where its sockets and its log go.
    :param truth: the file with the wire time of each stamped packet.
    :param options: further words of its command line.
    :raises SetupError: It did not start; with what it said.
    """

    def __init__(self, folder: Path, num_ports: int, truth: Path, options: Sequence[str]) -> None:
        self._control = folder / "control.sock"
        self._log = folder / "device.log"
        argv = [sys.executable, "-m", _MODULE]
        for number in range(num_ports):
            argv += ["--socket", str(served_socket(folder, number))]
        argv += ["--control", str(self._control), "--truth", str(truth), *options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def await_ready(self) -> None:
        """Return when it listens."""
        assert self._process.stdout is not None
        is_readable = select.select([self._process.stdout], [], [], _LIMIT_S)[0]
        if not is_readable or self._process.stdout.readline().strip() != b"ready":
            problem = f"not ready after {_LIMIT_S} s" if not is_readable else "has not started"
            self.close()
            error = SetupError("virtual I226", f"{problem}: {self.log or 'it said nothing'}")
            if self._process.returncode == _EXIT_USAGE:
                error.exit_code = _EXIT_USAGE
            raise error

    @property
    def log(self) -> str:
        """What it has said on stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace").strip()

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def control(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send one command (a fault, for one); returns the answer.

        :raises SetupError: The server is gone.
        """
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(_LIMIT_S)
                line.connect(str(self._control))
                line.sendall(json.dumps(command).encode() + b"\n")
                with line.makefile("rb") as answers:
                    answer = answers.readline()
        except OSError as error:
            raise SetupError("virtual I226", f"does not answer: {error}. {self.log}") from None
        return dict(json.loads(answer))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
