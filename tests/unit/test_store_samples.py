# SPDX-License-Identifier: GPL-2.0-only
"""Samples through Parquet and CSV: every integer exact, every null null."""

import csv
import errno
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdptstamp.errors import RunFileError
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import COLUMNS, COLUMNS_OF_KIND, NULL, Cause, column, empty_batch
from xdptstamp.store import create_run, export, iter_batches, open_run, write_csv
from xdptstamp.store.table import file_type, schema_of_kind, to_arrow, to_batch
from xdptstamp.store.writer import SampleWriter

EPOCH = 1_790_000_000_000_000_001
README = Path(__file__).parents[2] / "results" / "README.md"


def make_batch(num_samples, first=0):
    batch = empty_batch(num_samples)
    batch["seq"] = np.arange(first, first + num_samples)
    batch["queue_id"] = 65535
    batch["len"] = 2**32 - 1
    for index, name in enumerate(("rx_xdp_ns", "rx_app_ns", "tx_app_ns", "tx_comp_ns")):
        batch[name] = EPOCH + batch["seq"] * 1000 + index
    batch["tx_sw_ns"][::2] = EPOCH + 7
    batch["cause"][1::2] = Cause.TIMED_OUT
    batch["is_warmup"][:1] = True
    return batch


def make_run(base, batches, kind="ping-pong"):
    info = RunInfo("", kind, "complete", "2026-01-22T13:26:05Z", [], dut={"hostname": "h"})
    with create_run(base, info) as run_dir:
        writer = SampleWriter(run_dir.path / "samples", kind)
        for batch in batches:
            writer.add(batch)
            writer.close_file()
    return open_run(run_dir.path)


def assert_same(got, want, names):
    for name in names:
        assert got.dtype[name] == np.dtype(column(name).dtype)
        assert np.array_equal(got[name], want[name]), name


@pytest.mark.parametrize("kind", COLUMNS_OF_KIND)
def test_a_run_reads_back_as_it_was_put(tmp_path, kind):
    run = make_run(tmp_path, [make_batch(5), make_batch(3, first=5)], kind)
    got = np.concatenate(list(run.batches()))
    assert got.dtype.names == COLUMNS_OF_KIND[kind]
    assert_same(got, np.concatenate([make_batch(5), make_batch(3, first=5)]), got.dtype.names)


@st.composite
def any_batches(draw):
    batch = empty_batch(draw(st.integers(1, 5)))
    for item in COLUMNS:
        kind = np.dtype(item.dtype)
        if item.name == "cause":
            values = st.sampled_from(list(Cause))
        elif kind == np.bool_:
            values = st.booleans()
        else:
            values = st.integers(int(np.iinfo(kind).min), int(np.iinfo(kind).max))
        batch[item.name] = [draw(values) for _ in range(batch.size)]
    return batch


@settings(max_examples=50, deadline=None)
@given(any_batches())
def test_any_value_survives_arrow(batch):
    for kind, names in COLUMNS_OF_KIND.items():
        assert_same(to_batch(to_arrow(batch, schema_of_kind(kind)), names), batch, names)


def test_parquet_files_speak_for_themselves(tmp_path):
    run = make_run(tmp_path, [make_batch(4)])
    (file,) = sorted((run.path / "samples").iterdir())
    assert file.name == "00000.parquet"
    table = pq.read_table(file)
    for name in COLUMNS_OF_KIND["ping-pong"]:
        item, field = column(name), table.schema.field(name)
        told = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        assert told["meaning"] == item.meaning
        assert told.get("unit", "") == item.unit
        assert told.get("clock", "") == item.clock
        assert field.nullable == item.is_nullable
    assert pa.types.is_dictionary(table.schema.field("cause").type)
    assert table["cause"].to_pylist() == [None, "timed_out", None, "timed_out"]
    assert table["tx_hw_ns"].to_pylist() == [None] * 4
    assert table["tx_sw_ns"].to_pylist() == [EPOCH + 7, None, EPOCH + 7, None]
    assert str(pq.ParquetFile(file).metadata.row_group(0).column(0).compression) == "ZSTD"


