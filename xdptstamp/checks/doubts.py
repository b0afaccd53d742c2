# SPDX-License-Identifier: GPL-2.0-only
"""What is doubtful about a run without anybody asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from xdptstamp.checks.machine_doubts import machine_warnings
from xdptstamp.checks.ping_doubts import ping_warnings
from xdptstamp.checks.stamp_doubts import (
    check_offset,
    check_order,
    check_resolution,
    check_tail,
)
from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.sample import Cause
from xdptstamp.stats import Summary, is_assumed
from xdptstamp.text.clocks import num_steps
from xdptstamp.text.intervals import Spreads

#: Below these a doubt is not worth a line, or does not make the run untrusted.
MAX_MISSING_PERCENT = 1
MAX_OVERRUN_PER_MILLE = 1


def run_warnings(info: RunInfo, summary: Summary, spreads: Spreads | None = None) -> list[Warning]:
    """Everything doubtful that the run itself shows, and that ``info.warnings`` lacks.

    :param spreads: how sure each percentile is, where that was worked out.
    """
    known = {warning.key for warning in info.warnings}
    found = [warning for check in _CHECKS for warning in check(info, summary)]
    found += check_tail(info, summary, spreads or {})
    return [warning for warning in found if warning.key not in known]


# A count of the books, zero where it is not kept.
def _kept(info: RunInfo, key: str) -> int:
    value: Any = info.counts.get(key, 0)
    return value if isinstance(value, int) else 0


def _check_missing(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    missing = summary.num_missing
    requested = summary.num_stamped + missing
    if missing * 100 > MAX_MISSING_PERCENT * requested:
        most = max(summary.causes, key=lambda cause: summary.causes[cause])
        yield Warning(
            "stamps-missing",
            f"timestamps are missing, most of them {most.label}",
            f"{missing} of {requested}",
            f"{MAX_MISSING_PERCENT} %",
            _ADVICE_OF_CAUSE[most],
        )


# A ping's kernel stamps are a gift where they come; nobody asks for them one by one.
def _wants_stamps(info: RunInfo) -> bool:
    return info.kind == "ping-pong" and info.timestamps != "none"


def _check_empty(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    # Of a mixed run, where only stamped packets have a sample, the rounds tell.
    if info.kind == "mixed":
        return
    if not summary.num_samples:
        yield Warning(
            "no-packets",
            "no packet was measured",
            "0 packets",
            "at least one",
            "look at the link and the partner; xdptstamp ping HOST sends what ping-pong answers"
            if info.kind == "ping-pong"
            else "look whether the other side answers: xdptstamp ping-pong IFNAME",
        )
    elif _wants_stamps(info) and summary.num_not_requested == summary.num_samples:
        yield Warning(
            "nothing-requested",
            "no packet asked for a timestamp",
            f"0 of {summary.num_samples} packets",
            "at least one",
            "run without --no-reply and --no-timestamps",
        )


_ADVICE_OF_CAUSE = {
    Cause.DISABLED: "run with --hwtstamp on",
    Cause.UNSUPPORTED: "use a driver that offers tx-timestamp in its xsk-features",
    Cause.SKIPPED: "send slower: the adapter has few stamp slots, shared with ptp4l",
    Cause.TIMED_OUT: "look at the kernel log and at the driver's known faults in the notes",
    Cause.RESET: "keep the link up and other XDP programs away during the run",
    Cause.INVALID: "look whether the link partner was up and the MTU kept; a HARDWARE stamp is "
    "also invalid if the driver gave the stamp of another packet",
    Cause.LOST_BY_DRIVER: "see the driver's known faults in the notes, and update the kernel",
    Cause.NOT_COMPLETED: "let the run drain; do not interrupt it twice",
}


def _check_causes(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    words = {
        Cause.INVALID: "stamps that cannot be true, or of packets the kernel dropped",
        Cause.LOST_BY_DRIVER: "completions that never came",
        Cause.TIMED_OUT: "stamps the driver waited for in vain, holding its queue meanwhile",
    }
    for cause, message in words.items():
        count = summary.causes.get(cause, 0)
        if count:
            key = f"stamps-{cause.label.replace('_', '-')}"
            yield Warning(key, message, str(count), "0", _ADVICE_OF_CAUSE[cause])


def _check_rings(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    rows = (
        ("rx_ring_full", "packets were dropped: the Rx ring was full", "send slower or use --cpu"),
        (
            "rx_fill_ring_empty_descs",
            "the driver found the fill ring empty (attempts, not packets)",
            "send slower, use --wait spin, or give the process its own --cpu",
        ),
        (
            "rx_dropped",
            "the kernel dropped packets meant for the socket: no frame was free",
            "send slower, or use --wait spin and a --cpu of its own",
        ),
    )
    for key, message, advice in rows:
        if _kept(info, key):
            yield Warning(key.replace("_", "-"), message, str(_kept(info, key)), "0", advice)


def _check_modes(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    asked, obtained = info.asked, info.obtained
    if asked.get("mode") == "zero-copy" and obtained.get("mode") == "copy":
        yield Warning(
            "copy-mode",
            "zero-copy was asked for, the socket runs in copy mode",
            "copy",
            "zero-copy",
            "use a driver with AF_XDP zero-copy; these stamps are taken by software",
            is_untrusted=True,
        )
    if obtained.get("xdp_mode") == "skb":
        yield Warning(
            "skb-mode",
            "the XDP program runs in generic (skb) mode, after the stack's allocation",
            "skb",
            "native",
            "use --xdp-mode native if the driver has it",
        )
    if asked.get("format") == "hwmeta":
        yield Warning(
            "cross-clock-deltas",
            "the hwmeta lines subtract across clocks with no measured offset",
            "opted out by --format hwmeta",
            "a measured offset",
            "rely on such deltas only while the PHC follows CLOCK_TAI",
        )
    if is_assumed(info) and info.timestamps == "hardware":
        yield Warning(
            "phc-assumed",
            "differences across clocks take the PHC to be CLOCK_TAI, which was not measured",
            "opted out by --assume-phc-is-tai",
            "a measured offset",
            "leave the option away: the clocks are compared",
        )


def _check_recorder(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    lost = _kept(info, "recorder_overruns")
    if lost:
        total = lost + summary.num_samples
        yield Warning(
            "recorder-overruns",
            "samples were not recorded; percentiles may miss the worst moments",
            f"{lost} of {total}",
            f"0; untrusted above {MAX_OVERRUN_PER_MILLE} per mille",
            "send slower, or put the results on a faster disk",
            is_untrusted=lost * 1000 > MAX_OVERRUN_PER_MILLE * total,
        )


def _check_steps(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    steps = num_steps(info)
    if steps:
        yield Warning(
            "phc-step",
            "the PHC or CLOCK_TAI was set, or the adapter reset, during the run: differences "
            "across that are left out",
            str(steps),
            "0",
            "let ptp4l and phc2sys settle first, and nobody set a clock meanwhile",
        )


def _check_books(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    open_books = {name: count for name, count in _inner(info, "unaccounted").items() if count}
    if open_books:
        yield Warning(
            "books-unbalanced",
            "packets are unaccounted for: the counters do not add up",
            ", ".join(f"{name} {count:+d}" for name, count in open_books.items()),
            "0",
            "look whether another program used the interface or its counters; please report it",
            is_untrusted=True,
        )


def _inner(info: RunInfo, key: str) -> dict[str, int]:
    value: Any = info.counts.get(key)
    return value if isinstance(value, dict) else {}


_CHECKS: tuple[Callable[[RunInfo, Summary], Iterator[Warning]], ...] = (
    _check_empty,
    _check_missing,
    _check_causes,
    _check_rings,
    _check_modes,
    _check_recorder,
    check_order,
    check_resolution,
    check_offset,
    _check_steps,
    _check_books,
    ping_warnings,
    machine_warnings,
)
