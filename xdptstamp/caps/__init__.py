# SPDX-License-Identifier: GPL-2.0-only
"""Read what a machine and an interface can do and are set to, without changing either.

What may not be read is noted with its reason, and the rest is read all the same.
"""

from xdptstamp.caps.interface import read_interface, read_interfaces, read_settings
from xdptstamp.caps.machine import read_machine

__all__ = ["read_interface", "read_interfaces", "read_machine", "read_settings"]
