# SPDX-License-Identifier: GPL-2.0-only
"""The PTP hardware clock: a counter that is set, stepped and run faster or slower.

Exact: time is an integer number of 2^-36 ns, in which one step of TIMINCA is a whole number.
"""

from __future__ import annotations

from collections.abc import Callable

_FRACTION_BITS = 36
_ONE = 1 << _FRACTION_BITS
_NS_PER_S = 1_000_000_000
_TIMINCA_MASK = 0x7FFFFFFF
_TIMINCA_SIGN = 0x80000000
# The counter ticks every 3.2 ns, and TIMINCA adds 2^-32 ns to a tick (igc_ptp_adjfine_i225:
# 1 ppm is 2^32 * 3.2 / 10^6 = 2^14 * 65536 / 78125), so to a nanosecond 5 * 2^-36 ns.
_PER_INCREMENT = 5


class Clock:
    """A clock over the model's time.

    :param changed: called when it was set, moved, or runs otherwise than before.
    :ivar oscillator_ppb: how much too fast its oscillator is, whatever the driver asks for.
    """

    def __init__(self, now_ns: int, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.oscillator_ppb = 0
        self._since_ns = now_ns
        self._value = 0
        self._rate = _ONE
        self._timinca = 0
        self._is_running = True

    def at(self, model_ns: int) -> int:
        """The clock's reading in ns at a moment of the model's time."""
        return (self._value + (model_ns - self._since_ns) * self._rate) >> _FRACTION_BITS

    def when(self, reading_ns: int) -> int:
        """The first moment of the model's time with at least this reading, as it runs now."""
        ahead = (reading_ns << _FRACTION_BITS) - self._value
        return self._since_ns + -(-ahead // self._rate)

    def set(self, now_ns: int, reading_ns: int) -> None:
        """Let it read ``reading_ns`` now."""
        self._since_ns = now_ns
        self._value = reading_ns << _FRACTION_BITS
        self._changed()

    def step(self, now_ns: int, delta_ns: int) -> None:
        """Move it by ``delta_ns``."""
        self._move(now_ns)
        self._value += delta_ns << _FRACTION_BITS
        self._changed()

    def set_timinca(self, now_ns: int, register: int) -> None:
        """Change the rate as a write to TIMINCA does."""
        self._move(now_ns)
        self._timinca = register
        self._set_rate()

    def set_oscillator(self, now_ns: int, ppb: int) -> None:
        """Change the oscillator's own error."""
        self._move(now_ns)
        self.oscillator_ppb = ppb
        self._set_rate()

    def run(self, now_ns: int, *, is_running: bool) -> None:
        """Stop it, or let it go on."""
        self._move(now_ns)
        self._is_running = is_running
        self._set_rate()

    def reset(self, now_ns: int) -> None:
        """As a reset of the device: from 0, at its nominal rate; the oscillator stays as it is."""
        self.set(now_ns, 0)
        self._timinca = 0
        self._is_running = True
        self._set_rate()

    def _move(self, now_ns: int) -> None:
        self._value += (now_ns - self._since_ns) * self._rate
        self._since_ns = now_ns

    def _set_rate(self) -> None:
        increment = _PER_INCREMENT * (self._timinca & _TIMINCA_MASK)
        rate = _ONE - increment if self._timinca & _TIMINCA_SIGN else _ONE + increment
        # A clock that stands still has no `when`; one part in 2^36 is still enough.
        rate = rate * (_NS_PER_S + self.oscillator_ppb) // _NS_PER_S
        self._rate = max(rate, 1) if self._is_running else 1
        self._changed()


def split(reading_ns: int) -> tuple[int, int]:
    """(seconds, nanoseconds) as registers hold them, 32 bits each."""
    seconds, nanoseconds = divmod(reading_ns, _NS_PER_S)
    return seconds & 0xFFFFFFFF, nanoseconds
