# SPDX-License-Identifier: GPL-2.0-only
"""How the Tx stamps of a run follow each other, and in which steps their clock goes.

A driver gives stamps back in the order of its packets, queue by queue. One that is earlier than the
one before, or the very same, is of another packet, or of a clock that was set.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xdptstamp.columns import Columns, Ints
from xdptstamp.sample import INTERVALS_OF_KIND, clock_of

_STAMPS = ("tx_hw_ns", "tx_sw_ns")
_NUM_KEPT = 1024
# While a clock is steered its steps are no whole nanoseconds: by 100 ppm, further than anybody
# steers, one of 8 ns is still seen in gaps of this length.
_MAX_GAP_NS = 20_000

_WINDOW_NS = 1 << 15
_FFT_SIZE = 2 * _WINDOW_NS
_MIN_VALUES, _MIN_STEPS = 100, 5
# Values that lie on a comb have a spectral line nearly as high as their number; of 1024 values
# without one no line comes near to a fifth of it.
_LINE, _NO_LINE = 0.8, 0.5
_NUM_FINE = 32


class StampSeries:
    """The Tx stamps of samples, in their order, warm-up left out.

    :ivar num_stamps: how many there were.
    :ivar num_steps_back: how many were earlier than the one before on their queue.
    :ivar worst_step_ns: the furthest of these steps.
    :ivar num_repeated: how many were the same as the one before on their queue.
    """

    def __init__(self, kind: str) -> None:
        self.num_stamps = 0
        self.num_steps_back = 0
        self.worst_step_ns = 0
        self.num_repeated = 0
        self._ends: dict[int, tuple[int, int]] = {}  # first and last stamp of each queue
        # Differences on the stamps' own clock, the first ones: between packets, and of intervals.
        self._gaps = np.zeros(0, np.int64)
        self._pairs = {
            pair: np.zeros(0, np.int64)
            for pair in INTERVALS_OF_KIND[kind]
            if pair[1] in _STAMPS and clock_of(pair[0]) == clock_of(pair[1])
        }

    def add(self, columns: Columns) -> None:
        """Take in the samples of a batch, later than all before."""
        for pair, kept in self._pairs.items():
            rows = columns.rows_of(pair) if len(kept) < _NUM_KEPT else None
            if rows is not None:
                room = _NUM_KEPT - len(kept)
                values = (columns[pair[1]][rows] - columns[pair[0]][rows])[:room]
                self._pairs[pair] = np.concatenate((kept, values))
        name = next((name for name in _STAMPS if columns.rows(name) is not None), None)
        rows = columns.rows(name) if name else None
        if name is None or rows is None or "queue_id" not in columns.names:
            return
        stamps, queues = columns[name][rows], columns["queue_id"][rows]
        first = int(queues[0])
        if (queues == first).all():
            self._add(first, stamps)
        else:
            for queue in np.flatnonzero(np.bincount(queues)).tolist():
                self._add(queue, stamps[queues == queue])

    def merge(self, other: StampSeries) -> None:
        """Take in what another one has, whose samples are later than all of this."""
        self.num_stamps += other.num_stamps
        self.num_steps_back += other.num_steps_back
        self.worst_step_ns = max(self.worst_step_ns, other.worst_step_ns)
        self.num_repeated += other.num_repeated
        for queue, (first, last) in other._ends.items():
            if queue in self._ends:
                self._note_steps(np.array([first - self._ends[queue][1]]))
            self._ends[queue] = (self._ends.get(queue, (first, 0))[0], last)
        self._gaps = np.concatenate((self._gaps, other._gaps))[:_NUM_KEPT]
        for pair, values in other._pairs.items():
            self._pairs[pair] = np.concatenate((self._pairs[pair], values))[:_NUM_KEPT]

    def resolution_ns(self) -> float | None:
        """The steps in which the stamps' clock goes; None: none is seen, it may be 1 ns."""
        steps = [step_of(values) for values in self._pairs.values()]
        # Packets back to back are one packet's time on the wire apart, or two, or three.
        gap = step_of(self._gaps)
        steps += [gap] if gap is not None and 4 * gap <= int(self._gaps.min()) else []
        return max((step for step in steps if step is not None), default=None)

    def _add(self, queue: int, stamps: Ints) -> None:
        first, last = self._ends.get(queue, (int(stamps[0]), None))
        self._ends[queue] = (first, int(stamps[-1]))
        self.num_stamps += len(stamps)
        steps = np.diff(stamps) if last is None else np.diff(stamps, prepend=last)
        self._note_steps(steps)
        if len(self._gaps) < _NUM_KEPT:
            gaps = steps[(steps > 0) & (steps < _MAX_GAP_NS)]
            self._gaps = np.concatenate((self._gaps, gaps))[:_NUM_KEPT]

    def _note_steps(self, steps: Ints) -> None:
        if len(steps) and (least := int(steps.min())) <= 0:
            self.num_steps_back += int(np.count_nonzero(steps < 0))
            self.num_repeated += int(np.count_nonzero(steps == 0))
            self.worst_step_ns = max(self.worst_step_ns, -least)


def step_of(values: Ints) -> float | None:
    """The step of which all of ``values`` are multiples, but for a constant and for rounding.

    :param values: integer nanoseconds.
    :return: None: no step above 1 ns is seen, or there are too few values to tell.
    """
    if len(values) < _MIN_VALUES:
        return None
    exact = int(np.gcd.reduce(values - values.min()))
    if exact > 1:
        return float(exact)
    low = int(np.median(values)) - _WINDOW_NS // 2
    near = values[(values >= low) & (values < low + _WINDOW_NS)] - low
    spectrum = np.abs(np.fft.rfft(np.bincount(near, minlength=_WINDOW_NS), _FFT_SIZE))
    spectrum /= max(len(near), 1)
    # Near zero it is high because all values are near each other.
    start = int(np.argmax(spectrum < _NO_LINE))
    is_line = spectrum[start:] > _LINE
    if not is_line.any() or spectrum[start] >= _NO_LINE:
        return None
    step = _FFT_SIZE * _NUM_FINE / _fine(spectrum, start + int(np.argmax(is_line)))
    # Values in two heaps lie on a comb, too, and say nothing of any clock.
    teeth = np.bincount(np.round((near - near.min()) / step).astype(np.int64))
    return step if len(near) ** 2 >= _MIN_STEPS * int((teeth**2).sum()) else None


# Where the line would be at its harmonic of number _NUM_FINE, found from one to the next.
def _fine(spectrum: npt.NDArray[np.float64], line: int) -> float:
    number, at = 1, line + int(np.argmax(spectrum[line : line + 3]))
    while number < _NUM_FINE and 2 * at + 3 < len(spectrum):
        near = spectrum[2 * at - 2 : 2 * at + 3]
        if near.max() < _NO_LINE:
            break
        number, at = 2 * number, 2 * at - 2 + int(np.argmax(near))
    return at * _NUM_FINE / number
