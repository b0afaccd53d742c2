# SPDX-License-Identifier: GPL-2.0-only
"""What the rounds of a ``mixed`` run amount to: rates, ratios to the baseline, hold times, books.

Warm-up rounds are left out throughout. A ratio is that of two rounds with the same number, measured
close to each other in time; several are averaged as logarithms, so that a ratio and its inverse
weigh the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from xdptstamp.histogram import Histogram
from xdptstamp.rounds import POSITIONS, Round, Setting

#: Of every interval here.
CONFIDENCE = 0.95

#: ``RunInfo.counts`` key of the worst ratio to the baseline, in millionths.
BANDWIDTH_PPM = "bandwidth_ppm"

_Rounds = Sequence[Round]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Arrived packets per second of a setting, as a share of the baseline's.

    :param point: geometric mean over the pairs; 0 if one of them is 0.
    :param low: of the 95 % interval, beside ``high``; None: fewer than two pairs, or one is 0.
    :param num_pairs: rounds that both have; ``num_zero``: those in which nothing arrived here.
    """

    point: float
    low: float | None
    high: float | None
    num_pairs: int
    num_zero: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """What one setting sent, over its rounds.

    :param setting: index in the run's list of settings.
    :param num_rounds: measured ones, without warm-up.
    :param pps: median of the packets that arrived in a second.
    :param wire_bps: the same in bits on the wire: preamble, gap and FCS included.
    :param link_share: of the link's nominal speed; None: unknown speed.
    :param ratio: to the baseline; None: no round of the baseline to hold it against.
    :param user_ns: CPU time per packet sent, beside ``system_ns``; None: nothing was sent.
    :param throttled_share: of the time, spent waiting for pending timestamps.
    """

    setting: int
    num_rounds: int
    pps: float
    wire_bps: float
    link_share: float | None
    ratio: Ratio | None
    user_ns: float | None
    system_ns: float | None
    throttled_share: float


@dataclass(frozen=True, slots=True)
class Drift:
    """How much a baseline's rate changed from its first round to its last.

    :param setting: index of the baseline.
    :param change: of a straight line through the logarithms, in the order of measuring: 0.05 is
        5 % faster at the end. ``low``, ``high``: its 95 % interval.
    """

    setting: int
    num_rounds: int
    change: float
    low: float
    high: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out "no change"."""
        return self.low > 0 or self.high < 0


def measured(rounds: Iterable[Round], setting: int | None = None) -> list[Round]:
    """The rounds that are not warm-up, of one setting or of all."""
    return [
        each
        for each in rounds
        if not each.is_warmup and (setting is None or each.setting == setting)
    ]


def sources(rounds: Iterable[Round]) -> list[str]:
    """Where the numbers of arrived packets are from, each once, in the order first met."""
    return list(dict.fromkeys(each.source for each in measured(rounds)))


def baseline_of(settings: Sequence[Setting], index: int) -> int | None:
    """The baseline of the same frame size as setting ``index``; None if there is none."""
    size = settings[index].size_bytes
    found = (i for i, s in enumerate(settings) if s.is_baseline and s.size_bytes == size)
    return next(found, None)


def rates(
    settings: Sequence[Setting], rounds: _Rounds, speed_mbps: int | None = None
) -> list[Rate]:
    """One :class:`Rate` for each setting that was measured, in the order of ``settings``.

    :param speed_mbps: nominal speed of the link, None if unknown.
    """
    indices = range(len(settings))
    return [rate(settings, rounds, i, speed_mbps) for i in indices if measured(rounds, i)]


def rate(
    settings: Sequence[Setting], rounds: _Rounds, index: int, speed_mbps: int | None = None
) -> Rate:
    """The :class:`Rate` of one setting that has at least one measured round."""
    own = measured(rounds, index)
    pps = statistics.median(each.pps for each in own)
    wire_bps = pps * settings[index].wire_bits
    sent, duration_ns = (_total(own, name) for name in ("sent", "duration_ns"))
    return Rate(
        setting=index,
        num_rounds=len(own),
        pps=pps,
        wire_bps=wire_bps,
        link_share=wire_bps / (speed_mbps * 1e6) if speed_mbps and speed_mbps > 0 else None,
        ratio=ratio_to_baseline(settings, rounds, index),
        user_ns=_total(own, "user_ns") / sent if sent else None,
        system_ns=_total(own, "system_ns") / sent if sent else None,
        throttled_share=_total(own, "throttled_ns") / duration_ns if duration_ns else 0.0,
    )


def ratio_to_baseline(settings: Sequence[Setting], rounds: _Rounds, index: int) -> Ratio | None:
    """A setting's rate as a share of its baseline's, over the rounds that both have.

    A round in which the baseline's own packets did not arrive has no ratio and is left out.
    """
    baseline = baseline_of(settings, index)
    if baseline is None:
        return None
    whole = {each.round: each.pps for each in measured(rounds, baseline) if each.pps > 0}
    own = {each.round: each.pps for each in measured(rounds, index)}
    return mean_ratio([own[number] / whole[number] for number in own if number in whole])


def mean_ratio(pairs: Sequence[float]) -> Ratio | None:
    """The geometric mean of ratios, with its interval from Student's t on the logarithms."""
    if not pairs:
        return None
    num_zero = sum(pair <= 0 for pair in pairs)
    if num_zero:
        return Ratio(0.0, None, None, len(pairs), num_zero)
    logs = [math.log(pair) for pair in pairs]
    middle = statistics.fmean(logs)
    if len(logs) < 2:
        return Ratio(_exp(middle), None, None, 1)
    half = _t(len(logs) - 1) * statistics.stdev(logs, middle) / math.sqrt(len(logs))
    return Ratio(_exp(middle), _exp(middle - half), _exp(middle + half), len(logs))


