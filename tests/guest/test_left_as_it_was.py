# SPDX-License-Identifier: GPL-2.0-only
"""igc is set as it was before a command that drives it in zero-copy mode, whatever ended that."""

import signal

import pytest

from tests.guest.bench import LIMIT_S, wait_for_run, words_of
from tests.snapshot import assert_as_before, changes, snapshot
from xdptstamp.lab.guest.config import PORTS

# Values that no default has, so that a default in their place is seen.
ODD = """
    ethtool -L $NETIF combined 3
    ethtool -G $NETIF rx 1024 tx 512
    ethtool -C $NETIF rx-usecs 77
    ethtool -K $NETIF ntuple on gro off tso off
    ethtool -N $NETIF rx-flow-hash udp4 sdfn
    ethtool -X $NETIF weight 1 2 1
    ethtool -N $NETIF flow-type ether proto 0x88f7 action 2
    ethtool -N $NETIF flow-type ether vlan 0x2000 vlan-mask 0x1fff action 1
    ip link set $NETIF txqueuelen 77 promisc on alias odd
    ip addr add 192.0.2.77/32 dev $NETIF
    ip route add 203.0.113.0/24 dev $NETIF metric 77
    tc qdisc replace dev $NETIF root handle 77: mqprio num_tc 3 \
        map 2 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 queues 1@0 1@1 1@2 hw 0
    tc qdisc add dev $NETIF clsact
    python3 -I -S -c "$1" $NETIF 0 1
"""
EVEN = """
    tc qdisc del dev $NETIF clsact
    tc qdisc del dev $NETIF root
    ip route del 203.0.113.0/24 dev $NETIF
    ip addr del 192.0.2.77/32 dev $NETIF
    ip link set $NETIF txqueuelen 1000 promisc off alias ""
    ethtool -K $NETIF ntuple off gro on tso on
    ethtool -X $NETIF default
    ethtool -N $NETIF rx-flow-hash udp4 sd
    ethtool -C $NETIF rx-usecs 3
    ethtool -G $NETIF rx 256 tx 256
    ethtool -L $NETIF combined 2
    python3 -I -S -c "$1" $NETIF 0 0
"""
# SIOCSHWTSTAMP: Tx type and Rx filter.
SET_HWTSTAMP = """
import array, fcntl, socket, struct, sys
data = array.array('B', struct.pack('3i', 0, *map(int, sys.argv[2:])))
request = struct.pack('16sQ16x', sys.argv[1].encode(), data.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x89B0, request)
"""
MIXED = ("mixed", "--ratio", "1:1", "--size", "64", "--rate", "500pps", "--duration", "100s")
CASES = ("--case", "stamp-in-bounds", "--case", "hwtstamp-off")


@pytest.fixture
def odd(bench):
    """The shared guest, oddly set meanwhile; Rx stamps are on, as somebody may have them."""
    bench.run("sh", "-ec", ODD, "sh", SET_HWTSTAMP)
    yield bench
    bench.run("sh", "-ec", EVEN, "sh", SET_HWTSTAMP)


class Watched:
    """The shared guest, measured in, and how igc was set before that."""

    def __init__(self, bench):
        self.bench = bench
        self.before = self._look()

    def _look(self):
        return snapshot(self._run, PORTS[0])

    def _run(self, argv):
        return self.bench.run(*argv).stdout

    def assert_as_before(self):
        assert_as_before(self._run, PORTS[0], self.before)

    def assert_measuring(self):
        """What a snapshot sees of a measurement, it would see of what one left."""
        seen = set(changes(self.before, self._look()))
        assert {"hwtstamp", "link and XDP programs", "AF_XDP sockets"} <= seen

    def end_by(self, number, *words, meanwhile=lambda: None):
        """A measurement ends by a signal."""
        known = self.bench.folders()
        process = self.bench.guest.popen([*self.bench.command, *words])
        wait_for_run(self.bench.guest, known, process)
        meanwhile()
        process.send_signal(number)
        process.wait(LIMIT_S)
        assert "Traceback" not in process.stderr


def test_by_what_ended_or_was_ended_and_by_restore_after_what_was_killed(odd):
    watched = Watched(odd)
    assert_odd(watched.before)
    odd.xdptstamp("conform", *CASES)
    watched.assert_as_before()
    watched.end_by(signal.SIGINT, "ping-pong", meanwhile=watched.assert_measuring)
    watched.assert_as_before()
    watched.end_by(signal.SIGTERM, *MIXED)
    watched.assert_as_before()
    watched.end_by(signal.SIGKILL, *MIXED)
    (shown,) = odd.json("hwtstamp", "show")
    assert shown["hwtstamp"]["text"] == "tx on, rx all"
    assert shown["kept"]["text"] == "tx off, rx all"
    (restored,) = odd.json("hwtstamp", "restore")
    assert restored["after"]["text"] == "tx off, rx all"
    watched.assert_as_before()
    assert "nothing to restore" in odd.xdptstamp("hwtstamp", "restore", code=1).stderr


def assert_odd(texts):
    """Each value that was set is in the snapshot."""
    words = {name: words_of(text) for name, text in texts.items()}
    assert words["hwtstamp"] == "flags 0 tx_type 0 rx_filter 1"
    assert "Combined: 3" in words["channels"].partition("Current")[2]
    assert "TX: 512" in words["rings"].partition("Current")[2]
    assert "rx-usecs: 77" in words["coalescing"]
    assert "Total 2 rules" in words["ntuple filters"]
    for text in ("ntuple-filters: on", "tcp-segmentation-offload: off"):
        assert text in words["features"]
    assert "L4 bytes 0 & 1" in words["flow hash"]
    assert "32: 1 1" in words["flow hash indirection"]
    for kind in ("mqprio", "clsact"):
        assert f'"kind":"{kind}"' in words["qdiscs"]
    assert '"txqlen":77' in words["link and XDP programs"]
    assert "192.0.2.77" in words["addresses"]
