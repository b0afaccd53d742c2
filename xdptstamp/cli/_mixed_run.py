# SPDX-License-Identifier: GPL-2.0-only
"""One ``mixed`` run, from the sink on the partner to the exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from xdptstamp.bandwidth import totals
from xdptstamp.checks import mixed_warnings
from xdptstamp.cli._mixed_output import MixedOutput
from xdptstamp.cli.params import Rate, Scheduling
from xdptstamp.cli.session import (
    ResultOptions,
    Session,
    catch_signals,
    clock_step_warnings,
    new_info,
)
from xdptstamp.dut import Dut, DutConfig, acquire
from xdptstamp.errors import RunFileError, SetupError, XdptstampError
from xdptstamp.kernellog import KernelLog
from xdptstamp.measure.environment import Environment
from xdptstamp.measure.mixed import Mixed, MixedResult, Surroundings
from xdptstamp.measure.mixed_plan import MixedConfig, check_size
from xdptstamp.measure.realtime import real_time
from xdptstamp.measure.second_app import SecondApp
from xdptstamp.measure.sink_client import SinkClient
from xdptstamp.measure.stop import Stop
from xdptstamp.nexthop import NextHop, from_mac, resolve
from xdptstamp.nic import Nic
from xdptstamp.reconcile import reconcile
from xdptstamp.remote import partner_from_env
from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.sample import Cause
from xdptstamp.store.rounds import rounds_json, write_rounds

# Beside others: two of igc's four stamp registers are left to them.
_POLITE_PENDING = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks of ``mixed`` that is neither the DUT's set-up nor a setting.

    :param second_queue: of the second app; None: there is none.
    :param max_pending: 0: no limit; None: whatever is polite.
    """

    to: str | None
    dst_mac: str | None
    rate: Rate | None
    max_pending: int | None
    has_sink: bool
    second_queue: int | None
    cpu: int | None
    sched: Scheduling | None


def run_mixed(
    dut_config: DutConfig, config: MixedConfig, asked: Asked, results: ResultOptions
) -> int:
    """Measure, record, show; returns the exit code.

    :raises XdptstampError: What went wrong; what was measured before is recorded and shown.
    """
    info = new_info("mixed", results.label, _asked_json(dut_config, config, asked, results))
    info.nic = {"ifname": dut_config.ifname}
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(contextlib.closing(Stop()))
        signals = stack.enter_context(catch_signals(stop))
        log = stack.enter_context(KernelLog())
        session = stack.enter_context(
            contextlib.closing(Session(info, results, (), shows_samples=False))
        )
        host = _host(asked)
        _check_scheduling(asked)
        # Before the DUT: attaching its program resets some links, and the DUT waits for carrier.
        sink = _start_sink(dut_config.ifname, asked, config, stack)
        result = failure = None
        try:
            with acquire(dut_config, stop) as dut:
                config = _polite(config, asked, dut)
                environment = Environment(dut, log, info)
                route = _route(host, asked, config, dut)
                _check_second_queue(dut, asked)
                stack.enter_context(session.following(dut.clocks))
                output = MixedOutput(results, info, config.settings)
                with _scheduling(asked) as scheduling, _second_app(dut, asked, session) as app:
                    environment.begin(_obtained(config, scheduling), has_timestamps=True)
                    info.partner |= _partner_json(route, sink)
                    session.recorder.start(info)
                    output.start()
                    around = Surroundings(
                        route=route,
                        sink=sink,
                        second_app=app,
                        folder=session.run_path,
                        put=session.recorder.put_all,
                        on_tick=lambda: output.reason_to_end or session.tick({}),
                        on_round=output.round,
                    )
                    result = Mixed(dut, config, around, stop).run()
                environment.end()
        except XdptstampError as error:
            if result is None:
                raise
            failure = error  # something was not restored; what was measured is shown all the same
        info.obtained["notes"] = list(dict.fromkeys([*info.obtained["notes"], *dut.notes]))
        _conclude(info, config, result)
        failure = _keep_rounds(session, config, result) or failure
        summary = session.finish(lambda _: _judge(info, config, result, environment))
        output.end(summary, session.run_path)
    failure = failure or result.failure or output.failure
    if failure is not None:
        raise failure
    return session.exit_code(signals, is_bounded=True)


def _asked_json(
    dut_config: DutConfig, config: MixedConfig, asked: Asked, results: ResultOptions
) -> dict[str, Any]:
    data = {**dataclasses.asdict(dut_config), **dataclasses.asdict(config)}
    data |= dataclasses.asdict(asked)
    data |= {"format": results.format, "fail_if": list(results.fail_ifs)}
    data["assume_phc_is_tai"] = results.assume_phc_is_tai
    # As they were written: asdict takes apart what they are.
    data["rate"] = str(asked.rate) if asked.rate else None
    data["sched"] = str(asked.sched) if asked.sched else None
    del data["pps"], data["bits"]  # fractions; `rate` says it
    return data


def _scheduling(asked: Asked) -> contextlib.AbstractContextManager[dict[str, Any]]:
    return real_time(asked.cpu, asked.sched.priority if asked.sched else None)


def _check_scheduling(asked: Asked) -> None:
    with _scheduling(asked):
        pass  # refused here, before anything is touched


