# SPDX-License-Identifier: GPL-2.0-only
"""The figures of ``xdptstamp show``, each worked out by another route from the same files."""

import math
import re
import statistics

import numpy as np
import pytest
from scipy import stats

from tests.unit.data_kit import (
    OLD_RUNS,
    comparison_json,
    edit_info,
    info_json,
    info_of,
    mixed_run,
    ping_pong_run,
    ping_pong_samples,
    samples_of,
    sql,
    write_run,
)
from xdptstamp.histogram import RELATIVE_ERROR
from xdptstamp.report import recompute
from xdptstamp.report.shown import shown_json, shown_lines
from xdptstamp.sample import INTERVALS_OF_KIND, Cause, interval_name
from xdptstamp.store import open_run

TITLES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
# Times of the NIC on CLOCK_TAI: by the line between the two samples of the clocks around each,
# rounded as integers are; DuckDB's HUGEINT has no bounds that matter.
ON_TAI = """
    WITH clock AS (
        SELECT * FROM (
            SELECT tai, phc, lead(tai) OVER (ORDER BY tai) AS tai2, lead(phc) OVER (ORDER BY tai)
                AS phc2
            FROM (SELECT unnest({tais}::BIGINT[]) AS tai, unnest({phcs}::BIGINT[]) AS phc)
        ) WHERE tai2 IS NOT NULL
    ), moved AS (
        SELECT samples.*, {column} - (phc - tai + (({column} - phc)::HUGEINT
            * ((phc2 - tai2) - (phc - tai)) // (phc2 - phc))) AS moved_ns
        FROM '{files}' AS samples ASOF JOIN clock ON samples.{column} >= clock.phc
        WHERE {column} IS NOT NULL
    )
"""


def figures(values):
    """Count, minimum, maximum, and the exact percentiles by nearest rank."""
    count, least, most, *shares = values
    return {"count": count, "min": least, "max": most, **dict(zip(TITLES, shares, strict=True))}


QUANTILES = "quantile_disc(ns, [0.5, 0.9, 0.99, 0.999])"


def by_duckdb(path, start, end):
    """An interval within one clock."""
    rows = sql(
        f"SELECT count(ns), min(ns), max(ns), {QUANTILES} FROM ("
        f"SELECT {end} - {start} AS ns FROM {{files}} WHERE NOT is_warmup)",
        files=samples_of(path),
    )
    *head, shares = rows[0]
    return figures([*head, *(shares or [None] * 4)])


def across_by_duckdb(path, start, end):
    """An interval from one clock to another."""
    clocks = info_json(path)["clock_comparison"]["samples"]
    column = start if start.endswith("hw_ns") else end
    moved = ON_TAI.format(
        tais=clocks["tai_ns"], phcs=clocks["phc_ns"], column=column, files=samples_of(path)
    )
    ends = {start: start, end: end, column: "moved_ns"}
    query = (
        f"{moved} SELECT count(ns), min(ns), max(ns), {QUANTILES} FROM "
        f"(SELECT {ends[end]} - {ends[start]} AS ns FROM moved WHERE NOT is_warmup)"
    )
    *head, shares = sql(query.replace("{", "{{").replace("}", "}}"))[0]
    return figures([*head, *shares])


def assert_same(shown, exact):
    assert shown["count"] == exact["count"]
    assert (shown["min"], shown["max"]) == (exact["min"], exact["max"])
    for title, q in TITLES.items():
        if shown[title] is None:
            assert exact["count"] < 1 / (1 - q) + 0.5
        else:
            assert abs(shown[title] - exact[title]) <= abs(exact[title]) * RELATIVE_ERROR


def json_of(path):
    return shown_json(recompute(open_run(path)))


def text_of(path):
    return "\n".join(shown_lines(recompute(open_run(path))))


@pytest.mark.parametrize("timestamps", ["software", "hardware"])
@pytest.mark.parametrize("count", [120, 70_000])
def test_every_interval_within_a_clock_is_what_duckdb_makes_of_the_files(
    tmp_path, timestamps, count
):
    path = ping_pong_run(tmp_path, count, timestamps)
    intervals = json_of(path)["summary"]["intervals"]
    seen = 0
    for start, end in INTERVALS_OF_KIND["ping-pong"]:
        name, exact = interval_name(start, end), by_duckdb(path, start, end)
        if ("hw" in start and "hw" not in end) or ("hw" in end and "hw" not in start):
            continue
        assert (name in intervals) == bool(exact["count"]), name
        if exact["count"]:
            assert_same(intervals[name], exact)
            seen += 1
    assert seen == (4 if timestamps == "hardware" else 6)


