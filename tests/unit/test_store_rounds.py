# SPDX-License-Identifier: GPL-2.0-only
"""``rounds.csv`` and ``holds.csv``: read back as they were, by us and by pandas."""

import dataclasses
import errno
import os
import re
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import mixed_kit as kit
from xdptstamp.errors import RunFileError
from xdptstamp.histogram import Histogram
from xdptstamp.rounds import Round, Setting
from xdptstamp.sample import Cause
from xdptstamp.store import create_run, open_run
from xdptstamp.store.rounds import exact_buckets, read_rounds, rounds_json, write_rounds

README = Path(__file__).parents[2] / "results" / "README.md"
PARTS = ("buckets", "min", "max", "count")


def same_histogram(one, other):
    if one.count == other.count == 0:
        return True
    return all(
        (getattr(one, p)() if p == "buckets" else getattr(one, p))
        == (getattr(other, p)() if p == "buckets" else getattr(other, p))
        for p in PARTS
    )


def assert_same_rounds(got, want):
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        for item in dataclasses.fields(Round):
            a, b = getattr(one, item.name), getattr(other, item.name)
            if item.name == "hold":
                assert all(same_histogram(a[p], b[p]) for p in a) and a.keys() == b.keys()
            elif item.name == "reap":
                assert same_histogram(a, b)
            elif item.name == "second_app" and b:
                assert {k: v for k, v in a.items() if k != "latency"} == {
                    k: v for k, v in b.items() if k != "latency"
                }
                assert same_histogram(a["latency"], b["latency"])
            else:
                assert a == b, item.name


def store(base, settings, rounds):
    info = kit.info_of(run_id="")
    with create_run(base, info) as run_dir:
        write_rounds(run_dir.path, settings, rounds)
        info.counts |= rounds_json(settings, rounds)
        run_dir.write_info(info)
    return open_run(run_dir.path)


def two_apps():
    settings = [Setting(64, 0, 1), Setting(64, 0, 1, 1_000_000, has_second_app=True)]
    latency = Histogram()
    latency.add(range(-500, 9000, 7))
    causes = {"skipped": 2, "timed_out": 0}
    app = {"requested": 1000, "stamped": 998, "causes": causes, "latency": latency}
    rounds = [kit.round_of(0, 0, 1000), kit.round_of(0, 1, 990, 1, second_app=app)]
    return settings, rounds


def test_a_run_reads_back_as_it_was(tmp_path):
    settings, rounds = kit.three_settings()
    rounds[5].located = {"partner rx_dropped": 3}
    rounds[5].received, rounds[5].missing, rounds[5].unaccounted = rounds[5].sent - 2, 2, -1
    got_settings, got = read_rounds(store(tmp_path, settings, rounds))
    assert got_settings == settings
    assert_same_rounds(got, rounds)


def test_a_second_app_reads_back_with_its_latency(tmp_path):
    settings, rounds = two_apps()
    got_settings, got = read_rounds(store(tmp_path, settings, rounds))
    assert got_settings == settings
    assert_same_rounds(got, rounds)


def test_rounds_may_be_written_again(tmp_path):
    settings, rounds = kit.three_settings()
    write_rounds(tmp_path, settings, rounds[:3])
    write_rounds(tmp_path, settings, rounds)
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 1 + len(rounds)
    assert sorted(os.listdir(tmp_path)) == ["holds.csv", "rounds.csv"]


def test_pandas_reads_whole_integers(tmp_path):
    settings, rounds = two_apps()
    rounds[0].sent = 2**62 + 1
    rounds[0].received = None
    rounds[1].located = {"partner rx=a;b": 3, "link.tx_dropped": 4}
    kit.miss(rounds[1], Cause.TIMED_OUT, 7)
    write_rounds(tmp_path, settings, rounds)
    table = pd.read_csv(tmp_path / "rounds.csv", engine="pyarrow", dtype_backend="pyarrow")
    assert table.sent.tolist() == [2**62 + 1, 990] and str(table.sent.dtype) == "int64[pyarrow]"
    assert table.received.isna().tolist() == [True, False]
    assert table.source.tolist() == ["completions", "sink"]
    assert table.arrived.tolist() == [1000, 990]
    assert table.duration_ns.tolist() == [kit.SECOND] * 2
    assert table.timed_out.tolist() == [0, 7]
    assert table.is_warmup.tolist() == [False, False]
    assert table.located.fillna("").tolist() == ["", "partner rx_a_b=3;link.tx_dropped=4"]
    assert table.second_app[1] == "requested=1000;stamped=998;skipped=2;timed_out=0"
    assert list(zip(table.ratio, table.size_bytes, strict=True)) == [("0:1", 64)] * 2
    assert pd.read_csv(tmp_path / "rounds.csv").sent.dtype == "int64"


