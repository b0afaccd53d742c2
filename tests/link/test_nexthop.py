# SPDX-License-Identifier: GPL-2.0-only
"""Whose MAC address packets of our own making get: asked of the kernel, on a real link."""

import contextlib
import os
import secrets
import socket
import subprocess
import time

import pytest

from xdptstamp._rtnl import find_neighbour
from xdptstamp._sys import netns
from xdptstamp.errors import SetupError
from xdptstamp.nexthop import from_mac, parse_mac, resolve
from xdptstamp.nic import Nic, find_link_by_address

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("NETIF")), reason="changes routes, addresses and neighbours of the link"
)

# Nobody answers within this; the kernel itself asks three times, a second apart.
SHORT_S = 0.2


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True)


def on_partner(lab, arguments):
    ip(f"-n {lab.environ['REMOTE_ARGS']} {arguments}")


def partner_nic(lab):
    """Name and MAC of the far end."""

    def look():
        nic = Nic(find_link_by_address(lab.remote_v4))
        return nic.ifname, nic.mac

    return netns.call_inside(lab.environ["REMOTE_ARGS"], look)


def packed(mac):
    return bytes.fromhex(mac.replace(":", ""))


def problem_of(call, *args, **options):
    with pytest.raises(SetupError) as caught:
        call(*args, **options)
    return str(caught.value)


@pytest.fixture
def route(lab):
    """``route("198.51.100.0/24 via ..")``: a route of this namespace, removed afterwards."""
    with contextlib.ExitStack() as stack:

        def add(arguments, options=""):
            ip(f"{options} route add {arguments}")
            stack.callback(ip, f"{options} route del {arguments}")

        yield add


@pytest.fixture
def other(lab):
    """A second interface of this namespace, with 203.0.113.1/24 and 2001:db8:9::1/64."""
    name, peer = (f"v{secrets.token_hex(4)}" for _ in range(2))
    ip(f"link add {name} type veth peer name {peer}")
    try:
        for ifname in (name, peer):
            ip(f"link set {ifname} addrgenmode none")
            ip(f"link set {ifname} up")
        ip(f"addr add 203.0.113.1/24 dev {name}")
        ip(f"-6 addr add 2001:db8:9::1/64 dev {name} nodad")
        yield name
    finally:
        ip(f"link del {name}")


# What is found


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_a_partner_on_the_link(lab, version):
    host = getattr(lab, f"remote_{version}")
    nic = Nic(lab.ifname)
    found = resolve(host, lab.ifname)
    assert (found.host, found.address, found.next_hop) == (host, host, host)
    assert found.source == getattr(lab, f"local_{version}")
    assert found.mac == packed(partner_nic(lab)[1])
    assert (found.source_mac, found.ifindex) == (packed(nic.mac), nic.ifindex)
    # From the kernel's table now; there was nothing to wait for.
    assert resolve(host, lab.ifname, timeout_s=0) == found


def test_an_address_in_another_spelling(lab):
    words = socket.inet_pton(socket.AF_INET6, lab.remote_v6).hex()
    spelling = ":".join(words[at : at + 4].upper() for at in range(0, 32, 4))
    found = resolve(spelling, lab.ifname)
    assert (found.host, found.address) == (spelling, lab.remote_v6)


def test_a_host_behind_a_gateway(lab, route):
    route(f"198.51.100.0/24 via {lab.remote_v4}")
    route(f"2001:db8:7::/64 via {lab.remote_v6}", "-6")
    for host, gateway, source in (
        ("198.51.100.7", lab.remote_v4, lab.local_v4),
        ("2001:db8:7::7", lab.remote_v6, lab.local_v6),
    ):
        found = resolve(host, lab.ifname)
        assert (found.address, found.next_hop, found.source) == (host, gateway, source)
        assert found.mac == packed(partner_nic(lab)[1])


def test_an_ipv4_host_behind_an_ipv6_gateway(lab, route):
    route(f"198.51.100.0/24 via inet6 {lab.remote_v6} dev {lab.ifname}")
    found = resolve("198.51.100.7", lab.ifname)
    assert (found.next_hop, found.source) == (lab.remote_v6, lab.local_v4)
    assert found.mac == packed(partner_nic(lab)[1])


def test_a_link_local_address_with_and_without_its_zone(lab, other):
    name, mac = partner_nic(lab)
    # The other interface has the same network.
    ip(f"-6 addr add fe80::1/64 dev {other} nodad")
    ip(f"-6 addr add fe80::11/64 dev {lab.ifname} nodad")
    on_partner(lab, f"-6 addr add fe80::22/64 dev {name} nodad")
    for host in ("fe80::22", f"fe80::22%{lab.ifname}"):
        found = resolve(host, lab.ifname)
        assert (found.address, found.source) == ("fe80::22", "fe80::11")
        assert found.mac == packed(mac)
    assert problem_of(resolve, f"fe80::22%{other}", lab.ifname) == (
        f"fe80::22%{other}: is on {other}, not on {lab.ifname}. Name {other}"
    )
    assert "is an address of this machine" in problem_of(resolve, "fe80::11", lab.ifname)


