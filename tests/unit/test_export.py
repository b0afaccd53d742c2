# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp export``: read back by others to the nanosecond; a file is whole or not there."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.unit.data_kit import (
    OLD_RUNS,
    info_json,
    info_of,
    mixed_run,
    ping_pong_run,
    ping_pong_samples,
    samples_of,
    sql,
    write_run,
    xdptstamp,
)
from xdptstamp.cli.main import command
from xdptstamp.sample import COLUMNS_OF_KIND, NULL, Cause, column
from xdptstamp.store import create_run, open_run
from xdptstamp.store.writer import SampleWriter
from xdptstamp.text.hwmeta import HwmetaOutput

README = Path(__file__).parents[2] / "results" / "README.md"
NAMES = COLUMNS_OF_KIND["ping-pong"]
TIMES = [name for name in NAMES if column(name).unit == "ns"]
COUNT = 700


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return ping_pong_run(tmp_path_factory.mktemp("runs"), COUNT, "hardware")


@pytest.fixture(scope="module")
def rows(path):
    """What was recorded, by the store's own reader."""
    return np.concatenate([batch.copy() for batch in open_run(path).batches()])


def export(*arguments):
    return CliRunner().invoke(command, ["export", *map(str, arguments)])


def exported(path, file, *arguments):
    done = export(path, "--output", file, *arguments)
    assert done.exit_code == 0, done.output
    return file


def value_of(rows, name, index):
    """A value as every reader should give it."""
    value = rows[name][index].item()
    if name == "cause":
        return None if value == Cause.NONE else Cause(value).label
    return None if column(name).is_nullable and value == NULL else value


def assert_equal(table, rows, names=NAMES):
    """Each value of a table (a dict of lists) is the one that was recorded."""
    assert list(table) == list(names)
    for name in names:
        expected = [value_of(rows, name, index) for index in range(len(rows))]
        assert table[name] == expected, name


def by_duckdb(query):
    with duckdb.connect() as connection:
        found = connection.execute(query)
        names = [each[0] for each in found.description]
        columns = zip(*found.fetchall(), strict=True)
        return dict(zip(names, map(list, columns), strict=True))


def of_pandas(frame):
    return {
        name: [None if value is pd.NA or value is None else value for value in frame[name].tolist()]
        for name in frame
    }


# Read back.


def test_a_csv_is_read_back_to_the_nanosecond_by_duckdb_pandas_and_pyarrow(path, rows, tmp_path):
    file = exported(path, tmp_path / "x.csv")
    kinds = {name: "BIGINT" for name in NAMES if name not in ("cause", "is_warmup")}
    kinds |= {"cause": "VARCHAR", "is_warmup": "BOOLEAN"}
    assert_equal(by_duckdb(f"SELECT * FROM read_csv('{file}', types = {kinds})"), rows)
    # With no word about types, too: those with a value are integers.
    guessed = by_duckdb(f"SELECT tx_hw_ns, typeof(tx_hw_ns) AS kind FROM '{file}'")
    assert set(guessed["kind"]) == {"BIGINT"}
    assert guessed["tx_hw_ns"] == [value_of(rows, "tx_hw_ns", n) for n in range(COUNT)]
    frame = pd.read_csv(file, engine="pyarrow", dtype_backend="pyarrow")
    assert_equal(of_pandas(frame), rows)
    table = pacsv.read_csv(file, convert_options=pacsv.ConvertOptions(strings_can_be_null=True))
    assert_equal(table.to_pydict(), rows)


def test_a_parquet_file_is_read_back_to_the_nanosecond_by_all_three(path, rows, tmp_path):
    file = exported(path, tmp_path / "x.parquet", "--format", "parquet")
    assert_equal(by_duckdb(f"SELECT * FROM '{file}'"), rows)
    assert_equal(of_pandas(pd.read_parquet(file, dtype_backend="pyarrow")), rows)
    assert_equal(pq.read_table(file).to_pydict(), rows)
    schema = pq.read_schema(file)
    assert schema.metadata[b"run_id"] == path.name.encode()
    assert schema.field("tx_hw_ns").metadata == {
        b"unit": b"ns",
        b"clock": b"phc",
        b"meaning": b"NIC sent the packet",
    }
    assert not schema.field("seq").nullable
    # As small as what the recorder wrote.
    recorded = sum(each.stat().st_size for each in (path / "samples").iterdir())
    assert file.stat().st_size < recorded + 30_000


