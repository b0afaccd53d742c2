# SPDX-License-Identifier: GPL-2.0-only
"""What a ping is asked to do, checked without touching the network."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from xdptstamp.errors import SetupError
from xdptstamp.measure._ping_payload import MIN_PAYLOAD_BYTES

DEFAULT_PORT = 9091
FAMILIES = {"auto": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}

FCS_BYTES = 4

_ETH_BYTES, _UDP_BYTES = 14, 8
_IP_BYTES = {socket.AF_INET: 20, socket.AF_INET6: 40}
_MAX_UDP_BYTES, _MAX_PORT = 65507, 65535

#: Smallest window: what may be sent and answered before rows are handed on, with room to spare.
MIN_WINDOW = 512


@dataclass(frozen=True, slots=True)
class PingConfig:
    """What to send, where and for how long.

    :param host: name or address of the DUT.
    :param count: requests after the warm-up; None: no limit.
    :param interval_ns: from one request to the next; 0 floods.
    :param size_bytes: frame with its FCS; None: the smallest, and at least 64.
    :param family: ``auto``, ``4`` or ``6``.
    :param deadline_ns: no request is sent later than this after the start; None: no limit.
    :param timeout_ns: a request is given up this long after it was sent, so the run ends about
        this long after the last at most, and a second after a stop.
    :param warmup: requests sent first, their samples marked.
    :param wait: ``poll`` sleeps until something happens, ``spin`` never sleeps.
    :param window: requests that may be open at once; the oldest is given up for one more. A
        power of two.
    :param source: address to send from; None: the route's.
    :param interface: interface to bind to; None: the route's.
    :param rcvbuf_bytes: receive buffer to ask for.
    :raises ValueError: If a value cannot be.
    """

    host: str
    port: int = DEFAULT_PORT
    count: int | None = None
    interval_ns: int = 1_000_000
    size_bytes: int | None = None
    family: str = "auto"
    deadline_ns: int | None = None
    timeout_ns: int = 1_000_000_000
    warmup: int = 0
    wait: str = "poll"
    window: int = 1 << 17
    source: str | None = None
    interface: str | None = None
    rcvbuf_bytes: int = 8 << 20

    def __post_init__(self) -> None:
        for is_wrong, problem in (
            (not 0 < self.port <= _MAX_PORT, f"port {self.port} is not between 1 and 65535"),
            (self.count is not None and self.count < 1, f"count {self.count} is less than 1"),
            (self.interval_ns < 0, f"interval {self.interval_ns} ns is negative"),
            (self.family not in FAMILIES, f"family {self.family!r} is not auto, 4 or 6"),
            (self.deadline_ns is not None and self.deadline_ns < 1, "the deadline is not positive"),
            (self.timeout_ns < 1, f"timeout {self.timeout_ns} ns is not positive"),
            (self.warmup < 0, f"warm-up {self.warmup} is negative"),
            (self.wait not in ("poll", "spin"), f"wait {self.wait!r} is not poll or spin"),
            (
                self.window < MIN_WINDOW or self.window & (self.window - 1) != 0,
                f"window {self.window} is not a power of two from {MIN_WINDOW} on",
            ),
        ):
            if is_wrong:
                raise ValueError(problem)


def frame_bytes(family: socket.AddressFamily, payload: int) -> int:
    """The length without FCS of a frame with ``payload`` bytes of UDP payload."""
    return _ETH_BYTES + _IP_BYTES[family] + _UDP_BYTES + payload


def payload_bytes(size_bytes: int | None, family: socket.AddressFamily, mtu: int) -> int:
    """The UDP payload of a request.

    :param size_bytes: frame with its FCS; None: the smallest.
    :param mtu: of the route; bytes of an IP packet.
    :raises SetupError: If it is too small or too large for the header or the MTU.
    """
    around = frame_bytes(family, 0) + FCS_BYTES
    smallest = max(64, around + MIN_PAYLOAD_BYTES)
    size = smallest if size_bytes is None else size_bytes
    if size < smallest:
        name = "IPv6" if family == socket.AF_INET6 else "IPv4"
        raise SetupError(
            f"frame of {size} bytes",
            f"too small to carry a request over {name}; take --size {smallest} or more",
        )
    largest = min(mtu + _ETH_BYTES, around - FCS_BYTES + _MAX_UDP_BYTES) + FCS_BYTES
    if size > largest:
        raise SetupError(
            f"frame of {size} bytes",
            f"longer than the route takes whole (MTU {mtu}), and fragments "
            f"are not answered; take --size {largest} or less, or raise the MTU of both ends",
        )
    return size - around
