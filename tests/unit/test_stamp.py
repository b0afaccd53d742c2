# SPDX-License-Identifier: GPL-2.0-only
"""From stamp fields to stamps and causes, case by case."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdptstamp import stamp, txmd
from xdptstamp.clock import ClockSample, UnknownClock
from xdptstamp.comparison import Comparison
from xdptstamp.sample import NULL, Cause
from xdptstamp.stamp import Completed, StampRules, causes_of_uncompleted, judge
from xdptstamp.umem import Umem

T0 = 1_790_000_000_000_000_000  # 2026, CLOCK_TAI
SECOND = 1_000_000_000
IGC_TIMEOUT = 15 * SECOND
NO_STAMP = txmd.SENTINEL
# What an IPv4 (34, 6) and an IPv6 (54, 6) request for a UDP checksum leave in the field.
CSUM_V4, CSUM_V6 = 34 | 6 << 16, 54 | 6 << 16

COPY = StampRules()
IGC = StampRules(is_hardware=True, is_hwtstamp_on=True, timeout_ns=IGC_TIMEOUT)


def completed(*values, app=0, comp=100_000, previous=None, **flags):
    """Packets of the given stamp fields; times in ns after T0, one for all or one for each."""
    num = len(values)

    def times(value):
        return np.broadcast_to(np.asarray(value, dtype=np.int64) + T0, num).copy()

    def bools(name, default):
        return np.broadcast_to(np.asarray(flags.pop(name, default)), num).copy()

    done = Completed(
        values=np.array(values, dtype=np.uint64),
        is_requested=bools("is_requested", True),
        is_dropped=bools("is_dropped", False),
        is_reset=bools("is_reset", False),
        tx_app_ns=times(app),
        tx_comp_ns=times(comp),
        previous_comp_ns=times(app if previous is None else previous),
    )
    assert not flags, flags
    return done


def verdicts(rules, done):
    """Pairs of stamp and cause; None for no stamp."""
    stamps, causes = judge(rules, done)
    assert (stamps.dtype, causes.dtype) == (np.int64, np.uint8)
    pairs = zip(stamps.tolist(), causes.tolist(), strict=True)
    return [(None if value == NULL else value, Cause(cause)) for value, cause in pairs]


def verdict(rules, value, **options):
    (only,) = verdicts(rules, completed(value, **options))
    return only


def test_constants_are_what_the_kernel_was_seen_to_leave():
    assert (CSUM_V4, CSUM_V6) == (393250, 393270)


def test_a_stamp_between_submit_and_completion_is_one():
    assert verdict(COPY, T0 + 50_000) == (T0 + 50_000, Cause.NONE)


@pytest.mark.parametrize(
    ("offset", "is_true"), [(-1, False), (0, True), (100_000, True), (100_001, False)]
)
def test_the_window_includes_both_ends_and_no_more(offset, is_true):
    expected = (T0 + offset, Cause.NONE) if is_true else (None, Cause.INVALID)
    assert verdict(COPY, T0 + offset) == expected


def compared(offset_ns, uncertainty_ns):
    """A PHC, looked at when packets are submitted and when they complete."""
    return Comparison(
        ClockSample(tai, tai + offset_ns, uncertainty_ns) for tai in (T0, T0 + 100_000)
    )


# The PHC runs 37 s behind CLOCK_TAI (it has UTC), and that is known to 1 us.
UTC_PHC = StampRules(is_hardware=True, is_hwtstamp_on=True, clock=compared(-37 * SECOND, 1_000))


@pytest.mark.parametrize(
    ("offset", "is_true"),
    [
        (-1_001, False),
        (-1_000, True),
        (50_000, True),
        (101_000, True),
        (101_001, False),
        (37 * SECOND + 50_000, False),  # on CLOCK_TAI: of another clock
    ],
)
def test_the_window_is_on_the_stamps_clock_and_wider_by_the_uncertainty(offset, is_true):
    value = T0 - 37 * SECOND + offset
    expected = (value, Cause.NONE) if is_true else (None, Cause.INVALID)
    assert verdict(UTC_PHC, value) == expected


def test_a_clock_that_counts_from_boot_is_judged_by_its_offset():
    rules = StampRules(is_hardware=True, clock=compared(5 * SECOND - T0, 10))
    assert verdict(rules, 5 * SECOND + 7) == (5 * SECOND + 7, Cause.NONE)
    assert verdict(rules, T0 + 7) == (None, Cause.INVALID)


def test_the_stamp_of_the_frames_last_use_is_not_taken_again():
    # The sentinel was forgotten: the old value lies before this packet's submit.
    assert verdict(COPY, T0 - 1_000_000) == (None, Cause.INVALID)


@pytest.mark.parametrize("left", [CSUM_V4, CSUM_V6])
def test_what_a_checksum_request_left_is_no_stamp(left):
    assert verdict(IGC, left | txmd.SENTINEL) == (None, Cause.SKIPPED)
    assert verdict(IGC, left | txmd.SENTINEL, is_requested=False) == (None, Cause.NONE)
    # Without the sentinel, as other programs write it.
    assert verdict(IGC, left) == (None, Cause.INVALID)


class JustSet:
    """A PHC that somebody set by a second since it was last looked at."""

    def __init__(self, has_news=True):
        self.seen, self.has_news, self.num_refreshed = T0, has_news, 0

    def is_possible(self, stamps, first_ns, last_ns):
        return np.isin(stamps, [self.seen + 50])

    def refresh(self):
        self.num_refreshed += 1
        self.seen = T0 + SECOND
        return self.has_news


@pytest.mark.parametrize(("has_news", "cause"), [(True, Cause.NONE), (False, Cause.INVALID)])
def test_the_clock_is_looked_at_again_before_a_stamp_is_invalid(has_news, cause):
    clock = JustSet(has_news)
    rules = StampRules(is_hardware=True, is_hwtstamp_on=True, clock=clock)
    assert verdict(rules, T0 + SECOND + 50)[1] == cause
    assert clock.num_refreshed == 1


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (T0 + 50, {}),
        (NO_STAMP, {}),
        (T0 + 7, {"is_requested": False}),
        (T0 + 7, {"is_dropped": True}),
    ],
)
def test_the_clock_is_let_alone_where_no_stamp_is_in_doubt(value, flags):
    clock = JustSet()
    rules = StampRules(is_hardware=True, is_hwtstamp_on=True, clock=clock)
    verdict(rules, value, **flags)
    assert clock.num_refreshed == 0


# Where nothing is known of the PHC, nothing can be ruled out but what is no time at all.
NO_PHC = StampRules(is_hardware=True, is_hwtstamp_on=True, clock=UnknownClock())


@pytest.mark.parametrize("rules", [COPY, IGC, UTC_PHC, NO_PHC])
@pytest.mark.parametrize(
    "value",
    [0, 1 << 63, (1 << 63) + 5, 0xF000_0000_0000_0000, txmd.SENTINEL - 1],
    ids=hex,
)
def test_zero_and_what_int64_cannot_hold_are_no_times(rules, value):
    assert verdict(rules, value) == (None, Cause.INVALID)


def test_without_a_phc_any_other_value_passes():
    assert verdict(NO_PHC, 12345) == (12345, Cause.NONE)
    assert verdict(NO_PHC, T0 + 9) == (T0 + 9, Cause.NONE)


def test_the_greatest_int64_is_out_of_any_window():
    limit = np.iinfo(np.int64).max
    assert verdict(COPY, limit) == (None, Cause.INVALID)
    assert verdict(NO_PHC, limit) == (None, Cause.INVALID)


@pytest.mark.parametrize("value", [NO_STAMP, T0 + 5, 0, 1 << 63])
@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_packet_without_a_request_has_neither_stamp_nor_cause(value, is_dropped):
    options = {"is_requested": False, "is_dropped": is_dropped, "is_reset": True}
    assert verdict(IGC, value, **options) == (None, Cause.NONE)


# Why one is missing

UNSUPPORTED = StampRules(
    is_hardware=True, is_offered=False, is_hwtstamp_on=False, timeout_ns=IGC_TIMEOUT
)
DISABLED = StampRules(is_hardware=True, is_hwtstamp_on=False, timeout_ns=IGC_TIMEOUT)
UNKNOWN_TIMEOUT = StampRules(is_hardware=True, is_hwtstamp_on=True)
NO_HWTSTAMP = StampRules(is_hardware=True, is_hwtstamp_on=None, timeout_ns=IGC_TIMEOUT)
LATE = 16 * SECOND


@pytest.mark.parametrize(
    ("rules", "comp", "is_reset", "cause"),
    [
        (IGC, 100_000, False, Cause.SKIPPED),
        (IGC, LATE, False, Cause.TIMED_OUT),
        (IGC, 100_000, True, Cause.RESET),
        (IGC, LATE, True, Cause.RESET),
        (DISABLED, 100_000, False, Cause.DISABLED),
        (DISABLED, LATE, True, Cause.DISABLED),
        (UNSUPPORTED, 100_000, False, Cause.UNSUPPORTED),
        (UNSUPPORTED, LATE, True, Cause.UNSUPPORTED),
        (UNKNOWN_TIMEOUT, LATE, False, Cause.SKIPPED),
        (UNKNOWN_TIMEOUT, LATE, True, Cause.RESET),
        (NO_HWTSTAMP, 100_000, False, Cause.SKIPPED),
        (COPY, 100_000, False, Cause.SKIPPED),
        # A NIC's setting says nothing of the kernel's own stamps.
        (StampRules(is_hwtstamp_on=False), 100_000, False, Cause.SKIPPED),
    ],
)
def test_the_more_certain_cause_wins(rules, comp, is_reset, cause):
    assert verdict(rules, NO_STAMP, comp=comp, is_reset=is_reset) == (None, cause)


@pytest.mark.parametrize("rules", [COPY, IGC, DISABLED, UNSUPPORTED])
@pytest.mark.parametrize("value", [NO_STAMP, T0 + 5, 0])
def test_a_dropped_packets_stamp_is_invalid_whatever_else_is(rules, value):
    # The kernel stamps what it drops, with a time that looks right.
    options = {"is_dropped": True, "is_reset": True, "comp": LATE}
    assert verdict(rules, value, **options) == (None, Cause.INVALID)


@pytest.mark.parametrize("rules", [DISABLED, UNSUPPORTED])
def test_a_stamp_that_came_stands_whatever_the_settings_say(rules):
    assert verdict(rules, T0 + 5, is_reset=True) == (T0 + 5, Cause.NONE)


@pytest.mark.parametrize(
    ("wait", "cause"),
    [
        (13_499_999_999, Cause.SKIPPED),
        (13_500_000_000, Cause.TIMED_OUT),
        (15 * SECOND, Cause.TIMED_OUT),
        (17 * SECOND, Cause.TIMED_OUT),  # the driver looks every second or two
    ],
)
def test_a_timeout_is_told_by_nine_tenths_of_it(wait, cause):
    assert verdict(IGC, NO_STAMP, comp=wait) == (None, cause)


def test_packets_held_behind_a_lost_stamp_are_not_blamed_for_it():
    # Three sent at once; the first one's stamp is lost, so all complete 15 s later.
    done = completed(
        NO_STAMP,
        NO_STAMP,
        T0 + 2_000,
        app=[0, 1_000, 2_000],
        comp=[15 * SECOND, 15 * SECOND, 15 * SECOND],
        previous=[-5_000, 15 * SECOND, 15 * SECOND],
    )
    assert verdicts(IGC, done) == [
        (None, Cause.TIMED_OUT),
        (None, Cause.SKIPPED),
        (T0 + 2_000, Cause.NONE),
    ]


def test_stamps_lost_together_are_blamed_up_to_the_number_of_slots():
    # Five wait behind one another; the driver frees all its slots in one pass of its watchdog.
    done = completed(
        *[NO_STAMP] * 5,
        app=[0, 1_000, 2_000, 3_000, 4_000],
        comp=[15 * SECOND] * 5,
        previous=[-5_000] + [15 * SECOND] * 4,
    )
    rules = dataclasses.replace(IGC, num_slots=4)
    causes = [cause for _, cause in verdicts(rules, done)]
    assert causes == [Cause.TIMED_OUT] * 4 + [Cause.SKIPPED]


def test_each_of_two_lost_stamps_in_a_row_is_blamed():
    # The second one's own wait begins when the first one's ends.
    done = completed(
        NO_STAMP,
        NO_STAMP,
        app=[0, 1_000],
        comp=[15 * SECOND, 30 * SECOND],
        previous=[-5_000, 15 * SECOND],
    )
    assert [cause for _, cause in verdicts(IGC, done)] == [Cause.TIMED_OUT, Cause.TIMED_OUT]


def test_an_idle_time_before_the_packet_is_not_its_wait():
    assert verdict(IGC, NO_STAMP, previous=-3600 * SECOND) == (None, Cause.SKIPPED)


def test_nothing_gives_nothing():
    for rules in (COPY, IGC, DISABLED, UNSUPPORTED):
        assert verdicts(rules, completed()) == []


def test_each_packet_is_judged_for_itself():
    done = completed(
        T0 + 1,
        NO_STAMP,
        0,
        T0 + 4,
        T0 + 5,
        is_requested=[True, True, True, False, True],
        is_dropped=[False, False, False, False, True],
    )
    assert verdicts(IGC, done) == [
        (T0 + 1, Cause.NONE),
        (None, Cause.SKIPPED),
        (None, Cause.INVALID),
        (None, Cause.NONE),
        (None, Cause.INVALID),
    ]


def test_the_arguments_are_left_alone():
    done = completed(T0 + 1, NO_STAMP, is_dropped=[True, False])
    before = [getattr(done, name).copy() for name in Completed.__slots__]
    judge(IGC, done)
    for name, copy in zip(Completed.__slots__, before, strict=True):
        assert np.array_equal(getattr(done, name), copy)


@settings(deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.integers(0, (1 << 64) - 1),
            st.integers(T0 - 10, T0 + 100_010),
            st.sampled_from([0, NO_STAMP, CSUM_V4, CSUM_V4 | NO_STAMP]),
        ),
        max_size=20,
    ),
    rules=st.sampled_from([COPY, IGC, UTC_PHC, NO_PHC, DISABLED, UNSUPPORTED]),
    data=st.data(),
)
def test_every_request_has_either_a_possible_stamp_or_a_cause(values, rules, data):
    def bools():
        return data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))

    flags = {name: bools() for name in ("is_requested", "is_dropped", "is_reset")}
    done = completed(*values, **{name: np.array(value, bool) for name, value in flags.items()})
    for index, (value, cause) in enumerate(verdicts(rules, done)):
        if not flags["is_requested"][index]:
            assert (value, cause) == (None, Cause.NONE)
        elif value is None:
            assert cause != Cause.NONE
        else:
            assert cause == Cause.NONE
            assert value == values[index] > 0
            assert not flags["is_dropped"][index]


# Packets without a completion


@pytest.mark.parametrize(
    ("submitted", "last_completed", "is_drained", "expected"),
    [
        ([0, 1, 2], -1, False, [Cause.NOT_COMPLETED] * 3),
        ([0, 1, 2], -1, True, [Cause.LOST_BY_DRIVER] * 3),
        (
            [3, 5, 9],
            5,
            False,
            [Cause.LOST_BY_DRIVER, Cause.NOT_COMPLETED, Cause.NOT_COMPLETED],
        ),
        ([3, 5, 9], 5, True, [Cause.LOST_BY_DRIVER] * 3),
        ([], 7, False, []),
        ([], -1, True, []),
    ],
)
def test_uncompleted_packets(submitted, last_completed, is_drained, expected):
    numbers = np.array(submitted, dtype=np.int64)
    causes = causes_of_uncompleted(numbers, last_completed, is_drained=is_drained)
    assert causes.dtype == np.uint8
    assert causes.tolist() == expected


# One packet


def test_one_packets_request_and_stamp():
    umem = Umem(num_frames=2)
    addr = umem.tx_addr(1)
    umem.view[addr - 24 : addr] = b"\x11" * 24
    stamp.request(umem, addr)
    assert bytes(umem.view[addr - 24 : addr - 16]) == (1).to_bytes(8, "little")
    assert stamp.read(umem, addr) is None
    umem.view[addr - 16 : addr - 8] = (T0 + 3).to_bytes(8, "little")
    assert stamp.read(umem, addr) == T0 + 3
    assert stamp.OPTION == 2
