# SPDX-License-Identifier: GPL-2.0-only
"""Set the hwtstamp setting of an interface for good, and put back what was there before.

What was there is kept in a file of its own (see :class:`xdptstamp.hwtstate.RecordFile`): it
outlives this process, several settings in a row, and a measurement in between. A measurement has
another, and removes it at its end; where it was killed that one is restored as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xdptstamp.errors import SetupError, UnsupportedError
from xdptstamp.hwtstamp import HwtstampConfig, HwtstampDevice, restore_record
from xdptstamp.hwtstate import Record, RecordFile, interface_lock, users_of

_KIND = "hwtstamp-set"


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did.

    :param before: the setting found; ``after``: the one read back.
    :param notes: sentences for the user.
    """

    before: HwtstampConfig
    after: HwtstampConfig
    notes: list[str]


def kept_setting(
    device: HwtstampDevice, folders: list[Path] | None = None
) -> HwtstampConfig | None:
    """What :func:`restore_setting` would put back; None: nothing is kept."""
    kept = _kept(device, folders)
    return HwtstampConfig(*kept[-1][1].original) if kept else None


def change_setting(
    device: HwtstampDevice,
    tx_type: int | None,
    rx_filter: int | None,
    *,
    is_forced: bool = False,
    folders: list[Path] | None = None,
) -> Changed:
    """Set it, and keep what was there.

    :param tx_type: None: as it is; ``rx_filter`` alike.
    :param is_forced: also while a measurement uses it.
    :raises UnsupportedError: If the interface has no such setting.
    :raises SetupError: If a measurement uses it.
    :raises SystemCallError: ERANGE where the NIC has no such filter; EPERM.
    """
    notes: list[str] = []
    with interface_lock(device.ifindex):
        _refuse_users(device, is_forced=is_forced)
        if not users_of(device.ifindex):
            # What a measurement that was killed left behind is not what was there before.
            restore_record(device, RecordFile(device.ifindex, folders), notes)
        before = _current(device)
        wanted = HwtstampConfig(
            before.flags,
            before.tx_type if tx_type is None else tx_type,
            before.rx_filter if rx_filter is None else rx_filter,
        )
        file = RecordFile(device.ifindex, folders, _KIND)
        known = _record_of(device, file)
        is_ours = known is not None and known.ours == _values(before)
        original = known.original if known is not None and is_ours else _values(before)
        # Written before the change: a crash in between must not lose it.
        problem = file.write(Record(device.ifname, device.mac, original, _values(wanted)))
        if problem:
            notes.append(f"{problem}; it cannot be restored")
        try:
            device.set(wanted)
            after = _current(device)
        except BaseException:
            if known is None:
                file.remove()
            else:
                file.write(known)
            raise
        if after != wanted:
            notes.append(f"the NIC made {after} of {wanted}")
            file.write(Record(device.ifname, device.mac, original, _values(after)))
        return Changed(before, after, notes)


def restore_setting(
    device: HwtstampDevice, *, is_forced: bool = False, folders: list[Path] | None = None
) -> Changed:
    """Put back what was there before the first :func:`change_setting`, or, where there was none,
    before a measurement that was killed.

    :param is_forced: also while a measurement uses it, and where somebody changed it meanwhile.
    :raises SetupError: If so, or if nothing is kept.
    :raises SystemCallError: If it may not be changed.
    """
    with interface_lock(device.ifindex):
        _refuse_users(device, is_forced=is_forced)
        kept = _kept(device, folders)
        if not kept:
            problem = (
                "nothing to restore: `xdptstamp hwtstamp set` has not changed it since boot, and "
                "no measurement was killed"
            )
            raise SetupError(device.ifname, problem)
        before = _current(device)
        for file, record in kept:
            current, ours = _current(device), HwtstampConfig(*record.ours)
            if current not in (ours, HwtstampConfig(*record.original)) and not is_forced:
                problem = (
                    f"hwtstamp is {current}, and was set to {ours}: somebody changed it meanwhile; "
                    "--force restores it all the same"
                )
                raise SetupError(device.ifname, problem)
            device.set(HwtstampConfig(*record.original))
            file.remove()
        return Changed(before, _current(device), [])


def _kept(device: HwtstampDevice, folders: list[Path] | None) -> list[tuple[RecordFile, Record]]:
    # What is to be put back, in that order: what a measurement turned on that was killed, for one
    # that lives does so itself; and what was set for good, before that or after.
    files = [RecordFile(device.ifindex, folders, _KIND)]
    if not users_of(device.ifindex):
        files.insert(0, RecordFile(device.ifindex, folders))
    records = [(file, _record_of(device, file)) for file in files]
    return [(file, record) for file, record in records if record is not None]


def _refuse_users(device: HwtstampDevice, *, is_forced: bool) -> None:
    users = users_of(device.ifindex)
    if users and not is_forced:
        pids = ", ".join(map(str, users))
        problem = f"a measurement uses its hwtstamp setting (process {pids}); end it, or --force"
        raise SetupError(device.ifname, problem)


def _record_of(device: HwtstampDevice, file: RecordFile) -> Record | None:
    # Another interface may have got the number of one that is gone.
    record = file.read()
    if record is None or (record.ifname, record.mac) != (device.ifname, device.mac):
        return None
    return record


def _current(device: HwtstampDevice) -> HwtstampConfig:
    found = device.get()
    if found is None:
        needs = "a NIC with a hwtstamp setting"
        raise UnsupportedError("hardware timestamping", needs, f"{device.ifname}, which has none")
    return found


def _values(config: HwtstampConfig) -> tuple[int, int, int]:
    return config.flags, config.tx_type, config.rx_filter
