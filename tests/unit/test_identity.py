# SPDX-License-Identifier: GPL-2.0-only
"""The number that says which packet a row is of."""

import numpy as np

from xdptstamp.identity import PAYLOAD_BYTES, payload_ids
from xdptstamp.measure._ping_payload import Payload


def ids_of(*payloads):
    whole = b"".join(payload[:PAYLOAD_BYTES].ljust(PAYLOAD_BYTES, b"\0") for payload in payloads)
    return payload_ids(np.frombuffer(whole, np.uint8).reshape(-1, PAYLOAD_BYTES)).tolist()


def test_a_number_is_the_same_on_every_machine():
    # Runs on disk hold these numbers: what makes them may not change.
    assert ids_of(b"", b"xdp", bytes(range(24))) == [
        0,
        3_718_090_610_226_153_048,
        7_658_871_020_156_774_526,
    ]


def test_the_requests_of_ping_all_differ_also_without_a_time():
    payload = Payload(0x1234_5678_9ABC, 18)
    requests = []
    for seq in range(10_000):
        payload.write(seq, 0)
        requests.append(bytes(payload.data))
    ids = ids_of(*requests)
    assert len(set(ids)) == 10_000
    assert min(ids) >= 0


def test_any_bit_that_counts_makes_a_difference_and_no_other():
    base = bytes(range(1, 33))
    (own,) = ids_of(base)
    for bit in range(8 * len(base)):
        other = bytearray(base)
        other[bit // 8] ^= 1 << bit % 8
        assert (ids_of(bytes(other)) == [own]) == (bit // 8 >= PAYLOAD_BYTES), bit


def test_no_packets_have_no_numbers():
    assert payload_ids(np.empty((0, PAYLOAD_BYTES), np.uint8)).tolist() == []
