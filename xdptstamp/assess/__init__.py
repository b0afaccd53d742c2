# SPDX-License-Identifier: GPL-2.0-only
"""What the facts of ``xdptstamp.caps`` mean for a measurement, and what to do about them."""

from xdptstamp.assess.conclusion import Conclusion, conclude
from xdptstamp.assess.interface import assess_interface, assess_interfaces
from xdptstamp.assess.machine import assess_machine

__all__ = ["Conclusion", "assess_interface", "assess_interfaces", "assess_machine", "conclude"]