def _host(asked: Asked) -> str:
    host = asked.to or os.environ.get("REMOTE_V4") or os.environ.get("REMOTE_V6")
    if not host:
        raise SetupError(
            "link partner", "not named: give its address by --to (or set REMOTE_V4, REMOTE_V6)"
        )
    return host


def _start_sink(
    ifname: str, asked: Asked, config: MixedConfig, stack: contextlib.ExitStack
) -> SinkClient | None:
    if not asked.has_sink or not os.environ.get("REMOTE_TYPE"):
        return None
    partner = partner_from_env(os.environ)
    sink = stack.enter_context(SinkClient(partner, os.environ, port=config.port))
    Nic(ifname)  # what there is none of is said at once, and the imports go on beside the sink's
    sink.ready()
    return sink


def _route(host: str, asked: Asked, config: MixedConfig, dut: Dut) -> NextHop:
    ifname = dut.nic.current_name
    route = from_mac(asked.dst_mac, host, ifname) if asked.dst_mac else resolve(host, ifname)
    mtu = dut.nic.link().mtu
    for setting in config.settings:
        check_size(setting.size_bytes, route, mtu)
    return route


def _polite(config: MixedConfig, asked: Asked, dut: Dut) -> MixedConfig:
    # Somebody who had the NIC's timestamps on before us wants some of them.
    before = dut.guard.original
    is_shared = dut.is_hardware and before is not None and before.is_tx_on
    if asked.max_pending is not None or not is_shared:
        return config
    dut.setup_notes.append(
        f"{dut.nic.ifname} had Tx timestamps on already, for ptp4l perhaps: at most "
        f"{_POLITE_PENDING} of ours are pending at once (--max-pending-timestamps)"
    )
    return dataclasses.replace(config, max_pending=_POLITE_PENDING)


def _check_second_queue(dut: Dut, asked: Asked) -> None:
    usable = dut.nic.num_queues().usable
    if asked.second_queue is not None and asked.second_queue >= usable:
        problem = (
            f"has no queue {asked.second_queue} for the second app ({usable} in all, ethtool -l); "
            "use --second-queue, or --same-queue"
        )
        raise SetupError(dut.nic.ifname, problem)


@contextlib.contextmanager
def _second_app(dut: Dut, asked: Asked, session: Session) -> Iterator[SecondApp | None]:
    if asked.second_queue is None:
        yield None
        return
    mode = dut.xsks[0].config.mode
    with SecondApp(dut.config, asked.second_queue, mode, session.run_path) as app:
        yield app


def _obtained(config: MixedConfig, scheduling: dict[str, Any]) -> dict[str, Any]:
    return {
        **scheduling,
        "batch": config.batch,
        "max_pending": config.max_pending,
        "seed": config.seed,
        "rounds": config.num_rounds,
        "duration_ns": config.duration_ns,
        "warmup_ns": config.warmup_ns,
        "wait": "spin" if config.is_spinning else "poll",
    }


def _partner_json(route: NextHop, sink: SinkClient | None) -> dict[str, Any]:
    partner: dict[str, Any] = {
        "host": route.host,
        "address": route.address,
        "next_hop": route.next_hop,
        "mac": route.mac.hex(":"),
        "source": route.source,
    }
    if sink is not None:
        partner["sink"] = dataclasses.asdict(sink.ready())
    return partner


def _conclude(info: RunInfo, config: MixedConfig, result: MixedResult) -> None:
    info.counts |= totals(config.settings, result.rounds)
    info.counts |= rounds_json(config.settings, result.rounds)
    info.counts |= {
        "link_resets": result.num_resets,
        "completed_unexpected": result.completed_unexpected,
    }
    info.ended_by = None if result.is_complete else result.ended_by
    info.state = "complete" if result.is_complete else "interrupted"
    info.warnings += clock_step_warnings(result.clock_step_ns)
    if result.failure is not None:
        info.warnings.append(
            Warning(
                key="run-failed",
                message="something went wrong for good: the last round shows that, and no cost",
                value=str(result.failure),
                limit="none",
                advice="mend it, and measure again",
                is_untrusted=True,
            )
        )


def _keep_rounds(
    session: Session, config: MixedConfig, result: MixedResult
) -> XdptstampError | None:
    # run.json has all but the histograms, and room of its own where the disk is full.
    try:
        write_rounds(session.run_path, config.settings, result.rounds)
    except RunFileError as error:
        return error
    return None


def _judge(
    info: RunInfo, config: MixedConfig, result: MixedResult, environment: Environment
) -> None:
    # The driver's counters know no warm-up, so its stamps are in these books.
    books = [each.causes for each in result.rounds]
    books += [each.second_app["causes"] for each in result.rounds if each.second_app]
    counts = {name: sum(book[name] for book in books) for name in (books[0] if books else {})}
    # Of a driver that offers no stamps the counters are shown, and nothing is doubtful about them.
    is_unsupported = bool(counts.get(Cause.UNSUPPORTED.label))
    if info.timestamps == "hardware" or is_unsupported:
        found = reconcile(environment.driver, environment.before, environment.after, counts)
        info.counts["reconciliation"] = found.texts
        info.warnings += [] if is_unsupported else found.warnings()
    info.warnings += mixed_warnings(info, config.settings, result.rounds)
