# SPDX-License-Identifier: GPL-2.0-only
"""What can be said of interfaces without touching one."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

from xdptstamp import _ethtool, _rtnl, linkwatch
from xdptstamp.errors import SetupError
from xdptstamp.linkwatch import LinkChange
from xdptstamp.nic import Nic, NumQueues


def link(ifindex: int, *, lower: int = 0, master: int = 0) -> _rtnl.Link:
    return _rtnl.Link(
        ifname=f"eth{ifindex}",
        ifindex=ifindex,
        kind="",
        flags=0,
        mac="",
        perm_mac=None,
        mtu=1500,
        operstate="up",
        carrier_changes=0,
        num_rx_queues=1,
        num_tx_queues=1,
        lower=lower,
        master=master,
        parent_bus=None,
        parent_device=None,
        xdp=(),
        statistics={},
    )


def test_a_missing_interface_is_answered_with_those_there_are() -> None:
    with pytest.raises(SetupError) as caught:
        Nic("nosuch0")
    assert str(caught.value).startswith("nosuch0: no such interface; there are: ")
    assert "lo" in str(caught.value).split("there are: ")[1].replace(" ", ",").split(",")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("ifname", ["", "x" * 16, "x" * 200, "a b", "a/b", "ä"])
def test_a_name_that_none_can_have_is_a_missing_interface(ifname: str) -> None:
    with pytest.raises(SetupError, match="no such interface"):
        Nic(ifname)


def test_loopback_is_refused_and_may_be_forced() -> None:
    refusal = Nic("lo").refusal(environ={})
    assert str(refusal) == (
        "lo: refused: it is the loopback interface, which other programs need. "
        "Name another interface, or use --force"
    )
    assert Nic("lo").refusal(force=True, environ={}) is None


def test_usable_queues_have_both_sides() -> None:
    assert NumQueues(rx=4, tx=2, combined=0, is_exact=True).usable == 2


def test_combined_queues_have_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = _ethtool.Channels(rx=1, tx=0, combined=4)
    monkeypatch.setattr(_ethtool, "channels", lambda ifname: channels)
    queues = Nic("lo").num_queues()
    assert queues == NumQueues(rx=5, tx=4, combined=4, is_exact=True)
    assert queues.usable == 4


def test_ring_sizes_are_told_from_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    # struct ethtool_ringparam: cmd, then rx, mini, jumbo, tx: four limits, four settings.
    answer = struct.pack("=9I", 0x10, 4096, 1, 2, 2048, 256, 3, 4, 128)
    monkeypatch.setattr(_ethtool, "_ask", lambda ifname, request, call: answer)
    sizes = _ethtool.ring_sizes("eth0")
    assert sizes == _ethtool.RingSizes(rx=256, tx=128, rx_max=4096, tx_max=2048)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], LinkChange.NONE),
        ([(0x10001, 2)], LinkChange.CARRIER_BOUNCED),
        ([(0x1, 1), (0x10001, 2)], LinkChange.NO_CARRIER),
        ([(0x0, 1), (0x1, 1), (0x10001, 2)], LinkChange.DOWN),
        ([(0x0, 1), None], LinkChange.VANISHED),
    ],
)
def test_the_worst_between_two_looks_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
    states: list[tuple[int, int] | None],
    expected: LinkChange,
) -> None:
    with linkwatch.LinkWatch("lo", 1) as watch:
        watch._seen = linkwatch._State("lo", 0x10001, 0)
        news = [state and linkwatch._State("lo", *state) for state in states]
        monkeypatch.setattr(watch, "_news", lambda: news)
        assert watch.check() == expected
        monkeypatch.setattr(watch, "_news", list)
        gone = expected == LinkChange.VANISHED
        assert watch.check() == (LinkChange.VANISHED if gone else LinkChange.NONE)


def test_what_is_stacked_on_an_interface_is_followed_upwards() -> None:
    # 2 is in bond 5, VLAN 6 is on the bond, bridge 7 has the VLAN; 3 and 8 are beside it.
    links = [
        link(2, master=5),
        link(3),
        link(5),
        link(6, lower=5, master=7),
        link(7),
        link(8, lower=3),
    ]
    assert _rtnl.stacked_on(2, links) == {2, 5, 6, 7}
    assert _rtnl.stacked_on(3, links) == {3, 8}
    assert _rtnl.stacked_on(7, links) == {7}


def test_a_ring_of_stacked_interfaces_ends() -> None:
    assert _rtnl.stacked_on(2, [link(2, lower=3), link(3, lower=2)]) == {2, 3}


_PARENT = """
import os, subprocess, sys
environ = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
code = "from xdptstamp.nic import ssh_connection; print(ssh_connection())"
sys.exit(subprocess.run([sys.executable, "-c", code], env=environ).returncode)
"""


def test_the_ssh_connection_is_found_though_sudo_took_the_variable() -> None:
    connection = "192.0.2.7 50000 192.0.2.8 22"
    environ = {
        **os.environ,
        "SSH_CONNECTION": connection,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    # The parent has the variable, as a login shell has; the child it starts has not.
    command = [sys.executable, "-c", _PARENT]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == f"{connection}\n"


def test_structs_have_the_kernels_sizes() -> None:
    # linux/ethtool.h and linux/net_tstamp.h; the same on every architecture.
    assert _ethtool._DRVINFO.size == 196
    assert _ethtool._RINGPARAM.size == _ethtool._CHANNELS.size == 36
    assert _ethtool._TS_INFO.size == 44
    assert _ethtool._LINK_SETTINGS.size == 48
    assert _ethtool._HWTSTAMP.size == 12


def test_a_link_message_is_read_whatever_else_it_holds() -> None:
    def attribute(kind: int, value: bytes) -> bytes:
        size = 4 + len(value)
        return struct.pack("=HH", size, kind) + value + bytes(-size % 4)

    body = (
        attribute(99, b"unknown")
        + attribute(3, b"eth7\0")
        + attribute(0x8000 | 26, b"nested")
        + attribute(35, struct.pack("=I", 12))
        + b"\0"  # too short for another attribute
    )
    known = linkwatch._State("eth0", 0, 3)
    assert linkwatch._parse_state(0x10001, body, known) == linkwatch._State("eth7", 0x10001, 12)
    assert linkwatch._parse_state(1, b"", known) == linkwatch._State("eth0", 1, 3)


def test_a_driver_whose_statistics_never_pair_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ethtool, "_num_statistics", lambda ifname: 3)
    monkeypatch.setattr(_ethtool, "_paired_statistics", lambda ifname, num: None)
    with pytest.raises(SetupError, match="eth0: the driver gives another number of statistics"):
        _ethtool.statistics("eth0")


def test_statistics_are_asked_again_when_they_became_more(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([1, 2])
    monkeypatch.setattr(_ethtool, "_num_statistics", lambda ifname: next(sizes))

    def answer(ifname: str, request: bytes, call: str) -> bytes:
        # The driver has two statistics, whatever it was asked for.
        if call == "ETHTOOL_GSTRINGS":
            head = request[:8] + struct.pack("=I", 2)
            return head + b"rx".ljust(32, b"\0") + b"tx".ljust(32, b"\0") + bytes(64)
        return request[:4] + struct.pack("=IQQ", 2, 11, 12) + bytes(64)

    monkeypatch.setattr(_ethtool, "_ask", answer)
    assert _ethtool.statistics("eth0") == {"rx": 11, "tx": 12}
