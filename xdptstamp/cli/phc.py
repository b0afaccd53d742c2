# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp phc``: a NIC's clock, beside those of the system."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import select
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli._shown import format_option, new_table, print_table, show_facts
from xdptstamp.cli.params import CLOCK_RATE, DURATION, SIGNED_DURATION

if TYPE_CHECKING:
    from xdptstamp.clock import ClockSample
    from xdptstamp.comparison import Comparison
    from xdptstamp.phc import Phc

_NS_PER_S = 1_000_000_000
# A machine may be busy at any one of them.
_NUM_CORRECTIONS, _NUM_LOOKS = 8, 3

_target = click.argument("target", envvar="NETIF", required=False, metavar="[IFNAME]")


@click.group("phc", short_help="Show, set and compare a NIC's clock (PHC).")
def command() -> None:
    """Show, set and compare the PTP hardware clock (PHC) of IFNAME, or /dev/ptpN itself."""


@command.command("show")
@_target
@format_option
def show(target: str | None, output_format: str) -> None:
    """Show what the clock is, can do, and says now."""
    from xdptstamp.phc import UNCERTAINTY_WORDS, system_clocks
    from xdptstamp.text.clocks import offset_text
    from xdptstamp.text.lines import us

    with _open(target) as phc:
        caps, sample, system = phc.caps(), phc.compare(), system_clocks()
        rate_ppb = _rate(phc)
        assert phc.method is not None, "it was just compared"
        uncertainty = UNCERTAINTY_WORDS[phc.method]
        error = f"(+-{us(sample.uncertainty_ns)} us)"
        facts = {
            "clock": f"{phc.path} {phc.name}".strip(),
            "time": f"{sample.phc_ns} ns",
            "PHC - TAI": f"{offset_text(sample.offset_ns)} {error}",
            "PHC - REALTIME": f"{offset_text(sample.phc_ns - sample.realtime_ns)} {error}",
            "TAI - REALTIME": f"{system.tai_offset_s} s",
            "leap second": system.leap,
            "compared by": f"{phc.method}: {uncertainty}",
            **{f"not {name}": reason for name, reason in phc.refusals.items()},
            "set rate": "not told to who may not set it" if rate_ppb is None else f"{rate_ppb} ppb",
            "greatest rate": f"{caps.max_adj_ppb} ppb",
            "pins": f"{caps.num_pins}, external timestamps: {caps.num_external_timestamps}, "
            f"periodic outputs: {caps.num_periodic_outputs}",
        }
        data = {
            "device": str(phc.path),
            "name": phc.name,
            **_sample_json(sample),
            "leap": system.leap,
            "uncertainty": uncertainty,
            "refused_methods": phc.refusals,
            "rate_ppb": rate_ppb,
            "caps": dataclasses.asdict(caps),
            "notes": system.notes(),
        }
    show_facts(facts, data, output_format)
    _say(system.notes())


@command.command("set")
@_target
@click.option(
    "--offset",
    "offset_ns",
    type=SIGNED_DURATION,
    default="0",
    show_default=True,
    help="Ahead of CLOCK_TAI by so much: 37s, -1ms.",
)
@click.option("--rate", "rate_ppb", type=CLOCK_RATE, help="And let it run faster: 50ppm, -20ppb.")
@click.option(
    "--force", "is_forced", is_flag=True, help="Also beside a running ptp4l, phc2sys or ts2phc."
)
@format_option
def set_(
    target: str | None,
    offset_ns: int,
    rate_ppb: int | None,
    is_forced: bool,
    output_format: str,
) -> None:
    """Set the clock to CLOCK_TAI, and say how far off it then is."""
    from xdptstamp.errors import SetupError
    from xdptstamp.phc import system_clocks
    from xdptstamp.servos import running_servos
    from xdptstamp.text.clocks import offset_text
    from xdptstamp.text.lines import us

    servos = running_servos()
    if servos and not is_forced:
        problem = f"{', '.join(servos)} keeps clocks in step here; end it first, or use --force"
        raise SetupError("the PHC is not set", problem)
    with _open(target, is_writable=True) as phc:
        before = phc.compare()
        if rate_ppb is not None:
            phc.set_rate_ppb(rate_ppb)
        after, system = _set_to(phc, offset_ns), system_clocks()
    facts = {
        name: f"{offset_text(each.offset_ns)} (+-{us(each.uncertainty_ns)} us)"
        for name, each in (("PHC - TAI before", before), ("PHC - TAI now", after))
    }
    data = {
        "device": str(phc.path),
        "before": _sample_json(before),
        "after": _sample_json(after),
        "rate_ppb": rate_ppb,
        "notes": system.notes(),
    }
    show_facts(facts, data, output_format)
    _say(system.notes())


# Setting takes as long as it takes; what that makes of it is then measured, and taken away. A
# driver may step a clock by reading and writing it, as igc_ptp_adjtime_i225() does: each step then
# lacks the time between, which the next one takes away as well.
def _set_to(phc: Phc, offset_ns: int) -> ClockSample:
    phc.set_ns(time.clock_gettime_ns(time.CLOCK_TAI) + offset_ns)
    after, lacks_ns = _look(phc), 0
    for _ in range(_NUM_CORRECTIONS):
        error_ns = after.offset_ns - offset_ns
        if abs(error_ns) <= after.uncertainty_ns:
            break
        phc.step(-error_ns - lacks_ns)
        after = _look(phc)
        lacks_ns += after.offset_ns - offset_ns
    return after


