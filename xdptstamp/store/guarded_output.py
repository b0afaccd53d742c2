# SPDX-License-Identifier: GPL-2.0-only
"""What a text output of the recorder is, and how it is kept from harming the recording."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Batch
from xdptstamp.stats import Summary
from xdptstamp.store.blocks import TakingSide

_STDOUT_FD = 1

Problem = tuple[Path, str]


class Output(Protocol):
    """Shows a run on standard output while it is recorded.

    A closed stdout raises BrokenPipeError out of any method.
    """

    def start(self, info: RunInfo) -> None:
        """Show the header; what was obtained is known."""

    def batch(self, batch: Batch, summary: Summary, status: dict[str, int]) -> None:
        """Show new samples; ``batch`` is valid only during the call, ``summary`` includes it,
        and so does ``status``, the run's books."""

    def tick(self, summary: Summary, status: dict[str, int]) -> None:
        """Refresh what is live; about every 100 ms, also without new samples."""

    def end(self, info: RunInfo, summary: Summary) -> None:
        """Show the end; ``info.obtained`` says where it lies: ``run_dir`` and, if any, ``csv``;
        it holds the warnings."""


class _SkippedError(Exception):
    """Raised in the middle of an output that nobody wants any more."""


class GuardedOutput:
    """Calls an :class:`Output`; nothing it does stops the recording.

    :ivar problem: what it failed at, None while it works. A reader that went away is no problem.
    """

    def __init__(self, output: Output | None, blocks: TakingSide) -> None:
        self.problem: Problem | None = None
        self._output = output
        self._blocks = blocks
        self._is_calling = False

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything left to show things to."""
        return self._output is not None

    def call(self, show: Callable[[Output], None]) -> None:
        """Let ``show`` use the output, unless it failed, was skipped or lost its reader."""
        if self._output is None:
            return
        try:
            with self._calling():
                show(self._output)
                sys.stdout.flush()
        except _SkippedError:
            self._drop()
        except BrokenPipeError:
            self.lose_reader()
        except OSError as error:
            self._fail(f"cannot write the text output: {error.strerror or error}")
        except Exception as error:
            traceback.print_exc()
            self._fail(f"the text output failed, please report it: {error!r}")

    def lose_reader(self) -> None:
        """Show nothing any more, and ask the measuring side to stop: nobody reads it."""
        self._blocks.ask_to_stop()
        self._drop()

    def skip(self, *_: object) -> None:
        """Show nothing any more; a signal handler, which also ends a write that waits."""
        if self._is_calling:
            raise _SkippedError
        self._drop()

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        self._blocks.set_in_output(True)
        self._is_calling = True
        try:
            yield
        finally:
            self._is_calling = False
            self._blocks.set_in_output(False)

    def _fail(self, text: str) -> None:
        self.problem = (Path("standard output"), text)
        self._blocks.set_error(f"standard output: {text}")
        self._blocks.ask_to_stop()
        self._drop()

    # What is still buffered goes nowhere, or the interpreter would try to write it at exit.
    def _drop(self) -> None:
        self._is_calling = False
        self._blocks.set_in_output(False)
        self._output = None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDOUT_FD)
        os.close(nowhere)
