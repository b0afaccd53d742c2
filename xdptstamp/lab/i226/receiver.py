# SPDX-License-Identifier: GPL-2.0-only
"""The receiving half of a port: from the connector to its four queues."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from xdptstamp.lab.i226 import registers as reg
from xdptstamp.lab.i226.offloads import strip_vlan
from xdptstamp.lab.i226.rxqueue import Received, RxQueue
from xdptstamp.lab.i226.truth import Entry
from xdptstamp.lab.i226.wire import pause_ns

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
_TIMER1_SHIFT, _TIMER0_SHIFT = 14, 17


class Receiver:
    """What one port receives.

    :ivar queues: its four Rx queues.
    :ivar arrivals: what is on the wire, in its order: when it will be here, and the packet.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self.queues = [RxQueue(port.memory) for _ in range(reg.NUM_QUEUES)]
        self.arrivals: deque[tuple[int, bytes]] = deque()
        self._late: tuple[bytes, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Empty. What is on the wire still comes."""
        for queue in self.queues:
            queue.reset()
        self._num_dropped = [0] * reg.NUM_QUEUES
        self._fifo_bytes = 0
        self._pause_ends_ns = 0
        self._to_raise = [False] * reg.NUM_QUEUES
        self._late = None

    def enable(self, queue_id: int, is_enabled: bool) -> None:
        """RXDCTL. What a queue that is disabled has in the FIFO is lost."""
        queue = self.queues[queue_id]
        queue.is_enabled = is_enabled
        if not is_enabled:
            self._fifo_bytes -= sum(len(received.packet) for received in queue.fifo)
            queue.fifo.clear()

    def run(self) -> None:
        """Receive what has come."""
        arrivals = self.arrivals
        if not arrivals:
            return
        now_ns = self._port.now_ns()
        while arrivals and arrivals[0][0] <= now_ns:
            self._take(*arrivals.popleft())
        for queue_id, is_due in enumerate(self._to_raise):
            if is_due:
                self._to_raise[queue_id] = False
                self._port.interrupts.raise_rx(queue_id)

    def read_dropped(self, queue_id: int) -> int:
        """RQDPC: packets that found no descriptor; clears on read."""
        value, self._num_dropped[queue_id] = self._num_dropped[queue_id], 0
        return value

    def drain(self, queue_id: int) -> None:
        """The driver gave a queue new descriptors."""
        queue = self.queues[queue_id]
        if queue.fifo and self._port.config_space.is_bus_master:
            left = queue.drain()
            self._fifo_bytes -= left
            if left:
                self._port.interrupts.raise_rx(queue_id)
            if self._pause_ends_ns and self._fifo_bytes <= self._watermark(reg.FCRTL):
                self._pause_ends_ns = 0
                self._port.send_pause(0)

    def _take(self, wire_ns: int, packet: bytes) -> None:
        faults = self._port.faults
        if faults.on:
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
        if packet[12:14] == _MAC_CONTROL:
            if packet[14:16] == _PAUSE and port.filters.is_on:
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
        latency_ns = RX_LATENCY_NS.get(port.speed, 0) + port.faults.phy_error_ns()
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
        # What is in the FIFO waits for descriptors: those come through drain().
        if not queue.fifo and port.config_space.is_bus_master and queue.deliver(received):
            self._to_raise[queue_id] = True
            return
        queue.fifo.append(received)
        self._fifo_bytes += size
        port.statistics.add(reg.RNBC)
        high = self._watermark(reg.FCRTH)
        if high and self._fifo_bytes > high and port.now_ns() >= self._pause_ends_ns:
            quanta = port.registers.stored(reg.FCTTV) & 0xFFFF
            self._pause_ends_ns = port.now_ns() + pause_ns(quanta, port.speed)
            port.send_pause(quanta)

    def _watermark(self, register: int) -> int:
        port = self._port
        if not port.registers.stored(reg.CTRL) & reg.CTRL_TFCE:
            return 0
        return port.registers.stored(register) & _WATERMARK_MASK