def test_json_lines_are_read_back_exactly(path, rows):
    lines = export(path, "--format", "json").output.splitlines()
    objects = [json.loads(line) for line in lines]
    assert_equal({name: [each[name] for each in objects] for name in objects[0]}, rows)
    frame = pd.read_json(io.StringIO("\n".join(lines)), lines=True)
    assert frame["rx_xdp_ns"].tolist() == rows["rx_xdp_ns"].tolist()


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_every_form_of_an_old_run_has_what_its_own_version_wrote(form, tmp_path):
    for old in OLD_RUNS:
        file = exported(old, tmp_path / f"{old.name}.{form}", "--format", form)
        reader = "read_json" if form == "json" else "read_csv" if form == "csv" else "read_parquet"
        names = (old / "samples.csv").read_text(encoding="ascii").partition("\n")[0].split(",")
        chosen = ", ".join(f"{name}::VARCHAR" for name in names)
        csv = f"read_csv('{old / 'samples.csv'}', all_varchar = true)"
        same = sql(
            f"SELECT count(*) FROM (SELECT {chosen} FROM {csv} EXCEPT ALL "
            f"SELECT {chosen} FROM {reader}('{file}'))"
        )
        assert same == [(0,)], old.name
        assert sql(f"SELECT count(*) FROM {reader}('{file}')") == [(12,)]


# For readers that keep numbers as doubles.


def test_seconds_and_nanoseconds_survive_float64_where_a_stamp_does_not(path, rows, tmp_path):
    # pandas makes floats of a column with blanks, as a spreadsheet does of all.
    plain = pd.read_csv(exported(path, tmp_path / "plain.csv"))
    assert plain["tx_hw_ns"].dtype == np.float64
    known = rows["tx_hw_ns"] != NULL
    lost = plain["tx_hw_ns"][known].astype(np.int64) != rows["tx_hw_ns"][known]
    assert lost.mean() > 0.9
    split = pd.read_csv(exported(path, tmp_path / "split.csv", "--times", "split"))
    split = split.astype({name: np.float64 for name in split if name.endswith(("_sec", "_nsec"))})
    for name in TIMES:
        whole, rest = (split[f"{name.removesuffix('_ns')}_{part}"] for part in ("sec", "nsec"))
        is_known = rows[name] != NULL
        assert (whole.notna() == is_known).all()
        assert (rest[is_known] < 1e9).all() and (rest[is_known] >= 0).all()
        again = whole[is_known].astype(np.int64) * 1_000_000_000 + rest[is_known].astype(np.int64)
        assert (again == rows[name][is_known]).all()


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_both_other_forms_of_times_give_the_stamps_again(path, rows, tmp_path, form):
    reader = {"csv": "read_csv", "json": "read_json", "parquet": "read_parquet"}[form]
    split = exported(path, tmp_path / f"s.{form}", "--times", "split", "--format", form)
    done = export(
        *(path, "--times", "relative", "--format", form, "--output", tmp_path / f"r.{form}")
    )
    zero = int(re.search(r"note: time 0 is (\d+) ns on CLOCK_TAI", done.stderr)[1])
    assert zero == rows["rx_xdp_ns"][0]
    for name in TIMES:
        stem = name.removesuffix("_ns")
        for file, again in (
            (split, f"{stem}_sec::BIGINT * 1000000000 + {stem}_nsec::BIGINT"),
            (tmp_path / f"r.{form}", f"{stem}_rel_ns::BIGINT + {zero}"),
        ):
            found = sql(f"SELECT {again} FROM {reader}('{file}')")
            assert [value for (value,) in found] == [value_of(rows, name, n) for n in range(COUNT)]
    if form == "parquet":
        assert pq.read_schema(tmp_path / "r.parquet").metadata[b"time_0_ns"] == str(zero).encode()


