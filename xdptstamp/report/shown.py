# SPDX-License-Identifier: GPL-2.0-only
"""A run that was worked out anew, as text and as JSON: what its command printed, and more."""

from __future__ import annotations

import dataclasses
from typing import Any

from xdptstamp.bandwidth import merged_holds, merged_reap, rates
from xdptstamp.report.recomputed import Recomputed
from xdptstamp.spread import Spread
from xdptstamp.text.details import detail_lines
from xdptstamp.text.jsonl import histogram_json, summary_json
from xdptstamp.text.mixed import format_mixed
from xdptstamp.text.summary import format_summary
from xdptstamp.text.truth import truth_lines


def shown_lines(found: Recomputed) -> list[str]:
    """The text: ASCII lines of at most 72 columns; only a longer path stands whole on a line."""
    info = found.run.info
    details = detail_lines(info, has_samples=found.has_samples, has_rounds=bool(found.rounds))
    if found.rounds:
        lines = format_mixed(
            info,
            found.settings,
            found.rounds,
            found.summary,
            details=details,
            spreads=found.spreads,
        )
    else:
        lines = format_summary(
            info, found.summary, found.packets, details=details, spreads=found.spreads
        )
    return lines if found.truth is None else [*lines, "", *truth_lines(found.truth)]


def shown_json(found: Recomputed) -> dict[str, Any]:
    """One object: the last line of ``--format jsonl`` of the run's command, and more.

    Intervals have ``ci95``, the two ends of each percentile's 95 % interval, null where the samples
    do not bound it, and ``num_effective``, the independent samples that would tell as much. Of
    ``mixed`` there are ``rates`` and ``holds`` of each setting, by its number.
    """
    info, summary = found.run.info, summary_json(found.run.info, found.summary)
    for name, spreads in found.spreads.items():
        if "refused" not in summary["intervals"][name]:
            summary["intervals"][name] |= _spreads_json(spreads)
    data: dict[str, Any] = {"type": "end", "info": info.to_json(), "summary": summary}
    if found.rounds:
        speed_mbps = info.nic.get("speed_mbps")
        found_rates = rates(found.settings, found.rounds, speed_mbps)
        data["rates"] = [dataclasses.asdict(rate) for rate in found_rates]
        data["holds"] = [_holds_json(found, rate.setting) for rate in found_rates]
    if found.truth is not None:
        data["truth"] = found.truth.to_json()
    return data


def _spreads_json(spreads: dict[str, Spread]) -> dict[str, Any]:
    return {
        "ci95": {title: [each.low, each.high] for title, each in spreads.items()},
        "num_effective": {title: each.num_effective for title, each in spreads.items()},
    }


def _holds_json(found: Recomputed, setting: int) -> dict[str, Any]:
    holds = {**merged_holds(found.rounds, setting), "period": merged_reap(found.rounds, setting)}
    return {"setting": setting, **{name: histogram_json(each) for name, each in holds.items()}}
