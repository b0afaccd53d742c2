# SPDX-License-Identifier: GPL-2.0-only
"""Doubt about the stamps themselves: their order, their clock's steps and offset, the tail."""

from __future__ import annotations

import math
from collections.abc import Iterator

from xdptstamp.histogram import RELATIVE_ERROR, Histogram
from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.spread import CONFIDENCE
from xdptstamp.stats import Summary, is_assumed
from xdptstamp.text.intervals import QUANTILES, Spreads, shown_intervals
from xdptstamp.text.lines import us

#: Of the distance from p50 to p99, two standard deviations and more. Rounding adds step**2 / 12 to
#: the variance (Sheppard), here less than one per cent; a coarser step shows in what differs.
MAX_STEP_PERCENT = 10


def check_order(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    """Stamps that step back, or are those of another packet."""
    stamps, counted = summary.stamps, info.counts.get("stamp_steps_back", 0)
    # The measuring process has seen those that were not recorded, too.
    steps = max(stamps.num_steps_back, counted if isinstance(counted, int) else 0)
    if steps:
        far = f", the furthest by {us(stamps.worst_step_ns)} us" if stamps.worst_step_ns else ""
        yield Warning(
            "stamp-steps-back",
            "stamps that are earlier than the one before them on their queue",
            f"{steps}{far}",
            "0",
            "look whether something set the PHC (ptp4l, phc2sys), and at the driver's known faults"
            if info.timestamps == "hardware"
            else "the kernel's clock may step back by little from CPU to CPU: use --cpu",
        )
    # In software the clock may be so coarse that two packets meet in one of its steps.
    if stamps.num_repeated and info.timestamps == "hardware":
        yield Warning(
            "stamps-repeated",
            "stamps that are those of the packet before: no two packets leave at one moment",
            f"{stamps.num_repeated} of {stamps.num_stamps}",
            "0",
            "the driver gave one packet's stamp twice; see its known faults, update the kernel",
        )


def check_resolution(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    """Steps of the stamps' clock that show in the percentiles."""
    step = summary.stamps.resolution_ns()
    if step is None:
        return
    for name, histogram in shown_intervals(info, summary).items():
        span = _span(histogram)
        if span is None or not ("tx_hw" in name or "tx_sw" in name):
            continue
        # Percentiles are no finer than that, whatever the clock.
        error = RELATIVE_ERROR * abs(histogram.quantile(0.5))
        if step > error and step * 100 > MAX_STEP_PERCENT * span:
            yield Warning(
                "clock-resolution",
                "the stamps' clock goes in steps that show in the percentiles",
                f"steps of {step:.4g} ns; {name} p50 to p99 is {span} ns",
                f"{MAX_STEP_PERCENT} % of that",
                f"quote no difference below {math.ceil(step)} ns; more samples do not refine it",
            )
            return


def check_offset(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    """An offset of the clocks that is less sure than the differences shown across them."""
    moved = _moved_ns(info)
    doubts = []
    for name, histogram in shown_intervals(info, summary).items():
        sure, span = summary.uncertainties.get(f"{name}_ns"), _span(histogram)
        if sure is None or not sure.count or span is None:
            continue
        doubt = moved if is_assumed(info) else sure.quantile(0.5)
        if doubt is not None and doubt > span:
            doubts.append((doubt - span, doubt, name, span))
    if not doubts:
        return
    _, doubt, name, span = max(doubts)
    effect = f"{name} p50 to p99 is {us(span)} us"
    if is_assumed(info):
        yield Warning(
            "offset-drift",
            "the PHC drifted from CLOCK_TAI by more than the differences shown across them",
            f"{us(doubt)} us during the run; {effect}",
            "less than that",
            "leave --assume-phc-is-tai away: the measured drift is then taken out",
        )
    else:
        yield Warning(
            "offset-uncertain",
            "the offset of the clocks is less sure than the differences shown across them",
            f"half of it within +-{us(doubt)} us; {effect}",
            "less than that",
            "quote intervals on one clock; let the PHC's servo settle, or take a quieter machine",
        )


def check_tail(info: RunInfo, summary: Summary, spreads: Spreads) -> Iterator[Warning]:
    """Percentiles that the samples do not bound.

    :param spreads: how sure they are, where that is known; else as sure as they can be.
    """
    few: dict[str, list[tuple[int, int, str]]] = {}
    for title, share in QUANTILES:
        for name, histogram in shown_intervals(info, summary).items():
            each = spreads.get(f"{name}_ns", {}).get(title)
            if each is not None:
                is_few, worth = None in (each.low, each.high), each.num_effective
            else:
                worth = histogram.count
                is_few = title == QUANTILES[-1][0] and worth < num_needed(share)
            if is_few:
                few.setdefault(title, []).append((worth, histogram.count, name))
    if few:
        titles, (highest, found) = ", ".join(few), list(few.items())[-1]
        worth, count, name = min(found)
        needed = num_needed(dict(QUANTILES)[highest])
        words = f"{count} samples"
        yield Warning(
            "few-samples",
            f"too few samples for {titles}",
            words if worth == count else f"{words} of {name} count as {worth} independent ones",
            f"{needed} independent ones",
            f"run {math.ceil(needed / worth)} times as long, or do not quote {titles}",
        )


def num_needed(share: float) -> int:
    """Independent samples of which one at least lies beyond that quantile, nearly for sure.

    With fewer the 95 % interval by order statistics (:mod:`xdptstamp.spread`) has no upper end.
    """
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log(share))


# From p50 to p99; None: too few values for that.
def _span(histogram: Histogram) -> int | None:
    if not histogram.is_supported(0.99):
        return None
    return histogram.quantile(0.99) - histogram.quantile(0.5)


# How far the PHC went from CLOCK_TAI between its comparisons; None: there are none.
def _moved_ns(info: RunInfo) -> int | None:
    samples = info.clock_comparison.get("samples") or {}
    times = zip(samples.get("phc_ns", ()), samples.get("tai_ns", ()), strict=True)
    offsets = [phc_ns - tai_ns for phc_ns, tai_ns in times]
    return max(offsets) - min(offsets) if offsets else None
