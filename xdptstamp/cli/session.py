# SPDX-License-Identifier: GPL-2.0-only
"""What every measuring command shares: where results go, signals, verdict, exit code."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from xdptstamp.checks import FailIf
    from xdptstamp.measure.stop import Stop
    from xdptstamp.phcwatch import PhcWatch
    from xdptstamp.runinfo import RunInfo, Warning
    from xdptstamp.stats import Summary
    from xdptstamp.store.recorder import Recorder

_F = TypeVar("_F", bound=Callable[..., Any])

EXIT_ERROR = 1
EXIT_DOUBT = 3
EXIT_SIGNAL = 128

# What ends a run whose reader (`| head`) went away.
OUTPUT_CLOSED = "output closed"

_OPTION_NAMES = ("format", "output_dir", "label", "csv_file", "fail_ifs", "is_quiet")


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Where samples go and how they are shown; from :func:`result_options`."""

    format: str
    output_dir: Path | None
    label: str | None
    csv_file: Path | None
    fail_ifs: tuple[str, ...]
    is_quiet: bool
    assume_phc_is_tai: bool = False

    @classmethod
    def take_from(cls, options: dict[str, Any]) -> ResultOptions:
        """Take these out of a command's options."""
        assumed = options.pop("assume_phc_is_tai", False)
        taken = {name: options.pop(name) for name in _OPTION_NAMES}
        return cls(**taken, assume_phc_is_tai=assumed)


