# SPDX-License-Identifier: GPL-2.0-only
"""The three tables of a ``mixed`` run: bandwidth, timestamps, hold time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xdptstamp.bandwidth import (
    Rate,
    Ratio,
    measured,
    merged_holds,
    merged_latency,
    merged_reap,
    rates,
    sources,
    sum_counts,
)
from xdptstamp.histogram import RELATIVE_ERROR, Histogram
from xdptstamp.rounds import SOURCES, Round, Setting
from xdptstamp.runinfo import RunInfo
from xdptstamp.text.lines import cells, duration, percent, stamp_words, us, wrap
from xdptstamp.text.summary import reconciliation_lines

_SOURCE_WORDS = dict(
    zip(
        SOURCES,
        (
            "arrived at the sink",
            "NIC Tx counters",
            "completions, nobody counted what arrived",
        ),
        strict=True,
    )
)
_QUANTILES = (0.5, 0.99, 0.999)
_BELOW = "<period"
_NAME_WIDTH = 12

_Settings = Sequence[Setting]
_Rounds = Sequence[Round]


@dataclass(frozen=True, slots=True)
class _Table:
    """Columns beside the name, each with its title and its width, a blank before it included."""

    columns: tuple[tuple[str, int], ...]
    name_width: int = _NAME_WIDTH

    @property
    def titles(self) -> tuple[str, ...]:
        """Those of the columns."""
        return tuple(title for title, _ in self.columns)

    def head(self, name: str) -> str:
        """The line of titles."""
        return self._line(name, [title for title, _ in self.columns])

    def row(self, name: str, values: Sequence[str]) -> list[str]:
        """One line; a name too long stands above it, values too wide become name=value pairs."""
        is_wide = any(len(v) >= w for v, (_, w) in zip(values, self.columns, strict=True))
        if is_wide:
            pairs = (f"{t}={v}" for v, (t, _) in zip(values, self.columns, strict=True))
            return [*wrap(name), *wrap("  ".join(pairs), "      ")]
        if len(name) > self.name_width:
            return [*wrap(name), self._line("", values)]
        return [self._line(name, values)]

    def _line(self, name: str, values: Sequence[str]) -> str:
        widths = [width for _, width in self.columns]
        line = f"{name:<{self.name_width}}"
        return line + "".join(cells("", [v], 0, w) for v, w in zip(values, widths, strict=True))


#: Titles of the bandwidth table and of that of hold times.
BANDWIDTH = _Table(
    (("Mpps", 9), ("Gbit/s", 9), ("%link", 7), ("vs 0:1 [95 %]", 21), ("user", 7), ("sys", 7))
)
_TIMESTAMPS = _Table((("requested", 17), ("stamped", 17), ("missing", 16), ("% stamped", 10)))
HOLD = _Table((("p50", 12), ("p99", 12), ("p99.9", 12), ("max", 15)), name_width=21)


def setting_name(setting: Setting) -> str:
    """The first cells of its row: frame size and ratio."""
    return f"{setting.size_bytes:>5} {setting_label(setting)}"


def setting_label(setting: Setting) -> str:
    """``1:10``, ``1 per 1ms``, or ``0:1 + app 1ms``."""
    if setting.has_second_app:
        return f"{setting.ratio} + app {duration(setting.every_ns)}"
    return f"1 per {duration(setting.every_ns)}" if setting.every_ns else setting.ratio


def source_words(found: Sequence[str]) -> str:
    """Where the numbers of arrived packets are from, as a table's title says it."""
    if len(found) == 1:
        return _SOURCE_WORDS[found[0]]
    return f"SOURCES DIFFER between rounds: {'; '.join(_SOURCE_WORDS[f] for f in found)}"


# Bandwidth.


def bandwidth_lines(info: RunInfo, settings: _Settings, rounds: _Rounds) -> list[str]:
    """What arrived in a second, and as a share of the baseline."""
    found = rates(settings, rounds, info.nic.get("speed_mbps"))
    if not found:
        return ["bandwidth: no round was measured"]
    title = f"bandwidth: {source_words(sources(rounds))}; {stamp_words(info.timestamps)}"
    lines = [*wrap(title, "", "  "), BANDWIDTH.head(" size ratio")]
    for rate in found:
        setting = settings[rate.setting]
        lines += BANDWIDTH.row(setting_name(setting), bandwidth_values(setting, rate))
    for note in bandwidth_notes(settings, found):
        lines += wrap(note, "  ", "   ")
    return lines


