# SPDX-License-Identifier: GPL-2.0-only
"""What JSON of a run's folder must look like before anybody relies on it.

A folder may come from another lab, another version, or somebody who means harm: what reads it later
may take types, finite numbers and a depth that ends for granted, and nothing else.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

_MAX_DEPTH = 32
_MAX_INT = 1 << 64  # the kernel's counters have 64 bits
_MAX_DIGITS = 21
_MAX_NS = 1 << 62
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Each:
    """A list, each item of that shape."""

    shape: Any


@dataclass(frozen=True, slots=True)
class Values:
    """An object, each value of that shape, whatever its key."""

    shape: Any


@dataclass(frozen=True, slots=True)
class Whole:
    """An object that has every key of ``needs``; those of ``may`` where they are there."""

    needs: dict[str, Any]
    may: dict[str, Any] = field(default_factory=dict)


TEXT, INTEGER, FLAG = (str,), (int,), (bool,)
MAYBE_TEXT, MAYBE_INTEGER, _MAYBE_FLAG = (str, NoneType), (int, NoneType), (bool, NoneType)
# Absent, null and empty are one to who reads them.
_TEXTS = (Each(TEXT), NoneType)
_COUNTS = Values(INTEGER)

#: A warning of ``run.json`` or ``truth.json``.
WARNING = Whole(
    dict.fromkeys(("key", "message", "value", "limit", "advice"), TEXT), {"is_untrusted": FLAG}
)
SETTING = {
    "size_bytes": INTEGER,
    "stamped": INTEGER,
    "plain": INTEGER,
    "every_ns": INTEGER,
    "has_second_app": FLAG,
}
_SECOND_APP = {
    "causes": (_COUNTS, NoneType),
    **dict.fromkeys(("sent", "completed", "lost", "requested", "stamped"), INTEGER),
}
ROUND = {
    **dict.fromkeys(("round", "setting", "order", "duration_ns", "sent", "completed"), INTEGER),
    **dict.fromkeys(("dropped_by_kernel", "lost", "requested", "stamped", "missing"), INTEGER),
    **dict.fromkeys(("reordered", "duplicates", "corrupted", "pattern_errors"), INTEGER),
    **dict.fromkeys(("unaccounted", "throttled_ns", "user_ns", "system_ns"), INTEGER),
    **dict.fromkeys(("stream", "second_stream", "received", "nic_sent"), MAYBE_INTEGER),
    **dict.fromkeys(("causes", "located", "pause_frames", "wakeup_errors"), _COUNTS),
    "is_warmup": FLAG,
    "second_app": (_SECOND_APP, NoneType),
}
_COMPARISON = {
    **dict.fromkeys(("device", "method", "uncertainty", "leap", "problem"), MAYBE_TEXT),
    **dict.fromkeys(("drift_ppb", "drift_uncertainty_ppb"), MAYBE_INTEGER),
    "notes": _TEXTS,
    "samples": (
        Whole(
            {
                **dict.fromkeys(("tai_ns", "phc_ns", "uncertainty_ns"), Each(INTEGER)),
                "tai_offset_s": Each(INTEGER),
                "method": Each(TEXT),
                "continues": Each(FLAG),
            }
        ),
        NoneType,
    ),
}
_SPAN = (Each(INTEGER), NoneType)
_SIDE = {
    **dict.fromkeys(("num_stamps", "num_joined", "num_wrong", "num_false", "num_missing"), INTEGER),
    **dict.fromkeys(("num_ambiguous", "num_misplaced", "num_unseen", "num_denied"), INTEGER),
    **dict.fromkeys(("num_requests_run", "num_requests_model", "num_acausal"), INTEGER),
    **dict.fromkeys(("min_error_ns", "max_error_ns", "constant_ns"), MAYBE_INTEGER),
    **dict.fromkeys(("driver_ns", "model_ns"), _SPAN),
    "constant": MAYBE_TEXT,
    "named": Each(Whole({"problem": TEXT}, {"error_ns": INTEGER})),
}
#: ``truth.json``.
TRUTH = Whole(
    {
        **dict.fromkeys(("run_id", "log", "driver"), TEXT),
        "is_log_cut": FLAG,
        "speed_mbps": MAYBE_INTEGER,
        "tx": (Whole({"direction": TEXT}, _SIDE), NoneType),
        "rx": (Whole({"direction": TEXT}, _SIDE), NoneType),
        "warnings": Each(WARNING),
    }
)
#: ``run.json``: the keys that are read, where they are there.
INFO = {
    **dict.fromkeys(("run_id", "kind", "state", "started_utc", "timestamps"), TEXT),
    **dict.fromkeys(("label", "ended_utc", "ended_by"), MAYBE_TEXT),
    "argv": Each(TEXT),
    "asked": Values((object,)),
    "obtained": {
        **dict.fromkeys(("duration_ns", "warmup_ns", "max_pending", "rounds"), MAYBE_INTEGER),
        "queues": (Each(INTEGER), NoneType),
        "notes": _TEXTS,
        "umem": (Values((object,)), NoneType),
    },
    "dut": {
        **dict.fromkeys(("hostname", "cpu_model", "machine", "kernel_release"), MAYBE_TEXT),
        "governors": Values(Each(INTEGER)),
        "idle_states": Each(
            Whole({"name": TEXT, "latency_us": INTEGER, "entered": _COUNTS}),
        ),
    },
    "nic": {
        **dict.fromkeys(("ifname", "driver", "driver_version", "firmware", "bus"), MAYBE_TEXT),
        "speed_mbps": MAYBE_INTEGER,
        "coalescing": (
            Whole(
                {
                    **dict.fromkeys(("rx_usecs", "tx_usecs"), MAYBE_INTEGER),
                    **dict.fromkeys(("is_adaptive_rx", "is_adaptive_tx"), _MAYBE_FLAG),
                }
            ),
            NoneType,
        ),
        "eee": (Whole(dict.fromkeys(("is_enabled", "is_active"), FLAG)), NoneType),
        "pause": (Whole(dict.fromkeys(("is_autoneg", "rx", "tx"), FLAG)), NoneType),
        "pause_counters": Each(TEXT),
        "interrupts": Each(Whole({"irq": INTEGER, "name": TEXT, "taken": _COUNTS})),
    },
    "partner": Values((object,)),
    "versions": Values((object,)),
    "clocks": Values(TEXT),
    "clock_comparison": _COMPARISON,
    "counters": Values(Whole({"before": INTEGER, "after": INTEGER})),
    "counts": {
        **dict.fromkeys(("unaccounted", "wakeup_errors"), (_COUNTS, int, NoneType)),
        "refused_by": (_COUNTS, NoneType),
        **dict.fromkeys(("link_resets", "recorder_overruns", "sent", "received", "lost"), INTEGER),
        **dict.fromkeys(("send_errors", "icmp_errors"), (_COUNTS, NoneType)),
        "reconciliation": _TEXTS,
        "settings": Each(SETTING),
        "rounds": Each(ROUND),
    },
    "warnings": Each(WARNING),
}


def parse_json(data: bytes) -> dict[str, Any]:
    """The object in ``data``.

    :raises ValueError: If it is none, nests too deep, or has a number that is none or too great.
    """
    try:
        content = json.loads(
            data, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_number
        )
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    _check_depth(content)
    return content


def check_shape(value: Any, shape: Any, where: str = "") -> None:
    """Hold a value against a shape: a tuple of what it may be, an object's keys, ...

    Keys that the shape does not name, or the object has not, are no offence.

    :raises ValueError: If it has another; the message says where and what it is.
    """
    for each in shape if isinstance(shape, tuple) else (shape,):
        if _is_of(value, each):
            _check_inside(value, each, where)
            return
    shown = repr(value)
    shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
    raise ValueError(f"{where or 'it'} cannot be {shown}")


def check_comparison(samples: Any) -> None:
    """Whether samples of two clocks, of the right shape, are such that lines join them.

    :raises ValueError: If columns are not equally long, or a stretch goes back in time.
    """
    if len({len(column) for column in samples.values() if isinstance(column, list)}) > 1:
        raise ValueError("clock_comparison.samples has columns of different length")
    times = (samples["tai_ns"], samples["phc_ns"])
    if any(not 0 <= ns < _MAX_NS for each in (*times, samples["uncertainty_ns"]) for ns in each):
        raise ValueError("clock_comparison.samples holds what is no time")
    for index, continues in enumerate(samples["continues"]):
        if index and continues and any(each[index] <= each[index - 1] for each in times):
            raise ValueError(f"clock_comparison.samples go back in time at number {index}")


# Whether a value is of the outer type of a shape. True and False are no numbers here.
def _is_of(value: Any, shape: Any) -> bool:
    if isinstance(shape, Each):
        return isinstance(value, list)
    if isinstance(shape, Values | Whole | dict):
        return isinstance(value, dict)
    return isinstance(value, shape) and (shape is not int or not isinstance(value, bool))


def _check_inside(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, Each):
        # A day's clock samples are half a million values.
        if isinstance(shape.shape, tuple) and {type(item) for item in value} <= set(shape.shape):
            return
        for number, item in enumerate(value):
            check_shape(item, shape.shape, f"{where}[{number}]")
    elif isinstance(shape, Values):
        for key, item in value.items():
            check_shape(item, shape.shape, f"{where}[{key!r}]")
    elif isinstance(shape, Whole):
        if missing := shape.needs.keys() - value.keys():
            raise ValueError(f"{where or 'it'} lacks {', '.join(sorted(missing))}")
        _check_inside(value, shape.needs | shape.may, where)
    elif isinstance(shape, dict):
        for key in shape.keys() & value.keys():
            check_shape(value[key], shape[key], f"{where}.{key}" if where else key)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS or abs(value := int(text)) >= _MAX_INT:
        raise ValueError("it holds an integer of more than 64 bits")
    return value


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("it holds a number that is not finite")
    return value


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(_MAX_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError("it nests too deep")
