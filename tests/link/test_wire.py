# SPDX-License-Identifier: GPL-2.0-only
"""Replies as the link partner sees them on the wire, and what is written down of each."""

import contextlib
import functools
import random
import socket
import struct
import threading
import time

import numpy as np
import pytest
from pyroute2.iproute import IPRoute

from tests.link.frames import (
    IP_LEN,
    NONE,
    PARTIAL,
    PORT,
    RIGHT,
    TAGS,
    Port,
    assert_answers,
    internet_sum,
)
from tests.link.responding import Responding, wait_until
from xdptstamp.identity import PAYLOAD_BYTES, payload_ids
from xdptstamp.measure.ping_pong import PingPongConfig
from xdptstamp.program import META_DTYPE, META_LEN, META_VERSION
from xdptstamp.sample import NULL

ENODATA, EINVAL, ENOSYS = 61, 22, 38
CSUMS = {4: (RIGHT, PARTIAL, NONE), 6: (RIGHT, PARTIAL)}


# Who turns a request around: the program; or user space, where a NIC fills in checksums.
MAKERS = {
    "native": {"xdp_mode": "native"},
    "skb": {"xdp_mode": "skb"},
    "in user space": {"xdp_mode": "native", "reply_flags": None},
}


@pytest.fixture(scope="module", params=MAKERS.values(), ids=MAKERS)
def answering(request, shared_lab):
    with Responding(shared_lab.ifname, **request.param) as responding:
        yield responding


@pytest.fixture
def port(shared_lab):
    with Port(shared_lab) as opened:
        yield opened


def lengths_to(largest):
    """Payload lengths about the words and chunks in which the program adds bytes up."""
    around = [multiple + step for multiple in (32, 64, 128, 1024) for step in range(-10, 3)]
    return sorted({*range(12), *around, *range(largest - 36, largest + 1)})


def largest_payload(mtu, version, tags):
    # A raw socket takes one 802.1Q tag beyond the MTU, and nothing else.
    beyond = 4 if len(tags) == 1 else 0
    return mtu + beyond - 4 * len(tags) - IP_LEN[version] - 8


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("version", [4, 6])
def test_every_length_is_answered_with_right_checksums(answering, port, version, tags):
    mtu = answering.dut.nic.link().mtu
    for length in lengths_to(largest_payload(mtu, version, tags)):
        payload = random.Random(length).randbytes(length)
        for csum in CSUMS[version]:
            request = port.request(version, payload=payload, tags=tags, csum=csum)
            assert_answers(port.ask(request), request)


@pytest.mark.parametrize(("xdp_mode", "mtu"), [("native", 3498), ("skb", 3818)])
def test_jumbo_packets_are_answered(lab, xdp_mode, mtu):
    with Port(lab) as port:
        set_mtu(lab.ifname, mtu)
        port.call(lambda: set_mtu(port.ifname, mtu))
        with Responding(lab.ifname, xdp_mode=xdp_mode) as responding:
            for version in (4, 6):
                for tags in TAGS.values():
                    largest = largest_payload(mtu, version, tags)
                    for length in (largest - 1, largest):
                        payload = random.Random(length).randbytes(length)
                        request = port.request(version, payload=payload, tags=tags)
                        assert_answers(port.ask(request), request)
            assert responding.stop().counts["answered"] == 12


def set_mtu(ifname, mtu):
    with IPRoute() as ipr:
        ipr.link("set", index=socket.if_nametoindex(ifname), mtu=mtu)


@pytest.mark.parametrize("version", [4, 6])
def test_checksum_that_would_be_zero_is_sent_as_all_ones(answering, port, version):
    plain = port.request(version, payload=b"\0\0")
    missing = int.from_bytes(plain.build()[-4:-2], "big")  # what the payload must add
    payload = struct.pack("!H", missing)
    for csum in (0xFFFF, PARTIAL, NONE)[: len(CSUMS[version])]:
        request = port.request(version, payload=payload, csum=csum)
        reply = port.ask(request)
        assert_answers(reply, request)
        assert reply.udp_csum == 0xFFFF


@pytest.mark.parametrize("version", [4, 6])
def test_reply_lives_as_long_as_any_packet(answering, port, version):
    for ttl in range(256):
        request = port.request(version, ttl=ttl)
        assert_answers(port.ask(request), request)


