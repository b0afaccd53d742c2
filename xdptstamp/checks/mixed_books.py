# SPDX-License-Identifier: GPL-2.0-only
"""Whether the books of a ``mixed`` run add up, to the packet, in every round and its warm-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xdptstamp.rounds import Round
from xdptstamp.runinfo import Warning

_NUM_NAMED = 3

# Counts that must be zero: attribute, key, message, advice; and whether the run is worth nothing.
_NEVER = (
    (
        "lost",
        "completions-lost",
        "completions that never came",
        "see the driver's known faults in the notes, and update the kernel",
        True,
    ),
    (
        "pattern_errors",
        "pattern-broken",
        "packets arrived that break the pattern of stamped and plain",
        "look whether anything else sends to the sink; please report it",
        True,
    ),
    (
        "corrupted",
        "packets-corrupted",
        "packets arrived with other contents than were sent",
        "look at the link's error counters; please report it",
        True,
    ),
    (
        "duplicates",
        "packets-duplicated",
        "packets arrived more than once; each is counted once",
        "look for a loop or a mirror in the network between",
        False,
    ),
    (
        "reordered",
        "packets-reordered",
        "packets arrived in another order than they were sent",
        "look whether the partner spreads one flow over several queues",
        False,
    ),
)


def book_warnings(rounds: Sequence[Round]) -> list[Warning]:
    """A warning for each book that does not balance, and for each count that must be zero."""
    found = [*_unbalanced(rounds)]
    for name, key, message, advice, is_untrusted in _NEVER:
        count = sum(getattr(each, name) + (each.second_app or {}).get(name, 0) for each in rounds)
        if count:
            found.append(Warning(key, message, str(count), "0", advice, is_untrusted))
    return found


def open_books(each: Round) -> dict[str, int]:
    """By how much the books of a round are off, without those that balance."""
    books = {
        "sent - completed - lost": each.sent - each.completed - each.lost,
        "requested - stamped - causes": _stamps(
            {"requested": each.requested, "stamped": each.stamped, "causes": each.causes}
        ),
        "unaccounted": each.unaccounted,
    }
    if each.received is not None:
        books["sent - received - missing"] = each.sent - each.received - each.missing
    # The counters on the way do not tell the packets of a second app from ours.
    if each.received is not None and not each.second_app:
        located = sum(each.located.values()) + each.unaccounted
        books["missing - located - unaccounted"] = each.missing - located
    if each.second_app:
        app = each.second_app
        books["second app: requested - stamped - causes"] = _stamps(app)
        off = app.get("sent", 0) - app.get("completed", 0) - app.get("lost", 0)
        books["second app: sent - completed - lost"] = int(off)
    return {name: off for name, off in books.items() if off}


def _stamps(book: Mapping[str, Any]) -> int:
    missing = sum((book.get("causes") or {}).values())
    return int(book.get("requested", 0)) - int(book.get("stamped", 0)) - int(missing)


def _unbalanced(rounds: Sequence[Round]) -> Iterator[Warning]:
    off = [
        f"round {each.round}, setting {each.setting}: {name} = {count:+d}"
        for each in rounds
        for name, count in open_books(each).items()
    ]
    if off:
        more = len(off) - _NUM_NAMED
        yield Warning(
            "books-unbalanced",
            "packets or stamps are unaccounted for: the books do not add up",
            "; ".join(off[:_NUM_NAMED]) + (f"; and {more} more" if more > 0 else ""),
            "0",
            "look whether another program used the interface or its counters; please report it",
            is_untrusted=True,
        )
