# SPDX-License-Identifier: GPL-2.0-only
"""Both ways to register a UMEM, the one through libxdp with a libxdp that can: Debian 13's.

``scripts/trixie_root`` runs a program with that Debian's Python and libraries, in the network
namespace of the test.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from xdptstamp._sys import libxdp, netns
from xdptstamp.umem import Umem
from xdptstamp.xsk import Xsk, XskConfig

HAS_REAL_NIC = bool(os.environ.get("NETIF"))
ROOT = Path(__file__).parents[2]
NUM_BATCHES = 20  # of 32 packets: every ring of 64 entries wraps
PROGRAM = "tests/link/libxdp_program.py"
TRIXIE_ROOT = str(ROOT / "scripts/trixie_root")

pytestmark = pytest.mark.skipif(HAS_REAL_NIC, reason="looks at the partner's end of a veth pair")


@pytest.fixture(scope="session", autouse=True)
def unpacked():
    """What came of unpacking Debian 13: in session scope, before the module leaves the network."""
    if HAS_REAL_NIC:
        return None
    return subprocess.run((TRIXIE_ROOT,), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trixie(unpacked, skip_or_fail):
    """The command that runs a program with Debian 13's libraries."""
    if unpacked.returncode != 0:
        skip_or_fail("root", f"no Debian 13 to run in: {unpacked.stderr.strip()}")
    return (TRIXIE_ROOT, "python3")


@pytest.fixture(params=["system", "trixie"])
def python(request):
    """Python with this system's libxdp, then with Debian 13's."""
    if request.param == "system":
        return (sys.executable,)
    return request.getfixturevalue("trixie")


def mac_of(ifname, namespace):
    """The MAC address of a link in a namespace; None: this one."""

    def read():
        # A raw socket knows it; /sys would show another namespace's.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as opened:
            opened.bind((ifname, 0))
            return opened.getsockname()[4].hex()

    return netns.call_inside(namespace, read) if namespace else read()


def partner_packets(link):
    """How many packets each link of the partner got."""

    def read():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
        return {words[0].rstrip(":"): int(words[2]) for words in map(str.split, lines)}

    counts = netns.call_inside(link.environ["REMOTE_ARGS"], read)
    return {name: count for name, count in counts.items() if name != "lo"}


def run_program(python, link, **changes):
    namespace = link.environ["REMOTE_ARGS"]
    (partner_ifname,) = partner_packets(link)
    asked = {
        "ifname": link.ifname,
        "queue_id": 0,
        "macs": [mac_of(partner_ifname, namespace), mac_of(link.ifname, None)],
        "addresses": [link.local_v4, link.remote_v4],
        "registration": "libxdp",
        "access": "direct",
        "tx_metadata_len": 24,
        "num_batches": NUM_BATCHES,
        **changes,
    }
    return subprocess.run(
        (*python, PROGRAM, json.dumps(asked)),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_stamped(result, num_packets):
    rows = result["rows"]
    assert len(rows) == num_packets
    for row in rows:
        assert row["submitted_ns"] <= row["stamp_ns"] <= row["completed_ns"], row
    assert len({row["stamp_ns"] for row in rows}) == num_packets
    assert result["statistics"]["tx_invalid_descs"] == 0
    # What was there when the socket was bound, and where our next entries are.
    addrs = [frame * 2048 for frame in range(32, 64)]
    assert result["filled"] == [[addrs, 32, 32, NUM_BATCHES]] * 2


def test_trixie_has_a_libxdp_that_can_ask_for_tx_metadata(trixie):
    # The library does not tell its release: the files of 1.5.0 to 1.5.4 have one name.
    program = (
        "import gzip\n"
        "from xdptstamp._sys import libxdp\n"
        "changes = gzip.open('/usr/share/doc/libxdp1/changelog.Debian.gz', 'rt').readline()\n"
        "print(changes.split()[1].strip('()'), libxdp.has_umem_options())\n"
    )
    done = subprocess.run((*trixie, "-c", program), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    release, has_options = done.stdout.split()
    assert tuple(map(int, release.partition("-")[0].split("."))) >= (1, 5, 4)
    assert has_options == "True"


@pytest.mark.parametrize("access", ["direct", "helpers"])
@pytest.mark.parametrize("tx_metadata_len", [16, 24, 248])
def test_libxdp_registers_the_umem(shared_lab, trixie, access, tx_metadata_len):
    before = sum(partner_packets(shared_lab).values())
    done = run_program(trixie, shared_lab, access=access, tx_metadata_len=tx_metadata_len)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["python"] != list(sys.version_info[:2])  # it was not this system's
    assert_stamped(result, NUM_BATCHES * 32)
    assert sum(partner_packets(shared_lab).values()) - before >= NUM_BATCHES * 32


@pytest.mark.parametrize("access", ["direct", "helpers"])
def test_the_kernels_own_calls_register_the_umem(shared_lab, python, access):
    done = run_program(python, shared_lab, registration="kernel", access=access)
    assert done.returncode == 0, done.stderr
    assert_stamped(json.loads(done.stdout), NUM_BATCHES * 32)


def test_no_such_queue_is_one_message_both_ways(shared_lab, trixie):
    messages = set()
    for registration in ("libxdp", "kernel"):
        done = run_program(trixie, shared_lab, registration=registration, queue_id=77)
        assert done.returncode == 1
        messages.add(done.stderr)
    (message,) = messages
    assert message.startswith(f"bind failed on {shared_lab.ifname} queue 77, copy: ")
    assert "ethtool -l" in message


def test_a_queue_that_is_taken_is_one_message_both_ways(shared_lab, trixie):
    messages = set()
    with Xsk(Umem(64), shared_lab.ifname, 0, XskConfig(rx_size=64, tx_size=64)):
        for registration in ("libxdp", "kernel"):
            done = run_program(trixie, shared_lab, registration=registration)
            assert done.returncode == 1
            messages.add(done.stderr)
    (message,) = messages
    assert message.startswith(f"bind failed on {shared_lab.ifname} queue 0, copy: ")
    assert "end its owner" in message


class Library:
    """A libxdp that hands the kernel what it is given, or cuts tx_metadata_len off."""

    def __init__(self, *, is_cut):
        self.is_cut = is_cut
        self.num_umems = 0

    def xsk_umem__create_opts(self, address, fill, comp, options):
        wanted = options._obj
        assert wanted.flags == 4
        assert wanted.tx_metadata_len % 8  # the kernel refuses it where it sees it
        if not self.is_cut:
            return None
        self.num_umems += 1
        return address

    def xsk_umem__delete(self, umem):
        self.num_umems -= 1
        return 0


@pytest.mark.parametrize("is_cut", [False, True], ids=["1.5.2", "1.5.1"])
def test_a_libxdp_that_cuts_the_length_off_is_found_out(monkeypatch, is_cut):
    loaded = Library(is_cut=is_cut)
    monkeypatch.setattr(libxdp, "_load", lambda: loaded)
    libxdp.has_umem_options.cache_clear()
    try:
        assert libxdp.has_umem_options() is not is_cut
    finally:
        libxdp.has_umem_options.cache_clear()
    assert loaded.num_umems == 0


@pytest.mark.skipif(libxdp.has_umem_options(), reason="this system's libxdp is new enough")
def test_an_old_libxdp_is_named(shared_lab):
    done = run_program((sys.executable,), shared_lab)
    assert done.returncode == 4
    assert "needs libxdp >= 1.5.2, found " in done.stderr
