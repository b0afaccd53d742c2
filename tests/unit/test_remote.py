# SPDX-License-Identifier: GPL-2.0-only
"""Which partner the environment names, and what is said when it names none."""

import ipaddress

import pytest

from xdptstamp.errors import SetupError, SystemCallError, UnsupportedError, XdptstampError
from xdptstamp.lab.plan import NUM_PLANS, free_plans
from xdptstamp.remote import NetnsPartner, partner_from_env


def test_netns_partner():
    partner = partner_from_env({"REMOTE_TYPE": "netns", "REMOTE_ARGS": "xdpt-12ab", "NETIF": "x"})
    assert partner == NetnsPartner("xdpt-12ab")
    assert partner.kind == "netns"
    assert partner.subject == "network namespace xdpt-12ab"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "REMOTE_TYPE and REMOTE_ARGS not set"),
        ({"REMOTE_TYPE": "", "REMOTE_ARGS": ""}, "REMOTE_TYPE and REMOTE_ARGS not set"),
        ({"REMOTE_TYPE": "netns"}, "not named, REMOTE_ARGS not set"),
        ({"REMOTE_ARGS": "x"}, "not named, REMOTE_TYPE not set"),
    ],
)
def test_every_missing_variable_is_named_in_one_message(environ, named):
    with pytest.raises(SetupError) as caught:
        partner_from_env(environ)
    assert named in str(caught.value)
    assert "xdptstamp lab veth" in str(caught.value)
    assert caught.value.exit_code == 1


def test_unknown_type_names_the_known_ones():
    with pytest.raises(UnsupportedError) as caught:
        partner_from_env({"REMOTE_TYPE": "telnet", "REMOTE_ARGS": "host"})
    assert "REMOTE_TYPE=netns" in str(caught.value)
    assert "found telnet" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("start", ["popen", "run", "execute"])
def test_namespace_that_is_not_there(start):
    with pytest.raises(SystemCallError) as caught:
        getattr(NetnsPartner("xdpt-nosuch"), start)(["true"])
    assert "network namespace xdpt-nosuch: No such file" in str(caught.value)


def test_no_command():
    with pytest.raises(XdptstampError, match="no command given"):
        NetnsPartner("xdpt-nosuch").popen([])


def test_plans_never_share_a_name_or_an_address():
    plans = list(free_plans([]))
    assert len(plans) == NUM_PLANS
    addresses = [address for plan in plans for end in plan.addresses for address in end]
    macs = [mac for plan in plans for mac in plan.macs]
    assert len({plan.name for plan in plans}) == NUM_PLANS
    assert len(set(addresses)) == 4 * NUM_PLANS
    assert len(set(macs)) == 2 * NUM_PLANS
    assert max(len(plan.partner_ifname) for plan in plans) <= 15


def test_plan_is_a_usable_pair_of_addresses():
    plan = next(free_plans([]))
    for local, remote in zip(*plan.addresses, strict=True):
        assert local != remote
    (local_v4, local_v6), (remote_v4, remote_v6) = plan.addresses
    v4 = ipaddress.ip_interface(f"{local_v4}/30").network
    assert ipaddress.ip_address(remote_v4) in v4
    assert ipaddress.ip_address(remote_v4) != v4.broadcast_address
    v6 = ipaddress.ip_interface(f"{local_v6}/64").network
    assert ipaddress.ip_address(remote_v6) in v6
    assert v6.subnet_of(ipaddress.ip_network("fd00::/8"))
    assert all(int(mac[:2], 16) & 3 == 2 for mac in plan.macs), "unicast, locally administered"


def test_plans_avoid_what_is_in_use():
    taken = ipaddress.ip_network("198.18.0.0/16")
    default = ipaddress.ip_network("0.0.0.0/0")
    plans = list(free_plans([taken, default]))
    assert len(plans) == NUM_PLANS
    assert not any(plan.ipv4.overlaps(taken) for plan in plans)
    # The first pool is used as far as it is free.
    assert any(plan.ipv4.subnet_of(ipaddress.ip_network("198.19.0.0/16")) for plan in plans)


def test_no_plan_where_all_is_in_use():
    assert next(free_plans([ipaddress.ip_network("fc00::/7")]), None) is None
