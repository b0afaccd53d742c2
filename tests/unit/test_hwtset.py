# SPDX-License-Identifier: GPL-2.0-only
"""Setting hwtstamp for good and putting it back, on a NIC in memory; files and locks are real."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.unit.test_hwtstamp import OFF, ON, PTP, FakeNic, crash, guard_of
from xdptstamp.errors import SetupError, SystemCallError, UnsupportedError
from xdptstamp.hwtset import change_setting, kept_setting, restore_setting
from xdptstamp.hwtstamp import HwtstampConfig
from xdptstamp.hwtstate import Announcement


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_what_was_there_comes_back(folder: Path) -> None:
    nic = FakeNic(PTP, {0, 1, 12})
    changed = change_setting(nic, 0, 1, folders=[folder])
    assert (changed.before, changed.after, changed.notes) == (PTP, HwtstampConfig(0, 0, 1), [])
    assert kept_setting(nic, [folder]) == PTP
    restored = restore_setting(nic, folders=[folder])
    assert (restored.before, restored.after, nic.config) == (HwtstampConfig(0, 0, 1), PTP, PTP)
    assert kept_setting(nic, [folder]) is None
    assert not folder.exists()


def test_the_first_of_several_settings_is_what_comes_back(folder: Path) -> None:
    nic = FakeNic(OFF)
    change_setting(nic, 1, None, folders=[folder])
    change_setting(nic, None, 1, folders=[folder])
    assert nic.config == ON
    assert restore_setting(nic, folders=[folder]).after == OFF


def test_after_a_change_of_somebody_else_that_is_what_was_there(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 1, 12})
    change_setting(nic, 1, 1, folders=[folder])
    nic.config = PTP
    change_setting(nic, 0, 0, folders=[folder])
    assert kept_setting(nic, [folder]) == PTP


def test_a_change_of_somebody_else_is_not_undone_without_force(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 1, 12})
    change_setting(nic, 1, 1, folders=[folder])
    nic.config = PTP
    with pytest.raises(SetupError, match="somebody changed it meanwhile; --force"):
        restore_setting(nic, folders=[folder])
    assert nic.config == PTP
    assert restore_setting(nic, is_forced=True, folders=[folder]).after == OFF


def test_without_a_change_there_is_nothing_to_restore(folder: Path) -> None:
    with pytest.raises(SetupError, match="nothing to restore"):
        restore_setting(FakeNic(), folders=[folder])


@pytest.mark.parametrize("is_forced", [False, True])
def test_a_measurement_is_not_disturbed_without_force(folder: Path, is_forced: bool) -> None:
    nic = FakeNic(OFF)
    announcement = Announcement(nic.ifindex)
    try:
        if is_forced:
            assert change_setting(nic, 1, 1, is_forced=True, folders=[folder]).after == ON
            assert restore_setting(nic, is_forced=True, folders=[folder]).after == OFF
        else:
            with pytest.raises(SetupError, match=r"uses its hwtstamp setting \(process \d+\)"):
                change_setting(nic, 1, 1, folders=[folder])
            assert nic.sets == []
    finally:
        announcement.close()


def test_a_measurement_in_between_changes_nothing_of_it(folder: Path) -> None:
    nic = FakeNic(OFF)
    change_setting(nic, 1, 0, folders=[folder])
    with guard_of(nic, folder):
        assert nic.config == ON
    assert nic.config == HwtstampConfig(0, 1, 0)
    assert restore_setting(nic, folders=[folder]).after == OFF


def test_what_a_killed_measurement_left_is_not_what_was_there(folder: Path) -> None:
    nic = FakeNic(OFF)
    guard = guard_of(nic, folder)
    guard.acquire()
    crash(guard)
    assert nic.config == ON
    changed = change_setting(nic, 0, 1, folders=[folder])
    assert changed.before == OFF
    assert "restored: tx off, rx none" in changed.notes[0]
    assert restore_setting(nic, folders=[folder]).after == OFF


@pytest.mark.parametrize("original", [OFF, HwtstampConfig(0, 0, 1), HwtstampConfig(0, 1, 0)])
def test_what_a_killed_measurement_turned_on_is_restored(
    folder: Path, original: HwtstampConfig
) -> None:
    nic = FakeNic(original)
    guard = guard_of(nic, folder)
    guard.acquire()
    assert kept_setting(nic, [folder]) is None, "it restores that itself"
    with pytest.raises(SetupError, match="a measurement uses its hwtstamp setting"):
        restore_setting(nic, folders=[folder])
    crash(guard)
    assert kept_setting(nic, [folder]) == original
    restored = restore_setting(nic, folders=[folder])
    assert (restored.before, restored.after, nic.config) == (ON, original, original)
    assert not folder.exists()


def test_a_killed_measurement_after_a_setting_gives_what_was_before_both(folder: Path) -> None:
    nic = FakeNic(OFF)
    change_setting(nic, 1, 0, folders=[folder])
    guard = guard_of(nic, folder)
    guard.acquire()
    crash(guard)
    assert kept_setting(nic, [folder]) == OFF
    assert restore_setting(nic, folders=[folder]).after == OFF
    assert not folder.exists()


def test_what_somebody_made_of_a_killed_measurement_s_setting_stays(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 1, 12})
    guard = guard_of(nic, folder)
    guard.acquire()
    crash(guard)
    nic.config = PTP
    with pytest.raises(SetupError, match="somebody changed it meanwhile; --force"):
        restore_setting(nic, folders=[folder])
    assert nic.config == PTP
    assert restore_setting(nic, is_forced=True, folders=[folder]).after == OFF


def test_a_measurement_killed_before_it_changed_anything_leaves_nothing(folder: Path) -> None:
    nic = FakeNic(OFF)
    guard = guard_of(nic, folder)
    guard.acquire()
    crash(guard)
    nic.config = OFF
    assert restore_setting(nic, folders=[folder]).after == OFF
    assert not folder.exists()


def test_what_the_nic_makes_of_it_is_said_and_restored(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 1, 12})
    nic.widened = {12: 1}
    changed = change_setting(nic, 1, 12, folders=[folder])
    assert changed.after == ON
    assert changed.notes == ["the NIC made tx on, rx all of tx on, rx ptpv2-event"]
    assert restore_setting(nic, folders=[folder]).after == OFF


def test_a_refused_setting_leaves_no_record(folder: Path) -> None:
    nic = FakeNic(OFF)
    with pytest.raises(SystemCallError) as caught:
        change_setting(nic, 1, 5, folders=[folder])
    assert caught.value.errno == errno.ERANGE
    assert kept_setting(nic, [folder]) is None
    # One that was there stays.
    change_setting(nic, 1, None, folders=[folder])
    with pytest.raises(SystemCallError):
        change_setting(nic, 1, 5, folders=[folder])
    assert kept_setting(nic, [folder]) == OFF


def test_a_record_of_another_interface_is_none(folder: Path) -> None:
    nic = FakeNic(OFF)
    change_setting(nic, 1, 1, folders=[folder])
    nic.mac = "02:00:00:00:00:02"
    assert kept_setting(nic, [folder]) is None
    with pytest.raises(SetupError, match="nothing to restore"):
        restore_setting(nic, folders=[folder])


def test_an_interface_without_the_setting_says_so(folder: Path) -> None:
    with pytest.raises(UnsupportedError, match="which has none"):
        change_setting(FakeNic(None), 1, 1, folders=[folder])
