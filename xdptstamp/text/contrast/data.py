# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as one JSON object. Values are in the unit of their figure (pps, bps, ns, share), a
change is relative (0.03 is 3 %), in points (of a share) or a difference, as ``scale`` says."""

from __future__ import annotations

import dataclasses
from typing import Any

from xdptstamp.contrast import (
    CONFIDENCE,
    Change,
    Contrast,
    LimitResult,
    Pair,
    SideRun,
    json_number,
    verdict,
)


def contrast_json(contrast: Contrast) -> dict[str, Any]:
    """The whole comparison."""
    return {
        "type": "compare",
        "by": list(contrast.by),
        "resolution": contrast.resolution,
        "confidence": CONFIDENCE,
        "num_judged": contrast.num_judged(),
        "is_trusted": not contrast.doubted(),
        "sides": [dataclasses.asdict(side) for side in contrast.sides],
        "unpaired": list(contrast.unpaired),
        "pairs": [_pair_json(pair) for pair in contrast.pairs],
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {
        "base": "A",
        "side": pair.letter,
        "kind": pair.kind,
        "timestamps": pair.timestamps,
        "verdict": verdict(pair),
        "is_this_boot_only": pair.design == "one",
        "keys": pair.keys,
        "keys_not_noted_by_all": list(pair.unknown),
        "notes": list(pair.notes),
        "base_runs": [_run_json(run) for run in pair.base_runs],
        "side_runs": [_run_json(run) for run in pair.runs],
        "figures": [_change_json(change) for change in pair.changes],
        "limits": [_limit_json(limit) for limit in pair.limits],
    }


def _run_json(run: SideRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "path": run.path,
        "label": run.label,
        "started_utc": run.started_utc,
        "is_trusted": not run.doubts,
        "doubts": [dataclasses.asdict(doubt) for doubt in run.doubts],
        "warnings": list(run.warnings),
    }


def _change_json(change: Change) -> dict[str, Any]:
    figure = change.figure
    return {
        "name": figure.name,
        "setting": figure.setting or None,
        "subject": figure.subject,
        "stat": figure.stat or None,
        "unit": figure.unit or None,
        "scale": figure.scale,
        "is_headline": figure.is_headline,
        "wire_bits_per_packet": figure.wire_bits or None,
        "base": json_number(change.base),
        "side": json_number(change.value),
        "change": change.point,
        "ci95": None if change.low is None else [change.low, change.high],
        "p": change.p,
        "verdict": str(change.word),
        "within": change.within,
        "more": change.more,
        "more_of": change.more_of or None,
        "why": change.why or None,
    }


def _limit_json(limit: LimitResult) -> dict[str, Any]:
    return {
        "text": limit.text,
        "figure": limit.figure or None,
        "outcome": limit.outcome,
        "message": limit.message,
        "interval": None if limit.low is None else [limit.low, limit.high],
    }
