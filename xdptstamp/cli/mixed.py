# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp mixed``: what timestamps cost when stamped and plain packets share a queue."""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from xdptstamp.cli import dut_options
from xdptstamp.cli.params import DURATION, RATE, RATIOS, SIZES
from xdptstamp.cli.session import ResultOptions, result_options
from xdptstamp.stream import DEFAULT_PORT

if TYPE_CHECKING:
    from xdptstamp.cli._mixed_run import Asked
    from xdptstamp.measure.mixed_plan import MixedConfig
    from xdptstamp.rounds import Setting

TX_RING_SIZE = 1024


@click.command("mixed")
@click.argument("ifname", envvar="NETIF", required=False)
@click.option(
    "--ratio",
    "ratios",
    type=RATIOS,
    default="1:10",
    show_default=True,
    metavar="T:N,..",
    help="T stamped packets, then N plain ones. The baseline 0:1 is always measured.",
)
@click.option(
    "--size",
    "sizes",
    type=SIZES,
    default="64",
    show_default=True,
    metavar="BYTES,..",
    help="Frames with their FCS.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="R",
    help="Rounds; each has every setting once, in random order.",
)
@click.option(
    "--duration",
    "duration_ns",
    type=DURATION,
    default="5s",
    show_default=True,
    help="Of one setting in one round.",
)
@click.option("--seed", type=click.IntRange(0), help="Of the order; default: random, recorded.")
@click.option(
    "--batch",
    type=click.IntRange(1, TX_RING_SIZE),
    default=1024,
    show_default=True,
    metavar="N",
    help="Packets submitted together at most.",
)
@click.option("--rate", type=RATE, help="100kpps, 1Gbit (on the wire); default: all that goes.")
@click.option(
    "--max-pending-timestamps",
    "max_pending",
    type=click.IntRange(0),
    metavar="K",
    help="The next stamped packet waits while K are pending; 0: no limit. Default: no limit, or 2 "
    "where something else uses the NIC's timestamps.",
)
@click.option("--to", metavar="HOST", help="Where to; default REMOTE_V4, else REMOTE_V6.")
@click.option("--dst-mac", metavar="MAC", help="Its MAC address; default: the kernel's next hop.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="UDP port, of source and destination.",
)
@click.option(
    "--no-sink",
    "has_sink",
    flag_value=False,
    default=True,
    help="Start no sink on the partner that the environment names.",
)
@click.option(
    "--two-apps",
    "has_two_apps",
    is_flag=True,
    help="Instead of --ratio: a second process, off and on, sends a stamped packet per --interval.",
)
@click.option(
    "--interval",
    "every_ns",
    type=DURATION,
    default="1ms",
    show_default=True,
    help="Of --two-apps.",
)
@click.option(
    "--same-queue",
    is_flag=True,
    help="With --two-apps: one process sends both on one queue, whose completions it owns.",
)
@click.option(
    "--queue", type=click.IntRange(0), default=0, show_default=True, help="Queue to send on."
)
@click.option(
    "--second-queue",
    type=click.IntRange(0),
    metavar="N",
    help="Queue of the second app; default: the next one.",
)
@dut_options.mode
@dut_options.xdp_mode
@click.option(
    "--wait",
    type=click.Choice(["poll", "spin"]),
    default="poll",
    show_default=True,
    help="Sleep while there is nothing to do, or never sleep.",
)
@dut_options.cpu
@dut_options.sched
@dut_options.hwtstamp
@dut_options.assume_phc_is_tai
@click.option(
    "--record-all", "records_all", is_flag=True, help="Keep a sample of each plain packet, too."
)
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Use lo, the default route's or the ssh connection's interface; replace an XDP program.",
)
@result_options(("table", "jsonl"))
def command(**options: Any) -> None:
    """Measure what Tx timestamps cost on IFNAME: bandwidth, causes of missing ones, hold time.

    Sends T stamped packets, then N plain ones, repeated exactly, beside a baseline without
    stamps, in several rounds. `xdptstamp sink` on the link partner counts what arrives; it is
    started there where the environment names a partner. IFNAME defaults to NETIF.
    """
    from xdptstamp.cli._mixed_run import run_mixed
    from xdptstamp.dut import DutConfig

    results = ResultOptions.take_from(options)
    if not options["ifname"]:
        raise click.UsageError("Missing argument 'IFNAME': the interface (or set NETIF).")
    asked = _take_asked(options)
    config = _take_config(options, asked)
    dut_config = DutConfig(
        queues=(options.pop("queue"),),
        port=None,
        num_tx_frames=TX_RING_SIZE,
        max_tx_skb_budget=TX_RING_SIZE,
        **options,
    )
    exit_code = run_mixed(dut_config, config, asked, results)
    click.get_current_context().exit(exit_code)


def _take_asked(options: dict[str, Any]) -> Asked:
    from xdptstamp.cli._mixed_run import Asked

    _refuse_contradictions(options)
    second_queue = options.pop("second_queue")
    has_two_queues = options["has_two_apps"] and not options["same_queue"]
    if second_queue is None:
        second_queue = options["queue"] + 1
    if has_two_queues and second_queue == options["queue"]:
        raise click.UsageError("--second-queue is --queue; for one queue there is --same-queue.")
    names = [item.name for item in dataclasses.fields(Asked) if item.name != "second_queue"]
    taken = {name: options.pop(name) for name in names}
    return Asked(**taken, second_queue=second_queue if has_two_queues else None)


# What says how the two apps send, and nothing without them.
_OF_TWO_APPS = {
    "every_ns": "--interval",
    "same_queue": "--same-queue",
    "second_queue": "--second-queue",
}


def _refuse_contradictions(options: dict[str, Any]) -> None:
    given = [name for name in ("ratios", *_OF_TWO_APPS) if _is_given(name)]
    if options["has_two_apps"] and "ratios" in given:
        raise click.UsageError("--two-apps has no --ratio: its second app is off, then on.")
    if options["same_queue"] and "second_queue" in given:
        raise click.UsageError("--same-queue has no --second-queue.")
    if not options["has_two_apps"] and given and given[-1] in _OF_TWO_APPS:
        raise click.UsageError(f"{_OF_TWO_APPS[given[-1]]} goes with --two-apps.")


def _is_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is not ParameterSource.DEFAULT


def _take_config(options: dict[str, Any], asked: Asked) -> MixedConfig:
    from xdptstamp.measure.mixed_plan import MixedConfig, with_baselines

    seed = options.pop("seed")
    return MixedConfig(
        settings=with_baselines(_take_settings(options)),
        num_rounds=options.pop("repeats"),
        duration_ns=options.pop("duration_ns"),
        seed=secrets.randbits(32) if seed is None else seed,
        batch=options.pop("batch"),
        pps=asked.rate.pps if asked.rate else None,
        bits=asked.rate.bits if asked.rate else None,
        max_pending=asked.max_pending or None,
        records_all=options.pop("records_all"),
        is_spinning=options.pop("wait") == "spin",
        port=options.pop("port"),
    )


def _take_settings(options: dict[str, Any]) -> list[Setting]:
    from xdptstamp.rounds import Setting

    sizes, ratios = options.pop("sizes"), options.pop("ratios")
    every_ns, is_same_queue = options.pop("every_ns"), options.pop("same_queue")
    if options.pop("has_two_apps"):
        return [Setting(size, 0, 1, every_ns, not is_same_queue) for size in sizes]
    return [Setting(size, *ratio) for size in sizes for ratio in ratios]
