# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp show``: which run, in whatever state, of whatever version; what is said of it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.unit import truth_kit
from tests.unit.data_kit import (
    OLD_RUNS,
    SECOND,
    T0,
    edit_info,
    info_of,
    mixed_run,
    ping_pong_run,
    ping_pong_samples,
    write_run,
    xdptstamp,
)
from xdptstamp.cli.main import command
from xdptstamp.join import join_truth, read_truth_log
from xdptstamp.report import recompute
from xdptstamp.report.shown import shown_json, shown_lines
from xdptstamp.sample import empty_batch
from xdptstamp.store import create_run, open_run
from xdptstamp.store.truth import write_truth
from xdptstamp.store.writer import SampleWriter
from xdptstamp.text.truth import truth_lines


def json_of(path):
    return shown_json(recompute(open_run(path)))


def text_of(path):
    return "\n".join(shown_lines(recompute(open_run(path))))


def test_a_run_of_whatever_version_is_shown():
    assert len(OLD_RUNS) >= 10
    for path in OLD_RUNS:
        found = recompute(open_run(path))
        text = "\n".join(shown_lines(found))
        assert text.startswith(f"xdptstamp {found.run.info.kind}: ")
        assert found.summary.num_samples == 11
        assert found.summary.num_warmup == 1
        assert "95 % from" in text or found.run.info.timestamps == "software"
        shown_json(found)
        if found.rounds:
            # Warm-ups, whose hold times are 3 us longer, are told from their rounds.
            assert re.search(r"64 0:1 +others +15\.520 +15\.968 +- +15\.994", text)


