# SPDX-License-Identifier: GPL-2.0-only
"""What the plots of ``xdptstamp report`` are drawn from, each number by another route."""

import collections
import math

import numpy as np
import pytest

from tests.unit.data_kit import (
    OLD_RUNS,
    SECOND,
    T0,
    comparison_json,
    info_of,
    mixed_run,
    ping_pong_run,
    ping_pong_samples,
    samples_of,
    sql,
    write_run,
)
from tests.unit.mixed_kit import round_of
from xdptstamp.bandwidth import rates
from xdptstamp.histogram import RELATIVE_ERROR
from xdptstamp.report import recompute
from xdptstamp.report.figures import run_figures
from xdptstamp.report.position_figures import MAX_BEHIND
from xdptstamp.report.timeline import AROUND, NUM_BINS, read_timeline
from xdptstamp.rounds import Setting
from xdptstamp.sample import Cause
from xdptstamp.store import open_run
from xdptstamp.store.rounds import rounds_json, write_rounds

COMP = ("tx_app_ns", "tx_comp_ns")


def figures_of(path, **options):
    found = recompute(open_run(path))
    return {each.key: each for each in run_figures(found, **options).figures}


def series_of(figure, form):
    return next(each for each in figure.series if each.form == form)


@pytest.fixture(scope="module")
def long_path(tmp_path_factory):
    """A run of 30,000 samples in three files, one of them very slow."""
    samples = ping_pong_samples(30_000)
    samples["tx_comp_ns"][17_777] += 44_000_000
    return write_run(tmp_path_factory.mktemp("runs"), info_of(), samples, rows_per_file=12_000)


@pytest.fixture(scope="module")
def long_figures(long_path):
    return figures_of(long_path, max_packets=10_000)


def test_the_tail_is_the_share_of_packets_at_least_that_slow_up_to_the_slowest(
    long_path, long_figures
):
    tail = next(s for s in long_figures["tail-sent"].series if s.name == "tx_app_to_tx_comp")
    rows = sql(
        "SELECT tx_comp_ns - tx_app_ns FROM {files} WHERE NOT is_warmup",
        files=samples_of(long_path),
    )
    values = np.sort([value for (value,) in rows])
    assert (tail.x[0], tail.x[-1]) == (values[0], values[-1])
    assert (tail.y[0], tail.y[-1]) == (1.0, 1 / len(values))
    assert tail.x[-1] > 44_000_000
    assert list(tail.x) == sorted(tail.x) and list(tail.y) == sorted(tail.y, reverse=True)
    for x, share in zip(tail.x, tail.y, strict=True):
        # As many as the figure says lie above something that is this value, as exact as it says.
        slack = x * float(RELATIVE_ERROR)
        least, most = (np.sum(values >= x + side * slack) / len(values) for side in (1, -1))
        assert least <= share <= most


def test_a_stretch_has_its_least_and_its_greatest_and_none_is_lost(long_path, long_figures):
    bars = series_of(long_figures["course-tx_app_to_tx_comp"], "bars")
    assert 400 < len(bars.x) <= NUM_BINS
    rows = sql(
        "SELECT least(rx_xdp_ns, rx_app_ns, tx_app_ns, tx_comp_ns) AS seen, tx_comp_ns - tx_app_ns"
        " FROM {files} WHERE NOT is_warmup ORDER BY seen",
        files=samples_of(long_path),
    )
    zero = rows[0][0]
    times, values = (np.array(column) for column in zip(*rows, strict=True))
    times -= zero
    for start, end, low, high in zip(bars.x, bars.x2, bars.low, bars.high, strict=True):
        inside = values[(times >= start) & (times <= end)]
        assert (low, high) == (inside.min(), inside.max())
    # Each sample is in one of them.
    assert sum(
        np.sum((times >= a) & (times <= b)) for a, b in zip(bars.x, bars.x2, strict=True)
    ) == (len(times))


def test_the_slowest_packet_is_there_with_its_number_and_those_around_it(long_path, long_figures):
    [(value, seq, queue)] = sql(
        "SELECT tx_comp_ns - tx_app_ns AS ns, seq, queue_id FROM {files} WHERE NOT is_warmup"
        " ORDER BY ns DESC LIMIT 1",
        files=samples_of(long_path),
    )
    assert seq == 17_777
    figure = long_figures["course-tx_app_to_tx_comp"]
    assert series_of(figure, "points").y[0] == value
    assert f"seq {seq}, queue {queue}" in figure.text
    assert f"{value // 1000:,}.{value % 1000:03d}" == figure.table.rows[0][0]
    timeline = read_timeline(open_run(long_path), [COMP], 10_000)
    assert not timeline.is_all and len(timeline.packets) < 1_000
    near = set(range(seq - AROUND, seq + AROUND + 1))
    assert near <= set(timeline.packets["seq"].tolist())


def test_of_each_stretch_the_slowest_packet_is_kept(long_path):
    timeline = read_timeline(open_run(long_path), [COMP], 10_000)
    kept = set(timeline.values["tx_app_to_tx_comp_ns"].tolist())
    assert set(timeline.envelopes["tx_app_to_tx_comp_ns"].high.tolist()) <= kept


