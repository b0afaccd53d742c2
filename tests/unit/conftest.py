# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the tests without privilege."""

import pytest

from tests.unit.recording_kit import make_info
from xdptstamp.store import create_run


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a new run."""
    with create_run(tmp_path / "results", make_info()) as run_dir:
        yield run_dir
