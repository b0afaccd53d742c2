# SPDX-License-Identifier: GPL-2.0-only
"""Drivers that our table does not know and that give AF_XDP no Tx stamps: what a user reads."""

import pytest

from tests.guest.bench import FLOW, Bench, forking, keys_of, rows_of, words_of
from xdptstamp.lab.guest import NICS, Guest, GuestConfig
from xdptstamp.sample import NULL, Cause

COUNT = 10
# Slow enough for a sink on the same emulated CPUs.
SLOW = ("--ratio", "1:4", "--size", "64", "--repeats", "1", "--duration", "1s", "--rate", "500pps")
# What is said of the setting for Tx timestamps, and of the NIC's clock.
SETTING = {
    "igb": (
        "hwtstamp of igb0 is tx on, rx ptpv2-event: not every received packet can be stamped note "
        "hwtstamp of igb0 restored: tx off, rx none"
    ),
    "virtio": "virtio0 has no hwtstamp setting to turn on",
}
CLOCK = {"igb": "extended, the worst +-", "virtio": "not compared: the NIC has no PHC"}


@pytest.fixture(params=["igb", "virtio"])
def nic(request):
    return request.param


@pytest.fixture
def bench(nic, tmp_path, needs_kit):
    """A guest with that NIC."""
    config = GuestConfig(nic=nic, output_dir=tmp_path / "results")
    needs_kit(config)
    with Guest(config) as guest, forking(guest) as words:
        yield Bench(guest, words)


def assert_told(nic, run, text):
    """What every measurement says of such a driver, and does not."""
    words = words_of(text)
    assert run.info.nic["driver"] == NICS[nic].driver
    assert (run.info.obtained["mode"], run.info.timestamps) == ("zero-copy", "none")
    assert f"xdptstamp {run.info.kind}: NO TIMESTAMPS" in words
    assert "timestamps none: the driver offers AF_XDP no Tx timestamps" in words
    assert "HARDWARE" not in words
    assert "SOFTWARE" not in words
    for role in ("skipped", "timed out"):
        problem = "not reconcilable: the driver's counters are not known to xdptstamp"
        assert f"{role}: 0 by our books, {problem}" in words
    assert "agree" not in words
    assert "timestamps are missing, most of them unsupported" in words
    assert "use a driver that offers tx-timestamp in its xsk-features" in words
    assert SETTING[nic] in words
    assert CLOCK[nic] in words
    # What attaching the program does to igb, a reset, is over when the run begins.
    assert run.info.counts["link_resets"] == 0
    assert not keys_of(run) & {"kernel-log-link", "phc-step", "counters-not-reconcilable"}
    assert run.info.is_trusted, text
    rows = rows_of(run)
    assert (rows["tx_hw_ns"] == NULL).all()
    assert (rows["cause"] == Cause.UNSUPPORTED).all()
    return rows


def test_every_stamp_is_unsupported_and_no_counter_agrees(nic, bench):
    run, text = bench.measure(lambda: bench.ask("ask", COUNT, FLOW))
    rows = assert_told(nic, run, text)
    assert len(rows) == COUNT + 1  # the first is from finding out whether ping-pong is ready
    assert f"unsupported {len(rows)} driver has none for AF_XDP" in words_of(text)
    assert "Rx hints the driver gives none" in words_of(text)
    strips = f"a VLAN tag that {nic}0 strips is not seen (the driver does not give it)"
    assert (strips in words_of(text)) == (nic == "igb")

    run, rounds, text = bench.mixed(*SLOW, code=0)
    rows = assert_told(nic, run, text)
    assert all(each.sent == each.received == each.completed > 0 for each in rounds)
    assert {each.source for each in rounds} == {"sink"}
    (asked,) = [each.requested for each in rounds if each.requested]
    assert f"unsupported={asked}" in words_of(text)
    assert not bench.guest.truth_path.exists()
