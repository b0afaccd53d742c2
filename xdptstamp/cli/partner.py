# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp partner``: run a command on the link partner."""

from __future__ import annotations

import os

import click


@click.command(
    "partner",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command on the link partner.",
)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND...")
def command(argv: tuple[str, ...]) -> None:
    """Run COMMAND on the link partner that the environment names.

    REMOTE_TYPE and REMOTE_ARGS say where that is; `xdptstamp lab veth` sets them. The exit code
    is that of COMMAND, 127 if there is no such command. Without the variables it is 1: the
    command line is right, the set-up is not.
    """
    from xdptstamp.remote import partner_from_env

    partner_from_env(os.environ).execute(argv)
