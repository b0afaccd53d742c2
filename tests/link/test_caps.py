# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp caps`` on links of its own: every state that a veth and this machine can be in."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.link.running import PingPong, hide_library, wait_until
from xdptstamp._sys import libxdp
from xdptstamp.drivers import CORE, known_driver
from xdptstamp.hwtstamp import HwtstampGuard, NicHwtstamp
from xdptstamp.nic import Nic
from xdptstamp.program import Program, ProgramConfig

if os.environ.get("NETIF"):
    pytest.skip("what a real NIC can do is its own", allow_module_level=True)

ROOT = Path(__file__).parents[2]
WITHOUT_AF_XDP = Path(__file__).with_name("without_af_xdp.py")
TRIXIE_ROOT = str(ROOT / "scripts/trixie_root")
CAPS = [sys.executable, "-m", "xdptstamp", "caps"]
DROP_ALL = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


@pytest.fixture(scope="session", autouse=True)
def unpacked():
    """What came of unpacking Debian 13: in session scope, before the module leaves the network."""
    return subprocess.run((TRIXIE_ROOT,), capture_output=True, text=True, check=False)


class Said:
    """What caps said: its text, and its findings by key as (verdict, text, advice)."""

    def __init__(self, argv, env=None):
        self.table = _run(argv, env)
        self.data = json.loads(_run([*argv, "--format", "json"], env))
        self.words = " ".join(self.table.split())

    def of(self, key):
        found = [
            (finding["verdict"], finding["text"], finding["advice"])
            for section in self.data["sections"]
            for finding in section["findings"]
            if finding["key"] == key
        ]
        # What is found is what is read.
        for _, text, advice in found:
            assert text in self.words
            assert advice in self.words
        return found


