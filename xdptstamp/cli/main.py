# SPDX-License-Identifier: GPL-2.0-only
"""The ``xdptstamp`` command. A command's module is imported when it is called, not before."""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any

import click

from xdptstamp.errors import XdptstampError, printable

# name: (module, one line for --help)
_COMMANDS = {
    "caps": ("caps", "Say what this machine and a NIC can do, before a run."),
    "ping-pong": ("ping_pong", "Answer requests over AF_XDP and timestamp each reply (the DUT)."),
    "mixed": ("mixed", "Measure what timestamps cost: bandwidth, causes, hold time (the DUT)."),
    "ping": ("ping", "Send requests from the link partner, measure the round trip."),
    "conform": ("conform", "Judge a driver by the contract of AF_XDP Tx metadata, case by case."),
    "sink": ("sink", "Receive and count what mixed sends (the link partner)."),
    "show": ("show", "Show a run: what was measured, how sure it is, what is doubtful."),
    "compare": ("compare", "Hold runs against each other: what differs, and how sure that is."),
    "report": ("report", "Write runs as a page with plots, as a cover letter, as an image."),
    "export": ("export", "Write the samples of a run as CSV, Parquet, JSON or hwmeta lines."),
    "phc": ("phc", "Show, set and compare a NIC's clock."),
    "hwtstamp": ("hwtstamp", "Show, set and restore the NIC's timestamping setting."),
    "lab": ("lab", "Links to measure on without hardware."),
    "partner": ("partner", "Run a command on the link partner."),
}

_EPILOG = """Exit codes: 0 fine (missing stamps are results); 1 error; 2 usage; 3 not to be trusted,
or a --fail-if limit missed; 4 not supported here; 128+n ended by signal n before what was asked
was done."""


class _Failure(click.ClickException):
    # An error of ours as click shows it. What it names may come from a foreign run.
    def __init__(self, error: XdptstampError) -> None:
        super().__init__(printable(str(error)))
        self._exit_code = error.exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        return self._exit_code


class _LazyGroup(click.Group):
    # Knows the commands' names and help lines without importing what they need.
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(f"xdptstamp.cli.{entry[0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except XdptstampError as error:
            # Here alone an error becomes text and an exit code.
            raise _Failure(error) from error


@click.group(
    cls=_LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="xdptstamp", message="xdptstamp %(version)s")
def command() -> None:
    """Measure hardware transmit timestamps over AF_XDP.

    Try it without hardware: xdptstamp lab veth
    """


def _fill_standard_streams() -> None:
    # Where the caller closed one (>&-), the next file or socket would get its number, and text.
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest: fd


def main() -> None:
    """Run the command line."""
    # Until a command catches it to drain, Ctrl-C ends as it ends other programs, with no traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _fill_standard_streams()
    command(prog_name="xdptstamp")
