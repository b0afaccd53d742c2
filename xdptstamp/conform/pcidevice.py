# SPDX-License-Identifier: GPL-2.0-only
"""A NIC as a PCI device, whose driver can be taken away and given back."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from xdptstamp import _rtnl
from xdptstamp.errors import SetupError, SystemCallError

_NET = Path("/sys/class/net")
_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A device and the driver that it has.

    :param path: its folder in /sys; ``driver``: that of its driver.
    """

    path: Path
    driver: Path

    @classmethod
    def of(cls, ifname: str) -> PciDevice | None:
        """That of an interface; None: it has none."""
        path = Path(os.path.realpath(_NET / ifname / "device"))
        driver = Path(os.path.realpath(path / "driver"))
        is_pci = Path(os.path.realpath(path / "subsystem")).name == "pci"
        return cls(path, driver) if is_pci and (driver / "unbind").exists() else None

    def unbind(self) -> None:
        """Take the driver away; the interface is gone.

        :raises SystemCallError: EACCES without root.
        """
        self._write("unbind")

    def bind(self, ifname: str) -> None:
        """Give it the driver back, and the interface its name.

        :raises SetupError: There is no interface.
        """
        self._write("bind")
        deadline = time.monotonic() + _LIMIT_S
        while not (found := sorted(self.path.glob("net/*"))):
            if time.monotonic() > deadline:
                raise SetupError(ifname, "its driver was bound again and made no interface")
            time.sleep(0.01)
        link = _rtnl.find_link(ifname=found[0].name)
        if link is not None and link.ifname != ifname:
            _rtnl.rename_link(link.ifindex, ifname)

    def _write(self, name: str) -> None:
        try:
            (self.driver / name).write_text(self.path.name, encoding="ascii")
        except OSError as error:
            raise SystemCallError(error.errno or 0, name, self.path.name) from None
