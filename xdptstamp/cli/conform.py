# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp conform``: the contract of AF_XDP Tx metadata, case by case."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli import dut_options
from xdptstamp.cli._conformance import exit_code, new_conformance
from xdptstamp.cli.session import catch_signals
from xdptstamp.text.conform.output import FORMATS

if TYPE_CHECKING:
    from xdptstamp.conform.case import Case
    from xdptstamp.conformance import Conformance
    from xdptstamp.dut import Dut
    from xdptstamp.kernellog import KernelLog
    from xdptstamp.measure.stop import Stop
    from xdptstamp.text.conform.output import ConformOutput


@click.command("conform")
@click.argument("ifname", envvar="NETIF", required=False)
@click.option(
    "--case", "keys", multiple=True, metavar="CASE", help="Run this case alone; repeatable."
)
@click.option(
    "--storm",
    "num_rounds",
    type=click.IntRange(1),
    metavar="N",
    help="Instead of the cases: N times a process that ends with stamps pending; with --case "
    "storm-kill: in this way alone.",
)
@dut_options.mode
@dut_options.xdp_mode
@click.option(
    "--dangerous", "is_daring", is_flag=True, help="Also cases that may crash this kernel."
)
@click.option("--strict", "is_strict", is_flag=True, help="A known fault is a failure.")
@click.option("--list", "is_list", is_flag=True, help="List the cases; run none.")
@click.option("--explain", metavar="CASE", help="Say what a case is about; run none.")
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Use the default route's or the ssh connection's interface; replace an XDP program.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="What is printed.",
)
def command(ifname: str | None, is_list: bool, explain: str | None, **options: Any) -> None:
    """Run the contract of AF_XDP Tx metadata against the driver of IFNAME, case by case.

    IFNAME defaults to NETIF of the environment, the link partner is the one it names. Some cases
    take the link down, change the MTU, the channels, the hwtstamp setting or the PHC for a moment:
    do not run it where something else needs the interface.
    """
    from xdptstamp.conform.catalogue import CASES, choose
    from xdptstamp.text.conform.rules import explain_lines, list_lines
    from xdptstamp.text.lines import write_lines

    if is_list:
        write_lines(list_lines([case.rule for case in CASES]))
        return
    if explain is not None:
        write_lines(explain_lines(choose((explain,))[0].rule))
        return
    if not ifname:
        raise click.UsageError("Missing argument 'IFNAME': the interface (or set NETIF).")
    keys, num_rounds = options.pop("keys"), options.pop("num_rounds")
    if num_rounds is None:
        code = _run(ifname, choose(keys), options)
    else:
        from xdptstamp.cli._conform_storm import run_storm

        code = run_storm(ifname, keys, num_rounds, options)
    click.get_current_context().exit(code)


def _run(ifname: str, cases: tuple[Case, ...], options: dict[str, Any]) -> int:
    from xdptstamp.conform.stand import RX_PORT
    from xdptstamp.dut import DutConfig, acquire
    from xdptstamp.kernellog import KernelLog
    from xdptstamp.measure.stop import Stop
    from xdptstamp.text.conform.output import open_conform_output

    config = DutConfig(
        ifname=ifname,
        queues=(),
        mode=options["mode"],
        xdp_mode=options["xdp_mode"],
        port=RX_PORT,
        hwtstamp="on",
        is_forced=options["is_forced"],
    )
    output = open_conform_output(options["form"], is_strict=options["is_strict"])
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(contextlib.closing(Stop()))
        signals = stack.enter_context(catch_signals(stop))
        log = stack.enter_context(KernelLog())
        with acquire(config, stop) as dut:
            done = _judge(dut, cases, (output, log, stop), is_daring=options["is_daring"])
        # Of the known faults those that show are told with the cases.
        done.notes += dut.guard.notes
        output.end(done)
    return exit_code(done, signals, is_strict=options["is_strict"])


def _judge(
    dut: Dut,
    cases: tuple[Case, ...],
    around: tuple[ConformOutput, KernelLog, Stop],
    *,
    is_daring: bool,
) -> Conformance:
    from xdptstamp.conform.runner import Runner
    from xdptstamp.conform.stand import Stand

    output, log, stop = around
    done = new_conformance(dut.nic, dut.mode)
    if log.problem:
        done.notes.append(log.problem)
    with Stand(dut, os.environ, stop) as stand:
        if stand.no_wire:
            done.notes.append(stand.no_wire)
        output.begin(done, len(cases))
        Runner(stand, log, is_daring=is_daring).run(cases, done, output.line)
    return done
