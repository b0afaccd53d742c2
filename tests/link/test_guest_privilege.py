# SPDX-License-Identifier: GPL-2.0-only
"""Privilege is capabilities, not uid 0: ping-pong as another user with exactly those it names."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import xdptstamp
from tests.link.conftest import CliProcess
from tests.link.running import (
    Client,
    PingPong,
    assert_left_alone,
    one_message,
    rows_of,
    the_run,
)
from xdptstamp.dut import CAPABILITIES

if os.environ.get("NETIF"):
    pytest.skip("a real NIC is not measured on as another user", allow_module_level=True)
if shutil.which("setpriv") is None:
    pytest.skip("setpriv (util-linux) is not installed", allow_module_level=True)

NOBODY = 65534
RUN_XDPTSTAMP = [sys.executable, "-m", "xdptstamp"]
# The same without our own look at the capabilities: what the kernel then says.
RUN_UNCHECKED = [
    sys.executable,
    "-c",
    "import xdptstamp.dut as dut; dut.CAPABILITIES = ()\n"
    "from xdptstamp.cli.main import main; main()",
]


@pytest.fixture
def own_folder():
    """A folder that ``nobody`` may write to; pytest's are for who runs it alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@pytest.fixture
def as_nobody(own_folder):
    """``as_nobody(argv, capabilities, limits="")``: the argv that runs argv so."""

    def prepend(argv, capabilities, limits=""):
        sets = ",".join(
            ["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)]
        )
        change = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        change += [f"--bounding-set={sets}", f"--inh-caps={sets}", f"--ambient-caps={sets}"]
        lines = [*_open_up(own_folder / "shelf"), limits, shlex.join([*change, *map(str, argv)])]
        lines[-1] = f"exec {lines[-1]}"
        return ["unshare", "--mount", "sh", "-ec", "\n".join(lines)]

    return prepend


# The interpreter or this repository may be where only root can go (/root). In a mount namespace of
# the process's own, the folder that is closed is replaced by one with nothing but these in it.
def _open_up(shelf):
    lines = ["mount --make-rprivate /"]
    needed = [Path(sys.base_prefix), Path(sys.prefix), Path(xdptstamp.__file__).parents[1]]
    for number, path in enumerate(needed):
        closed = [parent for parent in path.parents if not parent.stat().st_mode & 1]
        if closed:
            kept, top = shlex.quote(f"{shelf}{number}"), shlex.quote(str(closed[-1]))
            lines.insert(1, f"mkdir {kept}; mount --bind {shlex.quote(str(path))} {kept}")
            lines.append(f"[ -e {kept}-done ] || mount -t tmpfs -o mode=755 none {top}")
            lines.append(f"mkdir -p {shlex.quote(str(path))}; mount --bind {kept} {path}")
    return lines


@pytest.fixture
def refused(shared_lab, as_nobody, own_folder):
    """``refused(capabilities, limits="", argv=...)``: the message of one who lacks something."""

    def refuse(capabilities, limits="", argv=RUN_XDPTSTAMP):
        args = ["ping-pong", shared_lab.ifname, "--output-dir", own_folder / "out"]
        done = subprocess.run(
            as_nobody([*argv, *args, "--duration", "1ms"], capabilities, limits),
            capture_output=True,
            text=True,
            check=False,
        )
        message = one_message(done, 1)
        print("MSG", message)
        assert_left_alone(shared_lab.ifname)
        return message

    return refuse


def test_the_smallest_set_is_enough(shared_lab, as_nobody, own_folder):
    out = own_folder / "out"
    with contextlib.ExitStack() as stack:

        def popen(*args):
            argv = as_nobody([*RUN_XDPTSTAMP, *args], CAPABILITIES)
            process = CliProcess(argv, os.environ)
            stack.callback(process.end)
            return process

        running = PingPong(popen, shared_lab, out, "--count", 20)
        running.wait_answering()
        with Client(shared_lab) as client:
            client.converse(19)
        done = running.process.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert "note         the kernel log was not watched: /dev/kmsg: permission" in done.stdout
    run = the_run(out)
    assert run.info.state == "complete"
    assert rows_of(run) == 20
    assert {path.stat().st_uid for path in (run.path, *run.path.rglob("*"))} == {NOBODY}
    assert_left_alone(shared_lab.ifname)


def test_without_any(refused):
    message = refused([])
    assert "needs CAP_NET_ADMIN and CAP_NET_RAW and CAP_BPF and CAP_PERFMON" in message
    assert "run as root (sudo), or give it these alone" in message


@pytest.mark.parametrize("missing", CAPABILITIES)
def test_each_that_is_missing_is_named(refused, missing):
    message = refused([name for name in CAPABILITIES if name != missing])
    assert f": needs {missing}: run as root (sudo)" in message


@pytest.mark.parametrize("missing", CAPABILITIES)
def test_none_of_them_is_for_nothing(refused, missing):
    if missing == "CAP_PERFMON":
        state = Path("/sys/devices/system/cpu/vulnerabilities/spectre_v1")
        if not state.read_text(encoding="ascii").startswith("Mitigation"):
            pytest.skip("a kernel without Spectre mitigations asks for no CAP_PERFMON")
    message = refused([name for name in CAPABILITIES if name != missing], argv=RUN_UNCHECKED)
    assert "failed to load object" not in message, "the verifier's reason is not said"


def test_a_umem_over_the_lock_limit(refused):
    message = refused(CAPABILITIES, limits="ulimit -l 64")
    assert "The UMEM of 4 MiB passes RLIMIT_MEMLOCK (ulimit -l): raise it" in message
    assert "CAP_IPC_LOCK" in message
