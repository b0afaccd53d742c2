# SPDX-License-Identifier: GPL-2.0-only
"""Runs from elsewhere: broken, truncated, foreign, or made to harm whoever reads them."""

import copy
import json
import os
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data_kit import (
    OLD_RUNS,
    edit_info,
    info_json,
    mixed_run,
    ping_pong_run,
    xdptstamp,
)
from xdptstamp.cli.main import command
from xdptstamp.errors import XdptstampError
from xdptstamp.report import recompute
from xdptstamp.report.shown import shown_json, shown_lines
from xdptstamp.store import open_run

EVIL = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\r\n\u202egnp.exe =HYPERLINK(1)\x9b31m"
TRUTH = {
    "run_id": "r",
    "log": "truth.csv",
    "is_log_cut": False,
    "driver": "igc",
    "speed_mbps": 2500,
    "tx": {"direction": "tx", "num_stamps": 3, "driver_ns": [1, 1], "named": []},
    "rx": None,
    "warnings": [],
}


def show(path, *arguments):
    return CliRunner().invoke(command, ["show", str(path), *arguments])


def export(path, *arguments):
    return CliRunner().invoke(command, ["export", str(path), *arguments])


def only_message(done, path):
    """The one line of an error, which names the path."""
    assert done.exit_code == 1, (done.exit_code, done.output, done.exception)
    lines = done.output.splitlines()
    assert len(lines) == 1, done.output
    assert lines[0].startswith(f"Error: {path}"), done.output
    return lines[0]


def assert_harmless(text):
    """Nothing in it that a terminal does anything with."""
    assert all(char == "\n" or char.isprintable() for char in text), repr(text)


@pytest.fixture
def path(tmp_path):
    return ping_pong_run(tmp_path / "runs", 300)


# run.json


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "truncated or damaged, it is not valid JSON"),
        (b'{"run_id": "x", "kin', "truncated or damaged, it is not valid JSON"),
        (b"\xff\xfe{}", "truncated or damaged, it is not valid JSON"),
        (b"[]", "it holds no JSON object"),
        (b"{}", "schema version None, this xdptstamp reads 1"),
        (b'{"schema_version": 2, "nic": "new form"}', "schema version 2, this xdptstamp reads 1"),
        (b'{"schema_version": true}', "schema version True"),
        (b'{"schema_version": 1}', "missing"),
        (b'{"schema_version": 1, "counts": NaN}', "NaN is no JSON"),
        (b'{"schema_version": 1, "counts": 1e999}', "not finite"),
        (b'{"schema_version": 1, "counts": 99999999999999999999}', "more than 64 bits"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nests too deep"),
        (b"[" * 100_000, "nests too deep"),
        (b'{"n": ' + b"1" * 5000 + b"}", "more than 64 bits"),
    ],
)
def test_a_run_json_that_is_none_is_refused_with_one_line(path, content, problem):
    (path / "run.json").write_bytes(content)
    for done in (show(path), export(path)):
        assert problem in only_message(done, path / "run.json")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kind": "pong"}, "unknown kind of run: 'pong'"),
        ({"kind": ["ping"]}, "kind cannot be ['ping']"),
        ({"state": "sleeping"}, "unknown state 'sleeping'"),
        ({"nic": []}, "nic cannot be []"),
        ({"nic": {"ifname": 7}}, "nic.ifname cannot be 7"),
        ({"argv": "rm -rf"}, "argv cannot be 'rm -rf'"),
        ({"counters": {"x": {"before": 1}}}, "counters['x'] lacks after"),
        ({"counts": {"rounds": 3}}, "counts.rounds cannot be 3"),
        ({"warnings": [7]}, "warnings[0] cannot be 7"),
        ({"warnings": [{"key": "k"}]}, "warnings[0] lacks advice, limit, message, value"),
        ({"clock_comparison": {"samples": {"tai_ns": [1]}}}, "clock_comparison.samples lacks"),
        ({"obtained": {"notes": [1]}}, "obtained.notes[0] cannot be 1"),
        ({"label": EVIL + "x" * 99, "timestamps": {}}, "timestamps cannot be {}"),
    ],
)
def test_a_run_json_of_other_types_is_refused_by_the_name_of_what_is_wrong(path, fields, problem):
    edit_info(path, **fields)
    for done in (show(path), export(path)):
        assert problem in only_message(done, path / "run.json")


