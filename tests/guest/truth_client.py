# SPDX-License-Identifier: GPL-2.0-only
"""The link partner of test_truth.py: a plain UDP client, nothing of xdptstamp in it.

``truth_client.py HOST probe FIRST_PORT NUM_PORTS``: from each of these source ports send until a
reply comes. ``truth_client.py HOST ask COUNT PORT...``: from each of these source ports COUNT
requests, two ports at a time, the next as soon as the one before is answered. No two packets of
anybody carry the same.
"""

import itertools
import secrets
import select
import socket
import sys

DUT_PORT = 9091
# A request that came before the sockets were there is lost, and so may be one on a full ring.
_RETRY_S = 1.0
# The NIC has four stamp registers, and some hold stamps of packets that were answered already.
_MAX_ASKING = 2

_OWN = secrets.token_hex(7).encode()
_numbers = itertools.count()


class Flow:
    """One source port, with at most one request on its way."""

    def __init__(self, host, port, count):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("", port))
        self.socket.connect((host, DUT_PORT))
        self.num_left = count
        self._payload = b""

    def ask(self):
        """Send the next request; again with another payload, if it is asked once more."""
        self._payload = b"%s %d" % (_OWN, next(_numbers))
        try:
            self.socket.send(self._payload)
        except ConnectionRefusedError:
            return  # what the DUT's stack said to an earlier one

    def take(self):
        """A datagram has come; send the next request if it is the reply."""
        try:
            is_reply = self.socket.recv(100) == self._payload
        except ConnectionRefusedError:
            return
        if is_reply:
            self.num_left -= 1
            if self.num_left:
                self.ask()


def serve(flows):
    """Ask until everything is answered."""
    pending, asking = list(flows), []
    while pending or asking:
        while pending and len(asking) < _MAX_ASKING:
            asking.append(pending.pop(0))
            asking[-1].ask()
        ready, _, _ = select.select([flow.socket for flow in asking], [], [], _RETRY_S)
        for flow in asking:
            if flow.socket in ready:
                flow.take()
            elif not ready:
                flow.ask()
        asking = [flow for flow in asking if flow.num_left]


def main(host, mode, *words):
    """Do what is asked."""
    first, *rest = map(int, words)
    if mode == "probe":
        serve([Flow(host, port, 1) for port in range(first, first + rest[0])])
    else:
        serve([Flow(host, port, first) for port in rest])


if __name__ == "__main__":
    main(*sys.argv[1:])
