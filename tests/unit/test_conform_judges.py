# SPDX-License-Identifier: GPL-2.0-only
"""No case of ``conform`` passes whatever it sees: each is shown what a broken driver would do."""

import dataclasses
import struct

import numpy as np
import pytest

from xdptstamp.conform import (
    completions,
    disturb,
    launch,
    negative,
    offloads,
    receive,
    sharing,
    stamps,
)
from xdptstamp.conform.catalogue import CASES
from xdptstamp.conform.exchange import Exchange
from xdptstamp.conform.runner import DANGERS
from xdptstamp.conform.wire import Frame
from xdptstamp.drivers import CORE, known_driver
from xdptstamp.packet import build_udp
from xdptstamp.program import META_DTYPE, VALID_HASH, VALID_RX_HW, VALID_VLAN

DRIVERS = ("igc", "st_gmac", "st_xgmac", "mlx5_core", CORE)
KEYS = [case.rule.key for case in CASES]
JUDGES = {case.rule.key: case.judge for case in CASES}
START = 1_700_000_000_000_000_000
AS_WRITTEN = 0xFFFFFFFF << 32
NUM = 12
TCI = 0x600A


def datagram(number):
    macs = (b"\2\0\0\0\0\2", b"\2\0\0\0\0\1")
    return build_udp(macs, ("198.18.0.1", "198.18.0.2"), (9095, 9), struct.pack("!I", number) * 5)


def exchange(pattern=None, num=NUM, is_zero_copy=True):
    """What a right driver makes of ``num`` packets; ``pattern`` says which asked for a stamp."""
    asked = np.ones(num, np.bool_) if pattern is None else np.resize(pattern, num).astype(np.bool_)
    submit = START + np.arange(num) * 1000
    expected = [datagram(number) for number in range(num)]
    return Exchange(
        is_zero_copy=is_zero_copy,
        is_requested=asked,
        submit_ns=submit,
        done_ns=submit + 900,
        place=np.arange(num),
        written=np.full(num, AS_WRITTEN, np.uint64),
        found=np.where(asked, submit + 500, AS_WRITTEN).astype(np.uint64),
        is_intact=np.ones(num, np.bool_),
        is_possible=np.ones(num, np.bool_),
        expected=expected,
        frames=[Frame(data, False) for data in expected],
        statistics={"tx_invalid_descs": 0},
    )


def but(observation, /, **changes):
    return dataclasses.replace(observation, **changes)