def test_clocks_that_cannot_be_compared_are_refused(tmp_path):
    path = ping_pong_run(tmp_path, 300, "hardware")
    good = info_json(path)["clock_comparison"]
    for name, change, problem in (
        ("phc_ns", lambda v: v[::-1], "go back in time at number 1"),
        ("tai_ns", lambda v: v[:-1], "different length"),
        ("tai_ns", lambda v: [1 << 62, *v[1:]], "holds what is no time"),
        ("uncertainty_ns", lambda v: [-1, *v[1:]], "holds what is no time"),
    ):
        bad = copy.deepcopy(good)
        bad["samples"][name] = change(bad["samples"][name])
        edit_info(path, clock_comparison=bad)
        assert problem in only_message(show(path), path / "run.json")


def test_no_escape_sequence_of_a_run_reaches_the_terminal(path):
    warning = dict.fromkeys(("message", "value", "limit", "advice", "key"), EVIL)
    edit_info(
        path,
        label=EVIL,
        run_id=EVIL,
        ended_by=EVIL,
        argv=["xdptstamp", EVIL],
        dut={"hostname": EVIL, "cpu_model": EVIL},
        nic={"ifname": EVIL, "driver": EVIL, "firmware": EVIL},
        partner={"host": EVIL},
        versions={"xdptstamp": EVIL, EVIL: EVIL},
        asked={"mode": EVIL},
        obtained={"mode": EVIL, "queues": [0], "notes": [EVIL], "kernel_log": EVIL, "csv": EVIL},
        clocks={"tx_sw_ns": EVIL},
        counters={EVIL: {"before": 0, "after": 1}},
        counts={EVIL: 3, "received": 4, "reconciliation": [EVIL]},
        warnings=[{**warning, "is_untrusted": True}],
    )
    for form in ("table", "jsonl"):
        done = show(path, "--format", form)
        assert done.exit_code == 3
        assert_harmless(done.output)
        assert "owned" in done.output
    assert (
        json.loads(show(path, "--format", "jsonl").stdout.splitlines()[0])["info"]["label"] == EVIL
    )
    for form in ("csv", "json", "hwmeta"):
        done = export(path, "--format", form)
        assert done.exit_code == 0, done.output
        assert_harmless(done.output)
        assert ("owned" in done.output) == (form == "hwmeta")
    assert_harmless(export(path, "--schema").output)


def test_no_error_carries_one_either(path, tmp_path):
    edit_info(path, kind=EVIL)
    done = show(path)
    assert done.exit_code == 1
    assert_harmless(done.output)
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    for done in (show(folder), show(tmp_path / "no\x1b[2J"), show(path, "--output-dir", folder)):
        assert done.exit_code == 1
        assert_harmless(done.output)
    other = ping_pong_run(tmp_path / "other", 20)
    # The same where the others go on.
    done = CliRunner().invoke(command, ["show", str(path), str(other)])
    assert done.exit_code == 1
    assert_harmless(done.output)


# What a hostile file can say where: any JSON at all.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 66), 1 << 66)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just(EVIL),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def put(content, place, value):
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


class Runs(list):
    """Hypothesis shows what a test was given."""

    def __repr__(self):
        return "rich_runs"


@pytest.fixture(scope="module")
def rich_runs(tmp_path_factory):
    """A run of each kind, and the places in its run.json."""
    base = tmp_path_factory.mktemp("rich")
    hardware = ping_pong_run(base, 200, "hardware")
    (hardware / "truth.json").write_text(json.dumps(TRUTH), encoding="ascii")
    runs = [hardware, mixed_run(base)]
    for old in OLD_RUNS:
        if "mixed" in old.name or old.name.endswith("-ping"):
            runs.append(base / old.name)
            shutil.copytree(old, runs[-1])
    return Runs((path, info_json(path)) for path in runs)


