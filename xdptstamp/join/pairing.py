# SPDX-License-Identifier: GPL-2.0-only
"""Which row of a run and which entry of a log are of the same packet.

By what the packet carries, on its queue: never by a time, for the times are what is to be judged.
Packets that carry the same (``echo xdp | nc``) are told apart by their order, which both sides
keep; and only where both have as many of them, for else any of them may be the one in excess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdptstamp import stream
from xdptstamp.identity import payload_ids

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: The entry of a row that has none.
NO_ENTRY = -1

_NUMBER_BITS = stream.NUMBER_SPAN.bit_length() - 1
_WORD_MASK = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows and entries of the same packets, by their positions in what was paired.

    :param entry_of_row: :data:`NO_ENTRY` where there is none, or it cannot be told which.
    :param is_ambiguous: rows of packets that carry the same as others, of which one side has more.
    :param is_extra: entries without a row; ``is_known``: entries of packets that some row carries.
    """

    entry_of_row: npt.NDArray[np.intp]
    is_ambiguous: Bools
    is_extra: Bools
    is_known: Bools


def pair(row_queues: Int64s, row_ids: Int64s, entry_queues: Int64s, entry_ids: Int64s) -> Pairs:
    """Pair rows with entries; each side in the order in which its queue had them."""
    num_rows, num_entries = len(row_ids), len(entry_ids)
    keys = np.empty(num_rows + num_entries, [("queue", "i8"), ("id", "i8")])
    keys["queue"] = np.concatenate((row_queues, entry_queues))
    keys["id"] = np.concatenate((row_ids, entry_ids))
    _, kinds = np.unique(keys, return_inverse=True)
    row_kinds, entry_kinds = kinds[:num_rows], kinds[num_rows:]
    num_kinds = int(kinds.max()) + 1 if len(kinds) else 0
    rows_of = np.bincount(row_kinds, minlength=num_kinds)
    entries_of = np.bincount(entry_kinds, minlength=num_kinds)

    is_equal = rows_of == entries_of
    entry_of_row = np.full(num_rows, NO_ENTRY, np.intp)
    entry_of_row[_by_kind(row_kinds, is_equal)] = _by_kind(entry_kinds, is_equal)
    is_extra = np.ones(num_entries, np.bool_)
    is_extra[entry_of_row[entry_of_row != NO_ENTRY]] = False
    is_ambiguous = ~is_equal[row_kinds] & (entries_of[row_kinds] > 0)
    return Pairs(entry_of_row, is_ambiguous, is_extra, rows_of[entry_kinds] > 0)


def _by_kind(kinds: npt.NDArray[np.intp], is_wanted: Bools) -> npt.NDArray[np.intp]:
    # Positions of the wanted kinds, kind by kind, and in order within each.
    positions = np.flatnonzero(is_wanted[kinds])
    return positions[np.argsort(kinds[positions], kind="stable")]


def ids_of_payloads(payloads: npt.NDArray[np.uint8]) -> Int64s:
    """What ``payload_id`` of a run's rows is compared with."""
    return payload_ids(np.ascontiguousarray(payloads))


def ids_of_mixed_payloads(payloads: npt.NDArray[np.uint8]) -> tuple[Int64s, Int64s]:
    """Stream and :func:`mixed_ids` of the packets of ``mixed``; both -1 of any others."""
    raw = np.ascontiguousarray(payloads[:, : stream.LEN])
    fields = raw.view(stream.DTYPE).reshape(-1)
    word = fields["word"].astype(np.uint32)
    is_ours = (fields["magic"] == stream.MAGIC) & (word ^ _WORD_MASK == fields["complement"])
    streams = np.where(is_ours, fields["stream"].astype(np.int64), -1)
    ids = mixed_ids(streams, word.astype(np.int64) >> 1)
    return streams, np.where(is_ours, ids, -1)


def mixed_ids(streams: Int64s, numbers: Int64s) -> Int64s:
    """The number of each packet of ``mixed``, from its stream and its number in it.

    It grows in the order of sending, unless the numbers of a stream begin again.
    """
    return streams << _NUMBER_BITS | numbers & (stream.NUMBER_SPAN - 1)
