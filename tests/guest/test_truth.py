# SPDX-License-Identifier: GPL-2.0-only
"""Stamps of the unmodified igc driver against the moments on the virtual I226's wire."""

import collections
import contextlib
import csv
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.guest.bench import wait_for_run
from xdptstamp.cli._truth import report_truth, run_folders
from xdptstamp.lab.guest.config import NETNS, PORTS
from xdptstamp.sample import NULL
from xdptstamp.store import open_run

CLIENT = Path(__file__).with_name("truth_client.py")
QUEUES = 4
COUNT = 1000  # on each queue
LIMIT_S = 600
FIRST_PORT = 40000
# Flows to choose from, so many at a time. The hash is linear and igc draws its key anew at each
# boot: of ports that differ in five bits, one key in 64 has all on one queue, three on two queues.
FLOWS = random.Random(1).sample(range(20000, 60000), 192)
NUM_PROBED = 16


@pytest.fixture
def spread(guest):
    """The guest with four queues, between which UDP ports decide."""
    ethtool(guest, "-L", "combined", str(QUEUES))
    ethtool(guest, "-N", "rx-flow-hash", "udp4", "sdfn")
    yield guest
    ethtool(guest, "-N", "rx-flow-hash", "udp4", "sd")
    ethtool(guest, "-L", "combined", "2")


def ethtool(guest, option, *words):
    done = guest.run(["ethtool", option, PORTS[0], *words], timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr


class PingPong:
    """``xdptstamp ping-pong`` in the guest, and a plain client on its link partner.

    :ivar path: the folder of the run.
    """

    def __init__(self, guest, command):
        self._guest = guest
        self._command = command
        self._known = run_folders(guest.config.writable)

    def __enter__(self):
        self._process = self._guest.popen([*self._command, "ping-pong"])
        wait_for_run(self._guest, self._known, self._process)
        return self

    def __exit__(self, *exc_info):
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(LIMIT_S)
        assert code == 0, self._process.stdout + self._process.stderr
        (self.path,) = run_folders(self._guest.config.writable) - self._known

    def partner(self, *words):
        """Run the client to its end."""
        host = self._guest.environ["LOCAL_V4"]
        argv = ["ip", "netns", "exec", NETNS, "python3", str(CLIENT), host, *map(str, words)]
        client = self._guest.popen(argv)
        deadline = time.monotonic() + LIMIT_S
        while not client.has_ended:
            assert not self._process.has_ended, self._process.stdout + self._process.stderr
            assert time.monotonic() < deadline, f"no end within {LIMIT_S} s: {client.stdout}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(1)
        assert client.returncode == 0, client.stdout + client.stderr


class Log:
    """What the model logs from now on of the DUT's port; header and half lines left out."""

    def __init__(self, path):
        self._path = path
        self._start = 0
        self._start = len(self.rows())

    def rows(self):
        """Lines so far."""
        with self._path.open(encoding="ascii", newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["port"] == "0" and row["length"]]
        return rows[self._start :]

    def flows(self):
        """By queue, the source port of a flow that falls on it."""
        rows = [
            row for row in self.rows() if row["direction"] == "rx" and row["dst_port"] == "9091"
        ]
        return {int(row["queue_id"]): int(row["src_port"]) for row in rows}

    def num_to_stamp(self):
        """How many Tx stamps each queue lacks to COUNT."""
        rows = [row for row in self.rows() if row["direction"] == "tx"]
        counts = collections.Counter(
            int(row["queue_id"]) for row in rows if row["outcome"] == "delivered"
        )
        return {queue_id: COUNT - counts[queue_id] for queue_id in range(QUEUES)}


def test_a_thousand_packets_each_way_on_all_queues(spread, command, capsys):
    log = Log(spread.truth_path)
    with PingPong(spread, command) as run:
        untried = list(FLOWS)
        while len(ports := log.flows()) < QUEUES:
            assert untried, f"all flows are on queues {sorted(ports)}"
            run.partner("ask", 1, *untried[:NUM_PROBED])
            del untried[:NUM_PROBED]
        # A request beyond the NIC's four stamp registers is skipped, and is not one of them.
        while (most := max(log.num_to_stamp().values())) > 0:
            lacking = [ports[queue_id] for queue_id, n in log.num_to_stamp().items() if n > 0]
            run.partner("ask", most, *lacking)
    assert report_truth(spread.truth_path, [run.path]) == 0
    assert "stamps is exact: error 0 ns" in capsys.readouterr().out
    rows = np.concatenate(list(open_run(run.path).batches()))
    wire = pq.read_table(run.path / "truth.parquet")
    for queue_id in range(QUEUES):
        for stamp, name in (("tx_hw_ns", "tx_wire_ns"), ("rx_hw_ns", "rx_wire_ns")):
            is_stamped = (rows["queue_id"] == queue_id) & (rows[stamp] != NULL)
            assert np.count_nonzero(is_stamped) >= COUNT
            errors = rows[stamp] - wire[name].fill_null(NULL).to_numpy()
            assert not errors[is_stamped].any()
    truth = json.loads((run.path / "truth.json").read_text())
    for side in (truth["tx"], truth["rx"]):
        assert (side["min_error_ns"], side["max_error_ns"], side["num_wrong"]) == (0, 0, 0)
        assert side["driver_ns"] == side["model_ns"] == [side["constant_ns"]] * 2


def test_a_wrong_phy_delay_of_the_model_is_caught(guest, command, capsys):
    error_ns = -200
    guest.control({"fault": f"wrong-phy:by={error_ns}ns", "port": 0})
    try:
        with PingPong(guest, command) as run:
            run.partner("probe", FIRST_PORT, 5)
    finally:
        guest.control({"clear": None, "port": 0})
    assert report_truth(guest.truth_path, [run.path]) == 3
    warnings = {warning.key: warning for warning in open_run(run.path).info.warnings}
    assert warnings["truth-tx-error"].message == (
        f"every Tx stamp is off by exactly {-error_ns:+} ns at 2500 Mb/s: the driver adds 1325 ns "
        f"(igc.h IGC_I225_TX_LATENCY_2500 is 1325), the model's register was latched "
        f"{1325 + error_ns} ns before the wire"
    )
    assert f"off by exactly {error_ns:+} ns" in warnings["truth-rx-error"].message
    assert "NOT TO BE TRUSTED" in capsys.readouterr().out
