# SPDX-License-Identifier: GPL-2.0-only
"""From what a sender saw to samples: judged in large pieces, when nothing is being measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdptstamp import stamp
from xdptstamp.measure.phase import Sent
from xdptstamp.measure.spool import IS_DROPPED, IS_REQUESTED, Rows, Spool
from xdptstamp.rounds import FCS_BYTES, Round
from xdptstamp.sample import NULL, Batch, Cause, empty_batch
from xdptstamp.stamp import Completed, StampRules

#: (number of the spool's rows before it held, rules): the first holds from row 0.
RulesFrom = tuple[int, StampRules]

Causes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Origin:
    """What all samples of a phase share.

    :param resets: (earliest, latest) of each reset, CLOCK_TAI.
    """

    round: Round
    queue_id: int
    size_bytes: int
    rules: Sequence[RulesFrom]
    resets: Sequence[tuple[int, int]]


def record(
    origin: Origin, spool: Spool, sent: Sent, put: Callable[[Batch], None]
) -> tuple[int, dict[str, int]]:
    """Judge the packets of a phase and hand them on.

    :param put: takes each batch; may wait.
    :return: how many were stamped, and how many were not by the label of each cause.
    """
    num_stamped, causes = 0, np.zeros(len(Cause), np.int64)
    for batch, found in _batches(origin, spool, sent):
        put(batch)
        causes += np.bincount(found, minlength=len(Cause))
        for column in ("tx_hw_ns", "tx_sw_ns"):
            num_stamped += int(np.count_nonzero(batch[column] != NULL))
    return num_stamped, {cause.label: int(causes[cause]) for cause in tuple(Cause)[1:]}


def _batches(origin: Origin, spool: Spool, sent: Sent) -> Iterator[tuple[Batch, Causes]]:
    position = 0
    for rows in spool.chunks():
        rules = _rules_at(origin.rules, position)
        position += len(rows)
        yield _judged(origin, rules, rows)
    if len(sent.uncompleted):
        yield _uncompleted(origin, sent)


def _rules_at(rules: Sequence[RulesFrom], position: int) -> StampRules:
    # A chunk is a moment's worth, and rules are read once a second: near enough.
    return next(each for start, each in reversed(rules) if start <= position)


def _judged(origin: Origin, rules: StampRules, rows: Rows) -> tuple[Batch, Causes]:
    number, value, app_ns, comp_ns, previous_ns, flags = rows.T
    is_reset = np.zeros(len(rows), np.bool_)
    for earliest_ns, latest_ns in origin.resets:
        is_reset |= (app_ns <= latest_ns) & (comp_ns >= earliest_ns)
    done = Completed(
        values=np.ascontiguousarray(value).view(np.uint64),
        is_requested=flags & IS_REQUESTED != 0,
        is_dropped=flags & IS_DROPPED != 0,
        is_reset=is_reset,
        tx_app_ns=app_ns,
        tx_comp_ns=comp_ns,
        previous_comp_ns=previous_ns,
    )
    stamps, causes = stamp.judge(rules, done)
    batch = _new_batch(origin, number)
    batch["tx_app_ns"], batch["tx_comp_ns"], batch["cause"] = app_ns, comp_ns, causes
    batch["tx_hw_ns" if rules.is_hardware else "tx_sw_ns"] = stamps
    return batch, causes


def _uncompleted(origin: Origin, sent: Sent) -> tuple[Batch, Causes]:
    is_requested = sent.is_uncompleted_requested
    numbers = sent.uncompleted[is_requested]
    batch = _new_batch(origin, numbers)
    batch["tx_app_ns"] = sent.uncompleted_app_ns[is_requested]
    causes = stamp.causes_of_uncompleted(numbers, sent.last_completed, is_drained=sent.is_drained)
    batch["cause"] = causes
    return batch, causes


def _new_batch(origin: Origin, numbers: Rows) -> Batch:
    batch = empty_batch(len(numbers))
    batch["seq"] = numbers
    batch["setting"], batch["round"] = origin.round.setting, origin.round.round
    batch["is_warmup"] = origin.round.is_warmup
    batch["queue_id"] = origin.queue_id
    batch["len"] = origin.size_bytes - FCS_BYTES
    return batch
