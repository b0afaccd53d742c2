# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp sink``: the link partner receives what ``mixed`` sends, and counts it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli import dut_options
from xdptstamp.cli.params import DURATION
from xdptstamp.cli.session import EXIT_DOUBT, catch_signals
from xdptstamp.errors import SetupError, XdptstampError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xdptstamp.cli._sink_output import SinkOutput
    from xdptstamp.dut import Dut, DutConfig

# NETIF names the other end of the link: from there this one is the remote.
_OWN_ADDRESSES = ("REMOTE_V4", "REMOTE_V6")


@click.command("sink")
@click.argument("ifname", required=False)
@click.option(
    "--queue",
    "queues",
    type=click.IntRange(0),
    multiple=True,
    metavar="N",
    help="Queue to receive on; repeatable. Default: all.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=9093,
    show_default=True,
    help="UDP port to receive.",
)
@dut_options.mode
@dut_options.xdp_mode
@click.option("--duration", "duration_ns", type=DURATION, help="End after this time.")
@dut_options.cpu
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Use lo, the default route's or the ssh connection's interface, or a port in use; replace "
    "an XDP program.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="What is printed.",
)
@click.option(
    "--control",
    "is_controlled",
    is_flag=True,
    help="Answer lines of stdin; end when it closes. Needs --format jsonl.",
)
def command(
    duration_ns: int | None,
    cpu: int | None,
    output_format: str,
    is_controlled: bool,
    **options: Any,
) -> None:
    """Receive the packets of `xdptstamp mixed` on IFNAME over AF_XDP, and count them.

    IFNAME defaults to the interface that has the address REMOTE_V4 or REMOTE_V6 of the
    environment. Stops at --duration or at Ctrl-C.

    Lines of stdin that --control answers: `report` with the counts so far; `forget STREAM` drops
    those of one stream.
    """
    if is_controlled and output_format != "jsonl":
        raise click.UsageError("--control answers in JSON lines: add --format jsonl.")
    from xdptstamp.cli._sink_output import open_sink_output

    ifname = options.pop("ifname") or _own_interface(os.environ)
    queues = tuple(dict.fromkeys(options.pop("queues"))) or None
    output = open_sink_output(output_format)
    config = _dut_config(ifname, queues, options)
    exit_code = _run(config, output, duration_ns, cpu, is_controlled=is_controlled)
    click.get_current_context().exit(exit_code)


def _own_interface(environ: Mapping[str, str]) -> str:
    from xdptstamp.nic import find_link_by_address

    addresses = [environ[name] for name in _OWN_ADDRESSES if environ.get(name)]
    if not addresses:
        raise click.UsageError(
            "Missing argument 'IFNAME': the interface (or set REMOTE_V4 or REMOTE_V6)."
        )
    for address in addresses:
        try:
            ifname = find_link_by_address(address)
        except ValueError as error:
            raise SetupError("REMOTE_V4, REMOTE_V6", str(error)) from None
        if ifname is not None:
            return ifname
    raise click.UsageError(
        f"Missing argument 'IFNAME': no interface here has the address {' or '.join(addresses)} "
        "(REMOTE_V4, REMOTE_V6); run it on the link partner (xdptstamp partner -- ...)."
    )


def _dut_config(
    ifname: str, queues: tuple[int, ...] | None, options: Mapping[str, Any]
) -> DutConfig:
    from xdptstamp.dut import DutConfig
    from xdptstamp.measure.sink import num_frames
    from xdptstamp.nic import Nic

    num_queues = len(queues) if queues else max(1, Nic(ifname).num_queues().usable)
    return DutConfig(
        ifname=ifname,
        queues=queues,
        hwtstamp="keep",
        num_frames=num_frames(num_queues),
        is_sink=True,
        **options,
    )


def _run(
    config: DutConfig,
    output: SinkOutput,
    duration_ns: int | None,
    cpu: int | None,
    *,
    is_controlled: bool,
) -> int:
    from xdptstamp.cli._sink_control import Control
    from xdptstamp.cli._sink_output import doubts
    from xdptstamp.dut import acquire
    from xdptstamp.kernellog import KernelLog
    from xdptstamp.measure.realtime import real_time
    from xdptstamp.measure.sink import Sink
    from xdptstamp.measure.stop import Stop

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(contextlib.closing(Stop()))
        stack.enter_context(catch_signals(stop))
        log = stack.enter_context(KernelLog())
        stack.enter_context(real_time(cpu, None))
        dut = stack.enter_context(acquire(config, stop))
        sink = Sink(dut)
        output.ready(_ready(dut))
        control = Control(sink, output) if is_controlled else None
        ended_by = sink.run(stop, duration_ns, control)
        report = sink.finish()
        found = doubts(report, log.lines())
        output.end(report, ended_by, found)
    if sink.failure is not None:
        raise XdptstampError(sink.failure)
    return EXIT_DOUBT if found else 0


def _ready(dut: Dut) -> dict[str, Any]:
    # What the sender wants to know of this end.
    return {
        "ifname": dut.nic.ifname,
        "port": dut.config.port,
        "mac": dut.nic.mac,
        "mode": "zero-copy" if dut.is_hardware else "copy",
        "xdp_mode": dut.program.xdp_mode,
    }