def test_only_the_columns_asked_for_are_read(tmp_path):
    run = make_run(tmp_path, [make_batch(4)])
    (batch,) = iter_batches(run, ["cause", "seq"])
    assert batch.dtype.names == ("cause", "seq")
    assert batch["cause"].tolist() == [0, Cause.TIMED_OUT] * 2
    with pytest.raises(RunFileError, match="no column tx_wire_ns"):
        list(iter_batches(run, ["tx_wire_ns"]))


def test_a_file_from_before_a_column_has_nulls_for_it(tmp_path):
    run = make_run(tmp_path, [make_batch(3)])
    (file,) = sorted((run.path / "samples").iterdir())
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["payload_id", "cause"]), file)
    (batch,) = iter_batches(run)
    assert batch["payload_id"].tolist() == [NULL] * 3
    assert batch["cause"].tolist() == [Cause.NONE] * 3
    assert batch["seq"].tolist() == [0, 1, 2]
    pq.write_table(table.drop_columns(["seq"]), file)
    with pytest.raises(RunFileError, match="has no column seq"):
        list(iter_batches(run))


def test_files_are_read_in_the_order_of_their_numbers(tmp_path):
    run = make_run(tmp_path, [make_batch(1), make_batch(1, first=1)])
    samples = run.path / "samples"
    (samples / "00001.parquet").rename(samples / "100000.parquet")
    (samples / ".00002.parquet.tmp").write_bytes(b"half")
    (samples / "00003.parquet.tmp").write_bytes(b"half")
    assert [int(batch["seq"][0]) for batch in run.batches()] == [0, 1]


@pytest.mark.parametrize("size", [0, 3, 200, -20])
def test_a_damaged_file_of_samples_is_named(tmp_path, size):
    run = make_run(tmp_path, [make_batch(4)])
    file = run.path / "samples" / "00000.parquet"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(RunFileError, match=r"00000\.parquet: cannot read these samples"):
        list(run.batches())


def replaced(run, name, array):
    file = run.path / "samples" / "00000.parquet"
    table = pq.read_table(file)
    index = table.schema.get_field_index(name)
    pq.write_table(table.set_column(index, name, array), file)


def test_floats_are_never_taken_for_times(tmp_path):
    run = make_run(tmp_path, [make_batch(2)])
    replaced(run, "tx_sw_ns", pa.array([1.79e18, None]))
    with pytest.raises(RunFileError, match="tx_sw_ns has type double, not int64"):
        list(run.batches())


def test_a_cause_from_elsewhere_is_named(tmp_path):
    run = make_run(tmp_path, [make_batch(2)])
    replaced(run, "cause", pa.array(["bored", None]))
    with pytest.raises(RunFileError, match="unknown words: bored"):
        list(run.batches())
    replaced(run, "cause", pa.array(["reset", None]))
    assert [batch["cause"].tolist() for batch in run.batches()] == [[Cause.RESET, Cause.NONE]]


def test_big_files_are_streamed(tmp_path):
    run = make_run(tmp_path, [make_batch(200_000)])
    batches = list(run.batches(["seq"]))
    assert max(batch.size for batch in batches) <= 65_536
    assert np.array_equal(np.concatenate(batches)["seq"], np.arange(200_000))