def test_of_two_interfaces_with_one_network_the_named_one_counts(lab, other):
    # The kernel itself prefers the first; who names the second means it.
    ip(f"addr add 198.51.100.1/24 dev {other}")
    ip(f"addr add 198.51.100.2/24 dev {lab.ifname}")
    name, mac = partner_nic(lab)
    on_partner(lab, f"addr add 198.51.100.3/24 dev {name}")
    found = resolve("198.51.100.3", lab.ifname)
    assert (found.mac, found.source) == (packed(mac), "198.51.100.2")


# How sure it is


@pytest.mark.parametrize("version", ["v4", "v6"])
def test_a_stale_entry_is_not_believed(lab, version):
    host = getattr(lab, f"remote_{version}")
    ip(f"neigh replace {host} lladdr 02:00:00:00:00:99 nud stale dev {lab.ifname}")
    assert resolve(host, lab.ifname).mac == packed(partner_nic(lab)[1])


def test_a_configured_entry_is_believed(lab):
    entry = f"{lab.remote_v4} lladdr 02:00:00:00:00:99 dev {lab.ifname}"
    ip(f"neigh replace {entry} nud permanent")
    found = resolve(lab.remote_v4, lab.ifname, timeout_s=0)
    assert found.mac == packed("02:00:00:00:00:99")
    assert find_neighbour(lab.remote_v4, found.ifindex).mac == "02:00:00:00:00:99"


@pytest.mark.parametrize("mac", ["03:00:00:00:00:01", "ff:ff:ff:ff:ff:ff"])
def test_a_configured_entry_of_a_group_is_refused(lab, mac):
    ip(f"neigh replace {lab.remote_v4} lladdr {mac} nud permanent dev {lab.ifname}")
    assert problem_of(resolve, lab.remote_v4, lab.ifname) == (
        f"{lab.remote_v4}: {lab.ifname} has no neighbour table entry of use for {lab.remote_v4} "
        "(a group's MAC address, its own, or none); give the MAC address by --dst-mac"
    )


def test_a_partner_that_comes_late_is_waited_for(lab):
    name, mac = partner_nic(lab)
    on_partner(lab, f"addr del {lab.remote_v4}/30 dev {name}")
    later = f"sleep 0.3; ip -n {lab.environ['REMOTE_ARGS']} addr add {lab.remote_v4}/30 dev {name}"
    with subprocess.Popen(["sh", "-c", later]):
        assert resolve(lab.remote_v4, lab.ifname, timeout_s=10).mac == packed(mac)


@pytest.mark.parametrize(("version", "question"), [("v4", "ARP"), ("v6", "neighbour solicitation")])
def test_a_partner_that_does_not_answer(lab, version, question):
    host = getattr(lab, f"remote_{version}")
    resolve(host, lab.ifname)
    on_partner(lab, f"addr flush dev {partner_nic(lab)[0]}")
    ip(f"neigh flush dev {lab.ifname}")
    started = time.monotonic()
    problem = problem_of(resolve, host, lab.ifname, timeout_s=SHORT_S)
    assert SHORT_S <= time.monotonic() - started < 10 * SHORT_S
    assert problem == (
        f"{lab.ifname}: no answer to {question} from {host} on {lab.ifname}; is the partner up?"
    )


def test_that_the_kernel_gives_up_ends_the_wait(lab):
    on_partner(lab, f"addr flush dev {partner_nic(lab)[0]}")
    started = time.monotonic()
    problem = problem_of(resolve, lab.remote_v4, lab.ifname, timeout_s=60)
    assert time.monotonic() - started < 30
    assert "no answer to ARP" in problem


# What is refused


def test_no_route(lab):
    for host in ("198.51.100.7", "2001:db8:7::7"):
        assert problem_of(resolve, host, lab.ifname) == (
            f"{host}: no route to it through {lab.ifname}. Give {lab.ifname} an address in its "
            "network (`ip addr add`), or add a route (`ip route add`)"
        )


def test_a_route_through_another_interface(lab, other, route):
    # A default route through the named interface does not make it the right one.
    route(f"default via {lab.remote_v4}")
    for host in ("203.0.113.9", "2001:db8:9::9"):
        assert problem_of(resolve, host, lab.ifname) == (
            f"{host}: the route to it leaves through {other}, not through {lab.ifname}. Name "
            f"{other}, or add a route through {lab.ifname} (`ip route add`)"
        )


