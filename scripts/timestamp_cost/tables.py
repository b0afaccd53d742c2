# SPDX-License-Identifier: GPL-2.0-only
"""The study's numbers as Markdown tables: what was measured, and what the model says."""

from __future__ import annotations

from collections.abc import Callable

from points import Point, Study
from runs import LATENCIES_US

from xdptstamp.text.lines import us


def bandwidth(point: Point) -> tuple[str, str]:
    """Of the rate without stamps: measured with its 95 % interval, and predicted."""
    ratio = point.rate.ratio
    assert ratio is not None
    ends = "" if ratio.low is None else f" [{_share(ratio.low)}, {_share(ratio.high)}]"
    return f"{_share(ratio.point)}{ends}", _share(point.predicted)


# Two digits that say something.
def _share(share: float | None) -> str:
    assert share is not None
    return f"{share:.2f}" if share >= 0.095 else f"{share:.2g}"


def stamped(point: Point) -> tuple[str, str]:
    """Requests that got their stamp, in percent."""
    return f"{100 * point.stamped_share:.1f} %", f"{100 * point.model.stamped:.1f} %"


def hold(point: Point) -> tuple[str, str]:
    """Hold time of packets that asked: median and 99th percentile; the model's median."""
    median, high = point.hold_ns["stamped"]
    return f"{us(median)}, {us(high)}", us(round(point.model.hold_ns))


def table(study: Study, series: str, cell: Callable[[Point], tuple[str, str]]) -> str:
    """A row for each latency, two columns for each ratio."""
    by_ratio = study.by_ratio(series)
    head = ["latency", *(word for ratio in by_ratio for word in (ratio, "model"))]
    rows = [head, ["---:"] * len(head)]
    for latency_us, *points in zip(LATENCIES_US, *by_ratio.values(), strict=True):
        rows.append([f"{latency_us:,} us", *(word for point in points for word in cell(point))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
