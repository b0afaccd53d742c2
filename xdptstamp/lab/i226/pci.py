# SPDX-License-Identifier: GPL-2.0-only
"""The PCI function: identity, capabilities, regions and interrupts of an I226-LM."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from xdptstamp.lab.i226.registers import BAR0_SIZE

NUM_REGIONS = 9
NUM_IRQS = 5
BAR0_REGION = 0
MSIX_REGION = 3
CONFIG_REGION = 7
MSIX_IRQ = 2
NUM_VECTORS = 5

CONFIG_SIZE = 4096
_MSIX_BAR_SIZE = 16 * 1024
REGION_SIZES = {
    BAR0_REGION: BAR0_SIZE,
    MSIX_REGION: _MSIX_BAR_SIZE,
    CONFIG_REGION: CONFIG_SIZE,
}

VENDOR_INTEL = 0x8086
DEVICE_I226_LM = 0x125B
_REVISION = 0x04
_CLASS_ETHERNET = 0x020000

_PM_CAP, _MSIX_CAP, _PCIE_CAP = 0x40, 0x70, 0xA0
_COMMAND = 0x04
_BAR0 = 0x10
_MSIX_PBA_OFFSET = 0x2000
_BUS_MASTER = 0x4


@dataclass(frozen=True, slots=True)
class _Writable:
    # What of the config space a write changes: bytes [start, end) under a mask.
    start: int
    mask: bytes


# QEMU emulates BARs, the command's INTx bit and MSI-X itself; these are what it passes on.
_WRITABLE = (
    _Writable(_COMMAND, b"\x47\x05"),
    _Writable(0x0C, b"\xff"),
    _Writable(_BAR0, b"\xf0\xff\xff\xff" * 6),
    _Writable(0x3C, b"\xff"),
    _Writable(_PM_CAP + 4, b"\x03\x81"),
    _Writable(_MSIX_CAP + 2, b"\x00\xc0"),
    _Writable(_PCIE_CAP + 8, b"\xff\x7f"),
    _Writable(_PCIE_CAP + 0x10, b"\xff\x00"),
)


class ConfigSpace:
    """The 4096 bytes of configuration space."""

    def __init__(self) -> None:
        self._mask = bytearray(CONFIG_SIZE)
        for item in _WRITABLE:
            self._mask[item.start : item.start + len(item.mask)] = item.mask
        self.reset()

    def reset(self) -> None:
        """As after power-on."""
        data = self._data = bytearray(CONFIG_SIZE)
        struct.pack_into("<HHHHI", data, 0, VENDOR_INTEL, DEVICE_I226_LM, 0, 0x0010, 0)
        struct.pack_into("<I", data, 8, _CLASS_ETHERNET << 8 | _REVISION)
        struct.pack_into("<HH", data, 0x2C, VENDOR_INTEL, 0)
        data[0x34] = _PM_CAP
        # Power management, version 3, no PME.
        struct.pack_into("<BBHH", data, _PM_CAP, 0x01, _MSIX_CAP, 0x0003, 0x0008)
        struct.pack_into(
            "<BBHII",
            data,
            _MSIX_CAP,
            0x11,
            _PCIE_CAP,
            NUM_VECTORS - 1,
            MSIX_REGION,
            _MSIX_PBA_OFFSET | MSIX_REGION,
        )
        # PCI Express endpoint, version 2; link 5 GT/s x1.
        struct.pack_into("<BBH", data, _PCIE_CAP, 0x10, 0x00, 0x0002)
        struct.pack_into("<IHHI", data, _PCIE_CAP + 4, 0x10008001, 0x2810, 0, 0x00000012)
        struct.pack_into("<HH", data, _PCIE_CAP + 0x10, 0, 0x0012)

    @property
    def is_bus_master(self) -> bool:
        """The function may reach memory."""
        return bool(self._data[_COMMAND] & _BUS_MASTER)

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; the caller keeps them inside."""
        return bytes(self._data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Change what may be changed."""
        for index, value in enumerate(data, start=offset):
            mask = self._mask[index]
            self._data[index] = (self._data[index] & ~mask) | (value & mask)