def _look(phc: Phc) -> ClockSample:
    samples = (phc.compare() for _ in range(_NUM_LOOKS))
    return min(samples, key=lambda sample: sample.uncertainty_ns)


@command.command("compare")
@_target
@click.option(
    "--duration", "duration_ns", type=DURATION, default="10s", show_default=True, help="How long."
)
@click.option(
    "--interval",
    "interval_ns",
    type=DURATION,
    default="1s",
    show_default=True,
    help="From one sample to the next.",
)
@format_option
def compare(target: str | None, duration_ns: int, interval_ns: int, output_format: str) -> None:
    """Compare the clock with CLOCK_TAI and CLOCK_REALTIME for a time, and say how it drifts.

    Ctrl-C ends it early.
    """
    from xdptstamp.comparison import Comparison
    from xdptstamp.phc import system_clocks

    comparison = Comparison()
    with _open(target) as phc:
        for sample in _samples(phc, duration_ns, interval_ns):
            continues = comparison.add(sample)
            if output_format == "jsonl":
                line = {"type": "sample", **_sample_json(sample), "continues": continues}
                click.echo(json.dumps(line))
        notes = system_clocks().notes()
        if output_format == "jsonl":
            click.echo(json.dumps({"type": "end", **_end_json(phc, comparison, notes)}))
        else:
            _print_comparison(phc, comparison, notes)


def _samples(phc: Phc, duration_ns: int, interval_ns: int) -> Iterator[ClockSample]:
    from xdptstamp.cli.session import catch_signals
    from xdptstamp.measure.stop import Stop

    with contextlib.closing(Stop()) as stop, catch_signals(stop):
        start_ns = time.monotonic_ns()
        due_ns = start_ns
        while True:
            yield phc.compare()
            if stop.reason is not None or due_ns >= start_ns + duration_ns:
                return
            due_ns = min(due_ns + interval_ns, start_ns + duration_ns)
            left_ns = due_ns - time.monotonic_ns()
            select.select([stop], (), (), max(left_ns, 0) / _NS_PER_S)


def _print_comparison(phc: Phc, comparison: Comparison, notes: list[str]) -> None:
    from xdptstamp.phc import UNCERTAINTY_WORDS
    from xdptstamp.text.clocks import drift_text, offset_text
    from xdptstamp.text.lines import us

    samples = comparison.samples
    table = new_table("at", "PHC - TAI", "PHC - REALTIME", "TAI - REALTIME", "+- us", "by")
    continues = comparison.to_json()["continues"]
    for sample, goes_on in zip(samples, [True, *continues[1:]], strict=True):
        seconds = (sample.tai_ns - samples[0].tai_ns) / _NS_PER_S
        table.add_row(
            f"{seconds:.3f} s" + ("" if goes_on else " STEP"),
            offset_text(sample.offset_ns),
            offset_text(sample.phc_ns - sample.realtime_ns),
            f"{sample.tai_offset_s} s",
            us(sample.uncertainty_ns),
            sample.method,
        )
    drift = comparison.drift_ppb()
    said = ["drift: not known from one sample" if drift is None else f"drift: {drift_text(*drift)}"]
    said += [f"uncertainty: {UNCERTAINTY_WORDS[samples[-1].method]}"]
    said += [f"not {name}: {reason}" for name, reason in phc.refusals.items()]
    print_table(table, [*said, *notes])


def _end_json(phc: Phc, comparison: Comparison, notes: list[str]) -> dict[str, Any]:
    drift = comparison.drift_ppb()
    return {
        "device": str(phc.path),
        "method": phc.method,
        "refused_methods": phc.refusals,
        "num_samples": len(comparison),
        "num_steps": comparison.num_stretches - 1,
        "drift_ppb": None if drift is None else drift[0],
        "drift_uncertainty_ppb": None if drift is None else drift[1],
        "notes": notes,
    }


def _sample_json(sample: ClockSample) -> dict[str, Any]:
    return {
        **dataclasses.asdict(sample),
        "realtime_ns": sample.realtime_ns,
        "offset_ns": sample.offset_ns,
    }


def _open(target: str | None, *, is_writable: bool = False) -> Phc:
    from xdptstamp.phc import Phc

    if not target:
        raise click.UsageError("Missing argument 'IFNAME': the interface (or set NETIF).")
    match = re.fullmatch(r"(?:/dev/)?ptp([0-9]{1,6})", target, re.ASCII)
    index = int(match[1]) if match else _index_of(target)
    return Phc(index, is_writable=is_writable)


def _index_of(ifname: str) -> int:
    from xdptstamp.errors import UnsupportedError
    from xdptstamp.nic import Nic

    nic = Nic(ifname)
    info = nic.timestamping_info()
    if info is None or info.phc_index < 0:
        driver = nic.driver_info().driver or "its driver"
        raise UnsupportedError(
            "a PTP hardware clock", "a NIC that has one", f"{nic.ifname} ({driver}), which has none"
        )
    return info.phc_index


# Kernels before 6.14 tell it only to who may write.
def _rate(phc: Phc) -> int | None:
    from xdptstamp.errors import SystemCallError
    from xdptstamp.phc import Phc as Clock

    try:
        with Clock(phc.index, is_writable=os.access(phc.path, os.W_OK)) as clock:
            return clock.rate_ppb()
    except SystemCallError:
        return None


def _say(notes: list[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)
