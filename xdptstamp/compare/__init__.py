# SPDX-License-Identifier: GPL-2.0-only
"""Runs held against each other: what differs, by how much, and how sure that is.

- ``keys``: what runs must have in common; ``sides``: who is held against whom.
- ``figures``: what a run has to compare; ``pieces``: its samples, cut for that.
- ``estimate``, ``resample``, ``power``, ``family``: the statistics, which know no run.
- ``changes``: of one figure; ``verdicts``: what is said of all; ``limits``: ``--fail-if``.
- ``judge``: all together.
"""

from xdptstamp.compare.judge import compare
from xdptstamp.compare.limits import ChangeLimit, parse_change_limit
from xdptstamp.compare.sides import member
from xdptstamp.compare.verdicts import RESOLUTION

__all__ = ["RESOLUTION", "ChangeLimit", "compare", "member", "parse_change_limit"]
