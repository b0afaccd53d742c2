# SPDX-License-Identifier: GPL-2.0-only
"""A sink on the link partner, from the sender's side: started, asked, ended.

Example::

    with SinkClient(partner_from_env(os.environ), os.environ) as sink:
        mac = sink.ready().mac
        ...
        received = sink.report().stream(7).received
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdptstamp.errors import SetupError
from xdptstamp.measure.sink_report import SinkReport
from xdptstamp.remote import Partner
from xdptstamp.stream import DEFAULT_PORT

START_LIMIT_S = 60.0
REPORT_LIMIT_S = 10.0
_END_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class SinkReady:
    """Where a sink listens.

    :param mac: of its interface: ``02:00:00:00:00:01``.
    :param mode: ``zero-copy`` or ``copy``; ``xdp_mode``: ``native`` or ``skb``.
    """

    ifname: str
    port: int
    mac: str
    mode: str
    xdp_mode: str


class SinkClient:
    """Starts ``xdptstamp sink`` on the partner, at once; it ends with :meth:`close`, or with us.

    In a session of its own, so that Ctrl-C reaches us alone. A context manager.

    :param environ: names the link (``REMOTE_V4``, ``REMOTE_V6``), goes on top of our environment.
    :param port: UDP port it takes.
    :param options: more options of the command: ``("--mode", "copy")``.
    :raises SetupError: The partner cannot be reached.
    """

    def __init__(
        self,
        partner: Partner,
        environ: Mapping[str, str],
        *,
        port: int = DEFAULT_PORT,
        options: Sequence[str] = (),
    ) -> None:
        self._subject = f"sink on {partner.subject}"
        self._ready: SinkReady | None = None
        self._read = b""
        # A file: nobody need read it while the sink runs.
        self._stderr = tempfile.TemporaryFile()
        try:
            self._process: subprocess.Popen[bytes] = partner.popen(
                _argv(port, options),
                env={**os.environ, **environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
            )
        except BaseException:
            self._stderr.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of what was started on the partner."""
        return self._process.pid

    def ready(self, timeout_s: float = START_LIMIT_S) -> SinkReady:
        """Wait until the sink takes packets; at once if it does already.

        :raises SetupError: It cannot start, in its own words; or it took too long.
        """
        if self._ready is None:
            data = self._receive("ready", timeout_s, "was not ready")
            with self._understood():
                self._ready = SinkReady(**data)
        return self._ready

    def check(self) -> None:
        """Do nothing while it runs; costs a microsecond.

        :raises SetupError: It has ended.
        """
        if self._process.poll() is not None:
            raise self._ended()

    def report(self, timeout_s: float = REPORT_LIMIT_S) -> SinkReport:
        """Its books, everything that is in its rings taken before.

        :raises SetupError: It has ended, or did not answer in time.
        """
        self.ready()
        self._send("report")
        data = self._receive("report", timeout_s, "gave no report")
        with self._understood():
            return SinkReport.from_json(data)

    def forget(self, stream_id: int) -> None:
        """Let it drop the books of a stream that is over.

        :raises SetupError: It has ended.
        """
        self._send(f"forget {stream_id}")

    def close(self) -> None:
        """End it and wait; it is killed if it does not end. May be called again."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        if self._stderr.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        self._skip_output(time.monotonic() + _END_LIMIT_S)
        try:
            process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._stderr.close()

    def __enter__(self) -> SinkClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _send(self, request: str) -> None:
        self.check()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{request}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self, kind: str, timeout_s: float, failure: str) -> dict[str, Any]:
        # The next line of that type; the type itself is taken out.
        deadline = time.monotonic() + timeout_s
        while True:
            line = self._line(deadline)
            if line is None:
                raise SetupError(self._subject, f"{failure} within {timeout_s:g} s")
            with self._understood():
                data: dict[str, Any] = json.loads(line)
                found = data.pop("type")
                if found == "error":
                    raise ValueError(data["message"])
            if found == kind:
                return data

    def _line(self, deadline: float) -> bytes | None:
        # None: it did not come in time.
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\n" not in self._read:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([fd], (), (), left_s)[0]:
                return None
            data = os.read(fd, 1 << 16)
            if not data:
                raise self._ended()
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _skip_output(self, deadline: float) -> None:
        # Its last words are more than a pipe holds.
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while select.select([fd], (), (), max(0, deadline - time.monotonic()))[0]:
            if not os.read(fd, 1 << 16):
                return

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            problem = f"said what is not understood ({error}): is it the same version?"
            raise SetupError(self._subject, problem) from error

    def _ended(self) -> SetupError:
        # It has closed its output, so it is over, or will be in a moment.
        try:
            code = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return SetupError(self._subject, "closed its output")
        words = self._last_words()
        if self._ready is None and words:
            return SetupError(self._subject, words)
        problem = f"ended with {_code_text(code)}"
        return SetupError(self._subject, f"{problem}: {words}" if words else problem)

    def _last_words(self) -> str:
        if self._stderr.closed:
            return ""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        lines = [line.strip() for line in lines if line.strip()]
        return lines[-1].removeprefix("Error: ") if lines else ""


def _argv(port: int, options: Sequence[str]) -> list[str]:
    head = [sys.executable, "-m", "xdptstamp", "sink", "--control", "--format", "jsonl"]
    return [*head, "--port", str(port), *options]


def _code_text(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