def _run(argv, env):
    done = subprocess.run(
        [*map(str, argv)],
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "Traceback" not in done.stdout
    return done.stdout


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def test_a_veth_that_is_up(shared_lab):
    said = Said([*CAPS, shared_lab.ifname])
    assert said.of("link") == [("ok", "up, 10000 Mb/s, MTU 1500", "")]
    assert said.of("queues") == [("ok", "2 Rx, 2 Tx", "")]
    assert said.of("zero-copy") == [("lacks", "no: packets are copied", "")]
    assert said.of("tx-timestamp") == [("lacks", "SOFTWARE alone, of the kernel", "")]
    assert said.of("af-xdp") == [("ok", "sockets, and Tx metadata in their UMEM", "")]
    assert said.of("privilege") == [("ok", "enough to measure", "")]
    assert f"A run on {shared_lab.ifname} gets SOFTWARE timestamps (copy mode). " in said.words
    faults = [text for _, text, _ in said.of("fault")]
    release = os.uname().release
    expected = [each.effect for each in known_driver(CORE).faults if each.can_be(release, 2)]
    assert faults == (expected or ["none of those known of af_xdp"])
    assert max(map(len, said.table.splitlines())) <= 80


def test_the_name_comes_from_the_lab_and_it_is_not_touched(lab):
    before = _show(lab.ifname)
    said = Said(CAPS, lab.environ)
    assert said.data["ifname"] == lab.ifname
    assert _show(lab.ifname) == before


def _show(ifname):
    command = ["ip", "-details", "link", "show", ifname]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_veth_that_is_down_and_one_without_carrier(lab):
    ip("link", "set", lab.ifname, "down")
    said = Said([*CAPS, lab.ifname])
    assert said.of("link") == [("lacks", "down", f"ip link set {lab.ifname} up")]
    sentence = f"No run on {lab.ifname} before this is mended: link; then SOFTWARE timestamps"
    assert sentence in said.words
    ip("link", "add", "xdpt-alone", "type", "veth", "peer", "name", "xdpt-alone-p")
    try:
        ip("link", "set", "xdpt-alone", "up")
        said = Said([*CAPS, "xdpt-alone"])
        text = "is the cable in, and the link partner up?"
        assert said.of("link") == [("lacks", "up, but no carrier", text)]
    finally:
        ip("link", "del", "xdpt-alone")


def test_an_mtu_that_no_frame_holds(lab):
    ip("link", "set", lab.ifname, "mtu", "9000")
    advice = f"ip link set {lab.ifname} mtu 3818"
    found = Said([*CAPS, lab.ifname]).of("link")
    assert found[1:] == [("lacks", "MTU 9000 is too large for XDP", advice)]
    # What is advised is what a run accepts.
    ip("link", "set", lab.ifname, "mtu", "3818")
    assert len(Said([*CAPS, lab.ifname]).of("link")) == 1


def test_the_interface_of_the_default_route(lab):
    ip("route", "add", "default", "via", lab.remote_v4)
    ((verdict, text, advice),) = Said([*CAPS, lab.ifname]).of("use")
    assert verdict == "doubt"
    assert text == "the default route leaves through it, and a measurement may reset it"
    assert "--force" in advice
    for finding in Said(CAPS, {"NETIF": ""}).data["sections"][1]["findings"]:
        assert ("needs --force" in finding["text"]) == (finding["title"] == lab.ifname)


@pytest.mark.parametrize("mode", ["skb", "native"])
def test_an_attached_program(lab, mode):
    nic = Nic(lab.ifname)
    with contextlib.closing(Program(nic, ProgramConfig(xdp_mode=mode))):
        (attached,) = nic.xdp_programs()
        ((verdict, text, advice),) = Said([*CAPS, lab.ifname]).of("xdp-program")
    assert (verdict, text) == ("doubt", f"id {attached.prog_id} is attached ({mode} mode)")
    assert "--force" in advice
    assert Said([*CAPS, lab.ifname]).of("xdp-program") == [("ok", "none attached", "")]


def test_a_measurement_that_runs(popen_cli, lab, tmp_path):
    running = PingPong(popen_cli, lab, tmp_path)
    running.wait_answering()
    said = Said([*CAPS, lab.ifname])
    text = f"a measurement of xdptstamp (process {running.pid})"
    assert said.of("users") == [("doubt", text, "wait for its end")]
    assert said.of("xdp-program")[0][0] == "doubt"
    running.end()
    assert Said([*CAPS, lab.ifname]).of("users") == []


def test_a_guard_counts_as_a_measurement(lab, tmp_path):
    with HwtstampGuard(NicHwtstamp(Nic(lab.ifname)), "keep", [tmp_path]):
        ((_, text, _),) = Said([*CAPS, lab.ifname]).of("users")
    assert f"(process {os.getpid()})" in text


def test_a_servo_that_runs(shared_lab, tmp_path):
    program = tmp_path / "phc2sys"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as servo:
        try:
            comm = Path(f"/proc/{servo.pid}/comm")
            wait_until(lambda: comm.read_text().strip() == "phc2sys", "the name of the process")
            ((verdict, text, advice),) = Said([*CAPS, shared_lab.ifname]).of("servos")
        finally:
            servo.terminate()
    assert verdict == "doubt"
    assert f"phc2sys (process {servo.pid})" in text
    assert "end them" in advice


def test_all_interfaces_in_a_line_each(lab):
    said = Said(CAPS, {"NETIF": ""})
    assert said.data["ifname"] is None
    findings = said.data["sections"][1]["findings"]
    by_name = {finding["title"]: finding for finding in findings}
    assert lab.ifname in by_name
    assert "lo" not in by_name
    text = "SOFTWARE timestamps, veth, a software interface"
    assert by_name[lab.ifname]["text"] == text
    assert by_name[lab.ifname]["verdict"] == "doubt"
    links = [each["values"]["link"] for each in said.data["facts"]["interfaces"]]
    assert {link["ifname"] for link in links if link["is_up"]} >= {lab.ifname}


def test_without_any_interface_the_lab_is_named():
    advice = "xdptstamp lab veth makes a link without hardware"
    said = Said(["unshare", "--net", *CAPS], {"NETIF": ""})
    assert said.of("interface") == [("lacks", "none but lo", advice)]


# -- without privilege, libraries, AF_XDP


def test_without_privilege_all_is_said_but_what_takes_it(shared_lab):
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    said = Said([*DROP_ALL, *CAPS, shared_lab.ifname])
    assert said.of("af-xdp") == [
        ("doubt", "not known: socket(AF_XDP): Operation not permitted", "it needs CAP_NET_RAW")
    ]
    missing, sched = said.of("privilege")
    assert missing == (
        "lacks",
        "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON to measure",
        "run as root (sudo), or give it these alone",
    )
    assert sched[:2] == ("doubt", "no CAP_SYS_NICE and CAP_IPC_LOCK: --sched cannot be used")
    ((verdict, text, _),) = said.of("locked-memory")
    assert verdict in ("doubt", "lacks")
    assert "MiB" in text
    # The interface is told all the same.
    privileged = Said([*CAPS, shared_lab.ifname])
    assert said.data["sections"][1] == privileged.data["sections"][1]
    assert said.data["conclusion"]["blocked_by"][0] == "privilege"


def test_a_small_limit_of_locked_memory(shared_lab):
    command = " ".join([*DROP_ALL, *CAPS, shared_lab.ifname])
    said = json.loads(_run(["sh", "-c", f"ulimit -l 64; {command} --format json"], None))
    (finding,) = [
        each for each in said["sections"][0]["findings"] if each["key"] == "locked-memory"
    ]
    assert finding["verdict"] == "lacks"
    assert finding["text"] == "0.0625 MiB: not enough for one queue"


def test_without_libxdp(shared_lab, tmp_path):
    said = Said([*CAPS, shared_lab.ifname], hide_library(tmp_path, "libxdp.so.1"))
    advice = "apt install libxdp1 (Debian)"
    assert said.of("libxdp") == [("doubt", "none: --dispatcher cannot be used", advice)]
    assert said.data["conclusion"]["blocked_by"] == []


def test_without_libbpf(shared_lab, tmp_path):
    said = Said([*CAPS, shared_lab.ifname], hide_library(tmp_path, "libbpf.so.1"))
    assert said.of("libbpf") == [("lacks", "none", "apt install libbpf1 (Debian)")]
    assert "libbpf" in said.data["conclusion"]["blocked_by"]


@pytest.mark.skipif(libxdp.exports_umem_options(), reason="this system's libxdp is not old")
def test_an_old_libxdp(shared_lab):
    ((verdict, text, advice),) = Said([*CAPS, shared_lab.ifname]).of("libxdp")
    assert (verdict, advice) == ("ok", "")
    assert text == (
        f"libxdp.so.{libxdp.version_text()} has no Tx metadata (1.5.2 has): the kernel is asked "
        "directly"
    )


@pytest.mark.parametrize("is_privileged", [True, False])
def test_a_new_libxdp(unpacked, skip_or_fail, is_privileged):
    if unpacked.returncode != 0:
        skip_or_fail("root", f"no Debian 13 to run in: {unpacked.stderr.strip()}")
    # It has neither click nor pyroute2, which the machine's part does without.
    program = (
        "import ctypes, json, sys\n"
        "if sys.argv[1:]:\n"
        "    for number in range(64):\n"
        "        ctypes.CDLL(None).prctl(24, number, 0, 0, 0)\n"  # PR_CAPBSET_DROP
        "    import os\n"
        "    os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])\n"
        "from xdptstamp.assess import assess_machine\n"
        "from xdptstamp.caps.machine import read_machine\n"
        "findings = assess_machine(read_machine()).findings\n"
        "print(json.dumps({each.key: [each.verdict, each.text, each.advice] for each in findings}))"
    )
    words = [] if is_privileged else [program]
    done = subprocess.run(
        (TRIXIE_ROOT, "python3", "-c", program, *words), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    verdict, text, advice = json.loads(done.stdout)["libxdp"]
    assert text.startswith("libxdp.so.1.5.")
    if is_privileged:
        assert (verdict, text.partition(", ")[2]) == ("ok", "with Tx metadata")
    else:
        assert (verdict, advice) == ("doubt", "it needs CAP_NET_RAW")
        assert text.endswith("; not known whether it has Tx metadata")


def test_a_kernel_without_af_xdp(shared_lab):
    said = Said([sys.executable, WITHOUT_AF_XDP, *CAPS, shared_lab.ifname])
    advice = "use a kernel with CONFIG_XDP_SOCKETS"
    assert said.of("af-xdp") == [("lacks", "none", advice)]
    assert "AF_XDP" in said.data["conclusion"]["blocked_by"]
