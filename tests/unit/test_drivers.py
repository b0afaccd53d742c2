# SPDX-License-Identifier: GPL-2.0-only
"""What is known of drivers: which faults a kernel may have, and what the user reads of them."""

import pytest

from xdptstamp.drivers import known_driver

OLD = ["exit-with-pending-stamp", "completions-lost-above-ring", "stamp-register-0-race"]
EVER = "program-changes-under-traffic"


def keys(release, num_queues):
    return {fault.key for fault in known_driver("igc").faults if fault.can_be(release, num_queues)}


@pytest.mark.parametrize(
    ("release", "num_queues", "expected"),
    [
        ("6.12.117+deb13-amd64", 4, {*OLD, EVER}),
        ("6.12.117+deb13-amd64", 2, {*OLD, EVER, "tx-not-woken-with-two-queues"}),
        ("7.2.9", 1, {*OLD, EVER, "tx-not-woken-with-two-queues"}),
        ("7.3.0-rc1", 2, {EVER}),
        ("7.10.0", 2, {EVER}),
        ("12.0", 1, {EVER}),
        ("something", 4, {*OLD, EVER}),
    ],
)
def test_a_kernel_that_has_the_fix_has_not_the_fault(release, num_queues, expected):
    assert keys(release, num_queues) == expected


def test_a_fault_is_told_with_its_source_and_what_to_do():
    faults = {fault.key: fault for fault in known_driver("igc").faults}
    assert faults["tx-not-woken-with-two-queues"].note("igc") == (
        "known fault of igc (seen on 6.12.117; igc_xsk_wakeup, igc_main.c, wakes the Rx vector "
        "alone): with at most two queues what is sent in zero-copy mode completes by chance, when "
        "the driver looks at the queue for something else; "
        "with three or four queues it does not happen; the driver makes as many as there are CPUs"
    )
