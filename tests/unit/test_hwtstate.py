# SPDX-License-Identifier: GPL-2.0-only
"""Users of an interface and the lock between them: real sockets, real processes, no interface."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from xdptstamp.errors import SetupError
from xdptstamp.hwtstamp import HwtstampConfig, HwtstampGuard, TimestampingInfo
from xdptstamp.hwtstate import Announcement, Record, RecordFile, interface_lock, users_of

# Numbers that no interface has.
_IFINDEXES = itertools.count((1 << 29) + (1 << 28) + os.getpid() * 1000)


class FileNic:
    """A driver whose setting is in a file, so that processes share it."""

    ifname, mac = "fake0", "02:00:00:00:00:01"

    def __init__(self, ifindex: int, path: Path) -> None:
        self.ifindex = ifindex
        self.path = path

    def timestamping_info(self) -> TimestampingInfo:
        return TimestampingInfo(0x5F, 0, 0b11, 0b11)

    def get(self) -> HwtstampConfig:
        return HwtstampConfig(*json.loads(self.path.read_text()))

    def set(self, config: HwtstampConfig) -> None:
        self.path.write_text(json.dumps([config.flags, config.tx_type, config.rx_filter]))


_USER = """
    import importlib.util, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[1].split(":")
    spec = importlib.util.spec_from_file_location("doubles", sys.argv[2])
    doubles = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(doubles)
    nic = doubles.FileNic(int(sys.argv[3]), Path(sys.argv[4]))
    guard = doubles.HwtstampGuard(nic, "auto", [Path(sys.argv[5])])
    guard.acquire()
    print("holds", flush=True)
    sys.stdin.read()
    guard.release()
"""


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_process_is_a_user_for_as_long_as_it_lives(tmp_path: Path, is_killed: bool) -> None:
    folder, setting = tmp_path / "run", tmp_path / "setting"
    nic = FileNic(next(_IFINDEXES), setting)
    nic.set(HwtstampConfig(0, 0, 0))
    paths = [":".join(sys.path), __file__, str(nic.ifindex), str(setting), str(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_USER), *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"holds\n"
            assert nic.get() == HwtstampConfig(0, 1, 1)
            assert users_of(nic.ifindex) == [child.pid]
            with HwtstampGuard(nic, "auto", [folder]) as guard:
                assert users_of(nic.ifindex) == sorted([child.pid, os.getpid()])
            assert nic.get() == HwtstampConfig(0, 1, 1), "turned off under one who uses it"
            assert guard.notes == [f"hwtstamp of fake0 stays as it is: process {child.pid} uses it"]
            if not is_killed:
                child.communicate(timeout=60)
        finally:
            child.send_signal(signal.SIGKILL)
    assert users_of(nic.ifindex) == []
    assert nic.get() == HwtstampConfig(0, *((1, 1) if is_killed else (0, 0)))
    with HwtstampGuard(nic, "keep", [folder]):
        assert nic.get() == HwtstampConfig(0, 0, 0)
    assert not folder.exists()


def test_users_are_told_apart_by_interface() -> None:
    one, ten = next(_IFINDEXES), next(_IFINDEXES)
    first, second = Announcement(one), Announcement(one)
    other = Announcement(int(f"{ten}0"))
    assert users_of(one) == [os.getpid()] * 2
    assert users_of(ten) == []
    for announcement in (first, second, other):
        announcement.close()
    assert users_of(one) == []


def test_a_lock_that_is_held_is_not_waited_for_for_ever() -> None:
    ifindex = next(_IFINDEXES)
    with (
        interface_lock(ifindex),
        pytest.raises(SetupError, match=r"another process holds its hwtstamp lock .* for 0.05 s"),
        interface_lock(ifindex, timeout_s=0.05),
    ):
        pytest.fail("two hold the lock")


def test_a_lock_is_handed_on_when_it_is_released() -> None:
    ifindex, order = next(_IFINDEXES), list[str]()
    waiting = threading.Event()

    def take() -> None:
        waiting.set()
        with interface_lock(ifindex, timeout_s=60):
            order.append("second")

    thread = threading.Thread(target=take)
    with interface_lock(ifindex):
        thread.start()
        assert waiting.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


def test_many_who_lock_never_hold_it_together() -> None:
    ifindex = next(_IFINDEXES)
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with interface_lock(ifindex, timeout_s=60):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                os.sched_yield()
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [1]


@pytest.mark.parametrize("newer", [0, 1])
def test_of_two_records_the_newer_counts_and_both_are_removed(tmp_path: Path, newer: int) -> None:
    folders, ifindex = [tmp_path / "a", tmp_path / "b"], next(_IFINDEXES)
    for number, folder in enumerate(folders):
        file = RecordFile(ifindex, [folder])
        assert file.write(Record(f"eth{number}", "", (0, 0, 0), (0, 1, 1))) == ""
        age = 0 if number == newer else 60
        os.utime(file.path, (1_700_000_000 - age,) * 2)
    both = RecordFile(ifindex, folders)
    assert both.read() == Record(f"eth{newer}", "", (0, 0, 0), (0, 1, 1))
    both.remove()
    assert both.read() is None
    assert list(tmp_path.iterdir()) == []
