# SPDX-License-Identifier: GPL-2.0-only
"""Runs on the virtual I226 and its log, without either: written as both really write."""

import io
from dataclasses import dataclass

import numpy as np

from xdptstamp import stream
from xdptstamp.identity import PAYLOAD_BYTES, payload_ids
from xdptstamp.lab.i226.truth import Entry, TruthLog
from xdptstamp.measure._ping_payload import Payload
from xdptstamp.packet import build_udp
from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import Cause, empty_batch
from xdptstamp.store import create_run, open_run
from xdptstamp.store.rounds import rounds_json
from xdptstamp.store.writer import SampleWriter

EPOCH = 1_790_000_000_000_000_001
MAC, OTHER_MAC = "02:78:64:22:06:00", "02:78:64:22:06:01"
PORT = 9091
# igc's at 2500 Mb/s: IGC_I225_TX_LATENCY_2500, IGC_I225_RX_LATENCY_2500, igc.h (v7.3).
TX_NS, RX_NS = 1325, 1485
SPEED_MBPS = 2500
MIXED_PORT = stream.DEFAULT_PORT


@dataclass
class Packet:
    """One packet of the DUT, what the model knows of it and what the run has.

    :param rx_wire_ns: None: it was not received, but made here.
    :param outcome: of its Tx stamp.
    :param cause: of the row; NONE: it has the stamp that the driver makes of the register.
    :param is_logged: the model saw its request.
    """

    seq: int
    payload: bytes
    tx_wire_ns: int
    rx_wire_ns: int | None = None
    queue_id: int = 0
    outcome: str = "delivered"
    cause: Cause = Cause.NONE
    is_logged: bool = True
    is_warmup: bool = False
    round: int = 0
    setting: int = 0
    ports: tuple[int, int] = (PORT, 40000)


def ping_pong(count, num_queues=1, payload=None, start_ns=EPOCH):
    """Requests of `xdptstamp ping`, or all with that payload, and their replies."""
    made, request = [], Payload(0x1234_5678_9ABC, 26)
    for seq in range(count):
        request.write(seq, start_ns + seq)
        rx_ns = start_ns + seq * 100_003
        made.append(
            Packet(
                seq,
                bytes(request.data) if payload is None else payload,
                rx_ns + 50_021 + seq % 7,
                rx_ns,
                queue_id=seq % num_queues,
            )
        )
    return made


def mixed(count, stream_id, start_ns=EPOCH, **fields):
    """All packets of a stream, each of which asked for its stamp."""
    numbers = np.arange(count)
    words = stream.words(numbers, np.ones(count, np.bool_))
    first = stream.first_payload(stream_id, (1, 0), stream.LEN)
    made = []
    for number in numbers.tolist():
        payload = bytearray(first)
        payload[stream.WORD_OFFSET : stream.WORD_OFFSET + 8] = words[number : number + 1].tobytes()
        tx_ns = start_ns + number * 2_003
        ports = (33333, MIXED_PORT)
        made.append(Packet(number, bytes(payload), tx_ns, ports=ports, **fields))
    return made


def log_lines(packets, phy_error_ns=0, mac=MAC):
    """What the model writes of packets in the order of their times, header first."""
    out = io.StringIO()
    log = TruthLog(out)
    events = []
    for each in packets:
        if each.is_logged:
            delay_ns = TX_NS + phy_error_ns
            events.append((each.tx_wire_ns, "tx", each, each.tx_wire_ns - delay_ns, each.outcome))
        if each.rx_wire_ns is not None:
            delay_ns = RX_NS + phy_error_ns
            register_ns = each.rx_wire_ns + delay_ns
            events.append((each.rx_wire_ns, "rx", each, register_ns, "delivered"))
    for wire_ns, direction, each, register_ns, outcome in sorted(events, key=lambda e: e[0]):
        ports = each.ports if direction == "tx" else each.ports[::-1]
        addresses = ("192.0.2.1", "192.0.2.2")
        packet = build_udp((bytes(6), bytes(6)), addresses, ports, each.payload)
        slot = 0 if direction == "tx" else None
        log.write(
            Entry(0, mac, direction, each.queue_id, slot, wire_ns, register_ns, outcome, 7, packet)
        )
    return out.getvalue().splitlines()


def write_log(path, lines):
    """The log as a file."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return path


def make_info(kind="ping-pong", **fields):
    basics = {
        "run_id": "",
        "kind": kind,
        "state": "complete",
        "started_utc": "2026-01-22T13:26:05Z",
        "argv": ["xdptstamp", kind],
        "timestamps": "hardware",
        "asked": {"port": PORT},
        "obtained": {"queues": [0], "mode": "zero-copy"},
        "nic": {"ifname": "eth0", "mac": MAC, "driver": "igc", "speed_mbps": SPEED_MBPS},
    }
    return RunInfo(**(basics | fields))


def rows_of(packets, driver_error_ns=0, phy_error_ns=0):
    """What the run has of packets: the registers as the driver corrects them."""
    rows = empty_batch(len(packets))
    for row, each in zip(rows, packets, strict=True):
        row["seq"], row["queue_id"], row["cause"] = each.seq, each.queue_id, each.cause
        row["round"], row["setting"], row["is_warmup"] = each.round, each.setting, each.is_warmup
        padded = each.payload[:PAYLOAD_BYTES].ljust(PAYLOAD_BYTES, b"\0")
        row["payload_id"] = payload_ids(np.frombuffer(padded, np.uint8)[None, :])[0]
        row["tx_app_ns"] = each.tx_wire_ns - 9_000
        row["tx_comp_ns"] = each.tx_wire_ns + 90_000
        if each.cause == Cause.NONE:
            row["tx_hw_ns"] = each.tx_wire_ns + driver_error_ns - phy_error_ns
        if each.rx_wire_ns is not None:
            row["rx_hw_ns"] = each.rx_wire_ns - driver_error_ns + phy_error_ns
    return rows


def make_run(base, rows, info=None):
    """The run in a folder of its own."""
    info = info or make_info()
    with create_run(base, info) as run_dir:
        writer = SampleWriter(run_dir.path / "samples", info.kind)
        writer.add(rows)
        writer.close_file()
    return open_run(run_dir.path)


def make_mixed_run(base, rounds, rows, num_settings=1):
    """A run of mixed: rounds with their streams."""
    settings = [Setting(64, 1, 0)] * num_settings
    info = make_info("mixed", asked={"port": MIXED_PORT}, counts=rounds_json(settings, rounds))
    return make_run(base, rows, info)


def round_of(number, stream_id, setting=0, is_warmup=False, second_stream=None):
    """A round that says which stream its packets carried."""
    return Round(number, setting, number, is_warmup, stream=stream_id, second_stream=second_stream)
