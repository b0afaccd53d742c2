# SPDX-License-Identifier: GPL-2.0-only
"""The warnings of a ``ping``: each provoked, and each silent without its reason.

What a real responder does to a ping, and the warnings that brings, is in ``test_ping.py``.
"""

import contextlib

import pytest
from click.testing import CliRunner

from tests.unit.data_kit import edit_info, info_of, write_run
from tests.unit.test_ping import Echo
from xdptstamp.busy import governors
from xdptstamp.checks import run_warnings
from xdptstamp.cli.main import command
from xdptstamp.errors import RunFileError
from xdptstamp.report import recompute
from xdptstamp.report.shown import shown_lines
from xdptstamp.sample import empty_batch
from xdptstamp.stats import Summary
from xdptstamp.store import open_run

GOOD = {"kernel_timestamps": "rx+tx", "tai_offset_s": 0, "tai_offset_at_end_s": 0}


def warnings_of(asked_ns=None, obtained=(), **counts):
    batch = empty_batch(5000)
    batch["tx_app_ns"], batch["rx_app_ns"] = 1, 70_000
    summary = Summary("ping")
    summary.add(batch)
    info = info_of("ping", counts={"sent": 5000, "received": 5000, "lost": 0, **counts})
    info.asked, info.obtained = {"interval_ns": asked_ns}, {**GOOD, **dict(obtained)}
    return run_warnings(info, summary)


# What provokes each warning, and what the user reads: value, limit, advice.
PROVOKED = [
    (
        "ping-lost",
        {"received": 4994, "lost": 6, "lost_bad_checksum": 2, "not_received": 4},
        "0.120 % of 5000: 2 with a wrong checksum, 4 on the way or there",
        "0.1 %",
        "lengthen --interval; what the DUT dropped is in the counts of its own run",
    ),
    (
        "ping-no-reply",
        {"received": 0, "lost": 5000},
        "0",
        "1",
        "is `xdptstamp ping-pong` running on that port? Does a firewall drop it?",
    ),
    (
        "ping-duplicates",
        {"duplicates": 2},
        "2",
        "0",
        "look for a loop or a mirror in the network between",
    ),
    (
        "ping-reordered",
        {"reordered": 3},
        "3",
        "0",
        "look whether the DUT spreads one flow over several queues",
    ),
    (
        "generator-limited",
        {"asked_ns": 100_000, "obtained": {"interval_ns": 105_001}},
        "one in 105001 ns, asked 100000 ns",
        "5 % longer",
        "lengthen --interval, or take --wait spin and a free CPU",
    ),
    (
        "ping-kernel-timestamps",
        {"obtained": {"kernel_timestamps": "none"}},
        "none",
        "rx+tx",
        "times of the application alone remain where they lack",
    ),
    (
        "ping-send-errors",
        {"send_errors": {"ENOBUFS": 9}},
        "9",
        "0",
        "the interface's queue is full. Take a longer --interval",
    ),
]


@pytest.mark.parametrize(("key", "changes", "value", "limit", "advice"), PROVOKED)
def test_warning_is_provoked(key, changes, value, limit, advice):
    (warning,) = warnings_of(**changes)
    assert (warning.key, warning.is_untrusted) == (key, False)
    assert (warning.value, warning.limit, warning.advice) == (value, limit, advice)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"received": 4995, "lost": 5},
        {"asked_ns": 100_000, "obtained": {"interval_ns": 105_000}},
        {"asked_ns": 0, "obtained": {"interval_ns": 105_000}},  # a flood
        {"asked_ns": 1, "obtained": {"interval_ns": 9}, "sent": 99, "received": 99},
    ],
)
def test_warning_is_absent_at_its_limit(changes):
    assert warnings_of(**changes) == []


def test_a_tai_offset_that_moves_makes_a_run_untrusted():
    (warning,) = warnings_of(obtained={"tai_offset_at_end_s": 37})
    assert (warning.is_untrusted, warning.value, warning.limit) == (True, "37 s", "0 s")


def test_a_run_of_before_is_told_of_its_losses(tmp_path):
    batch = empty_batch(100)
    batch["tx_app_ns"], batch["rx_app_ns"] = 1, 70_000
    counts = {"sent": 20_000, "received": 9166, "lost": 10_834, "not_received": 10_834}
    path = write_run(tmp_path, info_of("ping", counts=counts, obtained=GOOD), batch)
    text = "\n".join(shown_lines(recompute(open_run(path))))
    assert "  54.170 % of 20000: 10834 on the way or there; limit: 0.1 % [ping-lost]\n" in text
    assert max(map(len, text.splitlines()[:-1])) <= 72
    edit_info(path, counts=counts | {"lost": "many"})
    with pytest.raises(RunFileError, match=r"counts\.lost cannot be 'many'"):
        open_run(path)


def test_a_ping_tells_how_fast_its_cpus_are(tmp_path, monkeypatch):
    for cpu in (0, 1):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text("schedutil\n", encoding="ascii")
    monkeypatch.setattr(governors, "__defaults__", (tmp_path,))
    with contextlib.ExitStack() as stack:
        echo = Echo(stack)
        arguments = ["ping", echo.address, "--port", echo.port, "--count", 9, "--interval", "0"]
        arguments += ["--output-dir", tmp_path / "out"]
        done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "out").iterdir()
    (warning,) = [each for each in open_run(path).info.warnings if each.key == "governor"]
    assert (warning.value, warning.limit) == ("schedutil on CPUs 0-1", "performance")
    assert warning.advice == "cpupower frequency-set -g performance"
    assert "frequency governor: the CPU's speed follows its load" in warning.message