@given(
    which=st.integers(0, 100),
    changes=st.lists(st.tuples(st.integers(0, 10**6), JSON), min_size=1, max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_a_run_json_it_is_refused_or_shown_escaped(rich_runs, which, changes):
    path, content = rich_runs[which % len(rich_runs)]
    changed = copy.deepcopy(content)
    for number, value in changes:
        where = [place for place in places(changed) if place]
        put(changed, where[number % len(where)], value)
    (path / "run.json").write_text(json.dumps(changed), encoding="utf-8")
    try:
        found = recompute(open_run(path))
        lines = shown_lines(found)
        json.dumps(shown_json(found), allow_nan=False)
    except XdptstampError as error:
        assert str(path) in str(error)
    else:
        assert_harmless("\n".join(lines))
        assert "".join(lines).isascii()


# Everything else in the folder.


def parquet_of(path):
    return sorted((path / "samples").iterdir())[0]


def test_truncated_samples_are_refused_by_their_name(path):
    file = parquet_of(path)
    data = file.read_bytes()
    for size in (0, 3, len(data) // 2, len(data) - 5):
        file.write_bytes(data[:size])
        for done in (show(path), export(path)):
            assert "cannot read these samples" in done.output.splitlines()[-1]
            assert done.output.splitlines()[-1].startswith(f"Error: {file}: ")
            assert done.exit_code == 1
            assert_harmless(done.output)


def test_samples_whose_middle_is_damaged_are_refused_or_read_never_a_traceback(path):
    file = parquet_of(path)
    data = file.read_bytes()
    rng = np.random.default_rng(4)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(4, len(data) - 8, 8):
            broken[at] = rng.integers(0, 256)
        file.write_bytes(broken)
        done = show(path)
        assert done.exit_code in (0, 1, 3), (done.exit_code, done.exception)
        assert_harmless(done.output)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"price": [1.5, 2.5]}, "has no column"),
        ({"seq": [1.5, 2.5]}, "has no column"),
        ({EVIL: [1]}, "has no column"),
    ],
)
def test_parquet_of_something_else_is_refused(path, table, problem):
    file = parquet_of(path)
    pq.write_table(pa.table(table), file)
    for done in (show(path), export(path)):
        assert problem in done.output
        assert done.exit_code == 1
        assert_harmless(done.output)


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("tx_sw_ns", pa.array([1.0] * 128), "column tx_sw_ns has type double, not int64"),
        ("cause", pa.array(["=cmd()"] * 128), "column cause holds unknown words: =cmd()"),
        ("cause", pa.array([EVIL] * 128), "unknown words: \\x1b"),
        ("cause", pa.array([7] * 128), "column cause has type int64, not words"),
        ("cause", pa.DictionaryArray.from_arrays(pa.array([0] * 128, pa.int8()), ["skipped"]), ""),
        ("is_warmup", pa.array([None] * 128, pa.bool_()), "column is_warmup has nulls"),
    ],
)
def test_columns_of_another_type_or_with_other_words_are_refused(path, name, array, problem):
    file = parquet_of(path)
    whole = pq.read_table(file)
    assert len(whole) == 128
    at = whole.schema.get_field_index(name)
    pq.write_table(whole.set_column(at, name, array), file)
    done = export(path)
    assert_harmless(done.output)
    if problem:
        assert (done.exit_code, problem in done.output) == (1, True), done.output
        assert show(path).exit_code == 1
    else:
        assert done.exit_code == 0 or "indices of type" in done.output


