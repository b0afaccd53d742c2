# SPDX-License-Identifier: GPL-2.0-only
"""The log of what really happened: when each stamped packet was on its wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

COLUMNS = (
    "port,mac,direction,queue_id,slot,wire_ns,register_ns,outcome,model_ns,"
    "src_port,dst_port,payload,length"
)
_PAYLOAD_SIZE = 24
_VLAN = b"\x81\x00"
_UDP = 17


@dataclass(frozen=True, slots=True)
class Entry:
    """One packet that carried a stamp, or asked for one.

    :param slot: Tx stamp register, 0 to 3; None on Rx.
    :param wire_ns: it was at the connector, on the port's PHC.
    :param register_ns: what the NIC hands to the driver, on the port's PHC.
    :param outcome: ``delivered``; ``lost`` by a fault or without a link; ``busy``: the register
        held another one; ``disabled``: stamps were off. What a reset of the NIC empties
        before it was ready has been ``delivered`` here.
    :param model_ns: ``wire_ns`` on the model's own clock, CLOCK_MONOTONIC.
    """

    port: int
    mac: str
    direction: str
    queue_id: int
    slot: int | None
    wire_ns: int
    register_ns: int
    outcome: str
    model_ns: int
    packet: bytes


class TruthLog:
    """Writes entries to a CSV file; the caller flushes."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._is_dirty = False
        if file is not None:
            file.write(COLUMNS + "\n")
            file.flush()

    def write(self, entry: Entry) -> None:
        """Append one line."""
        if self._file is None:
            return
        source, destination, payload = _udp_of(entry.packet)
        slot = "" if entry.slot is None else entry.slot
        self._file.write(
            f"{entry.port},{entry.mac},{entry.direction},{entry.queue_id},{slot},"
            f"{entry.wire_ns},{entry.register_ns},{entry.outcome},{entry.model_ns},"
            f"{source},{destination},{payload},{len(entry.packet)}\n"
        )
        self._is_dirty = True

    def flush(self) -> None:
        """Hand over what was written to the kernel, so that it outlives this process."""
        if self._file is not None and self._is_dirty:
            self._file.flush()
            self._is_dirty = False


def _udp_of(packet: bytes) -> tuple[str, str, str]:
    # Ports and the first bytes of the payload of a UDP packet; empty for all others.
    ip = 18 if packet[12:14] == _VLAN else 14
    ethertype = packet[ip - 2 : ip]
    if ethertype == b"\x08\x00" and packet[ip + 9 : ip + 10] == bytes((_UDP,)):
        udp = ip + (packet[ip] & 0xF) * 4
    elif ethertype == b"\x86\xdd" and packet[ip + 6 : ip + 7] == bytes((_UDP,)):
        udp = ip + 40
    else:
        return "", "", ""
    ports = packet[udp : udp + 4]
    payload = packet[udp + 8 : udp + 8 + _PAYLOAD_SIZE]
    source, destination = (int.from_bytes(ports[i : i + 2], "big") for i in (0, 2))
    return str(source), str(destination), payload.hex()
