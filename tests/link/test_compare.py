# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp compare`` on what was measured over a link: the same twice, and one that is slower by
what is known."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.link.mixing import run_here
from xdptstamp.cli import main

if os.environ.get("NETIF"):
    pytest.skip("the partner's delay is a process in its namespace", allow_module_level=True)

ECHO = Path(__file__).parents[1] / "unit" / "ping_echo.py"
DELAY_MS, SLOWER_MS = 20, 60
# As many runs a side as it takes for the spread between runs to be in the answer.
NUM_RUNS = 3


@contextlib.contextmanager
def partner_that_waits(link, delay_ms):
    """A responder on the link partner whose replies come so much later; its port."""
    faults = json.dumps({"late": 1, "late_s": delay_ms / 1000})
    argv = [sys.executable, str(ECHO), link.remote_v4, faults]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with link.partner.popen(argv, **options) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def xdptstamp(capsys, *args):
    """``xdptstamp ARGS`` in this process: exit code and stdout."""
    with pytest.raises(SystemExit) as ended:
        main.command.main([*map(str, args)], prog_name="xdptstamp")
    return ended.value.code, capsys.readouterr().out


def ping_run(capsys, link, port, out):
    argv = ("ping", link.remote_v4, "--port", port, "--count", 40, "--interval", "5ms", "--quiet")
    code, _ = xdptstamp(capsys, *argv, "--output-dir", out)
    assert code == 0


def comparison(capsys, *args):
    code, text = xdptstamp(capsys, "compare", *args, "--format", "json")
    (pair,) = json.loads(text)["pairs"]
    return code, pair, {each["name"]: each for each in pair["figures"]}


@pytest.mark.serial
def test_the_same_partner_twice_is_the_same_and_one_that_waits_longer_is_slower(
    capsys, shared_lab, tmp_path
):
    a, again, slow = (tmp_path / name for name in ("a", "again", "slow"))
    with (
        partner_that_waits(shared_lab, DELAY_MS) as port,
        partner_that_waits(shared_lab, SLOWER_MS) as slower_port,
    ):
        # By turns, so that what else this machine does is in all of them.
        for _ in range(NUM_RUNS):
            ping_run(capsys, shared_lab, port, a)
            ping_run(capsys, shared_lab, port, again)
            ping_run(capsys, shared_lab, slower_port, slow)
    code, pair, figures = comparison(capsys, a, slow)
    assert (code, pair["is_this_boot_only"]) == (0, False)
    # Mixed: a way of microseconds within this machine may have been shorter meanwhile.
    assert pair["verdict"] in ("slower", "mixed"), figures
    faster = {name for name, each in figures.items() if each["verdict"] == "faster"}
    assert not any(name.startswith(("tx_app_to_rx_", "tx_sw_to_rx_")) for name in faster), figures
    found = figures["tx_app_to_rx_app p50"]
    assert found["verdict"] == "slower"
    gained_ms = (found["side"] - found["base"]) / 1e6
    assert gained_ms == pytest.approx(SLOWER_MS - DELAY_MS, rel=0.25)
    low, high = (each * found["base"] / 1e6 for each in found["ci95"])
    assert low < gained_ms < high
    assert comparison(capsys, a, slow, "--fail-if", "round_trip p50 > +10%")[0] == 3
    # Of twenty comparisons of the same one may be called different, by little.
    _, _, figures = comparison(capsys, a, again)
    found = figures["tx_app_to_rx_app p50"]
    is_unlucky = found["verdict"] in ("slower", "faster") and abs(found["change"]) < 0.05
    assert is_unlucky or found["verdict"] in ("same", "not enough")
    assert abs(found["change"]) < 0.25
    code, _ = xdptstamp(capsys, "compare", a, again, "--fail-if", "round_trip p50 > +100%")
    assert code == 0


@pytest.mark.serial
def test_packets_submitted_one_by_one_are_slower_than_in_batches(capsys, shared_lab, tmp_path):
    for batch in (1024, 1):
        options = ("--batch", batch, "--duration", "100ms", "--repeats", 4, "--quiet")
        done = run_here(
            capsys,
            shared_lab.ifname,
            "--no-sink",
            "--to",
            shared_lab.remote_v4,
            *options,
            "--output-dir",
            tmp_path,
        )
        assert done.returncode == 0, done.stderr
    runs = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        main.command.main(["compare", *map(str, runs)], prog_name="xdptstamp")
    assert ended.value.code == 1
    assert "  batch: A: 1024; B: 1\n" in capsys.readouterr().err
    code, text = xdptstamp(capsys, "compare", *runs, "--by", "batch")
    assert code == 0
    assert "A            batch 1024 (1 run, the base)\n" in text
    assert "ONE RUN A SIDE: this boot only." in text
    _, _, figures = comparison(capsys, *runs, "--by", "batch")
    assert figures["64 0:1 bandwidth"]["verdict"] == "slower"
    assert figures["64 0:1 bandwidth"]["ci95"][1] < 0
