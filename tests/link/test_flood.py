# SPDX-License-Identifier: GPL-2.0-only
"""100000 requests as fast as the partner can send: each missing reply is in somebody's books."""

import contextlib
import itertools
import os
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as pads
import pytest

from tests.link.conftest import CliProcess
from tests.link.running import PingPong, ping, the_run
from xdptstamp._sys import netns
from xdptstamp.collect import collect_counters
from xdptstamp.nic import Nic

if os.environ.get("NETIF"):
    pytest.skip("what a real link loses is not counted by either end", allow_module_level=True)

NUM_REQUESTS = 100_000
# Times are 1.8e18 ns since the epoch; what is no time (393250, 0, -1) is far below.
LEAST_TIME_NS = 1 << 60


@pytest.fixture(scope="module")
def flood(shared_lab, tmp_path_factory):
    """The runs of both sides after a flood, and what the partner's interface counted meanwhile."""
    out = tmp_path_factory.mktemp("flood")
    with contextlib.ExitStack() as stack:
        running = PingPong(popen_into(stack), shared_lab, out / "dut", "--quiet")
        return flood_once(shared_lab, running, out)


def popen_into(stack):
    def popen(*args):
        argv = [sys.executable, "-m", "xdptstamp", *map(str, args)]
        process = CliProcess(argv, os.environ)
        stack.callback(process.end)
        return process

    return popen


def flood_once(shared_lab, running, out):
    running.wait_recording()
    before = partner_counters(shared_lab)
    args = ("--count", NUM_REQUESTS, "--interval", "flood", "--timeout", "3s", "--quiet")
    ping(shared_lab, out / "partner", *args)
    after = partner_counters(shared_lab)
    done = running.end()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    gained = {name: after[name] - count for name, count in before.items()}
    return the_run(out / "dut"), the_run(out / "partner"), gained


def partner_counters(link):
    ifname = link.ifname.replace("xdpt", "peer")
    return netns.call_inside(link.environ["REMOTE_ARGS"], lambda: collect_counters(Nic(ifname)))


def test_each_missing_reply_is_counted_where_it_was_lost(flood):
    run, partner_run, partner_link = flood
    dut, partner = run.info.counts, partner_run.info.counts
    gained = {name: pair["after"] - pair["before"] for name, pair in run.info.counters.items()}

    # Requests: from the partner's socket over its link to the DUT's program, ...
    assert partner["sent"] == NUM_REQUESTS
    assert partner["send_errors"] == partner["icmp_errors"] == {}
    seen = dut["redirected"] + dut["refused"] + dut["passed_no_socket"]
    lost_on_the_way_there = partner_link["link.tx_dropped"]
    assert partner["sent"] == seen + lost_on_the_way_there
    # ... from there over the socket's Rx ring to the application, ...
    lost_by_the_dut = dut["rx_dropped"] + dut["rx_ring_full"] + dut["rx_left_in_ring"]
    assert dut["redirected"] == dut["received"] + lost_by_the_dut
    # ... which answers: replies, over the link to the partner's socket and application.
    assert dut["received"] == dut["answered"] == dut["completed"]
    lost_on_the_way_back = gained.get("link.tx_dropped", 0) + partner_link["link.rx_dropped"]
    lost_by_the_partner = partner["lost_here"] + partner["lost_bad_checksum"]
    arrived = partner["received"] + partner["late"]
    assert dut["completed"] == arrived + lost_on_the_way_back + lost_by_the_partner

    # All in one: what the partner misses is what the others counted.
    assert partner["lost"] == partner["sent"] - partner["received"]
    assert partner["lost"] == (
        lost_on_the_way_there
        + (dut["refused"] + dut["passed_no_socket"] + lost_by_the_dut)
        + lost_on_the_way_back
        + lost_by_the_partner
        + partner["late"]
    )
    assert partner["received"] > 0
    assert partner["duplicates"] == partner["corrupted"] == partner["foreign"] == 0
    assert dut["unaccounted"] == {"received": 0, "answered": 0}
    assert dut["recorder_overruns"] == partner["recorder_overruns"] == 0


def test_times_of_a_stamped_packet_are_in_order(flood):
    run, _, _ = flood
    table = parquet_of(run)
    assert table.num_rows == run.info.counts["received"]
    stamped = table.filter(pc.field("tx_sw_ns").is_valid())
    assert stamped.num_rows + table.filter(pc.field("cause").is_valid()).num_rows == table.num_rows
    assert stamped.num_rows > 0
    points = ("rx_xdp", "rx_app", "tx_app", "tx_sw", "tx_comp")
    times = [stamped[f"{point}_ns"] for point in points]
    for earlier, later in itertools.pairwise(times):
        assert pc.all(pc.less_equal(earlier, later)).as_py()


@pytest.mark.parametrize("side", ["DUT", "partner"])
@pytest.mark.parametrize("form", ["Parquet", "CSV"])
def test_no_time_is_a_float_or_was_none(flood, side, form):
    run = flood[side == "partner"]
    table = parquet_of(run) if form == "Parquet" else csv_of(run)
    names = [name for name in table.schema.names if name.endswith("_ns")]
    assert {"tx_app_ns", "tx_sw_ns", "rx_app_ns"} <= set(names)
    for name in names:
        column = table[name].drop_null()
        # A CSV says nothing of the type of a column without values.
        if form == "Parquet" or len(column):
            assert column.type == pa.int64(), name
        assert len(column) == 0 or pc.min(column).as_py() >= LEAST_TIME_NS, name


def parquet_of(run):
    return pads.dataset(run.path / "samples", format="parquet").to_table()


def csv_of(run):
    table = pacsv.read_csv(run.path / "samples.csv")
    assert table.num_rows == parquet_of(run).num_rows
    return table
