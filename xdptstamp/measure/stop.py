# SPDX-License-Identifier: GPL-2.0-only
"""A request to end a measurement, that a sleeping loop wakes up for."""

from __future__ import annotations

import os


class Stop:
    """Asked for from a signal handler or another thread; ``reason`` is None until then."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def request(self, reason: str) -> None:
        """Ask to stop; the first reason stays."""
        if self.reason is None:
            self.reason = reason
            os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        """Readable once a stop was asked for."""
        return self._fd

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self._fd)
