# SPDX-License-Identifier: GPL-2.0-only
"""Compares a PHC with the system's clocks while something is measured, about once a second.

Whoever judges stamps asks it (:class:`xdptstamp.clock.StampClock`); it looks again before a stamp
is called impossible, for somebody may just have set the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from xdptstamp.clock import Bools, ClockSample, Int64s
from xdptstamp.comparison import Comparison
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.phc import UNCERTAINTY_WORDS, Phc, system_clocks

_PERIOD_NS = 1_000_000_000
# A comparison takes some ten microseconds of register reads.
_REFRESH_NS = 10_000_000


class PhcWatch:
    """The comparison of one PHC, sample by sample; the first is taken at once.

    :ivar comparison: what was sampled.
    :ivar problem: why there are no more samples; empty: there are.
    """

    def __init__(self, phc: Phc) -> None:
        self.comparison = Comparison()
        self.problem = ""
        self._phc = phc
        self._clocks = system_clocks()
        self._tell: Callable[[ClockSample, bool], None] | None = None
        self._last_ns = 0
        self.sample()

    def tell(self, tell: Callable[[ClockSample, bool], None]) -> None:
        """Hand each sample on, those so far included, and whether it goes on with the one before.

        :param tell: must not wait.
        """
        self._tell = tell
        data = self.comparison.to_json()
        for sample, continues in zip(self.comparison.samples, data["continues"], strict=True):
            tell(sample, continues)

    def look(self) -> None:
        """Take a sample if the last one is a second old."""
        if time.monotonic_ns() - self._last_ns >= _PERIOD_NS:
            self.sample()

    def sample(self) -> None:
        """Take a sample now. What keeps the clock from being read is :attr:`problem`."""
        self._last_ns = time.monotonic_ns()
        try:
            sample = self._phc.compare()
        except (SetupError, SystemCallError) as error:
            # The adapter is being reset, or gone: the measurement itself says so.
            self.problem = str(error)
            return
        self.problem = ""
        continues = self.comparison.add(sample)
        if self._tell is not None:
            self._tell(sample, continues)

    def note_break(self, first_ns: int, last_ns: int) -> None:
        """The adapter was reset, or lost its link, somewhere from first to last (CLOCK_TAI)."""
        self.comparison.note_break(first_ns, last_ns)

    def is_possible(self, stamps: Int64s, first_ns: Int64s, last_ns: Int64s) -> Bools:
        """Whether each stamp can be of a moment from first to last (CLOCK_TAI)."""
        return self.comparison.is_possible(stamps, first_ns, last_ns)

    def refresh(self) -> bool:
        """Take a sample, unless the last one is fresh; whether there is a new one."""
        if time.monotonic_ns() - self._last_ns < _REFRESH_NS:
            return False
        self.sample()
        return not self.problem

    def to_json(self) -> dict[str, Any]:
        """Everything, for the run info."""
        method, drift = self._phc.method, self.comparison.drift_ppb()
        return {
            "device": str(self._phc.path),
            "method": method,
            "refused_methods": dict(self._phc.refusals),
            "uncertainty": UNCERTAINTY_WORDS[method] if method else None,
            "leap": self._clocks.leap,
            "drift_ppb": drift[0] if drift else None,
            "drift_uncertainty_ppb": drift[1] if drift else None,
            "notes": self._clocks.notes(),
            "problem": self.problem,
            "samples": self.comparison.to_json(),
        }
