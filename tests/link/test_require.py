# SPDX-License-Identifier: GPL-2.0-only
"""A test that cannot run is a skip with a reason, and a failure where its need is required."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ONE_TEST = f"{TESTS / 'link' / 'test_partner.py'}::test_partner_run"


def run_pytest(require, *prefix):
    variables = {"XDPTSTAMP_REQUIRE": require, "NETIF": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ONE_TEST]
    return subprocess.run(
        [*prefix, *command],
        cwd=TESTS.parent,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("require", "outcome"), [("", "1 skipped"), ("guest,root", "1 error")])
def test_without_privilege(require, outcome):
    done = run_pytest(require, "setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin")
    assert outcome in done.stdout
    assert "tests in link/ need CAP_NET_ADMIN" in done.stdout
    assert done.returncode == (1 if require else 0)


def test_with_privilege():
    done = run_pytest("root")
    assert "1 passed" in done.stdout, done.stdout


def test_a_need_that_nothing_has():
    done = run_pytest("root,rot")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "XDPTSTAMP_REQUIRE has rot; known: root,guest" in done.stderr
