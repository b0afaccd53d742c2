# SPDX-License-Identifier: GPL-2.0-only
"""The README's example does what the README says."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_example_sends_a_stamped_packet_and_prints_its_stamp(lab, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    assert len(blocks[0].splitlines()) <= 20
    example = tmp_path / "example.py"
    example.write_text(blocks[0], encoding="utf-8")

    done = subprocess.run(
        [sys.executable, example],
        env={**os.environ, **lab.environ},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    kind = "hardware" if "hardware" in done.stdout else "software"
    match = re.fullmatch(rf"{kind} Tx timestamp (\d+), (\d+) ns after submit\n", done.stdout)
    assert match, done.stdout
    assert int(match[1]) > 1 << 60
    assert 0 < int(match[2]) < 1_000_000_000
