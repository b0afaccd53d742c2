# SPDX-License-Identifier: GPL-2.0-only
"""A PTP hardware clock: /dev/ptpN."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from xdptstamp.errors import SetupError, SystemCallError

_CLOCKFD = 3


def clock_id(fd: int) -> int:
    """The clock id that clock_gettime takes for an open clock device (FD_TO_CLOCKID)."""
    return (~fd << 3) | _CLOCKFD


class Phc:
    """The PTP hardware clock ``index``, opened for reading. A context manager.

    :raises SetupError: If there is no such clock or it may not be opened.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.path = Path(f"/dev/ptp{index}")
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SetupError(str(self.path), _advice(error)) from None

    def __enter__(self) -> Phc:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def now_ns(self) -> int:
        """The clock's time in nanoseconds.

        :raises SystemCallError: If the device is no clock, or has gone with its NIC.
        """
        try:
            return time.clock_gettime_ns(clock_id(self._fd))
        except OSError as error:
            number = error.errno or errno.EIO
            advice = "Is it a PTP clock, and is its NIC still there?"
            raise SystemCallError(number, "clock_gettime", str(self.path), advice) from None

    def close(self) -> None:
        """Close the device; once is enough."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _advice(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        clocks = ", ".join(sorted(str(path) for path in Path("/dev").glob("ptp[0-9]*")))
        return f"no such PTP hardware clock; there are: {clocks or 'none'}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "may not be opened: give this user read permission on it (a udev rule, or root)"
    return f"cannot be opened: {error.strerror}"