def test_the_pandas_lines_of_the_readme(tmp_path):
    write_rounds(tmp_path, *two_apps())
    lines = re.findall(r"^    ((?:rounds|holds) = pd\..*)$", README.read_text(), re.MULTILINE)
    assert len(lines) == 2
    names = {"pd": pd, "run": tmp_path}
    for line in lines:
        exec(line, names)
    for table in (names["rounds"], names["holds"]):
        assert "float" not in " ".join(map(str, table.dtypes)) and len(table)
    rates = names["rounds"].arrived * 1e9 / names["rounds"].duration_ns
    assert rates.tolist() == [1000, 990]


def test_the_library_lines_of_the_readme(tmp_path, capsys):
    run = store(tmp_path, *kit.three_settings())
    text = README.read_text().partition("    from xdptstamp.bandwidth")[2].partition("\n\n")[0]
    code = textwrap.dedent("    from xdptstamp.bandwidth" + text).replace(
        '"RUN"', repr(str(run.path))
    )
    exec(code, {"open_run": open_run, "Path": Path})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0:1", "1:10", "1:0"]


def test_holds_hold_the_buckets(tmp_path):
    settings, rounds = kit.three_settings()
    write_rounds(tmp_path, settings, rounds)
    holds = pd.read_csv(tmp_path / "holds.csv")
    assert holds["hold_ns"].dtype == holds["count"].dtype == "int64"
    for each in rounds:
        own = holds[(holds.order == each.order) & (holds.is_warmup == each.is_warmup)]
        assert set(own["round"]) == {each.round} and set(own.setting) == {each.setting}
        assert set(own.ratio) == {settings[each.setting].ratio}
        for position, histogram in [*each.hold.items(), ("period", each.reap)]:
            rows = own[own.position == position]
            assert rows["count"].sum() == histogram.count
            if histogram.count:
                assert rows["hold_ns"].min() == histogram.min
                assert rows["hold_ns"].max() == histogram.max


@given(st.lists(st.integers(-(2**20), 2**50), max_size=30))
def test_buckets_give_the_histogram_back(values):
    histogram, again = Histogram(), Histogram()
    histogram.add(values)
    pairs = exact_buckets(histogram)
    assert pairs == sorted(pairs)
    again.add(np.repeat([ns for ns, _ in pairs], [count for _, count in pairs]).astype(np.int64))
    assert same_histogram(histogram, again)


def test_a_run_without_rounds_is_refused(tmp_path):
    info = kit.info_of(run_id="")
    with create_run(tmp_path, info) as run_dir:
        run = open_run(run_dir.path)
    with pytest.raises(RunFileError, match="it has no rounds"):
        read_rounds(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("settings", [{"size": 64}]), ("settings", []), ("rounds", [{"round": 1}]), ("rounds", [3])],
)
def test_damaged_rounds_are_refused(tmp_path, key, value):
    run = store(tmp_path, *kit.three_settings())
    run.info.counts[key] = value
    with pytest.raises(RunFileError, match="rounds cannot be read"):
        read_rounds(run)


@pytest.mark.parametrize(
    "row",
    [
        "1,0,3,false,0:1,64,elsewhere,5,1",
        "1,0,99,false,0:1,64,behind,5,1",
        "1,0,3,false,0:1,64,others,5,-1",
        "1,0",
    ],
)
def test_damaged_holds_are_refused(tmp_path, row):
    run = store(tmp_path, *kit.three_settings())
    with open(run.path / "holds.csv", "a") as file:
        file.write(row + "\n")
    with pytest.raises(RunFileError, match=r"holds\.csv: damaged"):
        read_rounds(run)


def test_missing_holds_are_said(tmp_path):
    run = store(tmp_path, *kit.three_settings())
    (run.path / "holds.csv").unlink()
    with pytest.raises(RunFileError) as refused:
        read_rounds(run)
    said = "cannot read the hold times: No such file or directory. Copy the whole folder of the run"
    assert str(refused.value).endswith(said)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    settings, rounds = kit.three_settings()
    write_rounds(tmp_path, settings, rounds[:3])
    before = (tmp_path / "rounds.csv").read_bytes()

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFileError, match="cannot write the rounds: No space left"):
        write_rounds(tmp_path, settings, rounds)
    assert (tmp_path / "rounds.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["holds.csv", "rounds.csv"]
