# SPDX-License-Identifier: GPL-2.0-only
"""The measuring process's way to its recorder process.

::

    with create_run(None, info) as run_dir, Recorder(run_dir, status_names=["sent"]) as recorder:
        recorder.start(info)                # what was obtained is known: the header can be shown
        while measuring:
            recorder.put(batch)             # copies, never waits, never fails
            recorder.status[0] = num_sent
            recorder.flush()                # when idle, or every 100 ms
            if recorder.should_stop or recorder.error:
                break
        info.counts["recorder_overruns"] = recorder.num_overrun
        summary = recorder.finish(info)

The recorder writes the Parquet files and drives the text output. It is a new program, not a
fork: what the measuring process maps and locks is not copied. It inherits CPU affinity as every
child does, so start its process before you pin or raise yourself, and ``keep_off`` it the CPU
you then pin to; its scheduling is that of a batch job, which preempts nobody by waking up. If the
measuring process is killed, the recorder still writes what was put and ends the run. If the
recorder is killed, ``error`` says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from xdptstamp.clock import ClockSample
from xdptstamp.errors import RunFileError
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Batch
from xdptstamp.stats import Summary
from xdptstamp.store.blocks import BLOCK_ROWS, NUM_BLOCKS, Geometry, PostingSide, make_memory
from xdptstamp.store.export import check_new_file
from xdptstamp.store.recorder_start import RecorderStart, ending
from xdptstamp.store.rundir import RunDir, encode_info

_STALL_LIMIT_S = 60.0
_ABORT_LIMIT_S = 10.0
_ROOM_STEP_S = 0.005  # the recorder looks for blocks every 20 ms
_LOOK_S = 0.25  # how often a wait, or `error`, looks whether the recorder lives


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """What a recorder process is told before a run; with it come the descriptors of the samples'
    memory, of the blocks' event and of the run folder's lock."""

    run_path: Path
    info: bytes
    geometry: Geometry
    status_names: tuple[str, ...]
    csv_file: Path | None
    output_args: tuple[str, ...]


class Recorder:
    """Hands samples to a recorder process; a :class:`xdptstamp.sample.SampleSink`.

    Make it, or its ``start``, before scheduling, CPU affinity or memory locks are set; returns
    once the recorder process is ready, about half a second after its start.

    :param run_dir: where to record.
    :param start: the process, started before; default: one without text output starts now.
    :param output_args: for the text output, handed to the process's module as they are.
    :param status_names: names of the live counters in ``status``.
    :param csv_file: a CSV wanted besides, of however many rows; it must not exist.
    :param num_blocks: blocks the recorder may lag behind.
    :param block_rows: samples of a block.
    :raises RunFileError: If ``csv_file`` exists or cannot be made.
    :raises SetupError: If the recorder process does not start.
    """

    def __init__(
        self,
        run_dir: RunDir,
        *,
        start: RecorderStart | None = None,
        output_args: Sequence[str] = (),
        status_names: Sequence[str] = (),
        csv_file: Path | None = None,
        num_blocks: int = NUM_BLOCKS,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        if csv_file is not None:
            check_new_file(csv_file)
        self._run_dir = run_dir
        self._is_ended = False
        self._next_look = 0.0
        self._death: str | None = None
        self._has_stalled = False
        geometry = Geometry(num_blocks, block_rows, len(status_names))
        with contextlib.ExitStack() as fds:
            memory_fd = make_memory(geometry)
            fds.callback(os.close, memory_fd)
            self._event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            fds.callback(os.close, self._event_fd)
            self._blocks = PostingSide(memory_fd, self._event_fd, geometry)
            setup = Setup(
                run_path=run_dir.path,
                info=encode_info(run_dir.info),
                geometry=geometry,
                status_names=tuple(status_names),
                csv_file=csv_file and csv_file.absolute(),
                output_args=tuple(output_args),
            )
            handed = (memory_fd, self._event_fd, run_dir.lock_fd)
            self._popen, self._conn = (start or RecorderStart()).hand_over(setup, handed)
            os.close(memory_fd)
            fds.pop_all()

    @property
    def pid(self) -> int:
        """Process id of the recorder process."""
        return self._popen.pid

    @property
    def num_overrun(self) -> int:
        """Samples that were put while no block was free; they are not recorded."""
        return self._blocks.num_overrun

    @property
    def num_waiting(self) -> int:
        """Blocks the recorder has not taken in yet."""
        return self._blocks.num_waiting

    @property
    def status(self) -> npt.NDArray[np.int64]:
        """The live counters, in the order of their names: write them here."""
        return self._blocks.status

    @property
    def should_stop(self) -> bool:
        """Whether nobody reads the text output any more (a read of shared memory)."""
        return self._blocks.should_stop

    @property
    def error(self) -> str | None:
        """What the recorder failed at, or that it is gone; None while all is well.

        A read of shared memory, and four times a second a look at the process.
        """
        now = time.monotonic()
        if now >= self._next_look and not self._is_ended:
            self._next_look = now + _LOOK_S
            if self._popen.poll() is not None:
                self._death = self._death_text()
        return self._blocks.error or self._death

    def start(self, info: RunInfo) -> None:
        """Tell the recorder what runs; before this it takes nothing in and shows nothing."""
        data = encode_info(info)
        # A recorder that is gone is seen by `error` and named by `finish`.
        with contextlib.suppress(OSError):
            self._conn.send(("start", data))

    def put(self, batch: Batch) -> None:
        """Copy samples to the recorder. Never blocks; without room they count as overrun."""
        self._blocks.put(batch)

    def put_all(self, batch: Batch) -> None:
        """Copy samples to the recorder, waiting for room: for when nothing is being measured.

        :raises RunFileError: If the recorder has failed or is gone.
        """
        rows = self._blocks.rows_per_block
        for start in range(0, len(batch), rows):
            while not self._blocks.has_room:
                if self.error:
                    raise RunFileError(self._run_dir.path, self.error)
                time.sleep(_ROOM_STEP_S)
            self._blocks.put(batch[start : start + rows])

    def flush(self) -> None:
        """Let the recorder have what was put so far. Never blocks."""
        self._blocks.flush()

    def keep_off(self, cpus: Iterable[int]) -> bool:
        """Keep the recorder process off CPUs that measure.

        :return: whether it is; not if it has no other one, or is gone.
        """
        with contextlib.suppress(ProcessLookupError):
            others = os.sched_getaffinity(self.pid) - set(cpus)
            if others:
                os.sched_setaffinity(self.pid, others)
                return True
        return False

    def note_clock(self, sample: ClockSample, continues: bool) -> None:
        """Tell how clocks compare, for what is left if this process is killed. Never blocks.

        :param continues: whether it goes on with the sample before.
        """
        # Where the recorder has not read for long, it does without: `finish` has them all.
        if select.select((), (self._conn,), (), 0)[1]:
            with contextlib.suppress(OSError):
                self._conn.send(("clock", (sample, continues)))

    def skip_output(self) -> None:
        """Show nothing any more, not even what is being shown. Safe in a signal handler."""
        if not self._is_ended:
            self._popen.send_signal(signal.SIGUSR1)

    def finish(
        self,
        info: RunInfo,
        *,
        judge: Callable[[Summary], None] | None = None,
        skip_output: bool = False,
    ) -> Summary:
        """Hand over the rest, and wait until all is written and shown.

        :param info: the run info at the end, of the ``kind`` the run began with.
        :param judge: called with the summary before ``info`` is written and shown; may add to
            ``info`` what follows from the samples, such as warnings.
        :param skip_output: show nothing any more.
        :return: the summary of all samples recorded.
        :raises RunFileError: If something could not be written or shown, or the recorder is
            gone; what was closed before is there, and ``run.json`` is valid.
        """
        self._blocks.post_last()
        if skip_output:
            self.skip_output()
        summary: Summary = self._ask(info, "drain", encode_info(info), "drained")
        if judge is not None:
            judge(summary)
        problem = self._ask(info, "finish", encode_info(info), "recorded")
        shown_problem = self._ask(info, None, None, "shown")
        self._end()
        if problem or shown_problem:
            raise RunFileError(*(problem or shown_problem))
        return summary

    def close(self) -> None:
        """End a recorder that was not finished: what was put is written, and "interrupted"."""
        if not self._is_ended:
            with contextlib.suppress(OSError):
                self._conn.send(("abort", None))
            self._end(_ABORT_LIMIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Sends a message, if any, and waits for the answer.
    def _ask(self, info: RunInfo, word: str | None, payload: object, answer: str) -> Any:
        try:
            if word is not None:
                self._conn.send((word, payload))
            return self._receive(answer)
        except (EOFError, OSError) as error:
            self._end()
            self._mark_interrupted(info)
            raise RunFileError(self._run_dir.path, self._death_text()) from error

    # The recorder may take long over a big CSV, and for ever if who reads its output does; without
    # either it must get on.
    def _receive(self, answer: str) -> Any:
        seen, since = self._blocks.heartbeat, time.monotonic()
        while not self._conn.poll(_LOOK_S):
            heartbeat = self._blocks.heartbeat
            if heartbeat != seen or self._blocks.is_in_output:
                seen, since = heartbeat, time.monotonic()
            elif time.monotonic() - since > _STALL_LIMIT_S:
                self._has_stalled = True
                self._popen.kill()
        word, payload = self._conn.recv()
        if word != answer:
            raise AssertionError(f"the recorder answered {word!r}, not {answer!r}")
        return payload

    # By now the recorder ends by itself; if not, it must not outlive the run.
    def _end(self, limit_s: float = _STALL_LIMIT_S) -> None:
        try:
            self._popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if not self._is_ended:
            self._is_ended = True
            self._blocks.close()
            self._conn.close()
            os.close(self._event_fd)

    def _mark_interrupted(self, info: RunInfo) -> None:
        info = dataclasses.replace(info, state="interrupted", ended_by="recorder")
        self._run_dir.write_info(info)

    def _death_text(self) -> str:
        if self._blocks.error:
            return self._blocks.error
        how = f"ended early ({ending(self._popen.returncode)})"
        if self._has_stalled:
            how = f"stood still for {_STALL_LIMIT_S:.0f} s and was ended: is the disk there?"
        return f"the recorder process {how}; samples are kept up to its last flush. Measure again"