def with_value(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


def lost(done):
    return but(done, done_ns=with_value(done.done_ns, 3, -1), place=with_value(done.place, 3, -1))


def twice(done):
    return but(done, num_foreign=1)


def swapped(done):
    place = done.place.copy()
    place[[2, 3]] = place[[3, 2]]
    return but(done, place=place)


def unstamped(done):
    return but(done, found=with_value(done.found, 4, AS_WRITTEN))


def unstamped_all(done):
    return but(done, found=done.written.copy())


def false_stamp(done):
    return but(done, is_possible=with_value(done.is_possible, 4, False))


def step_back(done):
    # By more than any reader of CLOCK_TAI does.
    return but(done, found=with_value(done.found, 6, START - 20_000))


def plain_stamped(done):
    at = int(np.flatnonzero(~done.is_requested)[0])
    return but(done, found=with_value(done.found, at, START + 77))


def overwritten(done):
    at = int(np.flatnonzero(~done.is_requested)[0])
    return but(done, is_intact=with_value(done.is_intact, at, False))


def missing_frame(done):
    return but(done, frames=done.frames[:-1])


def doubled_frame(done):
    return but(done, frames=[*done.frames, done.frames[0]])


def altered_frame(done):
    bad = Frame(done.frames[0].data[:-1] + b"\x99", False)
    return but(done, frames=[bad, *done.frames[1:]])


def late_frame(done):
    return but(done, frames=[*done.frames[1:], done.frames[0]])


def each(observation, field, *doctors):
    """Doctors of one exchange inside of an observation."""
    return [
        lambda whole=observation, d=doctor: but(whole, **{field: d(getattr(whole, field))})
        for doctor in doctors
    ]


def cases_of(right, *doctors):
    return right, [lambda d=doctor: d(right) for doctor in doctors]


def received(valid, **fields):
    row = np.zeros(1, META_DTYPE)[0]
    row["valid"] = valid
    rows = []
    for number in range(8):
        row["hash"] = 100 + number % 2
        row["vlan_tci"] = TCI
        rows.append(row.copy())
    got = receive.Received(8, [n % 2 for n in range(8)], [START] * 8, [START + 9] * 8, rows)
    got.tags = [None] * 8
    got.is_possible = np.ones(8, np.bool_)
    return but(got, **fields)


def other_row(got, **fields):
    rows = [row.copy() for row in got.rows]
    for name, value in fields.items():
        rows[2][name] = value
    return but(got, rows=rows)


def fewer(got):
    return but(got, num_sent=9)


def refusals():
    done = exchange([0, 0, 0], 3)
    right = negative.Refusal(done, True)
    stuck = but(right, is_usable=False)
    written = but(right, done=plain_stamped(done))
    blocked = but(done, done_ns=with_value(done.done_ns, 2, -1))
    return right, [
        lambda: stuck,
        lambda: written,
        lambda: but(right, done=blocked),
        lambda: but(right, done=twice(done)),
        lambda: but(right, done=overwritten(done)),
    ]


def registrations(*, may_be_ignored=False):
    accepted = exchange([1], 4)
    right = negative.Registration("EINVAL")
    wrong = [
        lambda: negative.Registration("ENOMEM"),
        lambda: negative.Registration(None, accepted),
    ]
    if not may_be_ignored:
        wrong.append(lambda: negative.Registration(None, but(accepted, found=accepted.written)))
    return right, wrong


def disturbed():
    right = disturb.Disturbed(exchange([1, 0]), exchange())
    return right, [
        *each(right, "done", lost, twice, plain_stamped, false_stamp),
        *each(right, "after", unstamped, unstamped_all),
    ]


def sums(*, with_stamp):
    def frames(done, *, right):
        data = [datagram(number) for number in range(NUM)]
        if not right:
            data[3] = data[3][:40] + b"\x12\x34" + data[3][42:]
        return but(done, frames=[Frame(each_one, False) for each_one in data])

    done = exchange([1] if with_stamp else [0])
    offered = offloads.Sums(frames(done, right=True), True)
    wrong = [lambda: but(offered, done=lost(offered.done))]
    if with_stamp:
        # The words of the request, taken for a time.
        wrong += each(offered, "done", false_stamp, unstamped_all)
    else:
        spoilt = frames(done, right=False)
        wrong += [lambda: offloads.Sums(spoilt, True), lambda: offloads.Sums(spoilt, False)]
    return offered, wrong


def shown_again():
    right = stamps.Reused(exchange(num=6), exchange([0], 6))
    old = but(right.second, found=right.first.found.copy())
    return right, [lambda: but(right, second=old), *each(right, "second", lost, plain_stamped)]


def shared():
    done = exchange()
    right = sharing.Shared(done, [0, 1], [START + 7, START + 8], 2)
    return right, [
        lambda: but(right, stamps=[int(done.found[1]), START + 8]),
        lambda: but(right, ids=[0, 0]),
        lambda: but(right, ids=[], stamps=[]),
        *each(right, "done", false_stamp, unstamped_all, lost),
    ]


def launches():
    done = exchange(num=16)
    right = launch.Launches(
        done, done.found.astype(np.int64) - 300, with_value(np.ones(16, np.bool_), 9, False)
    )

    def off_by(value):
        return lambda: but(right, launch_ns=with_value(right.launch_ns, 5, value))

    return right, [
        off_by(right.launch_ns[5] + 2_000),
        off_by(right.launch_ns[5] - 2_000_000),
        *each(right, "done", unstamped, unstamped_all, false_stamp, lost, swapped),
    ]


def launches_without_etf():
    done = exchange()
    right = launch.Launches(
        done, done.found.astype(np.int64) + 2_000_000_000, np.ones(NUM, np.bool_)
    )
    kept = with_value(right.launch_ns, 5, int(done.found[5]))
    return right, [
        lambda: but(right, launch_ns=kept),
        *each(right, "done", unstamped, unstamped_all, false_stamp, lost),
    ]


def by_ratio():
    right = completions.ByRatio({"1:1": exchange([1, 0]), "0:1": exchange([0])})
    broken = dict(right.exchanges)
    return right, [
        lambda d=doctor: completions.ByRatio({**broken, "1:1": d(broken["1:1"])})
        for doctor in (lost, twice, swapped)
    ]


def observations():
    mixed, asked, plain = exchange([1, 0]), exchange(), exchange([0])
    wire = (missing_frame, doubled_frame, altered_frame, late_frame)
    known = {
        "stamp-in-bounds": cases_of(asked, unstamped, false_stamp),
        "stamps-in-order": cases_of(asked, step_back, unstamped_all),
        "not-requested-untouched": cases_of(mixed, plain_stamped, overwritten),
        "flag-without-option": cases_of(plain, plain_stamped, overwritten, lost),
        "option-without-flag": cases_of(plain, plain_stamped, overwritten, lost),
        "reused-frame": shown_again(),
        "pending-stamps": cases_of(
            stamps.Bursts([4, 5, 4], 32, 4),
            lambda right: but(right, stamped=[4, 3, 4]),
            lambda right: but(right, num_slots=None, stamped=[0, 0, 0]),
        ),
        "skipped-counted": cases_of(
            stamps.Skipping(unstamped(asked), 1),
            lambda right: but(right, counted=0),
            lambda right: but(right, counted=2),
        ),
        "completions-at-every-ratio": by_ratio(),
        "completed-is-sent": cases_of(mixed, *wire),
        "ring-wrap": cases_of(mixed, lost, twice, swapped, plain_stamped, overwritten),
        "in-flight-above-ring": cases_of(plain, lost, twice, swapped),
        "hwtstamp-off": cases_of(plain, plain_stamped, lost),
        "multi-buffer": cases_of(mixed, *wire, lost, unstamped_all),
        "vlan-tagged": cases_of(asked, *wire, lost, unstamped),
        "checksum": sums(with_stamp=False),
        "checksum-and-stamp": sums(with_stamp=True),
        "launch-time-without-etf": launches_without_etf(),
        "launch-time": launches(),
        "plain-af-xdp": cases_of(plain, lost, twice, swapped),
        "plain-beside-stamped": cases_of(mixed, lost, twice, swapped),
        "so-timestamping-beside": shared(),
        "rx-stamp": cases_of(
            received(VALID_RX_HW),
            lambda got: other_row(got, valid=0),
            lambda got: but(got, is_possible=with_value(got.is_possible, 1, False)),
            fewer,
        ),
        "rx-hash": cases_of(
            received(VALID_HASH),
            lambda got: other_row(got, valid=0),
            lambda got: other_row(got, hash=7),
            fewer,
        ),
        "rx-vlan-tag": cases_of(
            received(VALID_VLAN),
            lambda got: other_row(got, valid=0),
            lambda got: other_row(got, vlan_tci=TCI + 1),
            fewer,
        ),
        "umem-length-0": registrations(may_be_ignored=True),
        "umem-flag-missing": registrations(may_be_ignored=True),
    }
    known |= {
        f"metadata-length-{length}": cases_of(mixed, unstamped, plain_stamped, overwritten)
        for length in (16, 24, 32, 248)
    }
    for key in ("umem-length-8", "umem-length-20", "umem-length-256", "umem-unknown-flag"):
        known[key] = registrations()
    for key in (
        "unknown-metadata-flag",
        "checksum-outside",
        "metadata-not-registered",
        "wrong-option",
        "no-room-for-metadata",
    ):
        known[key] = refusals()
    for case in disturb.CASES:
        known[case.rule.key] = disturbed()
    return known


OBSERVATIONS = observations()


def test_every_case_is_here():
    assert sorted(OBSERVATIONS) == sorted(KEYS)
    assert len(set(KEYS)) == len(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_what_a_right_driver_does_passes(key):
    verdict = JUDGES[key](OBSERVATIONS[key][0])
    assert verdict.is_right, verdict.seen


@pytest.mark.parametrize(
    ("key", "number"),
    [(key, number) for key, (_, wrong) in OBSERVATIONS.items() for number in range(len(wrong))],
)
def test_what_a_broken_driver_does_fails_and_says_what_was_seen(key, number):
    right, wrong = OBSERVATIONS[key]
    verdict = JUDGES[key](wrong[number]())
    assert not verdict.is_right
    assert verdict.seen
    assert verdict.seen != JUDGES[key](right).seen


def test_a_packet_that_was_submitted_too_late_is_not_judged_and_said():
    right, _ = launches()
    late = but(right, launch_ns=with_value(right.launch_ns, 9, 0))
    verdict = launch.judge_launches(late)
    assert verdict.is_right
    assert verdict.seen.endswith(
        "15 of 15 stamped, 0 of them early, 0 late: 300 to 300 ns after their time; "
        "1 more were too late with the NIC to be judged"
    )


def test_a_driver_that_sends_late_is_not_a_slow_machine():
    right, _ = launches()
    two = but(right, is_ahead=np.arange(16) < 2)
    assert launch.is_too_slow(two)
    assert not launch.is_too_slow(right)
    late = but(two, launch_ns=right.launch_ns - 1_000_000_000)
    assert not launch.is_too_slow(late)
    assert not launch.judge_launches(late).is_right
    assert not launch.is_too_slow(but(two, done=lost(two.done)))


def test_a_step_back_of_the_fast_reader_is_allowed_in_copy_mode_alone():
    done = exchange(is_zero_copy=False)
    back = but(done, found=with_value(done.found, 6, int(done.found[5]) - 9_000))
    assert JUDGES["stamps-in-order"](back).is_right
    assert not JUDGES["stamps-in-order"](but(back, is_zero_copy=True)).is_right


def test_completions_out_of_order_are_right_in_copy_mode():
    done = swapped(exchange([0], is_zero_copy=False))
    assert JUDGES["plain-af-xdp"](done).is_right


def test_a_field_that_was_not_offered_may_be_as_it_was_sent():
    done = exchange([0])
    odd = [frame.data[:40] + b"\x12\x34" + frame.data[42:] for frame in done.frames]
    untouched = but(done, expected=odd, frames=[Frame(data, False) for data in odd])
    assert JUDGES["checksum"](offloads.Sums(untouched, False)).is_right
    assert not JUDGES["checksum"](offloads.Sums(untouched, True)).is_right


def test_a_sum_that_is_left_to_the_other_end_of_a_virtual_link_is_right():
    done = exchange([0])
    left = [Frame(frame.data[:40] + b"\0\0" + frame.data[42:], True) for frame in done.frames]
    assert JUDGES["checksum"](offloads.Sums(but(done, frames=left), True)).is_right


def test_the_faults_that_cases_name_are_known():
    known = {fault.key for name in DRIVERS for fault in known_driver(name).faults}
    for case in CASES:
        assert {*case.faults} <= known, case.rule.key
    assert {*DANGERS} <= known


def test_every_rule_is_complete():
    for case in CASES:
        rule = case.rule
        assert rule.title and rule.text.endswith("."), rule.key
        assert rule.source and set(rule.expected) <= {"copy", "zero-copy"} and rule.expected
