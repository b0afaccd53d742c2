# SPDX-License-Identifier: GPL-2.0-only
"""The cable: its speed, its length in time, and what is at its ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdptstamp.lab.i226.port import Port

SPEEDS = (10, 100, 1000, 2500)
_FCS = 4
_MIN_FRAME = 64
_PREAMBLE_AND_GAP = 20
_PAUSE_QUANTUM_BITS = 512


def frame_ns(length: int, speed: int) -> int:
    """How long a packet of ``length`` bytes (without FCS) keeps the wire, in ns.

    :param speed: Mb/s.
    """
    size = max(length + _FCS, _MIN_FRAME) + _PREAMBLE_AND_GAP
    return size * 8000 // speed


def pause_ns(quanta: int, speed: int) -> int:
    """How long a pause of so many times 512 bits is, in ns; 0 without a link."""
    return quanta * _PAUSE_QUANTUM_BITS * 1000 // speed if speed else 0


class Wire:
    """A cable between the ports.

    With one port its other end is in a tester that has a link, and swallows what comes.

    :param speed: the fastest it does, in Mb/s.
    :param delay_ns: from one connector to the other.
    """

    def __init__(self, speed: int = 2500, delay_ns: int = 25) -> None:
        self.max_speed = speed
        self.delay_ns = delay_ns
        self.is_plugged = True
        self.speed = 0
        self._ports: list[Port] = []

    def connect(self, port: Port) -> None:
        """Plug in a port."""
        self._ports.append(port)

    def peer_of(self, port: Port) -> Port | None:
        """The other end."""
        for other in self._ports:
            if other is not port:
                return other
        return None

    def negotiate(self) -> None:
        """Find out anew whether there is a link, and how fast; tell the ports."""
        speeds = {speed for speed in SPEEDS if speed <= self.max_speed}
        for port in self._ports:
            speeds &= port.phy.speeds if port.phy.is_powered else set()
        self.speed = max(speeds, default=0) if self.is_plugged else 0
        for port in self._ports:
            port.set_link(self.speed)