def test_relative_times_are_small_and_said_to_be_inexact_where_they_are_not(tmp_path):
    path = ping_pong_run(tmp_path, 50, "hardware")
    done = export(path, "--times", "relative", "--columns", "tx_app_ns,tx_hw_ns")
    assert "double" not in done.stderr
    values = [
        int(cell) for line in done.stdout.splitlines()[1:] for cell in line.split(",") if cell
    ]
    assert max(map(abs, values)) < 1 << 53
    samples = ping_pong_samples(50, "hardware")
    samples["tx_hw_ns"] -= 1 << 60  # a clock that began at its boot
    other = write_run(tmp_path, info_of(timestamps="hardware"), samples)
    done = export(other, "--times", "relative", "--columns", "tx_app_ns,tx_hw_ns")
    assert "note: tx_hw_rel_ns: too far from time 0 for a double to be exact" in done.stderr
    assert export(other, "--times", "split").stderr == ""


def test_the_lines_of_r_in_the_readme_read_the_split_form(path, rows, tmp_path):
    line = re.search(r"^    (samples <- .*)$", README.read_text(encoding="utf-8"), re.MULTILINE)[1]
    if shutil.which("Rscript") is None:
        pytest.skip("R is not on this machine")
    exported(path, tmp_path / "samples-split.csv", "--times", "split")
    script = f"{line}; cat(sprintf('%.0f', samples$tx_app_sec[1:9]), samples$tx_app_nsec[1:9])"
    done = subprocess.run(
        ["Rscript", "-e", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    numbers = [int(word) for word in done.stdout.split()]
    again = [s * 10**9 + n for s, n in zip(numbers[:9], numbers[9:], strict=True)]
    assert again == rows["tx_app_ns"][:9].tolist()


# What is selected.


def test_columns_are_those_asked_for_in_that_order(path, rows):
    done = export(path, "--columns", "tx_hw_ns, seq,cause")
    lines = done.output.splitlines()
    assert lines[0] == "tx_hw_ns,seq,cause"
    cells = [value_of(rows, name, 70) for name in ("tx_hw_ns", "seq", "cause")]
    assert lines[71] == ",".join("" if cell is None else str(cell) for cell in cells)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--columns", "seq,price"), "a ping-pong run has no column price. It has: seq, queue_id"),
        (("--columns", "seq,seq"), "seq: named twice"),
        (("--columns", "seq,,len"), "has an empty name"),
        (("--from", "soon"), "is not a duration"),
        (("--to", "99999999999999999999"), "is not a duration"),
        (("--to", "9999999999999999999"), "is later than 2262"),
        (("--format", "hwmeta", "--columns", "seq"), "hwmeta has its own lines"),
        (("--format", "hwmeta", "--times", "split"), "hwmeta has its own lines"),
        (("--format", "xlsx"), "'xlsx' is not one of"),
    ],
)
def test_what_cannot_be_selected_is_a_usage_error(path, arguments, problem):
    done = export(path, *arguments)
    assert done.exit_code == 2
    assert problem in " ".join(done.output.split())


def test_without_a_run_there_is_nothing_to_export():
    done = export()
    assert (done.exit_code, "Missing argument 'RUN'" in done.output) == (2, True)


def seqs(done):
    assert done.exit_code == 0, done.output
    return [int(line) for line in done.stdout.splitlines()[1:]]


