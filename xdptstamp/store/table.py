# SPDX-License-Identifier: GPL-2.0-only
"""Batches in memory to and from Arrow: the one place that knows both forms.

In files NULL is null, a cause is its word (null: none), integers keep their width, and each
column says its unit, clock and meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from xdptstamp.sample import COLUMNS_OF_KIND, NULL, Batch, Cause, Column, column
from xdptstamp.store.buffers import from_numpy, from_text, to_numpy
from xdptstamp.store.selection import Field, fields_of

#: Rows read, converted or compressed at a time: bounds the memory of all of it.
CHUNK_ROWS = 65_536

_WORDS = [cause.label for cause in Cause if cause is not Cause.NONE]


@functools.cache
def schema_of_kind(kind: str) -> Any:
    """The ``pyarrow.Schema`` of the samples of a kind of run."""
    return schema_of(COLUMNS_OF_KIND[kind], kind)


def schema_of(names: Sequence[str], kind: str) -> Any:
    """The ``pyarrow.Schema`` of these columns of a kind of run."""
    return schema_of_fields(fields_of(names, "ns"), kind)


def schema_of_fields(
    fields: Sequence[Field], kind: str, extra: Mapping[str, str] | None = None
) -> Any:
    """The ``pyarrow.Schema`` of an export.

    :param extra: metadata of the whole.
    """
    return pa.schema([_field(each) for each in fields], metadata={"kind": kind, **(extra or {})})


def repeating(schema: Any) -> list[str]:
    """The columns whose values are worth a dictionary in a file.

    Times and addresses hardly repeat: a dictionary of them costs more than it saves.
    """
    return [each.name for each in schema if each.type != pa.int64()]


def file_type(item: Column | Field) -> str:
    """The type of a column in Parquet, in words."""
    return "dictionary<string>" if item.name == "cause" else str(_arrow_type(item))


def to_arrow(batch: Batch, schema: Any) -> Any:
    """A ``pyarrow.RecordBatch`` of the columns of ``schema``."""
    return to_records(batch, fields_of(schema.names, "ns"), schema)


def to_records(batch: Batch, fields: Sequence[Field], schema: Any, zero_ns: int = 0) -> Any:
    """A ``pyarrow.RecordBatch`` of an export.

    :param schema: that of ``fields``.
    :param zero_ns: time 0 of the run, for relative times.
    """
    arrays = [_to_array(each, *each.values(batch, zero_ns)) for each in fields]
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


def _field(item: Field) -> Any:
    meta = {"unit": item.unit, "clock": item.column.clock, "meaning": item.meaning}
    present = {key: value for key, value in meta.items() if value}
    kind = _arrow_type(item)
    return pa.field(item.name, kind, nullable=item.column.is_nullable, metadata=present)


def _arrow_type(item: Column | Field) -> Any:
    if item.name == "cause":
        return pa.dictionary(pa.int32(), pa.string())
    return pa.from_numpy_dtype(np.dtype(item.dtype))


def _to_array(item: Field, values: Any, is_valid: Any) -> Any:
    if item.name == "cause":
        indices = values.astype(np.int32) - 1
        return pa.DictionaryArray.from_arrays(from_numpy(indices, indices >= 0), _words())
    return from_numpy(values, is_valid)


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
    if array.type.index_type != pa.int32():
        raise ValueError(f"column cause has indices of type {array.type.index_type}, not int32")
    words = array.dictionary.to_pylist()
    unknown = set(words) - set(_WORDS)
    if unknown:
        named = ", ".join(sorted(map(str, unknown)))
        raise ValueError(f"column cause holds unknown words: {named}")
    values = np.array([*(Cause[word.upper()] for word in words), Cause.NONE], np.uint8)
    return values[to_numpy(array.indices, np.dtype(np.int32), len(words))]
