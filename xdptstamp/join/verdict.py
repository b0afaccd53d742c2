# SPDX-License-Identifier: GPL-2.0-only
"""What the truth says against a run, in words: all but one of it makes the run untrusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xdptstamp.join.books import ACAUSAL, FALSE, WRONG, Side, Truth
from xdptstamp.runinfo import Warning

_REGISTER = {
    "tx": "the model's register was latched {} ns before the wire",
    "rx": "the model's register was latched {} ns after the wire",
}
_CORRECTION = {"tx": "the driver adds {} ns", "rx": "the driver takes off {} ns"}


def verdict(truth: Truth) -> list[Warning]:
    """The doubts about a run's stamps."""
    stamps = sum(side.num_stamps for side in truth.sides)
    if stamps and _is_foreign(truth):
        return [_foreign(truth, stamps)]
    found = []
    for side in truth.sides:
        found += [*_errors(truth, side), *_false(side), *_order(side), *_missing(side)]
        found += _ambiguous(side)
        if side.direction == "tx":
            found += [*_requests(side), *_causality(side)]
    return found


def constants_text(side: Side) -> str:
    """What the driver corrects by, what the model delays by, and what the table has."""
    if side.driver_ns is None or side.model_ns is None:
        return ""
    words = _CORRECTION[side.direction].format(_span(side.driver_ns))
    register = _REGISTER[side.direction].format(_span(side.model_ns))
    constant = "no constant is known for this driver and speed"
    if side.constant is not None:
        constant = f"{side.constant} is {side.constant_ns}"
    return f"{words} ({constant}), {register}"


def _is_foreign(truth: Truth) -> bool:
    return all(
        side.num_false == side.num_stamps and not side.num_requests_model for side in truth.sides
    )


def _foreign(truth: Truth, stamps: int) -> Warning:
    return Warning(
        key="truth-foreign",
        message="the truth log knows none of this run's packets: it is of another boot, or begins "
        "behind the run",
        value=f"0 of {stamps} stamps joined",
        limit="all",
        advice="join the run with the log of the device that it ran on",
        is_untrusted=True,
    )


def _errors(truth: Truth, side: Side) -> Iterator[Warning]:
    word, constants = side.direction, constants_text(side)
    speed = "" if truth.speed_mbps is None else f" at {truth.speed_mbps} Mb/s"
    if side.num_wrong:
        if side.min_error_ns == side.max_error_ns:
            off = f"every {word.capitalize()} stamp is off by exactly {side.min_error_ns:+} ns"
        else:
            off = (
                f"{side.num_wrong} of {side.num_joined} {word.capitalize()} stamps are off, all by "
                f"{side.min_error_ns:+} to {side.max_error_ns:+} ns"
            )
        yield Warning(
            key=f"truth-{word}-error",
            message=f"{off}{speed}: {constants}",
            value=f"{side.num_wrong} wrong stamps, {_first(side, WRONG)}",
            limit="0",
            advice=_advice(side),
            is_untrusted=True,
        )
    elif _differs(side, side.driver_ns):
        yield Warning(
            key=f"truth-{word}-constant",
            message=f"{word.capitalize()} stamps are right{speed}, and the table of drivers is "
            f"not: {constants}",
            value=f"{_span(side.driver_ns)} ns",
            limit=f"{side.constant_ns} ns",
            advice="correct drivers.toml, or the driver and the model, which are wrong alike",
            is_untrusted=True,
        )


def _differs(side: Side, values: tuple[int, int] | None) -> bool:
    constant = side.constant_ns
    return values is not None and constant is not None and values != (constant, constant)


# Two of three say the same: the third is wrong.
def _advice(side: Side) -> str:
    is_driver_odd, is_model_odd = _differs(side, side.driver_ns), _differs(side, side.model_ns)
    if side.constant is None:
        return "hold the driver's constant and the model's delay against the datasheet"
    if is_model_odd and not is_driver_odd:
        return "the driver does as the table says: the model's PHY delay is wrong"
    if is_driver_odd and not is_model_odd:
        return "the model does as the table says: the driver's correction is wrong"
    return "neither driver nor model does as the table says: look at the first of these rows"


