# SPDX-License-Identifier: GPL-2.0-only
"""The PHY behind MDIC: identity, advertisement, power; clause 22, and clause 45 through it."""

from __future__ import annotations

from collections.abc import Callable

from xdptstamp.lab.i226 import registers as reg

_CONTROL, _STATUS, _ID1, _ID2, _ADVERTISED, _PARTNER = range(6)
_GIGABIT_CONTROL, _GIGABIT_STATUS = 9, 10
_MMD_CONTROL, _MMD_DATA = 13, 14
_FIRMWARE_VERSION = 30

_ID = 0x67C9DC00  # GPY211
_CONTROL_DEFAULT = 0x1140
_RESET, _POWER_DOWN, _RESTART = 0x8000, 0x0800, 0x0200
_STATUS_DEFAULT = 0x79C9  # all of 10 and 100 Mb/s, autonegotiation
_LINK_AND_COMPLETE = 0x0024
_ADVERTISED_DEFAULT = 0x0DE1
_PARTNER_ABILITY = 0xCDE1  # all speeds, symmetric pause
_GIGABIT_DEFAULT = 0x0200
_GIGABIT_STATUS_UP = 0x3C00
_MULTIGBT = (7, 0x20)
_MULTIGBT_DEFAULT = 0x0080
_FUNCTION_DATA = 0x4000

_MAX_MMD_REGISTERS = 4096


class Phy:
    """One port's PHY.

    :param changed: called when power or advertisement changed, so that the link may have.
    :ivar has_link: set by the port.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.has_link = False
        self._changed = changed
        self._registers: dict[int, int] = {}
        self._mmd: dict[tuple[int, int], int] = {}
        self._mmd_control = self._mmd_address = 0
        self.reset()

    def reset(self) -> None:
        """As after power-on."""
        self._registers = {
            _CONTROL: _CONTROL_DEFAULT,
            _ID1: _ID >> 16,
            _ID2: _ID & 0xFFFF,
            _ADVERTISED: _ADVERTISED_DEFAULT,
            _PARTNER: _PARTNER_ABILITY,
            _GIGABIT_CONTROL: _GIGABIT_DEFAULT,
            _FIRMWARE_VERSION: 0x8754,
        }
        self._mmd = {_MULTIGBT: _MULTIGBT_DEFAULT}

    @property
    def is_powered(self) -> bool:
        """It is not powered down."""
        return not self._registers[_CONTROL] & _POWER_DOWN

    @property
    def speeds(self) -> set[int]:
        """What it advertises, in Mb/s."""
        advertised = self._registers[_ADVERTISED]
        speeds = {speed for speed, mask in ((10, 0x60), (100, 0x180)) if advertised & mask}
        if self._mmd.get(_MULTIGBT, 0) & 0x0080:
            speeds.add(2500)
        if self._registers[_GIGABIT_CONTROL] & 0x0200:
            speeds.add(1000)
        return speeds

    def access(self, mdic: int) -> int:
        """What MDIC reads after ``mdic`` was written: the operation is done at once."""
        number = (mdic >> reg.MDIC_REG_SHIFT) & 0x1F
        data = mdic & reg.MDIC_DATA_MASK
        if mdic & reg.MDIC_OP_WRITE:
            self._write(number, data)
        elif mdic & reg.MDIC_OP_READ:
            data = self._read(number)
        return (mdic & ~reg.MDIC_DATA_MASK) | data | reg.MDIC_READY

    def _read(self, number: int) -> int:
        if number == _STATUS:
            return _STATUS_DEFAULT | (_LINK_AND_COMPLETE if self.has_link else 0)
        if number == _GIGABIT_STATUS:
            return _GIGABIT_STATUS_UP if self.has_link else 0
        if number == _MMD_CONTROL:
            return self._mmd_control
        if number == _MMD_DATA:
            if self._mmd_control & _FUNCTION_DATA:
                return self._mmd.get(self._mmd_key, 0)
            return self._mmd_address
        return self._registers.get(number, 0)

    def _write(self, number: int, data: int) -> None:
        if number == _MMD_CONTROL:
            self._mmd_control = data
        elif number == _MMD_DATA:
            self._write_mmd(data)
        elif number == _CONTROL:
            if data & _RESET:
                self.reset()
            else:
                self._registers[_CONTROL] = data & ~_RESTART
            self._changed()
        elif number not in (_STATUS, _ID1, _ID2, _PARTNER, _GIGABIT_STATUS):
            self._registers[number] = data

    def _write_mmd(self, data: int) -> None:
        if not self._mmd_control & _FUNCTION_DATA:
            self._mmd_address = data
        elif self._mmd_key in self._mmd or len(self._mmd) < _MAX_MMD_REGISTERS:
            self._mmd[self._mmd_key] = data

    @property
    def _mmd_key(self) -> tuple[int, int]:
        return self._mmd_control & 0x1F, self._mmd_address
