# SPDX-License-Identifier: GPL-2.0-only
"""Each reason for which the BPF program refuses a request, provoked and counted exactly once."""

import socket

import pytest

from tests.link.frames import NONE, TAGS, Port
from tests.link.responding import Responding

MF = 0x2000

# IPv6 extension headers; the first byte is the kind of what follows (17: UDP).
PADDING = bytes((17, 0, 1, 4, 0, 0, 0, 0))
LONG_PADDING = bytes((17, 1, 1, 12)) + bytes(12)
ROUTING = bytes((17, 0, 253, 0, 0, 0, 0, 0))
FIRST_FRAGMENT = bytes((17, 0, 0, 1, 0, 0, 0, 1))
ONLY_FRAGMENT = bytes((17, 0, 0, 0, 0, 0, 0, 1))
LATER_FRAGMENT = bytes((17, 0, 0, 8, 0, 0, 0, 1))
HOP_BY_HOP, ROUTING_KIND, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60

# IPv4 source addresses no reply could go to.
NO_HOSTS = (
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.254",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
)

# (the counter of it, IP version, what is wrong with the request)
REFUSED = {
    "first fragment": ("refused_fragment", 4, {"frag": MF}),
    "later fragment": ("passed_other", 4, {"frag": MF | 185}),
    "last fragment": ("passed_other", 4, {"frag": 185}),
    "first fragment with a small one's flag": ("refused_fragment", 4, {"frag": MF | 0x4000}),
    "first fragment 6": (
        "refused_fragment",
        6,
        {"nexthdr": FRAGMENT, "options": FIRST_FRAGMENT},
    ),
    "only fragment 6": ("refused_fragment", 6, {"nexthdr": FRAGMENT, "options": ONLY_FRAGMENT}),
    "later fragment 6": ("passed_other", 6, {"nexthdr": FRAGMENT, "options": LATER_FRAGMENT}),
    "IP options": ("refused_ip_options", 4, {"options": b"\1\1\1\1"}),
    "most IP options": ("refused_ip_options", 4, {"options": b"\1" * 40}),
    "hop-by-hop": ("refused_ip_options", 6, {"nexthdr": HOP_BY_HOP, "options": PADDING}),
    "routing": ("refused_ip_options", 6, {"nexthdr": ROUTING_KIND, "options": ROUTING}),
    "destination options": (
        "refused_ip_options",
        6,
        {"nexthdr": DESTINATION_OPTIONS, "options": LONG_PADDING},
    ),
    "four extension headers": (
        "refused_ip_options",
        6,
        {"nexthdr": 60, "options": 3 * (b"\x3c" + PADDING[1:]) + LONG_PADDING},
    ),
    "more extension headers than anybody uses": (
        "passed_other",
        6,
        {"nexthdr": 60, "options": 4 * (b"\x3c" + PADDING[1:]) + PADDING},
    ),
    "authentication header": ("passed_other", 6, {"nexthdr": 51, "options": bytes((17, 4)) * 12}),
    "IP checksum": ("refused_ip_csum", 4, {"ip_csum_flip": 1}),
    "IP checksum, other byte": ("refused_ip_csum", 4, {"ip_csum_flip": 0x8000}),
    "IP length beyond the packet": ("refused_ip_length", 4, {"ip_len": 33}),
    "greatest IP length": ("refused_ip_length", 4, {"ip_len": 0xFFFF}),
    "IP length below its header": ("refused_ip_length", 4, {"ip_len": 19}),
    "IP length 0": ("refused_ip_length", 4, {"ip_len": 0}),
    "IP length of the header alone": ("refused_udp_length", 4, {"ip_len": 20}),
    "IP length within the UDP header": ("refused_udp_length", 4, {"ip_len": 27}),
    "IP payload length beyond the packet": ("refused_ip_length", 6, {"ip_len": 13}),
    "IP payload length 0": ("refused_udp_length", 6, {"ip_len": 0}),
    "UDP length above": ("refused_udp_length", 4, {"udp_len": 13}),
    "UDP length below": ("refused_udp_length", 4, {"udp_len": 11}),
    "UDP length below its header": ("refused_udp_length", 4, {"udp_len": 7, "ip_len": 27}),
    "UDP length 0": ("refused_udp_length", 4, {"udp_len": 0}),
    "UDP length above 6": ("refused_udp_length", 6, {"udp_len": 13}),
    "UDP length below its header 6": ("refused_udp_length", 6, {"udp_len": 7, "ip_len": 7}),
    "UDP length 0 6": ("refused_udp_length", 6, {"udp_len": 0}),
    "UDP checksum": ("refused_udp_csum", 4, {"csum": 0x1234}),
    "UDP checksum 6": ("refused_udp_csum", 6, {"csum": 0x1234}),
    "no UDP checksum 6": ("refused_udp_csum", 6, {"csum": NONE}),
    "source port 0": ("refused_source", 4, {"sport": 0}),
    "source port 0 6": ("refused_source", 6, {"sport": 0}),
    "multicast source MAC": ("refused_source", 4, {"src_mac": bytes((3, 0, 0, 0, 0, 1))}),
    "broadcast source MAC": ("refused_source", 6, {"src_mac": b"\xff" * 6}),
    **{
        f"source {address}": ("refused_source", 4, {"saddr": socket.inet_aton(address)})
        for address in NO_HOSTS
    },
    **{
        f"source {address}": (
            "refused_source",
            6,
            {"saddr": socket.inet_pton(socket.AF_INET6, address)},
        )
        for address in ("::", "::1", "ff02::1", "ff0e::1", "::ffff:198.18.0.2")
    },
    **{
        f"destination {address}": ("refused_destination", 4, {"daddr": socket.inet_aton(address)})
        for address in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255")
    },
    **{
        f"destination {address}": (
            "refused_destination",
            6,
            {"daddr": socket.inet_pton(socket.AF_INET6, address)},
        )
        for address in ("::", "::1", "ff02::1")
    },
}


