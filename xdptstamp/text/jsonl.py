# SPDX-License-Identifier: GPL-2.0-only
"""A run as JSON lines: ``{"type": "start"|"sample"|"end", ...}``, integers as integers.

A missing value is null, ``cause`` is its word or null. ``start`` and ``end`` carry the run info
as ``run.json`` does; ``end`` also the summary, nanoseconds throughout (percentiles as exact as
:data:`xdptstamp.histogram.RELATIVE_ERROR` says), with null for a percentile that the number of
samples does not support. An interval across clocks has its ``uncertainty_ns`` (``p50``: of half of
the values, ``max``: of all) and how many were ``left_out``, or ``refused``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from xdptstamp.histogram import Histogram
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import COLUMNS_OF_KIND, Batch, Cause
from xdptstamp.stats import Summary
from xdptstamp.store.selection import Field, fields_of
from xdptstamp.text.intervals import QUANTILES, refusal
from xdptstamp.text.lines import write_lines
from xdptstamp.text.summary import warning_lines

_CAUSE_WORDS = ["null" if cause is Cause.NONE else f'"{cause.label}"' for cause in sorted(Cause)]


class JsonlOutput:
    """``--format jsonl``."""

    def __init__(self) -> None:
        self._kind = ""

    def start(self, info: RunInfo) -> None:
        """Write the first line."""
        self._kind = info.kind
        write_lines([_dump({"type": "start", "info": info.to_json()})])

    def batch(self, batch: Batch, summary: Summary, status: dict[str, int]) -> None:
        """Write one line for each sample."""
        write_lines(sample_lines(self._kind, batch))

    def tick(self, summary: Summary, status: dict[str, int]) -> None:
        """Nothing: a reader of JSON lines takes samples only."""

    def end(self, info: RunInfo, summary: Summary) -> None:
        """Write the last line; warnings also to stderr."""
        last = {"type": "end", "info": info.to_json(), "summary": summary_json(info, summary)}
        write_lines([_dump(last)])
        for warning in info.warnings:
            write_lines(warning_lines(warning), sys.stderr)


def sample_lines(kind: str, batch: Batch) -> list[str]:
    """One JSON object for each sample, with the columns of ``kind``."""
    return object_lines(fields_of(COLUMNS_OF_KIND[kind], "ns"), batch, head='"type":"sample",')


def object_lines(
    fields: Sequence[Field], batch: Batch, zero_ns: int = 0, *, head: str = ""
) -> list[str]:
    """One JSON object for each sample, with these fields.

    :param zero_ns: time 0 of the run, for relative times.
    :param head: members that each object begins with, with their commas.
    """
    # Filled in by hand: a flood gives tens of thousands of lines a second.
    members = ",".join(f'"{field.name}":%s' for field in fields)
    line = f"{{{head}{members}}}"
    columns = (_json_values(field, batch, zero_ns) for field in fields)
    return [line % row for row in zip(*columns, strict=True)]


def summary_json(info: RunInfo, summary: Summary) -> dict[str, Any]:
    """The summary as JSON: counts, causes by word, intervals by name."""
    return {
        "num_samples": summary.num_samples,
        "num_stamped": summary.num_stamped,
        "num_not_requested": summary.num_not_requested,
        "num_warmup": summary.num_warmup,
        "causes": {cause.label: count for cause, count in summary.causes.items() if count},
        "intervals": {
            name: _interval_json(info, summary, name)
            for name in dict.fromkeys([*summary.intervals, *summary.num_ends])
        },
    }


def _interval_json(info: RunInfo, summary: Summary, name: str) -> dict[str, Any]:
    reason, histogram = refusal(info, name), summary.intervals.get(name, Histogram())
    if reason:
        return {"count": summary.num_ends.get(name, histogram.count), "refused": reason}
    across: dict[str, Any] = {}
    if name in summary.num_ends:
        across["left_out"] = summary.num_ends[name] - histogram.count
    if histogram.count and name in summary.uncertainties:
        sure = summary.uncertainties[name]
        across["uncertainty_ns"] = {"p50": sure.quantile(0.5), "max": sure.max}
    return {**histogram_json(histogram), **across}


def histogram_json(histogram: Histogram) -> dict[str, int | None]:
    """Count, minimum, percentiles and maximum, in nanoseconds; of none the count alone."""
    if not histogram.count:
        return {"count": 0}
    shares = {
        title: histogram.quantile(share) if histogram.is_supported(share) else None
        for title, share in QUANTILES
    }
    return {"count": histogram.count, "min": histogram.min, **shares, "max": histogram.max}


# A column as JSON values; `null` where one is missing.
def _json_values(field: Field, batch: Batch, zero_ns: int) -> list[str]:
    values, is_valid = field.values(batch, zero_ns)
    if field.name == "cause":
        return [_CAUSE_WORDS[value] for value in values.tolist()]
    if values.dtype.kind == "b":
        return ["true" if value else "false" for value in values.tolist()]
    texts = [str(value) for value in values.tolist()]
    if is_valid is None or is_valid.all():
        return texts
    pairs = zip(texts, is_valid.tolist(), strict=True)
    return [text if is_there else "null" for text, is_there in pairs]


# `default`: paths in the run info; `allow_nan`: NaN is not JSON.
def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), default=str, allow_nan=False)
