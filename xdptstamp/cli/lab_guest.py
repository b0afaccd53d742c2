# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp lab guest``: a command in a guest that has the virtual I226."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli.params import DURATION

if TYPE_CHECKING:
    from xdptstamp.lab.guest import Guest, GuestConfig

_NS_PER_S = 1_000_000_000
_PER_UNIT = {"M": 1 << 20, "G": 1 << 30}
_MIN_MEMORY = 128 << 20

# What is passed on to the virtual NIC, which knows what it means: option, its own option.
_OF_THE_DEVICE = {
    "timestamp_delay": "--timestamp-delay",
    "wire_delay": "--delay",
    "speed": "--speed",
    "faults": "--fault",
}


def _memory(context: click.Context, param: click.Parameter, text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([MG])", text, re.ASCII)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 512M or 1G")
    size = int(match[1]) * _PER_UNIT[match[2]]
    if size < _MIN_MEMORY:
        raise click.BadParameter(f"{text!r} is too little; at least {_MIN_MEMORY >> 20}M")
    return size


@click.command(
    "guest", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option(
    "--kernel",
    default="recent",
    show_default=True,
    metavar="BZIMAGE",
    help="Kernel to boot; `recent` and `6.12` are Debian's, from scripts/guest_kit.",
)
@click.option(
    "--modules",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Its modules: what modules_install made. Default: beside it, or this machine's.",
)
@click.option(
    "--ports",
    "num_ports",
    type=click.IntRange(1, 2),
    default=2,
    show_default=True,
    help="With 2 the second is the link partner.",
)
@click.option(
    "--cpus",
    "num_cpus",
    type=click.IntRange(1, 64),
    help="Default: 2; 4 for kernels before 7.0, whose igc sends nothing in zero-copy mode with 2.",
)
@click.option("--memory", callback=_memory, default="512M", show_default=True, help="Of the guest.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="SPEC",
    help="Make the virtual NIC fail in that way; repeatable.",
)
@click.option(
    "--timestamp-delay", metavar="20us", help="From the wire to the Tx timestamp being there."
)
@click.option("--wire-delay", metavar="25ns", help="Of the wire between the ports.")
@click.option("--speed", metavar="2500", help="Of the wire, in Mbit/s.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the virtual NIC's notes of when each stamped packet was on the wire.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder that the guest can write to; default XDPTSTAMP_OUTPUT_DIR, else results.",
)
@click.option(
    "--boot-timeout",
    "boot_timeout_ns",
    type=DURATION,
    default="60s",
    show_default=True,
    help="From the start until COMMAND runs.",
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.pass_context
def guest(context: click.Context, /, argv: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND, or a shell, as root in a guest whose NIC is the virtual I226.

    The guest boots the kernel under QEMU with this machine's files, read-only but for one folder,
    and needs no privilege. The unmodified igc driver has the NIC; COMMAND finds it and its link
    partner in NETIF, LOCAL_V4, LOCAL_V6, REMOTE_V4, REMOTE_V6, REMOTE_TYPE and REMOTE_ARGS, which
    the other commands read as defaults.

    Every run made in it is held against what really happened on the wire: the error of each stamp
    is printed, and is added to the run's folder.

    The exit code is that of COMMAND, 128+n if signal n ended it, 127 if there is no such command;
    3 instead of 0 if the truth says that a run is not to be trusted; 4 if the kernel lacks what a
    guest takes. When the guest dies its console is shown.
    """
    from xdptstamp.cli._guest_command import run_command
    from xdptstamp.cli._truth import report_truth, run_folders
    from xdptstamp.lab.guest import Guest

    with Guest(_take_config(options)) as running:
        if not argv:
            click.echo(_hint(running), err=True)
        shell = os.environ.get("SHELL") or "/bin/sh"
        known = run_folders(running.config.writable)
        code = run_command(running, argv or (shell,), is_shell=not argv)
        made = sorted(run_folders(running.config.writable) - known)
        truth_code = report_truth(running.truth_path, made)
    context.exit(code or truth_code)


def _take_config(options: dict[str, Any]) -> GuestConfig:
    from xdptstamp.lab.guest import GuestConfig

    words = []
    for name, option in _OF_THE_DEVICE.items():
        value = options.pop(name)
        for item in value if isinstance(value, tuple) else (value,):
            words += [option, item] if item is not None else []
    return GuestConfig(
        boot_timeout_s=options.pop("boot_timeout_ns") / _NS_PER_S, device_options=words, **options
    )


def _hint(running: Guest) -> str:
    words = [f"{name}={value}" for name, value in running.environ.items()]
    return "\n".join(
        (
            f"Linux {running.kernel.release} runs, and this is a shell in it:",
            *(f"  {word}" for word in words),
            "Leave it to end the guest.",
        )
    )
