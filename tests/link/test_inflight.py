# SPDX-License-Identifier: GPL-2.0-only
"""Packets in flight on a veth: each completes once, and none that was not sent keeps a stamp."""

import contextlib
import os
import select
import socket
import subprocess
import time

import pytest

from tests.link.running import wait_carrier
from xdptstamp import packet, stamp, txmd
from xdptstamp._sys import netns
from xdptstamp.measure.inflight import InFlight
from xdptstamp.nic import Nic
from xdptstamp.sample import NULL, Cause
from xdptstamp.umem import Umem
from xdptstamp.xsk import Xsk, XskConfig

HAS_REAL_NIC = bool(os.environ.get("NETIF"))
ETHERTYPE = 0x88B5  # for experiments: no stack answers it
LIMIT_S = 20
SO_RCVBUFFORCE = 33  # linux/socket.h; the limit of net.core.rmem_max is too low
HEAD = b"\xff" * 6 + b"\2\0\0\0\0\1" + ETHERTYPE.to_bytes(2, "big")
FOREVER = 1 << 62

pytestmark = pytest.mark.skipif(HAS_REAL_NIC, reason="looks at the partner's end of a veth pair")


class Partner:
    """The far end of the link: its state, and the frames it gets."""

    def __init__(self, link):
        self._namespace = link.environ["REMOTE_ARGS"]
        (self.ifname,) = netns.call_inside(
            self._namespace, lambda: [name for _, name in socket.if_nameindex() if name != "lo"]
        )
        self._capture = netns.call_inside(self._namespace, self._open)

    def _open(self):
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        capture.bind((self.ifname, ETHERTYPE))
        return capture

    def set_link(self, state):
        netns.call_inside(self._namespace, lambda: set_link(self.ifname, state))
        self._capture.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # ENETDOWN: known

    def numbers(self, count):
        """The numbers of the next frames; an error if they do not come."""
        found = []
        while len(found) < count:
            assert select.select([self._capture], [], [], LIMIT_S)[0], f"only {len(found)}"
            found.append(int.from_bytes(self._capture.recv(4096)[14:18], "big"))
        return found

    def is_silent(self):
        return not select.select([self._capture], [], [], 0)[0]

    def close(self):
        self._capture.close()


def set_link(ifname, state):
    subprocess.run(("ip", "link", "set", ifname, state), check=True)


@pytest.fixture
def partner(shared_lab):
    """The far end of the module's link; its link is up again after the test."""
    with contextlib.closing(Partner(shared_lab)) as far:
        yield far
        far.set_link("up")
        wait_carrier(Nic(shared_lab.ifname), LIMIT_S)


@pytest.fixture
def flight(shared_lab):
    """Small rings, all of them to be filled; drained at the end."""
    config = XskConfig(rx_size=64, tx_size=64)
    with Xsk(Umem(256), shared_lab.ifname, 0, config) as xsk:
        opened = InFlight(xsk, 9999)
        yield opened
        drain(opened)


def send(flight, numbers, flags=txmd.TIMESTAMP, length=60):
    """Packets that carry their numbers, from the frames of these numbers."""
    umem, packets = flight.xsk.umem, []
    for number in numbers:
        addr = umem.tx_addr(number % umem.num_frames)
        data = (HEAD + number.to_bytes(4, "big")).ljust(length, b"\0")
        umem.view[addr : addr + length] = data
        txmd.write_request(umem.view, addr - umem.tx_metadata_len, flags, 14, 6)
        packets.append((addr, length))
    flight.send(packets, txmd.OPTION if flags else 0)


def drain(flight):
    """Reap until nothing is pending, as at the end of every measurement."""
    deadline = time.monotonic() + LIMIT_S
    while flight.num_pending:
        if not flight.reap() and flight.needs_kick:
            flight.kick()
        assert time.monotonic() < deadline, f"{flight.num_pending} never completed"


