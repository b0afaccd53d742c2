# SPDX-License-Identifier: GPL-2.0-only
"""Faults on demand: what silicon, cables and switches do once a month, as often as wanted.

A fault is ``NAME`` or ``NAME:KEY=VALUE,...``, and goes on until it is cleared::

    delay-stamp:delay=20us        Tx stamps come late; also 10us..200us, or exp(50us)
    lose-stamp:every=3            each third Tx stamp never comes
    stick-stamp:slot=0            a stamp register is never freed: it keeps its first value
    flap-link:period=5s,down=1s   the link goes and comes again; once, without period
    drop-rx:every=100             a received packet is dropped before the NIC sees it
    corrupt-rx:every=100          a bit of a received packet is wrong, and its FCS with it
    damage-rx:every=100           a bit of a received packet's payload is wrong, its FCS is right
    reorder-rx:every=100          a packet arrives behind the one that follows it
    delay-completion:delay=1ms    descriptors are written back late
    lose-completion:every=1000    a descriptor is never written back
    lose-interrupt:every=10       an interrupt is not raised; vector=N: only this one's
    step-phc:by=1s                the PHC jumps; also by=-37s
    slow-head:delay=3s            the Tx head pointer waits before each packet
    wrong-phy:by=200ns            the PHY's delays are other than the driver thinks, on Tx and Rx

All take ``after=N`` (occasions that pass unharmed first), ``count=N`` (then it is over) and
``port=N`` (the port that has it; 1 is the link partner's).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from fractions import Fraction

from xdptstamp.errors import XdptstampError

_MAX_DURATION_NS = 366 * 86_400 * 1_000_000_000
_NS_PER = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_DURATION = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)(ns|us|ms|s)", re.ASCII)

#: Each fault and the keys it takes besides ``every``, ``after``, ``count`` and ``port``.
NAMES: dict[str, tuple[str, ...]] = {
    "delay-stamp": ("delay",),
    "lose-stamp": (),
    "stick-stamp": ("slot",),
    "flap-link": ("period", "down"),
    "drop-rx": (),
    "corrupt-rx": (),
    "damage-rx": (),
    "reorder-rx": (),
    "delay-completion": ("delay",),
    "lose-completion": (),
    "lose-interrupt": ("vector",),
    "step-phc": ("by",),
    "slow-head": ("delay",),
    "wrong-phy": ("by",),
}
_NEEDED = {"delay-stamp": "delay", "delay-completion": "delay", "slow-head": "delay"}
_NEEDED |= {"step-phc": "by", "wrong-phy": "by"}
_DOWN_DEFAULT_NS = 100_000_000
_FOREVER = 1 << 62


class FaultSpecError(XdptstampError):
    """A fault that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Delay:
    """A distribution of delays: constant, uniform or exponential, in ns."""

    low_ns: int = 0
    high_ns: int = 0
    mean_ns: int = 0

    def draw(self, chance: random.Random) -> int:
        """One delay in ns."""
        if self.mean_ns:
            return round(chance.expovariate(1 / self.mean_ns))
        if self.high_ns > self.low_ns:
            return chance.randrange(self.low_ns, self.high_ns + 1)
        return self.low_ns

    @classmethod
    def parse(cls, text: str) -> Delay:
        """From ``20us``, ``10us..200us`` or ``exp(50us)``."""
        if text.startswith("exp(") and text.endswith(")"):
            return cls(mean_ns=max(1, parse_duration(text[4:-1])))
        low, separator, high = text.partition("..")
        low_ns = parse_duration(low)
        high_ns = parse_duration(high) if separator else low_ns
        if not 0 <= low_ns <= high_ns:
            raise FaultSpecError(f"{text!r} is no delay")
        return cls(low_ns, high_ns)


@dataclass(slots=True)
class Fault:
    """One fault that is on.

    :param port: whose it is; None: that of whoever gives it.
    :ivar num_hits: how often it struck.
    """

    name: str
    port: int | None = None
    every: int = 1
    after: int = 0
    count: int = _FOREVER
    delay: Delay = field(default_factory=Delay)
    slot: int | None = None
    vector: int | None = None
    by_ns: int = 0
    period_ns: int = 0
    down_ns: int = _DOWN_DEFAULT_NS
    num_occasions: int = 0
    num_hits: int = 0

    def strikes(self) -> bool:
        """Whether it strikes on this occasion."""
        self.num_occasions += 1
        number = self.num_occasions - self.after
        if number <= 0 or number % self.every or self.num_hits >= self.count:
            return False
        self.num_hits += 1
        return True


