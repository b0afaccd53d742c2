# SPDX-License-Identifier: GPL-2.0-only
"""A NIC's clock (PHC) beside the system's: one reading of both, and what a clock is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NS_PER_S = 1_000_000_000
_LAST = 1 << 62


@dataclass(frozen=True, slots=True)
class ClockSample:
    """PHC and system clocks at one moment.

    :param tai_ns: CLOCK_TAI; ``phc_ns``: the PHC at that time.
    :param uncertainty_ns: how wrong ``phc_ns - tai_ns`` may be, either way.
    :param tai_offset_s: CLOCK_TAI minus CLOCK_REALTIME; 0 where nobody told the kernel.
    :param method: how they were read: ``precise``, ``extended`` or ``plain``.
    """

    tai_ns: int
    phc_ns: int
    uncertainty_ns: int
    tai_offset_s: int = 0
    method: str = "extended"

    @property
    def offset_ns(self) -> int:
        """PHC minus CLOCK_TAI."""
        return self.phc_ns - self.tai_ns

    @property
    def realtime_ns(self) -> int:
        """CLOCK_REALTIME at that time."""
        return self.tai_ns - self.tai_offset_s * _NS_PER_S


class StampClock(Protocol):
    """The clock that stamps are on, as far as it is known."""

    def is_possible(self, stamps: Int64s, first_ns: Int64s, last_ns: Int64s) -> Bools:
        """Whether each stamp can be of a moment from ``first_ns`` to ``last_ns`` (CLOCK_TAI)."""

    def refresh(self) -> bool:
        """Look at the clock again; whether anything new was learnt."""


class SameClock:
    """Stamps are on CLOCK_TAI itself."""

    def is_possible(self, stamps: Int64s, first_ns: Int64s, last_ns: Int64s) -> Bools:
        """Whether each stamp lies between."""
        found: Bools = (stamps >= first_ns) & (stamps <= last_ns)
        return found

    def refresh(self) -> bool:
        """There is nothing to learn."""
        return False


class UnknownClock:
    """Nothing is known of the clock, so that no stamp can be ruled out that is a time at all."""

    def is_possible(self, stamps: Int64s, first_ns: Int64s, last_ns: Int64s) -> Bools:
        """Whether each stamp is a time."""
        found: Bools = (stamps > 0) & (stamps < _LAST)
        return found

    def refresh(self) -> bool:
        """There is nothing to learn."""
        return False
