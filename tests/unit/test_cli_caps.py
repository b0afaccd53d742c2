# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp caps`` on whatever machine this is, without needing anything of it."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from xdptstamp.cli.main import command

VERDICTS = {"ok", "doubt", "lacks"}


def caps(*words, **options):
    return CliRunner().invoke(command, ("caps", *words), **options)


@pytest.fixture(autouse=True)
def no_lab(monkeypatch):
    monkeypatch.delenv("NETIF", raising=False)


def test_the_loopback_interface_is_told_and_refused():
    done = caps("lo", "--format", "json")
    assert done.exit_code == 0
    data = json.loads(done.stdout)
    assert (data["schema_version"], data["ifname"]) == (1, "lo")
    machine, interface = data["sections"]
    assert (interface["title"], data["conclusion"]["timestamps"]) == ("interface lo", "software")
    assert "other use" in data["conclusion"]["blocked_by"]
    by_key = {finding["key"]: finding for finding in interface["findings"]}
    assert by_key["use"]["text"] == "it is the loopback interface, which other programs need"
    assert by_key["xdp"]["verdict"] == by_key["phc"]["verdict"] == "lacks"
    for finding in (*machine["findings"], *interface["findings"]):
        assert finding["verdict"] in VERDICTS
        assert finding["text"]
    assert data["facts"]["interfaces"][0]["values"]["link"]["ifname"] == "lo"
    assert data["facts"]["machine"]["values"]["machine"]["dut_id"]


def test_the_table_says_the_same():
    data = json.loads(caps("lo", "--format", "json").stdout)
    done = caps("lo", env={"COLUMNS": "100"})
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    findings = [finding for section in data["sections"] for finding in section["findings"]]
    words = [line.split()[:2] for line in lines if line.startswith("  ") and line[2] != " "]
    assert words == [[each["verdict"], each["title"].split()[0]] for each in findings]
    assert "No run on lo before this is mended: " in done.stdout
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("environ", [{"NETIF": "lo"}, {"NETIF": ""}])
def test_without_a_name_the_environment_counts_else_the_machine(environ):
    data = json.loads(caps("--format", "json", env=environ).stdout)
    assert data["ifname"] == (environ["NETIF"] or None)
    title = "interface lo" if environ["NETIF"] else "interfaces"
    assert data["sections"][1]["title"] == title
    if not environ["NETIF"]:
        named = {finding["title"] for finding in data["sections"][1]["findings"]}
        assert "lo" not in named
        assert data["conclusion"]["timestamps"] is None


def test_no_such_interface():
    done = caps("nosuch0")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: nosuch0: no such interface; there are: ")
    assert done.stdout == ""


def test_no_colours_but_on_a_terminal():
    argv = [sys.executable, "-m", "xdptstamp", "caps", "lo"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "\033" not in done.stdout
    assert done.stderr == ""


def test_colours_on_a_terminal_unless_they_are_not_wanted():
    assert "\033[31mlacks\033[0m" in caps("lo", color=True).stdout
    assert "\033" not in caps("lo", color=True, env={"NO_COLOR": "1"}).stdout
