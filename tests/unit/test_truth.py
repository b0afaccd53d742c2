# SPDX-License-Identifier: GPL-2.0-only
"""Runs joined with the log of the virtual I226: exact, and nothing wrong goes by unseen."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.unit.truth_kit import (
    EPOCH,
    MAC,
    OTHER_MAC,
    RX_NS,
    SPEED_MBPS,
    TX_NS,
    Packet,
    log_lines,
    make_info,
    make_mixed_run,
    make_run,
    mixed,
    ping_pong,
    round_of,
    rows_of,
    write_log,
)
from xdptstamp.cli._truth import report_truth
from xdptstamp.clock import ClockSample
from xdptstamp.comparison import Comparison
from xdptstamp.drivers import known_driver
from xdptstamp.errors import RunFileError
from xdptstamp.join import join_truth, read_truth_log
from xdptstamp.sample import NULL, Cause, column
from xdptstamp.store import open_run

README = Path(__file__).parents[2] / "results" / "README.md"
STREAM = 0xBEEF0001


@pytest.fixture
def join(tmp_path):
    """Join a run of rows with a log of lines."""

    def joined(rows, lines, info=None):
        run = make_run(tmp_path, rows, info)
        truth, table = join_truth(run, read_truth_log(write_log(tmp_path / "truth.csv", lines)))
        return truth, table

    return joined


def keys(truth):
    return [warning.key for warning in truth.warnings]


def message(truth, key):
    (warning,) = [warning for warning in truth.warnings if warning.key == key]
    return f"{warning.message} | {warning.value} | {warning.limit} | {warning.advice}"


def test_the_constants_are_those_of_the_driver():
    # drivers/net/ethernet/intel/igc/igc.h (v6.12, v7.3): IGC_I225_TX_LATENCY_10 and so on.
    latency = known_driver("igc").latency
    assert latency.tx_ns == {10: 240, 100: 58, 1000: 80, 2500: 1325}
    assert latency.rx_ns == {10: 6450, 100: 185, 1000: 300, 2500: 1485}
    assert latency.of("rx", 2500) == (1485, "igc.h IGC_I225_RX_LATENCY_2500")
    assert latency.of("tx", 5000) is None


def test_right_stamps_are_right_to_the_nanosecond(join):
    packets = ping_pong(400, num_queues=4)
    packets[0].is_warmup = packets[1].is_warmup = True
    truth, table = join(rows_of(packets), log_lines(packets))
    assert truth.is_trusted and truth.warnings == []
    for side, own_ns in ((truth.tx, TX_NS), (truth.rx, RX_NS)):
        assert (side.num_stamps, side.num_joined, side.num_wrong, side.num_false) == (
            400,
            400,
            0,
            0,
        )
        assert (side.min_error_ns, side.max_error_ns) == (0, 0)
        assert side.driver_ns == side.model_ns == (own_ns, own_ns)
        assert side.constant_ns == own_ns
    assert (truth.tx.num_requests_run, truth.tx.num_requests_model) == (400, 400)
    # 19 digits, none of which a double would keep.
    assert table["tx_wire_ns"].tolist() == [each.tx_wire_ns for each in packets]
    assert table["rx_wire_ns"].tolist() == [each.rx_wire_ns for each in packets]


def test_the_order_of_rows_is_not_that_of_packets(join):
    packets = ping_pong(60, num_queues=2)
    rows = np.random.default_rng(1).permutation(rows_of(packets))
    truth, table = join(rows, log_lines(packets))
    assert truth.warnings == []
    assert table["seq"].tolist() == rows["seq"].tolist()
    assert table["tx_wire_ns"].tolist() == [packets[seq].tx_wire_ns for seq in rows["seq"]]


def test_one_nanosecond_is_found(join):
    packets = ping_pong(50)
    rows = rows_of(packets)
    rows["tx_hw_ns"][17] += 1
    rows["rx_hw_ns"][3] -= 1
    truth, _ = join(rows, log_lines(packets))
    assert keys(truth) == ["truth-tx-error", "truth-rx-error"]
    assert (truth.tx.num_wrong, truth.tx.min_error_ns, truth.tx.max_error_ns) == (1, 0, 1)
    assert (truth.rx.num_wrong, truth.rx.min_error_ns, truth.rx.max_error_ns) == (1, -1, 0)
    assert "1 of 50 Tx stamps are off, all by +0 to +1 ns at 2500 Mb/s" in message(
        truth, "truth-tx-error"
    )
    assert "the first: queue_id 0, round 0, seq 17" in message(truth, "truth-tx-error")
    assert not truth.is_trusted


def test_a_wrong_phy_delay_of_the_model_is_named(join):
    packets = ping_pong(20)
    lines = log_lines(packets, phy_error_ns=-200)
    truth, _ = join(rows_of(packets, phy_error_ns=-200), lines)
    text = message(truth, "truth-tx-error")
    assert (
        "every Tx stamp is off by exactly +200 ns at 2500 Mb/s: the driver adds 1325 ns "
        "(igc.h IGC_I225_TX_LATENCY_2500 is 1325), the model's register was latched 1125 ns "
        "before the wire" in text
    )
    assert "the driver does as the table says: the model's PHY delay is wrong" in text
    text = message(truth, "truth-rx-error")
    assert "every Rx stamp is off by exactly -200 ns at 2500 Mb/s" in text
    assert "takes off 1485 ns" in text and "1285 ns after the wire" in text


def test_a_wrong_correction_of_the_driver_is_named(join):
    packets = ping_pong(20)
    truth, _ = join(rows_of(packets, driver_error_ns=200), log_lines(packets))
    text = message(truth, "truth-tx-error")
    assert "off by exactly +200 ns" in text and "the driver adds 1525 ns" in text
    assert "the model does as the table says: the driver's correction is wrong" in text
    text = message(truth, "truth-rx-error")
    assert "off by exactly -200 ns" in text and "takes off 1685 ns" in text


def test_a_wrong_table_is_named_though_every_stamp_is_right(join, monkeypatch):
    driver = known_driver("igc")
    latency = dataclasses.replace(driver.latency, tx_ns={2500: 1300})
    wrong = dataclasses.replace(driver, latency=latency)
    monkeypatch.setattr("xdptstamp.join.truth.known_driver", lambda name: wrong)
    packets = ping_pong(20)
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert keys(truth) == ["truth-tx-constant"]
    assert "IGC_I225_TX_LATENCY_2500 is 1300" in message(truth, "truth-tx-constant")
    assert not truth.is_trusted


def test_without_a_constant_the_error_counts_all_the_same(join):
    packets = ping_pong(20)
    info = make_info()
    info.nic["speed_mbps"] = 12345
    truth, _ = join(rows_of(packets), log_lines(packets), info)
    assert truth.warnings == [] and truth.tx.constant_ns is None
    truth, _ = join(rows_of(packets, driver_error_ns=3), log_lines(packets), info)
    assert "no constant is known for this driver and speed" in message(truth, "truth-tx-error")


@pytest.mark.parametrize("payload", [None, b"xdp"], ids=["all differ", "all the same"])
def test_a_log_with_its_times_a_line_off_is_seen(join, payload):
    packets = ping_pong(30, payload=payload)
    lines = log_lines(packets)
    cells = [line.split(",") for line in lines[1:]]
    at = lines[0].split(",").index("wire_ns")
    times = [cell[at] for cell in cells]
    for cell, wire_ns in zip(cells, [*times[1:], times[0]], strict=True):
        cell[at] = wire_ns
    truth, _ = join(rows_of(packets), [lines[0], *(",".join(cell) for cell in cells)])
    assert {"truth-tx-error", "truth-rx-error"} <= set(keys(truth))


@pytest.mark.parametrize("payload", [None, b"xdp"], ids=["all differ", "all the same"])
@pytest.mark.parametrize("at", [0, 11, -1])
@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_a_missing_line_is_seen(join, payload, at, direction):
    packets = ping_pong(30, payload=payload)
    lines = log_lines(packets)
    own = [line for line in lines if f",{direction}," in line]
    lines.remove(own[at])
    truth, _ = join(rows_of(packets), lines)
    side = getattr(truth, direction)
    if payload is None:
        assert keys(truth)[0] == f"truth-{direction}-false"
        assert (side.num_joined, side.num_false) == (29, 1)
        assert side.named[0]["seq"] == packets[at].seq
    else:
        # Which one is missing cannot be told; that one is, can.
        assert f"truth-{direction}-ambiguous" in keys(truth)
        assert (side.num_joined, side.num_ambiguous, side.num_false) == (0, 30, 0)
    if direction == "tx":
        assert "the model saw 29 requests for a Tx stamp, the run says 30" in message(
            truth, "truth-requests"
        )
    # Of Rx alone: what cannot be told apart is not joined, and no fault of the stamps.
    assert truth.is_trusted == (direction == "rx" and payload is not None)


@pytest.mark.parametrize("payload", [None, b"xdp"], ids=["all differ", "all the same"])
@pytest.mark.parametrize("at", [0, 11, -1])
def test_a_line_that_is_there_twice_is_seen(join, payload, at):
    packets = ping_pong(30, payload=payload)
    lines = log_lines(packets)
    own = [index for index, line in enumerate(lines) if ",tx," in line][at]
    lines.insert(own, lines[own])
    truth, _ = join(rows_of(packets), lines)
    assert "truth-tx-ambiguous" in keys(truth)
    assert not truth.is_trusted
    assert (truth.tx.num_requests_model, truth.tx.num_denied) == (31, 0)


def test_two_lines_in_the_wrong_order_are_seen(join):
    packets = ping_pong(30)
    lines = log_lines(packets)
    own = [index for index, line in enumerate(lines) if ",tx," in line]
    lines[own[4]], lines[own[5]] = lines[own[5]], lines[own[4]]
    truth, _ = join(rows_of(packets), lines)
    assert keys(truth) == ["truth-tx-order"]
    assert truth.tx.num_misplaced == 1 and not truth.is_trusted


def test_stamps_of_two_packets_that_changed_places_are_seen(join):
    packets = ping_pong(30)
    rows = rows_of(packets)
    rows["tx_hw_ns"][[4, 5]] = rows["tx_hw_ns"][[5, 4]]
    truth, _ = join(rows, log_lines(packets))
    assert keys(truth) == ["truth-tx-error"]
    assert [row["seq"] for row in truth.tx.named] == [4, 5]


@pytest.mark.parametrize("outcome", ["lost", "busy", "disabled", "reset"])
def test_a_stamp_that_was_never_delivered_is_false_even_if_it_is_right(join, outcome):
    packets = ping_pong(30)
    packets[7].outcome = outcome
    truth, table = join(rows_of(packets), log_lines(packets))
    assert keys(truth) == ["truth-tx-false"]
    assert "1 of 30, the first: queue_id 0, round 0, seq 7" in message(truth, "truth-tx-false")
    assert table["tx_wire_ns"][7] == packets[7].tx_wire_ns  # it was on the wire
    assert (truth.tx.num_joined, truth.tx.num_false, truth.is_trusted) == (29, 1, False)


def test_a_stamp_of_a_packet_that_never_asked_is_false(join):
    packets = ping_pong(30)
    packets[7].is_logged = False
    truth, table = join(rows_of(packets), log_lines(packets))
    assert keys(truth) == ["truth-tx-false", "truth-requests"]
    assert table["tx_wire_ns"][7] == NULL


def test_missing_stamps_with_true_causes_are_no_doubt(join):
    packets = ping_pong(40)
    for each in packets[::5]:
        each.cause, each.is_logged = Cause.SKIPPED, False
    packets[3].cause, packets[3].outcome = Cause.TIMED_OUT, "lost"
    packets[6].cause, packets[6].outcome = Cause.RESET, "reset"
    packets[7].cause, packets[7].is_logged = Cause.RESET, False
    packets[8].cause, packets[8].is_logged = Cause.LOST_BY_DRIVER, False
    packets[39].cause, packets[39].is_logged = Cause.NOT_COMPLETED, False
    packets[38].cause = Cause.DISABLED
    packets[38].is_logged = False
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert truth.warnings == []
    assert (truth.tx.num_joined, truth.tx.num_requests_run, truth.tx.num_requests_model) == (
        26,
        28,
        28,
    )
    assert (truth.tx.num_missing, truth.rx.num_joined) == (0, 40)


def test_delivered_stamps_that_the_run_lacks_are_told_and_no_distrust(join):
    packets = ping_pong(40)
    packets[3].cause = Cause.TIMED_OUT
    packets[4].cause = Cause.INVALID
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert keys(truth) == ["truth-tx-missing"]
    assert truth.tx.num_missing == 2 and truth.is_trusted


def test_a_request_that_the_run_calls_skipped_and_the_model_saw(join):
    packets = ping_pong(40)
    packets[9].cause = Cause.SKIPPED
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert keys(truth) == ["truth-requests"]
    text = message(truth, "truth-requests")
    assert "the model saw 40 requests for a Tx stamp, the run says 39" in text
    assert "1 of packets that had none by the run" in text
    assert truth.tx.named[0]["seq"] == 9 and not truth.is_trusted


def test_a_skipped_request_that_the_run_calls_timed_out(join):
    packets = ping_pong(40)
    packets[9].cause, packets[9].is_logged = Cause.TIMED_OUT, False
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert keys(truth) == ["truth-requests"]
    assert "1 that timed out were never made" in message(truth, "truth-requests")


def test_two_causes_that_changed_places_leave_the_counts_equal_and_are_seen(join):
    packets = ping_pong(40)
    packets[9].cause, packets[9].is_logged = Cause.TIMED_OUT, False
    packets[20].cause = Cause.SKIPPED
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert (truth.tx.num_requests_run, truth.tx.num_requests_model) == (40 - 1, 40 - 1)
    assert keys(truth) == ["truth-requests"]


def test_a_row_that_was_not_recorded_is_seen(join):
    packets = ping_pong(40)
    truth, _ = join(np.delete(rows_of(packets), 17), log_lines(packets))
    assert keys(truth) == ["truth-requests"]
    assert "the model saw 40 requests for a Tx stamp, the run says 39" in message(
        truth, "truth-requests"
    )


def test_packets_of_others_on_the_same_queue_are_left_alone(join):
    packets = ping_pong(40, num_queues=2)
    others = [
        Packet(0, each.payload, each.tx_wire_ns + 9, each.rx_wire_ns + 9, each.queue_id,
               outcome="lost", ports=(319, 320))
        for each in packets
    ]  # fmt: skip
    not_udp = log_lines(packets[:3])[1].split(",")
    not_udp[9:12] = "", "", ""
    lines = [
        *log_lines(packets + others),
        ",".join(not_udp),
        *log_lines(packets, mac=OTHER_MAC)[1:],
    ]
    truth, _ = join(rows_of(packets), lines)
    assert truth.warnings == [] and truth.tx.num_joined == truth.rx.num_joined == 40


def test_requests_that_the_run_did_not_get_do_not_matter(join):
    packets = ping_pong(60)
    lines = log_lines(
        [dataclasses.replace(each, is_logged=10 <= each.seq < 50) for each in packets]
    )
    truth, _ = join(rows_of(packets[10:50]), lines)
    assert truth.warnings == [] and truth.rx.num_joined == 40


def compared(phc_ahead_ns, num_samples=8):
    """A run info whose clocks were compared: the PHC is so far ahead of CLOCK_TAI."""
    samples = [
        ClockSample(tai_ns, tai_ns + phc_ahead_ns, 100)
        for tai_ns in range(EPOCH - 10**9, EPOCH + num_samples * 10**9, 10**9)
    ]
    return make_info(clock_comparison={"samples": Comparison(samples).to_json()})


@pytest.mark.parametrize("ahead_ns", [0, 37 * 10**9, -5_000])
def test_the_wire_lies_between_submit_and_completion_on_compared_clocks(join, ahead_ns):
    packets = ping_pong(40)
    rows = rows_of(packets)
    for name in ("tx_app_ns", "tx_comp_ns"):
        rows[name] -= ahead_ns
    truth, _ = join(rows, log_lines(packets), compared(ahead_ns))
    assert truth.warnings == [] and truth.tx.num_acausal == 0


@pytest.mark.parametrize("off_ns", [-200_000, 200_000])
def test_a_comparison_of_clocks_that_the_wire_gives_the_lie(join, off_ns):
    packets = ping_pong(40)
    truth, _ = join(rows_of(packets), log_lines(packets), compared(off_ns))
    assert keys(truth) == ["truth-causality"]
    assert truth.tx.num_acausal == 40 and not truth.is_trusted
    assert truth.tx.named[0]["problem"].startswith("was on the wire before its submit")


def test_packets_that_carry_the_same_are_told_apart_by_their_order(join):
    packets = ping_pong(30, num_queues=3, payload=b"xdp")
    truth, _ = join(rows_of(packets)[::-1].copy(), log_lines(packets))
    assert truth.warnings == [] and truth.tx.num_joined == 30


def test_skipped_requests_among_packets_that_carry_the_same(join):
    packets = ping_pong(30, payload=b"xdp")
    for each in packets[10:20]:
        each.cause, each.is_logged = Cause.SKIPPED, False
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert truth.warnings == [] and truth.tx.num_joined == 20


def test_stamps_that_were_all_lost_are_false_and_not_of_another_boot(join):
    packets = ping_pong(30)
    for each in packets:
        each.outcome, each.rx_wire_ns = "lost", None
    truth, _ = join(rows_of(packets), log_lines(packets))
    assert keys(truth) == ["truth-tx-false"] and truth.tx.num_false == 30


def test_the_queue_counts(join):
    packets = ping_pong(30, num_queues=2)
    rows = rows_of(packets)
    rows["queue_id"][5] ^= 1
    truth, _ = join(rows, log_lines(packets))
    assert (truth.tx.num_false, truth.rx.num_false) == (1, 1)


def test_a_run_that_only_received(join):
    packets = ping_pong(30)
    rows = rows_of(packets)
    rows["tx_hw_ns"] = rows["tx_app_ns"] = rows["tx_comp_ns"] = NULL
    silent = [dataclasses.replace(each, is_logged=False) for each in packets]
    truth, table = join(rows, log_lines(silent))
    assert truth.warnings == []
    assert (truth.tx.num_joined, truth.rx.num_joined) == (0, 30)
    assert set(table["tx_wire_ns"].tolist()) == {NULL}


def test_a_received_packet_without_a_stamp_in_the_run(join):
    packets = ping_pong(30)
    rows = rows_of(packets)
    rows["rx_hw_ns"][4] = NULL
    truth, _ = join(rows, log_lines(packets))
    assert keys(truth) == ["truth-rx-missing"] and truth.rx.num_missing == 1


def test_two_runs_in_one_log(tmp_path):
    first, second = ping_pong(30), ping_pong(30, start_ns=EPOCH + 10**10)
    for each in second:
        each.payload = b"another" + each.payload[7:]
    log = read_truth_log(write_log(tmp_path / "truth.csv", log_lines(first + second)))
    for packets in (first, second):
        truth, _ = join_truth(make_run(tmp_path, rows_of(packets)), log)
        assert truth.warnings == [] and truth.tx.num_joined == 30
        assert truth.tx.num_requests_model == 30


def test_another_boots_log_says_so_and_nothing_else(join):
    truth, _ = join(rows_of(ping_pong(30)), log_lines(ping_pong(30, start_ns=EPOCH + 10**12)))
    assert keys(truth) == ["truth-foreign"]
    assert "another boot" in message(truth, "truth-foreign") and not truth.is_trusted


def test_a_log_without_an_entry_is_not_of_the_run(join):
    truth, _ = join(rows_of(ping_pong(30)), log_lines([]))
    assert keys(truth) == ["truth-foreign"]


def test_a_run_without_a_packet_has_nothing_to_join(join):
    truth, table = join(rows_of([]), log_lines([]))
    assert truth.warnings == [] and len(table) == 0


def test_a_log_of_other_nics_is_refused(join):
    packets = ping_pong(3)
    with pytest.raises(RunFileError, match=f"nothing of the run's NIC {MAC}, but of {OTHER_MAC}"):
        join(rows_of(packets), log_lines(packets, mac=OTHER_MAC))


def test_a_permanent_address_is_known_too(join):
    packets = ping_pong(3)
    info = make_info()
    address = "02:ab:cd:ef:06:00"
    info.nic |= {"mac": "02:00:00:00:00:99", "identity": {"perm_mac": address}}
    truth, _ = join(rows_of(packets), log_lines(packets, mac=address.upper()), info)
    assert truth.tx.num_joined == 3


def test_a_run_from_before_payload_ids_is_refused(join):
    packets = ping_pong(3)
    rows = rows_of(packets)
    rows["payload_id"] = NULL
    with pytest.raises(RunFileError, match="no payload_id"):
        join(rows, log_lines(packets))


# mixed.


@pytest.fixture
def join_mixed(tmp_path):
    def joined(rounds, packets, lines, **fields):
        run = make_mixed_run(tmp_path, rounds, rows_of(packets), **fields)
        return join_truth(run, read_truth_log(write_log(tmp_path / "truth.csv", lines)))

    return joined


def mixed_rounds():
    """A warm-up and two rounds of two settings, the second beside a second app on queue 1."""
    packets, rounds, start_ns = [], [], EPOCH
    for number, (setting, is_warmup) in enumerate(
        [(0, True), (0, False), (1, True), (1, False), (0, False), (1, False)]
    ):
        fields = {"round": number // 4, "setting": setting, "is_warmup": is_warmup}
        own, second = STREAM + 2 * number, STREAM + 2 * number + 1
        packets += mixed(50, own, start_ns, **fields)
        if setting:
            packets += mixed(20, second, start_ns + 1, queue_id=1, **fields)
        start_ns += 10**9
        each = round_of(number // 4, own, setting, is_warmup, second if setting else None)
        rounds.append(each)
    return packets, rounds


def test_mixed_is_joined_by_stream_and_number(join_mixed):
    packets, rounds = mixed_rounds()
    # Completions may come in any order.
    order = np.random.default_rng(1).permutation(np.array(packets, object)).tolist()
    truth, table = join_mixed(rounds, order, log_lines(packets), num_settings=2)
    assert truth.warnings == [] and truth.rx is None
    assert truth.tx.num_joined == truth.tx.num_requests_model == 6 * 50 + 3 * 20
    assert table["tx_wire_ns"].tolist() == [each.tx_wire_ns for each in order]
    assert table.dtype.names == (
        "seq", "setting", "round", "is_warmup", "queue_id", "tx_wire_ns", "rx_wire_ns",
    )  # fmt: skip


def test_streams_of_another_run_of_mixed_are_left_alone(join_mixed):
    packets = mixed(50, STREAM)
    others = mixed(50, STREAM + 1, EPOCH + 11)
    lines = log_lines(packets + others + ping_pong(5))
    truth, _ = join_mixed([round_of(0, STREAM)], packets, lines)
    assert truth.warnings == [] and truth.tx.num_requests_model == 50


@pytest.mark.parametrize("at", [0, 20, 49])
def test_a_request_of_mixed_without_a_row_is_seen(join_mixed, at):
    packets = mixed(50, STREAM)
    kept = [each for each in packets if each.seq != at]
    truth, _ = join_mixed([round_of(0, STREAM)], kept, log_lines(packets))
    assert keys(truth) == ["truth-requests"] and not truth.is_trusted


def test_skipped_requests_of_mixed(join_mixed):
    packets = mixed(50, STREAM)
    for each in packets[4:40]:
        each.cause, each.is_logged = Cause.SKIPPED, False
    truth, _ = join_mixed([round_of(0, STREAM)], packets, log_lines(packets))
    assert truth.warnings == [] and truth.tx.num_joined == truth.tx.num_requests_run == 14


def test_a_false_stamp_of_mixed(join_mixed):
    packets = mixed(50, STREAM)
    packets[8].is_logged = False
    truth, _ = join_mixed([round_of(0, STREAM)], packets, log_lines(packets))
    assert keys(truth) == ["truth-tx-false", "truth-requests"]
    assert "queue_id 0, setting 0, round 0, seq 8" in message(truth, "truth-tx-false")


def test_a_number_of_mixed_beyond_where_they_begin_again(join_mixed):
    packets = mixed(50, STREAM + 1)
    for each in packets:
        each.seq += 1 << 31
    truth, _ = join_mixed([round_of(0, STREAM + 1)], packets, log_lines(packets))
    assert truth.warnings == [] and truth.tx.num_joined == 50


def test_a_damaged_payload_is_of_nobody(join_mixed):
    packets = mixed(50, STREAM)
    lines = log_lines(packets)
    cells = lines[9].split(",")
    cells[11] = cells[11][:15] + ("0" if cells[11][15] != "0" else "1") + cells[11][16:]
    lines[9] = ",".join(cells)
    truth, _ = join_mixed([round_of(0, STREAM)], packets, lines)
    assert (truth.tx.num_false, truth.tx.num_joined, truth.tx.num_requests_model) == (1, 49, 49)


def test_a_payload_that_only_looks_alike_is_of_nobody(join_mixed):
    packets = mixed(50, STREAM)
    alike = mixed(60, STREAM, EPOCH + 11)[50:]
    for each in alike:
        each.payload = b"XT" + each.payload[2:]
    truth, _ = join_mixed([round_of(0, STREAM)], packets, log_lines(packets + alike))
    assert truth.warnings == []


def test_a_run_of_mixed_from_before_streams_is_refused(join_mixed):
    packets = mixed(5, STREAM)
    with pytest.raises(RunFileError, match="a round has no stream"):
        join_mixed([round_of(0, None)], packets, log_lines(packets))


# The command's part.


def reported(tmp_path, rows, lines, info=None):
    run = make_run(tmp_path, rows, info)
    return run.path, report_truth(write_log(tmp_path / "truth.csv", lines), [run.path])


def test_the_folder_and_the_text(tmp_path, capsys):
    packets = ping_pong(400, num_queues=4)
    before = make_run(tmp_path, rows_of(packets))
    kept = {file: file.read_bytes() for file in before.path.rglob("*") if file.is_file()}
    log = write_log(tmp_path / "truth.csv", log_lines(packets))
    assert report_truth(log, [before.path]) == 0
    text = capsys.readouterr().out
    assert "every one of 800 stamps is exact: error 0 ns" in text
    assert "Tx" in text and "1,325 ns" in text and "1,485 ns" in text
    assert max(len(line) for line in text.splitlines() if str(log) not in line) <= 72
    assert {file: file.read_bytes() for file in kept} == kept
    table = pq.read_table(before.path / "truth.parquet")
    assert table.column_names == [
        "seq", "round", "is_warmup", "queue_id", "tx_wire_ns", "rx_wire_ns",
    ]  # fmt: skip
    assert table["tx_wire_ns"].to_pylist() == [each.tx_wire_ns for each in packets]
    truth = json.loads((before.path / "truth.json").read_text())
    assert truth["tx"]["num_joined"] == 400 and truth["tx"]["driver_ns"] == [1325, 1325]
    assert (truth["speed_mbps"], truth["warnings"]) == (SPEED_MBPS, [])
    assert open_run(before.path).info.is_trusted
    assert not [file for file in before.path.iterdir() if file.name.startswith(".")]


def test_the_readme_tells_of_every_key_and_column(tmp_path):
    packets = ping_pong(4)
    path, _ = reported(tmp_path, rows_of(packets), log_lines(packets))
    text = README.read_text(encoding="utf-8")
    truth = json.loads((path / "truth.json").read_text())
    internal = {"direction", "constant"}
    assert [key for key in truth["tx"] if f"`{key}`" not in text and key not in internal] == []
    for name in ("tx_wire_ns", "rx_wire_ns"):
        assert f"`{name}` ({column(name).meaning})" in re.sub(r"\s+", " ", text)
    code = re.search(r"(    wire = .*\n    .*value_counts\(\)\n)", text)[1]
    samples = pd.read_parquet(path / "samples", dtype_backend="pyarrow")
    names = {"pd": pd, "run": path, "samples": samples}
    exec(code.replace("    ", "").replace("(samples.", "errors = (samples."), names)
    assert names["errors"].to_dict() == {0: 4}


def test_a_wrong_stamp_ends_with_3_and_the_run_stays_untrusted(tmp_path, capsys):
    packets = ping_pong(40)
    rows = rows_of(packets)
    rows["tx_hw_ns"][5] += 1
    path, code = reported(tmp_path, rows, log_lines(packets))
    assert code == 3
    text = capsys.readouterr().out
    assert "NOT TO BE TRUSTED" in text
    assert "Tx of queue_id 0, round 0, seq 5: differs from the wire by +1 ns" in text
    info = open_run(path).info
    assert [warning.key for warning in info.warnings] == ["truth-tx-error"]
    assert not info.is_trusted


def test_a_run_gets_its_truth_once(tmp_path):
    packets = ping_pong(4)
    path, _ = reported(tmp_path, rows_of(packets), log_lines(packets))
    before = (path / "truth.json").read_bytes()
    with pytest.raises(RunFileError, match=r"truth\.json: exists already and is not overwritten"):
        report_truth(tmp_path / "truth.csv", [path])
    assert (path / "truth.json").read_bytes() == before


def test_runs_of_other_nics_have_nothing_to_join(tmp_path, capsys):
    info = make_info(timestamps="software")
    info.nic["driver"] = "veth"
    run = make_run(tmp_path, rows_of(ping_pong(4)), info)
    assert report_truth(tmp_path / "there is none.csv", [run.path]) == 0
    assert capsys.readouterr().out == ""
    assert not (run.path / "truth.json").exists()


def test_a_damaged_truth_of_a_run_is_named(tmp_path):
    packets = ping_pong(4)
    path, _ = reported(tmp_path, rows_of(packets), log_lines(packets))
    (path / "truth.json").write_text('{"warnings": [{"key":')
    with pytest.raises(RunFileError, match=r"truth\.json: damaged"):
        open_run(path)


# The file.


def test_half_a_last_line_is_left_out_and_said(tmp_path, capsys):
    packets = ping_pong(20)
    lines = log_lines(packets)
    path = write_log(tmp_path / "truth.csv", lines)
    path.write_bytes(path.read_bytes()[:-9])
    assert read_truth_log(path).is_cut
    assert len(read_truth_log(path).entries) == len(lines) - 2
    run = make_run(tmp_path, rows_of(packets[:-1]))
    assert report_truth(path, [run.path]) == 0
    assert "its last line cut" in capsys.readouterr().out


def test_nothing_of_a_log_is_lost_in_reading(tmp_path):
    packets = ping_pong(20)
    log = read_truth_log(write_log(tmp_path / "truth.csv", log_lines(packets)))
    assert not log.is_cut and log.macs == [MAC]
    tx = log.entries[log.entries["is_tx"]]
    assert tx["wire_ns"].tolist() == [each.tx_wire_ns for each in packets]
    assert tx["register_ns"].tolist() == [each.tx_wire_ns - TX_NS for each in packets]
    assert tx["payload"][3].tobytes() == packets[3].payload[:24]


DAMAGE = {
    "no file": (None, "cannot read it: No such file"),
    "empty": ("", "not a truth log: it has no header"),
    "half a header": ("port,mac,dir", "not a truth log: it has no header"),
    "another CSV": ("a,b\n1,2\n", "not a truth log: it has no column mac"),
    "a letter": (("wire", "x"), "damaged: "),
    "a cell too few": (("cut", ""), "damaged: "),
    "a direction": (("direction", "up"), "damaged: direction 'up' is none of rx, tx"),
    "an outcome": (("outcome", "eaten"), "damaged: outcome 'eaten' is none of delivered"),
    "a payload": (("payload", "zz"), "damaged: a payload is not in hex"),
    "a blank in hex": (("payload", "00 00"), "damaged: a payload is not in hex"),
    "no time": (("wire", ""), "damaged: a stamp was delivered and has no wire_ns"),
    "a time below 0": (("wire", "-2"), "damaged: a wire_ns is out of range"),
    "a queue": (("queue", "9999999999"), "damaged: a queue_id is out of range"),
    "20 digits": (("wire", "17900000000000000019"), "damaged: "),
}
PLACES = {"wire": 5, "direction": 2, "queue": 3, "outcome": 7, "payload": 11}


@pytest.mark.parametrize(("content", "problem"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_no_log_is_refused_in_one_line(tmp_path, content, problem):
    path = tmp_path / "truth.csv"
    if isinstance(content, tuple):
        lines = log_lines(ping_pong(3))
        cells = lines[2].split(",")
        if content[0] == "cut":
            cells.pop()
        else:
            cells[PLACES[content[0]]] = content[1]
        lines[2] = ",".join(cells)
        write_log(path, lines)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(RunFileError) as caught:
        read_truth_log(path)
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(caught.value)