# Ten microseconds apart, all lie between two samples of the clocks; 500, some hundred do.
@pytest.mark.parametrize("spacing_ns", [10_000, 500_000])
def test_every_interval_across_clocks_is_what_duckdb_makes_of_files_and_clocks(
    tmp_path, spacing_ns
):
    path = ping_pong_run(tmp_path, 70_000, "hardware", spacing_ns=spacing_ns)
    found = json_of(path)["summary"]["intervals"]
    for start, end in (
        ("rx_hw_ns", "rx_xdp_ns"),
        ("tx_app_ns", "tx_hw_ns"),
        ("tx_hw_ns", "tx_comp_ns"),
    ):
        shown = found[interval_name(start, end)]
        assert_same(shown, across_by_duckdb(path, start, end))
        assert shown["left_out"] == 0
        # Half of the window, rounding of the line, a millionth of the way to the next sample.
        assert 500 <= shown["uncertainty_ns"]["p50"] <= shown["uncertainty_ns"]["max"] <= 1_003


def test_counts_and_causes_are_what_duckdb_counts(tmp_path):
    path = ping_pong_run(tmp_path, 5_000)
    counted = sql(
        "SELECT count(*), count(tx_sw_ns), "
        "count(*) FILTER (tx_sw_ns IS NULL AND cause IS NULL) FROM {files} WHERE NOT is_warmup",
        files=samples_of(path),
    )[0]
    causes = dict(
        sql(
            "SELECT cause, count(*) FROM {files} WHERE NOT is_warmup AND cause IS NOT NULL "
            "GROUP BY cause",
            files=samples_of(path),
        )
    )
    summary, text = json_of(path)["summary"], text_of(path)
    assert (summary["num_samples"], summary["num_stamped"]) == counted[:2]
    assert summary["num_not_requested"] == counted[2] == 0
    assert summary["num_warmup"] == 50
    assert summary["causes"] == causes
    missing = sum(causes.values())
    for name, count in {
        "requested": counted[0],
        "stamped": counted[1],
        "missing": missing,
        **causes,
    }.items():
        assert re.search(rf"^ +{name} +{count:,}( |$)", text, re.MULTILINE), name
    share = counted[1] * 100_000 // counted[0]
    assert f"{share // 1000}.{share % 1000:03d} %" in text


def bucket_ends(value):
    """Least and greatest of the values that a histogram does not tell from this one."""
    width = 1 << max(value.bit_length() - 8, 0)
    return value // width * width, value // width * width + width - 1


def interval_by_hand(values, q):
    """The 95 % interval by its definition, with SciPy's own distributions, and the worth of all."""
    values = np.asarray(values)
    ordered = np.sort(values)
    count = len(values)
    at = ordered[math.ceil(q * count - 1e-9) - 1]
    low, high = bucket_ends(int(at))
    limits = [limit for limit in (high, low - 1) if 0 < np.mean(values <= limit) < 1]
    widening = 1.0
    if limits:
        limit = min(limits, key=lambda each: abs(np.mean(values <= each) - q))
        for blocks in (20, 10):
            share = np.mean(values <= limit)
            starts = np.arange(count) * blocks // count
            parts = [values[starts == block] for block in range(blocks)]
            parts = [part for part in parts if len(part)]
            squares = sum(len(part) * (np.mean(part <= limit) - share) ** 2 for part in parts)
            student = stats.t.ppf(0.975, len(parts) - 1) / stats.norm.ppf(0.975)
            ratio = squares / (len(parts) - 1) / (share * (1 - share))
            widening = max(widening, ratio * student**2)
    worth = max(1, int(count / widening))
    first, last = (int(stats.binom.ppf(each, worth, q)) for each in (0.025, 0.975))
    scale = count / worth
    ends = [None, None]
    if first >= 1:
        ends[0] = max(bucket_ends(int(ordered[max(1, int(first * scale)) - 1]))[0], ordered[0])
    if last + 1 <= worth:
        rank = min(count, math.ceil((last + 1) * scale))
        ends[1] = min(bucket_ends(int(ordered[rank - 1]))[1], ordered[-1])
    return [None if end is None else int(end) for end in ends], worth


