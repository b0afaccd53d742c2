# SPDX-License-Identifier: GPL-2.0-only
"""What the commands that read runs share: where runs are, where what they make goes, a reader that
goes away, an end by signal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from xdptstamp.cli.session import EXIT_SIGNAL
from xdptstamp.errors import XdptstampError

output_dir_option = click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of results; default XDPTSTAMP_OUTPUT_DIR, else ./results.",
)

_STDOUT = "-"

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    default=_STDOUT,
    show_default=True,
    help="A new file; -: standard output.",
)
force_option = click.option(
    "--force", "is_forced", is_flag=True, help="Replace the file of --output."
)


@contextlib.contextmanager
def opened_output(output: str, *, is_forced: bool, no_terminal: str = "") -> Iterator[IO[bytes]]:
    """Where a command writes to: the file of ``--output``, which appears when it is whole.

    :param no_terminal: what it writes, if that is nothing for a terminal.
    :raises RunFileError: If the file exists, or cannot be written.
    """
    if output != _STDOUT:
        from xdptstamp.store.export import new_output

        advice = "give another name, or --force"
        with new_output(Path(output), is_forced=is_forced, advice=advice) as out:
            yield out
            out.flush()
        return
    if no_terminal and sys.stdout.isatty():
        raise click.UsageError(f"{no_terminal}: give --output FILE, or a pipe.")
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


class _EndedError(BaseException):
    # No Exception: nothing on the way takes it for an error of its own.
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def ended_cleanly() -> Iterator[None]:
    """End as if by SIGPIPE when the reader of stdout is gone, and remove what is half written when
    a signal ends it."""
    caught = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    caught = [number for number in caught if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _end) for number in caught}
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        raise SystemExit(EXIT_SIGNAL + signal.SIGPIPE) from None
    except OSError as error:
        if isinstance(error, XdptstampError):
            raise
        _drop_stdout()
        why = error.strerror or str(error)
        raise XdptstampError(f"standard output cannot be written: {why}") from error
    except _EndedError as error:
        _drop_stdout()
        raise SystemExit(EXIT_SIGNAL + error.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    raise _EndedError(number)


# What is still in its buffer is not tried again when the interpreter ends.
def _drop_stdout() -> None:
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
