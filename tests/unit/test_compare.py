# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp compare``: what its user reads, for runs that are as slow as the test made them."""

import json
import re

import pytest

from tests.unit.compare_kit import change_info, compare, mixed, ping
from tests.unit.data_kit import OLD_RUNS, edit_info, ping_pong_run
from tests.unit.mixed_kit import ALL, BASELINE, ONE_TEN
from xdptstamp.rounds import Setting

WIDTH = 72


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of four runs each: ``a`` and ``again`` alike, ``slow`` by 10 %."""
    base = tmp_path_factory.mktemp("folders")
    for name, speed in (("a", 1), ("again", 1), ("slow", 0.9)):
        for number in range(4):
            mixed(base / name, 10 * number + len(name), speed)
    return base


def data_of(*arguments, code=0):
    done = compare(*arguments, "--format", "json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def figures_of(data, number=0):
    return {each["name"]: each for each in data["pairs"][number]["figures"]}


def rows(text, name):
    """The rows of a table that begin with a name, without it."""
    return re.findall(rf"^ {re.escape(name)} +(.*)$", text, re.MULTILINE)


def rate_rows(text):
    return [*rows(text, "Mpps"), *rows(text, "kpps")]


def unwrapped(text):
    """The text in one line, to look for a sentence in."""
    return " ".join(text.split())


def assert_plain(text):
    for line in text.splitlines():
        assert line.isascii() and line.isprintable(), line
        assert len(line) <= WIDTH or line.split()[-1].startswith("/") or "/" in line, line


def test_the_same_twice_is_the_same_and_the_slow_one_is_slower(folders):
    done = compare(folders / "a", folders / "again", folders / "slow")
    assert done.exit_code == 0
    assert_plain(done.stdout)
    assert "xdptstamp compare: mixed, SOFTWARE timestamps\n" in done.stdout
    assert "verdict: B is the SAME as A within 3 % in bandwidth. All figures: " in done.stdout
    assert "verdict: C is SLOWER than A (64 0:1 bandwidth, 64 0:1 " in done.stdout
    assert "this boot" not in done.stdout
    rates = rate_rows(done.stdout)
    assert sum("same within 0." in row for row in rates) == 2
    assert sum(row.endswith(" slower") for row in rates) == 2
    # 672 bits of a frame of 64 bytes on the wire, with preamble and gap.
    pps, bits = (
        re.findall(rf"^ {unit} +(\S+)", done.stdout, re.MULTILINE)[-1]
        for unit in ("kpps", "Mbit/s")
    )
    assert float(bits) == pytest.approx(float(pps) * 0.672, rel=1e-3)
    # Hold times rise as the rate falls; what is not positive or counted has its own words.
    assert any(row.endswith(" slower") for row in rows(done.stdout, "p50"))


def test_the_change_and_its_interval_are_those_of_the_runs(folders):
    data = data_of(folders / "a", folders / "slow")
    (pair,) = data["pairs"]
    assert (pair["verdict"], pair["is_this_boot_only"]) == ("slower", False)
    found = figures_of(data)["64 1:10 bandwidth"]
    assert (found["verdict"], found["scale"], found["unit"]) == ("slower", "relative", "pps")
    assert found["side"] / found["base"] - 1 == pytest.approx(found["change"], rel=1e-6)
    assert found["ci95"][0] < -0.1 < found["ci95"][1] < -0.09
    assert found["p"] < 0.001
    share = figures_of(data)["64 1:10 vs_baseline"]
    assert (share["verdict"], share["base"]) == ("same", pytest.approx(0.9, abs=0.01))
    assert share["within"] <= 0.03


def test_one_run_a_side_is_this_boot_only(tmp_path):
    runs = [
        mixed(tmp_path / name, seed, speed) for name, seed, speed in (("a", 1, 1), ("b", 2, 0.9))
    ]
    done = compare(*runs)
    assert done.exit_code == 0
    assert_plain(done.stdout)
    assert "ONE RUN A SIDE: this boot only." in done.stdout
    assert re.search(r"B is SLOWER than A \([^)]*\),\s+this\s+boot\s+only", done.stdout)
    assert all(row.endswith(" slower, this boot") for row in rate_rows(done.stdout))
    assert rows(done.stdout, "max")[0].endswith(" one packet each")
    assert data_of(*runs)["pairs"][0]["is_this_boot_only"] is True


def test_not_enough_says_how_many_more(tmp_path):
    few = [mixed(tmp_path / name, seed, 1, 3, 0.05) for name, seed in (("a", 1), ("b", 2))]
    done = compare(*few)
    assert done.exit_code == 0
    assert re.search(r"not enough: \d+k? more rounds\n", done.stdout)
    assert "verdict: NOT ENOUGH to say that B is the same as A, or different in" in done.stdout
    assert figures_of(data_of(*few))["64 0:1 bandwidth"]["more"] > 3
    for number in range(3):
        for name in ("c", "d"):
            mixed(tmp_path / name, 10 * number + ord(name), 1 + 0.05 * (number - 1), 3, 0.001)
    done = compare(tmp_path / "c", tmp_path / "d")
    assert re.search(r"not enough: \d+ more runs\n", done.stdout)


def test_one_round_a_run_has_no_interval(tmp_path):
    runs = [mixed(tmp_path / name, 1, 1, num_rounds=1) for name in ("a", "b")]
    done = compare(*runs)
    assert all(row.endswith("+0.00 one round") for row in rate_rows(done.stdout))
    assert "verdict: B and A have nothing whose change has an interval, this boot only." in (
        unwrapped(done.stdout)
    )
    pair = data_of(*runs)["pairs"][0]
    assert {each["verdict"] for each in pair["figures"] if each["subject"] == "bandwidth"} == {
        "no interval"
    }


def test_round_trips_are_told_apart_and_counts_are_shares(tmp_path):
    for number in range(4):
        ping(tmp_path / "a", number, 50, lost=number % 2)
        ping(tmp_path / "b", 10 + number, 53, lost=200)
    data = data_of(tmp_path / "a", tmp_path / "b")
    figures = figures_of(data)
    for stat in ("p50", "p99"):
        found = figures[f"tx_app_to_rx_app {stat}"]
        assert (found["verdict"], found["is_headline"]) == ("slower", True)
        assert found["ci95"][0] < 0.06 < found["ci95"][1]
    lost = figures["lost"]
    assert (lost["verdict"], lost["scale"]) == ("higher", "points")
    assert lost["side"] == pytest.approx(200 / 2200)
    text = compare(tmp_path / "a", tmp_path / "b").stdout
    assert "tx_app_to_rx_app, us\n" in text
    assert rows(text, "lost")[0].endswith(" higher")
    assert "counts are in %" in text


def test_a_run_of_ping_is_resampled_in_blocks(tmp_path):
    runs = [ping(tmp_path / name, seed, mean) for name, seed, mean in (("a", 1, 50), ("b", 2, 60))]
    figures = figures_of(data_of(*runs))
    found = figures["tx_app_to_rx_app p90"]
    assert (found["verdict"], found["more_of"]) == ("slower", "samples")
    assert found["ci95"][0] < 0.2 < found["ci95"][1]
    assert figures["lost"]["why"] == "one count a run"


def test_what_one_side_has_not_is_said(tmp_path):
    settings = [[BASELINE, ONE_TEN], [BASELINE, ALL]]
    runs = [
        mixed(tmp_path / name, 1, settings=each)
        for name, each in zip(("a", "b"), settings, strict=True)
    ]
    done = compare(*runs)
    assert "the other side has none" in done.stdout
    assert "the base has none" in done.stdout
    figures = figures_of(data_of(*runs))
    assert (figures["64 1:10 bandwidth"]["verdict"], figures["64 1:10 bandwidth"]["side"]) == (
        "missing",
        None,
    )
    assert figures["64 1:0 bandwidth"]["base"] is None


def test_a_figure_that_only_some_runs_of_a_side_have_is_missing_there(tmp_path):
    for name, count in (("a", 2), ("b", 2)):
        for number in range(count):
            mixed(tmp_path / name, number, settings=[BASELINE, ONE_TEN] if number else [BASELINE])
    figures = figures_of(data_of(tmp_path / "a", tmp_path / "b"))
    assert figures["64 1:10 bandwidth"]["why"] == "in 1 of 2 runs of B"


def test_a_round_in_which_nothing_arrived_leaves_no_ratio(tmp_path):
    runs = [mixed(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]
    counts = json.loads((runs[1] / "run.json").read_text())["counts"]
    for each in counts["rounds"]:
        each["received"] = 0 if each["round"] == 2 else each["received"]
    edit_info(runs[1], counts=counts)
    done = compare(*runs)
    assert re.search(r"^ [Mk]pps \* .* not enough: \d+k? more rounds$", done.stdout, re.MULTILINE)
    assert "a value is not above 0, so the change is a difference" in done.stdout


def test_folders_are_paired_by_dut_and_what_has_no_partner_is_said(tmp_path):
    for name, speed in (("old", 1), ("new", 0.9)):
        for dut in ("one", "two"):
            for number in range(3):
                seed = 100 * number + len(name) + ord(dut[0])
                is_slow = dut == "two"
                path = mixed(tmp_path / name, seed, speed if is_slow else 1, label=dut)
                change_info(path, "dut", dut_id=dut)
    lonely = mixed(tmp_path / "old", 1, label="lonely")
    change_info(lonely, "dut", dut_id="three")
    done = compare(tmp_path / "old", tmp_path / "new")
    assert done.exit_code == 0
    assert "verdict (dut one (board7)): B is the SAME as A" in done.stdout
    assert "verdict (dut two (board7)): B is SLOWER than A" in done.stdout
    assert f"A alone has these, B none:\n             {lonely}" in done.stdout
    data = data_of(tmp_path / "old", tmp_path / "new")
    assert [pair["verdict"] for pair in data["pairs"]] == ["same", "slower"]
    assert data["unpaired"] == [f"A alone has these, B none: {lonely}"]


def test_values_of_a_key_are_the_sides(tmp_path):
    for number in range(4):
        for kernel, speed in (("6.12", 1), ("6.18", 0.9)):
            path = mixed(tmp_path, 10 * number + int(speed * 3), speed, label=f"{kernel}-{number}")
            change_info(path, "dut", kernel_release=kernel)
    done = compare(tmp_path, "--by", "kernel")
    assert done.exit_code == 0
    assert "A            kernel 6.12 (4 runs, the base)\n" in done.stdout
    assert "B            kernel 6.18 (4 runs)\n" in done.stdout
    assert "compared by  kernel\n" in done.stdout
    assert "verdict: B is SLOWER than A" in done.stdout
    assert re.search(r"  A +\d{8}T\d{6}Z-board7-eth1-mixed-6\.12-0, label 6\.12-0\n", done.stdout)
    by_label = compare(tmp_path, "--by", "label", "--by", "kernel")
    assert "H            label 6.18-3, kernel 6.18 (1 run)\n" in by_label.stdout


def test_sizes_are_compared_by_size(tmp_path):
    for size in (64, 512):
        settings = [Setting(size, 0, 1), Setting(size, 1, 10)]
        mixed(tmp_path, size, 64 / size, settings=settings, label=str(size))
    done = compare(tmp_path, "--by", "size")
    assert "A            size 64 (1 run, the base)\n" in done.stdout
    figures = figures_of(data_of(tmp_path, "--by", "size"))
    assert figures["1:10 bandwidth"]["verdict"] == "slower"
    assert figures["1:10 bits"]["verdict"] == "slower"
    both = [Setting(size, 0, 1) for size in (64, 512)]
    path = mixed(tmp_path, 3, settings=both, label="both")
    done = compare(tmp_path, "--by", "size")
    assert done.exit_code == 1
    assert f"Error: {path}: --by size, and it has several itself" in done.output


@pytest.mark.parametrize("path", OLD_RUNS, ids=lambda path: path.name)
def test_a_run_of_whatever_version_is_compared(path):
    done = compare(path, path)
    assert done.exit_code in (0, 3), done.output
    assert "verdict: " in done.stdout
    assert f"on both sides: {path}" in unwrapped(done.stdout)
    assert_plain(done.stdout)


def test_a_key_that_an_old_run_does_not_note_is_said(tmp_path):
    runs = [mixed(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]
    change_info(runs[1], "obtained", batch=256)
    change_info(runs[1], "dut", cmdline=["mitigations=off"])
    done = compare(*runs)
    assert done.exit_code == 0
    assert "not noted  by every run, taken to agree: batch, cmdline" in done.stdout


def test_hardware_stamps_have_the_clocks_uncertainty_in_their_intervals(tmp_path):
    runs = [ping_pong_run(tmp_path / name, 600, "hardware") for name in ("a", "b")]
    figures = figures_of(data_of(*runs))
    across = figures["tx_app_to_tx_hw p50"]
    assert across["base"] > 50 * 500
    # 500 ns on either side, of 50 us.
    assert across["ci95"][1] - across["ci95"][0] > 2 * 1000 / across["base"]
    assert "max" in {each["stat"] for each in figures.values()}
    close = figures["rx_hw_to_rx_xdp p50"]
    assert (close["verdict"], close["why"]) == ("not enough", "clocks too unsure")
    assert "not enough: clocks too unsure" in compare(*runs).stdout