def drifts(settings: Sequence[Setting], rounds: _Rounds) -> list[Drift]:
    """How each baseline's rate changed over the run; needs three rounds in which it arrived."""
    found = []
    for index, setting in enumerate(settings):
        own = [each for each in measured(rounds, index) if each.pps > 0]
        if setting.is_baseline and len({each.order for each in own}) >= 3:
            found.append(_drift(index, own))
    return found


def merged_holds(rounds: _Rounds, setting: int) -> dict[str, Histogram]:
    """Submit to completion of a setting over all its rounds, by position; empty ones left out."""
    merged = {
        position: _merged(each.hold.get(position) for each in measured(rounds, setting))
        for position in POSITIONS
    }
    return {position: histogram for position, histogram in merged.items() if histogram.count}


def merged_reap(rounds: _Rounds, setting: int) -> Histogram:
    """From one look at the completions to the next, of a setting over all its rounds."""
    return _merged(each.reap for each in measured(rounds, setting))


def merged_latency(rounds: _Rounds, setting: int) -> Histogram:
    """The second app's latency beside a setting, over all its rounds."""
    apps = (each.second_app or {} for each in measured(rounds, setting))
    found = (app.get("latency") for app in apps)
    return _merged(each for each in found if isinstance(each, Histogram))


def sum_counts(books: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counters by name, added up."""
    total: dict[str, int] = {}
    for book in books:
        for name, count in book.items():
            total[name] = total.get(name, 0) + count
    return total


def totals(settings: Sequence[Setting], rounds: _Rounds) -> dict[str, int]:
    """The run's books over all settings, for ``RunInfo.counts``.

    ``received`` and what follows from it are there only if every round had a sink, and
    :data:`BANDWIDTH_PPM` only if some setting has a ratio.
    """
    own = measured(rounds)
    names = ["sent", "completed", "lost", "dropped_by_kernel", "requested", "stamped"]
    counts = {name: _total(own, name) for name in names}
    if own and all(each.received is not None for each in own):
        names = ["received", "reordered", "duplicates", "corrupted", "pattern_errors"]
        counts |= {name: _total(own, name) for name in names}
        counts["not_received"] = _total(own, "missing")
    worst = worst_ratio(settings, rounds)
    return counts if worst is None else {**counts, BANDWIDTH_PPM: round(worst * 1e6)}


def worst_ratio(settings: Sequence[Setting], rounds: _Rounds) -> float | None:
    """The smallest ratio to the baseline of any setting that has one, baselines left out."""
    found = [
        ratio_to_baseline(settings, rounds, index)
        for index, setting in enumerate(settings)
        if not setting.is_baseline
    ]
    return min((ratio.point for ratio in found if ratio is not None), default=None)


def _drift(index: int, own: Sequence[Round]) -> Drift:
    orders = np.array([each.order for each in own], np.float64)
    logs = np.log([each.pps for each in own])
    away = orders - orders.mean()
    spread = float(away @ away)
    slope = float(away @ logs) / spread
    rest = logs - logs.mean() - slope * away
    error = math.sqrt(float(rest @ rest) / (len(own) - 2) / spread)
    half = _t(len(own) - 2) * error
    span = float(np.ptp(orders))
    change, low, high = (_exp(s * span) - 1 for s in (slope, slope - half, slope + half))
    return Drift(index, len(own), change, low, high)


# Two wild pairs have an interval whose end no float can hold.
def _exp(logarithm: float) -> float:
    return math.exp(min(logarithm, 700.0))


# Student's t: half of what is outside the interval lies above it.
def _t(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _total(rounds: Iterable[Round], name: str) -> int:
    return sum(int(getattr(each, name) or 0) for each in rounds)


def _merged(histograms: Iterable[Histogram | None]) -> Histogram:
    merged = Histogram()
    for histogram in histograms:
        if histogram is not None:
            merged.merge(histogram)
    return merged
