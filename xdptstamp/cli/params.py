# SPDX-License-Identifier: GPL-2.0-only
"""Parameter types that commands share: durations, rates, ratios, sizes, scheduling policies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # older clicks, good enough at run time, have no generic ParamType
    _IntType = click.ParamType[int]
    _SchedulingType = click.ParamType["Scheduling"]
    _RatiosType = click.ParamType[tuple[tuple[int, int], ...]]
    _SizesType = click.ParamType[tuple[int, ...]]
    _RateType = click.ParamType["Rate"]
    _MomentType = click.ParamType["Moment"]
    _NamesType = click.ParamType[tuple[str, ...]]
else:
    _IntType = _SchedulingType = _RatiosType = _SizesType = _RateType = click.ParamType
    _MomentType = _NamesType = click.ParamType

_NUMBER_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", re.ASCII)
_NS_PER = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_MAX_NS = (1 << 63) - 1
_MAX_PRIORITY = 99
_MAX_PATTERN = 0xFFFF
_MIN_SIZE, _MAX_SIZE = 64, 9216
_NS_PER_S = 1_000_000_000
_PER_PREFIX = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_MIN_RATE, _MAX_RATE = Fraction(1, 1000), 10**15
_MAX_DIGITS = 18  # of a number as typed, and behind its point
_RATE_UNIT = re.compile(r"([kMG]?)(pps|bit)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scheduling:
    """A scheduling policy of Linux: ``fifo`` with a priority from 1 to 99."""

    policy: str
    priority: int

    def __str__(self) -> str:
        return f"{self.policy}:{self.priority}"


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast to send: packets in a second, or bits in a second; the other one is None.

    Bits are those on the wire: a packet's have preamble, gap and FCS.
    """

    pps: Fraction | None = None
    bits: Fraction | None = None

    def interval_ns(self, wire_bits: int) -> Fraction:
        """Nanoseconds from the start of one packet to the next, exactly.

        :param wire_bits: of one packet (:attr:`xdptstamp.rounds.Setting.wire_bits`).
        """
        return _NS_PER_S / self.packets_per_s(wire_bits)

    def packets_per_s(self, wire_bits: int) -> Fraction:
        """Packets of that many bits on the wire in a second, exactly."""
        if self.pps is not None:
            return self.pps
        if self.bits is None:
            raise ValueError("a rate has packets or bits")
        return self.bits / wire_bits

    def __str__(self) -> str:
        value, unit = (self.bits, "bit") if self.pps is None else (self.pps, "pps")
        return _shortest(value or Fraction(0), unit)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of a run: so long after its time 0, or a stamp of CLOCK_TAI."""

    ns: int
    is_relative: bool

    def on_tai(self, zero_ns: int) -> int:
        """Nanoseconds on CLOCK_TAI; ``zero_ns``: time 0 of the run."""
        return zero_ns + self.ns if self.is_relative else self.ns


def _shortest(value: Fraction, unit: str) -> str:
    # The largest prefix that leaves a number of at least 1, and as many digits as it takes.
    prefix, per = next(
        (item for item in reversed(_PER_PREFIX.items()) if value >= item[1]), ("", 1)
    )
    scaled = value / per
    digits = 0
    while (scaled * 10**digits).denominator != 1 and digits < _MAX_DIGITS:
        digits += 1
    whole, part = divmod(int(scaled * 10**digits), 10**digits)
    return f"{whole}.{part:0{digits}}{prefix}{unit}" if digits else f"{whole}{prefix}{unit}"


class _Duration(_IntType):
    name = "duration"

    # zero_words: words that mean 0; without any, 0 itself is refused.
    def __init__(self, *zero_words: str) -> None:
        self._zero_words = zero_words

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if text in self._zero_words:
            return 0
        match = _NUMBER_UNIT.fullmatch(text)
        if match is None or (match[2] not in _NS_PER and Fraction(match[1]) != 0):
            words = "".join(f" or {word!r}" for word in self._zero_words)
            units = ", ".join(_NS_PER)
            self.fail(f"{text!r} is not a duration such as 250us or 10s{words} ({units})", param)
        duration_ns = Fraction(match[1]) * _NS_PER.get(match[2], 1)
        self._check(text, duration_ns, param)
        return int(duration_ns)

    def _check(self, text: str, duration_ns: Fraction, param: click.Parameter | None) -> None:
        if duration_ns.denominator != 1:
            self.fail(f"{text!r} is not a whole number of nanoseconds", param)
        if duration_ns > _MAX_NS:
            self.fail(f"{text!r} is longer than 292 years", param)
        if duration_ns == 0 and not self._zero_words:
            self.fail(f"{text!r} is zero; it must be longer", param)


class _SignedDuration(_IntType):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        sign = -1 if text.startswith("-") else 1
        return sign * _DURATION_OR_0.convert(text.removeprefix("-"), param, ctx)


class _ClockRate(_IntType):
    name = "ppm"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([+-]?)([0-9]{1,9}(?:\.[0-9]{1,3})?)(ppm|ppb)", str(value).strip())
        ppb = Fraction(match[2]) * (1000 if match[3] == "ppm" else 1) if match else None
        if match is None or ppb is None or ppb.denominator != 1:
            self.fail(f"{value!r} is not a rate such as 50ppm or -20ppb (whole ppb)", param)
        return -int(ppb) if match[1] == "-" else int(ppb)


class _Scheduling(_SchedulingType):
    name = "fifo:PRIO"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Scheduling:
        if isinstance(value, Scheduling):
            return value
        match = re.fullmatch(r"fifo:([0-9]{1,2})", str(value), re.ASCII)
        if match is None or not 1 <= int(match[1]) <= _MAX_PRIORITY:
            self.fail(f"{value!r} is not fifo:PRIO with PRIO from 1 to {_MAX_PRIORITY}", param)
        return Scheduling("fifo", int(match[1]))


class _Ratios(_RatiosType):
    name = "T:N[,T:N..]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, int], ...]:
        if isinstance(value, tuple):
            return value
        ratios = [self._ratio(item.strip(), param) for item in str(value).split(",")]
        return tuple(dict.fromkeys(ratios))

    def _ratio(self, text: str, param: click.Parameter | None) -> tuple[int, int]:
        match = re.fullmatch(r"([0-9]+)\s*:\s*([0-9]+)", text, re.ASCII)
        if match is None:
            self.fail(
                f"{text!r} is not a ratio T:N such as 1:10 (T packets with a timestamp, then N "
                "without); several are separated by commas",
                param,
            )
        numbers = match[1].lstrip("0"), match[2].lstrip("0")
        if any(len(digits) > 5 or int(digits or 0) > _MAX_PATTERN for digits in numbers):
            self.fail(f"{text!r}: T and N are at most {_MAX_PATTERN}", param)
        stamped, plain = (int(digits or 0) for digits in numbers)
        if not stamped and not plain:
            self.fail(f"{text!r} sends nothing; the baseline without timestamps is 0:1", param)
        return stamped, plain


class _Sizes(_SizesType):
    name = "BYTES[,BYTES..]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        sizes = [self._size(item.strip(), param) for item in str(value).split(",")]
        return tuple(dict.fromkeys(sizes))

    def _size(self, text: str, param: click.Parameter | None) -> int:
        if not re.fullmatch(r"[0-9]+", text, re.ASCII):
            self.fail(
                f"{text!r} is not a frame size in bytes such as 64; several are separated by "
                "commas",
                param,
            )
        digits = text.lstrip("0") or "0"
        if len(digits) > 5 or not _MIN_SIZE <= int(digits) <= _MAX_SIZE:
            limits = f"from {_MIN_SIZE} to {_MAX_SIZE}"
            self.fail(f"{text!r}: the frame with its FCS has {limits} bytes", param)
        return int(digits)


class _Rate(_RateType):
    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Rate:
        if isinstance(value, Rate):
            return value
        text = str(value).strip()
        match = _NUMBER_UNIT.fullmatch(text) if len(text) <= 2 * _MAX_DIGITS else None
        unit = _RATE_UNIT.fullmatch(match[2]) if match else None
        if match is None or unit is None:
            units = "pps, kpps, Mpps; bit, kbit, Mbit, Gbit (a second, on the wire)"
            self.fail(f"{text!r} is not a rate such as 100kpps or 1Gbit: {units}", param)
        amount = Fraction(match[1]) * _PER_PREFIX[unit[1]]
        if not amount:
            self.fail(f"{text!r} is zero; it must be more", param)
        if not _MIN_RATE <= amount <= _MAX_RATE:
            limits = f"from 0.001{unit[2]} to 1000000G{unit[2]}"
            self.fail(f"{text!r} is out of range: {limits}", param)
        return Rate(pps=amount) if unit[2] == "pps" else Rate(bits=amount)


class _Moment(_MomentType):
    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Moment:
        if isinstance(value, Moment):
            return value
        text = str(value).strip()
        # A duration has a unit; a stamp has none, as in the columns.
        if re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) and text.lstrip("0"):
            if int(text) > _MAX_NS:
                self.fail(f"{text!r} is later than 2262", param)
            return Moment(int(text), is_relative=False)
        return Moment(SIGNED_DURATION.convert(text, param, ctx), is_relative=True)


class _ColumnNames(_NamesType):
    name = "A[,B..]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name; it is a list such as seq,tx_hw_ns", param)
        return names


_DURATION_OR_0 = _Duration("0")
#: ``250us 10s 24h`` as nanoseconds, above zero.
DURATION = _Duration()
#: The same; ``flood`` and 0 are zero.
INTERVAL = _Duration("flood", "0")
#: The same with a sign: ``-37s``; 0 is zero.
SIGNED_DURATION = _SignedDuration()
#: ``50ppm -20ppb`` as parts in 10**9.
CLOCK_RATE = _ClockRate()
#: ``fifo:PRIO`` as :class:`Scheduling`.
SCHED = _Scheduling()
#: ``1:1,1:10,0:1`` as ((T, N), ..), each once.
RATIOS = _Ratios()
#: ``64,512,1518`` as bytes of the frame with its FCS, each once.
SIZES = _Sizes()
#: ``100kpps 1Gbit`` as :class:`Rate`.
RATE = _Rate()
#: ``1.5s`` since time 0 of a run, or a stamp of CLOCK_TAI in ns, as :class:`Moment`.
MOMENT = _Moment()
#: ``seq,tx_hw_ns`` as names.
COLUMN_NAMES = _ColumnNames()