def test_csv_is_exact(tmp_path):
    run = make_run(tmp_path, [make_batch(3), make_batch(70_000, first=3)])
    assert write_csv(run, tmp_path / "out.csv") == 70_003
    text = (tmp_path / "out.csv").read_text()
    lines = text.splitlines()
    names = COLUMNS_OF_KIND["ping-pong"]
    assert lines[0] == ",".join(names)
    assert len(lines) == 70_004
    rows = [dict(zip(names, row, strict=True)) for row in csv.reader(lines[1:])]
    want = np.concatenate([make_batch(3), make_batch(70_000, first=3)])
    for index in (0, 1, 2, 3, 69_999, 70_002):
        for name in names:
            value = want[index][name]
            if name == "cause":
                expected = Cause(int(value)).label if value else ""
            elif name == "is_warmup":
                expected = "true" if value else "false"
            else:
                expected = "" if column(name).is_nullable and value == NULL else str(int(value))
            assert rows[index][name] == expected, name
    assert '"' not in text
    assert not re.search(r"\d\.\d|e\+", text)


def test_csv_has_the_columns_asked_for_in_that_order(tmp_path):
    run = make_run(tmp_path, [make_batch(2)])
    write_csv(run, tmp_path / "out.csv", ["tx_sw_ns", "seq"])
    assert (tmp_path / "out.csv").read_text() == f"tx_sw_ns,seq\n{EPOCH + 7},0\n,1\n"


def test_csv_of_no_samples_has_its_header(tmp_path):
    run = make_run(tmp_path, [])
    assert write_csv(run, tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text() == ",".join(COLUMNS_OF_KIND["ping-pong"]) + "\n"


def test_csv_never_overwrites(tmp_path, monkeypatch):
    run = make_run(tmp_path, [make_batch(2)])
    target = tmp_path / "out.csv"
    target.write_text("precious")
    with pytest.raises(RunFileError, match="exists already"):
        write_csv(run, target)
    # It may also come while we write.
    target.unlink()
    with pytest.raises(RunFileError, match="appeared meanwhile"):
        write_csv(run, target, on_chunk=lambda _: target.write_text("precious"))
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["out.csv"]


def test_csv_works_without_hard_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    run = make_run(tmp_path, [make_batch(2)])
    monkeypatch.setattr(export.os, "link", no_links)
    assert write_csv(run, tmp_path / "out.csv") == 2
    with pytest.raises(RunFileError, match="exists already"):
        write_csv(run, tmp_path / "out.csv")


def test_csv_into_no_folder_is_refused(tmp_path):
    run = make_run(tmp_path, [make_batch(2)])
    with pytest.raises(RunFileError, match="folder does not exist"):
        write_csv(run, tmp_path / "no" / "out.csv")


# The README.


def readme_table():
    lines = README.read_text().splitlines()
    start = lines.index("| column | type | unit | clock | null | meaning | kinds |")
    return [line for line in lines[start + 2 :] if line.startswith("| `")]


def test_the_readme_lists_every_column_as_it_is_written():
    want = []
    for item in COLUMNS:
        kinds = [kind for kind, names in COLUMNS_OF_KIND.items() if item.name in names]
        if kinds:
            null = "yes" if item.is_nullable else ""
            cells = [f"`{item.name}`", file_type(item), item.unit, item.clock, null, item.meaning]
            want.append("| " + " | ".join([*cells, ", ".join(kinds)]) + " |")
    assert readme_table() == want, "\n".join(want)


def test_the_readme_names_every_key_of_run_json():
    text = README.read_text()
    info = RunInfo("", "ping", "complete", "", []).to_json()
    missing = [key for key in info if f"| `{key}` |" not in text]
    assert missing == []


def test_the_pandas_lines_of_the_readme_keep_every_nanosecond(tmp_path):
    run = make_run(tmp_path, [make_batch(4), make_batch(4, first=4)])
    write_csv(run, run.path / "samples.csv")
    lines = re.findall(r"^    (samples = pd\.read_\w+\(.*\))$", README.read_text(), re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        names = {"pd": pd, "run": run.path}
        exec(line, names)
        frame = names["samples"]
        assert frame["tx_sw_ns"].dropna().tolist() == [EPOCH + 7] * 4
        assert "float" not in " ".join(str(kind) for kind in frame.dtypes), line
        assert frame["cause"].dropna().tolist() == ["timed_out"] * 4