def result_options(formats: tuple[str, ...]) -> Callable[[_F], _F]:
    """Add the options of :class:`ResultOptions` to a command.

    :param formats: what ``--format`` offers; the first is the default.
    """
    options = (
        click.option(
            "--format",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="What is printed.",
        ),
        click.option(
            "--output-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of results; default XDPTSTAMP_OUTPUT_DIR, else ./results.",
        ),
        click.option("--label", help="Goes into the name of the run's folder."),
        click.option(
            "--csv",
            "csv_file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Also write all samples to this file.",
        ),
        click.option(
            "--fail-if",
            "fail_ifs",
            multiple=True,
            metavar="LIMIT",
            help="Exit with 3 if so: 'missing > 0.1%', 'turnaround p99 > 50us'. Repeatable.",
        ),
        click.option(
            "--quiet", "is_quiet", is_flag=True, help="Print nothing but what makes it fail."
        ),
    )

    def decorate(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class Signals:
    """SIGINT, SIGTERM and SIGHUP while a measurement runs: the first asks it to stop, draining
    follows; a second one skips what would still be printed, never the drain."""

    # timeout(1) and a terminal's group each send their own: that is one wish.
    _REPEAT_S = 0.5

    def __init__(self, stop: Stop) -> None:
        self.numbers: list[int] = []
        self._first_at = 0.0
        self._stop = stop
        self._skip_output: Callable[[], None] | None = None

    @property
    def names(self) -> list[str]:
        """The signals that came: "SIGINT"."""
        return [signal.Signals(number).name for number in self.numbers]

    def skip_output_with(self, skip_output: Callable[[], None]) -> None:
        """What a second signal calls."""
        self._skip_output = skip_output

    def note(self, number: int, _frame: object) -> None:
        """The signal handler."""
        if not self.numbers:
            self._first_at = time.monotonic()
        elif time.monotonic() - self._first_at < self._REPEAT_S:
            return
        self.numbers.append(number)
        self._stop.request(signal.Signals(number).name)
        if len(self.numbers) > 1 and self._skip_output is not None:
            self._skip_output()


@contextlib.contextmanager
def catch_signals(stop: Stop) -> Iterator[Signals]:
    """Turn SIGINT, SIGTERM and (without nohup) SIGHUP into a request to ``stop``."""
    signals = Signals(stop)
    caught = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    before = {number: signal.signal(number, signals.note) for number in caught}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Session:
    """One run from its folder to its exit code.

    :param info: of kind and what is asked; filled in as the run goes.
    :param status_names: the live counters.
    :param shows_samples: print them while they come; else the command prints for itself.
    :raises click.UsageError: If a ``--fail-if`` cannot be read.
    :raises RunFileError: If ``--csv`` cannot be written there.
    """

    def __init__(
        self,
        info: RunInfo,
        options: ResultOptions,
        status_names: tuple[str, ...],
        *,
        shows_samples: bool = True,
    ) -> None:
        self._info = info
        self._options = options
        self._status_names = status_names
        self._fail_ifs = _parse_fail_ifs(options.fail_ifs, info.kind)
        if options.csv_file is not None:
            from xdptstamp.store.export import check_new_file

            check_new_file(options.csv_file)  # before anything is touched or made for it
        from xdptstamp.store.recorder_start import PLAIN_MODULE, RecorderStart

        # It imports while the command goes on to what comes before the run.
        self._start = RecorderStart("xdptstamp.cli._recorder" if shows_samples else PLAIN_MODULE)
        self._clocks: PhcWatch | None = None
        self._stack = contextlib.ExitStack()
        self.recorder: Recorder
        self.run_path: Path

    def following(self, clocks: PhcWatch | None) -> Session:
        """Itself, to be entered; it will keep how these clocks compare."""
        self._clocks = clocks
        return self

    def __enter__(self) -> Session:
        from xdptstamp.cli._recorder import output_args
        from xdptstamp.store import Recorder, create_run

        options = self._options
        with self._stack:
            self._stack.callback(self.close)
            run_dir = self._stack.enter_context(create_run(options.output_dir, self._info))
            self.run_path = run_dir.path
            self.recorder = self._stack.enter_context(
                Recorder(
                    run_dir,
                    start=self._start,
                    output_args=output_args(options.format, is_quiet=options.is_quiet),
                    status_names=self._status_names,
                    csv_file=options.csv_file,
                )
            )
            if self._clocks is not None:
                self._clocks.tell(self.recorder.note_clock)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def close(self) -> None:
        """Leave nothing of a session that was not entered."""
        self._start.close()

    def tick(self, status: dict[str, int]) -> str | None:
        """Hand live counts and samples on; returns why the run must end, or None."""
        recorder = self.recorder
        recorder.status[:] = [status[name] for name in self._status_names]
        recorder.flush()
        if recorder.error:
            return recorder.error
        return OUTPUT_CLOSED if recorder.should_stop else None

    def finish(self, on_summary: Callable[[Summary], None] | None = None) -> Summary:
        """Write and show everything; ``info`` is complete but for the verdict.

        :param on_summary: adds to ``info`` what follows from the summary, before the verdict.
        """
        self._info.counts["recorder_overruns"] = self.recorder.num_overrun
        self._info.ended_utc = now_utc()

        def judge(summary: Summary) -> None:
            if on_summary is not None:
                on_summary(summary)
            self._judge(summary)

        return self.recorder.finish(self._info, judge=judge)

    def _judge(self, summary: Summary) -> None:
        from xdptstamp.checks import run_warnings

        info = self._info
        missed = (fail_if.check(info, summary) for fail_if in self._fail_ifs)
        info.warnings += [*run_warnings(info, summary), *(each for each in missed if each)]

    def exit_code(self, signals: Signals, *, is_bounded: bool) -> int:
        """What the command ends with.

        :param is_bounded: a count or a duration was asked for, so a signal came too early.
        """
        if is_bounded and self._info.state == "interrupted":
            if signals.numbers:
                return EXIT_SIGNAL + signals.numbers[0]
            if self._info.ended_by == OUTPUT_CLOSED:
                # As a program that SIGPIPE ends; here the signal is ignored, to drain.
                return EXIT_SIGNAL + signal.SIGPIPE
        return 0 if self._info.is_trusted else EXIT_DOUBT


def _parse_fail_ifs(texts: tuple[str, ...], kind: str) -> list[FailIf]:
    if not texts:
        return []
    from xdptstamp.checks import parse_fail_if

    try:
        return [parse_fail_if(text, kind) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fail-if") from error


def new_info(kind: str, label: str | None, asked: dict[str, Any]) -> RunInfo:
    """The run info of a run that is about to begin."""
    from xdptstamp.runinfo import RunInfo

    return RunInfo(
        run_id="",
        kind=kind,
        state="running",
        started_utc=now_utc(),
        argv=["xdptstamp", *sys.argv[1:]],
        label=label,
        asked=asked,
    )


def clock_step_warnings(clock_step_ns: int) -> list[Warning]:
    """The doubt that a step of CLOCK_TAI brings; none if it was 0."""
    from xdptstamp.runinfo import Warning

    if not clock_step_ns:
        return []
    return [
        Warning(
            key="clock-step",
            message="CLOCK_TAI was set during the run; intervals across that are wrong",
            value=f"{clock_step_ns} ns",
            limit="0",
            advice="let the clock be set before measuring (NTP, the TAI offset)",
            is_untrusted=True,
        )
    ]


def now_utc() -> str:
    """The time for ``started_utc`` and ``ended_utc``."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