@pytest.fixture(scope="module")
def answering(shared_lab):
    with Responding(shared_lab.ifname) as responding:
        yield responding


@pytest.fixture
def port(shared_lab):
    with Port(shared_lab) as opened:
        yield opened


@pytest.mark.parametrize(("counter", "version", "changes"), REFUSED.values(), ids=REFUSED)
def test_refused_and_counted_once(answering, port, counter, version, changes):
    for tags in TAGS.values():
        good = port.request(version)
        bad = good.but(tags=tags, sport=4711).but(**changes)
        assert answering.count(port, [bad.build(), good.build()]) == {counter: 1, "redirected": 1}
        (reply,) = port.replies(1)
        assert reply.dport == good.sport, "the refused packet was answered"


@pytest.mark.parametrize("version", [4, 6])
def test_a_request_from_our_own_address_is_refused(answering, port, version):
    request = port.request(version)
    frame = request.but(saddr=request.daddr).build()
    assert answering.count(port, [frame]) == {"refused_source": 1}


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("version", [4, 6])
def test_headers_cut_at_every_byte(answering, port, version, tags):
    request = port.request(version, tags=tags, payload=b"1234567")
    frame = request.build()
    headers = request.l3_offset + (28 if version == 4 else 48)
    # The kernel sends no frame that lacks part of its Ethernet header.
    cut_before_udp = [frame[:length] for length in range(14, headers)]
    cut_in_payload = [frame[:length] for length in range(headers, len(frame))]
    assert answering.count(port, cut_before_udp) == {"passed_other": len(cut_before_udp)}
    assert answering.count(port, cut_in_payload) == {"refused_ip_length": len(cut_in_payload)}
    assert answering.count(port, [frame]) == {"redirected": 1}
    assert len(port.replies(2, timeout_s=0.1)) == 1
