# SPDX-License-Identifier: GPL-2.0-only
"""``--format hwmeta`` against figures published with the selftest, and read back as scripts do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdptstamp.errors import UnsupportedError
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import NULL, Cause, empty_batch
from xdptstamp.stats import Summary
from xdptstamp.text.hwmeta import delta_line, packet_block
from xdptstamp.text.output import open_output

# Packet 10000 of Linux commit 15fd021bc427 ("igc: Add Tx hardware timestamp request for AF_XDP
# zero-copy packet") (in v6.10): its stamps, and the deltas printed there.
RX_HW = 1679819246792971268
RX_XDP = 1679819246792981987
TX_HW = 1679819246793036971


def packets(num=1):
    batch = empty_batch(num)
    batch["queue_id"] = 1
    batch["addr"] = 0xF010
    batch["len"] = 60
    batch["rx_hw_ns"] = RX_HW
    batch["rx_xdp_ns"] = RX_XDP
    batch["rx_app_ns"] = RX_HW + 14_990
    batch["tx_app_ns"] = RX_HW + 20_000
    batch["tx_hw_ns"] = TX_HW
    batch["tx_comp_ns"] = TX_HW + 77_656
    batch["rx_hash"] = 0x2049BE1D
    batch["rx_hash_type"] = 1
    batch["rx_vlan_errno"] = -95
    batch["tx_csum"] = 0xAB19
    batch["tx_csum_want"] = 0x315B
    batch["tx_csum_start"] = 34
    return batch


def info_of(kind="ping-pong", timestamps="hardware"):
    return RunInfo(
        run_id="r",
        kind=kind,
        state="running",
        started_utc="2025-01-01T00:00:00Z",
        argv=[],
        timestamps=timestamps,
        nic={"ifname": "eth1"},
        obtained={"queues": [0, 1]},
    )


def block(batch, index=0):
    return packet_block({name: batch[name].tolist()[0] for name in batch.dtype.names}, index)


def test_block_has_the_lines_of_the_selftest_in_its_order():
    assert block(packets(), 9999) == [
        "xsk_ring_cons__peek: 1",
        "0x2000: rx_desc[9999]->addr=f010 addr=f010 comp_addr=f010 EoP",
        "rx_hash: 0x2049BE1D with RSS type:0x1",
        f"HW RX-time:   {RX_HW} (sec:1679819246.7930) delta to User RX-time "
        "sec:0.0000 (14.990 usec)",
        f"XDP RX-time:   {RX_XDP} (sec:1679819246.7930) delta to User RX-time "
        "sec:0.0000 (4.271 usec)",
        "No rx_vlan_tci or rx_vlan_proto, err=-95",
        "0x2000: ping-pong with csum=ab19 (want 315b) csum_start=34 csum_offset=6",
        "0x2000: complete tx idx=9999 addr=f010",
        f"HW TX-complete-time:   {TX_HW} (sec:1679819246.7930) delta to User TX-complete-time "
        "sec:0.0001 (77.656 usec)",
        f"XDP RX-time:   {RX_XDP} (sec:1679819246.7930) delta to User TX-complete-time "
        "sec:0.0001 (132.640 usec)",
        f"HW RX-time:   {RX_HW} (sec:1679819246.7930) delta to HW TX-complete-time "
        "sec:0.0001 (65.703 usec)",
        "0x2000: complete rx idx=10127 addr=f010",
    ]


def test_vlan_lines():
    batch = packets()
    batch["rx_vlan_proto"] = 0x8100
    batch["rx_vlan_tci"] = 0x3 << 13 | 1 << 12 | 0x2A
    lines = block(batch)
    at = lines.index("rx_vlan_proto: 0x8100")
    assert lines[at + 1] == "rx_vlan_tci: PCP=3, DEI=1, VID=0x2A"
    assert not any(line.startswith("No rx_vlan") for line in lines)


@pytest.mark.parametrize("errno", [95, -95])
def test_missing_hints_show_the_errno_as_the_kernel_has_it(errno):
    batch = packets()
    for name in ("rx_hash", "rx_hash_type", "rx_hw_ns"):
        batch[name] = NULL
    batch["rx_hash_errno"] = batch["rx_hw_errno"] = errno
    lines = block(batch)
    assert "No rx_hash, err=-95" in lines
    assert "No rx_timestamp, err=-95" in lines


def test_missing_stamp_is_said_and_never_subtracted():
    batch = packets()
    batch["tx_hw_ns"] = NULL
    batch["cause"] = Cause.SKIPPED
    lines = block(batch)
    assert "No tx_timestamp" in lines
    assert not any("TX-complete-time" in line for line in lines)


def test_software_stamp_stands_where_the_selftest_prints_it_in_copy_mode():
    batch = packets()
    batch["tx_hw_ns"] = batch["rx_hw_ns"] = NULL
    batch["tx_sw_ns"] = RX_XDP + 50_000
    batch["tx_comp_ns"] = RX_XDP + 60_001
    lines = [line for line in block(batch) if "TX-complete-time" in line]
    assert [re.sub(r" \(sec.*", "", line) for line in lines] == [
        f"HW TX-complete-time:   {RX_XDP + 50_000}",
        f"XDP RX-time:   {RX_XDP}",
    ]
    assert lines[0].endswith("(10.001 usec)")


def test_packet_that_never_completed_has_no_completion_line():
    batch = packets()
    batch["tx_hw_ns"] = batch["tx_comp_ns"] = NULL
    lines = block(batch)
    assert not any("complete tx" in line or "No tx_timestamp" in line for line in lines)
    assert lines[-1] == "0x2000: complete rx idx=128 addr=f010"


def test_unanswered_packet_has_receive_lines_only():
    batch = packets()
    for name in ("tx_app_ns", "tx_hw_ns", "tx_comp_ns", "tx_csum"):
        batch[name] = NULL
    text = "\n".join(block(batch))
    assert "ping-pong" not in text and "complete tx" not in text and "HW RX-time" in text


@given(st.integers(1 << 60, 1 << 62), st.integers(-(10**13), 10**13))
def test_digits_are_those_of_printf_to_within_its_rounding(stamp, delta):
    line = delta_line("A", "B", stamp, stamp + delta)
    match = re.fullmatch(
        r"A:   (\d+) \(sec:(\d+\.\d{4})\) delta to B sec:(-?\d+\.\d{4}) \((-?\d+\.\d{3}) usec\)",
        line,
    )
    assert match and int(match[1]) == stamp
    assert int(match[4].replace(".", "")) == delta  # the microseconds keep every nanosecond
    assert (match[4][0] == "-") == (match[3][0] == "-") == (delta < 0)
    for shown, ns in ((match[2], stamp), (match[3], delta)):
        assert abs(int(shown.replace(".", "")) * 100_000 - ns) <= 50_000
        assert abs(float(shown) - float(f"{ns / 1e9:.4f}")) < 0.00011


def test_whole_output_reads_back_with_the_patterns_scripts_use(capsys):
    batch = packets(3)
    batch["queue_id"] = [0, 1, 0]
    batch["tx_hw_ns"][1] = NULL
    summary = Summary("ping-pong")
    summary.add(batch)
    info = info_of()
    output = open_output("hwmeta", is_quiet=False)
    output.start(info)
    status = {"redirected": 3, "passed_other": 4, "passed_no_socket": 1, "refused_fragment": 2}
    output.batch(batch, summary, {**status, "refused": 2})
    output.end(info, summary)
    out, err = capsys.readouterr()

    assert out.startswith("rxq: 2\nopen_xsk(eth1, 0x1000, 0)\nopen_xsk(eth1, 0x2000, 1)\n")
    assert out.endswith("detaching bpf program....\n")
    assert re.findall(r"rx_desc\[(\d+)\]", out) == ["0", "0", "1"]  # counted per queue
    assert set(re.findall(r"poll: 1 \(0\) skip=(\d+) fail=(\d+) redir=(\d+)", out)) == {
        ("5", "2", "3")
    }
    stamps = re.findall(
        r"^HW TX-complete-time:\s+(\d+) \(sec:[\d.]+\) delta to User TX-complete-time "
        r"sec:[\d.]+ \(([\d.]+) usec\)$",
        out,
        re.MULTILINE,
    )
    assert stamps == [(str(TX_HW), "77.656")] * 2
    turnaround = re.findall(r"delta to HW TX-complete-time sec:[\d.]+ \(([\d.]+) usec\)", out)
    assert turnaround == ["65.703"] * 2
    assert out.count("\nNo tx_timestamp\n") == 1

    assert "HARDWARE" in err and "across clocks" in err
    assert "HARDWARE" not in out and "note" not in out


def test_stderr_says_when_the_stamps_are_software(capsys):
    output = open_output("hwmeta", is_quiet=False)
    output.start(info_of(timestamps="software"))
    assert "SOFTWARE timestamps" in capsys.readouterr().err


def test_idle_second_prints_an_empty_poll(capsys, monkeypatch):
    now = [10**9]
    monkeypatch.setattr("xdptstamp.text.hwmeta.time.monotonic_ns", lambda: now[0])
    output = open_output("hwmeta", is_quiet=False)
    summary = Summary("ping-pong")
    output.tick(summary, {"received": 7})
    assert capsys.readouterr().out == ""
    now[0] += 10**9
    output.tick(summary, {"received": 7})
    output.tick(summary, {"received": 7})
    assert capsys.readouterr().out == "poll: 0 (0) skip=0 fail=0 redir=7\n"


def test_other_kinds_are_refused():
    output = open_output("hwmeta", is_quiet=False)
    with pytest.raises(UnsupportedError, match="needs a ping-pong run, found a ping run"):
        output.start(info_of(kind="ping"))
