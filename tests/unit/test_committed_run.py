# SPDX-License-Identifier: GPL-2.0-only
"""The run in results/ opens, by the lines that results/README.md gives for it."""

import re
from pathlib import Path

from xdptstamp.store import open_run
from xdptstamp.store.rounds import read_rounds
from xdptstamp.text.mixed_tables import bandwidth_lines, hold_lines, timestamp_lines

RESULTS = Path(__file__).parents[2] / "results"


def test_the_lines_for_xdptstamp_itself_read_the_committed_run(capsys):
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    block = re.search(r"xdptstamp itself:\n\n((?:    .*\n)+)", text)[1]
    lines = "\n".join(line.removeprefix("    ") for line in block.splitlines())
    exec(
        compile(lines.replace('"RUN"', "RUN"), "README", "exec"),
        {"RUN": RESULTS / "demo-ping-pong"},
    )
    assert capsys.readouterr().out == "software 21 0\n"


def test_the_tables_of_the_committed_sweep_follow_from_its_rounds():
    path = RESULTS / "veth-mixed-sweep"
    run = open_run(path)
    settings, rounds = read_rounds(run)
    text = (path / "tables.txt").read_text(encoding="ascii")
    for table in (bandwidth_lines, timestamp_lines, hold_lines):
        lines = table(run.info, settings, rounds)
        assert len(lines) > len(settings)
        assert "\n".join(lines) in text
    assert sum(each.received for each in rounds if not each.is_warmup) == 79_495_680
    for each in rounds:
        assert each.sent == each.completed + each.lost == each.received + each.missing
        assert each.requested == each.stamped + sum(each.causes.values())
        assert (each.unaccounted, each.missing, each.pattern_errors) == (0, 0, 0)