def run_cli(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_latest_run_is_the_default_whatever_it_is_called_and_names_are_found(tmp_path):
    paths = [
        ping_pong_run(tmp_path, 20, started_utc=f"2026-01-22T13:26:{second:02d}Z", label=label)
        for second, label in ((5, "first"), (40, "latest"), (30, "between"))
    ]
    paths[0].rename(tmp_path / "zzz")
    for arguments in ((), (paths[1].name,), (paths[1],), (paths[1] / "run.json",)):
        done = run_cli("show", *arguments, "--output-dir", tmp_path)
        assert done.exit_code == 0, done.output
        assert "label        latest" in done.output
    done = run_cli("show", "zzz", paths[2], "--output-dir", tmp_path)
    assert re.findall(r"^label +(\w+)$", done.output, re.MULTILINE) == ["first", "between"]
    # The one that was named anew says in its run.json when it began.
    edit_info(tmp_path / "zzz", started_utc="2026-01-23T00:00:00Z")
    assert "label        first" in run_cli("show", "--output-dir", tmp_path).output


def test_of_several_runs_the_others_are_shown_when_one_cannot_be(tmp_path):
    path = ping_pong_run(tmp_path, 20)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{", encoding="utf-8")
    done = run_cli("show", tmp_path / "broken", path)
    assert done.exit_code == 1
    assert f"Error: {tmp_path}/broken/run.json: truncated or damaged" in done.output
    assert "xdptstamp ping-pong: SOFTWARE timestamps" in done.output


def test_a_folder_without_runs_and_one_of_runs_are_told_apart(tmp_path):
    done = run_cli("show", "--output-dir", tmp_path)
    assert (done.exit_code, "holds no run. Name one" in done.output) == (1, True)
    done = run_cli("show", "--output-dir", tmp_path / "no")
    assert (done.exit_code, "cannot look for runs here" in done.output) == (1, True)
    ping_pong_run(tmp_path / "results", 20)
    done = run_cli("show", tmp_path / "results")
    assert (done.exit_code, "holds runs and is none" in done.output) == (1, True)
    done = run_cli("show", tmp_path / "nothing")
    assert (done.exit_code, "no such run" in done.output) == (1, True)


def test_a_killed_run_shows_what_is_there_and_says_what_is_not(tmp_path):
    path = ping_pong_run(tmp_path, 2_000, counts={"recorder_overruns": 0})
    edit_info(path, state="running", ended_utc=None)
    text = text_of(path)
    assert "state        interrupted, ended by killed" in text
    assert "note         no counts: the run did not live to write its own" in text
    # Nobody had judged it.
    assert "[stamps-missing]" in text
    assert re.search(r"^rx_xdp_to_rx_app +\d", text, re.MULTILINE)


def test_a_run_that_is_being_written_is_shown_as_far_as_it_is(tmp_path):
    info = info_of()
    with create_run(tmp_path, info) as run_dir:
        done = run_cli("show", run_dir.path)
        assert "intervals: no samples" in done.output
        writer = SampleWriter(run_dir.path / "samples", info.kind)
        writer.add(ping_pong_samples(300))
        writer.close_file()
        writer.add(ping_pong_samples(7))
        done = run_cli("show", run_dir.path)
        assert done.exit_code == 0
        assert "state        running" in done.output
        assert "note         still being written: this is what is on disk by now" in done.output
        assert re.search(r"^  requested +297$", done.output, re.MULTILINE)
        # It is not over, so nobody judges it.
        assert "warning" not in done.output


def test_a_killed_mixed_run_has_no_tables_and_says_so(tmp_path):
    path = write_run(tmp_path, info_of("mixed", state="interrupted"), ping_pong_samples(50))
    text = text_of(path)
    assert "no rounds, and so no tables of them" in " ".join(text.split())
    assert re.search(r"^  requested +50$", text, re.MULTILINE)


def test_an_untrusted_run_ends_with_3_and_a_file_that_is_gone_makes_it_one(tmp_path):
    path = ping_pong_run(tmp_path, 700)
    assert run_cli("show", path).exit_code == 0
    files = sorted((path / "samples").iterdir())
    assert len(files) == 3
    files[1].unlink()
    done = run_cli("show", path)
    assert done.exit_code == 3
    assert "00002.parquet where 00001.parquet should be" in done.output
    assert "NOT TO BE TRUSTED" in done.output


def test_what_the_samples_would_say_is_not_made_up_where_they_were_left_out(tmp_path):
    path = ping_pong_run(tmp_path, 20)
    for file in (path / "samples").iterdir():
        file.unlink()
    (path / "samples").rmdir()
    text = text_of(path)
    assert "the samples are not in this folder" in text
    assert "no-packets" not in text
    assert run_cli("export", path).exit_code == 1


def test_the_truth_is_shown_where_it_is_known(tmp_path):
    packets = truth_kit.ping_pong(30)
    run = truth_kit.make_run(tmp_path / "runs", truth_kit.rows_of(packets, driver_error_ns=5))
    truth_kit.write_log(tmp_path / "truth.csv", truth_kit.log_lines(packets))
    truth, table = join_truth(run, read_truth_log(tmp_path / "truth.csv"))
    write_truth(run, truth.to_json(), table)
    text = text_of(run.path)
    assert "\n".join(truth_lines(truth)) in text
    assert "every Tx stamp is off by exactly +5 ns" in " ".join(text.split())
    assert json_of(run.path)["truth"]["tx"]["num_wrong"] == 30
    assert run_cli("show", run.path).exit_code == 3


def test_details_say_how_the_run_was_made(tmp_path):
    text = text_of(ping_pong_run(tmp_path, 20))
    assert "command      xdptstamp ping-pong eth1 --label 'two words'" in text
    assert "queues       0, 1 (asked all)" in text
    assert "NIC          driver igc, 2500 Mbit/s" in text
    assert "kernel       6.18" in text
    assert "mode         copy (asked auto)" in text


@pytest.mark.parametrize("kind", ["ping-pong", "mixed", "ping"])
def test_the_text_fits_72_columns_and_is_plain(tmp_path, kind):
    if kind == "mixed":
        path = mixed_run(tmp_path, "hardware", ping_pong_samples(2_000, "hardware"))
    elif kind == "ping":
        samples = empty_batch(1_500)
        samples["tx_app_ns"] = T0 + np.arange(1_500) * SECOND
        samples["rx_app_ns"] = samples["tx_app_ns"] + 70_000 + np.arange(1_500)
        path = write_run(tmp_path, info_of("ping", "none"), samples)
    else:
        path = ping_pong_run(tmp_path, 2_000, "hardware")
    for line in text_of(path).splitlines():
        assert line.isascii() and line.isprintable() and line == line.rstrip()
        assert len(line) <= 72 or line.startswith("/")


def test_jsonl_is_one_object_a_run(tmp_path):
    path = ping_pong_run(tmp_path, 1_100)
    done = run_cli("show", path, path, "--format", "jsonl")
    first, second = (json.loads(line) for line in done.output.splitlines())
    assert first == second
    assert first["type"] == "end"
    assert first["info"]["run_id"] == path.name
    assert first["info"]["obtained"]["run_dir"] == str(path)
    assert set(first["summary"]["intervals"]["tx_app_to_tx_sw_ns"]["ci95"]) == {"p50", "p90", "p99"}


def test_a_reader_that_goes_away_ends_it_without_a_word(tmp_path):
    path = ping_pong_run(tmp_path, 100)
    with subprocess.Popen(
        [sys.executable, "-m", "xdptstamp", "show", *([str(path)] * 40)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (128 + 13, b"")
    assert xdptstamp("show", path).returncode == 0


def test_values_too_wide_for_their_cells_are_pairs_and_so_are_their_ends(tmp_path):
    samples = ping_pong_samples(300)
    samples["tx_comp_ns"] += 400 * SECOND
    text = text_of(write_run(tmp_path, info_of(), samples))
    wide = re.search(
        r"^tx_sw_to_tx_comp\n    p50=(\S+) (?:.*\n)+?    95 % from p50=(\S+) (?:.*\n)+?"
        r" +to p50=(\S+)",
        text,
        re.MULTILINE,
    )
    low, middle, high = (float(wide[n].replace(",", "")) for n in (2, 1, 3))
    assert low <= middle <= high
    assert re.search(r"^rx_xdp_to_rx_app +\d", text, re.MULTILINE)
    assert max(map(len, text.partition("\nrun folder")[0].splitlines())) <= 72
