# SPDX-License-Identifier: GPL-2.0-only
"""News of an interface: carrier, down, renamed, vanished."""

import fcntl
import secrets
import select
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tests.link.running import wait_carrier
from xdptstamp._sys import netns
from xdptstamp.errors import SetupError
from xdptstamp.linkwatch import LinkChange, LinkWatch
from xdptstamp.nic import Nic

# The kernel may hold news of a carrier back for a second.
LIMIT_S = 30

# include/uapi/linux/if_tun.h
TUNSETIFF, TUNSETCARRIER = 0x400454CA, 0x400454E2
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000


@pytest.fixture(autouse=True)
def namespace(nothing_left):
    """A network namespace for the test; what is in it goes with it."""
    name = f"xdpt-nic-{secrets.token_hex(4)}"
    netns.create(name)
    try:
        with netns.entered(name):
            netns.remove(name)  # nameless, it cannot outlive this process
            yield
    finally:
        netns.remove(name)


@pytest.fixture
def pair(namespace):
    """Names of a veth pair, both ends up in the test's namespace."""
    name, peer = (f"v{secrets.token_hex(4)}" for _ in range(2))
    ip(f"link add {name} numrxqueues 4 numtxqueues 4 type veth peer name {peer}")
    ip(f"link set {name} up")
    ip(f"link set {peer} up")
    wait_carrier(Nic(name), LIMIT_S)
    return name, peer


@pytest.fixture
def nic(pair):
    return Nic(pair[0])


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True)


def news(watch):
    """The first change that the watch tells of."""
    while True:
        change = watch.check()
        if change != LinkChange.NONE:
            return change
        ready = select.select([watch], [], [], LIMIT_S)[0]
        assert ready, "the watch never became readable"


def test_a_watch_without_news_says_so_and_does_not_block(nic):
    with nic.watch() as watch:
        assert watch.check() == LinkChange.NONE
        assert watch.has_carrier
        assert watch.num_carrier_changes == 0


def test_news_of_other_interfaces_are_not_ours(nic, pair):
    with nic.watch() as watch:
        ip(f"link set {pair[1]} mtu 1400")
        ip("link add br0 type bridge")
        assert select.select([watch], [], [], LIMIT_S)[0]
        assert watch.check() == LinkChange.NONE


def test_a_lost_carrier_is_told_and_its_return(nic, pair):
    with nic.watch() as watch:
        ip(f"link set {pair[1]} down")
        assert news(watch) == LinkChange.NO_CARRIER
        assert watch.describe(LinkChange.NO_CARRIER).startswith("has no carrier: is the cable in")
        ip(f"link set {pair[1]} up")
        watch.wait_carrier(LIMIT_S)
        assert watch.check() == LinkChange.NONE
        assert watch.num_carrier_changes == 2


@pytest.fixture
def tap(namespace):
    """``tap(is_there)``: a tap's carrier comes or goes; its name is tap0."""
    with open("/dev/net/tun", "r+b", buffering=0) as file:
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", b"tap0", IFF_TAP | IFF_NO_PI))
        ip("link set tap0 up")
        yield lambda is_there: fcntl.ioctl(file, TUNSETCARRIER, struct.pack("i", is_there))


@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="this kernel has no tun")
def test_a_carrier_that_is_gone_before_the_kernel_tells_of_it_is_waited_for(tap):
    nic = Nic("tap0")
    wait_carrier(nic, LIMIT_S)
    with nic.watch() as watch:
        # Of a third change within a second the kernel tells when that is over.
        tap(False)
        assert news(watch) == LinkChange.NO_CARRIER
        tap(True)
        watch.wait_carrier(LIMIT_S)
        tap(False)
        with pytest.raises(SetupError, match=r"no carrier within 0\.05 s"):
            watch.wait_carrier(0.05)


def test_a_carrier_that_bounced_between_two_looks_is_told(nic, pair):
    with nic.watch() as watch:
        ip(f"link set {pair[1]} down")
        ip(f"link set {pair[1]} up")
        # Which of the two states the kernel tells of is its choice.
        assert news(watch) in {LinkChange.CARRIER_BOUNCED, LinkChange.NO_CARRIER}
        watch.wait_carrier(LIMIT_S)
        assert watch.num_carrier_changes == 2


