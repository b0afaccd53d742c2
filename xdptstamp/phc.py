# SPDX-License-Identifier: GPL-2.0-only
"""A PTP hardware clock: /dev/ptpN, read, compared with the system's clocks, and set.

Layouts are those of include/uapi/linux/ptp_clock.h, the numbers of its ioctls those of every
architecture but alpha, mips, parisc, powerpc and sparc.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xdptstamp._sys import timex
from xdptstamp.clock import ClockSample
from xdptstamp.errors import SetupError, SystemCallError

#: Ways to read both clocks, the best first.
METHODS = ("precise", "extended", "plain")
#: How wrong the difference may be by each of them, in words.
UNCERTAINTY_WORDS = {
    "precise": "latched together by the hardware (PCIe PTM), taken to be within 100 ns",
    "extended": "half of the shortest window, the system clock read around the PHC's registers",
    "plain": "half of the shortest window, the system clock read around the driver's whole call",
}

_CLOCKFD = 3
_NS_PER_S = 1_000_000_000
# The kernel does not tell how good a precise reading is.
_PRECISE_NS = 100
_NUM_READINGS = 5
_ATTEMPTS = 5

_TIME = struct.Struct("=qI4x")  # struct ptp_clock_time
_MAX_READINGS = 25
_CAPS = struct.Struct("=9i44x")
_SYS_OFFSET = struct.Struct(f"=I12x{(2 * _MAX_READINGS + 1) * _TIME.size}x")
# Behind n_samples: clockid since Linux 6.12 (reserved before, and 0 all the same: CLOCK_REALTIME),
# then two reserved words.
_SYS_OFFSET_EXTENDED = struct.Struct(f"=Ii8x{3 * _MAX_READINGS * _TIME.size}x")
_SYS_OFFSET_PRECISE = struct.Struct(f"={3 * _TIME.size}x16x")
_HEAD = 16  # bytes ahead of the times

_WRITE, _READ = 1, 2


def _request(direction: int, number: int, size: int) -> int:
    # _IOC() of include/uapi/asm-generic/ioctl.h
    return direction << 30 | size << 16 | ord("=") << 8 | number


_PTP_CLOCK_GETCAPS = _request(_READ, 1, _CAPS.size)
_PTP_SYS_OFFSET = _request(_WRITE, 5, _SYS_OFFSET.size)
_PTP_SYS_OFFSET_PRECISE = _request(_WRITE | _READ, 8, _SYS_OFFSET_PRECISE.size)
_PTP_SYS_OFFSET_EXTENDED = _request(_WRITE | _READ, 9, _SYS_OFFSET_EXTENDED.size)

# system clock before, PHC, system clock behind
_Reading = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PhcCaps:
    """What a clock can do (struct ptp_clock_caps).

    :param max_adj_ppb: the greatest change of its rate.
    :param has_cross_timestamping: it can be read together with the system's clock (precise).
    """

    max_adj_ppb: int
    num_alarms: int
    num_external_timestamps: int
    num_periodic_outputs: int
    has_pps: bool
    num_pins: int
    has_cross_timestamping: bool
    has_phase_adjustment: bool
    max_phase_adj_ns: int


@dataclass(frozen=True, slots=True)
class SystemClocks:
    """What the kernel knows of UTC and TAI.

    :param tai_offset_s: CLOCK_TAI minus CLOCK_REALTIME; 0 where nobody told the kernel.
    :param leap: ``none``, ``insert`` or ``delete`` at the end of this UTC day, or ``happening``.
    """

    tai_offset_s: int
    leap: str

    def notes(self) -> list[str]:
        """Sentences for the user on what is not as one may expect."""
        notes = []
        if not self.tai_offset_s:
            notes.append(
                "the kernel's TAI offset is 0, which is usual: CLOCK_TAI shows UTC here, "
                "and a PHC that ptp4l keeps on TAI is 37 s ahead of it"
            )
        if self.leap in ("insert", "delete"):
            notes.append(
                f"a leap second is announced (STA_{self.leap[:3].upper()}): CLOCK_REALTIME steps "
                "at the end of the UTC day, CLOCK_TAI and the PHC do not"
            )
        elif self.leap == "happening":
            notes.append("a leap second is happening or has just happened")
        return notes


def system_clocks() -> SystemClocks:
    """The kernel's TAI offset and leap second state (adjtimex)."""
    tai_offset_s, status, state = timex.system_state()
    leap = "none"
    if state in (timex.TIME_OOP, timex.TIME_WAIT):
        leap = "happening"
    elif status & (timex.STA_INS | timex.STA_DEL):
        leap = "insert" if status & timex.STA_INS else "delete"
    return SystemClocks(tai_offset_s, leap)


