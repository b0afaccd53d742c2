# SPDX-License-Identifier: GPL-2.0-only
"""Addresses and routes that going down takes away are put back."""

import subprocess

import pytest

from xdptstamp import _rtnl, addressing
from xdptstamp.errors import SetupError
from xdptstamp.nic import Nic


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(ifname):
    """What ip shows, in its order, without how long something still lives."""
    routes = [ip(family, "route", "show", "table", "all", "dev", ifname) for family in ("-4", "-6")]
    addresses = ip("-o", "address", "show", "dev", ifname).splitlines()
    return [addresses, *(sorted(part.splitlines()) for part in routes)]


def test_what_going_down_takes_away_comes_back(lab):
    ifname = lab.ifname
    via4, via6 = lab.remote_v4, lab.remote_v6
    ip("address", "add", "192.0.2.9/32", "dev", ifname)
    ip("address", "add", "2001:db8:5::1/64", "dev", ifname, "nodad")
    ip("address", "add", "2001:db8:6::1/64", "dev", ifname, "nodad")
    ip("route", "add", "192.0.2.128/25", "via", via4, "dev", ifname, "metric", "50")
    ip("route", "add", "192.0.2.64/26", "via", via4, "dev", ifname, "table", "77")
    ip("route", "add", "2001:db8:9::/48", "via", via6, "dev", ifname)
    before = shown(ifname)
    nic = Nic(ifname)
    with addressing.kept(ifname, nic.ifindex):
        _rtnl.set_link(nic.ifindex, is_up=False)
        assert "2001:db8" not in str(shown(ifname))
        _rtnl.set_link(nic.ifindex, is_up=True)
    assert shown(ifname) == before


def test_what_cannot_be_put_back_is_named(lab):
    ip("route", "add", "192.0.2.128/25", "via", lab.remote_v4, "dev", lab.ifname)
    nic = Nic(lab.ifname)
    with (
        pytest.raises(
            SetupError, match=r"its route 192\.0\.2\.128/25 is not back: adding the route"
        ),
        addressing.kept(lab.ifname, nic.ifindex),
    ):
        _rtnl.set_link(nic.ifindex, is_up=False)
    _rtnl.set_link(nic.ifindex, is_up=True)
