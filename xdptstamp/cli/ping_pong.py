# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp ping-pong``: the DUT answers requests and timestamps its replies."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli import dut_options
from xdptstamp.cli.params import DURATION, Scheduling
from xdptstamp.cli.session import (
    ResultOptions,
    Session,
    Signals,
    catch_signals,
    clock_step_warnings,
    new_info,
    result_options,
)
from xdptstamp.errors import XdptstampError

if TYPE_CHECKING:
    from xdptstamp.dut import DutConfig
    from xdptstamp.measure.environment import Environment
    from xdptstamp.measure.ping_pong import PingPongConfig, PingPongResult
    from xdptstamp.runinfo import RunInfo
    from xdptstamp.stats import Summary


@click.command("ping-pong")
@click.argument("ifname", envvar="NETIF", required=False)
@click.option(
    "--queue",
    "queues",
    type=click.IntRange(0),
    multiple=True,
    metavar="N",
    help="Queue to answer on; repeatable. Default: all.",
)
@dut_options.mode
@dut_options.xdp_mode
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=9091,
    show_default=True,
    help="UDP port to answer on.",
)
@click.option(
    "--count", type=click.IntRange(1), metavar="N", help="End after N packets; default: no limit."
)
@click.option("--duration", "duration_ns", type=DURATION, help="End after this time.")
@click.option(
    "--wait",
    type=click.Choice(["poll", "spin"]),
    default="poll",
    show_default=True,
    help="Sleep until a packet comes, or never sleep.",
)
@dut_options.cpu
@dut_options.sched
@click.option("--no-reply", "has_replies", flag_value=False, default=True, help="Only receive.")
@click.option(
    "--no-timestamps",
    "has_timestamps",
    flag_value=False,
    default=True,
    help="Reply without asking for timestamps.",
)
@dut_options.hwtstamp
@dut_options.assume_phc_is_tai
@click.option(
    "--dispatcher",
    "is_dispatched",
    is_flag=True,
    help="Attach through libxdp's dispatcher, beside other XDP programs.",
)
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Use lo, the default route's or the ssh connection's interface, or a port in use; replace "
    "an XDP program.",
)
@result_options(("table", "hwmeta", "jsonl"))
def command(cpu: int | None, sched: Scheduling | None, **options: Any) -> None:
    """Answer UDP requests on IFNAME over AF_XDP, and timestamp every reply.

    IFNAME defaults to NETIF of the environment. Requests come from `xdptstamp ping` on the link
    partner, or from `echo -n xdp | nc -u HOST 9091`. Stops at --count, at --duration or at Ctrl-C.
    """
    from xdptstamp.dut import DutConfig
    from xdptstamp.measure.ping_pong import PingPongConfig

    results = ResultOptions.take_from(options)
    if not options["ifname"]:
        raise click.UsageError("Missing argument 'IFNAME': the interface (or set NETIF).")
    queues = tuple(dict.fromkeys(options.pop("queues"))) or None
    names = ("has_replies", "has_timestamps", "wait", "count", "duration_ns")
    config = PingPongConfig(**{name: options.pop(name) for name in names})
    dut_config = DutConfig(queues=queues, reply_flags=config.reply_flags, **options)
    exit_code = _run(dut_config, config, results, cpu, sched)
    click.get_current_context().exit(exit_code)


def _run(
    dut_config: DutConfig,
    config: PingPongConfig,
    results: ResultOptions,
    cpu: int | None,
    sched: Scheduling | None,
) -> int:
    from xdptstamp.dut import acquire
    from xdptstamp.kernellog import KernelLog
    from xdptstamp.measure.environment import Environment
    from xdptstamp.measure.ping_pong import PingPong
    from xdptstamp.measure.realtime import real_time
    from xdptstamp.measure.stop import Stop
    from xdptstamp.program import COUNTERS

    info = new_info("ping-pong", results.label, _asked(dut_config, config, results, cpu, sched))
    info.nic = {"ifname": dut_config.ifname}
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(contextlib.closing(Stop()))
        signals = stack.enter_context(catch_signals(stop))
        log = stack.enter_context(KernelLog())
        # The recorder starts before anything real-time is set, and inherits none of it.
        session = stack.enter_context(
            contextlib.closing(Session(info, results, ("received", "answered", *COUNTERS)))
        )
        with real_time(cpu, sched.priority if sched else None):
            pass  # refused here, before anything is touched
        result = failure = None
        try:
            with acquire(dut_config, stop) as dut:
                stack.enter_context(session.following(dut.clocks))
                signals.skip_output_with(session.recorder.skip_output)
                if cpu is not None:
                    session.recorder.keep_off({cpu})
                with real_time(cpu, sched.priority if sched else None) as scheduling:
                    environment = Environment(dut, log, info)
                    environment.begin(
                        {"wait": config.wait, **scheduling},
                        has_timestamps=config.has_replies and config.has_timestamps,
                    )
                    session.recorder.start(info)
                    result = PingPong(dut, config, session.recorder, stop, session.tick).run()
                environment.end()
        except XdptstampError as error:
            if result is None:
                raise
            failure = error  # something was not restored; what was measured is shown all the same
        info.obtained["notes"] = dut.notes
        _conclude(info, config, result, signals)
        session.finish(lambda summary: _reconcile(info, environment, summary))
    failure = failure or (XdptstampError(result.failure) if result.failure else None)
    if failure is not None:
        raise failure
    return session.exit_code(signals, is_bounded=_is_bounded(config))


def _is_bounded(config: PingPongConfig) -> bool:
    # Without a count and a duration, a signal is how it is meant to end.
    return config.count is not None or config.duration_ns is not None


def _reconcile(info: RunInfo, environment: Environment, summary: Summary) -> None:
    from xdptstamp.reconcile import reconcile
    from xdptstamp.sample import Cause

    # Software stamps use no slot of the driver's, so there is nothing to hold ours against.
    # Of a driver that offers none the counters are shown, and nothing is doubtful about them.
    is_unsupported = bool(summary.causes.get(Cause.UNSUPPORTED))
    if info.timestamps != "hardware" and not is_unsupported:
        return
    if info.counts["recorder_overruns"]:
        text = f"not reconcilable: {info.counts['recorder_overruns']} samples were not recorded"
        info.counts["reconciliation"] = [text]
        return
    counts = {cause.label: count for cause, count in summary.causes.items()}
    found = reconcile(environment.driver, environment.before, environment.after, counts)
    info.counts["reconciliation"] = found.texts
    info.warnings += [] if is_unsupported else found.warnings()


def _asked(
    dut_config: DutConfig,
    config: PingPongConfig,
    results: ResultOptions,
    cpu: int | None,
    sched: Scheduling | None,
) -> dict[str, Any]:
    return {
        **dataclasses.asdict(dut_config),
        **dataclasses.asdict(config),
        "cpu": cpu,
        "sched": str(sched) if sched else None,
        "format": results.format,
        "assume_phc_is_tai": results.assume_phc_is_tai,
        "fail_if": list(results.fail_ifs),
    }


def _conclude(
    info: RunInfo, config: PingPongConfig, result: PingPongResult, signals: Signals
) -> None:
    info.counts |= result.counts
    info.warnings += clock_step_warnings(result.clock_step_ns)
    info.ended_by = result.ended_by
    is_ended_by_signal = not _is_bounded(config) and result.ended_by in signals.names
    is_complete = result.is_complete or is_ended_by_signal
    info.state = "complete" if is_complete else "interrupted"