def _false(side: Side) -> Iterator[Warning]:
    if side.num_false:
        yield Warning(
            key=f"truth-{side.direction}-false",
            message=f"FALSE {side.direction.capitalize()} stamps: the run has stamps that the "
            "model never delivered",
            value=f"{side.num_false} of {side.num_stamps}, {_first(side, FALSE)}",
            limit="0",
            advice="look how such a packet got a value: what else writes where the stamp is read?",
            is_untrusted=True,
        )


def _requests(side: Side) -> Iterator[Warning]:
    if side.num_requests_model == side.num_requests_run and not (
        side.num_unseen or side.num_denied
    ):
        return
    parts = []
    if side.num_denied:
        parts.append(f"{side.num_denied} of packets that had none by the run")
    if side.num_unseen:
        parts.append(f"{side.num_unseen} that timed out were never made")
    yield Warning(
        key="truth-requests",
        message=f"the model saw {side.num_requests_model} requests for a Tx stamp, the run says "
        f"{side.num_requests_run} were taken by the driver",
        value="; ".join(parts) or f"{side.num_requests_model}",
        limit=f"{side.num_requests_run}",
        advice="a cause is wrong, a row is missing, or the log is damaged: compare truth.parquet",
        is_untrusted=True,
    )


def _causality(side: Side) -> Iterator[Warning]:
    if side.num_acausal:
        yield Warning(
            key="truth-causality",
            message="packets were on the wire before their submit or after their completion, as "
            "the run compared its clocks",
            value=f"{side.num_acausal}, {_first(side, ACAUSAL)}",
            limit="0",
            advice="the comparison of PHC and CLOCK_TAI is off by more than it says: no interval "
            "across them can be relied on",
            is_untrusted=True,
        )


def _order(side: Side) -> Iterator[Warning]:
    if side.num_misplaced:
        yield Warning(
            key=f"truth-{side.direction}-order",
            message=f"the {side.direction.capitalize()} order of the run is not that of the wire",
            value=f"{side.num_misplaced} steps back",
            limit="0",
            advice="a queue keeps its order: look whether the log was changed",
            is_untrusted=True,
        )


def _missing(side: Side) -> Iterator[Warning]:
    if side.num_missing:
        yield Warning(
            key=f"truth-{side.direction}-missing",
            message=f"the model delivered {side.direction.capitalize()} stamps that the run has "
            "not: the driver dropped them, or came too late",
            value=f"{side.num_missing}",
            limit="0",
            advice="look at the causes of these rows, and at the kernel log",
        )


def _ambiguous(side: Side) -> Iterator[Warning]:
    if side.num_ambiguous:
        yield Warning(
            key=f"truth-{side.direction}-ambiguous",
            message=f"{side.direction.capitalize()} packets that carry the same, of which run and "
            "model have not equally many: they were not joined",
            value=f"{side.num_ambiguous} rows",
            limit="0",
            advice="send with `xdptstamp ping`, whose packets all differ",
            # What the NIC received and the run did not is no fault of the stamps.
            is_untrusted=side.direction == "tx",
        )


def _first(side: Side, problem: str) -> str:
    row = next(named for named in side.named if named["problem"] == problem)
    return f"the first: {place_of(row)}"


def place_of(row: Mapping[str, object]) -> str:
    """Which row that is: ``queue_id 0, round 0, seq 17``."""
    names = ("queue_id", "setting", "round", "seq")
    return ", ".join(f"{name} {row[name]}" for name in names if name in row)


def _span(values: tuple[int, int] | None) -> str:
    if values is None:
        return "?"
    return f"{values[0]}" if values[0] == values[1] else f"{values[0]} to {values[1]}"
