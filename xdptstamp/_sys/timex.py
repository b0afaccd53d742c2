# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's NTP state says, and adjusting a clock: clock_adjtime(2)."""

from __future__ import annotations

import ctypes
import time

from xdptstamp._sys.libc import check

# include/uapi/linux/timex.h
ADJ_FREQUENCY, ADJ_SETOFFSET, ADJ_NANO = 0x0002, 0x0100, 0x2000
STA_INS, STA_DEL = 0x0010, 0x0020
TIME_OOP, TIME_WAIT = 3, 4

_NS_PER_S = 1_000_000_000
_FREQUENCY_SHIFT = 16  # timex.freq is in 2**-16 ppm


class timex(ctypes.Structure):
    """struct timex."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_sec", ctypes.c_long),
        ("time_usec", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.clock_adjtime.restype = ctypes.c_int
_libc.clock_adjtime.argtypes = (ctypes.c_int, ctypes.POINTER(timex))


def system_state() -> tuple[int, int, int]:
    """CLOCK_TAI minus CLOCK_REALTIME in seconds, the STA_* bits, and the TIME_* state."""
    values = timex()
    state = _libc.clock_adjtime(time.CLOCK_REALTIME, ctypes.byref(values))
    check(state, "clock_adjtime", "CLOCK_REALTIME")
    return int(values.tai), int(values.status), int(state)


def step(clock_id: int, step_ns: int, subject: str) -> None:
    """Set a clock forward by so much (back, if negative)."""
    seconds, nanoseconds = divmod(step_ns, _NS_PER_S)
    values = timex(modes=ADJ_SETOFFSET | ADJ_NANO, time_sec=seconds, time_usec=nanoseconds)
    _adjust(clock_id, values, subject)


def frequency_ppb(clock_id: int, subject: str) -> int:
    """By how much a clock was last told to run faster than it would, as far as the kernel knows."""
    values = timex()
    _adjust(clock_id, values, subject)
    return round(int(values.freq) * 1000 / (1 << _FREQUENCY_SHIFT))


def set_frequency_ppb(clock_id: int, ppb: int, subject: str) -> None:
    """Let a clock run faster by so much (slower, if negative)."""
    scaled = round(ppb * (1 << _FREQUENCY_SHIFT) / 1000)
    _adjust(clock_id, timex(modes=ADJ_FREQUENCY, freq=scaled), subject)


def _adjust(clock_id: int, values: timex, subject: str) -> None:
    result = _libc.clock_adjtime(clock_id, ctypes.byref(values))
    advice = "It needs root, or write permission on the device and its NIC to be there."
    check(result, "clock_adjtime", subject, advice)