def take(flight):
    """Frame to what is said of its stamp, of all that completed; None for no stamp."""
    frames, done = flight.take_completed([])
    stamps, causes = stamp.judge(stamp.StampRules(), done)
    triples = zip(frames.tolist(), stamps.tolist(), causes.tolist(), strict=True)
    return {
        frame: (None if value == NULL else value, Cause(cause)) for frame, value, cause in triples
    }


def causes_of(outcomes):
    return {frame: cause for frame, (_, cause) in outcomes.items()}


def assert_all_stamped(outcomes, frames):
    assert sorted(outcomes) == sorted(frames)
    for value, cause in outcomes.values():
        assert value is not None
        assert cause == Cause.NONE


@pytest.mark.parametrize("budget", [None, 256], ids=["32", "256"])
def test_more_than_the_tx_ring_holds_goes_out_and_completes_once(shared_lab, partner, budget):
    total = 5000
    config = XskConfig(tx_size=256, max_tx_skb_budget=budget)
    with Xsk(Umem(512), shared_lab.ifname, 0, config) as xsk:
        if budget and xsk.max_tx_skb_budget != budget:
            pytest.skip("this kernel has no XDP_MAX_TX_SKB_BUDGET (v6.17)")
        flight = InFlight(xsk, 9999)
        assert flight.capacity == 256
        sent, stamped, arrived = 0, 0, []
        while stamped < total:
            count = min(flight.num_free, total - sent)
            if count:
                send(flight, range(sent, sent + count))
                sent += count
            flight.reap()
            outcomes = take(flight)
            assert_all_stamped(outcomes, outcomes)
            stamped += len(outcomes)
            arrived += partner.numbers(sent - len(arrived))
        assert arrived == list(range(total))
        counts = flight.counts
        assert (counts.submitted, counts.completed) == (total, total)
        assert (counts.lost, counts.completed_unexpected, counts.dropped_by_kernel) == (0, 0, 0)
        assert counts.wakeup_errors == {}
        assert xsk.statistics()["tx_invalid_descs"] == 0
        assert flight.num_pending == flight.num_completed == 0


@pytest.mark.parametrize("num", [1, 5, 64])
def test_with_the_peer_down_all_are_invalid(flight, partner, num):
    partner.set_link("down")
    send(flight, range(num))
    drain(flight)
    assert take(flight) == dict.fromkeys(range(num), (None, Cause.INVALID))
    assert flight.counts.dropped_by_kernel == num
    assert flight.counts.wakeup_errors == {}
    partner.set_link("up")
    wait_carrier(Nic(flight.xsk.ifname), LIMIT_S)
    send(flight, range(num))
    drain(flight)
    assert_all_stamped(take(flight), range(num))
    assert partner.numbers(num) == list(range(num))
    assert partner.is_silent()
    assert flight.counts.dropped_by_kernel == num


def test_one_after_the_other_with_the_peer_down(flight, partner):
    partner.set_link("down")
    for number in range(100):  # the ring wraps
        send(flight, [number])
        drain(flight)
        assert take(flight) == {number: (None, Cause.INVALID)}
    assert flight.counts.dropped_by_kernel == 100
    assert partner.is_silent()


def test_packets_beyond_the_mtu_are_told_from_the_others(flight, partner):
    too_long = (3, 4, 20)
    for number in range(24):
        send(flight, [number], length=1600 if number in too_long else 60)
    drain(flight)
    outcomes = take(flight)
    assert {frame for frame, (value, _) in outcomes.items() if value is None} == set(too_long)
    assert {causes_of(outcomes)[frame] for frame in too_long} == {Cause.INVALID}
    assert partner.numbers(21) == [number for number in range(24) if number not in too_long]
    assert partner.is_silent()


