# SPDX-License-Identifier: GPL-2.0-only
"""A UDP responder with faults, for the tests of ping. Run as a program::

    ping_echo.py ADDRESS '{"drop": 10, "duplicate": 7}'

Writes its port, then answers. Each fault befalls every n-th seq (seq % n == n - 1); the first
that applies wins, in the order of FAULTS. A line on its stdin releases what ``hold`` kept.

- drop: no reply.
- duplicate: two replies.
- reorder: the reply comes right after that to the next request.
- corrupt: the last byte differs.
- shorten: the last byte is missing.
- reseq: the reply names a request that was never sent.
- stray: a datagram of somebody else's before the reply.
- late: the reply comes after ``late_s``.
- hold (a number): so many first replies wait for the line, which is answered when they are sent.
- answers (a number): closes the socket after so many replies.
"""

import heapq
import json
import select
import socket
import struct
import sys
import time

FAULTS = ("drop", "duplicate", "reorder", "corrupt", "shorten", "reseq", "stray", "late")


class Responder:
    def __init__(self, address, options):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind((address, options.get("port", 0)))
        self.options = options
        self.faults = [(name, options[name]) for name in FAULTS if name in options]
        self.swapped, self.held, self.delayed = [], [], []
        self.num_to_hold = options.get("hold", 0)
        self.num_left = options.get("answers", 1 << 62)
        print(self.sock.getsockname()[1], flush=True)

    def run(self):
        inputs = [self.sock, sys.stdin]
        while self.num_left > 0:
            timeout = max(0, self.delayed[0][0] - time.monotonic()) if self.delayed else None
            readable = select.select(inputs, [], [], timeout)[0]
            while self.delayed and self.delayed[0][0] <= time.monotonic():
                self.send(*heapq.heappop(self.delayed)[1:])
            if self.sock in readable:
                self.answer(*self.sock.recvfrom(65536))
            if sys.stdin in readable:
                if not sys.stdin.readline():
                    inputs.remove(sys.stdin)
                    continue
                while len(self.held) < self.num_to_hold:
                    self.answer(*self.sock.recvfrom(65536))
                for reply in self.held:
                    self.send(*reply)
                print("released", flush=True)

    def send(self, data, peer):
        self.sock.sendto(data, peer)
        self.num_left -= 1

    def answer(self, data, peer):
        if len(self.held) < self.num_to_hold:
            self.held.append((data, peer))
            return
        seq = struct.unpack_from(">Q", data, 10)[0]
        fault = next((name for name, n in self.faults if seq % n == n - 1), None)
        if fault == "reorder":
            self.swapped.append((data, peer))
            return
        getattr(self, fault or "fine")(data, peer)
        while self.swapped:
            self.send(*self.swapped.pop())

    def fine(self, data, peer):
        self.send(data, peer)

    def drop(self, data, peer):
        pass

    def duplicate(self, data, peer):
        self.send(data, peer)
        self.send(data, peer)

    def corrupt(self, data, peer):
        self.send(data[:-1] + bytes([data[-1] ^ 0xFF]), peer)

    def shorten(self, data, peer):
        self.send(data[:-1], peer)

    def reseq(self, data, peer):
        self.send(data[:10] + struct.pack(">Q", 1 << 63) + data[18:], peer)

    def stray(self, data, peer):
        self.send(b"somebody else's datagram", peer)
        self.send(data, peer)

    def late(self, data, peer):
        heapq.heappush(self.delayed, (time.monotonic() + self.options["late_s"], data, peer))


if __name__ == "__main__":
    Responder(sys.argv[1], json.loads(sys.argv[2])).run()
