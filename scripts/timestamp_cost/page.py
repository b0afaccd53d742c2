# SPDX-License-Identifier: GPL-2.0-only
"""The study's page: page.md, and in it what the runs say."""

from __future__ import annotations

import shlex
from pathlib import Path

from model import predict
from points import Study
from runs import LATENCIES_US, study_runs
from tables import bandwidth, hold, stamped, table

_TEXT = Path(__file__).with_name("page.md")


def page(study: Study) -> str:
    """The whole of it, in Markdown."""
    values = {**_whole(study), **_found(study)}
    for series in ("free", "waiting", "ring64"):
        values[f"bandwidth_{series}"] = table(study, series, bandwidth)
    values["stamped_free"] = table(study, "free", stamped)
    values["hold_paced"] = table(study, "paced", hold)
    lines = [f"| `{each.name}` | `{shlex.join(each.words())}` |" for each in study_runs()]
    values["commands"] = "\n".join(lines)
    return _TEXT.read_text(encoding="utf-8").format(**values)


def _whole(study: Study) -> dict[str, str]:
    truths = list(study.truths())
    worst_ns = max(truth.worst_ns for truth in truths)
    return {
        "kernel": study.run("free-1000us").info.dut["kernel_release"],
        "packet_us": f"{study.packet_ns / 1000:.0f}",
        "plain_us": f"{study.plain_ns / 1000:,.0f}",
        "handling_us": f"{study.handling_ns / 1000:,.0f}",
        "num_stamps": f"{sum(truth.num_stamps for truth in truths):,}",
        "truth": f"error {worst_ns} ns" if not worst_ns else f"the worst is {worst_ns:,} ns off",
    }


def _found(study: Study) -> dict[str, str]:
    values = {}
    for ratio in ("1:1", "1:10", "1:100"):
        for name, series, cell in (
            ("free", "free", bandwidth),
            ("waiting", "waiting", bandwidth),
            ("stamped", "free", stamped),
        ):
            key = f"{name}_{ratio.replace(':', '_')}"
            values[key], values[f"{key}_model"] = cell(study.point(series, 10_000, ratio))
    for key, series in (("ring64", "ring64"), ("ring256", "free")):
        values[key], values[f"{key}_model"] = bandwidth(study.point(series, 10_000, "1:10"))
    for key, series in (("ring64", "ring64"), ("ring256", "free")):
        values[f"{key}_pps"] = f"{study.point(series, 10_000, '1:10').rate.pps:,.0f}"
    for ratio in ("1:10", "1:100"):
        paced = [study.point("paced", latency_us, ratio) for latency_us in (0, 10_000)]
        first_ns, last_ns = (point.hold_ns["stamped"][0] for point in paced)
        values[f"hold_{ratio.replace(':', '_')}"] = f"{(last_ns - first_ns) / 1e6:.1f}"
    values |= _predictions(study)
    sums = study.sums("free-10000us")
    values |= {"skipped": f"{sums.skipped:,}", "counted": f"{sums.counted:,}"}
    sums = study.sums("sink-1000us")
    names = ("sent", "arrived", "disordered")
    return values | {name: f"{getattr(sums, name):,}" for name in names}


def _predictions(study: Study) -> dict[str, str]:
    points = [point for point in study.points if point.run.series in ("free", "waiting", "ring64")]
    words = []
    for latency_us in LATENCIES_US:
        own = [point for point in points if point.run.latency_us == latency_us]
        inside = sum(point.predicted_beside == 0 for point in own)
        words.append(f"{inside} of {len(own)} at {latency_us:,} us")
    rare = study.point("free", 10_000, "1:100")
    return {
        "inside": ", ".join(words),
        "num_low": str(sum(point.predicted_beside < 0 for point in points)),
        "rare": f"{predict(rare.queue, 1, 1000).packets_per_ns * rare.queue.packet_ns:.2f}",
    }
