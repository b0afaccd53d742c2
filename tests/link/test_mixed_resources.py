# SPDX-License-Identifier: GPL-2.0-only
"""What ``mixed`` takes of the machine: memory that does not grow with the run, little user CPU."""

import os
import time
from pathlib import Path

import pytest

from tests.link.mixing import RECORDER, MixedProcess, child_of, opened

if os.environ.get("NETIF"):
    pytest.skip("limits are those of copy mode on a veth", allow_module_level=True)

MAX_GROWTH_MB = 20
MAX_USER_PERCENT = 15
SHORT, LONG = "400ms", "3s"


def peak_mb(pid):
    """The most that was resident of a process so far; None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return None
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kilobytes[0]) / 1024 if kilobytes else None


def peaks_of(popen_cli, link, out, duration):
    """The run, and what its two processes had resident at the most."""
    args = ("--no-sink", "--ratio", "1:1,1:10,1:0", "--repeats", 1, "--duration", duration)
    running = MixedProcess(popen_cli, link, out, *args)
    running.process.wait_for('"type": "start"')
    pids = {"mixed": running.pid, "recorder": child_of(running.pid, RECORDER)}
    peaks = dict.fromkeys(pids, 0)
    while running.process.process.poll() is None:
        for name, pid in pids.items():
            peaks[name] = peak_mb(pid) or peaks[name]
        time.sleep(0.02)
    done = running.process.wait()
    assert done.returncode == 0, done.stderr
    return opened(out), peaks


@pytest.mark.slow
@pytest.mark.serial
def test_memory_and_cpu_of_a_longer_run(shared_lab, popen_cli, tmp_path):
    _, before = peaks_of(popen_cli, shared_lab, tmp_path / "short", SHORT)
    longer, after = peaks_of(popen_cli, shared_lab, tmp_path / "long", LONG)
    _, settings, rounds = longer
    own = [each for each in rounds if not each.is_warmup]
    grown = {name: after[name] - before[name] for name in before}
    print("peaks in MB", before, after)
    assert max(grown.values()) < MAX_GROWTH_MB, (before, after)
    # Kept, its rows of 48 bytes (a sample has more) would be more than that.
    assert 48 * sum(each.requested for each in own) > MAX_GROWTH_MB << 20
    shares = {
        settings[each.setting].ratio: 100 * each.user_ns / (each.user_ns + each.system_ns)
        for each in own
    }
    print("user CPU in %", shares)
    assert set(shares) == {"0:1", "1:1", "1:10", "1:0"}
    assert max(shares.values()) < MAX_USER_PERCENT, shares
