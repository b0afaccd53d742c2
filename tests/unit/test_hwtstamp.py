# SPDX-License-Identifier: GPL-2.0-only
"""Holding and restoring the hwtstamp setting, on a NIC in memory (no NIC here has the setting).

Announcements, locks and files are the real ones; interface numbers are ones that no interface has.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.hwtstamp import RX_FILTERS, HwtstampConfig, HwtstampGuard, TimestampingInfo
from xdptstamp.hwtstate import RecordFile, users_of

OFF = HwtstampConfig(0, 0, 0)
ON = HwtstampConfig(0, 1, 1)
PTP = HwtstampConfig(0, 1, 12)
NTP_ALL = 15

_IFINDEXES = itertools.count((1 << 29) + os.getpid() * 1000)


class FakeNic:
    """A driver with a hwtstamp setting; ``widened`` is what it makes of a filter."""

    def __init__(self, config: HwtstampConfig | None = OFF, filters: set[int] | None = None):
        self.ifname = "fake0"
        self.ifindex = next(_IFINDEXES)
        self.mac = "02:00:00:00:00:01"
        self.config = config
        self.filters = {0, 1} if filters is None else filters
        self.tx_types = 0b11
        self.rx_mask: int | None = None  # None: what it has
        self.widened: dict[int, int] = {}
        self.sets: list[HwtstampConfig] = []
        self.error: Exception | None = None
        self.is_gone = False

    def timestamping_info(self) -> TimestampingInfo:
        mask = sum(1 << f for f in self.filters) if self.rx_mask is None else self.rx_mask
        return TimestampingInfo(0x5F, 0, self.tx_types, mask)

    def get(self) -> HwtstampConfig | None:
        if self.is_gone:
            raise SetupError(self.ifname, "the interface is gone")
        return self.config

    def set(self, config: HwtstampConfig) -> None:
        self.sets.append(config)
        if self.error:
            raise self.error
        if config.rx_filter not in self.filters:
            raise SystemCallError(errno.ERANGE, "SIOCSHWTSTAMP", self.ifname)
        rx_filter = self.widened.get(config.rx_filter, config.rx_filter)
        self.config = HwtstampConfig(config.flags, config.tx_type, rx_filter)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def guard_of(nic: FakeNic, folder: Path, policy: str = "auto") -> HwtstampGuard:
    return HwtstampGuard(nic, policy, [folder])


def crash(guard: HwtstampGuard) -> None:
    """What a killed process leaves: its announcement is gone, and nothing else was done."""
    guard._withdraw()


def test_auto_turns_on_what_is_off_and_restores_it(folder: Path) -> None:
    nic = FakeNic()
    with guard_of(nic, folder) as guard:
        assert (guard.original, guard.obtained, nic.config) == (OFF, ON, ON)
        assert users_of(nic.ifindex) == [os.getpid()]
        assert guard.notes == []
        (record,) = folder.iterdir()
        kept = json.loads(record.read_text())
        assert kept["original"] == [0, 0, 0]
        assert (kept["ifname"], kept["mac"]) == ("fake0", nic.mac)
    assert nic.config == OFF
    assert users_of(nic.ifindex) == []
    assert not folder.exists(), "the record stayed behind"
    assert guard.notes == ["hwtstamp of fake0 restored: tx off, rx none"]


def test_auto_touches_nothing_that_is_on(folder: Path) -> None:
    nic = FakeNic(ON)
    with guard_of(nic, folder) as guard:
        assert guard.obtained == ON
        assert not folder.exists()
    assert (nic.sets, nic.config, guard.notes) == ([], ON, [])


def test_auto_leaves_the_filter_of_ptp4l_and_says_what_that_costs(folder: Path) -> None:
    nic = FakeNic(PTP, {0, 1, 12})
    with guard_of(nic, folder) as guard:
        assert nic.config == PTP
    assert nic.sets == []
    assert guard.notes == [
        "hwtstamp of fake0 is tx on, rx ptpv2-event: not every received packet can be stamped; "
        "--hwtstamp on asks for more"
    ]


def test_on_is_not_recommended_where_it_could_do_no_more(folder: Path) -> None:
    # As igb has it for the Intel 82576.
    nic = FakeNic(OFF, {0, 4, 5, 12})
    with guard_of(nic, folder) as guard:
        assert nic.config == PTP
    assert guard.notes[0] == (
        "hwtstamp of fake0 is tx on, rx ptpv2-event: not every received packet can be stamped"
    )


def test_auto_turns_tx_on_beside_a_filter_that_is_set(folder: Path) -> None:
    nic = FakeNic(HwtstampConfig(0, 0, 12), {0, 1, 12})
    with guard_of(nic, folder):
        assert nic.config == PTP
    assert nic.config == HwtstampConfig(0, 0, 12)


def test_on_asks_for_all_whatever_was_set(folder: Path) -> None:
    nic = FakeNic(PTP, {0, 1, 12})
    with guard_of(nic, folder, "on") as guard:
        assert guard.obtained == nic.config == ON
    assert nic.config == PTP


def test_keep_changes_nothing_and_says_what_is_off(folder: Path) -> None:
    nic = FakeNic()
    with guard_of(nic, folder, "keep") as guard:
        assert nic.config == guard.obtained == OFF
    assert nic.sets == []
    assert "no sent packet can be stamped" in guard.notes[0]


def test_a_wrong_policy_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="'off' is none of auto, on, keep"):
        guard_of(FakeNic(), folder, "off")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [({0, 1, 12, 15}, 1), ({0, 12, 15}, 15), ({0, 6, 12}, 12), ({0, 6}, 6), ({0}, 0)],
)
def test_the_nearest_filter_is_taken(folder: Path, filters: set[int], expected: int) -> None:
    nic = FakeNic(OFF, filters)
    with guard_of(nic, folder) as guard:
        assert nic.config == HwtstampConfig(0, 1, expected)
        assert bool(guard.notes) == (expected != 1)
    assert nic.config == OFF


def test_on_does_not_give_up_a_filter_for_none(folder: Path) -> None:
    nic = FakeNic(HwtstampConfig(0, 0, 4), {0, 4})
    with guard_of(nic, folder, "on"):
        assert nic.config == HwtstampConfig(0, 1, 4)


def test_a_filter_that_is_offered_and_refused_is_not_the_end(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 12})
    nic.rx_mask = 0b11 | 1 << 12  # it says that it has "all", and has not
    with guard_of(nic, folder) as guard:
        assert nic.config == PTP
    assert "rx ptpv2-event: not every received packet" in guard.notes[0]
    assert "(the NIC was asked for tx on, rx all)" in guard.notes[0]
    assert nic.config == OFF


def test_a_nic_that_tells_nothing_is_asked_all_the_same(folder: Path) -> None:
    nic = FakeNic()
    nic.rx_mask = nic.tx_types = 0
    with guard_of(nic, folder):
        assert nic.config == ON


def test_a_nic_without_tx_stamps_gets_its_rx_stamps(folder: Path) -> None:
    nic = FakeNic()
    nic.tx_types = 0b1
    with guard_of(nic, folder) as guard:
        assert nic.config == HwtstampConfig(0, 0, 1)
    assert "no sent packet can be stamped" in guard.notes[0]


def test_nothing_stays_on_disk_when_every_setting_is_refused(folder: Path) -> None:
    nic = FakeNic(OFF, set())
    with guard_of(nic, folder) as guard:
        assert guard.obtained == nic.config == OFF
        assert not folder.exists()
    assert len(nic.sets) > 1
    assert "no sent packet can be stamped (the NIC was asked for tx on" in guard.notes[0]


def test_what_the_driver_widened_is_still_ours(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 12})
    nic.widened = {12: 1}
    with guard_of(nic, folder) as guard:
        assert guard.obtained == nic.config == ON
    assert nic.config == OFF


def test_what_somebody_else_set_meanwhile_is_left_alone(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 1, 12})
    with guard_of(nic, folder) as guard:
        nic.config = PTP
    assert nic.config == PTP
    assert guard.notes == [
        "hwtstamp of fake0 is left at tx on, rx ptpv2-event: somebody changed it meanwhile"
    ]
    assert not folder.exists()


@pytest.mark.parametrize("first_out", [0, 1])
@pytest.mark.parametrize("policies", list(itertools.product(("auto", "on", "keep"), repeat=2)))
def test_the_last_of_two_users_restores(
    folder: Path, policies: tuple[str, str], first_out: int
) -> None:
    nic = FakeNic()
    guards = [guard_of(nic, folder, policy) for policy in policies]
    for guard in guards:
        guard.acquire()
    held = nic.config
    guards[first_out].release()
    assert nic.config == held, "taken away from the one that still measures"
    guards[1 - first_out].release()
    assert nic.config == OFF
    assert not folder.exists()
    if policies == ("auto", "auto"):
        text = f"hwtstamp of fake0 stays as it is: process {os.getpid()} uses it"
        assert guards[first_out].notes == [text]


def test_a_second_user_who_asks_for_more_keeps_the_first_ones_original(folder: Path) -> None:
    original = HwtstampConfig(0, 0, 12)
    nic = FakeNic(original, {0, 1, 12})
    first, second = guard_of(nic, folder, "auto"), guard_of(nic, folder, "on")
    first.acquire()
    assert nic.config == PTP
    second.acquire()
    assert nic.config == ON
    first.release()
    second.release()
    assert nic.config == original


def test_what_somebody_else_set_between_two_users_is_what_comes_back(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 1, 12})
    first, second = guard_of(nic, folder, "auto"), guard_of(nic, folder, "on")
    first.acquire()
    nic.config = PTP
    second.acquire()
    assert nic.config == ON
    first.release()
    second.release()
    assert nic.config == PTP


def test_release_twice_is_once(folder: Path) -> None:
    nic = FakeNic()
    guard = guard_of(nic, folder)
    guard.acquire()
    guard.release()
    nic.config = ON
    guard.release()
    assert nic.config == ON


def test_the_next_start_after_a_crash_restores(folder: Path) -> None:
    nic = FakeNic()
    crashed = guard_of(nic, folder)
    crashed.acquire()
    crash(crashed)
    assert nic.config == ON
    with guard_of(nic, folder, "keep") as guard:
        assert nic.config == OFF
        assert guard.notes[0] == "hwtstamp of fake0 restored: tx off, rx none"
    nic.config = ON
    with guard_of(nic, folder):
        pass
    assert nic.config == ON, "a record was used twice"


def test_a_crash_beside_another_user_is_restored_by_that_user(folder: Path) -> None:
    nic = FakeNic()
    crashed, other = guard_of(nic, folder), guard_of(nic, folder)
    crashed.acquire()
    other.acquire()
    crash(crashed)
    other.release()
    assert nic.config == OFF


@pytest.mark.parametrize("attribute", ["mac", "ifname"])
def test_a_record_of_another_interface_is_not_used(folder: Path, attribute: str) -> None:
    nic = FakeNic()
    crashed = guard_of(nic, folder)
    crashed.acquire()
    crash(crashed)
    setattr(nic, attribute, "another")
    with guard_of(nic, folder, "keep") as guard:
        assert nic.config == ON
    assert "is about another interface (fake0); removed" in guard.notes[0]
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ifname": "fake0"}', '{"original": 1}'])
def test_a_broken_record_is_removed_and_nothing_else(folder: Path, text: str) -> None:
    nic = FakeNic(ON)
    file = RecordFile(nic.ifindex, [folder])
    folder.mkdir()
    file.path.write_text(text)
    with guard_of(nic, folder):
        assert nic.config == ON
    assert nic.sets == []
    assert not folder.exists()


def test_an_interface_that_vanished_is_no_error_at_the_end(folder: Path) -> None:
    nic = FakeNic()
    with guard_of(nic, folder) as guard:
        nic.is_gone = True
    assert guard.notes == ["fake0 is gone, and its hwtstamp setting with it"]
    assert not folder.exists()


def test_a_driver_that_resets_at_the_end_keeps_the_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nic = FakeNic()
    with guard_of(nic, folder) as guard:
        nic.is_gone = True
        monkeypatch.setattr("socket.if_indextoname", lambda ifindex: "fake0")
    assert guard.notes == [
        "hwtstamp of fake0 is not restored yet: the interface is gone. "
        "The next xdptstamp on it does"
    ]
    nic.is_gone = False
    assert nic.config == ON
    with guard_of(nic, folder, "keep"):
        assert nic.config == OFF


def test_a_setting_that_cannot_be_read_back_keeps_its_record(folder: Path) -> None:
    class ResettingNic(FakeNic):
        def set(self, config: HwtstampConfig) -> None:
            super().set(config)
            self.is_gone = True

    nic = ResettingNic()
    with pytest.raises(SetupError):
        guard_of(nic, folder).acquire()
    assert users_of(nic.ifindex) == []
    nic.is_gone = False
    assert nic.config == ON
    record = RecordFile(nic.ifindex, [folder]).read()
    assert record is not None
    assert record.original == (0, 0, 0)


def test_without_the_setting_a_guard_does_nothing_and_says_so(folder: Path) -> None:
    nic = FakeNic(None)
    with guard_of(nic, folder, "on") as guard:
        assert guard.original is None
        assert guard.obtained is None
    assert nic.sets == []
    assert guard.notes == ["fake0 has no hwtstamp setting to turn on"]


def test_without_privilege_nothing_is_left(folder: Path) -> None:
    nic = FakeNic()
    nic.error = SystemCallError(errno.EPERM, "SIOCSHWTSTAMP", "fake0", "It needs CAP_NET_ADMIN.")
    with pytest.raises(SystemCallError, match="fake0: Operation not permitted"):
        guard_of(nic, folder).acquire()
    assert users_of(nic.ifindex) == []
    assert not folder.exists()


def test_a_failure_keeps_the_record_of_the_others(folder: Path) -> None:
    nic = FakeNic(OFF, {0, 1, 12})
    with guard_of(nic, folder):
        nic.config = PTP
        nic.error = SystemCallError(errno.EPERM, "SIOCSHWTSTAMP", "fake0")
        with pytest.raises(SystemCallError):
            guard_of(nic, folder, "on").acquire()
        nic.error = None
        nic.config = ON
    assert nic.config == OFF


def test_a_folder_that_cannot_be_written_is_said_and_the_setting_restored(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    nic = FakeNic()
    with guard_of(nic, blocked / "run") as guard:
        assert nic.config == ON
    assert nic.config == OFF
    assert "cannot be kept on disk" in guard.notes[0]
    assert "Not a directory" in guard.notes[0]


def test_the_second_folder_is_taken_where_the_first_is_closed(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    nic = FakeNic()
    folders = [blocked / "run", tmp_path / "own"]
    crashed = HwtstampGuard(nic, "auto", folders)
    crashed.acquire()
    crash(crashed)
    assert crashed.notes == []
    with HwtstampGuard(nic, "keep", folders):
        assert nic.config == OFF
    assert not (tmp_path / "own").exists()


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "release", "crash"]),
        st.integers(0, 3),
        st.sampled_from(["auto", "on", "keep"]),
    ),
    max_size=25,
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS, original=st.sampled_from([OFF, PTP, HwtstampConfig(0, 0, 12), ON]))
def test_in_any_order_the_original_comes_back(
    tmp_path: Path, steps: list[tuple[str, int, str]], original: HwtstampConfig
) -> None:
    nic = FakeNic(original, {0, 1, 12})
    folder = tmp_path / "run"
    held: dict[int, HwtstampGuard] = {}
    for step, number, policy in steps:
        if step == "acquire" and number not in held:
            held[number] = guard_of(nic, folder, policy)
            held[number].acquire()
        elif step == "release" and number in held:
            held.pop(number).release()
        elif step == "crash" and number in held:
            crash(held.pop(number))
        if any(guard.policy != "keep" for guard in held.values()):
            assert nic.config is not None
            assert nic.config.is_tx_on
    for guard in held.values():
        guard.release()
    with guard_of(nic, folder, "keep"):
        assert nic.config == original
    assert not folder.exists()


def test_settings_are_named_as_ethtool_names_them() -> None:
    assert str(HwtstampConfig(0, 2, 6)) == "tx onestep-sync, rx ptpv2-l4-event"
    assert str(HwtstampConfig(0, 9, -1)) == "tx 9, rx -1"
    assert RX_FILTERS[NTP_ALL] == "ntp-all"