def clock_id(fd: int) -> int:
    """The clock id that clock_gettime takes for an open clock device (FD_TO_CLOCKID)."""
    return (~fd << 3) | _CLOCKFD


class Phc:
    """The PTP hardware clock ``index``, open. A context manager.

    :param is_writable: it is to be set.
    :ivar method: how it is compared, one of :data:`METHODS`; None: it was not yet.
    :ivar refusals: why it is not by better ones, by method.
    :raises SetupError: If there is no such clock or it may not be opened.
    """

    def __init__(self, index: int, *, is_writable: bool = False) -> None:
        self.index = index
        self.path = Path(f"/dev/ptp{index}")
        self.method: str | None = None
        self.refusals: dict[str, str] = {}
        flags = os.O_RDWR if is_writable else os.O_RDONLY
        try:
            self._fd = os.open(self.path, flags | os.O_CLOEXEC)
        except OSError as error:
            raise SetupError(str(self.path), _advice(error, is_writable)) from None

    def __enter__(self) -> Phc:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The driver's name for it (igc: the NIC's MAC address); empty: it has none."""
        try:
            path = Path(f"/sys/class/ptp/ptp{self.index}/clock_name")
            return path.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""  # no sysfs here, and the name is nothing that we need

    def now_ns(self) -> int:
        """The clock's time in nanoseconds.

        :raises SystemCallError: If the device is no clock, or has gone with its NIC.
        """
        try:
            return time.clock_gettime_ns(clock_id(self._fd))
        except OSError as error:
            raise self._error(error, "clock_gettime") from None

    def caps(self) -> PhcCaps:
        """What it can do.

        :raises SystemCallError: If the device is no clock, or has gone with its NIC.
        """
        answer = self._ioctl(_PTP_CLOCK_GETCAPS, bytearray(_CAPS.size))
        max_adj, alarms, extts, outs, pps, pins, cross, phase, max_phase = _CAPS.unpack(answer)
        return PhcCaps(
            max_adj, alarms, extts, outs, bool(pps), pins, bool(cross), bool(phase), max_phase
        )

    def compare(self) -> ClockSample:
        """Read it together with the system's clocks, by the best method there is.

        :raises SystemCallError: If it cannot be read by any.
        """
        if self.method is not None:
            return self._compare_by(self.method)
        for method in METHODS[:-1]:
            try:
                sample = self._compare_by(method)
            except SystemCallError as error:
                # EOPNOTSUPP: the driver has no such thing, or (precise) no way to the system's
                # clock; older kernels: ENOTTY. If the clock is gone, the last method says so.
                self.refusals[method] = error.strerror or str(error)
            else:
                self.method = method
                return sample
        sample = self._compare_by(METHODS[-1])
        self.method = METHODS[-1]
        return sample

    def set_ns(self, time_ns: int) -> None:
        """Set it to a time.

        :raises SystemCallError: If it may not be, or runs free under a virtual clock.
        """
        try:
            time.clock_settime_ns(clock_id(self._fd), time_ns)
        except OSError as error:
            raise self._error(error, "clock_settime") from None

    def step(self, step_ns: int) -> None:
        """Set it forward by so much (back, if negative)."""
        timex.step(clock_id(self._fd), step_ns, str(self.path))

    def rate_ppb(self) -> int:
        """By how much it was last told to run faster than it would by itself."""
        return timex.frequency_ppb(clock_id(self._fd), str(self.path))

    def set_rate_ppb(self, ppb: int) -> None:
        """Let it run faster by so much (slower, if negative)."""
        timex.set_frequency_ppb(clock_id(self._fd), ppb, str(self.path))

    def close(self) -> None:
        """Close the device; once is enough."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _compare_by(self, method: str) -> ClockSample:
        read = _READERS[method]
        for _ in range(_ATTEMPTS):
            # The ioctls give CLOCK_REALTIME; both move together with CLOCK_TAI, but where the
            # offset is set, or a leap second comes, in between.
            before = timex.system_state()[0]
            readings = [each for each in read(self) if each[0] <= each[2]]
            if readings and timex.system_state()[0] == before:
                start, phc_ns, end = min(readings, key=lambda each: each[2] - each[0])
                half = -(-(end - start) // 2) + 1
                return ClockSample(
                    tai_ns=(start + end) // 2 + before * _NS_PER_S,
                    phc_ns=phc_ns,
                    uncertainty_ns=_PRECISE_NS if method == "precise" else half,
                    tai_offset_s=before,
                    method=method,
                )
        problem = "CLOCK_REALTIME is set again and again while it is compared with it"
        raise SetupError(str(self.path), problem)

    def _read_precise(self) -> list[_Reading]:
        answer = self._ioctl(_PTP_SYS_OFFSET_PRECISE, bytearray(_SYS_OFFSET_PRECISE.size))
        phc_ns, system_ns, _ = _times(answer, 0, 3)
        return [(system_ns, phc_ns, system_ns)]

    def _read_extended(self) -> list[_Reading]:
        request = bytearray(_SYS_OFFSET_EXTENDED.pack(_NUM_READINGS, time.CLOCK_REALTIME))
        times = _times(self._ioctl(_PTP_SYS_OFFSET_EXTENDED, request), _HEAD, 3 * _NUM_READINGS)
        return list(zip(times[::3], times[1::3], times[2::3], strict=True))

    def _read_plain(self) -> list[_Reading]:
        request = bytearray(_SYS_OFFSET.pack(_NUM_READINGS))
        times = _times(self._ioctl(_PTP_SYS_OFFSET, request), _HEAD, 2 * _NUM_READINGS + 1)
        return list(zip(times[:-1:2], times[1::2], times[2::2], strict=True))

    def _ioctl(self, number: int, request: bytearray) -> bytearray:
        try:
            fcntl.ioctl(self._fd, number, request)
        except OSError as error:
            raise self._error(error, _NAMES[number]) from None
        return request

    def _error(self, error: OSError, call: str) -> SystemCallError:
        number = error.errno or errno.EIO
        advice = {
            errno.EBUSY: "It runs free, for virtual clocks on it use it (n_vclocks in sysfs).",
            errno.EPERM: "It needs root, or write permission on the device.",
            errno.EACCES: "It needs root, or write permission on the device.",
        }.get(number, "Is it a PTP clock, and is its NIC still there?")
        return SystemCallError(number, call, str(self.path), advice)


_READERS: dict[str, Callable[[Phc], list[_Reading]]] = {
    "precise": Phc._read_precise,
    "extended": Phc._read_extended,
    "plain": Phc._read_plain,
}
_NAMES = {
    _PTP_CLOCK_GETCAPS: "PTP_CLOCK_GETCAPS",
    _PTP_SYS_OFFSET: "PTP_SYS_OFFSET",
    _PTP_SYS_OFFSET_PRECISE: "PTP_SYS_OFFSET_PRECISE",
    _PTP_SYS_OFFSET_EXTENDED: "PTP_SYS_OFFSET_EXTENDED",
}


def _times(answer: bytearray, at: int, count: int) -> list[int]:
    # The sign of the seconds is that of the whole; nanoseconds go forward.
    pairs = _TIME.iter_unpack(answer[at : at + count * _TIME.size])
    return [seconds * _NS_PER_S + nanoseconds for seconds, nanoseconds in pairs]


def _advice(error: OSError, is_writable: bool) -> str:
    if error.errno == errno.ENOENT:
        clocks = ", ".join(sorted(str(path) for path in Path("/dev").glob("ptp[0-9]*")))
        return f"no such PTP hardware clock; there are: {clocks or 'none'}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        right = "write" if is_writable else "read"
        return f"may not be opened: give this user {right} permission on it (a udev rule, or root)"
    return f"cannot be opened: {error.strerror}"
