# SPDX-License-Identifier: GPL-2.0-only
"""The state of a driver as it is read here, and what a reader of facts makes of errors."""

import errno
import os

import pytest

from xdptstamp.caps.reader import Reader
from xdptstamp.drivers import known_driver
from xdptstamp.errors import SetupError, SystemCallError, UnsupportedError
from xdptstamp.faults import driver_state
from xdptstamp.finding import Unread
from xdptstamp.nic import Nic


def test_the_functions_of_a_module_are_read_where_the_kernel_shows_them(tmp_path):
    nic, igc, gmac = Nic("lo"), known_driver("igc"), known_driver("st_gmac")
    assert driver_state(nic, igc, tmp_path).has_function("igc_up") is None
    (tmp_path / "igc").write_bytes(b"\x9f\xeb\0igc_down\0igc_up\0int\0")
    (tmp_path / "stmmac").write_bytes(b"\0stmmac_open\0")
    state = driver_state(nic, igc, tmp_path)
    assert (state.release, state.num_queues) == (os.uname().release, 1)
    assert state.has_function("igc_up")
    assert not state.has_function("igc")
    assert driver_state(nic, gmac, tmp_path).has_function("stmmac_open")


def test_this_kernel_tells_of_modules_or_says_nothing():
    state = driver_state(Nic("lo"), known_driver("mlx5_core"))
    assert state.has_function("no_such_function_anywhere") in (None, False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            SystemCallError(errno.EPERM, "socket(AF_XDP)", "a UMEM", "It needs CAP_NET_RAW."),
            Unread("socket(AF_XDP): Operation not permitted", "it needs CAP_NET_RAW"),
        ),
        (SystemCallError(errno.EINVAL, "SOME", "eth1"), Unread("SOME: Invalid argument", "")),
        (
            SetupError("/dev/ptp0", "may not be opened: give it (a udev rule: x)"),
            Unread("/dev/ptp0: may not be opened", "give it (a udev rule: x)"),
        ),
        (SetupError("eth1", "the interface is gone"), Unread("eth1: the interface is gone", "")),
        (
            UnsupportedError("AF_XDP", "CONFIG_XDP_SOCKETS", "none"),
            Unread("AF_XDP is not supported here: needs CONFIG_XDP_SOCKETS, found none", ""),
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/proc/x"),
            Unread("/proc/x: Permission denied", ""),
        ),
    ],
)
def test_what_cannot_be_read_is_noted_and_the_rest_is_read(error, expected):
    def fail():
        raise error

    reader = Reader()
    assert reader.ask("one", fail) is None
    assert reader.ask("two", lambda: 5, str) == 5
    assert reader.ask("three", lambda: None, str) is None
    assert reader.facts.unread == {"one": expected}
    assert reader.facts.values == {"two": "5", "three": None}


def test_an_error_of_ours_alone_is_noted():
    with pytest.raises(ZeroDivisionError):
        Reader().ask("one", lambda: 1 // 0)