def test_an_interface_set_down_is_told(nic, pair):
    with nic.watch() as watch:
        ip(f"link set {pair[0]} down")
        assert news(watch) == LinkChange.DOWN
        assert watch.check() == LinkChange.DOWN, "still down"
        assert watch.describe(LinkChange.DOWN) == f"is down: `ip link set {pair[0]} up`"


def test_an_interface_that_was_down_between_two_looks_is_told_once(nic, pair):
    with nic.watch() as watch:
        ip(f"link set {pair[0]} down")
        ip(f"link set {pair[0]} up")
        assert news(watch) == LinkChange.DOWN
        watch.wait_carrier(LIMIT_S)
        assert watch.is_up
        assert watch.check() == LinkChange.NONE


def test_a_rename_is_told(nic, pair):
    with nic.watch() as watch:
        ip(f"link set {pair[0]} name renamed0")
        assert news(watch) == LinkChange.RENAMED
        assert watch.describe(LinkChange.RENAMED) == "was renamed to renamed0"


def test_an_interface_that_vanished_is_told_for_ever(nic, pair):
    with nic.watch() as watch:
        ip(f"link del {pair[0]}")
        assert LinkChange.VANISHED in {news(watch), news(watch)}
        assert watch.check() == LinkChange.VANISHED


def test_an_interface_moved_away_is_told(nic, pair):
    other = f"xdpt-nic-{secrets.token_hex(4)}"
    netns.create(other)
    try:
        with nic.watch() as watch:
            ip(f"link set {pair[0]} netns {other}")
            while (change := news(watch)) == LinkChange.DOWN:
                assert select.select([watch], [], [], LIMIT_S)[0]
            assert change == LinkChange.VANISHED
    finally:
        netns.remove(other)


def test_leaving_a_bridge_is_not_vanishing(nic, pair):
    ip("link add br0 type bridge")
    ip(f"link set {pair[0]} master br0")
    with nic.watch() as watch:
        ip(f"link set {pair[0]} nomaster")
        assert select.select([watch], [], [], LIMIT_S)[0]
        assert watch.check() == LinkChange.NONE


def test_more_news_than_the_socket_holds_lose_nothing_that_matters(nic, pair):
    with nic.watch() as watch:
        watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for mtu in range(1400, 1410):
            ip(f"link set {pair[0]} mtu {mtu}")
        ip(f"link set {pair[0]} down")
        lost = watch._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert lost, "nothing was lost, so this tests nothing"
        assert watch.check() != LinkChange.VANISHED
        ip(f"link set {pair[0]} mtu 1500")
        assert news(watch) == LinkChange.DOWN


def test_an_overrun_makes_the_watch_look_for_itself(nic, pair):
    with nic.watch() as watch:
        watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for mtu in range(1400, 1410):
            ip(f"link set {pair[0]} mtu {mtu}")
        ip(f"link del {pair[0]}")
        assert watch.check() == LinkChange.VANISHED


def test_waiting_for_carrier_ends_with_the_event(nic, pair, monkeypatch):
    ip(f"link set {pair[1]} down")
    with nic.watch() as watch:
        assert not watch.has_carrier or news(watch) == LinkChange.NO_CARRIER
        waits = []
        wait = LinkWatch._wait

        def plug_in_and_wait(self, *arguments):
            if not waits:
                ip(f"link set {pair[1]} up")
            waits.append(arguments)
            return wait(self, *arguments)

        monkeypatch.setattr(LinkWatch, "_wait", plug_in_and_wait)
        watch.wait_carrier(LIMIT_S)
        assert watch.has_carrier
        assert waits


def test_waiting_for_carrier_ends_when_it_is_told_to(nic, pair):
    ip(f"link set {pair[1]} down")
    reading, writing = socket.socketpair()
    with nic.watch() as watch, reading, writing:
        writing.send(b"x")
        watch.wait_carrier(LIMIT_S, reading)
        assert not watch.has_carrier


def test_a_carrier_that_does_not_come_is_an_error(nic, pair):
    ip(f"link set {pair[1]} down")
    with pytest.raises(SetupError) as caught:
        wait_carrier(nic, 0.05)
    assert str(caught.value) == (
        f"{pair[0]}: no carrier within 0.05 s: is the cable in, the partner up?"
    )


def test_waiting_for_an_interface_that_is_down_says_what_to_do(nic, pair):
    ip(f"link set {pair[0]} down")
    with pytest.raises(SetupError) as caught:
        wait_carrier(nic, LIMIT_S)
    assert str(caught.value) == f"{pair[0]}: is down: `ip link set {pair[0]} up`"
