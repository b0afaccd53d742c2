# SPDX-License-Identifier: GPL-2.0-only
"""Arrow arrays to and from NumPy by their buffers (Arrow's columnar format: physical layout).

``pyarrow.array``, ``scalar`` and ``to_numpy`` do the same, and import pandas first: on an emulated
CPU that takes as long as all the rest of a short run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def from_numpy(values: npt.NDArray[Any], is_valid: npt.NDArray[np.bool_] | None = None) -> Any:
    """A ``pyarrow.Array`` of integers or flags.

    :param is_valid: where it is False there is null; None: there is none.
    """
    validity = None if is_valid is None or is_valid.all() else _bits(is_valid)
    is_flags = values.dtype == np.bool_
    data = _bits(values) if is_flags else pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [validity, data])


def from_text(words: Sequence[str]) -> Any:
    """A ``pyarrow.StringArray``."""
    encoded = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    data = pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(words), pa.py_buffer(offsets), data)


def to_numpy(array: Any, dtype: np.dtype[Any], null: int) -> npt.NDArray[Any]:
    """The values of a ``pyarrow.Array`` of integers or flags, which may be a slice; do not write.

    :param dtype: the array's own.
    :param null: what stands for null.
    """
    validity, data = array.buffers()
    rows = slice(array.offset, array.offset + len(array))
    if data is None:
        return np.empty(0, dtype)
    values = _flags(data) if dtype == np.bool_ else np.frombuffer(data, dtype)
    if validity is None:
        return values[rows]
    return np.where(_flags(validity)[rows], values[rows], np.array(null, dtype))


def _bits(flags: npt.NDArray[np.bool_]) -> Any:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _flags(bits: Any) -> npt.NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little").view(np.bool_)
