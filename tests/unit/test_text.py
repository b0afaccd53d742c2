# SPDX-License-Identifier: GPL-2.0-only
"""What a user reads of a run: golden texts from hand-made runs, live table, progress, quiet."""

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.sample import NULL, Cause, empty_batch
from xdptstamp.stats import Summary
from xdptstamp.text.lines import ascii_text, book, percent, us
from xdptstamp.text.live import LiveTable
from xdptstamp.text.output import FORMATS, open_output
from xdptstamp.text.table import PlainTable, format_summary, open_table, progress_lines

START = 1763818000000000000


def replies(num, timestamps="software"):
    """``num`` answered packets, 1 ms apart; the capture points of each 1 us apart."""
    batch = empty_batch(num)
    batch["seq"] = range(num)
    batch["len"] = 60
    points = ["rx_xdp_ns", "rx_app_ns", "tx_app_ns", "tx_sw_ns", "tx_comp_ns"]
    if timestamps == "hardware":
        points = ["rx_hw_ns", *("tx_hw_ns" if p == "tx_sw_ns" else p for p in points)]
    for offset, name in enumerate(points):
        batch[name] = START + batch["seq"] * 1_000_000 + offset * 1001
    return batch


def info_of(kind="ping-pong", **fields):
    info = RunInfo(
        run_id="20251122T132640Z-board7-eth1-ping-pong",
        kind=kind,
        state="complete",
        started_utc="2025-11-22T13:26:40Z",
        argv=["xdptstamp", kind],
        ended_utc="2025-11-22T13:26:50Z",
        timestamps="software",
    )
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def summary_of(batch, kind="ping-pong"):
    summary = Summary(kind)
    summary.add(batch)
    return summary


def assert_plain(lines):
    for line in lines:
        assert line.isascii() and line.isprintable() and len(line) <= 72, line
        assert line == line.rstrip()


def test_golden_ping_pong_in_copy_mode():
    batch = replies(1200)
    batch["tx_sw_ns"][3] = NULL
    batch["cause"][3] = Cause.INVALID
    info = info_of(
        asked={"mode": "auto", "xdp_mode": "native"},
        obtained={
            "mode": "copy",
            "xdp_mode": "native",
            "run_dir": "results/20251122T132640Z-board7-eth1-ping-pong",
            "csv": "results/20251122T132640Z-board7-eth1-ping-pong/samples.csv",
        },
        dut={"hostname": "board7"},
        nic={"ifname": "eth1", "driver": "veth"},
        counts={
            "redirected": 1203,
            "received": 1203,
            "answered": 1200,
            "refused": 3,
            "refused_fragment": 3,
            "rx_ring_full": 0,
        },
        warnings=[
            Warning("stamps-invalid", "stamps that cannot be true", "1", "0", "look at the link")
        ],
    )
    lines = format_summary(info, summary_of(batch), batch[:2])
    assert_plain(lines)
    assert (
        "\n".join(lines)
        == """\
xdptstamp ping-pong: SOFTWARE timestamps
run          20251122T132640Z-board7-eth1-ping-pong
state        complete
time         2025-11-22T13:26:40Z to 2025-11-22T13:26:50Z
host         board7
interface    eth1, driver veth
mode         copy (asked auto)
XDP mode     native
timestamps   SOFTWARE, tx_sw_ns, clock tai: kernel let go of the packet
             (software stamp)

first stamped packets, SOFTWARE timestamps
      seq queue   len            tx_sw_ns       tx_app      tx_comp
        0     0    60 1763818000000003003       -1.001        1.001
        1     0    60 1763818000001003003       -1.001        1.001
  (other columns: us from tx_sw_ns)

packets
  redirected                         1,203
  received                           1,203
  answered                           1,200  99.750 %
  refused                                3  0.249 %
  refused fragment                       3

SOFTWARE timestamps
  requested                          1,200
  stamped                            1,199  99.916 %
  missing                                1  0.083 %
    invalid                              1  untrue, or packet dropped

intervals in us, SOFTWARE timestamps
                         p50        p90        p99      p99.9        max
rx_xdp_to_rx_app       1.001      1.001      1.001      1.001      1.001
rx_app_to_tx_app       1.001      1.001      1.001      1.001      1.001
rx_xdp_to_tx_sw        3.003      3.003      3.003      3.003      3.003
tx_app_to_tx_sw        1.001      1.001      1.001      1.001      1.001
tx_sw_to_tx_comp       1.001      1.001      1.001      1.001      1.001
tx_app_to_tx_comp      2.002      2.002      2.002      2.002      2.002
  (samples: rx_xdp_to_rx_app 1,200, rx_app_to_tx_app 1,200,
   rx_xdp_to_tx_sw 1,199, tx_app_to_tx_sw 1,199, tx_sw_to_tx_comp 1,199,
   tx_app_to_tx_comp 1,200)
  (max is exact, percentiles within 1/256 of a sample)

warning: stamps that cannot be true
  1; limit: 0 [stamps-invalid]
  look at the link

run folder   results/20251122T132640Z-board7-eth1-ping-pong
CSV          results/20251122T132640Z-board7-eth1-ping-pong/samples.csv"""
    )


