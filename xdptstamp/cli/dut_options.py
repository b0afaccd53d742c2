# SPDX-License-Identifier: GPL-2.0-only
"""Options that commands with AF_XDP sockets share, one decorator each."""

from __future__ import annotations

import click

from xdptstamp.cli.params import SCHED

mode = click.option(
    "--mode",
    type=click.Choice(["auto", "zero-copy", "copy"]),
    default="auto",
    show_default=True,
    help="auto: zero-copy wherever the interface advertises it, copy elsewhere.",
)
xdp_mode = click.option(
    "--xdp-mode",
    type=click.Choice(["auto", "native", "skb"]),
    default="auto",
    show_default=True,
    help="Where the XDP program runs: in the driver, or in the stack.",
)
cpu = click.option("--cpu", type=click.IntRange(0), metavar="N", help="Run on this CPU only.")
sched = click.option(
    "--sched", type=SCHED, help="Real-time priority, memory locked, no GC: fifo:50."
)
hwtstamp = click.option(
    "--hwtstamp",
    type=click.Choice(["auto", "on", "keep"]),
    default="auto",
    show_default=True,
    help="The NIC's setting: turn on only what is off, set it, or leave it.",
)
assume_phc_is_tai = click.option(
    "--assume-phc-is-tai",
    is_flag=True,
    help="Subtract across clocks as if the NIC's were CLOCK_TAI, whatever was measured.",
)
