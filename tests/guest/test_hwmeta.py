# SPDX-License-Identifier: GPL-2.0-only
"""``ping-pong --format hwmeta`` on igc: the log of the patch that brought the stamps."""

import re

from tests.guest.bench import FLOW, rows_of

COUNT = 5
STAMP = r"\d{19} \(sec:\d{10}\.\d{4}\)"
DELTA = r"sec:-?\d+\.\d{4} \(-?\d+\.\d{3} usec\)"
# A packet in the description of Linux commit 15fd021bc427 ("igc: Add Tx hardware timestamp request
# for AF_XDP zero-copy packet"): these lines in this order.
BLOCK = (
    r"poll: 1 \(0\) skip=\d+ fail=\d+ redir=\d+",
    r"xsk_ring_cons__peek: 1",
    r"0x[0-9a-f]+: rx_desc\[\d+\]->addr=[0-9a-f]+ addr=[0-9a-f]+ comp_addr=[0-9a-f]+ EoP",
    r"rx_hash: 0x[0-9A-F]{1,8} with RSS type:0x1",
    rf"HW RX-time:   {STAMP} delta to User RX-time {DELTA}",
    rf"XDP RX-time:   {STAMP} delta to User RX-time {DELTA}",
    r"No rx_vlan_tci or rx_vlan_proto, err=-95",
    r"0x[0-9a-f]+: ping-pong with csum=[0-9a-f]{4} \(want [0-9a-f]{4}\) "
    r"csum_start=34 csum_offset=6",
    r"0x[0-9a-f]+: complete tx idx=\d+ addr=[0-9a-f]+",
    rf"HW TX-complete-time:   {STAMP} delta to User TX-complete-time {DELTA}",
    rf"XDP RX-time:   {STAMP} delta to User TX-complete-time {DELTA}",
    rf"HW RX-time:   {STAMP} delta to HW TX-complete-time {DELTA}",
    r"0x[0-9a-f]+: complete rx idx=\d+ addr=[0-9a-f]+",
)


def test_the_lines_are_those_of_the_log_in_their_order(bench):
    run, text = bench.measure(lambda: bench.ask("ask", COUNT, FLOW), "--format", "hwmeta")
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if re.fullmatch(BLOCK[0], line)]
    assert len(starts) == COUNT + 1 == len(rows_of(run))
    for start in starts:
        for line, pattern in zip(lines[start:], BLOCK, strict=False):
            assert re.fullmatch(pattern, line), (line, pattern)
