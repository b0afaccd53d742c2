# SPDX-License-Identifier: GPL-2.0-only
"""Interfaces of a network namespace made for each test, never those of the machine."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import textwrap

import pytest

from tests.link.running import wait_carrier
from xdptstamp._sys import netns
from xdptstamp.collect import collect_counters, collect_nic, pause_frames, tx_counter
from xdptstamp.errors import SetupError, UnsupportedError
from xdptstamp.hwtstamp import HwtstampConfig, HwtstampGuard, NicHwtstamp
from xdptstamp.hwtstate import users_of
from xdptstamp.nic import Nic, find_link_by_address
from xdptstamp.program import Program, ProgramConfig

# The kernel may hold news of a carrier back for a second.
LIMIT_S = 30


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


# What it is


def test_what_a_veth_tells_of_itself(nic, pair):
    link = nic.link()
    assert (link.ifname, link.kind, link.mtu) == (pair[0], "veth", 1500)
    assert (link.is_up, link.has_carrier, link.operstate) == (True, True, "up")
    assert link.mac == nic.mac
    assert len(link.mac.split(":")) == 6
    assert nic.driver_info().driver == "veth"
    assert nic.ring_sizes() is None
    assert nic.speed_mbps() == 10000
    assert nic.identity() == {"mac": link.mac}
    assert "rx_queue_0_xdp_packets" in nic.statistics()
    assert nic.timestamping_info().phc_index == -1


def test_a_veth_has_no_settings_of_hardware(nic):
    assert (nic.coalescing(), nic.eee(), nic.pause()) == (None, None, None)
    assert nic.qdiscs() == {"noqueue"}


def test_queueing_disciplines_of_this_interface_alone(nic, pair):
    subprocess.run(["tc", "qdisc", "add", "dev", pair[1], "root", "pfifo"], check=True)
    assert nic.qdiscs() == {"noqueue"}
    assert Nic(pair[1]).qdiscs() == {"pfifo"}


def test_queues_in_use_are_told_from_those_allocated(nic, pair):
    assert nic.link().num_rx_queues == 4
    subprocess.run(["ethtool", "-L", pair[0], "rx", "3", "tx", "2"], check=True)
    queues = nic.num_queues()
    assert (queues.rx, queues.tx, queues.combined, queues.usable) == (3, 2, 0, 2)
    assert queues.is_exact


def test_a_driver_that_tells_no_queues_in_use():
    queues = Nic("lo").num_queues()
    assert (queues.rx, queues.usable, queues.is_exact) == (1, 1, False)


def test_the_current_namespace_counts_not_the_one_of_sys():
    with pytest.raises(SetupError) as caught:
        Nic("nosuch0")
    assert str(caught.value) == (
        "nosuch0: no such interface; there are: lo (in this network namespace)"
    )


def test_an_alternative_name_finds_the_interface(nic, pair):
    long_name = "a-name-of-more-than-15-characters"
    ip(f"link property add dev {pair[0]} altname {long_name} altname short")
    for name in (long_name, "short"):
        found = Nic(name)
        assert (found.ifname, found.ifindex) == (pair[0], nic.ifindex)


def test_an_address_finds_its_interface(pair):
    for name, number in zip(pair, "12", strict=True):
        ip(f"addr add 192.0.2.{number}/24 dev {name}")
        ip(f"-6 addr add 2001:db8::{number}/64 dev {name} nodad")
        ip(f"-6 addr add fe80::77/64 dev {name} nodad")
    for address in ("192.0.2.2", "2001:db8::2", "2001:0db8:0::0002", f"fe80::77%{pair[1]}"):
        assert find_link_by_address(address) == pair[1]
    assert find_link_by_address("fe80::77") in pair
    for address in ("192.0.2.3", "192.0.2.0", "2001:db8::3", "fe80::77%lo"):
        assert find_link_by_address(address) is None


def test_on_a_point_to_point_link_the_own_address_counts(pair):
    ip(f"addr add 192.0.2.1 peer 192.0.2.9 dev {pair[0]}")
    ip(f"-6 addr add 2001:db8::1 peer 2001:db8::9 dev {pair[0]} nodad")
    assert find_link_by_address("192.0.2.1") == find_link_by_address("2001:db8::1") == pair[0]
    assert find_link_by_address("192.0.2.9") is find_link_by_address("2001:db8::9") is None


def test_a_rename_does_not_lose_the_interface(nic, pair):
    ip(f"link set {pair[0]} down")
    ip(f"link set {pair[0]} name renamed0")
    assert nic.current_name == nic.link().ifname == "renamed0"
    assert nic.driver_info().driver == "veth"


def test_an_interface_that_is_gone_says_so(nic, pair):
    ip(f"link del {pair[0]}")
    questions = (nic.link, nic.statistics, nic.num_queues, nic.watch, nic.driver_info)
    for question in questions:
        with pytest.raises(SetupError, match=f"{pair[0]}: the interface is gone"):
            question()
    for question in (nic.coalescing, nic.eee, nic.pause):
        with pytest.raises(SetupError, match="the interface is gone, or its driver is resetting"):
            question()


def test_counters_count(nic, pair):
    before = collect_counters(nic)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((pair[1], 0))
        for _ in range(10):
            sock.send(b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(50))
    gained = {name: count - before[name] for name, count in collect_counters(nic).items()}
    assert gained["link.rx_packets"] >= 10
    assert gained["link.rx_bytes"] >= 640
    assert gained["rx_queue_0_xdp_drops"] == 0


def test_packets_sent_are_counted(nic, pair):
    before = collect_counters(nic)
    name = tx_counter(nic.link().kind, before)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((pair[0], 0))
        for _ in range(10):
            sock.send(b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(50))
    assert name == "link.tx_packets"
    assert collect_counters(nic)[name] - before[name] >= 10


def test_a_veth_counts_no_pause_frames(nic):
    assert pause_frames(nic.driver_info().driver, collect_counters(nic)) == {}


def test_the_run_info_of_a_veth_is_json(nic, pair):
    info = collect_nic(nic)
    assert json.loads(json.dumps(info)) == info
    assert (info["ifname"], info["driver"], info["kind"]) == (pair[0], "veth", "veth")
    assert info["hwtstamp"] is info["ring_sizes"] is None
    assert info["features"]["is_zero_copy"] is False
    assert info["num_queues"]["is_exact"] is True


def test_attached_programs_are_told_with_mode_and_id(nic):
    # By our own loader: that of ip(8) mounts a bpffs on the machine and leaves it there.
    assert nic.xdp_programs() == ()
    told = []
    for mode in ("skb", "native"):
        with contextlib.closing(Program(nic, ProgramConfig(xdp_mode=mode))):
            (attached,) = nic.xdp_programs()
            assert attached.mode == mode
            told.append(attached.prog_id)
    assert told[1] > told[0] > 0
    assert nic.xdp_programs() == ()


# Whether it may be measured on


def test_an_interface_of_no_importance_is_not_refused(nic):
    assert nic.refusal(environ={}) is None


@pytest.mark.parametrize(
    "route",
    [
        "route add default dev {0}",
        "-6 route add default dev {0}",
        "route add default nexthop dev {1} weight 1 nexthop dev {0} weight 1",
    ],
)
def test_the_interface_of_a_default_route_is_refused(nic, pair, route):
    ip(f"addr add 192.0.2.1/24 dev {pair[0]}")
    ip(f"addr add 198.51.100.1/24 dev {pair[1]}")
    assert not nic.is_default_route()
    ip(route.format(*pair))
    assert str(nic.refusal(environ={})) == (
        f"{pair[0]}: refused: the default route leaves through it, and a measurement may reset "
        "it. Name another interface, or use --force"
    )
    assert nic.refusal(force=True, environ={}) is None
    assert Nic("lo").is_default_route() is False


def test_an_interface_below_the_default_route_is_refused(nic, pair):
    ip("link add br0 type bridge")
    ip("link set br0 up")
    ip("addr add 192.0.2.1/24 dev br0")
    ip("route add default dev br0")
    assert not nic.is_default_route()
    ip(f"link set {pair[0]} master br0")
    assert nic.is_default_route()
    # The other end of the cable is not below it.
    assert not Nic(pair[1]).is_default_route()


def test_an_interface_below_a_macvlan_with_the_default_route_is_refused(nic, pair):
    ip(f"link add link {pair[0]} name mv0 type macvlan")
    ip("link set mv0 up")
    ip("addr add 192.0.2.1/24 dev mv0")
    ip("route add default dev mv0")
    assert nic.is_default_route()


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ("192.0.2.9 50000 192.0.2.1 22", True),
        ("203.0.113.5 50000 192.0.2.1 22", False),  # no route
        ("198.51.100.9 50000 192.0.2.1 22", False),  # the other interface
        ("2001:db8::9 50000 2001:db8::1 22", True),
        ("fe80::1%{0} 50000 fe80::2%{0} 22", True),
        ("fe80::1%{1} 50000 fe80::2%{1} 22", False),
        ("fe80::1%nosuch0 50000 fe80::2 22", False),
        ("", False),
    ],
)
def test_the_interface_of_the_ssh_connection_is_refused(nic, pair, connection, expected):
    ip(f"addr add 192.0.2.1/24 dev {pair[0]}")
    ip(f"-6 addr add 2001:db8::1/64 dev {pair[0]} nodad")
    ip(f"addr add 198.51.100.1/24 dev {pair[1]}")
    environ = {"SSH_CONNECTION": connection.format(*pair)}
    assert nic.carries_ssh(environ) is expected
    refusal = nic.refusal(environ=environ)
    assert (refusal is not None) is expected
    if expected:
        assert "refused: your ssh connection runs over it" in str(refusal)


def test_a_link_local_ssh_peer_is_on_the_interface_it_names(pair):
    # Both ends have fe80::/64, and a route lookup without the zone would give the first.
    for name, other in (pair, pair[::-1]):
        environ = {"SSH_CONNECTION": f"fe80::1%{name} 50000 fe80::2%{name} 22"}
        assert Nic(name).carries_ssh(environ)
        assert not Nic(other).carries_ssh(environ)


# Its hwtstamp setting (a veth has none)


def test_a_veth_has_no_hwtstamp_setting(nic, pair):
    device = NicHwtstamp(nic)
    assert device.get() is None
    with pytest.raises(UnsupportedError) as caught:
        device.set(HwtstampConfig(0, 1, 1))
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        "hardware timestamping is not supported here: needs a NIC with a hwtstamp setting, "
        f"found {pair[0]} (veth), which has none"
    )


def test_a_guard_on_a_veth_is_announced_and_gone_afterwards(nic, pair, tmp_path):
    with HwtstampGuard(NicHwtstamp(nic), "auto", [tmp_path / "run"]) as guard:
        assert users_of(nic.ifindex) == [os.getpid()]
        assert guard.notes == [f"{pair[0]} has no hwtstamp setting to turn on"]
    assert users_of(nic.ifindex) == []


def test_users_are_those_of_this_namespace(nic, tmp_path):
    with HwtstampGuard(NicHwtstamp(nic), "auto", [tmp_path]):
        other = f"xdpt-nic-{secrets.token_hex(4)}"
        netns.create(other)
        try:
            assert netns.call_inside(other, lambda: users_of(nic.ifindex)) == []
        finally:
            netns.remove(other)


def test_an_interface_that_vanished_under_a_guard_ends_it_quietly(nic, pair, tmp_path):
    with HwtstampGuard(NicHwtstamp(nic), "auto", [tmp_path]):
        ip(f"link del {pair[0]}")
    assert users_of(nic.ifindex) == []


_UNPRIVILEGED = """
    import sys
    sys.path[:0] = sys.argv[1].split(":")
    from xdptstamp.collect import collect_nic, missing_capabilities
    from xdptstamp.errors import SystemCallError
    from xdptstamp.hwtstamp import HwtstampConfig, NicHwtstamp
    from xdptstamp.nic import Nic, find_link_by_address

    nic = Nic(sys.argv[2])
    print(missing_capabilities(["CAP_NET_ADMIN", "CAP_NET_RAW"]))
    print(collect_nic(nic)["driver"], NicHwtstamp(nic).get(), nic.refusal(environ={}))
    try:
        NicHwtstamp(nic).set(HwtstampConfig(0, 1, 1))
    except SystemCallError as error:
        print(error)
"""


def test_without_privilege_all_is_read_and_nothing_set(pair):
    command = ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c"]
    arguments = [textwrap.dedent(_UNPRIVILEGED), ":".join(sys.path), pair[0]]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "['CAP_NET_ADMIN']",
        "veth None None",
        f"SIOCSHWTSTAMP failed on {pair[0]}: Operation not permitted. "
        "It needs CAP_NET_ADMIN in the namespace of the interface.",
    ]


def test_a_setting_of_an_interface_that_is_gone(nic, pair):
    device = NicHwtstamp(nic)
    ip(f"link del {pair[0]}")
    for request in (device.get, lambda: device.set(HwtstampConfig(0, 1, 1))):
        with pytest.raises(SetupError, match=f"{pair[0]}: the interface is gone"):
            request()
