# SPDX-License-Identifier: GPL-2.0-only
"""What is written down of one packet: the columns, their types, units and clocks.

A batch of samples is a NumPy structured array of :data:`SAMPLE_DTYPE`. Nanoseconds are int64
throughout: float64 cannot tell times 256 ns apart at today's epoch. In memory a missing value
is :data:`NULL`; in files it is null.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

#: In-memory "no value" of every nullable column. Never a time, a hash or a tag.
NULL = -1

Batch = npt.NDArray[np.void]


class Cause(enum.IntEnum):
    """Why a requested stamp is missing. ``NONE``: it is there, or was not requested."""

    NONE = 0
    DISABLED = 1  # the NIC's hwtstamp setting was off
    UNSUPPORTED = 2  # the driver offers no Tx timestamps to AF_XDP
    SKIPPED = 3  # the driver had no free stamp slot (inferred from time and counters)
    TIMED_OUT = 4  # the driver gave up waiting (inferred from time and counters)
    RESET = 5  # the adapter was reset, or its link went, while the stamp was pending
    INVALID = 6  # a value came that cannot be true; or the kernel dropped the packet
    LOST_BY_DRIVER = 7  # its completion never came, however long it was waited for
    NOT_COMPLETED = 8  # the run ended before the completion came

    @property
    def label(self) -> str:
        """The word in files and tables: ``timed_out``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a run.

    :param dtype: NumPy type in memory and, unless ``cause``, in Parquet.
    :param unit: ``ns``, ``bytes`` or empty.
    :param clock: ``phc`` or ``tai`` for a capture point, else empty.
    """

    name: str
    dtype: str
    unit: str
    clock: str
    is_nullable: bool
    meaning: str


COLUMNS: tuple[Column, ...] = (
    Column("seq", "i8", "", "", False, "number of the packet in this run, from 0"),
    Column("queue_id", "u2", "", "", False, "queue of the interface"),
    Column("addr", "i8", "", "", True, "desc.addr: offset of the packet in the UMEM"),
    Column("len", "u4", "bytes", "", False, "desc.len: packet without FCS"),
    Column("payload_id", "i8", "", "", True, "which packet: hash of the payload's first 24 bytes"),
    Column("rx_hw_ns", "i8", "ns", "phc", True, "NIC received the packet"),
    Column("rx_sw_ns", "i8", "ns", "tai", True, "kernel stack received the packet"),
    Column("rx_xdp_ns", "i8", "ns", "tai", True, "XDP program saw the packet"),
    Column("rx_app_ns", "i8", "ns", "tai", True, "application saw the packet"),
    Column("tx_app_ns", "i8", "ns", "tai", True, "application is about to submit the packet"),
    Column("tx_launch_ns", "i8", "ns", "phc", True, "launch time asked for"),
    Column("tx_hw_ns", "i8", "ns", "phc", True, "NIC sent the packet"),
    Column("tx_sw_ns", "i8", "ns", "tai", True, "kernel let go of the packet (software stamp)"),
    Column("tx_comp_ns", "i8", "ns", "tai", True, "application saw the completion"),
    Column("tx_wire_ns", "i8", "ns", "phc", True, "sent packet on the wire, as the model knows it"),
    Column(
        "rx_wire_ns", "i8", "ns", "phc", True, "received packet on the wire, as the model knows"
    ),
    Column("cause", "u1", "", "", True, "why a requested Tx stamp is missing"),
    Column("is_warmup", "?", "", "", False, "sample of the warm-up"),
    Column("round", "u4", "", "", False, "round of a repeated measurement, from 0"),
    Column("setting", "u2", "", "", False, "index of the setting in the run info"),
    Column("rx_hash", "i8", "", "", True, "RSS hash from the NIC"),
    Column("rx_hash_type", "i8", "", "", True, "RSS hash type (enum xdp_rss_hash_type)"),
    Column("rx_vlan_proto", "i4", "", "", True, "VLAN protocol stripped by the NIC (0x8100)"),
    Column("rx_vlan_tci", "i4", "", "", True, "VLAN TCI stripped by the NIC"),
    Column("rx_hw_errno", "i2", "", "", False, "errno of the Rx timestamp kfunc; 0: none"),
    Column("rx_hash_errno", "i2", "", "", False, "errno of the Rx hash kfunc; 0: none"),
    Column("rx_vlan_errno", "i2", "", "", False, "errno of the Rx VLAN kfunc; 0: none"),
    Column("tx_csum", "i4", "", "", True, "UDP checksum field as handed to the kernel"),
    Column("tx_csum_want", "i4", "", "", True, "full UDP checksum of the packet sent"),
    Column("tx_csum_start", "i4", "bytes", "", True, "offset of the UDP header in the packet"),
)

SAMPLE_DTYPE = np.dtype([(column.name, column.dtype) for column in COLUMNS], align=True)

_RX_HINTS = tuple(column.name for column in COLUMNS if column.name.startswith(("rx_h", "rx_v")))

#: The columns each kind of run has on disk, in this order.
COLUMNS_OF_KIND: dict[str, tuple[str, ...]] = {
    "ping-pong": (
        "seq",
        "queue_id",
        "addr",
        "len",
        "rx_hw_ns",
        "rx_xdp_ns",
        "rx_app_ns",
        "tx_app_ns",
        "tx_hw_ns",
        "tx_sw_ns",
        "tx_comp_ns",
        "cause",
        "is_warmup",
        "round",
        *(name for name in _RX_HINTS if name != "rx_hw_ns"),
        "tx_csum",
        "tx_csum_want",
        "tx_csum_start",
        "payload_id",
    ),
    "ping": ("seq", "len", "tx_app_ns", "tx_sw_ns", "rx_sw_ns", "rx_app_ns", "is_warmup", "round"),
    "mixed": (
        "seq",
        "setting",
        "round",
        "is_warmup",
        "queue_id",
        "len",
        "tx_app_ns",
        "tx_hw_ns",
        "tx_sw_ns",
        "tx_comp_ns",
        "cause",
    ),
}

#: Intervals a table shows for each kind, as (from, to) columns; an interval whose columns are
#: null throughout is left out.
INTERVALS_OF_KIND: dict[str, tuple[tuple[str, str], ...]] = {
    "ping-pong": (
        ("rx_hw_ns", "rx_xdp_ns"),
        ("rx_xdp_ns", "rx_app_ns"),
        ("rx_app_ns", "tx_app_ns"),
        ("rx_xdp_ns", "tx_sw_ns"),
        ("rx_hw_ns", "tx_hw_ns"),
        ("tx_app_ns", "tx_sw_ns"),
        ("tx_app_ns", "tx_hw_ns"),
        ("tx_sw_ns", "tx_comp_ns"),
        ("tx_hw_ns", "tx_comp_ns"),
        ("tx_app_ns", "tx_comp_ns"),
    ),
    "ping": (("tx_app_ns", "rx_app_ns"), ("tx_sw_ns", "rx_sw_ns"), ("rx_sw_ns", "rx_app_ns")),
    "mixed": (
        ("tx_app_ns", "tx_sw_ns"),
        ("tx_app_ns", "tx_hw_ns"),
        ("tx_sw_ns", "tx_comp_ns"),
        ("tx_hw_ns", "tx_comp_ns"),
        ("tx_app_ns", "tx_comp_ns"),
    ),
}


def interval_name(start: str, end: str) -> str:
    """``("rx_xdp_ns", "tx_sw_ns")`` gives ``rx_xdp_to_tx_sw_ns``."""
    return f"{start.removesuffix('_ns')}_to_{end}"


def column(name: str) -> Column:
    """The column of that name."""
    return _BY_NAME[name]


def clock_of(name: str) -> str:
    """The clock of a capture point: ``phc`` or ``tai``."""
    return _BY_NAME[name].clock


def empty_batch(num_samples: int) -> Batch:
    """An array of ``num_samples`` with every nullable column :data:`NULL` (``cause``: NONE)."""
    return np.full(num_samples, _EMPTY)


class SampleSink(Protocol):
    """Takes batches from a measurement. ``put`` copies, never blocks and never fails."""

    def put(self, batch: Batch) -> None:
        """Hand over one batch."""


_BY_NAME = {column.name: column for column in COLUMNS}


def _make_empty() -> Batch:
    # One sample in which nothing is known.
    empty = np.zeros((), dtype=SAMPLE_DTYPE)
    for item in COLUMNS:
        if item.is_nullable and item.name != "cause":
            empty[item.name] = NULL
    return empty


_EMPTY = _make_empty()
