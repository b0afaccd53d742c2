# SPDX-License-Identifier: GPL-2.0-only
"""A guest under QEMU, with the unmodified igc driver on the virtual I226, on any machine.

Or with one of the NICs that QEMU emulates itself, and its driver.

virtme-ng 1.42 was tried for the boot. It runs Debian's kernel under TCG with an unpacked QEMU, but:

- a kernel's modules must be in the guest's root as ``/lib/modules/RELEASE``, so igc is not found of
  a kernel that is not installed; and the host needs kmod, whose depmod it runs over all modules;
- without udev in the root, as in a container, a command's output and exit code are lost: it looks
  for its virtio ports by the names that udev gives them;
- it takes any /dev/kvm that it may open for one that works; a boot's console is kept only if asked;
- one command per boot.
"""

from xdptstamp.lab.guest.channel import GuestProcess
from xdptstamp.lab.guest.config import GuestConfig
from xdptstamp.lab.guest.kit import KERNELS
from xdptstamp.lab.guest.machine import Guest, GuestDiedError
from xdptstamp.lab.guest.nics import NICS

__all__ = ["KERNELS", "NICS", "Guest", "GuestConfig", "GuestDiedError", "GuestProcess"]
