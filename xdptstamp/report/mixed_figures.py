# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a ``mixed`` run's rounds: bandwidth against ratio, hold time by position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdptstamp.bandwidth import measured, merged_holds, merged_reap, rates, sources
from xdptstamp.report.figure import Axis, Figure, Series
from xdptstamp.report.recomputed import Recomputed
from xdptstamp.report.tables import bandwidth_table, hold_table
from xdptstamp.rounds import POSITIONS, Setting
from xdptstamp.text.lines import stamp_words, us
from xdptstamp.text.mixed_tables import setting_label, source_words

_SHARES = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
_APART = 0.22  # of a category, between the series in it
_POSITION_WORDS = {
    "stamped": "stamped packets",
    "behind": "right behind a stamped one",
    "others": "other plain packets",
}


def mixed_figures(found: Recomputed) -> Iterator[Figure]:
    """Bandwidth as a share of the baseline, packets a second, hold time by position."""
    info = found.run.info
    own = rates(found.settings, found.rounds, info.nic.get("speed_mbps"))
    if not own:
        return
    if any(rate.ratio and not found.settings[rate.setting].is_baseline for rate in own):
        yield _ratio_figure(found)
    yield _pps_figure(found)
    hold = _hold_figure(found)
    if hold is not None:
        yield hold


def _words(found: Recomputed) -> str:
    source = source_words(sources(found.rounds))
    return f"{stamp_words(found.run.info.timestamps)}; {source}; clock: monotonic"


# Ratios in the order of how many packets ask for a timestamp; each once, whatever the size.
def _labels(settings: Sequence[Setting], *, has_baseline: bool) -> tuple[str, ...]:
    chosen = [each for each in settings if has_baseline or not each.is_baseline]
    chosen = sorted(chosen, key=_weight)
    return tuple(dict.fromkeys(setting_label(each) for each in chosen))


def _weight(setting: Setting) -> tuple[float, int]:
    if setting.every_ns:
        return 0.0, -setting.every_ns
    return setting.stamped / max(1, setting.stamped + setting.plain), 0


def _sizes(found: Recomputed) -> list[int]:
    return sorted({each.size_bytes for each in found.settings})


def _shift(number: int, count: int) -> float:
    return (number - (count - 1) / 2) * min(_APART, 0.8 / max(count, 1))


def _ratio_figure(found: Recomputed) -> Figure:
    labels, sizes = _labels(found.settings, has_baseline=False), _sizes(found)
    own = {rate.setting: rate for rate in rates(found.settings, found.rounds)}
    series, said = [], []
    for number, size in enumerate(sizes):
        points = []
        for index, setting in enumerate(found.settings):
            ratio = own[index].ratio if index in own else None
            if setting.size_bytes == size and not setting.is_baseline and ratio is not None:
                x = labels.index(setting_label(setting)) + _shift(number, len(sizes))
                note = f"{size} bytes, {setting_label(setting)}: {own[index].pps / 1e6:.4g} Mpps"
                points.append((x, ratio.point, ratio.low, ratio.high, note))
                said.append((ratio.point, f"{size} bytes, {setting_label(setting)}"))
        if points:
            xs, y, low, high, notes = zip(*sorted(points), strict=True)
            series.append(
                Series(f"{size} bytes", "whiskers", number, xs, y, low=low, high=high, notes=notes)
            )
    worst = min(said)
    return Figure(
        "bandwidth",
        "Bandwidth against the ratio of stamped to plain packets",
        _words(found),
        Axis("stamped : plain packets", "count", categories=labels),
        Axis("share of the baseline 0:1", "ratio"),
        tuple(series),
        f"The least is {worst[0]:.3f} of the baseline: {worst[1]}.",
        bandwidth_table(found),
        ("Points: geometric mean over paired rounds. Lines: its 95 % interval.",),
    )


def _pps_figure(found: Recomputed) -> Figure:
    labels, sizes = _labels(found.settings, has_baseline=True), _sizes(found)
    series, said = [], []
    for number, size in enumerate(sizes):
        points = []
        for index, setting in enumerate(found.settings):
            if setting.size_bytes != size:
                continue
            x = labels.index(setting_label(setting)) + _shift(number, len(sizes))
            for each in measured(found.rounds, index):
                note = f"{size} bytes, {setting_label(setting)}, round {each.round}"
                points.append((x, each.pps, note))
                said.append(each.pps)
        if points:
            xs, y, notes = zip(*sorted(points), strict=True)
            series.append(Series(f"{size} bytes", "points", number, xs, y, notes=notes))
    return Figure(
        "pps",
        "Packets a second, each round",
        _words(found),
        Axis("stamped : plain packets", "count", categories=labels),
        Axis("packets/s", "pps"),
        tuple(series),
        f"From {min(said):,.0f} to {max(said):,.0f} packets a second.",
        bandwidth_table(found),
        ("A point is one round: how far they lie apart is how much the rate varied.",),
    )


# A setting beside the other, in each the positions beside each other.
def _hold_figure(found: Recomputed) -> Figure | None:
    order = sorted(
        range(len(found.settings)),
        key=lambda i: (found.settings[i].size_bytes, *_weight(found.settings[i])),
    )
    holds = {index: merged_holds(found.rounds, index) for index in order}
    order = [index for index in order if holds[index]]
    if not order:
        return None
    has_sizes = len(_sizes(found)) > 1
    labels = tuple(
        f"{found.settings[i].size_bytes} " * has_sizes + setting_label(found.settings[i])
        for i in order
    )
    series, worst = [], (0, "")
    for number, position in enumerate(POSITIONS):
        points = []
        for place, index in enumerate(order):
            histogram = holds[index].get(position)
            if histogram is None:
                continue
            cells = [(t, histogram.quantile(q)) for t, q in _SHARES if histogram.is_supported(q)]
            cells.append(("max", histogram.max))
            shown = ", ".join(f"{title} {us(ns)}" for title, ns in cells)
            note = f"{labels[place]}, {_POSITION_WORDS[position]}: {shown} us"
            x = place + _shift(number, len(POSITIONS))
            far = histogram.quantile(0.99) if histogram.is_supported(0.99) else None
            half = histogram.quantile(0.5)
            points.append((x, half, None if far is None else half, far, histogram.max, note))
            worst = max(worst, (histogram.max, note))
        if points:
            xs, y, low, high, most, said = zip(*points, strict=True)
            name = _POSITION_WORDS[position]
            series.append(Series(name, "whiskers", number, xs, y, low=low, high=high, notes=said))
            series.append(Series(f"{name}, max", "points", number, xs, most, notes=said))
    finest = [merged_reap(found.rounds, i) for i in order]
    periods = [each.quantile(0.5) for each in finest if each.count]
    notes = [
        "From below: the median, a line to p99 where the packets are enough for it, the maximum."
    ]
    if periods:
        notes.append(
            f"Completions were looked at every {us(max(periods))} us (the slowest setting's p50): "
            "no hold time is known finer than that."
        )
    least = min(each.min for i in order for each in holds[i].values())
    return Figure(
        "hold",
        "Hold time by position after a stamp",
        f"submit to completion; {stamp_words(found.run.info.timestamps)}; clock: tai",
        Axis(
            "frame size, stamped : plain" if has_sizes else "stamped : plain packets",
            "count",
            categories=labels,
        ),
        Axis("us", "us", is_log=least > 0),
        tuple(series),
        f"The longest: {worst[1]}.",
        hold_table(found),
        tuple(notes),
    )