def test_no_cell_of_a_csv_can_be_a_formula(path):
    edit_info(path, label="=1+1", dut={"hostname": "@SUM(A1)"}, nic={"ifname": "-2+3"})
    lines = export(path).output.splitlines()
    cells = {cell for line in lines[1:] for cell in line.split(",")}
    words = {cell for cell in cells if not re.fullmatch(r"-?[0-9]*", cell)}
    assert words == {"true", "false", "skipped", "timed_out", "invalid"}
    assert not [line for line in lines if "=" in line or "@" in line or "+" in line]


@pytest.mark.parametrize("name", ["run.json", "samples", "00000.parquet", "truth.json", ".lock"])
@pytest.mark.parametrize("what", ["loop", "fifo", "device", "folder"])
def test_a_loop_a_pipe_a_device_or_a_folder_in_a_files_place_is_refused_at_once(path, name, what):
    place = parquet_of(path) if name.endswith(".parquet") else path / name
    if name == ".lock":
        edit_info(path, state="running")
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    {
        "loop": lambda: place.symlink_to(place.name),
        "fifo": lambda: os.mkfifo(place),
        "device": lambda: place.symlink_to("/dev/zero"),
        "folder": lambda: place.mkdir(exist_ok=True),
    }[what]()
    # In a process of its own: what hangs is ended.
    done = xdptstamp("show", path, timeout=60)
    if (name, what) in {("samples", "folder"), (".lock", "fifo"), (".lock", "folder")}:
        assert done.returncode in (0, 3)
    elif (name, what) == (".lock", "device"):
        assert done.returncode in (0, 1)
    else:
        assert done.returncode == 1, done.stdout
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"Error: {path}")


def test_links_that_lead_round_are_not_followed_for_the_latest_run(path, tmp_path):
    base = path.parent
    (base / "20990101T000000Z-loop").symlink_to("20990101T000000Z-loop")
    (base / "round").symlink_to(base)
    done = CliRunner().invoke(command, ["show", "--output-dir", str(base)])
    assert done.exit_code == 0, done.output


def test_rounds_and_holds_of_something_else_are_refused(tmp_path):
    path = mixed_run(tmp_path)
    holds = (path / "holds.csv").read_text(encoding="ascii")
    for text in (
        "",
        "a,b\n1,2\n",
        holds.replace("stamped", "=cmd()"),
        holds.replace(",15000,", ",x,"),
        holds.replace(",1\n", ",99999999999999999999\n"),
        holds.replace(",1\n", ",-1\n"),
        holds.replace(",1\n", f",{1 << 60}\n"),
        "\x00\x1b[2J",
    ):
        (path / "holds.csv").write_text(text, encoding="ascii")
        done = show(path)
        assert_harmless(done.output)
        assert "holds.csv" in only_message(done, path)
    (path / "holds.csv").unlink()
    assert "cannot read the hold times" in only_message(show(path), path / "holds.csv")


@pytest.mark.parametrize(
    "change",
    [
        {"tx": {"direction": "tx", "driver_ns": [1, 2, 3]}},
        {"tx": {"num_stamps": 3}},
        {"tx": {"direction": "tx", "named": [{"error_ns": 4}]}},
        {"warnings": [{"key": "k"}]},
        {"warnings": "none"},
        {"log": 5},
        {"rx": "no"},
    ],
)
def test_a_truth_that_is_none_is_refused(path, change):
    (path / "truth.json").write_text(json.dumps(TRUTH), encoding="ascii")
    assert show(path).exit_code == 0
    (path / "truth.json").write_text(json.dumps(TRUTH | change), encoding="ascii")
    only_message(show(path), path / "truth.json")


def test_a_truth_with_escape_sequences_is_shown_escaped(path):
    named = [{"problem": EVIL, "seq": EVIL, "error_ns": 3}]
    side = {"direction": EVIL, "constant": EVIL, "named": named}
    truth = TRUTH | {"run_id": EVIL, "log": EVIL, "driver": EVIL, "tx": side}
    (path / "truth.json").write_text(json.dumps(truth), encoding="ascii")
    for form in ("table", "jsonl"):
        done = show(path, "--format", form)
        assert done.exit_code == 0, done.exception
        assert_harmless(done.output)
