# SPDX-License-Identifier: GPL-2.0-only
"""``scripts/demo guest``: what somebody sees first of hardware stamps."""

import os
import subprocess
from pathlib import Path

from tests.guest.bench import LIMIT_S, words_of
from xdptstamp.lab.guest import GuestConfig

DEMO = Path(__file__).parents[2] / "scripts" / "demo"


def test_the_demo_shows_hardware_stamps_and_that_they_are_true(needs_kit, tmp_path):
    needs_kit(GuestConfig())
    done = subprocess.run(
        [DEMO, "guest"],
        env={**os.environ, "XDPTSTAMP_OUTPUT_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = words_of(done.stdout)
    assert "xdptstamp ping-pong: HARDWARE timestamps" in words
    assert "mode zero-copy" in words
    assert "every one of 40 stamps is exact: error 0 ns" in words
    # The driver looks for frames before any can be there; that is nobody's doing.
    assert "fill ring" not in words
    assert len(list(tmp_path.iterdir())) == 1
