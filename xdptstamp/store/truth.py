# SPDX-License-Identifier: GPL-2.0-only
"""What a join with the truth adds to a run's folder: ``truth.parquet`` and ``truth.json``.

The first has, for each sample and in their order, what tells it apart and when the packet was on
the wire. The second has the books and the doubts. Nothing that was there is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xdptstamp.errors import RunFileError
from xdptstamp.run import Run
from xdptstamp.runinfo import Warning
from xdptstamp.sample import Batch
from xdptstamp.store.export import check_new_file, publish
from xdptstamp.store.files import check_regular, file_error, hidden_tmp, new_file, read_error
from xdptstamp.store.shapes import TRUTH, check_shape, parse_json

TABLE_NAME, TRUTH_NAME = "truth.parquet", "truth.json"


def check_unjoined(path: Path) -> None:
    """Refuse a run that has its truth already.

    :raises RunFileError: If so.
    """
    check_new_file(path / TRUTH_NAME)


def write_truth(run: Run, truth: Mapping[str, Any], table: Batch) -> None:
    """Add both files to a run's folder, ``truth.json`` last: where it is, both are.

    :param truth: the content of ``truth.json``.
    :param table: of columns of :data:`xdptstamp.sample.COLUMNS`, a row for each sample.
    :raises RunFileError: If the run has its truth already, or they cannot be written.
    """
    check_unjoined(run.path)
    file = run.path / TRUTH_NAME
    text = json.dumps(truth, indent=2, allow_nan=False).encode() + b"\n"
    try:
        _write_table(run.path / TABLE_NAME, run.info.kind, table)
        with new_file(hidden_tmp(file)) as out:
            out.write(text)
        publish(hidden_tmp(file), file)
    except OSError as error:
        raise file_error(file, "write the truth", error) from error


def truth_warnings(path: Path) -> list[Warning]:
    """The doubts that the truth brought up about the run in folder ``path``; none without it.

    :raises RunFileError: If ``truth.json`` is damaged or cannot be read.
    """
    truth = read_truth(path)
    return [] if truth is None else [Warning.from_json(each) for each in truth["warnings"]]


def read_truth(path: Path) -> dict[str, Any] | None:
    """The content of ``truth.json`` of the run in folder ``path``; None: it has none.

    :raises RunFileError: If it is damaged or cannot be read.
    """
    file = path / TRUTH_NAME
    try:
        check_regular(file)
        truth = parse_json(file.read_bytes())
        check_shape(truth, TRUTH)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise read_error(file, "read the truth", error) from error
    except ValueError as error:
        raise RunFileError(file, f"damaged, or not of this xdptstamp: {error}") from error
    return truth


def _write_table(file: Path, kind: str, table: Batch) -> None:
    import pyarrow.parquet as pq

    from xdptstamp.store.table import CHUNK_ROWS, schema_of, to_arrow

    schema = schema_of(table.dtype.names or (), kind)
    with new_file(hidden_tmp(file)) as out:
        with pq.ParquetWriter(out, schema, compression="zstd") as writer:
            for part in np.split(table, range(CHUNK_ROWS, len(table), CHUNK_ROWS)):
                writer.write_batch(to_arrow(part, schema))
    hidden_tmp(file).replace(file)