@pytest.mark.parametrize("version", [4, 6])
def test_padding_behind_the_packet_is_no_part_of_it(answering, port, version):
    request = port.request(version, payload=b"odd")
    port.send(request.build() + b"\xa5" * 17)
    (reply,) = port.replies(1)
    assert_answers(reply, request)


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("version", [4, 6])
def test_a_row_tells_its_packet_by_its_payload(answering, port, version, tags):
    before = answering.num_rows()
    wanted = []
    for length in (0, 3, 23, 24, 25, 1000):
        payload = random.Random(length).randbytes(length)
        port.send(port.request(version, payload=payload, tags=tags).build() + b"\xa5" * 17)
        wanted.append(payload[:PAYLOAD_BYTES].ljust(PAYLOAD_BYTES, b"\0"))
    port.replies(len(wanted))
    rows = np.sort(answering.wait_rows(before + len(wanted)), order="seq")[before:]
    ids = payload_ids(np.frombuffer(b"".join(wanted), np.uint8).reshape(-1, PAYLOAD_BYTES))
    assert sorted(rows["payload_id"].tolist()) == sorted(ids.tolist())
    assert len(set(ids.tolist())) == len(wanted)


@pytest.mark.parametrize("version", [4, 6])
def test_a_udp_socket_gets_its_packets_back(answering, port, shared_lab, version):
    host = shared_lab.local_v4 if version == 4 else shared_lab.local_v6
    with udp_socket(port, version) as client:
        client.connect((host, PORT))
        for length in (0, 1, 2, 25, 1000, 1501 - IP_LEN[version] - 9):
            payload = random.Random(length).randbytes(length)
            client.send(payload)
            assert client.recv(2048) == payload


@pytest.mark.parametrize("version", [4, 6])
def test_segments_of_one_large_send_are_answered_one_by_one(answering, port, shared_lab, version):
    host = shared_lab.local_v4 if version == 4 else shared_lab.local_v6
    with udp_socket(port, version) as client:
        client.connect((host, PORT))
        client.send(b"to learn the MAC address")
        client.recv(2048)
        client.setsockopt(socket.IPPROTO_UDP, 103, 101)  # UDP_SEGMENT
        payload = random.Random(1).randbytes(1000)
        client.send(payload)
        segments = [payload[at : at + 101] for at in range(0, 1000, 101)]
        if answering.dut.program.xdp_mode == "skb" and not shared_lab.is_real:
            segments = [payload]  # which generic XDP sees in one piece; no wire ever would
        assert sorted(client.recv(2048) for _ in segments) == sorted(segments)


@contextlib.contextmanager
def udp_socket(port, version):
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with port.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.settimeout(10)
        yield client


def test_capture_points_are_in_order_on_clock_tai(answering, port):
    first = answering.num_rows()
    sent = []
    for _ in range(50):
        before_ns = time.clock_gettime_ns(time.CLOCK_TAI)
        port.ask(port.request(payload=b"when"))
        sent.append((before_ns, time.clock_gettime_ns(time.CLOCK_TAI)))
    rows = np.sort(answering.wait_rows(first + 50)[first:], order="seq")
    for row, (before_ns, after_ns) in zip(rows, sent, strict=True):
        points = ("rx_xdp_ns", "rx_app_ns", "tx_app_ns", "tx_sw_ns")
        times = [before_ns, *(int(row[name]) for name in points)]
        assert times == sorted(times)
        assert times[-1] <= row["tx_comp_ns"]
        assert row["rx_app_ns"] <= after_ns
    # A veth answers the timestamp kfunc with 0, which is no time.
    assert (rows["rx_hw_ns"] == NULL).all()
    assert (rows["tx_hw_ns"] == NULL).all()


def test_hints_are_what_the_kfuncs_say(answering, port):
    first = answering.num_rows()
    port.ask(port.request())
    row = answering.wait_rows(first + 1)[-1]
    if answering.dut.program.has_hints:
        assert row["rx_hw_errno"] == 0
        assert row["rx_hash"] > 0
        assert row["rx_hash_type"] >= 0
        assert row["rx_hash_errno"] == 0
        assert row["rx_vlan_errno"] in (ENODATA, EINVAL)
    else:
        assert (row["rx_hash"], row["rx_hash_type"]) == (NULL, NULL)
        for name in ("rx_hw_errno", "rx_hash_errno", "rx_vlan_errno"):
            assert row[name] == ENOSYS
    assert (row["rx_vlan_proto"], row["rx_vlan_tci"]) == (NULL, NULL)


