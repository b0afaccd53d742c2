# SPDX-License-Identifier: GPL-2.0-only
"""The run in results/ opens, by the lines that results/README.md gives for it."""

import re
from pathlib import Path

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