def test_of_a_short_run_all_packets_are_kept_but_those_of_the_warm_up(tmp_path):
    path = ping_pong_run(tmp_path, 700)
    timeline = read_timeline(open_run(path), [COMP])
    assert timeline.is_all
    assert timeline.packets["seq"].tolist() == list(range(7, 700))
    [(count, total)] = sql(
        "SELECT count(*), sum(tx_comp_ns - tx_app_ns) FROM {files} WHERE NOT is_warmup",
        files=samples_of(path),
    )
    values = timeline.values["tx_app_to_tx_comp_ns"]
    assert (len(values), int(values.sum())) == (count, total)


def test_a_pause_of_the_run_is_a_gap_and_packets_out_of_order_are_in_their_stretch(tmp_path):
    samples = ping_pong_samples(4_000)
    for name in ("rx_xdp_ns", "rx_app_ns", "tx_app_ns", "tx_sw_ns", "tx_comp_ns"):
        samples[name][2_000:] += np.where(samples[name][2_000:] < 0, 0, SECOND)
    samples = np.concatenate([samples[1_000:], samples[:1_000]])
    path = write_run(tmp_path, info_of(), samples, rows_per_file=900)
    bars = series_of(figures_of(path)["course-tx_app_to_tx_comp"], "bars")
    gaps = [start - end for end, start in zip(bars.x2, bars.x[1:], strict=False)]
    assert max(gaps) > 0.99 * SECOND
    assert bars.x[0] == 0 and all(a <= b for a, b in zip(bars.x, bars.x2, strict=True))
    [(least, most)] = sql(
        "SELECT min(tx_comp_ns - tx_app_ns), max(tx_comp_ns - tx_app_ns) FROM {files}"
        " WHERE NOT is_warmup",
        files=samples_of(path),
    )
    assert (min(bars.low), max(bars.high)) == (least, most)


def test_intervals_across_clocks_are_drawn_as_they_are_shown(tmp_path):
    path = ping_pong_run(tmp_path, 2_000, "hardware")
    found = recompute(open_run(path))
    figures = {each.key: each for each in run_figures(found).figures}
    for name in ("rx_hw_to_rx_xdp", "tx_app_to_tx_hw", "tx_hw_to_tx_comp"):
        histogram = found.summary.intervals[f"{name}_ns"]
        bars = series_of(figures[f"course-{name}"], "bars")
        assert (min(bars.low), max(bars.high)) == (histogram.min, histogram.max)
        words, _, clocks = figures[f"course-{name}"].subtitle.partition("; clock: ")
        assert (words, set(clocks.split(" and "))) == ("HARDWARE timestamps", {"phc", "tai"})


def test_hold_times_behind_a_stamp_are_told_apart_where_all_packets_were_recorded(tmp_path):
    settings = [Setting(64, 0, 1), Setting(64, 2, 3), Setting(512, 1, 100)]
    count = 5_000
    samples = np.tile(ping_pong_samples(count), 3)
    samples["setting"], samples["seq"] = np.repeat([0, 1, 2], count), np.tile(np.arange(count), 3)
    info = info_of("mixed", asked={"records_all": True})
    rounds = [round_of(0, index, 5_000, index) for index in range(3)]
    info.counts = rounds_json(settings, rounds)
    path = write_run(tmp_path, info, samples, rows_per_file=4_000)
    write_rounds(path, settings, rounds)
    figures = figures_of(path)
    for size, setting, head, length in ((64, 1, 2, 5), (512, 2, 1, 101)):
        [line] = figures[f"position-{size}"].series
        last = min(length - head, MAX_BEHIND)
        rows = sql(
            f"SELECT seq % {length} - {head - 1} AS place,"
            " min(ns), max(ns), quantile_disc(ns, 0.5) FROM (SELECT *, tx_comp_ns - tx_app_ns AS ns"
            f" FROM {{files}} WHERE setting = {setting} AND NOT is_warmup)"
            f" WHERE place BETWEEN 0 AND {last} GROUP BY place ORDER BY place",
            files=samples_of(path),
        )
        assert list(zip(line.x, line.low, line.high, strict=True)) == [row[:3] for row in rows]
        for middle, (*_, exact) in zip(line.y, rows, strict=True):
            assert abs(middle - exact) <= exact * RELATIVE_ERROR
    assert not [key for key in figures_of(mixed_run(tmp_path / "x")) if key.startswith("position")]


def test_what_may_not_be_shown_is_not_drawn(tmp_path):
    samples = ping_pong_samples(500, "hardware")
    figures = figures_of(write_run(tmp_path, info_of(timestamps="hardware"), samples))
    assert "course-tx_app_to_tx_hw" not in figures and "clock-offset" not in figures
    assert "course-rx_hw_to_tx_hw" in figures
    names = {series.name for figure in figures.values() for series in figure.series}
    assert "tx_hw_to_tx_comp" not in names


