# SPDX-License-Identifier: GPL-2.0-only
"""A guest under QEMU, with the unmodified igc driver on the virtual I226, on any machine."""

from xdptstamp.lab.guest.channel import GuestProcess
from xdptstamp.lab.guest.config import GuestConfig
from xdptstamp.lab.guest.kit import KERNELS
from xdptstamp.lab.guest.machine import Guest, GuestDiedError

__all__ = ["KERNELS", "Guest", "GuestConfig", "GuestDiedError", "GuestProcess"]