def bandwidth_values(setting: Setting, rate: Rate) -> list[str]:
    """The cells of one setting in the bandwidth table."""
    return [
        _figures(rate.pps / 1e6),
        _figures(rate.wire_bps / 1e9),
        "-" if rate.link_share is None else f"{math.floor(rate.link_share * 1000) / 10:.1f}",
        "baseline" if setting.is_baseline else _ratio_text(rate.ratio),
        *("-" if ns is None else f"{ns:.0f}" for ns in (rate.user_ns, rate.system_ns)),
    ]


# Four figures at least, so that a paced rate is not just 0.001.
def _figures(value: float) -> str:
    limits = ((1, 1000), (3, 1), (4, 0.1), (5, 0.01))
    digits = next((digits for digits, least in limits if value >= least), 6)
    return f"{value:.{digits}f}" if value else "0"


def _ratio_text(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.point:.3f} [-]"
    return f"{ratio.point:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def bandwidth_notes(settings: _Settings, found: Sequence[Rate]) -> Iterator[str]:
    """What the reader of that table must know."""
    yield (
        f"(Mpps: median of {_rounds([r.num_rounds for r in found])}; Gbit/s: on the wire, "
        "with preamble, gap and FCS; user, sys: CPU ns per packet sent)"
    )
    ratios = [r.ratio for r in found if r.ratio and not settings[r.setting].is_baseline]
    if ratios:
        pairs = _rounds([ratio.num_pairs for ratio in ratios], "paired ")
        yield f"(vs 0:1: geometric mean over {pairs})"
    if any(ratio.low is None and not ratio.num_zero for ratio in ratios):
        yield "([-]: no interval, it takes two paired rounds)"
    num_zero = sum(ratio.num_zero for ratio in ratios)
    if num_zero:
        yield f"(0.000 [-]: nothing arrived in {_rounds([num_zero])}, there is no interval)"


# "3 to 5 rounds", "1 paired round"
def _rounds(numbers: Sequence[int], kind: str = "") -> str:
    low, high = min(numbers), max(numbers)
    count = str(low) if low == high else f"{low} to {high}"
    return f"{count} {kind}round{'' if high == 1 else 's'}"


# Timestamps.


def timestamp_lines(info: RunInfo, settings: _Settings, rounds: _Rounds) -> list[str]:
    """What was requested, what came, and why the rest did not."""
    causes = causes_seen(rounds)
    lines = [f"timestamps: {stamp_words(info.timestamps)}", _TIMESTAMPS.head(" size ratio")]
    for index, setting in enumerate(settings):
        own = measured(rounds, index)
        if own:
            lines += _timestamp_row(setting, own, causes)
            lines += second_app_lines(own, merged_latency(rounds, index), info.timestamps)
    lines += sharing_notes(settings)
    counters = reconciliation_lines(info)
    if not counters and info.timestamps == "software":
        counters = ["  (software stamps: no counter of a driver knows them)"]
    return lines + counters


def causes_seen(rounds: _Rounds) -> list[str]:
    """Causes that any setting has: shown for all, so that a zero is read as one."""
    seen = sum_counts(each.causes for each in measured(rounds))
    return [name for name, count in seen.items() if count]


def _timestamp_row(setting: Setting, own: _Rounds, causes: Sequence[str]) -> list[str]:
    requested, stamped = sum(r.requested for r in own), sum(r.stamped for r in own)
    missing = sum_counts(each.causes for each in own)
    counts = [requested, stamped, sum(missing.values())]
    values = [*(f"{count:,}" for count in counts), percent(stamped, requested)]
    lines = _TIMESTAMPS.row(setting_name(setting), values)
    pairs = [f"{name}={missing.get(name, 0):,}" for name in causes if requested]
    throttled = sum(each.throttled_ns for each in own)
    if throttled:
        share = percent(throttled, sum(each.duration_ns for each in own))
        pairs.append(f"throttled={share.replace(' ', '')} of the time")
    return lines + (wrap("  ".join(pairs), "      ") if pairs else [])


