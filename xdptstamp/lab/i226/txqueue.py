# SPDX-License-Identifier: GPL-2.0-only
"""One Tx queue: from the doorbell to the wire, and the descriptors written back."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING

from xdptstamp.lab.i226 import registers as reg
from xdptstamp.lab.i226.dma import DmaError, GuestMemory
from xdptstamp.lab.i226.offloads import Context, insert_checksums, insert_vlan, segment

if TYPE_CHECKING:
    from xdptstamp.lab.i226.port import Port

_DESC = struct.Struct("<QII")
_DESC_SIZE = 16
_DONE = (reg.TXD_STAT_DD).to_bytes(4, "little")
_STATUS_OFFSET = 12
_MAX_DESCRIPTORS = 0x10000
_LENGTH_MASK = 0xFFFF
_WORD_MASK = 0xFFFFFFFF
_MIN_PACKET = 14
_MIN_SENT = 60
_MAX_PACKET = 9728
_MAX_LARGE_SEND = 1 << 18
# What the NIC has fetched ahead of the wire: more is left in the ring.
_AHEAD_NS = 20_000
_OPTIONS = reg.ADVTXD_POPTS_IXSM | reg.ADVTXD_POPTS_TXSM
_KIND_MASK = reg.ADVTXD_DCMD_DEXT | reg.ADVTXD_DTYP_MASK
_DATA = reg.ADVTXD_DCMD_DEXT | reg.ADVTXD_DTYP_DATA
_CONTEXT = reg.ADVTXD_DCMD_DEXT | reg.ADVTXD_DTYP_CTXT


class TxQueue:
    """The ring of one queue, as its registers describe it.

    :ivar has_launch_times: the queue is in launch time mode.
    :ivar held_until_ns: when its next packet may go, the model's time; 0: at once, or not known.
    :ivar num_bad: descriptors that made no sense.
    """

    def __init__(self, port: Port, number: int, memory: GuestMemory) -> None:
        self._port = port
        self._number = number
        self._memory = memory
        self._generation = 0
        self.reset()

    def reset(self) -> None:
        """Disabled and empty."""
        self.base = self.head = self.tail = 0
        self.num_descriptors = 0
        self.has_launch_times = False
        self.num_bad = 0
        self._last_done_ns = 0
        self._packets_left = 0
        self._generation += 1
        self.enable(False)

    def enable(self, is_enabled: bool) -> None:
        """TXDCTL. A queue that is disabled forgets the packet that it was about to send."""
        self._is_enabled = is_enabled
        if not is_enabled:
            self._context = Context()
            self._drop()
            self.held_until_ns = 0
            self._launch_reading_ns: int | None = None
            self._not_before_ns = 0
            self._is_head_paid = False

    def set_length(self, size: int) -> None:
        """TDLEN, in bytes."""
        self.num_descriptors = min(size // _DESC_SIZE, _MAX_DESCRIPTORS)

    @property
    def is_waiting(self) -> bool:
        """There are descriptors, in a ring that makes sense."""
        head, tail, ring = self.head, self.tail, self.num_descriptors
        return self._is_enabled and head != tail and head < ring and tail < ring

    def recheck(self) -> None:
        """What the next packet waits for has changed: the PHC, or a pause."""
        if self.held_until_ns:
            self.held_until_ns = 0
            # A launch time that the PHC jumped over is now, not some time ago.
            self._not_before_ns = self._port.now_ns()

    def run(self, limit: int) -> None:
        """Send; at most ``limit`` descriptors, and not far ahead of the wire.

        The packets of a large send count too, but one large send is never divided.
        """
        self._packets_left = limit
        num_done = 0
        while num_done < limit and self.is_waiting and self.held_until_ns <= self._port.now_ns():
            stop = self.tail if self.tail > self.head else self.num_descriptors
            count = min(stop - self.head, limit - num_done)
            try:
                view = self._memory.view(self.base + self.head * _DESC_SIZE, count * _DESC_SIZE)
            except DmaError:
                self.num_bad += 1
                self.head = self.tail
                break
            num_taken = self._take(view)
            num_done += num_taken
            if num_taken < count:
                break
        if num_done:
            self._port.interrupts.raise_tx(self._number)

    def _take(self, view: memoryview) -> int:
        # Descriptors from the head on; the number that was taken.
        num_taken = 0
        for addr, command, info in _DESC.iter_unpack(view):
            kind = command & _KIND_MASK
            if kind == _DATA:
                if self._packets_left <= 0 or not (self._parts or self._may_start()):
                    break
                self._add(addr, command, info)
            elif kind == _CONTEXT:
                self._context = Context.parse(addr & _WORD_MASK, addr >> 32, command, info)
            else:
                self.num_bad += 1
                self._drop()
            if command & reg.ADVTXD_DCMD_RS:
                self._complete(view, num_taken * _DESC_SIZE)
            self.head += 1
            num_taken += 1
        if self.head == self.num_descriptors:
            self.head = 0
        return num_taken

    def _may_start(self) -> bool:
        # Whether the next packet may go now; else it is known until when not.
        port = self._port
        now_ns = port.now_ns()
        until_ns = max(port.busy_until_ns - _AHEAD_NS, port.paused_until_ns)
        if port.faults.on and not self._is_head_paid:
            delay_ns = port.faults.delay_ns("slow-head")
            self._is_head_paid = delay_ns > 0
            until_ns = max(until_ns, now_ns + delay_ns if delay_ns else 0)
        if self.has_launch_times and self._context.launch:
            until_ns = max(until_ns, self._launch_ns(now_ns))
        if until_ns <= now_ns:
            self._is_head_paid = False
            return True
        self.held_until_ns = until_ns
        return False

    def _launch_ns(self, now_ns: int) -> int:
        # The model's time of the packet's launch, as the PHC runs now. Which reading of the PHC
        # it is, is found when the packet comes to the head; if that is past, it goes at once.
        if self._launch_reading_ns is None:
            self._not_before_ns = now_ns
            self._launch_reading_ns = self._port.launch_reading_ns(
                self._context.launch, is_next=self._context.is_first
            )
        return max(self._not_before_ns, self._port.clocks[0].when(self._launch_reading_ns))

    def _add(self, addr: int, command: int, info: int) -> None:
        size = command & _LENGTH_MASK
        self._size += size
        try:
            if self._size > (_MAX_LARGE_SEND if command & reg.ADVTXD_DCMD_TSE else _MAX_PACKET):
                raise DmaError("a packet beyond all limits")
            part = self._memory.read(addr, size)
        except DmaError:
            self.num_bad += 1
            self._drop()
            return
        if not command & reg.ADVTXD_DCMD_EOP:
            self._parts.append(part)
            return
        packet = b"".join((*self._parts, part)) if self._parts else part
        self._drop()
        self._send(packet, command, info)

    def _drop(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def _send(self, packet: bytes, command: int, info: int) -> None:
        earliest_ns = 0
        if self._launch_reading_ns is not None:
            # This process may wake late; the hardware sends at the launch time itself.
            earliest_ns = self._launch_ns(0)
            self._launch_reading_ns = None
        self.held_until_ns = 0
        if len(packet) < _MIN_PACKET:
            self.num_bad += 1
        elif command & reg.ADVTXD_DCMD_TSE:
            for item in segment(packet, self._context):
                self._send_one(item, command, info, earliest_ns)
                command &= ~reg.ADVTXD_MAC_TSTAMP  # the first one's
        else:
            self._send_one(packet, command, info, earliest_ns)
        if self.has_launch_times:
            self._context = Context()  # a launch time is for one packet

    def _send_one(self, packet: bytes, command: int, info: int, earliest_ns: int) -> None:
        if info & _OPTIONS:
            packet = insert_checksums(packet, self._context, info)
        if command & reg.ADVTXD_DCMD_VLE:
            packet = insert_vlan(packet, self._context.vlan)
        if len(packet) < _MIN_SENT:
            packet = packet.ljust(_MIN_SENT, b"\0")
        self._packets_left -= 1
        wire_ns = self._port.send(packet, earliest_ns)
        if command & reg.ADVTXD_MAC_TSTAMP:
            slot = (command >> reg.ADVTXD_TSTAMP_REG_SHIFT) & 3
            timer = 1 if info & reg.ADVTXD_PTP2_TIMER_1 else 0
            self._port.stamp_tx(packet, self._number, (slot, timer), wire_ns)

    def _complete(self, view: memoryview, offset: int) -> None:
        port = self._port
        if view.readonly:
            self.num_bad += 1
        elif not port.faults.on:
            view[offset + _STATUS_OFFSET : offset + _DESC_SIZE] = _DONE
        elif not port.faults.strikes("lose-completion"):
            addr = self.base + self.head * _DESC_SIZE + _STATUS_OFFSET
            action = partial(self._write_done, addr, self._generation)
            delay_ns = port.faults.delay_ns("delay-completion")
            # In their order, whatever is drawn for each.
            due_ns = max(self._last_done_ns, port.now_ns() + delay_ns)
            self._last_done_ns = due_ns if delay_ns else self._last_done_ns
            if due_ns > port.now_ns():
                port.schedule.at(due_ns, action)
            else:
                action()

    def _write_done(self, addr: int, generation: int) -> None:
        if generation != self._generation:
            return
        try:
            self._memory.write(addr, _DONE)
        except DmaError:
            self.num_bad += 1
        self._port.interrupts.raise_tx(self._number)
