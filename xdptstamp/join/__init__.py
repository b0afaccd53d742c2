# SPDX-License-Identifier: GPL-2.0-only
"""Runs held against what somebody else wrote down of the same packets.

- ``truth_log``: :func:`read_truth_log`, what the virtual I226 logged of each stamped packet.
- ``pairing``: which row and which entry are of one packet. No time has a say in it.
- ``books``: :class:`Truth`, what was found, one :class:`Side` for each direction.
- ``truth``: :func:`join_truth`, the error of every stamp of a run, exactly.
- ``verdict``: what of that makes a run one not to be trusted, in words.
"""

from __future__ import annotations

from xdptstamp.join.books import Side, Truth
from xdptstamp.join.truth import KINDS, join_truth
from xdptstamp.join.truth_log import TruthLog, read_truth_log

__all__ = ["KINDS", "Side", "Truth", "TruthLog", "join_truth", "read_truth_log"]
