# SPDX-License-Identifier: GPL-2.0-only
"""Doubt about a run: what ``--fail-if`` asks, and what is worth a warning unasked.

A check returns :class:`~xdptstamp.runinfo.Warning` with the value, the limit and what to do.
Only those with ``is_untrusted`` change the exit code (to 3).
"""

from xdptstamp.checks.doubts import run_warnings
from xdptstamp.checks.fail_if import FailIf, parse_fail_if
from xdptstamp.checks.mixed_doubts import mixed_warnings

__all__ = ["FailIf", "mixed_warnings", "parse_fail_if", "run_warnings"]
