# SPDX-License-Identifier: GPL-2.0-only
"""Arithmetic on arrays of int64 that is exact: nothing is a float on the way, nothing overflows."""

from __future__ import annotations

import numpy as np

from xdptstamp.clock import Int64s

#: Products below this are safe.
MAX_PRODUCT = 1 << 62

_NS_PER_S = 1_000_000_000
_SHIFT = 20


def scaled(value: Int64s, part: Int64s | np.int64, whole: Int64s | np.int64) -> Int64s:
    """``value * part // whole``; ``value`` is below 2**43, ``part`` and ``whole`` below 2**40."""
    if size(value) * size(part) < MAX_PRODUCT:
        found: Int64s = value * part // whole
        return found
    # In two steps the product does not pass 63 bits.
    high, low = value >> _SHIFT, value & ((1 << _SHIFT) - 1)
    quotient: Int64s = high * part // whole
    rest: Int64s = high * part - quotient * whole
    small: Int64s = ((rest << _SHIFT) + low * part) // whole
    return (quotient << _SHIFT) + small


def parts_per_billion(value: Int64s, ppb: int) -> Int64s:
    """``value * ppb / 10**9``, rounded up."""
    if size(value) * ppb < MAX_PRODUCT:
        part: Int64s = -(-value * ppb // _NS_PER_S)
        return part
    seconds = value // _NS_PER_S
    rest = value - seconds * _NS_PER_S
    return seconds * ppb - (-rest * ppb // _NS_PER_S)


def size(values: Int64s | np.int64) -> int:
    """How far from 0 any of them is; there is at least one."""
    return max(abs(int(np.min(values))), abs(int(np.max(values))))
