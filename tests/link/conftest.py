# SPDX-License-Identifier: GPL-2.0-only
"""A link for each test, the command line to try on it, and a check that nothing is left behind.

Without ``NETIF`` a test module runs in a network namespace of its own: what it does to links,
addresses and routes cannot touch the machine, and subprocesses inherit it. (/sys/class/net still
shows the machine's.) With ``NETIF`` the tests use that NIC and the link partner which the other
variables of a lab name; no test need know which it has.
"""

import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from xdptstamp._sys import netns
from xdptstamp.lab import VethLab
from xdptstamp.lab.claim import CLAIMS_DIR
from xdptstamp.remote import partner_from_env

LAB_VARIABLES = (
    "NETIF",
    "LOCAL_V4",
    "LOCAL_V6",
    "REMOTE_V4",
    "REMOTE_V6",
    "REMOTE_TYPE",
    "REMOTE_ARGS",
)
HAS_REAL_NIC = bool(os.environ.get("NETIF"))
BPFFS = Path("/sys/fs/bpf")

# Longer than the 20 s that a command may take to drain.
TIMEOUT_S = 60


@dataclass(frozen=True)
class Link:
    """The DUT end of a link and its partner, real or not."""

    environ: dict

    ifname = property(lambda self: self.environ["NETIF"])
    local_v4 = property(lambda self: self.environ["LOCAL_V4"])
    local_v6 = property(lambda self: self.environ["LOCAL_V6"])
    remote_v4 = property(lambda self: self.environ["REMOTE_V4"])
    remote_v6 = property(lambda self: self.environ["REMOTE_V6"])
    partner = property(lambda self: partner_from_env(self.environ))
    is_real = property(lambda self: HAS_REAL_NIC)


class CliProcess:
    """A running command: what it has written so far, and ways to wait for more."""

    def __init__(self, argv, env, **options):
        # In a process group of its own, so that a test can press Ctrl-C.
        self.process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            **options,
        )
        self._written = {self.process.stdout: b"", self.process.stderr: b""}
        self._open = set(self._written)

    @property
    def stdout(self):
        return self._written[self.process.stdout].decode(errors="replace")

    @property
    def stderr(self):
        return self._written[self.process.stderr].decode(errors="replace")

    def wait_for(self, text, timeout_s=TIMEOUT_S):
        """Wait until ``text`` was written to stdout or stderr; fail if that cannot be any more."""
        deadline = time.monotonic() + timeout_s
        while text not in self.stdout and text not in self.stderr:
            if not self.read(deadline):
                pytest.fail(f"{text!r} never came from {self}", pytrace=False)

    def wait(self, timeout_s=TIMEOUT_S):
        """Read everything until the command ends; returns a CompletedProcess."""
        deadline = time.monotonic() + timeout_s
        while self.read(deadline):
            continue
        try:
            code = self.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end after {timeout_s} s: {self}", pytrace=False)
        return subprocess.CompletedProcess(self.process.args, code, self.stdout, self.stderr)

    def send_signal(self, number):
        """Signal the command alone."""
        self.process.send_signal(number)

    def press_ctrl_c(self):
        """Signal the whole process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self):
        """Leave no process of the group behind, whatever the test has come to."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def __str__(self):
        argv = " ".join(map(str, self.process.args))
        return f"{argv}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def read(self, deadline):
        """Read what comes; False when nothing more does until then."""
        if not self._open:
            return False
        left_s = max(deadline - time.monotonic(), 0)
        ready = select.select(list(self._open), [], [], left_s)[0]
        for stream in ready:
            data = os.read(stream.fileno(), 65536)
            self._written[stream] += data
            if not data:
                self._open.discard(stream)
        return bool(ready)


@pytest.fixture(scope="module", autouse=True)
def own_namespace():
    """A network namespace for the module; it goes with the last process in it."""
    if HAS_REAL_NIC:
        yield
        return
    name = f"xdpt-test-{secrets.token_hex(4)}"
    netns.create(name)
    try:
        with netns.entered(name):
            netns.remove(name)  # nameless, it cannot outlive this process
            _set_lo_up()
            yield
    finally:
        netns.remove(name)


