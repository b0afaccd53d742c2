# SPDX-License-Identifier: GPL-2.0-only
"""The error of every hardware stamp of a run: stamp minus the moment on the wire, in integer ns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdptstamp.comparison import Comparison
from xdptstamp.drivers import known_driver
from xdptstamp.errors import RunFileError
from xdptstamp.join.books import (
    ACAUSAL,
    AMBIGUOUS,
    DENIED,
    FALSE,
    UNSEEN,
    WRONG,
    Side,
    Truth,
)
from xdptstamp.join.pairing import (
    NO_ENTRY,
    Pairs,
    ids_of_mixed_payloads,
    ids_of_payloads,
    mixed_ids,
    pair,
)
from xdptstamp.join.truth_log import TruthLog, is_delivered
from xdptstamp.join.verdict import verdict
from xdptstamp.run import Run
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import COLUMNS_OF_KIND, NULL, Batch, Cause, column
from xdptstamp.store.rounds import rounds_of

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Entries = npt.NDArray[np.void]
Positions = npt.NDArray[np.intp]

#: Kinds of run that have hardware stamps to join.
KINDS = ("ping-pong", "mixed")

#: Rows that are named where something is wrong.
NUM_NAMED = 5

# What tells the rows of a kind apart, and goes with the times on the wire.
_KEY_COLUMNS = ("seq", "setting", "round", "is_warmup", "queue_id")
_STAMP_COLUMNS = {
    "ping-pong": ("rx_hw_ns", "tx_hw_ns", "tx_app_ns", "tx_comp_ns", "cause", "payload_id"),
    "mixed": ("tx_hw_ns", "tx_app_ns", "tx_comp_ns", "cause"),
}

# The driver had taken the request, so the model saw it; of the others it may have.
_SEEN = (Cause.TIMED_OUT,)
_PERHAPS_SEEN = (Cause.RESET, Cause.INVALID, Cause.LOST_BY_DRIVER, Cause.NOT_COMPLETED)


def join_truth(run: Run, log: TruthLog) -> tuple[Truth, Batch]:
    """Hold the hardware stamps of a run against the log of the virtual I226.

    :param run: of a kind in :data:`KINDS`, whose stamps are hardware stamps.
    :return: what was found, and a row for each sample, in their order: the columns that tell it
        apart, ``tx_wire_ns`` and ``rx_wire_ns``.
    :raises RunFileError: If the run cannot be read, or nothing in it says which packet is which;
        if the log knows nothing of its NIC.
    """
    info = run.info
    rows = _read_rows(run)
    speed_mbps, driver = info.nic.get("speed_mbps"), str(info.nic.get("driver") or "")
    truth = Truth(info.run_id, str(log.path), log.is_cut, driver, speed_mbps)
    entries = _of_nic(info, log, has_rows=bool(len(rows)))
    wire = _new_table(rows)
    tx = entries[entries["is_tx"]]
    if info.kind == "mixed":
        truth.tx = _join_mixed(run, rows, tx, wire["tx_wire_ns"])
    else:
        port = info.asked["port"]
        ids = _payload_ids(run, rows)
        truth.tx = _join_replies(rows, ids, tx[tx["src_port"] == port], wire["tx_wire_ns"])
        rx = entries[~entries["is_tx"] & (entries["dst_port"] == port)]
        truth.rx = _join_rx(rows, ids, rx, wire["rx_wire_ns"])
    _check_causality(truth.tx, info, rows, wire["tx_wire_ns"])
    for side in truth.sides:
        _add_constant(side, driver, speed_mbps)
    truth.warnings = verdict(truth)
    return truth, wire


def _new_table(rows: Batch) -> Batch:
    names = [*_keys_of(rows), "tx_wire_ns", "rx_wire_ns"]
    table = np.empty(len(rows), [(name, column(name).dtype) for name in names])
    for name in _keys_of(rows):
        table[name] = rows[name]
    table["tx_wire_ns"] = table["rx_wire_ns"] = NULL
    return table


def _nulls(rows: Batch) -> Int64s:
    return np.full(len(rows), NULL, np.int64)


def _read_rows(run: Run) -> Batch:
    kind = run.info.kind
    keys = [name for name in _KEY_COLUMNS if name in COLUMNS_OF_KIND[kind]]
    batches = list(run.batches([*keys, *_STAMP_COLUMNS[kind]]))
    if not batches:
        return np.empty(0, [(name, "i8") for name in (*keys, *_STAMP_COLUMNS[kind])])
    return np.concatenate(batches)


def _keys_of(rows: Batch) -> list[str]:
    return [name for name in _KEY_COLUMNS if name in (rows.dtype.names or ())]


def _of_nic(info: RunInfo, log: TruthLog, *, has_rows: bool) -> Entries:
    nic = info.nic
    macs = {nic.get("mac"), nic.get("identity", {}).get("perm_mac")} - {None}
    own = log.entries[np.isin(log.entries["mac"], [str(mac).lower() for mac in macs])]
    if has_rows and not len(own) and len(log.entries):
        problem = f"knows nothing of the run's NIC {nic.get('mac')}, but of {', '.join(log.macs)}"
        raise RunFileError(log.path, problem)
    return own


def _payload_ids(run: Run, rows: Batch) -> Int64s:
    if (rows["payload_id"] == NULL).any():
        raise RunFileError(run.path, "does not say which packet a row is of: no payload_id")
    return rows["payload_id"].astype(np.int64)


def _join_mixed(run: Run, rows: Batch, entries: Entries, wire: Int64s) -> Side:
    row_streams, run_streams = _streams_of_rows(run, rows)
    numbers = rows["seq"].astype(np.int64)
    streams, ids = ids_of_mixed_payloads(entries["payload"])
    # Whatever carries a stream of this run is of this run; streams are numbered in their order.
    is_own = np.isin(streams, run_streams)
    sending = _Sending(mixed_ids(row_streams, numbers), np.lexsort((numbers, row_streams)))
    found = _join_tx(rows, sending, entries[is_own], ids[is_own], wire)
    return _count_requests(rows, sending.ids, ids[is_own], found, has_others=False)


def _streams_of_rows(run: Run, rows: Batch) -> tuple[Int64s, list[int]]:
    # A round's own packets are on the first queue, those of a second app on another.
    _, rounds = rounds_of(run.info, run.path)
    is_own = rows["queue_id"] == run.info.obtained["queues"][0]
    row_streams, run_streams = _nulls(rows), []
    for each in rounds:
        is_of = (rows["round"] == each.round) & (rows["setting"] == each.setting)
        is_of &= rows["is_warmup"] == each.is_warmup
        for is_mine, number in ((is_own, each.stream), (~is_own, each.second_stream)):
            if number is not None:
                row_streams[is_of & is_mine] = number
                run_streams.append(number)
    if (row_streams == NULL).any():
        raise RunFileError(run.path, "does not say which packet a row is of: a round has no stream")
    return row_streams, run_streams


def _join_replies(rows: Batch, ids: Int64s, entries: Entries, wire: Int64s) -> Side:
    entry_ids = ids_of_payloads(entries["payload"])
    sending = _Sending(ids, np.argsort(rows["seq"], kind="stable"))
    found = _join_tx(rows, sending, entries, entry_ids, wire)
    return _count_requests(rows, ids, entry_ids, found, has_others=True)


def _check_causality(side: Side, info: RunInfo, rows: Batch, wire: Int64s) -> None:
    # What the run says of its clocks is put to the test by the wire, which knows nothing of them.
    samples = info.clock_comparison.get("samples")
    is_known = (wire != NULL) & (rows["tx_app_ns"] != NULL) & (rows["tx_comp_ns"] != NULL)
    if not samples or not is_known.any():
        return
    first_ns, last_ns = (rows[name].astype(np.int64) for name in ("tx_app_ns", "tx_comp_ns"))
    is_outside = is_known & ~Comparison.from_json(samples).is_possible(wire, first_ns, last_ns)
    side.num_acausal = int(np.count_nonzero(is_outside))
    _name(side, rows, is_outside, ACAUSAL)


def _join_rx(rows: Batch, ids: Int64s, entries: Entries, wire: Int64s) -> Side:
    coming = _Sending(ids, np.argsort(rows["seq"], kind="stable"))
    are_all = np.ones(len(rows), np.bool_)
    entry_ids = ids_of_payloads(entries["payload"])
    found = _pair_up(Side("rx"), rows, coming, entries, entry_ids, is_candidate=are_all)
    _judge(rows, "rx_hw_ns", entries, found, wire)
    return found.side


def _join_tx(
    rows: Batch, sending: _Sending, entries: Entries, entry_ids: Int64s, wire: Int64s
) -> _Found:
    is_stamped = rows["tx_hw_ns"] != NULL
    may_be_seen = is_stamped | np.isin(rows["cause"], (*_SEEN, *_PERHAPS_SEEN))
    found = _pair_up(Side("tx"), rows, sending, entries, entry_ids, is_candidate=may_be_seen)
    _judge(rows, "tx_hw_ns", entries, found, wire)
    return found


def _count_requests(
    rows: Batch, ids: Int64s, entry_ids: Int64s, found: _Found, *, has_others: bool
) -> Side:
    # The requests that the driver took: as many, and of the same packets, by the model as by us.
    side, has_no_entry = found.side, (found.entry_of == NO_ENTRY) & ~found.is_ambiguous
    is_stamped, cause = rows["tx_hw_ns"] != NULL, rows["cause"]
    is_unseen = np.isin(cause, _SEEN) & has_no_entry
    is_perhaps = np.isin(cause, _PERHAPS_SEEN)
    is_taken = is_stamped | np.isin(cause, _SEEN) | (is_perhaps & ~has_no_entry)
    is_own = _are_of_run(found) if has_others else np.ones(len(entry_ids), np.bool_)
    is_denied = np.isin(ids, entry_ids[is_own & found.pairs.is_extra])
    is_denied &= ~is_stamped & ~is_perhaps & ~np.isin(cause, _SEEN)
    side.num_requests_run = int(np.count_nonzero(is_taken))
    side.num_requests_model = int(np.count_nonzero(is_own))
    side.num_unseen = int(np.count_nonzero(is_unseen))
    side.num_denied = int(np.count_nonzero(is_denied))
    _name(side, rows, is_unseen, UNSEEN)
    _name(side, rows, is_denied, DENIED)
    return side


def _are_of_run(found: _Found) -> Bools:
    # Before the run's first packet and behind its last there are those of other runs.
    is_own = found.pairs.is_known.copy()
    known = np.flatnonzero(is_own)
    if len(known):
        is_own[known[0] : known[-1]] = True
    return is_own


@dataclass(frozen=True, slots=True)
class _Sending:
    # Which packet each row is of, and the rows in the order in which their queues had them:
    # completions, and so rows, may come in another.
    ids: Int64s
    order: Positions


@dataclass(frozen=True, slots=True)
class _Found:
    side: Side
    entry_of: Positions  # of every row
    is_ambiguous: Bools  # of every row
    pairs: Pairs  # of the rows that were candidates, and of every entry


def _pair_up(
    side: Side,
    rows: Batch,
    sending: _Sending,
    entries: Entries,
    entry_ids: Int64s,
    *,
    is_candidate: Bools,
) -> _Found:
    order = sending.order[is_candidate[sending.order]]
    queues = rows["queue_id"].astype(np.int64)[order]
    entry_queues = entries["queue_id"].astype(np.int64)
    pairs = pair(queues, sending.ids[order], entry_queues, entry_ids)
    entry_of = np.full(len(rows), NO_ENTRY, np.intp)
    entry_of[order] = pairs.entry_of_row
    is_ambiguous = np.zeros(len(rows), np.bool_)
    is_ambiguous[order] = pairs.is_ambiguous
    side.num_ambiguous = int(np.count_nonzero(is_ambiguous))
    _name(side, rows, is_ambiguous, AMBIGUOUS)
    for queue_id in np.unique(queues):
        places = pairs.entry_of_row[queues == queue_id]
        places = places[places != NO_ENTRY]
        side.num_misplaced += int(np.count_nonzero(np.diff(places) < 0))
    return _Found(side, entry_of, is_ambiguous, pairs)


def _judge(rows: Batch, stamp: str, entries: Entries, found: _Found, wire: Int64s) -> None:
    side, has_entry = found.side, found.entry_of != NO_ENTRY
    wire[has_entry] = entries["wire_ns"][found.entry_of[has_entry]]
    came = np.zeros(len(rows), np.bool_)
    came[has_entry] = is_delivered(entries)[found.entry_of[has_entry]]
    stamps = rows[stamp].astype(np.int64)
    is_stamped = stamps != NULL
    is_joined = is_stamped & came
    errors = stamps[is_joined] - wire[is_joined]

    side.num_stamps, side.num_joined = int(np.count_nonzero(is_stamped)), len(errors)
    is_false = is_stamped & ~came & ~found.is_ambiguous
    side.num_false = int(np.count_nonzero(is_false))
    _name(side, rows, is_false, FALSE)
    side.num_missing = int(np.count_nonzero(came & ~is_stamped))
    if not len(errors):
        return
    side.num_wrong = int(np.count_nonzero(errors))
    side.min_error_ns, side.max_error_ns = int(errors.min()), int(errors.max())
    is_wrong = np.zeros(len(rows), np.bool_)
    is_wrong[is_joined] = errors != 0
    _name(side, rows, is_wrong, WRONG, stamps - wire)
    sign = 1 if side.direction == "tx" else -1
    register_ns = entries["register_ns"][found.entry_of[is_joined]]
    side.driver_ns = _range(sign * (stamps[is_joined] - register_ns))
    side.model_ns = _range(sign * (wire[is_joined] - register_ns))


def _range(values: Int64s) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _name(
    side: Side, rows: Batch, is_named: Bools, problem: str, errors_ns: Int64s | None = None
) -> None:
    keys = _keys_of(rows)
    for index in np.flatnonzero(is_named)[:NUM_NAMED].tolist():
        row: dict[str, Any] = {name: rows[name][index].item() for name in keys}
        error = {} if errors_ns is None else {"error_ns": int(errors_ns[index])}
        side.named.append({**row, "problem": problem, **error})


def _add_constant(side: Side, driver_name: str, speed_mbps: int | None) -> None:
    driver = known_driver(driver_name)
    if driver is None or driver.latency is None or speed_mbps is None:
        return
    constant = driver.latency.of(side.direction, speed_mbps)
    if constant is not None:
        side.constant_ns, side.constant = constant
