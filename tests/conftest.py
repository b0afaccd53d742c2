# SPDX-License-Identifier: GPL-2.0-only
"""What a test may need of the machine, and what happens where that is missing.

A test that cannot run is skipped with the reason. ``XDPTSTAMP_REQUIRE=root,guest`` names needs
that must be met: their skips become failures, so that no run is green for having skipped.
"""

import os
import subprocess
from pathlib import Path

import pytest

NEEDS = ("root", "guest")

# Bits of CapEff (linux/capability.h) that making links and namespaces takes.
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}


def pytest_configure(config):
    unknown = sorted(_required() - set(NEEDS))
    if unknown:
        known = ",".join(NEEDS)
        raise pytest.UsageError(f"XDPTSTAMP_REQUIRE has {','.join(unknown)}; known: {known}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    # The folder says what a test needs; without it no fixture is to be set up either.
    if Path(__file__).parent / "link" in item.path.parents:
        missing = _missing_capabilities()
        if missing:
            _skip_or_fail("root", f"tests in {item.path.parent.name}/ need {', '.join(missing)}")


@pytest.fixture(scope="session")
def skip_or_fail():
    """``skip_or_fail(need, reason)``: skip this test, or fail if ``need`` is required."""
    return _skip_or_fail


def _skip_or_fail(need, reason):
    if need not in NEEDS:
        raise ValueError(f"unknown need {need!r}; known: {NEEDS}")
    if need in _required():
        pytest.fail(f"XDPTSTAMP_REQUIRE has {need}: {reason}", pytrace=False)
    pytest.skip(reason)


def _required():
    words = os.environ.get("XDPTSTAMP_REQUIRE", "").split(",")
    return {word.strip() for word in words} - {""}


def _missing_capabilities():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


@pytest.fixture
def small_disk(request, tmp_path, skip_or_fail):
    """A file system of 4 MB; ``parametrize("small_disk", ["64k"], indirect=True)`` sets it."""
    place = tmp_path / "disk"
    place.mkdir()
    size = getattr(request, "param", "4m")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "xdptstamp-test", str(place)]
    if os.geteuid() != 0:
        skip_or_fail("root", "mounts a small disk")
    done = subprocess.run(mount, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        skip_or_fail("root", f"cannot mount a small disk: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
