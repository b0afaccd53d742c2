# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp ping``: the link partner sends requests and measures the round trip."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli.params import DURATION, INTERVAL
from xdptstamp.cli.session import (
    EXIT_SIGNAL,
    ResultOptions,
    Session,
    Signals,
    catch_signals,
    new_info,
    result_options,
)

if TYPE_CHECKING:
    from xdptstamp.measure.ping import PingConfig, Pinger, PingResult
    from xdptstamp.measure.stop import Stop
    from xdptstamp.runinfo import RunInfo


@click.command("ping")
@click.argument("host", required=False)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Requests; default: no limit.")
@click.option(
    "--interval",
    "interval_ns",
    type=INTERVAL,
    default="1ms",
    show_default=True,
    help="From one request to the next; 0 or flood: as fast as possible.",
)
@click.option(
    "--size",
    "size_bytes",
    type=click.IntRange(1),
    metavar="BYTES",
    help="Frame with its FCS; default: the smallest (64 for IPv4, 84 for IPv6).",
)
@click.option("-4", "family", flag_value="4", help="Take an IPv4 address of HOST.")
@click.option("-6", "family", flag_value="6", help="Take an IPv6 address of HOST.")
@click.option(
    "--wait-ready",
    "ready_limit_ns",
    type=DURATION,
    help="First wait until HOST answers, at most this long.",
)
@click.option("--deadline", "deadline_ns", type=DURATION, help="Stop sending after this time.")
@click.option(
    "--timeout",
    "timeout_ns",
    type=DURATION,
    default="1s",
    show_default=True,
    help="Give a request up this long after it was sent.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=9091, show_default=True, help="UDP port."
)
@click.option("--source", metavar="ADDRESS", help="Send from this address.")
@click.option("--interface", metavar="IFNAME", help="Send and receive on this interface only.")
@click.option(
    "--wait",
    type=click.Choice(["poll", "spin"]),
    default="poll",
    show_default=True,
    help="Sleep until something happens, or never sleep.",
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Requests before --count; their samples are marked.",
)
@result_options(("table", "jsonl"))
def command(
    host: str | None, family: str | None, ready_limit_ns: int | None, **options: Any
) -> None:
    """Send UDP requests to HOST and measure until each reply.

    Runs on the link partner, and needs no privilege; HOST is the DUT, which runs `xdptstamp
    ping-pong` (or the kernel's xdp_hw_metadata). Default: LOCAL_V4 of the environment, with -6
    LOCAL_V6. Stops at --count, at --deadline or at Ctrl-C, and writes a run of its own.
    """
    from xdptstamp.measure.ping import PingConfig, open_ping, wait_ready
    from xdptstamp.measure.stop import Stop

    results = ResultOptions.take_from(options)
    host = host or _default_host(family or "4")
    config = PingConfig(host=host, family=family or "auto", **options)
    # Opened first: what cannot work is said at once, and Ctrl-C still ends a slow name server.
    with (
        open_ping(config) as pinger,
        contextlib.closing(Stop()) as stop,
        catch_signals(stop) as signals,
    ):
        if ready_limit_ns is not None:
            wait_ready(config, ready_limit_ns, stop)
        if stop.reason is None:
            exit_code = _run(pinger, config, results, stop, signals)
        else:  # there is nothing to keep yet
            exit_code = EXIT_SIGNAL + signals.numbers[0]
    click.get_current_context().exit(exit_code)


def _run(
    pinger: Pinger, config: PingConfig, results: ResultOptions, stop: Stop, signals: Signals
) -> int:
    from xdptstamp.busy import BusyWatch, governors
    from xdptstamp.measure.ping import STATUS_NAMES

    info = new_info("ping", results.label, _asked(config, results))
    info.dut = {"governors": governors()}
    _describe(info, pinger)
    with Session(info, results, STATUS_NAMES) as session:
        signals.skip_output_with(session.recorder.skip_output)
        session.recorder.start(info)
        busy = BusyWatch()
        result = pinger.run(session.recorder, stop, session.tick)
        info.dut["idle_states"] = busy.idle_states()
        session.tick(result.counts)
        _conclude(info, config, result, signals)
        session.finish()
    is_bounded = config.count is not None or config.deadline_ns is not None
    return session.exit_code(signals, is_bounded=is_bounded)


def _asked(config: PingConfig, results: ResultOptions) -> dict[str, Any]:
    return {
        **dataclasses.asdict(config),
        "format": results.format,
        "fail_if": list(results.fail_ifs),
    }


def _describe(info: RunInfo, pinger: Pinger) -> None:
    from xdptstamp.sample import COLUMNS_OF_KIND, clock_of

    obtained = info.obtained = pinger.obtained
    info.timestamps = "none" if obtained["kernel_timestamps"] == "none" else "software"
    info.nic = {"ifname": obtained["ifname"]} if obtained["ifname"] else {}
    info.partner = {"host": obtained["host"], "address": obtained["address"]}
    info.clocks = {name: clock_of(name) for name in COLUMNS_OF_KIND["ping"] if clock_of(name)}


def _conclude(info: RunInfo, config: PingConfig, result: PingResult, signals: Signals) -> None:
    info.counts |= result.counts
    info.obtained |= result.obtained
    info.ended_by = result.ended_by
    # Asked for neither a count nor a deadline, a signal is how it is meant to end.
    is_endless = config.count is None and config.deadline_ns is None
    is_complete = result.is_complete or (is_endless and bool(signals.numbers))
    info.state = "complete" if is_complete else "interrupted"


def _default_host(family: str) -> str:
    name = "LOCAL_V6" if family == "6" else "LOCAL_V4"
    host = os.environ.get(name)
    if not host:
        raise click.UsageError(f"Missing argument 'HOST': the DUT's address (or set {name}).")
    return host
