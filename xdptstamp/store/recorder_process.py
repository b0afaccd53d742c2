# SPDX-License-Identifier: GPL-2.0-only
"""The recorder process: takes posted blocks in, writes them, and drives the text output.

Run as a program it records without text. A module that adds text runs :func:`main` with its way
to open an :class:`~xdptstamp.store.guarded_output.Output`::

    if __name__ == "__main__":
        sys.exit(main(open_my_output))

Whatever happens to the measuring process, this one writes what was put and then ends. It ignores
SIGINT and SIGTERM: the measuring process decides when a run is over.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# What writing the CSV takes: imported now, while there is time, and not when somebody waits.
import pyarrow.compute  # noqa: F401
import pyarrow.csv  # noqa: F401

from xdptstamp.comparison import Comparison
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Batch
from xdptstamp.store.blocks import TakingSide
from xdptstamp.store.guarded_output import GuardedOutput, Output
from xdptstamp.store.recorder import Setup
from xdptstamp.store.recorder_start import take_over
from xdptstamp.store.recording import Recording
from xdptstamp.store.rundir import LOCK_NAME, decode_info
from xdptstamp.store.writer import limit_memory

# Posted blocks are looked for, not waited for: to wake this process up would cost the measuring
# one some ten microseconds per block. In that time the blocks take 13 million samples a second.
_LOOK_MS = 20
_TICK_S = 0.1
_MIN_FLUSH_S, _MAX_FLUSH_S = 1.0, 30.0
_STDOUT_FD = 1
_NICENESS = 5


def flush_interval(elapsed_s: float) -> float:
    """Seconds until the next flush: a kill costs at most a sixtieth of a run, or 30 s."""
    return min(max(elapsed_s / 60, _MIN_FLUSH_S), _MAX_FLUSH_S)


class RecorderProcess:
    """The life of a recorder process.

    :param conn: to the measuring process; its end is the measuring process's end.
    """

    def __init__(
        self,
        conn: Connection[Any, Any],
        setup: Setup,
        blocks: TakingSide,
        output: Output | None,
    ) -> None:
        self._conn = conn
        self._setup = setup
        self._blocks = blocks
        self._output = GuardedOutput(output, self._blocks)
        self._info = setup.info
        self._recording: Recording | None = None
        self._comparison = Comparison()
        self._is_over = False
        self._poll = select.poll()

    def run(self) -> None:
        """Record until the measuring process finishes, gives up or is gone."""
        signal.signal(signal.SIGUSR1, self._output.skip)
        self._poll.register(self._conn.fileno(), select.POLLIN)
        self._started = self._tick_due = self._flush_due = time.monotonic()
        self._conn.send(("ready", None))
        while not self._is_over:
            for fd, _ in self._poll.poll(None if self._recording is None else _LOOK_MS):
                if fd == self._conn.fileno():
                    self._on_message()
                else:
                    self._poll.unregister(fd)
                    self._output.lose_reader()
            if self._recording is not None and not self._is_over:
                self._take_posted(self._recording)
                self._on_time(self._recording)

    def _on_message(self) -> None:
        try:
            word, payload = self._conn.recv()
        except (EOFError, OSError):
            word, payload = "gone", None
        if word == "start":
            self._info = payload
            self._begin(decode_info(payload))
        elif word == "clock":
            sample, continues = payload
            self._comparison.add(sample, continues=continues)
        elif word == "drain":
            self._drain(decode_info(payload))
        elif word == "finish" and self._recording is not None:
            self._finish(self._recording, decode_info(payload))
        else:
            self._end_interrupted("killed" if word == "gone" else "error")

    def _begin(self, info: RunInfo) -> Recording:
        self._recording = Recording(self._setup.run_path, info, self._blocks)
        if self._output.is_wanted:
            # Asked for nothing, poll still tells when the reader of a pipe is gone.
            self._poll.register(_STDOUT_FD, 0)
        self._output.call(lambda output: output.start(info))
        self._started = time.monotonic()
        self._tick_due = self._started + _TICK_S
        self._flush_due = self._started + flush_interval(0)
        return self._recording

    def _take_posted(self, recording: Recording) -> None:
        for _ in range(self._blocks.num_posted()):
            self._record(recording, self._blocks.take())
            self._blocks.release()

    def _record(self, recording: Recording, batch: Batch) -> None:
        recording.add(batch)
        self._output.call(lambda output: output.batch(batch, recording.summary, self._status()))

    def _on_time(self, recording: Recording) -> None:
        now = time.monotonic()
        if now >= self._flush_due:
            recording.flush()
            self._flush_due = time.monotonic() + flush_interval(now - self._started)
        if now >= self._tick_due:
            self._output.call(lambda output: output.tick(recording.summary, self._status()))
            self._tick_due = time.monotonic() + _TICK_S

    def _drain(self, info: RunInfo) -> None:
        recording = self._recording or self._begin(decode_info(self._info))
        self._take_posted(recording)
        recording.compare(info)
        self._tell("drained", recording.summary)

    def _finish(self, recording: Recording, info: RunInfo) -> None:
        csv = recording.end(info, self._setup.csv_file)
        # The measuring process waits. If it is killed meanwhile, all that matters is on disk.
        self._tell("recorded", recording.problem)
        self._show_end(recording, info, csv)
        self._tell("shown", self._output.problem)
        self._is_over = True

    def _end_interrupted(self, ended_by: str) -> None:
        recording = self._recording
        if recording is None:
            self._output.skip()
            recording = self._begin(decode_info(self._info))
        for batch in self._blocks.left_behind():
            self._record(recording, batch)
        info = decode_info(self._info)
        info.state, info.ended_by = "interrupted", ended_by
        info.ended_utc = datetime.now(UTC).isoformat(timespec="seconds")
        info.counts["recorder_overruns"] = self._blocks.num_overrun
        if len(self._comparison):
            info.clock_comparison["samples"] = self._comparison.to_json()
        recording.compare(info)
        csv = recording.end(info, self._setup.csv_file)
        self._show_end(recording, info, csv)
        if ended_by == "killed":
            # Nobody else is left to do it.
            (self._setup.run_path / LOCK_NAME).unlink(missing_ok=True)
        self._is_over = True

    def _show_end(self, recording: Recording, info: RunInfo, csv: Path | None) -> None:
        info.obtained.setdefault("run_dir", str(self._setup.run_path))
        if csv is not None:
            info.obtained.setdefault("csv", str(csv))
        self._output.call(lambda output: output.end(info, recording.summary))

    def _tell(self, word: str, payload: object) -> None:
        with contextlib.suppress(OSError):
            self._conn.send((word, payload))

    def _status(self) -> dict[str, int]:
        return dict(zip(self._setup.status_names, self._blocks.status.tolist(), strict=True))


# A batch job does not preempt who measures when it wakes up. It also gives back a real-time
# priority, should it have inherited one.
def _be_modest() -> None:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.nice(_NICENESS)


def main(open_output: Callable[[Sequence[str]], Output] | None = None) -> int:
    """Be the recorder process that a :class:`xdptstamp.store.recorder.Recorder` started.

    :param open_output: makes the text output from ``Recorder``'s ``output_args``.
    :return: exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _be_modest()
    limit_memory()
    taken = take_over(int(sys.argv[1]), num_fds=3)
    if taken is None:
        return 0
    # The run folder's lock, the last of them, is only kept: the run is running while we do.
    conn, setup, (memory_fd, event_fd, _) = taken
    blocks = TakingSide(memory_fd, event_fd, setup.geometry)
    output = open_output(setup.output_args) if open_output is not None else None
    RecorderProcess(conn, setup, blocks, output).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