def test_golden_ping():
    batch = empty_batch(20)
    batch["seq"] = range(20)
    batch["len"] = 60
    batch["tx_app_ns"] = START
    batch["rx_app_ns"] = START + 70_123
    info = info_of(
        kind="ping",
        run_id="r",
        partner={"host": "10.0.0.1"},
        timestamps="none",
        counts={"sent": 23, "received": 20, "lost": 3, "duplicates": 0, "reordered": 1},
    )
    lines = format_summary(info, summary_of(batch, "ping"), batch[:1])
    assert_plain(lines)
    assert (
        "\n".join(lines)
        == """\
xdptstamp ping: NO TIMESTAMPS
run          r
state        complete
time         2025-11-22T13:26:40Z to 2025-11-22T13:26:50Z
partner      10.0.0.1
timestamps   none

first answered packets, NO TIMESTAMPS
      seq   len           tx_app_ns        tx_sw       rx_app
        0    60 1763818000000000000            -       70.123
  (other columns: us from tx_app_ns)

packets
  sent                                  23
  received                              20
  lost                                   3  13.043 %
  duplicates                             0  0.000 %
  reordered                              1  4.347 %

round trip in us, NO TIMESTAMPS
                         p50        p90        p99      p99.9        max
tx_app_to_rx_app      70.123     70.123          -          -     70.123
  (20 samples each; max is exact, percentiles within 1/256 of a sample)
  (-: too few samples for that percentile)"""
    )


def test_hardware_run_says_so_and_refuses_intervals_across_clocks():
    batch = replies(1000, "hardware")
    lines = format_summary(info_of(timestamps="hardware"), summary_of(batch), batch[:1])
    assert_plain(lines)
    text = "\n".join(lines)
    assert lines[0] == "xdptstamp ping-pong: HARDWARE timestamps"
    assert "HARDWARE, tx_hw_ns, clock phc: NIC sent the packet" in text
    assert "rx_hw_to_tx_hw         4.004" in text
    assert "tx_app_to_tx_hw: not shown: two clocks (tai, phc), no measured offset" in text
    assert "SOFTWARE" not in text


def test_inferred_causes_say_so():
    batch = replies(10)
    batch["tx_sw_ns"][:8] = NULL
    batch["cause"][:8] = list(Cause)[1:]
    text = "\n".join(format_summary(info_of(), summary_of(batch)))
    for cause in list(Cause)[1:]:
        assert f"\n    {cause.label} " in text
    assert "skipped                              1  inferred: no free stamp slot" in text
    assert "timed_out                            1  inferred: driver gave up" in text


def test_empty_run_has_every_heading_and_no_zero_percentiles():
    lines = format_summary(info_of(state="interrupted", ended_by="SIGINT"), Summary("ping-pong"))
    assert_plain(lines)
    text = "\n".join(lines)
    assert "interrupted, ended by SIGINT" in text
    assert "SOFTWARE timestamps: none requested" in text
    assert "intervals: no samples (SOFTWARE timestamps)" in text


def test_untrusted_run_is_called_so():
    warning = Warning("k", "kernel warned", "1 line", "0", "read dmesg", is_untrusted=True)
    text = "\n".join(format_summary(info_of(warnings=[warning]), Summary("ping-pong")))
    assert "UNTRUSTED: kernel warned" in text and "NOT TO BE TRUSTED" in text


def test_values_too_wide_for_a_column_keep_every_digit():
    batch = replies(1000)
    batch["tx_comp_ns"] += 15_000_000_000  # a stamp that the driver waited 15 s for
    lines = format_summary(info_of(), summary_of(batch), batch[:1])
    assert_plain(lines)
    assert any("max=15,000,002.002" in line for line in lines)
    assert any("tx_comp=15,000,001.001" in line for line in lines)


