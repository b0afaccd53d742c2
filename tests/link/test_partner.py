# SPDX-License-Identifier: GPL-2.0-only
"""``partner``: a command on the link partner is that command, elsewhere."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from xdptstamp.errors import SystemCallError
from xdptstamp.lab import VethLab

MOUNTS = Path("/proc/self/mountinfo")

if os.environ.get("NETIF"):
    pytest.skip("these tests are about the link that is not real", allow_module_level=True)


def links():
    return {name for _, name in socket.if_nameindex()}


def test_partner_output_and_exit_code(lab, run_cli):
    done = run_cli("partner", "--", "sh", "-c", "echo out; echo err >&2; exit 42", env=lab.environ)
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")


def test_partner_command_dies_by_a_signal(lab, run_cli):
    done = run_cli("partner", "--", "sh", "-c", "kill -USR1 $$", env=lab.environ)
    assert done.returncode == -signal.SIGUSR1


def test_partner_is_the_command_itself(lab, popen_cli):
    process = popen_cli(
        "partner", "--", "sh", "-c", "echo pid $$; exec sleep 1000", env=lab.environ
    )
    process.wait_for("pid ")
    process.wait_for("\n")
    assert process.stdout == f"pid {process.process.pid}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait().returncode == -signal.SIGTERM


def test_partner_has_its_own_view(lab, run_cli):
    show = "ls /sys/class/net; cat /proc/self/net/dev; grep ' /sys' /proc/self/mountinfo"
    done = run_cli("partner", "--", "sh", "-c", show, env=lab.environ)
    peer = lab.ifname.replace("xdpt-", "peer-")
    assert done.stdout.split()[:2] == ["lo", peer]
    assert f"{peer}:" in done.stdout
    assert lab.ifname not in done.stdout
    # What is mounted below /sys is still there, and none of it is mounted out here.
    below = {line.split()[4] for line in MOUNTS.read_text().splitlines()}
    seen = {line.split()[4] for line in done.stdout.splitlines() if " - " in line}
    assert {point for point in below if point.startswith("/sys/")} <= seen


def test_partner_leaves_the_mounts_of_this_machine_alone(lab):
    # Where mounts are shared, as systemd makes them, those of the partner could come out here. So
    # do the namespaces of other tests, which come and go meanwhile.
    look = "grep -v ' /run/netns' /proc/self/mountinfo"
    script = f'before=$({look}); "$@"; [ "$({look})" = "$before" ]'
    partner = [sys.executable, "-m", "xdptstamp", "partner", "--", "grep", "-c", " /sys "]
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "shared",
            "sh",
            "-c",
            script,
            "-",
            *partner,
            MOUNTS,
        ],
        env={**os.environ, **lab.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_partner_keeps_no_signal_ignored(lab, run_cli):
    done = run_cli("partner", "grep", "SigIgn", "/proc/self/status", env=lab.environ)
    assert int(done.stdout.split()[1], 16) == 0


def test_partner_without_environment(run_cli):
    done = run_cli("partner", "--", "true")
    assert done.returncode == 1
    assert "REMOTE_TYPE and REMOTE_ARGS not set" in done.stderr
    assert "xdptstamp lab veth" in done.stderr


def test_partner_without_command(run_cli):
    done = run_cli("partner")
    assert done.returncode == 2
    assert "Missing argument" in done.stderr


def test_partner_of_a_lab_that_is_gone(run_cli):
    with VethLab() as lab:
        environ = lab.environ
    done = run_cli("partner", "true", env=environ)
    assert done.returncode == 1
    assert f"network namespace {environ['REMOTE_ARGS']}: No such file" in done.stderr


@pytest.mark.parametrize(("command", "code"), [("/nosuch/command", 127), ("/dev/null", 126)])
def test_partner_command_that_cannot_be_started(lab, run_cli, command, code):
    done = run_cli("partner", "--", command, env=lab.environ)
    assert done.returncode == code
    assert done.stderr.startswith(f"Error: exec failed on {command}: ")
    with pytest.raises(SystemCallError, match=command) as caught:
        lab.partner.popen([command])
    assert caught.value.exit_code == code


def test_partner_run(lab, tmp_path):
    done = lab.partner.run(
        ["sh", "-c", "cat; pwd; echo $WORD; exit 4"],
        input="in\n",
        text=True,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "WORD": "word"},
    )
    assert (done.returncode, done.stdout) == (4, f"in\n{tmp_path}\nword\n")


def test_partner_run_times_out(lab):
    with pytest.raises(subprocess.TimeoutExpired):
        lab.partner.run(["sleep", "1000"], timeout=0.2)


def test_this_process_stays_where_it_is(lab):
    before = os.stat("/proc/thread-self/ns/net"), os.stat("/proc/thread-self/ns/mnt")
    lab.partner.run(["true"])
    assert lab.ifname in links()
    assert (os.stat("/proc/thread-self/ns/net"), os.stat("/proc/thread-self/ns/mnt")) == before
