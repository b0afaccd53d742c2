# SPDX-License-Identifier: GPL-2.0-only
"""``--format jsonl``: every line is JSON, every integer survives."""

import json

import pytest

from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.sample import COLUMNS_OF_KIND, NULL, Cause, empty_batch
from xdptstamp.stats import Summary
from xdptstamp.text.output import open_output

STAMP = 1763818000123456789  # a double would make ...768 of it


def play(kind, batch, capsys, **fields):
    info = RunInfo(
        run_id="r", kind=kind, state="running", started_utc="2025-01-01T00:00:00Z", argv=[]
    )
    for key, value in fields.items():
        setattr(info, key, value)
    summary = Summary(kind)
    summary.add(batch)
    output = open_output("jsonl", is_quiet=False)
    output.start(info)
    output.batch(batch, summary, {})
    output.tick(summary, {})
    output.end(info, summary)
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_start_samples_end(capsys):
    batch = empty_batch(3)
    batch["seq"] = [0, 1, 2]
    batch["tx_app_ns"] = STAMP
    batch["tx_sw_ns"] = [STAMP + 1001, NULL, NULL]
    batch["cause"] = [Cause.NONE, Cause.INVALID, Cause.NOT_COMPLETED]
    batch["is_warmup"][2] = True
    lines, err = play("ping-pong", batch, capsys, timestamps="software")

    assert [line["type"] for line in lines] == ["start", "sample", "sample", "sample", "end"]
    assert lines[0]["info"]["timestamps"] == "software"
    samples = lines[1:4]
    for sample in samples:
        assert list(sample) == ["type", *COLUMNS_OF_KIND["ping-pong"]]
    assert [s["tx_sw_ns"] for s in samples] == [STAMP + 1001, None, None]
    assert [s["cause"] for s in samples] == [None, "invalid", "not_completed"]
    assert [s["is_warmup"] for s in samples] == [False, False, True]
    assert samples[0]["tx_app_ns"] == STAMP and type(samples[0]["tx_app_ns"]) is int
    assert samples[0]["rx_hw_errno"] == 0  # not nullable: zero stays zero
    assert samples[0]["rx_hash"] is None

    summary = lines[4]["summary"]
    assert summary["causes"] == {"invalid": 1}
    assert (summary["num_samples"], summary["num_stamped"], summary["num_warmup"]) == (2, 1, 1)
    assert summary["intervals"]["tx_app_to_tx_sw_ns"] == {
        "count": 1,
        "min": 1001,
        "p50": None,
        "p90": None,
        "p99": None,
        "p99.9": None,
        "max": 1001,
    }
    assert err == ""


def test_interval_across_clocks_is_refused(capsys):
    batch = empty_batch(1)
    batch["tx_app_ns"] = STAMP
    batch["tx_hw_ns"] = STAMP + 5
    batch["rx_hw_ns"] = STAMP - 5
    lines, _ = play("ping-pong", batch, capsys, timestamps="hardware")
    intervals = lines[-1]["summary"]["intervals"]
    assert intervals["tx_app_to_tx_hw_ns"] == {
        "count": 1,
        "refused": "two clocks (tai, phc), no measured offset",
    }
    assert intervals["rx_hw_to_tx_hw_ns"]["max"] == 10


def test_ping_has_its_own_columns(capsys):
    batch = empty_batch(1)
    batch["tx_app_ns"] = STAMP
    batch["rx_app_ns"] = STAMP + 70_000
    lines, _ = play("ping", batch, capsys)
    assert list(lines[1]) == ["type", *COLUMNS_OF_KIND["ping"]]


@pytest.mark.parametrize("name", ["naïve\x1b[31m\n", "a/b"])
def test_odd_names_stay_one_ascii_line(capsys, name):
    lines, _ = play("ping", empty_batch(0), capsys, label=name)
    assert lines[0]["info"]["label"] == name
    assert len(lines) == 2


def test_warnings_reach_stderr_too(capsys):
    warning = Warning("k", "something is odd", "7", "3", "do this", is_untrusted=True)
    lines, err = play("ping", empty_batch(0), capsys, warnings=[warning])
    assert lines[-1]["info"]["warnings"][0]["key"] == "k"
    assert "UNTRUSTED: something is odd" in err and "do this" in err
