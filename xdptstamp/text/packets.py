# SPDX-License-Identifier: GPL-2.0-only
"""Single packets as rows: one absolute stamp, the other capture points of its clock beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xdptstamp.sample import NULL, Batch, Cause
from xdptstamp.text.lines import cells, us, wrap

#: Packets a table shows.
NUM_PACKETS = 5

_TITLE_WIDTH = {"seq": 9, "queue": 6, "len": 6}
_STAMP_WIDTH = 20  # 19 digits, until the year 2286
_DELTA_WIDTH = 13


@dataclass(frozen=True, slots=True)
class PacketView:
    """Which columns a packet row shows.

    :param stamp: column shown as it is.
    :param deltas: (title, from, to) of differences, each within one clock.
    :param has_queue: whether the kind knows queues.
    """

    stamp: str
    deltas: tuple[tuple[str, str, str], ...]
    has_queue: bool = True

    @property
    def titles(self) -> list[str]:
        """The column titles."""
        head = ["seq", "queue", "len"] if self.has_queue else ["seq", "len"]
        return [*head, self.stamp, *(title for title, _, _ in self.deltas)]

    @property
    def needed(self) -> str:
        """The column that a packet must have to be shown (ping: an answer)."""
        return self.stamp if self.has_queue else "rx_app_ns"

    @property
    def columns(self) -> list[str]:
        """The columns of a sample that it takes."""
        head = ["seq", "queue_id", "len", "cause"] if self.has_queue else ["seq", "len"]
        times = [name for _, *ends in self.deltas for name in ends]
        return list(dict.fromkeys([*head, self.stamp, *times]))

    @property
    def note(self) -> str:
        """What the deltas are."""
        if self.deltas == _MIXED_HARDWARE.deltas:
            return "comp: us from tx_app_ns"
        if self.stamp == "tx_hw_ns":
            return "rx_hw: us from the stamp, on its clock; comp: us from tx_app_ns"
        return f"other columns: us from {self.stamp}"


_HARDWARE = PacketView(
    "tx_hw_ns", (("rx_hw", "tx_hw_ns", "rx_hw_ns"), ("comp", "tx_app_ns", "tx_comp_ns"))
)
_MIXED_HARDWARE = PacketView("tx_hw_ns", (("comp", "tx_app_ns", "tx_comp_ns"),))
_MIXED_UNSTAMPED = PacketView("tx_app_ns", (("tx_comp", "tx_app_ns", "tx_comp_ns"),))
_SOFTWARE = PacketView(
    "tx_sw_ns",
    (
        ("tx_app", "tx_sw_ns", "tx_app_ns"),
        ("tx_comp", "tx_sw_ns", "tx_comp_ns"),
    ),
)
_UNSTAMPED = PacketView(
    "tx_app_ns",
    (
        ("rx_xdp", "tx_app_ns", "rx_xdp_ns"),
        ("tx_comp", "tx_app_ns", "tx_comp_ns"),
    ),
)
_PING = PacketView(
    "tx_app_ns",
    (
        ("tx_sw", "tx_app_ns", "tx_sw_ns"),
        ("rx_app", "tx_app_ns", "rx_app_ns"),
    ),
    has_queue=False,
)


def packet_view(kind: str, timestamps: str) -> PacketView:
    """The view for a kind of run and ``RunInfo.timestamps``."""
    if kind == "ping":
        return _PING
    if kind == "mixed" and timestamps != "software":
        return _MIXED_HARDWARE if timestamps == "hardware" else _MIXED_UNSTAMPED
    return {"hardware": _HARDWARE, "software": _SOFTWARE}.get(timestamps, _UNSTAMPED)


def shown_packets(batch: Batch, view: PacketView) -> Batch:
    """The packets of ``batch`` that have what the view is about."""
    return np.asarray(batch[batch[view.needed] != NULL])


def keep_first(kept: Batch, batch: Batch, view: PacketView) -> Batch:
    """``kept`` filled up to :data:`NUM_PACKETS` with packets of ``batch`` worth showing."""
    room = NUM_PACKETS - len(kept)
    return np.concatenate([kept, shown_packets(batch, view)[:room]]) if room else kept


def packet_row(view: PacketView, sample: np.void) -> list[str]:
    """The cells of one packet; ``-`` where a capture point is missing."""
    head = ["seq", "queue_id", "len"] if view.has_queue else ["seq", "len"]
    stamp = int(sample[view.stamp])
    row = [str(int(sample[name])) for name in head]
    row.append(str(stamp) if stamp != NULL else _cause_word(sample))
    return row + [_delta(int(sample[start]), int(sample[end])) for _, start, end in view.deltas]


def _cause_word(sample: np.void) -> str:
    names = sample.dtype.names or ()
    return Cause(int(sample["cause"])).label if "cause" in names else "-"


def packet_lines(view: PacketView, packets: Batch) -> list[str]:
    """Title, rows and note as plain lines."""
    titles = view.titles
    lines = [_line(titles, titles)]
    lines += [_line(titles, packet_row(view, sample)) for sample in packets]
    return [*lines, f"  ({view.note})"]


def _delta(start: int, end: int) -> str:
    return "-" if NULL in (start, end) else us(end - start)


# A row; as name=value pairs where a value is too wide for its column.
def _line(titles: Sequence[str], row: Sequence[str]) -> str:
    widths = [_width(title) for title in titles]
    if all(len(value) < width for value, width in zip(row, widths, strict=True)):
        return "".join(cells("", [v], 0, w) for v, w in zip(row, widths, strict=True))
    pairs = " ".join(f"{title}={value}" for title, value in zip(titles, row, strict=True))
    return "\n".join(wrap(pairs, "  ", "    "))


def _width(title: str) -> int:
    return _TITLE_WIDTH.get(title, _STAMP_WIDTH if title.endswith("_ns") else _DELTA_WIDTH)
