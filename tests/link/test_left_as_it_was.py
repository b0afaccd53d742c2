# SPDX-License-Identifier: GPL-2.0-only
"""Both ends of a link are set as they were before a measurement, whatever ended it."""

import os
import signal
import subprocess

import pytest

from tests.link.mixing import ENDLESS, MixedProcess
from tests.link.running import Client, PingPong
from tests.link.test_program import FLAGS, attached_by_netlink
from tests.snapshot import COMMANDS, assert_as_before, changes, snapshot

if os.environ.get("NETIF"):
    pytest.skip("a real NIC is not set otherwise", allow_module_level=True)

# Values that no default has, so that a default in their place is seen.
ODD = """
    ip link set $1 mtu 1432 txqueuelen 77 promisc on alias odd group 7
    ip addr add 192.0.2.77/32 dev $1
    ip route add 203.0.113.0/24 dev $1 metric 77
    ip neigh add 203.0.113.7 lladdr 02:00:00:00:00:77 dev $1
    ethtool -K $1 gro on tso off rxvlan off
    ethtool -L $1 rx 2 tx 1
    tc qdisc replace dev $1 root handle 77: bfifo limit 77777
    tc qdisc add dev $1 clsact
"""
END_OF = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}


def run_here(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Ends:
    """Both ends of a link and how they are set."""

    def __init__(self, link):
        self.link = link
        partner_ifname = f"peer-{link.ifname.removeprefix('xdpt-')}"
        self._ends = ((run_here, link.ifname), (self._run_there, partner_ifname))

    def _run_there(self, argv):
        return run_here(["ip", "netns", "exec", self.link.environ["REMOTE_ARGS"], *argv])

    def make_odd(self):
        for run, ifname in self._ends:
            run(["sh", "-ec", ODD, "sh", ifname])

    def look(self):
        return [snapshot(run, ifname) for run, ifname in self._ends]

    def assert_as_before(self, before):
        for (run, ifname), each in zip(self._ends, before, strict=True):
            assert_as_before(run, ifname, each)


@pytest.fixture(scope="module")
def ends(shared_lab):
    """Both ends, oddly set."""
    ends = Ends(shared_lab)
    ends.make_odd()
    return ends


@pytest.fixture
def measured(ends, popen_cli, tmp_path):
    """``measured(kind, end, *args)``: measure, look meanwhile, end; what was seen meanwhile."""

    def ping_pong(end, *args):
        args = [*args, *(["--count", 5] if end == "its end" else [])]
        running = PingPong(popen_cli, ends.link, tmp_path / "out", *args)
        running.wait_answering()
        seen = ends.look()
        with Client(ends.link) as client:
            client.converse(4)
        return running.process, seen

    def mixed(end, *args):
        last = ("--ratio", "1:1", "--repeats", 1, "--duration", "1s")
        args = [*(last if end == "its end" else ENDLESS), "--size", 64, *args]
        running = MixedProcess(popen_cli, ends.link, tmp_path / "out", *args)
        running.wait_sending()
        return running.process, ends.look()

    def run(kind, end, *args):
        process, seen = {"ping-pong": ping_pong, "mixed": mixed}[kind](end, *args)
        if end != "its end":
            process.send_signal(END_OF[end])
        done = process.wait()
        assert "Traceback" not in done.stderr
        assert (done.returncode == -signal.SIGKILL) == (end == "SIGKILL"), done.stderr
        return seen

    return run


@pytest.mark.parametrize("end", ["its end", *END_OF])
@pytest.mark.parametrize("kind", ["ping-pong", "mixed"])
def test_by_a_measurement(ends, measured, kind, end):
    before = ends.look()
    during, _ = measured(kind, end)
    # What a snapshot sees of a measurement, it would see of what one left.
    assert set(changes(before[0], during)) >= {"link and XDP programs", "AF_XDP sockets"}
    ends.assert_as_before(before)


@pytest.mark.parametrize("end", ["its end", "SIGTERM"])
@pytest.mark.parametrize("kind", ["ping-pong", "mixed"])
def test_by_a_measurement_that_replaced_an_xdp_program(ends, measured, kind, end):
    with attached_by_netlink(ends.link.ifname, FLAGS["native"]):
        before = ends.look()
        during, _ = measured(kind, end, "--force")
        assert "link and XDP programs" in changes(before[0], during)
        ends.assert_as_before(before)


def test_a_snapshot_sees_each_odd_value(ends):
    texts = ends.look()[0]
    assert set(texts) == set(COMMANDS)
    link = texts["link and XDP programs"]
    for text in ('"mtu":1432', '"txqlen":77', '"promiscuity":1', '"group":"7"', '"ifalias":"odd"'):
        assert text in link
    assert "192.0.2.77" in texts["addresses"]
    assert "203.0.113.0/24" in texts["routes"]
    assert "203.0.113.7" in texts["neighbours"]
    assert "rx-vlan-offload: off" in texts["features"]
    assert "TX:\t\t1" in texts["channels"]
    assert '"handle":"77:"' in texts["qdiscs"]
    assert '"kind":"clsact"' in texts["qdiscs"]
