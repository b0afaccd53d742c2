# SPDX-License-Identifier: GPL-2.0-only
"""Ten thousand random and mutated frames: each is counted, and answered rightly or not at all.

What to expect of a frame is decided here, from the frame alone. XDPTSTAMP_FUZZ_SEED repeats a run.
"""

import ipaddress
import os
import random
import secrets
import struct
from collections import Counter

import pytest

from tests.link.frames import (
    CTAG,
    NONE,
    PARTIAL,
    PORT,
    RIGHT,
    STAG,
    Port,
    internet_sum,
)
from tests.link.responding import Responding

NUM_FRAMES = 10_000
CHUNK = 250  # fewer than the frames of one socket: none is to be dropped
LONGEST = 1500
EXTENSIONS = {0, 43, 44, 60}
BYTES = (0, 1, 4, 5, 6, 8, 0x11, 0x40, 0x45, 0x60, 0x7F, 0x80, 0x81, 0x88, 0xA8, 0xFE, 0xFF)
WORDS = (0, 1, 7, 8, 9, 19, 20, 28, 0x2000, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, PORT, CTAG, STAG)
PADDING = bytes((17, 0, 1, 4, 0, 0, 0, 0))
FRAGMENT = bytes((17, 0, 0, 1, 0, 0, 0, 1))

PASSED, REFUSED = "passed_other", "refused"


