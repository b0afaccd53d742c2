# SPDX-License-Identifier: GPL-2.0-only
"""Measure hardware transmit timestamps over AF_XDP.

As a library: AF_XDP sockets with Tx metadata from Python. ``import xdptstamp`` is light; what a
name needs (NumPy, libbpf) is loaded when the name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdptstamp.errors import (
        BpfLoadError,
        IncompatibleRunsError,
        RunFileError,
        SetupError,
        SystemCallError,
        UnsupportedError,
        XdptstampError,
    )
    from xdptstamp.nic import Nic
    from xdptstamp.packet import build_udp
    from xdptstamp.program import Program, ProgramConfig
    from xdptstamp.ring import CompRing, FillRing, RxRing, TxRing
    from xdptstamp.stamp import Completed, StampRules, judge
    from xdptstamp.store.reader import iter_batches, open_run
    from xdptstamp.umem import Umem
    from xdptstamp.xsk import Xsk, XskConfig

# name: module
_HOMES = {
    "BpfLoadError": "errors",
    "CompRing": "ring",
    "Completed": "stamp",
    "FillRing": "ring",
    "IncompatibleRunsError": "errors",
    "Nic": "nic",
    "Program": "program",
    "ProgramConfig": "program",
    "RunFileError": "errors",
    "RxRing": "ring",
    "SetupError": "errors",
    "StampRules": "stamp",
    "SystemCallError": "errors",
    "TxRing": "ring",
    "Umem": "umem",
    "UnsupportedError": "errors",
    "XdptstampError": "errors",
    "Xsk": "xsk",
    "XskConfig": "xsk",
    "build_udp": "packet",
    "iter_batches": "store.reader",
    "judge": "stamp",
    "open_run": "store.reader",
}

__all__ = [
    "BpfLoadError",
    "CompRing",
    "Completed",
    "FillRing",
    "IncompatibleRunsError",
    "Nic",
    "Program",
    "ProgramConfig",
    "RunFileError",
    "RxRing",
    "SetupError",
    "StampRules",
    "SystemCallError",
    "TxRing",
    "Umem",
    "UnsupportedError",
    "XdptstampError",
    "Xsk",
    "XskConfig",
    "build_udp",
    "iter_batches",
    "judge",
    "open_run",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'xdptstamp' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"xdptstamp.{home}"), name)
    globals()[name] = value
    return value
