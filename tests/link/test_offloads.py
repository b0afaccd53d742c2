# SPDX-License-Identifier: GPL-2.0-only
"""What a NIC takes off a request, and what it is to put on its reply: tags and checksums."""

import array
import contextlib
import fcntl
import random
import socket
import struct

import numpy as np
import pytest
from pyroute2.iproute import IPRoute

from tests.link.frames import CTAG, IP_LEN, PARTIAL, STAG, TAGS, Port, assert_answers
from tests.link.responding import Responding, wait_until
from xdptstamp import dut, features
from xdptstamp.measure.responder import ReplyConfig, Responder
from xdptstamp.sample import NULL

ENODATA, EINVAL = 61, 22
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17


@contextlib.contextmanager
def bridge_behind(port):
    """A bridge in front of the partner's end, and a socket that sends into it.

    A bridge takes the outer tag off each frame and sends it on beside the packet, as a NIC that
    strips tags would hand it over.
    """
    members = [port.ifname, "xdpt-b1"]

    def build():
        with IPRoute() as ipr:
            ipr.link("add", kind="bridge", ifname="xdpt-br")
            ipr.link("add", kind="veth", ifname="xdpt-b0", peer={"ifname": "xdpt-b1"})
            bridge = socket.if_nametoindex("xdpt-br")
            for name in members:
                ipr.link("set", index=socket.if_nametoindex(name), master=bridge)
            for name in ("xdpt-br", "xdpt-b0", "xdpt-b1"):
                ipr.link("set", index=socket.if_nametoindex(name), state="up")
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("xdpt-b0", 0))
        return sender

    with port.call(build) as sender:
        wait_until(lambda: port.call(are_forwarding), "a bridge that forwards")
        yield sender


def are_forwarding():
    with IPRoute() as ipr:
        links = [link for link in ipr.get_links() if link.get("ifname") != "lo"]
    return all(link.get("operstate") == "UP" for link in links)


@pytest.mark.parametrize("version", [4, 6])
def test_a_tag_beside_the_packet_comes_back(lab, version):
    if lab.is_real:
        pytest.skip("the bridge that takes tags off stands on a veth")
    with Port(lab) as port, bridge_behind(port) as sender, Responding(lab.ifname) as responding:
        for tags in TAGS.values():
            request = port.request(version, tags=tags, payload=b"tag")
            sender.send(request.build())
            (reply,) = port.replies(1)
            assert_answers(reply, request)
        rows = np.sort(responding.wait_rows(3), order="seq")
    assert rows["rx_vlan_proto"].tolist() == [NULL, CTAG, STAG]
    assert rows["rx_vlan_tci"].tolist() == [NULL, 0xB005, 0x0007]
    assert rows["rx_vlan_errno"].tolist()[1:] == [0, 0]
    assert rows["rx_vlan_errno"][0] in (ENODATA, EINVAL)
    # What is written down is the packet as it was sent.
    length = 14 + IP_LEN[version] + 8 + 3
    assert rows["len"].tolist() == [length, length + 4, length + 8]
    assert rows["tx_csum_start"].tolist() == [length - 11, length - 7, length - 3]
    assert (rows["tx_csum"] == rows["tx_csum_want"]).all()


def test_skb_mode_says_that_it_cannot_see_such_a_tag(lab):
    with Responding(lab.ifname, xdp_mode="skb") as responding:
        assert any("VLAN tag" in note and "skb mode" in note for note in responding.dut.notes)
    with Responding(lab.ifname) as responding:
        assert not any("VLAN" in note for note in responding.dut.notes)


def test_a_driver_that_gives_no_tag_is_named(lab, monkeypatch):
    timestamp_and_hash = features.from_masks(3, None, 3, None)
    monkeypatch.setattr(dut, "read_features", lambda ifindex: timestamp_and_hash)
    with Responding(lab.ifname) as responding:
        assert any(
            "VLAN tag" in note and "the driver does not give it" in note
            for note in responding.dut.notes
        )


@pytest.mark.parametrize("version", [4, 6])
def test_checksum_left_to_the_nic(lab, version):
    # Copy mode takes the request for a checksum as zero-copy mode does. Where the interface cannot
    # do it, the kernel does, just as it is told: over these bytes, into that field.
    set_tx_checksumming(lab.ifname, is_on=False)
    with (
        Port(lab) as port,
        bridge_behind(port) as sender,
        dut.acquire(dut.DutConfig(lab.ifname)) as device,
    ):
        numbers, rules = [0], device.stamp_rules()
        responders = [
            Responder(xsk, device.capacity, ReplyConfig(is_csum_offloaded=True), rules, numbers)
            for xsk in device.xsks
        ]
        for xsk in device.xsks:
            device.program.add_socket(xsk.queue_id, xsk.fd)
        for tags in TAGS.values():
            for length in (0, 1, 33, 1000):
                payload = random.Random(length).randbytes(length)
                request = port.request(version, tags=tags, payload=payload)
                sender.send(request.build())
                wait_until(lambda: sum(r.serve(1) for r in responders), "the request")
                wait_until(lambda: sum(r.reap() for r in responders), "the completion")
                (reply,) = port.replies(1)
                assert_answers(reply, request)
                (row,) = np.concatenate([responder.harvest([]) for responder in responders])
                assert row["tx_csum_want"] == reply.udp_csum
                # The sum of the pseudo header is what the NIC is to add the rest to.
                partial = int.from_bytes(
                    request.but(csum=PARTIAL).build()[-length - 2 :][:2], "big"
                )
                assert row["tx_csum"] == partial


def set_tx_checksumming(ifname, *, is_on):
    value = array.array("I", [ETHTOOL_STXCSUM, is_on])
    request = struct.pack("16sQ", ifname.encode(), value.buffer_info()[0]).ljust(40, b"\0")
    with socket.socket() as control:
        fcntl.ioctl(control, SIOCETHTOOL, request)
