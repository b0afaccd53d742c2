# SPDX-License-Identifier: GPL-2.0-only
"""What ``mixed`` is asked to do, and the order it does it in: plain data, no NIC."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from xdptstamp import stream
from xdptstamp.errors import SetupError
from xdptstamp.measure.pattern import EveryPattern, Pattern, RatioPattern
from xdptstamp.nexthop import NextHop
from xdptstamp.packet import build_udp
from xdptstamp.rounds import FCS_BYTES, Setting

# Warm-up before each setting: enough for caches and clocks, not for a cup of coffee.
_WARMUP_SHARE = 10
_WARMUP_LIMIT_NS = 500_000_000

_ETH, _UDP = 14, 8
_IP = {4: 20, 6: 40}


@dataclass(frozen=True, slots=True)
class MixedConfig:
    """What to send.

    :param settings: baselines among them; :func:`with_baselines` sees to that.
    :param num_rounds: how often each setting is measured.
    :param duration_ns: of one setting in one round.
    :param seed: of the order of the settings within each round.
    :param pps: packets a second; ``bits``: bits on the wire a second; both None: no limit.
    :param max_pending: at most so many stamps between submit and completion; None: no limit.
    :param records_all: keep every packet, not only those that asked for a stamp.
    :param is_spinning: never sleep while there is nothing to do.
    :param port: UDP port, of source and destination.
    """

    settings: tuple[Setting, ...]
    num_rounds: int
    duration_ns: int
    seed: int
    batch: int
    pps: Fraction | None = None
    bits: Fraction | None = None
    max_pending: int | None = None
    records_all: bool = False
    is_spinning: bool = False
    port: int = stream.DEFAULT_PORT

    @property
    def warmup_ns(self) -> int:
        """How long each setting is sent before it counts."""
        return min(self.duration_ns // _WARMUP_SHARE, _WARMUP_LIMIT_NS)

    def interval_ns(self, setting: Setting) -> Fraction | None:
        """From one packet to the next; None: as fast as it goes."""
        if self.pps is not None:
            return 1_000_000_000 / self.pps
        return None if self.bits is None else 1_000_000_000 * setting.wire_bits / self.bits

    def order(self) -> Iterator[tuple[int, int]]:
        """(round, index of the setting): each setting once a round, in random order."""
        chance = random.Random(self.seed)
        for number in range(self.num_rounds):
            indices = list(range(len(self.settings)))
            chance.shuffle(indices)
            yield from ((number, index) for index in indices)


def with_baselines(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """The settings without repetition, the baseline of each size ahead of the others of it."""
    sizes = dict.fromkeys(setting.size_bytes for setting in settings)
    others = dict.fromkeys(setting for setting in settings if not setting.is_baseline)
    return tuple(
        itertools.chain.from_iterable(
            [Setting(size, 0, 1), *(each for each in others if each.size_bytes == size)]
            for size in sizes
        )
    )


def pattern_of(setting: Setting, longest: int) -> Pattern:
    """What the saturating sender of a setting sends.

    :param longest: the longest batch.
    """
    if setting.every_ns and not setting.has_second_app:
        return EveryPattern(setting.every_ns)
    stamped, plain = (0, 1) if setting.every_ns else (setting.stamped, setting.plain)
    return RatioPattern(stamped, plain, longest)


def check_size(size_bytes: int, route: NextHop, mtu: int) -> None:
    """Refuse a size that the packets cannot have.

    :param size_bytes: frame with its FCS.
    :param mtu: of the interface.
    :raises SetupError: If so, with the limits.
    """
    smallest = payload_offset(route) + stream.LEN + FCS_BYTES
    largest = mtu + _ETH + FCS_BYTES
    if not smallest <= size_bytes <= largest:
        raise SetupError(
            f"frame of {size_bytes} bytes",
            f"cannot be sent to {route.address} (MTU {mtu}); --size goes from {smallest} to "
            f"{largest}, FCS included",
        )


def payload_offset(route: NextHop) -> int:
    """Where the UDP payload starts in a packet."""
    return _ETH + _IP[6 if ":" in route.address else 4] + _UDP


def first_packet(
    route: NextHop, port: int, size_bytes: int, stream_id: int, ratio: tuple[int, int]
) -> bytes:
    """Packet 0 of a stream, without FCS.

    :param size_bytes: frame with its FCS.
    """
    length = size_bytes - FCS_BYTES - payload_offset(route)
    return build_udp(
        (route.mac, route.source_mac),
        (_plain(route.source), _plain(route.address)),
        (port, port),
        stream.first_payload(stream_id, ratio, length),
    )


def _plain(address: str) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bare = address.partition("%")[0]
    return socket.inet_ntop(family, socket.inet_pton(family, bare))
