# SPDX-License-Identifier: GPL-2.0-only
"""Batches in memory to and from Arrow: the one place that knows both forms.

In files NULL is null, a cause is its word (null: none), integers keep their width, and each
column says its unit, clock and meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from xdptstamp.sample import COLUMNS_OF_KIND, NULL, SAMPLE_DTYPE, Batch, Cause, Column, column
from xdptstamp.store.buffers import from_numpy, from_text, to_numpy

#: Rows read, converted or compressed at a time: bounds the memory of all of it.
CHUNK_ROWS = 65_536

_WORDS = [cause.label for cause in Cause if cause is not Cause.NONE]


@functools.cache
def schema_of_kind(kind: str) -> Any:
    """The ``pyarrow.Schema`` of the samples of a kind of run."""
    return schema_of(COLUMNS_OF_KIND[kind], kind)


def schema_of(names: Sequence[str], kind: str) -> Any:
    """The ``pyarrow.Schema`` of these columns of a kind of run."""
    return pa.schema([_field(column(name)) for name in names], metadata={"kind": kind})


def file_type(item: Column) -> str:
    """The type of a column in Parquet, in words."""
    return "dictionary<string>" if item.name == "cause" else str(_arrow_type(item))


def to_arrow(batch: Batch, schema: Any) -> Any:
    """A ``pyarrow.RecordBatch`` of the columns of ``schema``."""
    arrays = [_to_array(batch[field.name], column(field.name)) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def to_batch(records: Any, columns: Sequence[str]) -> Batch:
    """A batch of ``columns`` from a ``pyarrow.RecordBatch``; one that it lacks is null throughout.

    :raises ValueError: If a column has not the type this version writes.
    """
    batch = np.empty(records.num_rows, dtype=[(name, column(name).dtype) for name in columns])
    there = set(records.schema.names)
    for name in columns:
        if name in there:
            batch[name] = _from_array(records.column(name), column(name))
        else:
            batch[name] = Cause.NONE if name == "cause" else NULL
    return batch


def _field(item: Column) -> Any:
    meta = {"unit": item.unit, "clock": item.clock, "meaning": item.meaning}
    present = {key: value for key, value in meta.items() if value}
    return pa.field(item.name, _arrow_type(item), nullable=item.is_nullable, metadata=present)


def _arrow_type(item: Column) -> Any:
    if item.name == "cause":
        return pa.dictionary(pa.int32(), pa.string())
    return pa.from_numpy_dtype(SAMPLE_DTYPE[item.name])


def _to_array(values: Any, item: Column) -> Any:
    if item.name == "cause":
        indices = values.astype(np.int32) - 1
        return pa.DictionaryArray.from_arrays(from_numpy(indices, indices >= 0), _words())
    return from_numpy(values, values != NULL if item.is_nullable else None)


@functools.cache
def _words() -> Any:
    return from_text(_WORDS)


def _from_array(array: Any, item: Column) -> Any:
    if item.name == "cause":
        return _from_words(array)
    if array.type != _arrow_type(item):
        raise ValueError(f"column {item.name} has type {array.type}, not {file_type(item)}")
    if array.null_count and not item.is_nullable:
        raise ValueError(f"column {item.name} has nulls")
    return to_numpy(array, np.dtype(item.dtype), NULL)


def _from_words(array: Any) -> Any:
    if pa.types.is_string(array.type):
        array = array.dictionary_encode()
    if not pa.types.is_dictionary(array.type):
        raise ValueError(f"column cause has type {array.type}, not words")
    words = array.dictionary.to_pylist()
    unknown = set(words) - set(_WORDS)
    if unknown:
        raise ValueError(f"column cause holds unknown words: {', '.join(sorted(unknown))}")
    values = np.array([*(Cause[word.upper()] for word in words), Cause.NONE], np.uint8)
    return values[to_numpy(array.indices, np.dtype(np.int32), len(words))]
