# SPDX-License-Identifier: GPL-2.0-only
"""The receiving half of a port: from the connector to its four queues."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from xdptstamp.lab.i226 import registers as reg
from xdptstamp.lab.i226.offloads import strip_vlan
from xdptstamp.lab.i226.rxqueue import Received, RxQueue
from xdptstamp.lab.i226.truth import Entry

if TYPE_CHECKING:
    from xdptstamp.lab.i226.port import Port

#: How long after it was at the connector a packet's Rx stamp is taken, by speed in Mb/s; the
#: driver subtracts as much (IGC_I225_RX_LATENCY_*, igc.h).
RX_LATENCY_NS = {10: 6450, 100: 185, 1000: 300, 2500: 1485}

# The packet buffer, all queues together (IGC_RXPBSIZE_EXP_BMC_DEFAULT).
_FIFO_SIZE = 34 * 1024
_WATERMARK_MASK = 0x1FFF0
_MAC_CONTROL = b"\x88\x08"
_PAUSE = b"\x00\x01"
_MIN_PACKET = 14
_TIMER1_SHIFT, _TIMER0_SHIFT = 14, 17


class Receiver:
    """What one port receives.

    :ivar queues: its four Rx queues.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self.queues = [RxQueue(port.memory) for _ in range(reg.NUM_QUEUES)]
        self._late: tuple[bytes, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Empty."""
        for queue in self.queues:
            queue.reset()
        self._num_dropped = [0] * reg.NUM_QUEUES
        self._fifo_bytes = 0
        self._has_paused = False
        self._late = None

    def arrive(self, packet: bytes, wire_ns: int) -> None:
        """A packet comes to the connector at that time of the model, or has come."""
        if wire_ns > self._port.now_ns():
            self._port.schedule.at(wire_ns, partial(self._take, packet, wire_ns))
        else:
            self._take(packet, wire_ns)

    def read_dropped(self, queue_id: int) -> int:
        """RQDPC: packets that found no descriptor; clears on read."""
        value, self._num_dropped[queue_id] = self._num_dropped[queue_id], 0
        return value

    def drain(self, queue_id: int) -> None:
        """The driver gave a queue new descriptors."""
        queue = self.queues[queue_id]
        if queue.fifo:
            self._fifo_bytes -= queue.drain()
            self._port.interrupts.raise_rx(queue_id)
            if self._has_paused and self._fifo_bytes <= self._watermark(reg.FCRTL):
                self._has_paused = False
                self._port.send_pause(0)

    def _take(self, packet: bytes, wire_ns: int) -> None:
        faults = self._port.faults
        if faults:
            if faults.strikes("drop-rx"):
                return
            if faults.strikes("damage-rx"):
                packet = faults.flip_bit(packet, 42)
            if faults.strikes("corrupt-rx"):
                self._port.statistics.add(reg.CRCERRS)
                return
            if self._late is None and faults.strikes("reorder-rx"):
                self._late = packet, wire_ns
                return
        self._accept(packet, wire_ns)
        if self._late is not None:
            (late, late_ns), self._late = self._late, None
            # The wire carries one at a time: this one came after.
            self._accept(late, max(wire_ns + 1, late_ns))

    def _accept(self, packet: bytes, wire_ns: int) -> None:
        port = self._port
        if not port.registers.stored(reg.RCTL) & reg.RCTL_EN or len(packet) < _MIN_PACKET:
            return
        if packet[12:14] == _MAC_CONTROL:
            if packet[14:16] == _PAUSE:
                port.pause(int.from_bytes(packet[16:18], "big"))
            return
        if not port.filters.takes(packet):
            return
        port.statistics.count_received(packet)
        steering = port.filters.steer(packet)
        if steering.queue is None:
            return
        status, vlan, stored = 0, 0, packet
        if port.registers.stored(reg.CTRL) & reg.CTRL_VME:
            stored, tci = strip_vlan(packet)
            if tci is not None:
                status, vlan = reg.RXD_STAT_VP, tci
        stamps = self._stamp(packet, steering.queue, wire_ns)
        self._enqueue(
            steering.queue,
            Received(stored, stamps, steering.rss_hash, steering.rss_type, status, vlan),
        )

    def _stamp(self, packet: bytes, queue_id: int, wire_ns: int) -> tuple[int, int] | None:
        port = self._port
        queue = self.queues[queue_id]
        enabled = port.registers.stored(reg.TSYNCRXCTL) & reg.TSYNCRXCTL_ENABLED
        if not enabled or not queue.has_stamps:
            return None
        latency_ns = RX_LATENCY_NS.get(port.speed, 0) + port.config.phy_error_ns
        readings = [clock.at(wire_ns + latency_ns) for clock in port.clocks]
        port.truth.write(
            Entry(
                port.config.number,
                port.config.mac_text,
                "rx",
                queue_id,
                None,
                port.clocks[0].at(wire_ns),
                readings[0],
                "delivered",
                wire_ns,
                packet,
            )
        )
        # The driver chooses the timers; there are two of the four here.
        first, second = ((queue.srrctl >> shift) & 1 for shift in (_TIMER1_SHIFT, _TIMER0_SHIFT))
        return readings[first], readings[second]

    def _enqueue(self, queue_id: int, received: Received) -> None:
        port = self._port
        queue = self.queues[queue_id]
        size = len(received.packet)
        if not queue.is_enabled or self._fifo_bytes + size > _FIFO_SIZE:
            port.statistics.add(reg.MPC)
            self._num_dropped[queue_id] += 1
            return
        queue.fifo.append(received)
        self._fifo_bytes += size
        left = queue.drain() if port.config_space.is_bus_master else 0
        self._fifo_bytes -= left
        if left:
            port.interrupts.raise_rx(queue_id)
        else:
            port.statistics.add(reg.RNBC)
        high = self._watermark(reg.FCRTH)
        if high and self._fifo_bytes > high and not self._has_paused:
            self._has_paused = True
            port.send_pause(port.registers.stored(reg.FCTTV) & 0xFFFF)

    def _watermark(self, register: int) -> int:
        port = self._port
        if not port.registers.stored(reg.CTRL) & reg.CTRL_TFCE:
            return 0
        return port.registers.stored(register) & _WATERMARK_MASK
