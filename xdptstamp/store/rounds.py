# SPDX-License-Identifier: GPL-2.0-only
"""The rounds of a ``mixed`` run in its folder: ``rounds.csv`` and ``holds.csv``.

``rounds.csv`` has a row for each round, integers throughout. ``holds.csv`` has the histograms: how
often each hold time was seen, in buckets (:data:`xdptstamp.histogram.RELATIVE_ERROR`); smallest and
largest value of each histogram are exact and have a row of their own.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xdptstamp.errors import RunFileError
from xdptstamp.histogram import Histogram
from xdptstamp.rounds import POSITIONS, Round, Setting
from xdptstamp.run import Run
from xdptstamp.runinfo import RunInfo
from xdptstamp.store.files import check_regular, file_error, hidden_tmp, new_file, read_error
from xdptstamp.store.shapes import ROUND, SETTING, Each, check_shape

ROUNDS_NAME, HOLDS_NAME = "rounds.csv", "holds.csv"

#: Beside those of :data:`xdptstamp.rounds.POSITIONS`, what ``position`` says in ``holds.csv``: from
#: one look at the completions to the next; the latency of the second app.
PERIOD, SECOND_APP = "period", "second_app"

_HOLD_COLUMNS = (
    "round",
    "setting",
    "order",
    "is_warmup",
    "ratio",
    "size_bytes",
    "position",
    "hold_ns",
    "count",
)
_NEEDED = {"order", "position", "hold_ns", "count"}
_MAX_COUNT = 1 << 53
# Text in the CSV as name=count;name=count.
_BOOKS = ("located", "pause_frames", "wakeup_errors", "second_app")
_HISTOGRAMS = ("hold", "reap")
# In a counter's name: what CSV or this form would want to quote.
_QUOTED = re.compile(r'[^ -~]|[;=,"]')


def write_rounds(path: Path, settings: Sequence[Setting], rounds: Sequence[Round]) -> None:
    """Write ``rounds.csv`` and ``holds.csv`` into the run folder ``path``; may be repeated.

    :raises RunFileError: If they cannot be written; each is then what it was before.
    """
    rows = [round_row(settings[each.setting], each) for each in rounds]
    names = list(round_row(Setting(64, 0, 1), Round(0, 0, 0)))
    _replace_csv(path / ROUNDS_NAME, names, (row.values() for row in rows))
    _replace_csv(path / HOLDS_NAME, _HOLD_COLUMNS, _hold_rows(settings, rounds))


def round_row(setting: Setting, each: Round) -> dict[str, object]:
    """The columns of ``rounds.csv``: those of the setting, then every number of the round."""
    row: dict[str, object] = {
        "round": each.round,
        "setting": each.setting,
        "order": each.order,
        "is_warmup": each.is_warmup,
        "ratio": setting.ratio,
        "size_bytes": setting.size_bytes,
        "every_ns": setting.every_ns,
        "has_second_app": setting.has_second_app,
        "source": each.source,
        "arrived": each.arrived,
    }
    for item in dataclasses.fields(Round):
        value = getattr(each, item.name)
        if item.name == "causes":
            row |= value
        elif item.name in _BOOKS:
            row[item.name] = _book_text(value or {})
        elif item.name not in _HISTOGRAMS:
            row[item.name] = value
    return row


def rounds_json(settings: Sequence[Setting], rounds: Sequence[Round]) -> dict[str, Any]:
    """``settings`` and ``rounds`` for ``RunInfo.counts``, to be read back by :func:`read_rounds`.

    Histograms are not in it: they are in ``holds.csv``.
    """
    return {
        "settings": [dataclasses.asdict(setting) for setting in settings],
        "rounds": [_without_histograms(each) for each in rounds],
    }


def read_rounds(run: Run) -> tuple[list[Setting], list[Round]]:
    """The settings and rounds of a run, from its ``run.json`` and ``holds.csv``.

    :raises RunFileError: If they are not there, or damaged.
    """
    settings, rounds = rounds_of(run.info, run.path)
    _read_holds(run.path / HOLDS_NAME, rounds)
    return settings, rounds


def rounds_of(info: RunInfo, path: Path) -> tuple[list[Setting], list[Round]]:
    """The settings and rounds of a run info alone: the histograms are empty.

    :param path: of the run, for the error.
    :raises RunFileError: If they are not there, or damaged.
    """
    if "settings" not in info.counts or "rounds" not in info.counts:
        raise RunFileError(path, "it has no rounds: not a mixed run, or it was ended too early")
    try:
        check_shape(info.counts["settings"], Each(SETTING), "settings")
        check_shape(info.counts["rounds"], Each(ROUND), "rounds")
        settings = [Setting(**each) for each in info.counts["settings"]]
        rounds = [_round(each) for each in info.counts["rounds"]]
        _ = [settings[each.setting] for each in rounds]
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise RunFileError(path, f"its rounds cannot be read: {error}") from error
    return settings, rounds


def _without_histograms(each: Round) -> dict[str, Any]:
    data = each.to_json()
    if each.second_app is not None:
        app = each.second_app.items()
        data["second_app"] = {k: v for k, v in app if not isinstance(v, Histogram)}
    return data


# What later versions add, and what is derived, is left out.
def _round(data: Mapping[str, Any]) -> Round:
    known = {item.name for item in dataclasses.fields(Round)} - set(_HISTOGRAMS)
    return Round(**{name: value for name, value in data.items() if name in known})


def _book_text(book: Mapping[str, Any]) -> str:
    return ";".join(f"{_QUOTED.sub('_', name)}={count}" for name, count in _flat(book))


def _flat(book: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in book.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, int):
            yield name, int(value)


def _hold_rows(
    settings: Sequence[Setting], rounds: Sequence[Round]
) -> Iterator[tuple[object, ...]]:
    for each in rounds:
        setting = settings[each.setting]
        own = (each.round, each.setting, each.order, each.is_warmup)
        head = (*own, setting.ratio, setting.size_bytes)
        for position, histogram in _histograms(each):
            for ns, count in exact_buckets(histogram):
                yield (*head, position, ns, count)


def _histograms(each: Round) -> Iterator[tuple[str, Histogram]]:
    for position in POSITIONS:
        if position in each.hold:
            yield position, each.hold[position]
    yield PERIOD, each.reap
    latency = (each.second_app or {}).get("latency")
    if isinstance(latency, Histogram):
        yield SECOND_APP, latency


def exact_buckets(histogram: Histogram) -> list[tuple[int, int]]:
    """(value, how often), ascending: the buckets, with minimum and maximum taken out exactly."""
    buckets = histogram.buckets()
    if histogram.count < 2:
        return [(histogram.min, 1)] if buckets else []
    exact: dict[int, int] = {histogram.min: 1}
    for number, (middle, count) in enumerate(buckets):
        rest = count - (number == 0) - (number == len(buckets) - 1)
        ns = min(max(middle, histogram.min), histogram.max)
        exact[ns] = exact.get(ns, 0) + rest
    exact[histogram.max] = exact.get(histogram.max, 0) + 1
    return [(ns, count) for ns, count in exact.items() if count]


def _read_holds(file: Path, rounds: Sequence[Round]) -> None:
    # A warm-up has the place in the order of what it warms up for.
    by_key = {(str(each.order), _cell(each.is_warmup)): each for each in rounds}
    seen: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    try:
        check_regular(file)
        with open(file, newline="", encoding="ascii") as lines:
            reader = csv.DictReader(lines)
            if not _NEEDED <= set(reader.fieldnames or ()):
                raise ValueError(f"it lacks columns {', '.join(sorted(_NEEDED))}")
            for row in _with_warmup(reader, rounds):
                key = row["order"], row["is_warmup"], row["position"]
                seen.setdefault(key, []).append((int(row["hold_ns"]), int(row["count"])))
        for (order, is_warmup, position), pairs in seen.items():
            _add_pairs(_histogram(by_key[order, is_warmup], position), pairs)
    except OSError as error:
        raise read_error(file, "read the hold times", error) from error
    except (LookupError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise RunFileError(file, f"damaged, or not of this run: {error!r}") from error


# The first version did not write which rows are of a warm-up. They come ahead of those of the round
# that has the same place in the order, and there the positions and times begin anew.
def _with_warmup(
    rows: Iterable[dict[str, str]], rounds: Sequence[Round]
) -> Iterator[dict[str, str]]:
    of_order: dict[str, list[str]] = {}
    for each in rounds:
        of_order.setdefault(str(each.order), []).append(_cell(each.is_warmup))
    ranks = {name: rank for rank, name in enumerate((*POSITIONS, PERIOD, SECOND_APP))}
    last, number = ("", 0, 0), 0
    for row in rows:
        if "is_warmup" not in row:
            place = row["order"], ranks[row["position"]], int(row["hold_ns"])
            is_same = place[0] == last[0]
            number = number + (place[1:] <= last[1:]) if is_same else 0
            last = place
            row["is_warmup"] = of_order[row["order"]][number]
        yield row


def _add_pairs(histogram: Histogram, pairs: Sequence[tuple[int, int]]) -> None:
    values, times = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    if min(each for _, each in pairs) < 0 or sum(each for _, each in pairs) >= _MAX_COUNT:
        raise ValueError("a count is negative, or more than a run can have")
    histogram.add_times(values, times)


def _histogram(each: Round, position: str) -> Histogram:
    if position == PERIOD:
        return each.reap
    if position != SECOND_APP:
        return each.hold[position]
    if each.second_app is None:
        raise ValueError(f"round {each.round} has no second app")
    latency: Histogram = each.second_app.setdefault("latency", Histogram())
    return latency


def _replace_csv(path: Path, names: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    tmp = hidden_tmp(path)
    try:
        with new_file(tmp) as out:
            out.write(_line(names))
            for row in rows:
                out.write(_line(row))
        tmp.replace(path)
    except OSError as error:
        raise file_error(path, "write the rounds", error) from error


def _line(values: Iterable[object]) -> bytes:
    return (",".join(_cell(value) for value in values) + "\n").encode()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