def test_long_paths_stay_whole():
    path = "/srv/" + "measurements/" * 8 + "samples.csv"
    lines = format_summary(info_of(obtained={"csv": path}), Summary("ping-pong"))
    assert lines[-2:] == ["CSV", path]


def test_foreign_names_cannot_steer_a_terminal():
    info = info_of(label="caf\u00e9\x1b[2J\nnew", nic={"ifname": "e\x07", "driver": "igc"})
    lines = format_summary(info, Summary("ping-pong"))
    assert_plain(lines)
    assert any(r"caf\xe9\x1b[2J\nnew" in line for line in lines)


def test_moved_counters_and_reconciliation():
    counters = {
        "tx_hwtstamp_skipped": {"before": 5, "after": 12},
        "same": {"before": 1, "after": 1},
    }
    info = info_of(
        counters=counters, counts={"reconciliation": ["skipped: 4", "timed out: " + "word " * 20]}
    )
    text = "\n".join(format_summary(info, Summary("ping-pong")))
    assert "tx_hwtstamp_skipped                    7" in text
    assert "driver's stamp counters\n  skipped: 4\n  timed out: word" in text
    assert "[" not in text
    assert "same" not in text


def test_inner_books_are_shown_flat():
    counts = {"refused_by": {"fragment": 2, "source": 0}, "wakeup_errors": {"EBUSY": 7}}
    text = "\n".join(format_summary(info_of(counts=counts), Summary("ping-pong")))
    assert "refused: fragment                      2" in text
    assert "wakeup errors: EBUSY                   7" in text
    assert "source" not in text


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_microseconds_lose_nothing(ns):
    shown = us(ns)
    assert int(shown.replace(",", "").replace(".", "")) == ns
    assert len(shown.partition(".")[2]) == 3


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "-"),
        (0, 7, "0.000 %"),
        (1, 10**9, "<0.001 %"),
        (1, 3, "33.333 %"),
        (10**9 - 1, 10**9, "99.999 %"),
        (5, 5, "100.000 %"),
    ],
)
def test_percent_never_rounds_to_none_or_all(part, whole, shown):
    assert percent(part, whole) == shown


@given(st.text())
def test_any_text_becomes_printable_ascii(text):
    assert all(" " <= char <= "~" for char in ascii_text(text))


@given(st.text(max_size=200), st.integers(0, 1 << 63))
def test_long_remarks_are_wrapped(remark, count):
    assert_plain(book([("name", count, remark)]))


def test_plain_table_prints_at_the_end_only_and_shows_the_first_stamped(capsys):
    batch = replies(12)
    batch["tx_sw_ns"][0] = NULL
    batch["cause"][0] = Cause.NOT_COMPLETED
    summary = summary_of(batch)
    table = PlainTable()
    table.start(info_of())
    for part in (batch[:4], batch[4:]):
        table.batch(part, summary, {"received": 12})
        table.tick(summary, {"received": 12})
    assert capsys.readouterr() == ("", "")
    table.end(info_of(), summary)
    out, err = capsys.readouterr()
    assert err == ""
    shown = [line.split()[0] for line in out.splitlines() if " 17638180000" in line]
    assert shown == ["1", "2", "3", "4", "5"]
    assert_plain(out.splitlines())


def test_progress_every_ten_seconds_on_stderr(capsys, monkeypatch):
    now = [5 * 10**9]
    monkeypatch.setattr("xdptstamp.text.table.time.monotonic_ns", lambda: now[0])
    summary = summary_of(replies(12))
    table = PlainTable()
    table.start(info_of())
    for _ in range(299):
        now[0] += 10**8
        table.tick(summary, {})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "xdptstamp: 10 s, 12 packets, 12 SOFTWARE timestamps, 0 missing",
        "xdptstamp: 20 s, 12 packets, 12 SOFTWARE timestamps, 0 missing",
    ]


def test_progress_of_a_long_run_cuts_no_number():
    summary = Summary("ping-pong")
    summary.num_samples = summary.num_stamped = 987_654_321_012
    summary.causes[Cause.SKIPPED] = 123_456_789
    lines = progress_lines(604_800, "hardware", summary)
    assert_plain(lines)
    assert "987,654,321,012 HARDWARE timestamps, 123,456,789 missing" in " ".join(
        line.strip() for line in lines
    )