def test_own_addresses(lab, other):
    for host in (lab.local_v4, lab.local_v6, "203.0.113.1", "2001:db8:9::1", "127.0.0.1", "::1"):
        assert problem_of(resolve, host, lab.ifname) == (
            f"{host}: is an address of this machine itself ({find_link_by_address(host)}); packets "
            "to it never leave. Give the link partner's"
        )


def test_groups_of_hosts(lab):
    network = lab.remote_v4.rpartition(".")
    broadcast = f"{network[0]}.{int(network[2]) | 3}"
    ip(f"addr change {lab.local_v4}/30 brd {broadcast} dev {lab.ifname}")
    for host, kind in (
        (broadcast, "broadcast"),
        ("255.255.255.255", "broadcast"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
    ):
        expected = f"{host}: is a {kind} address; packets go to one host only: give its own address"
        assert problem_of(resolve, host, lab.ifname) == expected
        assert problem_of(from_mac, "02:00:00:00:00:01", host, lab.ifname) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_no_host_at_all(shared_lab, host):
    assert problem_of(resolve, host, shared_lab.ifname) == (
        f"{host}: is no host's address: give the partner's"
    )


@pytest.mark.parametrize("host", ["", "a" * 300, "x\0y", "no such host", "1.2.3.4.5"])
def test_what_is_no_host(shared_lab, host):
    problem = problem_of(resolve, host, shared_lab.ifname)
    assert "cannot be resolved to an address: " in problem
    assert problem.endswith("Check the spelling")


def test_an_address_of_the_other_family(shared_lab):
    problem = problem_of(resolve, shared_lab.remote_v4, shared_lab.ifname, family=socket.AF_INET6)
    assert "cannot be resolved to an IPv6 address" in problem


def test_interfaces_that_cannot_be_sent_from(lab):
    assert problem_of(resolve, "127.0.0.1", "lo") == (
        "lo: is no Ethernet interface: it has no MAC address"
    )
    assert "no such interface" in problem_of(resolve, lab.remote_v4, "nosuch0")
    ip(f"link set {lab.ifname} down")
    assert problem_of(resolve, lab.remote_v4, lab.ifname) == (
        f"{lab.ifname}: is down: `ip link set {lab.ifname} up`"
    )


# A MAC that the user gives


@pytest.mark.parametrize("text", ["02:00:00:00:00:aB", "02-00-00-00-00-ab", " 02:00:00:00:00:ab "])
def test_a_mac_as_typed(text):
    assert parse_mac(text) == packed("02:00:00:00:00:ab")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a MAC address such as 02:00:00:00:00:01"),
        ("02:00:00:00:00", "is not a MAC address"),
        ("02:00:00:00:00:01:02", "is not a MAC address"),
        ("02:00-00:00:00:01", "is not a MAC address"),
        ("020000000001", "is not a MAC address"),
        ("0g:00:00:00:00:01", "is not a MAC address"),
        (
            "ff:ff:ff:ff:ff:ff",
            "is the broadcast MAC address; packets go to one host only: give the MAC of its NIC",
        ),
        ("01:00:5e:00:00:01", "is a multicast MAC address; packets go to one host only"),
        ("00:00:00:00:00:00", "is no host's MAC address: give the MAC of the partner's NIC"),
    ],
)
def test_a_mac_of_no_single_host(text, problem):
    assert f"{text}: {problem}" in problem_of(parse_mac, text)


def test_a_given_mac_asks_nobody(lab):
    mac = "02:00:00:00:00:99"
    found = from_mac(mac, lab.remote_v4, lab.ifname)
    assert (found.mac, found.address) == (packed(mac), lab.remote_v4)
    assert (found.source, found.next_hop) == (lab.local_v4, lab.remote_v4)
    assert find_neighbour(lab.remote_v4, found.ifindex) is None


def test_a_given_mac_needs_no_route(lab):
    for host, source in (("198.51.100.7", lab.local_v4), ("2001:db8:7::7", lab.local_v6)):
        assert from_mac("02:00:00:00:00:99", host, lab.ifname).source == source


def test_a_given_mac_may_be_of_another_port_of_this_machine(lab, other):
    found = from_mac("02:00:00:00:00:99", "203.0.113.1", lab.ifname)
    assert (found.address, found.source) == ("203.0.113.1", lab.local_v4)


def test_a_given_mac_needs_an_address_to_send_from(lab):
    ip(f"addr flush dev {lab.ifname}")
    assert problem_of(from_mac, "02:00:00:00:00:99", "198.51.100.7", lab.ifname) == (
        f"{lab.ifname}: has no IPv4 address to send from; give it one (`ip addr add`)"
    )
