# SPDX-License-Identifier: GPL-2.0-only
"""One controller: its register file, and what its parts do together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from xdptstamp.lab.i226 import pci
from xdptstamp.lab.i226 import registers as reg
from xdptstamp.lab.i226.clock import Clock
from xdptstamp.lab.i226.dma import GuestMemory
from xdptstamp.lab.i226.faults import Fault, Faults
from xdptstamp.lab.i226.filters import Filters
from xdptstamp.lab.i226.interrupts import Interrupts
from xdptstamp.lab.i226.phy import Phy
from xdptstamp.lab.i226.receiver import Receiver
from xdptstamp.lab.i226.registerfile import RegisterFile
from xdptstamp.lab.i226.schedule import Schedule
from xdptstamp.lab.i226.statistics import Statistics
from xdptstamp.lab.i226.truth import Entry, TruthLog
from xdptstamp.lab.i226.txqueue import TxQueue
from xdptstamp.lab.i226.txstamps import TxStamps
from xdptstamp.lab.i226.wire import Wire, frame_ns, pause_ns

_NS_PER_S = 1_000_000_000

#: How long before it is on the wire a packet's Tx stamp is latched, by speed in Mb/s; the driver
#: adds as much (IGC_I225_TX_LATENCY_*, igc.h).
TX_LATENCY_NS = {10: 240, 100: 58, 1000: 80, 2500: 1325}


@dataclass(frozen=True, slots=True)
class PortConfig:
    """What makes one port differ from another.

    :param number: 0 is the DUT's, 1 the link partner's.
    :param mac: as in the NVM.
    """

    number: int
    mac: bytes

    @property
    def mac_text(self) -> str:
        """The MAC with colons."""
        return self.mac.hex(":")


class Port:
    """One I226, as its driver, its wire and a tester see it."""

    def __init__(self, config: PortConfig, schedule: Schedule, wire: Wire, truth: TruthLog) -> None:
        self.config = config
        self.schedule = schedule
        self.now_ns = schedule.now_ns
        self.wire = wire
        self.truth = truth
        self.memory = GuestMemory()
        self.config_space = pci.ConfigSpace()
        self.faults = Faults(config.number)
        self.interrupts = Interrupts(self.faults)
        self.statistics = Statistics()
        self.phy = Phy(self._phy_changed)
        now_ns = self.now_ns()
        self.clocks = (Clock(now_ns, self._recheck), Clock(now_ns, self._recheck))
        self.tsicr = 0
        self.stamps = TxStamps(schedule, self.faults, self._stamp_ready)
        self.registers = RegisterFile(self)
        self.filters = Filters(self.registers.stored)
        self.receiver = Receiver(self)
        self.queues = [TxQueue(self, number, self.memory) for number in range(reg.NUM_QUEUES)]
        self.busy_until_ns = self.paused_until_ns = 0
        self.speed = 0
        self._next_queue = 0
        self.registers.reset()
        wire.connect(self)

    # -- what the protocol calls

    def read_region(self, region: int, offset: int, size: int) -> bytes:
        """As :class:`xdptstamp.lab.i226.vfio_user.Device`."""
        if region == pci.BAR0_REGION:
            return self.registers.read(offset, size)
        if region == pci.CONFIG_REGION:
            return self.config_space.read(offset, size)
        return bytes(size)  # QEMU keeps the MSI-X table itself

    def write_region(self, region: int, offset: int, data: bytes) -> None:
        """As :class:`xdptstamp.lab.i226.vfio_user.Device`."""
        if region == pci.BAR0_REGION:
            self.registers.write(offset, data)
        elif region == pci.CONFIG_REGION:
            self.config_space.write(offset, data)

    def set_vector(self, vector: int, fd: int | None) -> None:
        """As :class:`xdptstamp.lab.i226.vfio_user.Device`."""
        self.interrupts.set_vector(vector, fd)

    def trigger(self, vector: int) -> None:
        """As :class:`xdptstamp.lab.i226.vfio_user.Device`."""
        self.interrupts.signal(vector)

    def reset(self) -> None:
        """Reset everything, the PHY and the config space too."""
        self.config_space.reset()
        self.reset_mac()
        self.statistics.reset()
        self.phy.reset()
        self._phy_changed()

    def disconnect(self) -> None:
        """The client is gone: reach for its memory and its interrupts no more."""
        self.reset()
        for vector in range(pci.NUM_VECTORS):
            self.interrupts.set_vector(vector, None)
        self.memory.clear()

    # -- what the registers call

    def reset_mac(self) -> None:
        """CTRL.RST: all but the PHY and its link."""
        now_ns = self.now_ns()
        self.interrupts.reset()
        self.stamps.reset()
        self.filters.reset()
        self.receiver.reset()
        for queue in self.queues:
            queue.reset()
        for clock in self.clocks:
            clock.reset(now_ns)
        self.tsicr = 0
        self.paused_until_ns = 0
        self.registers.reset()

    def run(self, limit: int) -> None:
        """Let each Tx queue send, in turn."""
        if not self._may_send:
            return
        first = self._next_queue
        self._next_queue = (first + 1) % reg.NUM_QUEUES
        for number in range(first, first + reg.NUM_QUEUES):
            queue = self.queues[number % reg.NUM_QUEUES]
            if queue.is_waiting:
                queue.run(limit)

    def times_ns(self) -> list[int]:
        """When, in the model's time, there will be something to do; past: now."""
        times_ns = []
        if self._may_send:
            times_ns = [queue.held_until_ns for queue in self.queues if queue.is_waiting]
        if self.receiver.arrivals:
            times_ns.append(self.receiver.arrivals[0][0])
        return times_ns

    @property
    def _may_send(self) -> bool:
        return self.registers.is_tx_enabled and self.config_space.is_bus_master

    def launch_reading_ns(self, offset_ns: int, *, is_next: bool) -> int:
        """What the PHC reads ``offset_ns`` into this or the next Qbv cycle."""
        stored = self.registers.stored
        cycle_ns = stored(reg.QBVCYCLET) or _NS_PER_S
        base_ns = stored(reg.BASET_H) * _NS_PER_S + stored(reg.BASET_L)
        clock = self.clocks[0]
        number = (clock.at(self.now_ns()) - base_ns) // cycle_ns + is_next
        return base_ns + number * cycle_ns + offset_ns

    # -- the wire

    def set_link(self, speed: int) -> None:
        """The wire has a link of ``speed`` Mb/s, or none (0)."""
        if speed == self.speed:
            return
        self.speed = speed
        self.phy.has_link = speed > 0
        self.interrupts.raise_other(reg.ICR_LSC)

    def send(self, packet: bytes, earliest_ns: int = 0) -> int:
        """Put a packet on the wire.

        :param earliest_ns: its launch time, which this process may have missed; 0: now.
        :return: when it was there, the model's time.
        """
        if earliest_ns:
            wire_ns = max(earliest_ns, self.paused_until_ns, self.busy_until_ns)
        else:
            wire_ns = max(self.now_ns(), self.busy_until_ns)
        if self.speed:
            self.busy_until_ns = wire_ns + frame_ns(len(packet), self.speed)
            self.statistics.count_sent(packet)
            peer = self.wire.peer_of(self)
            if peer is not None:
                peer.receiver.arrivals.append((wire_ns + self.wire.delay_ns, packet))
        return wire_ns  # without a link into the void

    def stamp_tx(self, packet: bytes, queue_id: int, which: tuple[int, int], wire_ns: int) -> None:
        """A packet with a Tx stamp request was sent.

        :param which: stamp register and timer.
        """
        slot, timer = which
        latency_ns = TX_LATENCY_NS.get(self.speed, 0) + self.faults.phy_error_ns()
        register_ns = self.clocks[timer].at(wire_ns - latency_ns)
        outcome = self.stamps.latch(slot, register_ns, wire_ns) if self.speed else "lost"
        self.truth.write(
            Entry(
                self.config.number,
                self.config.mac_text,
                "tx",
                queue_id,
                slot,
                self.clocks[timer].at(wire_ns),
                register_ns,
                outcome,
                wire_ns,
                packet,
            )
        )

    def pause(self, quanta: int) -> None:
        """The other end asks for a pause of so many times 512 bits."""
        self.statistics.add(reg.XOFFRXC if quanta else reg.XONRXC)
        if self.registers.stored(reg.CTRL) & reg.CTRL_RFCE:
            self.paused_until_ns = self.now_ns() + pause_ns(quanta, self.speed)
            self._recheck()

    def send_pause(self, quanta: int) -> None:
        """Ask the other end for a pause."""
        self.statistics.add(reg.XOFFTXC if quanta else reg.XONTXC)
        peer = self.wire.peer_of(self)
        if peer is not None and self.speed:
            peer.pause(quanta)

    # -- faults

    def begin(self, fault: Fault) -> None:
        """Let a fault begin. Those that are events happen now."""
        if fault.name == "step-phc":
            for clock in self.clocks[:1]:
                clock.step(self.now_ns(), fault.by_ns)
        elif fault.name == "flap-link":
            self.faults.put(fault)
            self._unplug(fault)
        else:
            self.faults.put(fault)

    def _unplug(self, fault: Fault) -> None:
        if not self.faults.is_on(fault):
            return
        now_ns = self.now_ns()
        if fault.strikes():
            self.wire.is_plugged = False
            self.wire.negotiate()
            self.schedule.at(now_ns + fault.down_ns, self._plug)
        if fault.period_ns:
            self.schedule.at(now_ns + fault.period_ns, partial(self._unplug, fault))

    def _plug(self) -> None:
        self.wire.is_plugged = True
        self.wire.negotiate()

    def _recheck(self) -> None:
        for queue in self.queues:
            queue.recheck()

    def _phy_changed(self) -> None:
        self.wire.negotiate()

    def _stamp_ready(self) -> None:
        self.tsicr |= reg.TSICR_TXTS
        if self.registers.stored(reg.TSIM) & reg.TSICR_TXTS:
            self.interrupts.raise_other(reg.ICR_TS)