def test_live_table_fits_80_by_24_and_names_the_kind_of_timestamps(capsys):
    screen = io.StringIO()
    console = Console(
        file=screen,
        force_terminal=True,
        width=80,
        height=24,
        color_system=None,
        _environ={"TERM": "xterm"},
    )
    batch = replies(1000, "hardware")
    batch["tx_hw_ns"][9] = NULL
    batch["cause"][9] = Cause.SKIPPED
    info = info_of(
        timestamps="hardware",
        nic={"ifname": "eth1", "driver": "igc"},
        obtained={"mode": "zero-copy", "xdp_mode": "native"},
    )
    summary = summary_of(batch)
    table = LiveTable(console)
    table.start(info)
    table.batch(batch, summary, {})
    table.tick(summary, {"received": 1003, "answered": 1000, "refused": 3})
    drawn = screen.getvalue()
    table.end(info, summary)

    assert "HARDWARE timestamps  eth1, igc, zero-copy, XDP native" in drawn
    for part in ("received", "1,003", "stamped", "999", "skipped", "rx_hw_to_tx_hw", "4.004"):
        assert part in drawn
    rows = [line.split()[0] for line in drawn.splitlines() if " 1763818000" in line]
    assert rows == ["995", "996", "997", "998", "999"]  # the latest
    assert drawn.count("\n") < 24
    assert drawn.index("\x1b[?25h") > drawn.index("\x1b[?25l")  # the cursor is left visible
    assert "xdptstamp ping-pong: HARDWARE timestamps" in capsys.readouterr().out


def test_live_table_draws_four_times_a_second(monkeypatch):
    now = [10**9]
    monkeypatch.setattr("xdptstamp.text.live.time.monotonic_ns", lambda: now[0])
    screen = io.StringIO()
    table = LiveTable(
        Console(file=screen, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    )
    table.start(info_of())
    for _ in range(10):
        now[0] += 10**8
        table.tick(Summary("ping-pong"), {})
    assert screen.getvalue().count("latest packets") == 4
    table.end(info_of(), Summary("ping-pong"))


@pytest.mark.parametrize(
    ("is_terminal", "term", "kind"),
    [
        (True, "xterm", LiveTable),
        (True, "dumb", PlainTable),
        (True, None, PlainTable),
        (False, "xterm", PlainTable),
    ],
)
def test_live_only_on_a_terminal_that_can(monkeypatch, is_terminal, term, kind):
    stdout = io.StringIO()
    stdout.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.delenv("TERM", raising=False)
    if term:
        monkeypatch.setenv("TERM", term)
    assert type(open_table()) is kind


@pytest.mark.parametrize("name", FORMATS)
def test_quiet_leaves_only_what_explains_the_exit_code(name, capsys):
    batch = replies(3)
    summary = summary_of(batch)
    output = open_output(name, is_quiet=True)
    output.start(info_of())
    output.batch(batch, summary, {})
    output.tick(summary, {})
    output.end(
        info_of(
            warnings=[
                Warning("a", "small doubt", "1", "0", "x"),
                Warning("b", "great doubt", "1", "0", "x", is_untrusted=True),
            ]
        ),
        summary,
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert "UNTRUSTED: great doubt" in err and "small doubt" not in err


def test_unknown_format_is_refused():
    with pytest.raises(ValueError, match="unknown format 'xml'; known: table, hwmeta, jsonl"):
        open_output("xml", is_quiet=False)


@pytest.mark.parametrize("name", FORMATS)
def test_closed_stdout_is_noticed(name, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    raw = io.FileIO(writer, "w")
    stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stdout)
    batch = replies(3)
    summary = summary_of(batch)
    output = open_output(name, is_quiet=False)
    with pytest.raises(BrokenPipeError):
        output.start(info_of())
        output.batch(batch, summary, {})
        output.end(info_of(), summary)
    with pytest.raises(BrokenPipeError):
        stdout.close()
    raw.close()


def test_names_of_formats_cost_no_numpy():
    code = "import sys, xdptstamp.text.output; sys.exit(bool({'numpy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("is_offered", [False, True, None])
def test_a_driver_without_stamps_is_told_from_a_run_without(is_offered):
    info = info_of(
        timestamps="none",
        obtained={"mode": "zero-copy"},
        nic={"driver": "igb", "features": {"is_tx_timestamp": is_offered}},
    )
    text = "\n".join(format_summary(info, summary_of(replies(1))))
    assert "HARDWARE" not in text
    assert ("none: the driver offers AF_XDP no Tx timestamps" in text) == (is_offered is False)
