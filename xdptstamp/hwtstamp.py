# SPDX-License-Identifier: GPL-2.0-only
"""The NIC's hwtstamp setting: read it, and hold it on for as long as it is needed.

The setting belongs to the interface, and others use it: ptp4l, another xdptstamp. A
:class:`HwtstampGuard` therefore remembers what it found, and puts it back only if what is set is
still its own and no other xdptstamp uses the interface. What it found is on disk as well, so
that the last of several users restores it, or, after a crash, the next start does.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from xdptstamp import _ethtool
from xdptstamp._ethtool import TimestampingInfo
from xdptstamp.errors import SetupError, SystemCallError, UnsupportedError
from xdptstamp.hwtstate import Announcement, Record, RecordFile, interface_lock, users_of
from xdptstamp.nic import Nic

TX_OFF, TX_ON = 0, 1
RX_NONE, RX_ALL = 0, 1

#: Names as ``ethtool -T`` prints them, by value.
TX_TYPES = ("off", "on", "onestep-sync", "onestep-p2p")
RX_FILTERS = (
    "none",
    "all",
    "some",
    "ptpv1-l4-event",
    "ptpv1-l4-sync",
    "ptpv1-l4-delay-req",
    "ptpv2-l4-event",
    "ptpv2-l4-sync",
    "ptpv2-l4-delay-req",
    "ptpv2-l2-event",
    "ptpv2-l2-sync",
    "ptpv2-l2-delay-req",
    "ptpv2-event",
    "ptpv2-sync",
    "ptpv2-delay-req",
    "ntp-all",
)

POLICIES = ("auto", "on", "keep")

# Which filter to ask for, the best first: all packets, else as many UDP packets as there are.
# Drivers are free to widen what they are asked for, so that a PTP filter is worth the question.
_PREFERRED_FILTERS = (RX_ALL, 15, 12, 6, 9, RX_NONE)

_NO_SUCH_FILTER = {errno.ERANGE, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class HwtstampConfig:
    """One hwtstamp setting (struct hwtstamp_config)."""

    flags: int
    tx_type: int
    rx_filter: int

    @property
    def is_tx_on(self) -> bool:
        """Tx packets that ask for it are stamped."""
        return self.tx_type != TX_OFF

    @property
    def is_rx_all(self) -> bool:
        """Every received packet is stamped."""
        return self.rx_filter == RX_ALL

    def __str__(self) -> str:
        return f"tx {_name(TX_TYPES, self.tx_type)}, rx {_name(RX_FILTERS, self.rx_filter)}"


class HwtstampDevice(Protocol):
    """What a guard needs of an interface; :class:`NicHwtstamp` is the real one."""

    @property
    def ifname(self) -> str:
        """Its name."""

    @property
    def ifindex(self) -> int:
        """Its number in this namespace."""

    @property
    def mac(self) -> str:
        """Its MAC address."""

    def timestamping_info(self) -> TimestampingInfo | None:
        """What it offers."""

    def get(self) -> HwtstampConfig | None:
        """The setting, None where there is none."""

    def set(self, config: HwtstampConfig) -> None:
        """Ask for a setting; the driver may widen the filter.

        :raises UnsupportedError: If the interface has no such setting.
        :raises SystemCallError: ERANGE where the NIC has no such filter; EPERM.
        """


def read_hwtstamp(nic: Nic) -> HwtstampConfig | None:
    """The setting of an interface, None where its driver has none (veth)."""
    values = _ethtool.get_hwtstamp(nic.current_name)
    return None if values is None else HwtstampConfig(*values)


class NicHwtstamp:
    """The hwtstamp setting of a real interface."""

    def __init__(self, nic: Nic) -> None:
        self._nic = nic
        self.ifname = nic.ifname
        self.ifindex = nic.ifindex
        self.mac = nic.mac

    def timestamping_info(self) -> TimestampingInfo | None:
        """``ethtool -T``."""
        return self._nic.timestamping_info()

    def get(self) -> HwtstampConfig | None:
        """As :func:`read_hwtstamp`."""
        return read_hwtstamp(self._nic)

    def set(self, config: HwtstampConfig) -> None:
        """Ask for a setting; the driver may widen the filter: read it back.

        :raises UnsupportedError: If the driver has no such setting.
        :raises SystemCallError: ERANGE where the NIC has no such filter; EPERM.
        """
        name = self._nic.current_name
        if not _ethtool.set_hwtstamp(name, config.flags, config.tx_type, config.rx_filter):
            driver = self._nic.driver_info().driver or "its driver"
            found = f"{name} ({driver}), which has none"
            raise UnsupportedError("hardware timestamping", "a NIC with a hwtstamp setting", found)


class HwtstampGuard:
    """Holds the hwtstamp setting while a context lasts.

    ``auto`` turns on only what is off: Tx stamps, and Rx stamps of all packets, or of as many as
    the NIC can. ``on`` sets both whatever they were. ``keep`` changes nothing; it still keeps
    another xdptstamp from turning off what this one relies on.

    After entering, ``original`` is what was found, ``obtained`` what the NIC says it is set to
    now (both None where it has no such setting); ``notes`` are sentences for the user.

    :param state_dirs: where records may be kept, the best first; None: the usual places.
    """

    def __init__(
        self, device: HwtstampDevice, policy: str = "auto", state_dirs: list[Path] | None = None
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
        self.policy = policy
        self.original: HwtstampConfig | None = None
        self.obtained: HwtstampConfig | None = None
        self.notes: list[str] = []
        self._device = device
        self._file = RecordFile(device.ifindex, state_dirs)
        self._announcement: Announcement | None = None

    def __enter__(self) -> HwtstampGuard:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Announce this user, and turn on what the policy wants on.

        :raises SystemCallError: If the setting may not be changed (CAP_NET_ADMIN).
        """
        with interface_lock(self._device.ifindex), ExitStack() as undo:
            if not users_of(self._device.ifindex):
                restore_record(self._device, self._file, self.notes)
            self._announcement = Announcement(self._device.ifindex)
            undo.callback(self._withdraw)
            self.original = self.obtained = self._device.get()
            if self.original is None:
                self.notes.append(f"{self._device.ifname} has no hwtstamp setting to turn on")
            else:
                wanted = self._candidates(self.original, self.policy)
                self._turn_on(self.original, wanted)
                self._report(wanted[0], self._candidates(self.original, "on")[0])
            undo.pop_all()

    def release(self) -> None:
        """Withdraw, and restore the setting if this was its last user. May be called twice.

        :raises SystemCallError: If restoring was refused.
        """
        if self._announcement is None:
            return
        with interface_lock(self._device.ifindex):
            self._withdraw()
            others = users_of(self._device.ifindex)
            if not others:
                restore_record(self._device, self._file, self.notes)
            elif self._file.read() is not None:
                pids = ", ".join(str(pid) for pid in others)
                self.notes.append(
                    f"hwtstamp of {self._device.ifname} stays as it is: process {pids} uses it"
                )

    def _withdraw(self) -> None:
        if self._announcement is not None:
            self._announcement.close()
            self._announcement = None

    def _turn_on(self, found: HwtstampConfig, candidates: list[HwtstampConfig]) -> None:
        # Who set it first knows what was there before; later users only change what is "ours".
        record = self._file.read()
        is_ours = record is not None and record.ours == _values(found)
        original = record.original if record is not None and is_ours else _values(found)
        with ExitStack() as undo:
            # If nothing is changed in the end, the record is what it was.
            undo.callback(self._put_back, record)
            for wanted in candidates:
                if wanted == found:
                    return
                record_of_it = self._try(wanted, original)
                if record_of_it is not None:
                    undo.pop_all()  # it is changed: whatever fails from here on, the record stays
                    self._read_back(record_of_it)
                    return

    def _put_back(self, record: Record | None) -> None:
        if record is None:
            self._file.remove()
        else:
            self._file.write(record)

    # The record of what was set, None if the NIC has no such filter.
    def _try(self, wanted: HwtstampConfig, original: tuple[int, int, int]) -> Record | None:
        record = Record(self._device.ifname, self._device.mac, original, _values(wanted))
        # Written before the change: a crash in between must not leave it on for ever.
        problem = self._file.write(record)
        try:
            self._device.set(wanted)
        except SystemCallError as error:
            if error.errno in _NO_SUCH_FILTER:
                return None
            raise
        if problem:
            self.notes.append(f"{problem}; after a crash hwtstamp would stay on")
        return record

    def _read_back(self, record: Record) -> None:
        self.obtained = self._device.get()
        if self.obtained is not None and _values(self.obtained) != record.ours:
            self._file.write(replace(record, ours=_values(self.obtained)))

    def _report(self, wanted: HwtstampConfig, most: HwtstampConfig) -> None:
        obtained, ifname = self.obtained, self._device.ifname
        if obtained is None or (obtained.is_tx_on and obtained.is_rx_all):
            return
        lack = "not every received" if obtained.is_tx_on else "no sent"
        text = f"hwtstamp of {ifname} is {obtained}: {lack} packet can be stamped"
        if wanted != obtained:
            text += f" (the NIC was asked for {wanted})"
        elif obtained != most:
            text += "; --hwtstamp on asks for more"
        self.notes.append(text)

    def _candidates(self, found: HwtstampConfig, policy: str) -> list[HwtstampConfig]:
        info = self._device.timestamping_info()
        tx_types, rx_filters = (info.tx_types, info.rx_filters) if info else (0, 0)
        if policy == "keep":
            return [found]
        is_forced = policy == "on"
        tx_type = found.tx_type
        if is_forced or tx_type == TX_OFF:
            tx_type = TX_ON if _offers(tx_types, TX_ON) else tx_type
        filters = [found.rx_filter]
        if is_forced or found.rx_filter == RX_NONE:
            filters = [f for f in _PREFERRED_FILTERS if f == RX_NONE or _offers(rx_filters, f)]
            # "none" is better than what is there only where nothing is there.
            filters = [f or found.rx_filter for f in filters]
        return [HwtstampConfig(found.flags, tx_type, rx_filter) for rx_filter in filters]