def parse_duration(text: str) -> int:
    """``20us`` in ns; negative with a minus sign.

    :raises FaultSpecError: It is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise FaultSpecError(f"{text!r} is no duration (20us, 1.5ms, 3s)")
    duration_ns = round(Fraction(match[1]) * _NS_PER[match[2]])
    if abs(duration_ns) > _MAX_DURATION_NS:
        raise FaultSpecError(f"{text[:20]} is longer than a year")
    return duration_ns


def parse_fault(spec: str) -> Fault:
    """A fault from its text.

    :raises FaultSpecError: There is no such fault, or it has no such key or value.
    """
    name, _, rest = spec.partition(":")
    if name not in NAMES:
        raise FaultSpecError(f"no fault {name!r}; there are {', '.join(NAMES)}")
    fault = Fault(name)
    given = dict(_split_pair(name, pair) for pair in rest.split(",") if pair)
    for key, value in given.items():
        if key not in (*NAMES[name], "every", "after", "count", "port"):
            raise FaultSpecError(f"fault {name} has no {key!r}")
        _set(fault, key, value)
    needed = _NEEDED.get(name)
    if needed and needed not in given:
        raise FaultSpecError(f"fault {name} needs {needed}=")
    return fault


def _split_pair(name: str, pair: str) -> tuple[str, str]:
    key, separator, value = pair.partition("=")
    if not separator:
        raise FaultSpecError(f"fault {name}: {pair!r} is no KEY=VALUE")
    return key, value


def _set(fault: Fault, key: str, value: str) -> None:
    if key == "delay":
        fault.delay = Delay.parse(value)
    elif key == "by":
        fault.by_ns = parse_duration(value)
    elif key in ("period", "down"):
        duration_ns = parse_duration(value)
        if duration_ns <= 0:
            raise FaultSpecError(f"{key}={value}: not in the future")
        setattr(fault, f"{key}_ns", duration_ns)
    else:
        if not (value.isascii() and value.isdigit()):
            raise FaultSpecError(f"{key}={value}: not a number")
        setattr(fault, key, max(1, int(value)) if key == "every" else int(value))


class Faults:
    """The faults of one port, and what they do on each occasion.

    :ivar on: those that are on, by name.
    """

    def __init__(self, seed: int = 0) -> None:
        self.on: dict[str, Fault] = {}
        self._chance = random.Random(seed)

    def put(self, fault: Fault) -> None:
        """Let it begin, in place of another of its name."""
        self.on[fault.name] = fault

    def clear(self, name: str | None = None) -> None:
        """End one fault, or all."""
        if name is None:
            self.on.clear()
        else:
            self.on.pop(name, None)

    def counts(self) -> dict[str, int]:
        """How often each one that is on struck."""
        return {name: fault.num_hits for name, fault in self.on.items()}

    def is_on(self, fault: Fault) -> bool:
        """It was neither cleared nor replaced."""
        return self.on.get(fault.name) is fault

    def strikes(self, name: str) -> bool:
        """Whether a fault strikes now."""
        fault = self.on.get(name)
        return fault is not None and fault.strikes()

    def delay_ns(self, name: str) -> int:
        """How much later something is; 0 where nothing delays it."""
        fault = self.on.get(name)
        if fault is None or not fault.strikes():
            return 0
        return fault.delay.draw(self._chance)

    def phy_error_ns(self) -> int:
        """How wrong the PHY's delay of this packet is."""
        fault = self.on.get("wrong-phy")
        return fault.by_ns if fault is not None and fault.strikes() else 0

    def sticks(self, slot: int) -> bool:
        """A Tx stamp register stays as it is when it is read."""
        fault = self.on.get("stick-stamp")
        return fault is not None and fault.slot in (None, slot) and fault.strikes()

    def loses_interrupt(self, vector: int) -> bool:
        """This interrupt gets lost."""
        fault = self.on.get("lose-interrupt")
        return fault is not None and fault.vector in (None, vector) and fault.strikes()

    def flip_bit(self, packet: bytes, first_byte: int) -> bytes:
        """The packet with one bit wrong, at or behind ``first_byte`` where it is that long."""
        damaged = bytearray(packet)
        index = self._chance.randrange(min(first_byte, len(packet) - 1), len(packet))
        damaged[index] ^= 1 << self._chance.randrange(8)
        return bytes(damaged)
