# SPDX-License-Identifier: GPL-2.0-only
"""Send stamped packets with one way of registering a UMEM; print what came back as JSON.

Run by test_libxdp_new.py, partly with another Debian's Python and libxdp: it imports nothing but
the standard library, NumPy and the parts of xdptstamp that need no more.
"""

import json
import sys
import time

from xdptstamp import packet, ring, txmd
from xdptstamp.errors import XdptstampError
from xdptstamp.umem import Umem
from xdptstamp.xsk import Xsk, XskConfig

BATCH = 32
LIMIT_NS = 10_000_000_000


def send_batch(xsk, umem, first, data):
    """Send one batch and wait until the kernel is done with it; returns one row per packet."""
    start, count = xsk.tx.reserve(BATCH)
    assert count == BATCH
    addrs = [umem.tx_addr((first + number) % umem.num_frames) for number in range(BATCH)]
    for addr in addrs:
        txmd.write_request(umem.view, addr - umem.tx_metadata_len, txmd.TIMESTAMP)
        umem.view[addr : addr + len(data)] = data
    descs = xsk.tx.descs
    for entry, addr in zip(xsk.tx.entries(start, count), addrs, strict=True):
        descs[entry] = (addr, len(data), txmd.OPTION)
    submitted_ns = time.clock_gettime_ns(time.CLOCK_TAI)
    xsk.tx.submit(count)
    rows = []
    deadline_ns = time.monotonic_ns() + LIMIT_NS
    while len(rows) < BATCH and time.monotonic_ns() < deadline_ns:
        xsk.wakeup_tx()
        rows += read_completions(xsk, umem, submitted_ns)
    assert sorted(row["addr"] for row in rows) == sorted(addrs)
    return rows


def read_completions(xsk, umem, submitted_ns):
    start, count = xsk.comp.peek(BATCH)
    completed_ns = time.clock_gettime_ns(time.CLOCK_TAI)
    rows = [
        {
            "addr": addr,
            "stamp_ns": txmd.read_stamp(umem.view, addr - umem.tx_metadata_len),
            "submitted_ns": submitted_ns,
            "completed_ns": completed_ns,
        }
        for addr in map(int, xsk.comp.addrs[xsk.comp.entries(start, count)])
    ]
    xsk.comp.release(count)
    return rows


def run(asked):
    """Do what ``asked`` says; returns what to print."""
    if asked["access"] == "helpers":
        ring.uses_direct_access = lambda: False
    umem = Umem(num_frames=128, tx_metadata_len=asked["tx_metadata_len"])
    sizes = {"rx_size": 64, "tx_size": 64, "fill_size": 64}
    config = XskConfig(registration=asked["registration"], **sizes)
    data = packet.build_udp(
        tuple(bytes.fromhex(mac) for mac in asked["macs"]),
        tuple(asked["addresses"]),
        (40000, 9),
        b"x" * 100,
    )
    rows, filled = [], []
    # Twice: the first socket must leave the queue free.
    for half in range(2):
        frames = range(BATCH, 2 * BATCH)
        with Xsk(umem, asked["ifname"], asked["queue_id"], config, rx_frames=frames) as xsk:
            filled.append((xsk.fill.addrs[:BATCH].tolist(), xsk.fill.num_waiting()))
            filled[-1] += xsk.fill.reserve(asked["num_batches"])
            for number in range(asked["num_batches"] // 2):
                rows += send_batch(xsk, umem, (2 * number + half) * BATCH, data)
            statistics = xsk.statistics()
            del xsk.tx, xsk.comp, xsk.fill  # views into the rings
    return {
        "python": sys.version_info[:2],
        "statistics": statistics,
        "rows": rows,
        "filled": filled,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(run(json.loads(sys.argv[1]))))
    except XdptstampError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
