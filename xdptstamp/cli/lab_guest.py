# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp lab guest``: a command in a guest that has the virtual I226, or another NIC."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli.compare import FORMATS, parse_limits
from xdptstamp.cli.params import DURATION

if TYPE_CHECKING:
    from xdptstamp.lab.guest import Guest, GuestConfig

_NS_PER_S = 1_000_000_000
_PER_UNIT = {"M": 1 << 20, "G": 1 << 30}
_MIN_MEMORY = 128 << 20

# As xdptstamp.lab.guest.NICS has them; what is imported here costs every command.
_NICS = ("i226", "igb", "virtio")
_SERVED = "i226"

_OF_THE_SERIES = ("repeats", "fail_ifs", "output_format", "is_bisect")

# What is passed on to the virtual I226, which knows what it means: option, its own option.
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
    "kernels",
    multiple=True,
    default=("recent",),
    show_default="recent",
    metavar="BZIMAGE",
    help="Kernel to boot; `recent` and `6.12` are Debian's, from scripts/guest_kit. Repeatable: "
    "COMMAND runs on each, and their runs are compared; the first is the base.",
)
@click.option(
    "--modules",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Its modules: what modules_install made; as often as --kernel. Default: beside it, or "
    "this machine's.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Boot each kernel so many times, in turn.",
)
@click.option(
    "--fail-if",
    "fail_ifs",
    multiple=True,
    metavar="LIMIT",
    help="Of several kernels: exit with 3 if so, or if it cannot be told, as of compare: "
    "'bandwidth < -3%'. Repeatable.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="Of the comparison.",
)
@click.option(
    "--bisect",
    "is_bisect",
    is_flag=True,
    help="Exit codes for git bisect run: 0; 1 for 3, or if the kernel dies, or hangs until "
    "--timeout, under COMMAND; 125 if it cannot be tested.",
)
@click.option(
    "--nic",
    type=click.Choice(_NICS),
    default=_SERVED,
    show_default=True,
    help="The NIC: the virtual I226, or QEMU's own igb (Intel 82576) or virtio-net.",
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
    help="Make the virtual I226 fail in that way; repeatable.",
)
@click.option(
    "--timestamp-delay", metavar="20us", help="From the wire to the Tx timestamp being there."
)
@click.option("--wire-delay", metavar="25ns", help="Of the wire between the ports.")
@click.option("--speed", metavar="2500", help="Of the wire, in Mbit/s.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the virtual I226's notes of when each stamped packet was on the wire.",
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
@click.option(
    "--timeout",
    "timeout_ns",
    type=DURATION,
    help="How long COMMAND may run; if it has not ended by then, the guest is killed, and the exit "
    "code is 1. Default: no limit.",
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.pass_context
def guest(context: click.Context, /, argv: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND, or a shell, as root in a guest whose NIC is the virtual I226, or another.

    The guest boots the kernel under QEMU with this machine's files, read-only but for one folder,
    and needs no privilege. The kernel's unmodified driver has the NIC (the virtual I226: igc);
    COMMAND finds it and its link partner in NETIF, LOCAL_V4, LOCAL_V6, REMOTE_V4, REMOTE_V6,
    REMOTE_TYPE and REMOTE_ARGS, which the other commands read as defaults.

    Every run on the virtual I226 is held against what really happened on the wire: the error of
    each stamp is printed, and is added to the run's folder.

    Several kernels are booted in turn (A B, B A, A B, ...), and their runs are compared at the end.

    The exit code is that of COMMAND, 128+n if signal n ended it, 127 if there is no such command;
    3 instead of 0 if the truth says that a run is not to be trusted; 4 if the kernel lacks what a
    guest takes. When the guest dies its console is shown.

    COMMAND gets the signals that this command gets. A guest that hangs is killed by --timeout, by
    the third SIGINT or SIGTERM (2 to 30 s apart), on a terminal by ^] three times within a second
    (exit code 137), and 60 s after the terminal is closed (129). Before that its kernel is asked
    for blocked tasks and a backtrace of each CPU, which are shown.
    """
    from xdptstamp.cli._guest_series import Comparison, bisect_code, order_of, run_series

    series = {name: options.pop(name) for name in _OF_THE_SERIES}
    timeout_ns = options.pop("timeout_ns")
    configs = _take_configs(options)
    is_several = len(configs) * series["repeats"] > 1
    _refuse_what_is_of_several(series, len(configs), has_command=bool(argv), is_several=is_several)
    comparison = Comparison(parse_limits(series["fail_ifs"]), series["output_format"])
    runner = _Runner(argv, None if timeout_ns is None else timeout_ns / _NS_PER_S)

    def run() -> int:
        if not is_several:
            return runner.run(configs[0])[0]
        order = order_of(len(configs), series["repeats"])
        return run_series(configs, order, runner.run, comparison)

    code = bisect_code(run, lambda: runner.is_up) if series["is_bisect"] else run()
    context.exit(code)


class _Runner:
    """Runs the command in one guest after the other.

    :ivar is_up: a guest has booted, and its end has not come as it should.
    """

    def __init__(self, argv: tuple[str, ...], timeout_s: float | None) -> None:
        self.is_up = False
        self._argv = argv
        self._timeout_s = timeout_s

    def run(self, config: GuestConfig) -> tuple[int, list[Path]]:
        """Boot, run, hold what was measured against the truth; exit code and run folders."""
        from xdptstamp.cli._guest_command import run_command
        from xdptstamp.cli._guest_patience import Patience
        from xdptstamp.cli._truth import report_truth, run_folders
        from xdptstamp.lab.guest import Guest

        with Guest(config) as running:
            self.is_up = True
            if not self._argv:
                click.echo(_hint(running), err=True)
            shell = os.environ.get("SHELL") or "/bin/sh"
            known = run_folders(config.writable)
            patience = Patience(self._timeout_s)
            argv = self._argv or (shell,)
            code = run_command(running, argv, patience, is_shell=not self._argv)
            made = sorted(run_folders(config.writable) - known)
            truth_code = report_truth(running.truth_path, made) if config.nic_kind.is_served else 0
        self.is_up = False
        return code or truth_code, made


def _take_configs(options: dict[str, Any]) -> list[GuestConfig]:
    from xdptstamp.lab.guest import GuestConfig

    _refuse_what_is_of_the_i226(options)
    words = []
    for name, option in _OF_THE_DEVICE.items():
        value = options.pop(name)
        for item in value if isinstance(value, tuple) else (value,):
            words += [option, item] if item is not None else []
    kernels, modules = options.pop("kernels"), options.pop("modules")
    if modules and len(modules) != len(kernels):
        raise click.UsageError(
            f"--modules is there {len(modules)} times, --kernel {len(kernels)}: once for each"
        )
    timeout_s = options.pop("boot_timeout_ns") / _NS_PER_S
    return [
        GuestConfig(
            kernel=kernel, modules=folder, boot_timeout_s=timeout_s, device_options=words, **options
        )
        for kernel, folder in zip(kernels, modules or [None] * len(kernels), strict=True)
    ]


def _refuse_what_is_of_several(
    series: dict[str, Any], num_kernels: int, *, has_command: bool, is_several: bool
) -> None:
    if not has_command and (is_several or series["is_bisect"]):
        raise click.UsageError("several guests, and --bisect, take a COMMAND: -- COMMAND...")
    if series["fail_ifs"] and num_kernels < 2:
        raise click.UsageError(
            "--fail-if compares kernels: name a second --kernel; or give it to COMMAND"
        )


def _refuse_what_is_of_the_i226(options: dict[str, Any]) -> None:
    nic = options["nic"]
    if nic == _SERVED:
        return
    for name in (*_OF_THE_DEVICE, "truth"):
        if options[name] not in (None, ()):
            option = "--" + name.removesuffix("s").replace("_", "-")
            only = f"is of the virtual I226 (--nic {_SERVED}) alone"
            raise click.UsageError(f"{option} {only}; {nic} is a NIC of QEMU's own")


def _hint(running: Guest) -> str:
    words = [f"{name}={value}" for name, value in running.environ.items()]
    return "\n".join(
        (
            f"Linux {running.kernel.release} runs, and this is a shell in it:",
            *(f"  {word}" for word in words),
            "Leave it to end the guest.",
        )
    )
