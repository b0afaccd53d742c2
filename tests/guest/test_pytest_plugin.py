# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin on the igc driver: hardware stamps, and no socket closed over a pending one."""

SUITE = """
import pytest
from xdptstamp import stamp
from xdptstamp.hwtstamp import NicHwtstamp
from xdptstamp.nic import Nic

PACKET = b"\\xff" * 12 + b"\\x88\\xb5" + bytes(46)
PENDING = []


def send(xsk, frame):
    addr = xsk.umem.tx_addr(frame)
    xsk.umem.view[addr : addr + len(PACKET)] = PACKET
    stamp.request(xsk.umem, addr)
    xsk.send(addr, len(PACKET), stamp.OPTION)
    return addr


def test_a_hardware_stamp_comes(dut, xsk):
    assert dut.is_hardware
    assert NicHwtstamp(dut.nic).get().is_tx_on
    addr = send(xsk, 0)
    assert xsk.wait_completion(timeout_s=20) == addr
    assert stamp.read(xsk.umem, addr) > 0


def test_three_are_left_pending(dut, xsk):
    def close():
        PENDING.append(xsk.tx.producer[0] - xsk.comp.consumer[0])
        real_close()

    real_close, xsk.close = xsk.close, close
    for frame in range(3):
        send(xsk, frame)
    PENDING.append(xsk.tx.producer[0] - xsk.comp.consumer[0])


def test_none_was_when_the_socket_closed_and_all_is_as_before(request):
    assert PENDING == [3, 0]
    nic = Nic(request.config.option.xdptstamp_ifname)
    assert not nic.xdp_programs()
    assert not NicHwtstamp(nic).get().is_tx_on
"""


def test_a_suite_in_zero_copy_mode_gets_its_stamps_and_is_drained(bench):
    """Stamps come late, so that a socket closed without a wait would be closed over them."""
    ifname = bench.guest.environ["NETIF"]
    path = bench.results / "test_suite.py"
    path.write_text(SUITE)
    bench.fault("delay-stamp:delay=300ms")
    words = ("-m", "pytest", "-q", "-p", "xdptstamp.pytest_plugin", "-p", "no:cacheprovider")
    options = ("--noconftest", "-c", "/dev/null", "--rootdir", path.parent)
    python, *_ = bench.command
    done = bench.run(python, *words, *options, "--xdptstamp-ifname", ifname, path)
    assert "3 passed" in done.stdout, done.stdout
    assert "never came" not in done.stdout
