# SPDX-License-Identifier: GPL-2.0-only
"""What ``conform``'s two kinds of run share: the frame of their results, and the exit code."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from xdptstamp.cli.session import EXIT_DOUBT, EXIT_ERROR, EXIT_SIGNAL

if TYPE_CHECKING:
    from xdptstamp.cli.session import Signals
    from xdptstamp.conformance import Conformance, Mode
    from xdptstamp.nic import Nic


def new_conformance(nic: Nic, mode: Mode) -> Conformance:
    """The frame of what is about to be run."""
    from xdptstamp.collect import collect_versions
    from xdptstamp.conformance import Conformance

    return Conformance(
        ifname=nic.ifname,
        driver=nic.driver_info().driver or nic.link().kind or "unknown",
        kernel=os.uname().release,
        mode=mode,
        argv=["xdptstamp", *sys.argv[1:]],
        started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=collect_versions(),
    )


def exit_code(done: Conformance, signals: Signals, *, is_strict: bool) -> int:
    """3: something failed; 128+n: ended by signal n; 1: by something else."""
    if done.has_failed(is_strict=is_strict):
        return EXIT_DOUBT
    if signals.numbers:
        return EXIT_SIGNAL + signals.numbers[0]
    return EXIT_ERROR if done.ended_by else 0
