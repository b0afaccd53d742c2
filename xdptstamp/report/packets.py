# SPDX-License-Identifier: GPL-2.0-only
"""Single packets of a run, for a table and for the page."""

from __future__ import annotations

from collections.abc import Iterable

from xdptstamp.report.recomputed import Recomputed
from xdptstamp.report.timeline import NONE, Timeline
from xdptstamp.sample import Batch, Cause, clock_of
from xdptstamp.text.lines import ascii_text, us
from xdptstamp.text.mixed_tables import setting_label

_MAX_EXACT = 1 << 53  # of a double
_TITLES = {
    "seq": "seq",
    "queue_id": "queue",
    "len": "bytes",
    "setting": "setting",
    "round": "round",
}


def packet_rows(
    found: Recomputed, timeline: Timeline, name: str, indices: Iterable[int]
) -> tuple[tuple[str, ...], list[list[str]]]:
    """Titles and rows of single packets: the value of an interval, when, which, its times."""
    which, stamps = _which(found, timeline.packets), _stamps(timeline.packets)
    head = (f"{name.removesuffix('_ns')} us", "at s", *which, *stamps)
    rows = []
    for index in indices:
        times = (int(timeline.packets[stamp][index]) for stamp in stamps)
        rows.append(
            [
                us(int(timeline.values[name][index])),
                seconds(int(timeline.times[index])),
                *(str(cells[index]) for cells in which.values()),
                *("-" if ns < 0 else str(ns) for ns in times),
            ]
        )
    return head, rows


def packets_json(found: Recomputed, timeline: Timeline) -> dict[str, object]:
    """The single packets by column, for the page.

    ``time`` is ns since time 0, ``values`` are the intervals in ns, by name; ``stamps`` the capture
    points, ns since ``zeros``, which are text: so that doubles hold them; what is further away is
    text too. None: there is none.
    """
    packets, clocks = timeline.packets, found.run.info.clocks
    zeros: dict[str, str] = {}
    stamps: dict[str, list[int | str | None]] = {}
    for name in _stamps(packets):
        column = packets[name]
        zero = int(column[column >= 0][0])
        zeros[name] = str(zero)
        stamps[name] = [None if ns < 0 else _exact(ns - zero) for ns in column.tolist()]
    causes = [cause.label for cause in Cause]
    data: dict[str, object] = {
        "time": timeline.times.tolist(),
        "values": {
            name: [None if ns == NONE else ns for ns in values.tolist()]
            for name, values in timeline.values.items()
        },
        "zeros": zeros,
        "stamps": stamps,
        "clocks": {name: ascii_text(clocks.get(name) or clock_of(name)) for name in stamps},
        "head": _which(found, packets),
        "is_all": timeline.is_all,
    }
    if "cause" in (packets.dtype.names or ()) and packets["cause"].any():
        data["cause"] = [causes[each] if each else "" for each in packets["cause"].tolist()]
    return data


def seconds(ns: int) -> str:
    """Nanoseconds as seconds with all their digits."""
    whole, rest = divmod(abs(ns), 1_000_000_000)
    return f"{'-' if ns < 0 else ''}{whole}.{rest:09d}"


# What tells packets apart, by title; a setting by what it is.
def _which(found: Recomputed, packets: Batch) -> dict[str, list[int | str]]:
    names = packets.dtype.names or ()
    which = {title: packets[name].tolist() for name, title in _TITLES.items() if name in names}
    if "setting" in which:
        labels = [f"{each.size_bytes} {setting_label(each)}" for each in found.settings]
        which["setting"] = [
            labels[number] if number < len(labels) else number for number in which["setting"]
        ]
    return which


def _stamps(packets: Batch) -> list[str]:
    names = packets.dtype.names or ()
    return [name for name in names if clock_of(name) and (packets[name] >= 0).any()]


def _exact(ns: int) -> int | str:
    return ns if abs(ns) < _MAX_EXACT else str(ns)
