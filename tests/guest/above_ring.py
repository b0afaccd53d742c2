# SPDX-License-Identifier: GPL-2.0-only
"""Has as many packets in flight as xdptstamp would, and then more than it ever would.

``above_ring.py IFNAME COUNT``: prints as JSON how many completed of both, the DUT's notes, and what
``xdptstamp caps`` finds of the interface.
"""

import contextlib
import json
import sys
import time
from dataclasses import asdict

from xdptstamp.assess import assess_interface
from xdptstamp.caps import read_interface
from xdptstamp.dut import DutConfig, acquire
from xdptstamp.measure.stop import Stop

FRAMES = 1024
LENGTH = 60
PATIENCE_S = 3


def main(ifname, count):
    """Submit all at once, and wait for what comes."""
    config = DutConfig(
        ifname, queues=(0,), port=None, num_frames=2 * FRAMES, num_tx_frames=FRAMES, is_sink=True
    )
    with contextlib.closing(Stop()) as stop, acquire(config, stop) as dut:
        (xsk,) = dut.xsks
        fitting = complete(xsk, dut.capacity)
        above = complete(xsk, count)
        print(json.dumps({"capacity": dut.capacity, "fitting": fitting, "above": above}))
        print(json.dumps(dut.notes))
        findings = assess_interface(read_interface(dut.nic)).findings
    print(json.dumps([asdict(finding) for finding in findings]))


def complete(xsk, count):
    """Send so many at once; how many completions come."""
    start, got = xsk.tx.reserve(count)
    assert got == count
    for entry, number in zip(xsk.tx.entries(start, count), range(count), strict=True):
        address = number * xsk.umem.frame_size
        xsk.umem.view[address : address + 6] = b"\x02\0\0\0\0\x01"
        xsk.tx.descs[entry] = (address, LENGTH, 0)
    xsk.tx.submit(count)
    num_done, last = 0, time.monotonic()
    while num_done < count and time.monotonic() - last < PATIENCE_S:
        xsk.wakeup_tx()
        _, done = xsk.comp.peek(FRAMES)
        xsk.comp.release(done)
        last = time.monotonic() if done else last
        num_done += done
    return num_done


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