def test_a_checksum_request_alone_has_neither_stamp_nor_cause(flight, shared_lab):
    umem = flight.xsk.umem
    addresses = ((shared_lab.local_v4, shared_lab.remote_v4),) * 2 + (
        (shared_lab.local_v6, shared_lab.remote_v6),
    )
    macs, packets, starts = (b"\xff" * 6, b"\2\0\0\0\0\1"), [], (34, 34, 54)
    for frame, (pair, start) in enumerate(zip(addresses, starts, strict=True)):
        addr = umem.tx_addr(frame)
        data = packet.build_udp(macs, pair, (40000, 9), b"x" * (30 + frame))
        umem.view[addr : addr + len(data)] = data
        txmd.write_request(umem.view, addr - 24, txmd.CHECKSUM, start, packet.UDP_CSUM_OFFSET)
        packets.append((addr, len(data)))
    flight.send(packets, txmd.OPTION)
    drain(flight)
    fields = [int.from_bytes(umem.view[addr - 16 : addr - 12], "little") for addr, _ in packets]
    assert fields == [393250, 393250, 393270]  # what others print as times
    assert take(flight) == dict.fromkeys(range(3), (None, Cause.NONE))


def test_a_checksum_and_a_stamp_can_be_asked_for_together(flight):
    send(flight, range(3), txmd.TIMESTAMP | txmd.CHECKSUM)
    drain(flight)
    assert_all_stamped(take(flight), range(3))


def test_without_a_request_a_used_frame_shows_no_old_stamp(flight, partner):
    send(flight, range(64))
    drain(flight)
    assert_all_stamped(take(flight), range(64))
    send(flight, range(64), flags=0)
    drain(flight)
    assert take(flight) == dict.fromkeys(range(64), (None, Cause.NONE))
    # Nor where the option asks and the flag does not.
    umem = flight.xsk.umem
    for frame in range(64):
        txmd.write_request(umem.view, umem.tx_addr(frame) - 24, 0)
    flight.send([(umem.tx_addr(frame), 60) for frame in range(64)], txmd.OPTION)
    drain(flight)
    assert take(flight) == dict.fromkeys(range(64), (None, Cause.NONE))
    assert partner.numbers(192) == list(range(64)) * 3


def test_what_waits_in_the_ring_of_a_link_that_is_down_comes_back(lab):
    with Xsk(Umem(128), lab.ifname, 0, XskConfig(tx_size=64)) as xsk:
        flight = InFlight(xsk, 9999)
        set_link(lab.ifname, "down")
        send(flight, range(64))
        assert flight.counts.wakeup_errors == {"ENETDOWN": 1}
        assert flight.needs_kick
        assert flight.reap() == 0
        assert sorted(flight.give_up(FOREVER).tolist()) == list(range(64))
        # They hold the ring still.
        assert (flight.num_pending, flight.num_free) == (0, 0)
        causes = stamp.causes_of_uncompleted(
            flight.submit_number[:64], flight.last_completed, is_drained=False
        )
        assert set(causes.tolist()) == {Cause.NOT_COMPLETED}

        set_link(lab.ifname, "up")
        wait_carrier(Nic(lab.ifname), LIMIT_S)
        flight.kick()
        assert not flight.needs_kick
        assert flight.num_free == 64
        returned = []
        deadline = time.monotonic() + LIMIT_S
        while len(returned) < 64:
            flight.reap()
            returned += flight.take_returned()
            assert time.monotonic() < deadline, f"{len(returned)} of 64 came back"
        assert sorted(returned) == list(range(64))
        assert take(flight) == {}
        counts = flight.counts
        assert (counts.submitted, counts.completed, counts.lost) == (64, 0, 64)
        assert counts.completed_after_lost == 64

        send(flight, range(64))
        drain(flight)
        assert_all_stamped(take(flight), range(64))
        assert counts.submitted == counts.completed + counts.lost


def test_a_socket_without_need_wakeup_sends(shared_lab, partner):
    config = XskConfig(tx_size=64, is_need_wakeup=False)
    with Xsk(Umem(64), shared_lab.ifname, 0, config) as xsk:
        flight = InFlight(xsk, 64)
        send(flight, range(40))
        drain(flight)
        assert_all_stamped(take(flight), range(40))
        assert partner.numbers(40) == list(range(40))