@pytest.mark.parametrize("count", [60, 2_000, 50_000])
def test_the_ends_below_each_percentile_are_what_their_definition_says(tmp_path, count):
    samples = ping_pong_samples(count)
    samples["is_warmup"] = False
    path = write_run(tmp_path, info_of(), samples, rows_per_file=max(1, count // 3))
    found = json_of(path)["summary"]["intervals"]["rx_xdp_to_rx_app_ns"]
    values = sql("SELECT rx_app_ns - rx_xdp_ns FROM {files} ORDER BY seq", files=samples_of(path))
    for title, q in TITLES.items():
        if found[title] is not None:
            ends, worth = interval_by_hand([value for (value,) in values], q)
            assert found["ci95"][title] == ends
            assert found["num_effective"][title] == worth
        else:
            assert title not in found["ci95"]


def us(ns):
    return f"{ns // 1000:,}.{ns % 1000:03d}"


def test_the_table_has_the_figures_of_the_json_in_their_places(tmp_path):
    path = ping_pong_run(tmp_path, 2_000, "hardware")
    intervals, lines = json_of(path)["summary"]["intervals"], text_of(path).splitlines()
    for name, found in intervals.items():
        at = next(n for n, line in enumerate(lines) if line.split()[:1] == [name[:-3]])
        assert lines[at].split()[1:] == [us(found[title]) for title in [*TITLES, "max"]]
        for head, end, line in zip(("95 % from", "to"), (0, 1), lines[at + 1 :], strict=False):
            ends = ["?" if e[end] is None else us(e[end]) for e in found["ci95"].values()]
            assert line.split() == [*head.split(), *ends]
            # Each below its percentile.
            assert [line.index(text) + len(text) for text in ends][:1] == [28]
    assert lines[lines.index("intervals in us, HARDWARE timestamps") + 1].split() == [
        *TITLES,
        "max",
    ]


def test_percentiles_that_the_samples_do_not_support_are_not_shown(tmp_path):
    path = ping_pong_run(tmp_path, 60)
    text = text_of(path)
    row = re.search(r"^rx_xdp_to_rx_app(.*)\n  95 % from(.*)\n +to(.*)$", text, re.MULTILINE)
    assert row[1].split()[2:4] == ["-", "-"]
    assert [len(row[group].split()) for group in (2, 3)] == [2, 2]
    doubt = (
        r"too few samples for p90, p99.9 \d+ samples; limit: 3688 independent ones \[few-samples\]"
    )
    assert re.search(doubt, " ".join(text.split()))


def test_the_first_stamped_packets_are_those_of_the_files(tmp_path):
    samples = ping_pong_samples(500)
    samples["tx_sw_ns"][:300] = -1
    samples["cause"][:300] = Cause.SKIPPED
    path = write_run(tmp_path, info_of(), samples, rows_per_file=100)
    rows = sql(
        "SELECT seq, queue_id, len, tx_sw_ns, tx_app_ns - tx_sw_ns, tx_comp_ns - tx_sw_ns "
        "FROM {files} WHERE tx_sw_ns IS NOT NULL ORDER BY seq LIMIT 5",
        files=samples_of(path),
    )
    lines = text_of(path).splitlines()
    at = lines.index("first stamped packets, SOFTWARE timestamps")
    for line, row in zip(lines[at + 2 : at + 7], rows, strict=True):
        cells = line.split()
        assert cells[:4] == [str(value) for value in row[:4]]
        deltas = [round(float(cell.replace(",", "")) * 1000) for cell in cells[4:]]
        assert deltas == list(row[4:])


# Mixed.


def by_round(path):
    """What the bandwidth table is made of, from rounds.csv alone."""
    query = """
        SELECT setting, any_value(size_bytes), any_value(ratio),
            median(arrived * 1e9 / duration_ns),
            sum(user_ns) / sum(sent), sum(system_ns) / sum(sent),
            sum(requested), sum(stamped), any_value(source)
        FROM {rounds} WHERE NOT is_warmup GROUP BY setting ORDER BY setting
    """
    return sql(query, rounds=path / "rounds.csv")


def ratios(path, setting, baseline):
    query = f"""
        SELECT ln((a.arrived / a.duration_ns) / (b.arrived / b.duration_ns))
        FROM {{rounds}} a JOIN {{rounds}} b USING (round)
        WHERE NOT a.is_warmup AND NOT b.is_warmup
            AND a.setting = {setting} AND b.setting = {baseline} ORDER BY round
    """
    logs = [value for (value,) in sql(query, rounds=path / "rounds.csv")]
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.fmean(logs)
    return [math.exp(value) for value in (middle, middle - half, middle + half)]


COMMITTED = OLD_RUNS[0].parents[2].parent / "results"


def mixed_runs(tmp_path):
    return {"made": mixed_run(tmp_path), "committed": COMMITTED / "veth-mixed-sweep"}


@pytest.mark.parametrize("which", ["made", "committed"])
def test_the_bandwidth_table_is_what_duckdb_makes_of_the_rounds(tmp_path, which):
    path = mixed_runs(tmp_path)[which]
    speed_mbps = info_json(path)["nic"]["speed_mbps"]
    lines = text_of(path).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("bandwidth:"))
    rows, baseline = by_round(path), None
    assert len(rows) >= 3
    for line, row in zip(lines[at + 2 :], rows, strict=False):
        setting, size, ratio, pps, user, system, _, _, source = row
        baseline = setting if ratio == "0:1" else baseline
        wire = pps * 8 * (size + 20)
        cells = line.replace("[", " ").replace("]", " ").replace(",", " ").split()
        assert cells[:2] == [str(size), ratio]
        assert source == "sink"
        assert float(cells[2]) == pytest.approx(pps / 1e6, rel=1e-3)
        assert float(cells[3]) == pytest.approx(wire / 1e9, rel=1e-3)
        assert float(cells[4]) == math.floor(wire / (speed_mbps * 1e6) * 1000) / 10
        if ratio == "0:1":
            assert cells[5] == "baseline"
        else:
            expected = [f"{value:.3f}" for value in ratios(path, setting, baseline)]
            assert cells[5:8] == expected
        assert [float(cell) for cell in cells[-2:]] == [round(user), round(system)]


@pytest.mark.parametrize("which", ["made", "committed"])
def test_the_table_of_timestamps_is_what_duckdb_sums(tmp_path, which):
    path = mixed_runs(tmp_path)[which]
    text = text_of(path)
    block = text[text.index("\ntimestamps:") :].splitlines()
    found = [line.split() for line in block if re.match(r" *\d+ \d+:\d+ ", line)]
    for cells, row in zip(found, by_round(path), strict=False):
        _, size, ratio, *_, requested, stamped, _ = row
        missing = requested - stamped
        assert cells[:5] == [str(size), ratio, *(f"{n:,}" for n in (requested, stamped, missing))]


@pytest.mark.parametrize("which", ["made", "committed"])
def test_hold_times_are_what_duckdb_makes_of_the_buckets(tmp_path, which):
    path = mixed_runs(tmp_path)[which]
    query = """
        SELECT setting, position, sum(count), max(hold_ns),
            list(hold_ns ORDER BY hold_ns), list(count ORDER BY hold_ns)
        FROM (SELECT setting, position, hold_ns, sum(count) AS count FROM {holds}
            WHERE NOT is_warmup GROUP BY ALL) GROUP BY setting, position
    """
    exact = {row[:2]: row[2:] for row in sql(query, holds=path / "holds.csv")}
    shown = json_of(path)["holds"]
    assert sum(len(each) - 1 for each in shown) == len(exact)
    for each in shown:
        for position, found in each.items():
            if position == "setting":
                continue
            total, most, values, counts = exact[each["setting"], position]
            assert (found["count"], found["max"]) == (total, most)
            reached = np.cumsum(np.array(counts, np.int64))
            for title, q in TITLES.items():
                if found[title] is not None:
                    true = values[int(np.searchsorted(reached, math.ceil(q * int(total) - 1e-6)))]
                    # Of a bucket the file has its middle, and its smallest and largest exactly.
                    assert abs(found[title] - true) <= true * 2 * RELATIVE_ERROR


def test_what_tables_of_the_sweep_were_printed_are_shown_again(tmp_path):
    printed = (COMMITTED / "veth-mixed-sweep" / "tables.txt").read_text(encoding="ascii")
    shown = text_of(COMMITTED / "veth-mixed-sweep").splitlines()
    missing = [line for line in printed.splitlines() if line not in shown]
    # Its samples were left out.
    assert missing == ["samples recorded: 9,294,841, and 931,087 of the warm-up"]
    assert "the samples are not in this folder" in " ".join(shown)


def test_a_mixed_run_with_hardware_stamps_shows_intervals_across_clocks(tmp_path):
    samples = ping_pong_samples(3_000, "hardware")
    path = mixed_run(tmp_path, "hardware", samples)
    content = info_json(path)
    assert "tx_app_to_tx_hw: not shown: two clocks" in text_of(path)
    content["clock_comparison"] = comparison_json(int(samples["tx_comp_ns"].max()))
    edit_info(path, **content)
    shown = json_of(path)["summary"]["intervals"]["tx_app_to_tx_hw_ns"]
    assert_same(shown, across_by_duckdb(path, "tx_app_ns", "tx_hw_ns"))
    assert re.search(r"^tx_app_to_tx_hw +\d.*\n  95 % from +\d", text_of(path), re.MULTILINE)