def test_a_range_is_since_time_0_or_by_stamps_and_ends_before_its_end(tmp_path):
    path = ping_pong_run(tmp_path, 1_000, spacing_ns=1_000_000)
    first = sql(
        "SELECT seq, least(rx_xdp_ns, rx_app_ns, tx_app_ns, tx_sw_ns, tx_comp_ns) FROM {files} "
        "ORDER BY seq",
        files=samples_of(path),
    )
    zero = first[0][1]
    for start, end in ((0, 250_000_000), (100_500_000, None), (None, 1), (990_000_000, 10**12)):
        low = zero if start is None else zero + start
        high = 1 << 62 if end is None else zero + end
        expected = [seq for seq, ns in first if low <= ns < high]
        relative = [("--from", start), ("--to", end)]
        words = [x for name, ns in relative if ns is not None for x in (name, f"{ns}ns")]
        assert seqs(export(path, "--columns", "seq", *words)) == expected
        stamps = [x for name, ns in relative if ns is not None for x in (name, zero + ns)]
        assert seqs(export(path, "--columns", "seq", *stamps)) == expected
    assert len(seqs(export(path, "--columns", "seq", "--from", "-1s", "--to", "2s"))) == 1_000
    assert seqs(export(path, "--columns", "seq", "--from", first[5][1], "--to", first[6][1])) == [5]
    assert seqs(export(path, "--columns", "seq", "--to", "0")) == []


def test_samples_without_any_time_are_in_no_range(tmp_path):
    samples = ping_pong_samples(10)
    for name in TIMES:
        samples[name][3] = NULL
    path = write_run(tmp_path, info_of(), samples)
    assert len(seqs(export(path, "--columns", "seq"))) == 10
    assert 3 not in seqs(export(path, "--columns", "seq", "--from", "-1h"))
    empty = write_run(tmp_path, info_of(), samples[:0])
    for times in ("ns", "split", "relative"):
        assert seqs(export(empty, "--columns", "seq", "--times", times, "--from", "0")) == []


@pytest.mark.parametrize("kind", ["mixed", "ping"])
def test_the_other_kinds_export_their_own_columns(tmp_path, kind):
    samples = ping_pong_samples(30)
    path = mixed_run(tmp_path, samples=samples)
    if kind == "ping":
        path = write_run(tmp_path, info_of("ping"), samples)
    lines = export(path).output.splitlines()
    assert lines[0] == ",".join(COLUMNS_OF_KIND[kind])
    assert len(lines) == 31
    done = export(path, "--format", "hwmeta")
    assert done.exit_code == 4
    assert f"needs a ping-pong run, found a {kind} run" in done.output


# The kernel's lines.


def test_hwmeta_has_the_lines_that_a_live_run_prints_but_for_its_polls(path, rows, capsys):
    run = open_run(path)
    output = HwmetaOutput()
    output.start(run.info)
    for batch in run.batches():
        output.batch(batch, None, {"redirected": 1})
    live = capsys.readouterr()
    done = export(path, "--format", "hwmeta")
    recorded = done.stdout.splitlines()
    assert recorded[-1] == "detaching bpf program...."
    live_lines = [line for line in live.out.splitlines() if not line.startswith("poll: ")]
    assert recorded[:-1] == live_lines
    assert done.stderr == live.err
    part, few = (
        export(path, "--from", "1ms", "--to", "2ms", "--format", form).stdout.splitlines()
        for form in ("hwmeta", "json")
    )
    assert 90 < len(few) == len([line for line in part if ": complete rx" in line]) < 110


def test_hwmeta_ends_with_what_was_counted_in_all(tmp_path):
    counts = {"redirected": 7, "passed_other": 2, "refused": 3, "refused_by": {"fragment": 3}}
    path = ping_pong_run(tmp_path, 5, counts=counts)
    lines = export(path, "--format", "hwmeta").stdout.splitlines()
    assert lines[-2:] == ["poll: 0 (0) skip=2 fail=3 redir=7", "detaching bpf program...."]


# The schema.


def readme_rows():
    lines = README.read_text(encoding="utf-8").splitlines()
    start = lines.index("| column | type | unit | clock | null | meaning | kinds |")
    for line in lines[start + 2 :]:
        if not line.startswith("| `"):
            return
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        names = ("column", "type", "unit", "clock", "null", "meaning", "kinds")
        yield dict(zip(names, cells, strict=True))