@pytest.fixture(autouse=True)
def nothing_left(own_namespace):
    """After each test: no link, address, namespace, program, pin or process that was not before."""
    before = _machine_state()
    yield
    assert _processes_left() == [], "a process is left in the test's network namespace"
    assert _machine_state() == before


@pytest.fixture(scope="module")
def shared_lab(own_namespace):
    """A link that all tests of a module use."""
    with contextlib.ExitStack() as stack:
        yield _link(stack, 2)


@pytest.fixture
def lab(request, nothing_left):
    """A link of the test's own; ``parametrize("lab", [4], indirect=True)`` sets the queues."""
    with contextlib.ExitStack() as stack:
        yield _link(stack, getattr(request, "param", 2))


@pytest.fixture
def run_cli():
    """``run_cli(*args, env={}, timeout_s=60)``: ``xdptstamp ARGS`` to its end."""

    def run(*args, env=None, timeout_s=TIMEOUT_S, **options):
        return subprocess.run(
            _argv(args),
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def popen_cli(nothing_left):
    """``popen_cli(*args, env={})``: ``xdptstamp ARGS``, running; ended with the test."""
    with contextlib.ExitStack() as stack:

        def popen(*args, env=None, **options):
            process = CliProcess(_argv(args), _environment(env), **options)
            stack.callback(process.end)
            return process

        yield popen


def _link(stack, num_queues):
    if HAS_REAL_NIC:
        names = [name for name in LAB_VARIABLES if name in os.environ]
        return Link({name: os.environ[name] for name in names})
    return Link(stack.enter_context(VethLab(num_queues)).environ)


def _argv(args):
    return [sys.executable, "-m", "xdptstamp", *map(str, args)]


def _environment(extra):
    # A command must not find the variables of another lab than the test's.
    kept = {name: value for name, value in os.environ.items() if name not in LAB_VARIABLES}
    return {**kept, **(extra or {})}


def _set_lo_up():
    from pyroute2.iproute import IPRoute

    with IPRoute() as ipr:
        ipr.link("set", index=1, state="up")


def _machine_state():
    from pyroute2.iproute import IPRoute

    with IPRoute() as ipr:
        links = {message.get("ifname"): _xdp_of(message) for message in ipr.get_links()}
        addresses = {(m["index"], m.get("address"), m["prefixlen"]) for m in ipr.get_addr()}
        qdiscs = {(m["index"], m.get("kind")) for m in ipr.get_qdiscs()}
    return {
        "links and their XDP programs": links,
        "addresses": addresses,
        "qdiscs": qdiscs,
        "labs": _our_labs(),
        "namespaces without a lab": _orphaned_namespaces(),
        "pins": sorted(os.listdir(BPFFS)) if BPFFS.is_dir() else [],
        "network namespace": os.stat("/proc/thread-self/ns/net").st_ino,
    }


def _xdp_of(message):
    xdp = message.get("xdp")
    return (xdp.get("attached"), xdp.get("prog_id")) if xdp else None


def _our_labs():
    # Other copies of these tests may run on this machine, in namespaces of their own.
    ours = f"netns {os.stat('/proc/thread-self/ns/net').st_ino}\n"
    found = []
    for path in CLAIMS_DIR.iterdir() if CLAIMS_DIR.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            if ours in path.read_text(encoding="ascii"):
                found.append(path.name)
    return sorted(found)


def _orphaned_namespaces():
    # The claim comes before the namespace and goes after it.
    paths = list(netns.NETNS_DIR.glob("xdpt-????")) if netns.NETNS_DIR.is_dir() else []
    return sorted(
        path.name for path in paths if not (CLAIMS_DIR / path.name).exists() and path.exists()
    )


def _processes_left():
    if HAS_REAL_NIC:
        return []
    left = []
    ours = os.stat("/proc/thread-self/ns/net").st_ino
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if os.stat(entry / "ns" / "net").st_ino != ours:
                continue
            argv = (entry / "cmdline").read_text().replace("\0", " ")
            # Python keeps one of these from the first shared memory of this process to its end.
            if "multiprocessing.resource_tracker" not in argv and not _ends_soon(int(entry.name)):
                left.append(argv)
    return left


def _ends_soon(pid):
    # One that was killed may still be on its way out.
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], 3)[0])
    finally:
        os.close(pidfd)
