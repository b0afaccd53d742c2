# SPDX-License-Identifier: GPL-2.0-only
"""Runs worked out anew from their files.

- ``recomputed``: :func:`recompute`, everything that follows from a run's files.
- ``shown``: that as text, as ``xdptstamp show`` prints it; as one JSON object.
- ``exported``: their samples in another form.
"""

from xdptstamp.report.recomputed import Recomputed, recompute

__all__ = ["Recomputed", "recompute"]
