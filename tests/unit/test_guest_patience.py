# SPDX-License-Identifier: GPL-2.0-only
"""When a command in a guest is waited for no more."""

import signal

import pytest

from xdptstamp.cli._guest_patience import Patience


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_without_a_limit_it_is_endless(clock):
    patience = Patience(None, clock)
    clock.now += 1e9
    patience.look()
    assert (patience.left_s, patience.given_up) == (None, None)


def test_the_limit_ends_it_when_it_has_come(clock):
    patience = Patience(5, clock)
    clock.now += 4.5
    patience.look()
    assert (patience.left_s, patience.given_up) == (0.5, None)
    clock.now += 1
    patience.look()
    assert patience.left_s == 0
    assert patience.given_up.why == "the command had not ended within 5 s (--timeout)"
    assert patience.given_up.exit_code == 1


def test_the_third_signal_ends_it_after_a_word_at_the_second(clock):
    patience = Patience(None, clock)
    told = []
    for number in (signal.SIGINT, signal.SIGWINCH, signal.SIGINT, signal.SIGTERM):
        assert patience.given_up is None
        clock.now += 3
        told.append(patience.take_signal(number))
    assert told == [False, False, True, False]
    assert patience.given_up.why == "the command had not ended when the third signal came (SIGTERM)"
    assert patience.given_up.exit_code == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_that_asks_for_something_else_ends_nothing(clock, number):
    # SIGQUIT: ping(8) prints its statistics.
    patience = Patience(None, clock)
    for _ in range(5):
        clock.now += 3
        assert not patience.take_signal(number)
    assert (patience.left_s, patience.given_up) == (None, None)


def test_a_key_that_is_held_leaves_time_to_read(clock):
    patience = Patience(None, clock)
    told_at = []
    began = clock.now
    while patience.given_up is None:
        if patience.take_signal(signal.SIGINT):
            told_at.append(clock.now - began)
        clock.now += 0.03
    assert told_at == [pytest.approx(2, abs=0.05)]
    assert clock.now - began == pytest.approx(4, abs=0.1)


def test_signals_of_long_ago_are_forgotten(clock):
    patience = Patience(None, clock)
    for _ in range(10):
        assert not patience.take_signal(signal.SIGINT)
        clock.now += 31
    assert patience.given_up is None


@pytest.mark.parametrize("timeout_s", [None, 600])
def test_the_end_of_the_terminal_is_a_limit(clock, timeout_s):
    patience = Patience(timeout_s, clock)
    patience.take_end_of_terminal()
    assert patience.left_s == 60
    clock.now += 61
    patience.look()
    assert patience.given_up.why == "the command had not ended 60 s after its terminal was gone"
    assert patience.given_up.exit_code == 128 + signal.SIGHUP


def test_the_end_of_the_terminal_does_not_prolong(clock):
    patience = Patience(3, clock)
    patience.take_end_of_terminal()
    clock.now += 3
    patience.look()
    assert "--timeout" in patience.given_up.why


@pytest.mark.parametrize(
    ("pieces", "is_end"),
    [
        ([b"\x1d\x1d\x1d"], True),
        ([b"\x1d", b"\x1d", b"abc\x1d", b"\x1d\x1d"], True),
        ([b"x\x1d\x1d\x1d\r"], True),
        ([b"\x1d", b"\x1d"], False),
        ([b"\x1d\x1d", b"a", b"\x1d"], False),
        ([b"\x1d\x1d", None, b"\x1d"], False),
        ([b"\x1d", None, b"\x1d\x1d", b"\x1d"], True),
        ([b"\x03\x03\x03\x03"], False),
    ],
    ids=["at once", "one by one", "amid", "two", "between", "too slow", "again", "Ctrl-C"],
)
def test_the_key_ends_it_three_times_within_a_second(clock, pieces, is_end):
    patience = Patience(None, clock)
    for data in pieces:
        clock.now += 0.2
        if data is None:
            clock.now += 1
        else:
            patience.take_keys(data)
    assert (patience.given_up is not None) == is_end
    if is_end:
        assert patience.given_up.why == "the command had not ended when ^] was typed three times"
        assert patience.given_up.exit_code == 128 + signal.SIGKILL
