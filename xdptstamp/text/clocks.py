# SPDX-License-Identifier: GPL-2.0-only
"""How the NIC's clock compared with the system's, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xdptstamp.runinfo import RunInfo
from xdptstamp.stats import Summary, is_assumed
from xdptstamp.text.lines import us

_NS_PER_S = 1_000_000_000


def offset_text(offset_ns: int) -> str:
    """``+37.000000123 s``, all digits."""
    seconds, rest = divmod(abs(offset_ns), _NS_PER_S)
    return f"{'-' if offset_ns < 0 else '+'}{seconds}.{rest:09d} s"


def drift_text(ppb: int, uncertainty_ppb: int) -> str:
    """``+50.000 ppm (+-0.002)``."""
    return f"{'-' if ppb < 0 else '+'}{us(abs(ppb))} ppm (+-{us(uncertainty_ppb)})"


def has_comparison(info: RunInfo) -> bool:
    """Whether the NIC's clock was compared in a way that covers any time of the run."""
    return any((info.clock_comparison.get("samples") or {}).get("continues", ()))


def num_steps(info: RunInfo) -> int:
    """How often a clock was set, or the adapter reset, between two samples."""
    samples = info.clock_comparison.get("samples") or {}
    return list(samples.get("continues", ()))[1:].count(False)


def clock_pairs(info: RunInfo) -> Iterator[tuple[str, object]]:
    """Lines of a header; none where no stamp is the NIC's."""
    comparison = info.clock_comparison
    if has_comparison(info):
        yield "PHC - TAI", _comparison_text(comparison)
    for note in comparison.get("notes") or []:
        yield "clocks", note
    if comparison.get("problem"):
        yield "clocks", f"not compared: {comparison['problem']}"


def _comparison_text(comparison: dict[str, Any]) -> str:
    samples = comparison["samples"]
    offset_ns = samples["phc_ns"][0] - samples["tai_ns"][0]
    worst_ns = max(samples["uncertainty_ns"])
    text = f"{offset_text(offset_ns)} (+-{us(samples['uncertainty_ns'][0])} us) at first"
    drift = comparison.get("drift_ppb"), comparison.get("drift_uncertainty_ppb")
    if drift[0] is not None and drift[1] is not None:
        text += f", drifting by {drift_text(drift[0], drift[1])}"
    # A run that was killed has the samples, and perhaps nothing else of the comparison.
    method = comparison.get("method") or samples["method"][0]
    text += f"; {len(samples['tai_ns'])} samples, {method}, the worst +-{us(worst_ns)} us"
    uncertainty = comparison.get("uncertainty")
    return f"{text}: {uncertainty}" if uncertainty else text


def refusal(info: RunInfo, start: str, end: str) -> str | None:
    """Why two clocks may not be subtracted; None if they may."""
    if is_assumed(info) or has_comparison(info):
        return None
    problem = info.clock_comparison.get("problem")
    reason = f"two clocks ({start}, {end}), no measured offset"
    return f"{reason} ({problem})" if problem else reason


def compared_notes(info: RunInfo, summary: Summary, shown: list[str]) -> Iterator[str]:
    """What the reader of intervals across clocks must know.

    :param shown: names of those that are shown, with ``_ns``.
    """
    names = [name for name in shown if name in summary.uncertainties]
    if not names:
        return
    words = ", ".join(name.removesuffix("_ns") for name in names)
    if is_assumed(info):
        yield f"{words}: across clocks, the PHC taken to be CLOCK_TAI as asked: not measured"
        return
    sures = [summary.uncertainties[name] for name in names if summary.uncertainties[name].count]
    half, most = max(sure.quantile(0.5) for sure in sures), max(sure.max for sure in sures)
    if most:
        text = f"{words}: across clocks, by their measured offset: half of them are within "
        yield text + f"+-{us(half)} us, all within +-{us(most)} us"


def left_out(info: RunInfo, summary: Summary) -> Iterator[tuple[str, str]]:
    """Intervals of which not all that there are is shown, and why."""
    intervals = summary.intervals
    for name, count in summary.num_ends.items():
        kept = intervals[name].count if name in intervals else 0
        if kept < count:
            yield (
                name,
                f"{count - kept:,} of {count:,} left out: a clock was set or the adapter "
                "reset around them, or no comparison covers them",
            )