def test_meta_ahead_of_the_packet_has_its_version(answering, port):
    first = answering.num_rows()
    request = port.request(6, tags=TAGS["tagged"])
    reply = port.ask(request)
    row = answering.wait_rows(first + 1)[-1]
    # The frame rests until the fill ring comes round to it.
    umem = answering.dut.xsks[row["queue_id"]].umem
    start = int(row["addr"]) - META_LEN
    meta = np.frombuffer(umem.view[start : start + META_LEN], dtype=META_DTYPE)[0]
    assert meta["version"] == META_VERSION
    assert meta["rx_xdp_ns"] == row["rx_xdp_ns"]
    assert (meta["l3_offset"], meta["l4_offset"], meta["ip_version"]) == (18, 58, 6)
    assert struct.pack("=H", meta["udp_csum"]) == struct.pack("!H", reply.udp_csum)


def test_all_queues_answer(answering, port, shared_lab):
    first = answering.num_rows()
    queues = {xsk.queue_id for xsk in answering.dut.xsks}
    if answering.dut.program.xdp_mode == "skb" and not shared_lab.is_real:
        queues = {0}  # to generic XDP a veth has but one queue
    # The partner's Tx queue, which is the DUT's Rx queue on a veth, follows from the ports.
    requests = [port.request(sport=sport) for sport in range(20000, 20064)]
    for request in requests:
        assert_answers(port.ask(request), request)
    rows = answering.wait_rows(first + 64)[first:]
    assert set(rows["queue_id"].tolist()) == queues
    assert len(set(rows["seq"].tolist())) == 64


def test_several_requests_in_flight_each_get_their_reply(answering, port):
    requests = [port.request(4 + i % 2 * 2, sport=30000 + i, payload=b"x" * i) for i in range(200)]
    for request in requests:
        port.send(request.build())
    replies = {reply.dport: reply for reply in port.replies(200)}
    for request in requests:
        assert_answers(replies[request.sport], request)


def test_a_reply_that_completes_late_is_written_down_though_nothing_follows(lab):
    with Port(lab) as port, Responding(lab.ifname) as responding:
        until = time.monotonic() + 0.05

        def reap_late(reap):
            return reap() if time.monotonic() > until else 0

        for responder in responding.responders:
            responder.reap = functools.partial(reap_late, responder.reap)
        port.ask(port.request())
        (row,) = responding.wait_rows(1)
        assert row["tx_sw_ns"] <= row["tx_comp_ns"]


@pytest.mark.parametrize("lab", [1, 2], indirect=True, ids=["one queue", "two queues"])
def test_of_a_burst_larger_than_the_rings_nothing_is_lost_uncounted(lab):
    burst = 20_000
    with Port(lab) as port, Responding(lab.ifname, num_frames=512) as responding:
        num_dropped = port.num_dropped()
        redirected = responding.count_blast(port, port.request().build(), burst)
        num_dropped = port.num_dropped() - num_dropped
        # A frame that the partner's own end dropped may have been sent again.
        assert redirected <= burst <= redirected + num_dropped
        wait_until(lambda: not any(xsk.rx.num_waiting() for xsk in responding.dut.xsks), "all read")
        result = responding.stop()
        replies = port.replies(burst, timeout_s=0.5)
    counts = result.counts
    assert not any(result.counts["unaccounted"].values()), counts
    lost = counts["rx_dropped"] + counts["rx_ring_full"]
    assert counts["received"] + lost == counts["redirected"] == redirected
    assert lost > 0, "the burst was no larger than the rings"
    assert counts["answered"] == counts["received"] == counts["completed"]
    assert len(responding.rows) == counts["received"]
    assert len(replies) == counts["answered"] - counts["dropped_by_kernel"]


@pytest.mark.parametrize("has_replies", [True, False])
def test_books_balance_when_it_ends_in_the_middle_of_a_flood(lab, has_replies):
    measure = PingPongConfig(has_replies=has_replies)
    is_over = threading.Event()
    with Port(lab) as port:
        frame = port.request().build()

        def flood():
            while not is_over.is_set():
                port.blast(frame, 2000)

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            for _ in range(3):
                with Responding(lab.ifname, measure, num_frames=512) as responding:
                    wait_until(lambda: len(responding.rows) > 200, "samples")
                    books = responding.stop().counts
                    assert not any(books["unaccounted"].values()), books
                    assert len(responding.rows) == books["received"]
        finally:
            is_over.set()
            flooding.join()


def test_the_sums_of_this_test_are_those_of_rfc_1071():
    # The example of its section 3; and what the tests above take for granted.
    assert internet_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2
    assert internet_sum(b"\x12") == 0x1200