def restore_record(device: HwtstampDevice, file: RecordFile, notes: list[str]) -> None:
    """Put back what a record says was there, and remove it. Call it under the interface's lock,
    with no user left.

    :param notes: gets what was done, or why it was not.
    """
    record = file.read()
    if record is None:
        file.remove()
        return
    if (record.ifname, record.mac) != (device.ifname, device.mac):
        notes.append(f"{file.path} is about another interface ({record.ifname}); removed")
        file.remove()
        return
    ours, original = HwtstampConfig(*record.ours), HwtstampConfig(*record.original)
    try:
        current = device.get()
        if current == ours:
            device.set(original)
            notes.append(f"hwtstamp of {device.ifname} restored: {device.get()}")
        elif current is not None and current != original:
            notes.append(
                f"hwtstamp of {device.ifname} is left at {current}: somebody changed it meanwhile"
            )
    except SetupError as error:
        if _is_there(device.ifindex):
            problem = f"hwtstamp of {device.ifname} is not restored yet: {error.problem}"
            notes.append(f"{problem}. The next xdptstamp on it does")
            return
        notes.append(f"{device.ifname} is gone, and its hwtstamp setting with it")
    file.remove()


def _is_there(ifindex: int) -> bool:
    # ENODEV from a driver also means that it is resetting the NIC.
    try:
        socket.if_indextoname(ifindex)
    except OSError:
        return False
    return True


def _offers(mask: int, value: int) -> bool:
    # A driver that tells nothing may still have it: the question costs little.
    return not mask or bool(mask >> value & 1)


def _values(config: HwtstampConfig) -> tuple[int, int, int]:
    return config.flags, config.tx_type, config.rx_filter


def _name(names: tuple[str, ...], value: int) -> str:
    return names[value] if 0 <= value < len(names) else str(value)