def test_the_clocks_are_drawn_as_they_were_read_with_a_gap_at_each_step(tmp_path):
    info = info_of(timestamps="hardware")
    info.clock_comparison = comparison_json(T0 + 9 * SECOND)
    raw = info.clock_comparison["samples"]
    raw["phc_ns"] = [ns + 5_000 * (n >= 6) for n, ns in enumerate(raw["phc_ns"])]
    raw["continues"][6] = False
    path = write_run(tmp_path, info, ping_pong_samples(50, "hardware"))
    line = series_of(figures_of(path)["clock-offset"], "line")
    offsets = [p - t for p, t in zip(raw["phc_ns"], raw["tai_ns"], strict=True)]
    assert [y for y in line.y if y is not None] == [each - offsets[0] for each in offsets]
    assert list(line.y).index(None) == 6
    known = [
        (a, y, b) for a, y, b in zip(line.low, line.y, line.high, strict=True) if y is not None
    ]
    assert all((y - a, b - y) == (500, 500) for a, y, b in known)
    off = series_of(figures_of(path)["clock-line"], "line")
    # Each stretch is a straight line, rounded.
    assert max(abs(y) for y in off.y if y is not None) <= 1


def test_a_day_of_clock_samples_is_thinned_and_keeps_what_is_furthest_off(tmp_path):
    info = info_of(timestamps="hardware")
    info.clock_comparison = comparison_json(T0 + 2_500 * SECOND)
    raw = info.clock_comparison["samples"]
    raw["phc_ns"][1_321] += 777
    raw["uncertainty_ns"][2_345] = 88_888
    path = write_run(tmp_path, info, ping_pong_samples(50, "hardware"))
    line = series_of(figures_of(path)["clock-line"], "line")
    assert 450 < len(line.x) < 2_100
    assert 770 <= max(y for y in line.y if y is not None) <= 778
    assert any(b - y == 88_888 for y, b in zip(line.y, line.high, strict=True) if y is not None)


def test_bandwidth_and_hold_time_are_those_of_the_tables(tmp_path):
    path = mixed_run(tmp_path)
    found = recompute(open_run(path))
    figures = {each.key: each for each in run_figures(found).figures}
    drawn = collections.Counter()
    for series in figures["bandwidth"].series:
        drawn.update(zip(series.y, series.low, series.high, strict=True))
    expected = collections.Counter()
    for rate in rates(found.settings, found.rounds):
        if not found.settings[rate.setting].is_baseline:
            expected[rate.ratio.point, rate.ratio.low, rate.ratio.high] += 1
    assert drawn == expected
    holds = sql(
        "SELECT position, max(hold_ns) FROM read_csv({file}) WHERE NOT is_warmup"
        " AND position IN ('stamped', 'behind', 'others') GROUP BY ratio, size_bytes, position",
        file=path / "holds.csv",
    )
    most = [y for s in figures["hold"].series if s.form == "points" for y in s.y]
    assert sorted(most) == sorted(ns for _, ns in holds)
    rounds = [each for each in found.rounds if not each.is_warmup]
    shown = [y for series in figures["pps"].series for y in series.y]
    assert sorted(shown) == sorted(each.pps for each in rounds)


@pytest.mark.parametrize("path", OLD_RUNS, ids=lambda path: path.name)
def test_every_figure_of_whatever_version_holds_together(path):
    figures = figures_of(path)
    assert len(figures) >= 4
    for figure in figures.values():
        assert "timestamps" in figure.subtitle.lower() and "clock" in figure.subtitle
        assert figure.text and figure.table.rows
        for series in figure.series:
            lengths = {len(each) for each in (series.x, series.y, series.x2, series.low) if each}
            assert len(lengths) <= 1
            for axis, numbers in (
                (figure.x, [*series.x, *series.x2]),
                (figure.y, [*series.y, *series.low, *series.high]),
            ):
                known = [number for number in numbers if number is not None]
                assert all(math.isfinite(number) for number in known)
                assert not axis.is_log or all(number > 0 for number in known)


def test_negative_latencies_are_on_an_axis_that_can_have_them(tmp_path):
    samples = ping_pong_samples(300)
    samples["rx_app_ns"] -= 20_000
    figures = figures_of(write_run(tmp_path, info_of(), samples))
    assert not figures["tail-received"].x.is_log
    assert min(figures["tail-received"].series[0].x) < 0
    assert not figures["course-rx_xdp_to_rx_app"].y.is_log


def test_a_missing_stamp_is_named_beside_its_packet(tmp_path):
    samples = ping_pong_samples(200)
    path = write_run(tmp_path, info_of(), samples)
    drawn = run_figures(recompute(open_run(path)))
    causes = [Cause(each).label if each else "" for each in samples["cause"][2:].tolist()]
    assert drawn.packets["cause"] == causes
    stamps = drawn.packets["stamps"]["tx_sw_ns"]
    assert [each is None for each in stamps] == [bool(cause) for cause in causes]
    zero = int(drawn.packets["zeros"]["tx_sw_ns"])
    kept = samples["tx_sw_ns"][2:].tolist()
    assert [ns for ns in kept if ns >= 0] == [zero + ns for ns in stamps if ns is not None]
