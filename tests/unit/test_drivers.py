# SPDX-License-Identifier: GPL-2.0-only
"""What is known of drivers: which faults a kernel may have, and what the user reads of them."""

import dataclasses

import pytest

from xdptstamp.drivers import DriverState, Presence, known_driver
from xdptstamp.reconcile import Verdict, reconcile

PENDING, RING, QUEUES = (
    "exit-with-pending-stamp",
    "completions-lost-above-ring",
    "tx-not-woken-with-two-queues",
)
RACE, STOP, BUFFERS = "stamp-register-0-race", "stamp-interrupts-stop", "tsn-buffers-too-large"
OPTION = "flag-without-option-honoured"
PROGRAM, EVER = "program-changes-under-traffic", "channels-reset-rings"
UNCOUNTED = ("st_gmac", "st_xgmac", "mlx5_core")


def keys(release, num_queues, driver="igc"):
    faults = known_driver(driver).faults
    return {fault.key for fault in faults if fault.can_be(release, num_queues)}


def fault_of(driver, key):
    (fault,) = [fault for fault in known_driver(driver).faults if fault.key == key]
    return fault


@pytest.mark.parametrize(
    ("release", "num_queues", "expected"),
    [
        ("6.1.0-18-amd64", 4, {RING, STOP}),
        ("6.8.12", 4, {RING, RACE}),
        ("6.12.77", 4, {PENDING, RING, RACE, OPTION}),
        ("6.12.117+deb13-amd64", 4, {RING}),
        ("6.12.117+deb13-amd64", 2, {RING, QUEUES}),
        ("6.14.8", 4, {PENDING, RING, RACE, OPTION}),
        ("6.16", 4, {PENDING, RACE, BUFFERS, OPTION}),
        ("6.18.8", 4, {PENDING, OPTION}),
        ("6.19.0-rc3", 2, {PENDING, QUEUES, OPTION}),
        ("7.0.0", 2, {OPTION}),
        ("7.3.0-rc1", 2, set()),
        ("7.10.0", 2, set()),
        ("12.0", 1, set()),
        ("something", 4, {PENDING, RING, RACE, STOP, BUFFERS, OPTION}),
    ],
)
def test_a_kernel_that_has_the_fix_has_not_the_fault(release, num_queues, expected):
    assert keys(release, num_queues) == {*expected, PROGRAM, EVER}


def test_what_the_driver_has_counts_more_than_its_version():
    fault = fault_of("igc", PENDING)
    state = DriverState("6.12.70-1.vendor", 4)
    assert fault.presence(state) == Presence.POSSIBLE
    with_fix = dataclasses.replace(state, btf=b"\0igc_up\0igc_ptp_clear_xsk_tx_tstamp_queue\0")
    assert fault.presence(with_fix) == Presence.ABSENT
    without = dataclasses.replace(state, btf=b"\0igc_up\0my_igc_ptp_clear_xsk_tx_tstamp_queue\0")
    assert fault.presence(without) == Presence.PROBED
    # Before it could be there, nothing has to be looked for.
    assert fault.presence(dataclasses.replace(without, release="6.9.1")) == Presence.ABSENT


def test_a_fault_that_needs_a_queueing_discipline_is_not_there_without():
    fault, state = fault_of("igc", BUFFERS), DriverState("6.17.2", 4)
    assert fault.presence(state) == Presence.POSSIBLE
    for qdiscs, expected in (
        (["mq", "fq_codel"], Presence.ABSENT),
        (["taprio", "pfifo"], Presence.POSSIBLE),
    ):
        found = dataclasses.replace(state, qdiscs=frozenset(qdiscs))
        assert fault.presence(found) == expected


def test_a_fault_is_told_with_its_source_and_what_to_do():
    assert fault_of("igc", QUEUES).note("igc") == (
        "known fault of igc (seen on 6.12.117; igc_xsk_wakeup, igc_main.c, wakes the Rx vector "
        "alone; fixed by Linux commit 554a1c34c11a "
        '("igc: Fix trigger of incorrect irq in igc_xsk_wakeup function")): '
        "with at most two queues what is sent in zero-copy mode completes by chance, when "
        "the driver looks at the queue for something else; "
        "with three or four queues it does not happen; the driver makes as many as there are CPUs"
    )


@pytest.mark.parametrize(
    ("name", "module"), [("igc", "igc"), ("st_gmac", "stmmac"), ("mlx5_core", "mlx5_core")]
)
def test_a_driver_is_found_by_the_name_that_ethtool_shows(name, module):
    assert known_driver(name).module == module
    # stmmac never calls itself that, nor by its glue.
    assert known_driver("stmmac") is known_driver("dwmac-intel") is known_driver("mlx5") is None


@pytest.mark.parametrize("name", UNCOUNTED)
def test_a_driver_that_counts_no_missing_stamp_is_not_reconcilable(name):
    driver = known_driver(name)
    assert driver.counters == {}
    counters = {"ptp_cq0_lost_cqe": 5, "tx_timeout": 5}
    result = reconcile(driver, counters, counters, {"skipped": 4, "timed_out": 1})
    assert {balance.verdict for balance in result.balances} == {Verdict.NOT_RECONCILABLE}
    assert not result.is_untrusted
    assert result.texts[0] == (
        f"skipped: 4 by our books, not reconcilable: driver {name} has no such counter"
    )


@pytest.mark.parametrize("name", ["igc", *UNCOUNTED, "af_xdp"])
def test_every_fault_says_how_it_is_known_and_what_to_do(name):
    for fault in known_driver(name).faults:
        assert fault.effect, fault.key
        assert fault.care, fault.key
        assert (
            "Linux commit" in fault.source or "seen on" in fault.source or "read in" in fault.source
        )


def test_faults_of_other_drivers():
    assert keys("6.8.1", 4, "mlx5_core") == {"one-stamp-for-a-batch", "metadata-not-asked-for"}
    assert keys("6.12.117", 4, "mlx5_core") == {"one-stamp-for-a-batch"}
    assert keys("6.16.0", 4, "st_gmac") == {"stops-when-budget-is-used-up"}
    assert keys("7.3.4", 4, "st_gmac") == set()
    assert keys("7.3.4", 4, "st_xgmac") == {"stamps-from-one-register"}
    assert keys("6.1.0", 4, "af_xdp") == set()
    assert keys("6.18.44", 4, "af_xdp") == {
        "umem-length-8-accepted",
        "copy-mode-stuck-behind-refused",
    }
