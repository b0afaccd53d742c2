# SPDX-License-Identifier: GPL-2.0-only
"""The log of the virtual I226: when each stamped packet was on the wire, and what came of it.

A CSV with a header and one line for each packet that was sent with the Tx stamp bit in its
descriptor, and for each received packet that got a stamp. The lines of one queue are in the order
of its wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdptstamp.errors import RunFileError
from xdptstamp.identity import PAYLOAD_BYTES
from xdptstamp.sample import NULL

#: What became of a stamp: only the first reached the driver.
OUTCOMES = ("delivered", "lost", "busy", "disabled", "reset")

#: An entry as :class:`TruthLog` holds it; what the line leaves blank is :data:`NULL`.
ENTRY_DTYPE = np.dtype(
    [
        ("mac", "U17"),
        ("is_tx", "?"),
        ("queue_id", "i4"),
        ("wire_ns", "i8"),
        ("register_ns", "i8"),
        ("outcome", "u1"),
        ("src_port", "i4"),
        ("dst_port", "i4"),
        ("payload", "u1", (PAYLOAD_BYTES,)),
    ]
)

_DELIVERED = OUTCOMES.index("delivered")
_WORDS = {"mac", "direction", "outcome", "payload"}
_NUMBERS = ("queue_id", "wire_ns", "register_ns", "src_port", "dst_port")
_COLUMNS = ("mac", "direction", "outcome", "payload", *_NUMBERS)
_HEX_DIGITS = 2 * PAYLOAD_BYTES


@dataclass(frozen=True, slots=True)
class TruthLog:
    """The entries of a log, in the order of its lines.

    :param entries: of :data:`ENTRY_DTYPE`.
    :param is_cut: the last line was half a line, and was left out.
    """

    path: Path
    entries: npt.NDArray[np.void]
    is_cut: bool

    @property
    def macs(self) -> list[str]:
        """The NICs it is about."""
        return sorted(set(self.entries["mac"].tolist()))


def read_truth_log(path: Path) -> TruthLog:
    """Read a log, also one whose writer was killed in the middle of a line.

    :raises RunFileError: If it is not there, not such a log, or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunFileError(path, f"cannot read it: {error.strerror}") from error
    whole, newline, rest = data.rpartition(b"\n")
    if not newline:
        raise RunFileError(path, "not a truth log: it has no header, or only a part of one")
    return TruthLog(path, _entries(path, _read_csv(path, whole + newline)), bool(rest))


def is_delivered(entries: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Which stamps reached the driver."""
    found: npt.NDArray[np.bool_] = entries["outcome"] == _DELIVERED
    return found


def _read_csv(path: Path, data: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    header = data.partition(b"\n")[0].decode("ascii", "replace").split(",")
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise RunFileError(path, f"not a truth log: it has no column {', '.join(missing)}")
    types = {name: pa.string() if name in _WORDS else pa.int64() for name in _COLUMNS}
    options = pacsv.ConvertOptions(
        column_types=types, include_columns=list(_COLUMNS), null_values=[""]
    )
    try:
        return pacsv.read_csv(pa.BufferReader(data), convert_options=options)
    except pa.ArrowException as error:
        raise RunFileError(path, f"damaged: {str(error).splitlines()[0]}") from error


def _entries(path: Path, table: Any) -> npt.NDArray[np.void]:
    entries = np.zeros(table.num_rows, ENTRY_DTYPE)
    for name in _NUMBERS:
        column = table.column(name).fill_null(NULL).to_numpy()
        limits = np.iinfo(ENTRY_DTYPE[name])
        if ((column < NULL) | (column > limits.max)).any():
            raise RunFileError(path, f"damaged: a {name} is out of range")
        entries[name] = column
    words = {name: table.column(name).to_pylist() for name in _WORDS}
    entries["mac"] = [(mac or "").lower() for mac in words["mac"]]
    entries["is_tx"] = np.array(_known(path, words, "direction", ("rx", "tx")), np.bool_)
    entries["outcome"] = _known(path, words, "outcome", OUTCOMES)
    entries["payload"] = _payloads(path, words["payload"])
    for name in ("wire_ns", "register_ns"):
        if (is_delivered(entries) & (entries[name] == NULL)).any():
            raise RunFileError(path, f"damaged: a stamp was delivered and has no {name}")
    return entries


def _known(path: Path, words: dict[str, Any], name: str, known: tuple[str, ...]) -> list[int]:
    unknown = {str(word) for word in words[name]} - set(known)
    if unknown:
        raise RunFileError(path, f"damaged: {name} {min(unknown)!r} is none of {', '.join(known)}")
    return [known.index(word) for word in words[name]]


def _payloads(path: Path, texts: list[str | None]) -> npt.NDArray[np.uint8]:
    digits = "".join((text or "").ljust(_HEX_DIGITS, "0")[:_HEX_DIGITS] for text in texts)
    try:
        payload = bytes.fromhex(digits)
    except ValueError as error:
        raise RunFileError(path, f"damaged: a payload is not in hex ({error})") from error
    if 2 * len(payload) != len(digits):
        raise RunFileError(path, "damaged: a payload is not in hex (there are blanks in it)")
    return np.frombuffer(payload, np.uint8).reshape(-1, PAYLOAD_BYTES)
