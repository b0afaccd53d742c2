# SPDX-License-Identifier: GPL-2.0-only
"""The study's figures, drawn as those of a report are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from points import Point, Study
from runs import LATENCIES_US, NUM_REGISTERS

from xdptstamp.report.figure import Axis, Figure, Series, Table

_LATENCIES = tuple(f"{latency_us:,} us" for latency_us in LATENCIES_US)
_X = Axis("latency of a Tx timestamp", "count", categories=_LATENCIES)
_KEY = "HARDWARE timestamps; circles: measured, with 95 % intervals; lines: the model"
_APART = 0.1
_NO_TABLE = Table("", (), ())

_TITLES = {
    "free": "no limit: where no register is free a packet goes without its stamp",
    "waiting": f"at most {NUM_REGISTERS} stamps pending: the next stamped packet waits",
    "ring64": "no limit, a Tx ring of 64 descriptors instead of 256",
    "paced": "2,000 packets/s, far below what it can send",
}


def figures(study: Study) -> Iterator[Figure]:
    """All of them."""
    share = Axis("share of 0:1", "ratio")
    for series in ("free", "waiting", "ring64"):
        title = f"Bandwidth against latency and ratio; {_TITLES[series]}"
        yield _figure(f"bandwidth-{series}", title, share, study.by_ratio(series), _bandwidth)
    share = Axis("share of the requests", "ratio")
    title = "Requests that got their stamp; no limit"
    yield _figure("stamped", title, share, study.by_ratio("free"), _stamped)
    title = f"Hold time of packets that asked for a stamp, median; {_TITLES['paced']}"
    yield _figure("hold", title, Axis("us to completion", "us"), study.by_ratio("paced"), _hold)


_Marks = tuple[float, float | None, float | None, float]  # measured, its interval, predicted


def _bandwidth(point: Point) -> _Marks:
    ratio = point.rate.ratio
    assert ratio is not None
    return ratio.point, ratio.low, ratio.high, point.predicted


def _stamped(point: Point) -> _Marks:
    return point.stamped_share, None, None, point.model.stamped


def _hold(point: Point) -> _Marks:
    return point.hold_ns["stamped"][0], None, None, point.model.hold_ns


def _figure(
    key: str,
    title: str,
    y: Axis,
    by_ratio: Mapping[str, Sequence[Point]],
    marks: Callable[[Point], _Marks],
) -> Figure:
    drawn: list[Series] = []
    for color, (ratio, points) in enumerate(by_ratio.items()):
        shift = (color - (len(by_ratio) - 1) / 2) * _APART
        at = [LATENCIES_US.index(point.run.latency_us) + shift for point in points]
        own, low, high, model = zip(*map(marks, points), strict=True)
        drawn += [
            Series(ratio, "whiskers", color, at, own, low=low, high=high),
            Series(ratio, "line", color, at, model, low=model, high=model),
        ]
    return Figure(key, title, _KEY, _X, y, tuple(drawn), "", _NO_TABLE)
