# SPDX-License-Identifier: GPL-2.0-only
"""Links to measure on where there is no hardware to measure with."""

from xdptstamp.lab.veth import VethLab

__all__ = ["VethLab"]