def test_the_schema_is_the_table_of_the_readme():
    done = export("--schema", "--format", "json")
    assert [json.loads(line) for line in done.output.splitlines()] == list(readme_rows())


def test_the_schema_as_a_table_says_the_same_in_72_columns():
    lines = export("--schema").output.splitlines()
    assert max(map(len, lines)) <= 72
    text = " ".join(" ".join(lines).split())
    for row in readme_rows():
        kind = "string" if row["column"] == "cause" else row["type"]
        head = [row["column"], kind, row["unit"], row["clock"], row["null"], row["meaning"]]
        words = " ".join([*(cell for cell in head if cell), f"[{row['kinds']}]"])
        assert words in text


@pytest.mark.parametrize("times", ["ns", "split", "relative"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_schema_of_a_run_is_that_of_its_exports(path, tmp_path, times, form):
    done = export(path, "--schema", "--times", times, "--format", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    file = exported(path, tmp_path / f"x.{form}", "--times", times, "--format", form)
    if form == "csv":
        head = file.read_text(encoding="ascii").partition("\n")[0]
        assert head.split(",") == [row["column"] for row in rows]
        return
    for row, field in zip(rows, pq.read_schema(file), strict=True):
        meta = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        assert row["column"] == field.name
        assert row["type"] == ("dictionary<string>" if field.name == "cause" else str(field.type))
        assert {key: row[key] for key in ("unit", "clock", "meaning") if row[key]} == meta
        assert (row["null"] == "yes") == field.nullable


def test_the_schema_of_a_run_says_when_time_0_is(path, rows):
    done = export(path, "--schema", "--times", "relative")
    assert done.output.splitlines()[-1] == f"time 0 is {rows['rx_xdp_ns'][0]} ns on CLOCK_TAI"


# Files.


def test_a_file_is_not_overwritten_without_force(path, tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("mine", encoding="ascii")
    done = export(path, "--output", file)
    assert done.exit_code == 1
    assert f"{file}: exists already and is not overwritten; give another name, or --force" in (
        done.output
    )
    assert file.read_text(encoding="ascii") == "mine"
    exported(path, file, "--force")
    assert file.read_text(encoding="ascii").startswith("seq,")
    assert [each.name for each in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("run.json", "belongs to a run and is not replaced"),
        ("samples.csv", "belongs to a run and is not replaced"),
        ("samples/00000.parquet", "would be taken for samples of that run"),
        ("samples/00009.parquet", "would be taken for samples of that run"),
    ],
)
def test_what_belongs_to_a_run_is_not_replaced_even_with_force(tmp_path, name, problem):
    path = ping_pong_run(tmp_path, 30)
    (path / "samples.csv").write_text("theirs", encoding="ascii")
    before = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    done = export(path, "--output", path / name, "--force", "--format", "parquet")
    assert (done.exit_code, problem in done.output) == (1, True)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert export(path, "--output", link / name, "--force").exit_code == 1
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == before
    # A new name beside them is fine.
    exported(path, path / "mine.csv")


def test_a_device_or_a_pipe_is_no_place_even_with_force(path, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    for name in ("pipe", "null"):
        done = export(path, "--output", tmp_path / name, "--force")
        assert (done.exit_code, "is no regular file" in done.output) == (1, True)
    done = export(path, "--output", tmp_path / "no" / "x.csv")
    assert (done.exit_code, "its folder does not exist" in done.output) == (1, True)


def test_an_export_that_fails_half_way_leaves_nothing(tmp_path):
    path = ping_pong_run(tmp_path / "runs", 300)
    last = sorted((path / "samples").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-9])
    (tmp_path / "out").mkdir()
    for form in ("csv", "parquet", "json"):
        done = export(path, "--output", tmp_path / "out" / "x", "--format", form)
        assert done.exit_code == 1
        assert f"Error: {last}: cannot read these samples" in done.output
        assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """A run that takes a while to export."""
    base = tmp_path_factory.mktemp("long")
    samples = ping_pong_samples(65_536)
    with create_run(base, info_of()) as run_dir:
        writer = SampleWriter(run_dir.path / "samples", "ping-pong")
        for _ in range(16):
            writer.add(samples)
        writer.close_file()
    return run_dir.path


def test_a_full_disk_is_said_and_nothing_is_left(long_run, small_disk):
    for form in ("csv", "parquet", "json"):
        done = export(long_run, "--output", small_disk / "x", "--format", form)
        assert done.exit_code == 1
        assert f"Error: {small_disk / 'x'}: cannot write this file: No space left" in done.output
        assert list(small_disk.iterdir()) == []


def popen(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "xdptstamp", "export", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("form", ["csv", "parquet", "json", "hwmeta"])
def test_a_reader_that_goes_away_ends_it_without_a_word(long_run, form):
    with popen(long_run, "--format", form) as process:
        assert len(process.stdout.read(1000)) == 1000
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 128 + signal.SIGPIPE
    assert [line for line in errors.splitlines() if not line.startswith("note: ")] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_no_file(long_run, tmp_path, number):
    with popen(long_run, "--format", "json", "--output", tmp_path / "x.json") as process:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
        process.send_signal(number)
        assert process.stderr.read() == b""
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_standard_output_may_be_a_file_or_a_pipe(path, tmp_path):
    file = tmp_path / "x.parquet"
    with open(file, "wb") as out:
        done = xdptstamp("export", path, "--format", "parquet", stdout=out, capture_output=False)
    assert done.returncode == 0
    assert pq.read_metadata(file).num_rows == COUNT
    piped = xdptstamp("export", path, "--format", "parquet", text=False)
    assert piped.stdout == file.read_bytes()
    assert xdptstamp("export", path).stdout == export(path).stdout


@pytest.mark.parametrize("arguments", [("show",), ("export",), ("export", "--format", "parquet")])
def test_standard_output_that_cannot_be_written_is_said_in_one_line(path, arguments):
    with open("/dev/full", "wb") as full:
        command_, *options = arguments
        done = xdptstamp(
            *(command_, path, *options), stdout=full, stderr=subprocess.PIPE, capture_output=False
        )
    assert done.returncode == 1
    assert done.stderr == "Error: standard output cannot be written: No space left on device\n"


def test_a_run_that_is_being_written_is_exported_as_far_as_it_is(tmp_path):
    info = info_of()
    with create_run(tmp_path, info) as run_dir:
        writer = SampleWriter(run_dir.path / "samples", info.kind)
        writer.add(ping_pong_samples(20))
        writer.close_file()
        done = export(run_dir.path, "--columns", "seq")
    assert seqs(done) == list(range(20))
    assert "still being written" in done.stderr


MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_kb(*arguments):
    """What a command took of memory at most: the greatest of its parent's children, of one."""
    argv = [sys.executable, "-m", "xdptstamp", *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *argv], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("export", "--format", "csv"),
        ("export", "--format", "parquet"),
        ("export", "--format", "json", "--columns", "seq,tx_app_ns"),
        ("export", "--format", "csv", "--times", "split", "--from", "1ms"),
    ],
)
def test_memory_does_not_grow_with_the_run(long_run, tmp_path, arguments):
    short = ping_pong_run(tmp_path, 65_536 * 2)
    name, *options = arguments
    few, many = (peak_kb(name, path, *options) for path in (short, long_run))
    # Eight times the samples: 200 MB more, if they were all in memory at once.
    assert many - few < 60_000, (few, many)


def test_the_info_of_a_run_is_not_touched(path, tmp_path):
    before = (path / "run.json").read_bytes()
    exported(path, tmp_path / "x.csv")
    CliRunner().invoke(command, ["show", str(path)])
    assert (path / "run.json").read_bytes() == before
    assert info_json(path)["state"] == "complete"