def second_app_lines(own: _Rounds, latency: Histogram, timestamps: str) -> list[str]:
    """The books of the second app beside a setting, and its latency; none without one."""
    apps = [each.second_app for each in own if each.second_app]
    if not apps:
        return []
    counts = sum_counts(_integers(app) for app in apps)
    causes = sum_counts(app.get("causes") or {} for app in apps)
    pairs = [f"{name}={count:,}" for name, count in counts.items()]
    pairs += [f"{name}={count:,}" for name, count in causes.items() if count]
    lines = wrap("second app: " + "  ".join(pairs), "      ", "        ")
    if latency.count:
        # The two ends of a hardware stamp are on two clocks.
        end = "stamp" if timestamps == "software" else "completion"
        titles = ("p50", "p99", "p99.9", "max")
        values = zip(titles, _quantiles(latency), strict=True)
        shown = "  ".join(f"{title}={value}" for title, value in values)
        lines += wrap(f"its submit to {end}, us: {shown}", "      ", "        ")
    return lines


def _integers(app: dict[str, Any]) -> dict[str, int]:
    return {
        name: value
        for name, value in app.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }


def sharing_notes(settings: _Settings) -> list[str]:
    """What two apps shared."""
    notes = []
    if any(setting.has_second_app for setting in settings):
        notes.append("(two queues: stamp registers shared, completion rings not)")
    if any(setting.every_ns and not setting.has_second_app for setting in settings):
        notes.append("(one queue: one process owns the completion ring)")
    return [line for note in notes for line in wrap(note, "  ", "   ")]


# Hold time.


def hold_lines(info: RunInfo, settings: _Settings, rounds: _Rounds) -> list[str]:
    """Submit to completion by position in the pattern, and how often completions were looked at."""
    title = f"hold time, submit to completion, in us; {stamp_words(info.timestamps)}"
    lines: list[str] = []
    shown: list[str] = []
    for index, setting in enumerate(settings):
        rows = list(hold_rows(rounds, index))
        lines += _hold_group(setting_name(setting), rows)
        shown += [value for _, values in rows for value in values]
    if not lines:
        return [*wrap(title, "", "  "), "  (no completion was seen)"]
    lines = [*wrap(title, "", "  "), HOLD.head(" size ratio  position"), *lines]
    return lines + [line for note in hold_notes(shown) for line in wrap(note, "  ", "   ")]


def hold_rows(rounds: _Rounds, index: int) -> Iterator[tuple[str, list[str]]]:
    """Each position of a setting with p50, p99, p99.9 and maximum; the period last."""
    reap = merged_reap(rounds, index)
    finest = reap.quantile(0.5) if reap.count else 0
    for position, histogram in merged_holds(rounds, index).items():
        yield position, _quantiles(histogram, finest)
    if reap.count:
        yield "period", _quantiles(reap)


# The setting's name beside its first row only; above them all if it is long.
def _hold_group(name: str, rows: Sequence[tuple[str, list[str]]]) -> list[str]:
    is_long = len(name) > _NAME_WIDTH
    lines = wrap(name) if is_long and rows else []
    for number, (position, values) in enumerate(rows):
        first = "" if number or is_long else name
        lines += HOLD.row(f"{first:<{_NAME_WIDTH}} {position}", values)
    return lines


# p50 p99 p99.9 max; what is finer than completions were looked at is not a measurement.
def _quantiles(histogram: Histogram, finest_ns: int = 0) -> list[str]:
    values = [histogram.quantile(q) if histogram.is_supported(q) else None for q in _QUANTILES]
    return [
        "-" if ns is None else _BELOW if ns < finest_ns else us(ns)
        for ns in (*values, histogram.max)
    ]


def hold_notes(shown: Sequence[str]) -> Iterator[str]:
    """What the reader of the hold times must know; ``shown`` are all cells."""
    yield (
        "(behind: a plain packet right behind a stamped one; period: from one look at the "
        "completions to the next, no hold time is known finer than that)"
    )
    exact = f"max is exact, percentiles within 1/{RELATIVE_ERROR.denominator}"
    if _BELOW in shown:
        exact += f"; {_BELOW}: below the p50 of that"
    if "-" in shown:
        exact += "; -: too few packets for that percentile"
    yield f"({exact})"
