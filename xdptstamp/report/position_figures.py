# SPDX-License-Identifier: GPL-2.0-only
"""Hold time packet by packet behind a stamp, of a ``mixed`` run that recorded them all.

``holds.csv`` knows three positions; the samples of ``--record-all`` know each. The place of a
packet in its pattern follows from its number, as the pattern is repeated exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xdptstamp.histogram import Histogram
from xdptstamp.report.figure import Axis, Figure, Series, Table
from xdptstamp.report.recomputed import Recomputed
from xdptstamp.rounds import Setting
from xdptstamp.sample import NULL, Batch
from xdptstamp.text.lines import stamp_words, us
from xdptstamp.text.mixed_tables import setting_label

#: Packets behind a stamp that are told apart.
MAX_BEHIND = 64

_COLUMNS = ("seq", "setting", "is_warmup", "tx_app_ns", "tx_comp_ns")

# By setting and place; place 0 is the last stamped packet of a pattern.
_Holds = dict[int, list[Histogram]]


def position_figures(found: Recomputed) -> Iterator[Figure]:
    """One figure for each frame size; none where not all packets were recorded.

    :raises RunFileError: If the samples cannot be read.
    """
    if not (found.run.info.asked.get("records_all") and found.settings and found.has_samples):
        return
    holds = _read(found)
    for size in sorted({found.settings[index].size_bytes for index in holds}):
        own = {i: each for i, each in holds.items() if found.settings[i].size_bytes == size}
        yield _figure(found, size, own)


def _read(found: Recomputed) -> _Holds:
    patterns = {
        index: setting
        for index, setting in enumerate(found.settings)
        if setting.stamped and setting.plain and not setting.every_ns
    }
    holds: _Holds = {}
    for batch in found.run.batches(_COLUMNS):
        for index, setting in patterns.items():
            is_own = (batch["setting"] == index) & ~batch["is_warmup"]
            is_own &= (batch["tx_app_ns"] != NULL) & (batch["tx_comp_ns"] != NULL)
            if is_own.any():
                places = holds.setdefault(index, _places(setting))
                _add(places, setting, batch[is_own])
    return holds


def _places(setting: Setting) -> list[Histogram]:
    return [Histogram() for _ in range(min(setting.plain, MAX_BEHIND) + 1)]


def _add(places: list[Histogram], setting: Setting, batch: Batch) -> None:
    behind = batch["seq"] % (setting.stamped + setting.plain) - (setting.stamped - 1)
    values = batch["tx_comp_ns"] - batch["tx_app_ns"]
    order = np.argsort(behind, kind="stable")
    bounds = np.searchsorted(behind[order], np.arange(len(places) + 1))
    for place, histogram in enumerate(places):
        histogram.add(values[order[bounds[place] : bounds[place + 1]]])


def _figure(found: Recomputed, size: int, holds: _Holds) -> Figure:
    series, rows, said = [], [], []
    for color, (index, places) in enumerate(holds.items()):
        label = setting_label(found.settings[index])
        known = [(place, each) for place, each in enumerate(places) if each.count]
        series.append(
            Series(
                label,
                "line",
                color,
                [place for place, _ in known],
                [each.quantile(0.5) for _, each in known],
                low=[each.min for _, each in known],
                high=[each.max for _, each in known],
                notes=[f"{size} bytes, {place} behind the stamp" for place, _ in known],
            )
        )
        rows += [
            [f"{label} {place}", f"{each.count:,}", *map(us, _values(each))]
            for place, each in known
        ]
        said += [(each.max, f"{label}, {place} behind the stamp") for place, each in known]
    words = f"submit to completion; {stamp_words(found.run.info.timestamps)}; clock: tai"
    title = f"Hold time packet by packet behind a stamp, {size} bytes"
    lowest = min(each for one in series for each in one.low if each is not None)
    longest = max(said)
    return Figure(
        f"position-{size}",
        title,
        words,
        Axis("packets behind the last stamped one; 0: itself", "count"),
        Axis("us", "us", is_log=lowest > 0),
        tuple(series),
        f"The longest, {us(longest[0])} us: {longest[1]}.",
        Table(f"{title}, in us; {words}", ("place", "packets", "min", "p50", "max"), rows),
        (
            "Line: the median. Band: from the least to the greatest.",
            f"The first {MAX_BEHIND} packets behind a stamp; the others are not told apart.",
        ),
    )


def _values(histogram: Histogram) -> tuple[int, int, int]:
    return histogram.min, histogram.quantile(0.5), histogram.max
