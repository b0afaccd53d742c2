# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin in a user's own suite, each run of it a pytest of its own."""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from xdptstamp.nic import Nic

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
WITHOUT_AF_XDP = str(Path(__file__).with_name("without_af_xdp.py"))

# A test that leaves its packets where they are.
SENDS = """
from xdptstamp import stamp

PACKET = b"\\xff" * 12 + b"\\x88\\xb5" + bytes(46)

def send(xsk, frame=0):
    addr = xsk.umem.tx_addr(frame)
    xsk.umem.view[addr : addr + len(PACKET)] = PACKET
    stamp.request(xsk.umem, addr)
    xsk.send(addr, len(PACKET), stamp.OPTION)
    return addr
"""


@pytest.fixture
def users_suite(pytester, monkeypatch):
    """``users_suite(source, *options)``: the result of a suite that has this one file."""
    monkeypatch.delenv("NETIF", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source, *options, plugin=("-p", "xdptstamp.pytest_plugin")):
        pytester.makepyfile(source)
        options = ("-rA", "-p", "no:cacheprovider", *plugin, *options)
        return pytester.runpytest_subprocess(*options, timeout=LIMIT_S)

    return run


def text_of(result):
    return "\n".join(result.outlines + result.errlines)


def test_the_readmes_suite_gets_its_stamp(users_suite, shared_lab):
    (block,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    users_suite(block, "--xdptstamp-ifname", shared_lab.ifname).assert_outcomes(passed=1)


def test_a_stamp_in_copy_mode_is_software_and_lies_between_its_ends(users_suite, shared_lab):
    source = f"""{SENDS}
import time

def test_stamp(dut, xsk):
    assert xsk is dut.xsks[0]
    assert not dut.is_hardware
    before = time.clock_gettime_ns(time.CLOCK_TAI)
    addr = send(xsk)
    assert xsk.wait_completion() == addr
    assert before < stamp.read(xsk.umem, addr) < time.clock_gettime_ns(time.CLOCK_TAI)
"""
    result = users_suite(
        source, "--xdptstamp-ifname", shared_lab.ifname, "--xdptstamp-mode", "copy"
    )
    result.assert_outcomes(passed=1)


def test_netif_names_the_interface_and_an_option_wins(users_suite, shared_lab, monkeypatch):
    source = "def test_name(dut): print(f'it is {dut.nic.ifname}.')"
    monkeypatch.setenv("NETIF", shared_lab.ifname)
    assert f"it is {shared_lab.ifname}." in text_of(users_suite(source))
    monkeypatch.setenv("NETIF", "not-there")
    result = users_suite(source, "--xdptstamp-ifname", shared_lab.ifname)
    assert f"it is {shared_lab.ifname}." in text_of(result)


@pytest.mark.parametrize("fixture", ["dut", "xsk", "dut_config"])
def test_without_an_interface_it_is_skipped_and_says_why(users_suite, fixture, monkeypatch):
    monkeypatch.setenv("NETIF", "")
    result = users_suite(f"def test_one({fixture}): pass")
    result.assert_outcomes(skipped=1)
    assert "no interface to test: name one with --xdptstamp-ifname or NETIF" in text_of(result)
    assert result.ret == 0


def test_an_interface_that_is_not_there_is_an_error_in_one_sentence(users_suite):
    result = users_suite("def test_one(xsk): pass", "--xdptstamp-ifname", "not-there")
    result.assert_outcomes(errors=1)
    assert "not-there: no such interface" in text_of(result)
    assert "Traceback" not in text_of(result)
    assert "another exception" not in text_of(result)


def test_a_kernel_without_af_xdp_is_a_skip_with_what_is_missing(users_suite, shared_lab, pytester):
    pytester.makepyfile("def test_one(xsk): pass")
    # As users_suite does, but for the kernel.
    words = (sys.executable, WITHOUT_AF_XDP, sys.executable, "-m", "pytest", "-rA")
    options = ("-p", "xdptstamp.pytest_plugin", "--xdptstamp-ifname", shared_lab.ifname)
    result = pytester.run(*words, *options, timeout=LIMIT_S)
    result.assert_outcomes(skipped=1)
    assert "AF_XDP" in text_of(result)
    assert "is not supported here: needs" in text_of(result)


def test_a_mode_that_the_driver_has_not_is_an_error(users_suite, shared_lab):
    if shared_lab.is_real:
        pytest.skip("a NIC may have it")
    options = ("--xdptstamp-ifname", shared_lab.ifname, "--xdptstamp-mode", "zero-copy")
    result = users_suite("def test_one(xsk): pass", *options)
    result.assert_outcomes(errors=1)
    assert "zero-copy" in text_of(result)
    assert "Traceback" not in text_of(result)


def test_a_queue_is_chosen_and_a_wrong_one_refused(users_suite, shared_lab):
    source = """
def test_queue(dut, xsk):
    assert [each.queue_id for each in dut.xsks] == [xsk.queue_id] == [1]
"""
    options = ("--xdptstamp-ifname", shared_lab.ifname, "--xdptstamp-queue")
    users_suite(source, *options, "1").assert_outcomes(passed=1)
    result = users_suite(source, *options, "77")
    result.assert_outcomes(errors=1)
    assert f"{shared_lab.ifname}: no queue 77; there is queues 0 to 1" in text_of(result)


def test_without_privilege_it_is_an_error_that_says_what_to_do(users_suite, shared_lab, pytester):
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    pytester.makepyfile("def test_one(xsk): pass")
    words = ("setpriv", "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-m", "pytest")
    options = ("-p", "xdptstamp.pytest_plugin", "--xdptstamp-ifname", shared_lab.ifname)
    result = pytester.run(*words, *options, timeout=LIMIT_S)
    result.assert_outcomes(errors=1)
    assert "run as root (sudo), or give it these alone" in text_of(result)


def test_each_test_gets_it_set_up_and_it_is_as_before_after_the_run(users_suite, shared_lab):
    nic = Nic(shared_lab.ifname)
    source = f"""{SENDS}
ids = []

def test_first(dut, xsk):
    ids.extend(each.prog_id for each in dut.nic.xdp_programs())
    send(xsk)
    assert not "broken in the middle"

def test_second(dut, xsk):
    (again,) = (each.prog_id for each in dut.nic.xdp_programs())
    assert again not in ids
    assert send(xsk) == xsk.wait_completion()
    assert xsk.wait_completion(timeout_s=0) is None

def test_third(request):
    from xdptstamp.nic import Nic
    assert not Nic(request.config.option.xdptstamp_ifname).xdp_programs()
"""
    before = (nic.xdp_programs(), nic.link().flags, nic.num_queues())
    result = users_suite(source, "--xdptstamp-ifname", shared_lab.ifname)
    result.assert_outcomes(passed=2, failed=1)
    assert (nic.xdp_programs(), nic.link().flags, nic.num_queues()) == before


def test_what_it_sends_from_is_not_what_it_receives_into(users_suite, shared_lab):
    source = """
def test_frames(dut, xsk):
    filled = {int(addr) // xsk.umem.frame_size for addr in xsk.fill.addrs[:1024]}
    assert filled == set(range(dut.config.num_tx_frames, xsk.umem.num_frames))
"""
    users_suite(source, "--xdptstamp-ifname", shared_lab.ifname).assert_outcomes(passed=1)


def test_a_users_dut_config_is_taken(users_suite, shared_lab, pytester):
    pytester.makeconftest("""
import dataclasses
import pytest

@pytest.fixture
def dut_config(dut_config):
    return dataclasses.replace(dut_config, num_frames=64, num_tx_frames=32)
""")
    source = "def test_size(xsk): assert (xsk.umem.num_frames, xsk.tx.size) == (64, 32)"
    users_suite(source, "--xdptstamp-ifname", shared_lab.ifname).assert_outcomes(passed=1)


def test_a_suite_that_has_fixtures_of_these_names_keeps_them(users_suite, pytester):
    pytester.makeconftest("""
import pytest

@pytest.fixture(scope="session")
def dut():
    return "mine"

@pytest.fixture
def xsk(dut):
    return f"{dut}, too"
""")
    source = "def test_mine(dut, xsk): assert (dut, xsk) == ('mine', 'mine, too')"
    users_suite(source).assert_outcomes(passed=1)


def test_a_suite_that_does_not_use_it_loads_nothing_of_it(users_suite):
    source = """
import sys

def test_modules():
    ours = {name for name in sys.modules if name.startswith("xdptstamp")}
    assert ours == {"xdptstamp", "xdptstamp.pytest_plugin"}
    assert not {"numpy", "pyroute2", "ctypes.util"} & set(sys.modules)
"""
    users_suite(source).assert_outcomes(passed=1)


@pytest.fixture
def entry_point(tmp_path, monkeypatch):
    """The entry points of pyproject.toml, as an installation has them."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    (point,) = points["pytest11"].items()
    folder = tmp_path / "installed"
    info = folder / "a_copy_of_xdptstamp-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-copy-of-xdptstamp\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{point[0]} = {point[1]}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    return point[0]


@pytest.mark.parametrize("words", [(), ("-p", "xdptstamp.pytest_plugin")], ids=["alone", "and -p"])
def test_an_installed_plugin_is_there_without_a_word_and_once(
    users_suite, shared_lab, entry_point, words
):
    source = """
def test_once(pytestconfig, dut):
    manager = pytestconfig.pluginmanager
    plugins = [each for each in manager.get_plugins() if "pytest_plugin" in repr(each)]
    assert len(plugins) == 1
"""
    options = ("--xdptstamp-ifname", shared_lab.ifname)
    users_suite(source, *options, plugin=words).assert_outcomes(passed=1)


def test_an_installed_plugin_can_be_left_out(users_suite, entry_point):
    source = "def test_one(xsk): pass"
    result = users_suite(source, plugin=("-p", f"no:{entry_point}"))
    result.assert_outcomes(errors=1)
    assert "fixture 'xsk' not found" in text_of(result)


def test_a_test_that_fails_shows_the_notes_of_its_set_up(users_suite, shared_lab):
    result = users_suite("def test_one(dut): assert 0", "--xdptstamp-ifname", shared_lab.ifname)
    result.assert_outcomes(failed=1)
    notes = re.search(r"-+ Captured xdptstamp setup -+\n(.*)", text_of(result))
    assert notes and notes[1].strip()