@pytest.mark.parametrize("xdp_mode", ["native", "skb"])
def test_random_frames(lab, xdp_mode):
    seed = int(os.environ.get("XDPTSTAMP_FUZZ_SEED", secrets.randbits(32)))
    print(f"XDPTSTAMP_FUZZ_SEED={seed}")
    num_frames = NUM_FRAMES if xdp_mode == "native" else NUM_FRAMES // 5
    with Port(lab) as port, Responding(lab.ifname, xdp_mode=xdp_mode) as responding:
        frames = Frames(port, random.Random(seed))
        total = Counter()
        for _ in range(num_frames // CHUNK):
            total += send_chunk(port, responding, [frames.make() for _ in range(CHUNK)])
        # Neither is it all the same, nor is it all refused at once.
        assert min(total[kind] for kind in (PASSED, REFUSED, "answered")) > num_frames // 20, total
        last = port.ask(port.request(payload=b"still here"))
        assert last.payload == b"still here"
        counts = responding.stop().counts
        program = responding.counters()
    assert counts["redirected"] == total["answered"] + 1
    assert counts["refused"] == sum(counts["refused_by"].values()) == total[REFUSED]
    assert counts["passed_other"] >= total[PASSED]  # the partner's stack has its own to say
    assert sum(program.values()) == sum(counts[k] for k in ("redirected", "refused")) + sum(
        program[k] for k in ("passed_other", "passed_no_socket")
    )
    lost = counts["rx_dropped"] + counts["rx_ring_full"] + counts["rx_left_in_ring"]
    assert (counts["received"], lost) == (counts["redirected"], 0)
    assert counts["answered"] == counts["completed"] == counts["received"]
    assert len(responding.rows) == counts["received"]


def send_chunk(port, responding, frames):
    """Send frames; compare what was counted and answered with what was to be expected."""
    dut_mac = port.request().dst_mac
    expected = [expect(frame, dut_mac) for frame in frames]
    answers = [reply for reply in expected if reply not in (PASSED, REFUSED)]
    wanted = Counter({kind: expected.count(kind) for kind in (PASSED, REFUSED)})
    wanted["answered"] = len(answers)
    found = in_kinds(responding.count(port, frames))
    if found != +wanted and len(frames) > 1:
        for frame in frames:
            send_chunk(port, responding, [frame])
    assert found == +wanted, [(frame.hex(), expect(frame, dut_mac)) for frame in frames]
    # parse() looks at every length and checksum of a reply.
    replies = [as_tuple(seen) for seen in port.replies(len(answers))]
    assert sorted(replies) == sorted(answers), [frame.hex() for frame in frames]
    return found


def as_tuple(seen):
    macs, addresses = (seen.dst_mac, seen.src_mac), (seen.saddr, seen.daddr)
    return *macs, seen.tags, *addresses, seen.sport, seen.dport, seen.payload, seen.ttl


def in_kinds(grown):
    """The program's counters as the three kinds that this test tells apart."""
    refused = sum(count for name, count in grown.items() if name.startswith("refused"))
    kinds = {
        PASSED: grown.get("passed_other", 0),
        REFUSED: refused,
        "answered": grown.get("redirected", 0),
    }
    assert sum(kinds.values()) == sum(grown.values()), grown
    return +Counter(kinds)


class Frames:
    """Makes frames that are right, nearly right, or nonsense."""

    def __init__(self, port, rng):
        self._rng = rng
        self._good = {version: port.request(version) for version in (4, 6)}

    def make(self):
        """One frame."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.05:
            return rng.randbytes(rng.randrange(14, LONGEST))
        if kind < 0.15:
            macs = self._good[4].dst_mac + self._good[4].src_mac
            proto = rng.choice((0x0800, 0x86DD, CTAG, STAG))
            return macs + struct.pack("!H", proto) + rng.randbytes(rng.randrange(0, 200))
        frame = bytearray(self._request().build())
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
            rng.choice((self._flip, self._set_byte, self._set_word, self._cut, self._extend))(frame)
        if rng.random() < 0.6:
            mend(frame)
        return bytes(frame[:LONGEST])

    def _request(self):
        rng = self._rng
        version = rng.choice((4, 6))
        request = self._good[version].but(
            payload=rng.randbytes(
                rng.choice((0, 1, 2, 3, 4, 18, 31, 64, 200, rng.randrange(1300)))
            ),
            tags=tuple(
                (rng.choice((CTAG, STAG)), rng.randrange(1 << 16))
                for _ in range(rng.choice((0, 0, 0, 1, 2, 3)))
            ),
            sport=rng.randrange(1 << 16),
            csum=rng.choice((RIGHT, RIGHT, PARTIAL, NONE)),
            ttl=rng.randrange(256),
        )
        if rng.random() < 0.85:
            return request
        if version == 4:
            return request.but(options=rng.randbytes(4 * rng.randrange(11)))
        nexthdr, options = rng.choice(
            ((0, PADDING), (60, b"\x2b" + PADDING[1:] + PADDING), (44, FRAGMENT))
        )
        return request.but(nexthdr=nexthdr, options=options)

    def _flip(self, frame):
        at = self._rng.randrange(len(frame))
        frame[at] ^= 1 << self._rng.randrange(8)

    def _set_byte(self, frame):
        at = self._rng.randrange(12, min(len(frame), 90))
        frame[at] = self._rng.choice(BYTES)

    def _set_word(self, frame):
        at = self._rng.randrange(12, max(13, min(len(frame), 90) - 1)) & ~1
        frame[at : at + 2] = struct.pack("!H", self._rng.choice(WORDS))

    def _cut(self, frame):
        del frame[self._rng.randrange(14, len(frame) + 1) :]

    def _extend(self, frame):
        frame += self._rng.randbytes(self._rng.randrange(40))


def mend(frame):
    """Make the checksums of a mutated frame right where it has such headers: it gets further."""
    offset = 14
    while frame[offset - 2 : offset] in (b"\x81\x00", b"\x88\xa8"):
        offset += 4
    head = 20 if frame[offset - 2 : offset] == b"\x08\x00" else 40
    if len(frame) < offset + head + 8:
        return
    ip = frame[offset:]
    if head == 20:
        struct.pack_into("!H", frame, offset + 10, 0)
        struct.pack_into("!H", frame, offset + 10, 0xFFFF - internet_sum(frame[offset:][:20]))
    addresses = ip[12:20] if head == 20 else ip[8:40]
    length = int.from_bytes(ip[head + 4 : head + 6], "big")
    udp = ip[head : head + length]
    if len(udp) >= 8 and any(udp[6:8]):
        udp[6:8] = b"\0\0"
        right = 0xFFFF - internet_sum(addresses + struct.pack("!II", length, 17) + udp) or 0xFFFF
        struct.pack_into("!H", frame, offset + head + 6, right)


def expect(frame, dut_mac):
    """PASSED, REFUSED, or the reply there must be, as a tuple."""
    tags, offset = [], 14
    while frame[offset - 2 : offset] in (b"\x81\x00", b"\x88\xa8") and len(tags) < 2:
        tags.append(struct.unpack_from("!HH", frame.ljust(offset + 4, b"\0"), offset - 2))
        offset += 4
    parsers = {b"\x08\x00": expect_ipv4, b"\x86\xdd": expect_ipv6}
    parser = parsers.get(frame[offset - 2 : offset])
    if frame[:6] != dut_mac or parser is None:
        return PASSED
    found = parser(frame[offset:])
    if found in (PASSED, REFUSED):
        return found
    saddr, daddr, udp = found
    if frame[6] & 1 or saddr == daddr or not (is_host(saddr) and is_host(daddr)):
        return REFUSED
    sport, dport, length, csum = struct.unpack_from("!HHHH", udp.ljust(8, b"\0"))
    is_right = length == len(udp) >= 8 and sport
    if not is_right or not is_csum_fine(saddr, daddr, udp, csum):
        return REFUSED
    return frame[6:12], frame[:6], tuple(tags), daddr, saddr, dport, sport, udp[8:], 64


def expect_ipv4(packet):
    """PASSED, REFUSED, or (source, destination, UDP packet)."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[0] & 15 < 5 or packet[9] != 17:
        return PASSED
    head = (packet[0] & 15) * 4
    frag = int.from_bytes(packet[6:8], "big")
    udp = packet[head:]
    if frag & 0x1FFF or len(udp) < 8 or int.from_bytes(udp[2:4], "big") != PORT:
        return PASSED
    length = int.from_bytes(packet[2:4], "big")
    is_right = head == 20 and not frag & 0x2000 and 20 <= length <= len(packet)
    if not is_right or internet_sum(packet[:20]) != 0xFFFF:
        return REFUSED
    return packet[12:16], packet[16:20], packet[20:length]


def expect_ipv6(packet):
    """PASSED, REFUSED, or (source, destination, UDP packet)."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return PASSED
    kind, offset, num_extensions = packet[6], 40, 0
    while kind in EXTENSIONS and num_extensions < 4:
        header = packet[offset : offset + 8]
        if len(header) < 8 or (kind == 44 and int.from_bytes(header[2:4], "big") >> 3):
            return PASSED
        offset += 8 if kind == 44 else 8 * (header[1] + 1)
        kind = header[0]
        num_extensions += 1
    udp = packet[offset:]
    if kind != 17 or len(udp) < 8 or int.from_bytes(udp[2:4], "big") != PORT:
        return PASSED
    length = int.from_bytes(packet[4:6], "big")
    if num_extensions or length > len(packet) - 40:
        return REFUSED
    return packet[8:24], packet[24:40], packet[40 : 40 + length]


def is_host(packed):
    """Whether one host may have this address on a wire."""
    address = ipaddress.ip_address(packed)
    if address.version == 6:
        is_mapped = address.ipv4_mapped is not None
        is_special = address.is_unspecified or address.is_loopback or address.is_multicast
        return not (is_mapped or is_special)
    return 0 < packed[0] < 224 and packed[0] != 127


def is_csum_fine(saddr, daddr, udp, csum):
    """Whether a UDP checksum is right, partial, or left out where that is allowed."""
    pseudo = saddr + daddr + struct.pack("!II", len(udp), 17)
    if not csum:
        return len(saddr) == 4
    return internet_sum(pseudo + udp) == 0xFFFF or csum == internet_sum(pseudo)
