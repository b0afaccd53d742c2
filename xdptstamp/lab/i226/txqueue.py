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
_CONTEXT = struct.Struct("<IIII")
_DESC_SIZE = 16
_DONE = (reg.TXD_STAT_DD).to_bytes(4, "little")
_STATUS_OFFSET = 12
_MAX_DESCRIPTORS = 0x10000
_LENGTH_MASK = 0xFFFF
_MAX_PACKET = 9728
_MAX_LARGE_SEND = 1 << 18
# What the NIC has fetched ahead of the wire: more is left in the ring.
_AHEAD_NS = 20_000
_OPTIONS = reg.ADVTXD_POPTS_IXSM | reg.ADVTXD_POPTS_TXSM


class TxQueue:
    """The ring of one queue, as its registers describe it.

    :ivar is_enabled: TXDCTL.
    :ivar has_launch_times: the queue is in launch time mode.
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
        self.is_enabled = False
        self.has_launch_times = False
        self.num_bad = 0
        self._context = Context()
        self._parts: list[bytes] = []
        self._size = 0
        self._held_until_ns = 0
        self._launch_at_ns = 0
        self._is_launched = False
        self._is_head_paid = False
        self._last_done_ns = 0
        self._generation += 1

    def set_length(self, size: int) -> None:
        """TDLEN, in bytes."""
        self.num_descriptors = min(size // _DESC_SIZE, _MAX_DESCRIPTORS)

    @property
    def has_work(self) -> bool:
        """There are descriptors, and nothing to wait for."""
        return self.is_waiting and self._held_until_ns <= self._port.now_ns()

    @property
    def is_waiting(self) -> bool:
        """There are descriptors."""
        return self.is_enabled and self.head != self.tail

    def run(self, limit: int) -> None:
        """Send; at most ``limit`` descriptors, and not far ahead of the wire."""
        ring = self.num_descriptors
        if not ring or self.head >= ring or self.tail >= ring:
            return
        num_done = 0
        while num_done < limit and self.has_work:
            stop = self.tail if self.tail > self.head else ring
            count = min(stop - self.head, limit - num_done)
            try:
                view = self._memory.view(self.base + self.head * _DESC_SIZE, count * _DESC_SIZE)
            except DmaError:
                self.num_bad += 1
                self.head = self.tail
                return
            num_taken = self._take(view)
            if not num_taken:
                break
            num_done += num_taken
        if num_done:
            self._port.interrupts.raise_tx(self._number)

    def _take(self, view: memoryview) -> int:
        # Descriptors from the head on; the number that was taken.
        num_taken = 0
        ring = self.num_descriptors
        for offset in range(0, len(view), _DESC_SIZE):
            addr, command, info = _DESC.unpack_from(view, offset)
            kind = command & reg.ADVTXD_DTYP_MASK
            if not command & reg.ADVTXD_DCMD_DEXT or kind not in (
                reg.ADVTXD_DTYP_CTXT,
                reg.ADVTXD_DTYP_DATA,
            ):
                self.num_bad += 1
                self._drop()
            elif kind == reg.ADVTXD_DTYP_CTXT:
                self._context = Context.parse(*_CONTEXT.unpack_from(view, offset))
            else:
                if not self._parts and not self._may_start():
                    break
                self._add(addr, command, info)
            if command & reg.ADVTXD_DCMD_RS:
                self._complete(view, offset)
            self.head = (self.head + 1) % ring
            num_taken += 1
        return num_taken

    def _may_start(self) -> bool:
        # Whether the next packet may go now; else it is known until when not.
        port = self._port
        now_ns = port.now_ns()
        until_ns = max(port.busy_until_ns - _AHEAD_NS, port.paused_until_ns)
        if port.faults and not self._is_head_paid:
            delay_ns = port.faults.delay_ns("slow-head")
            self._is_head_paid = delay_ns > 0
            until_ns = max(until_ns, now_ns + delay_ns if delay_ns else 0)
        if self.has_launch_times and self._context.launch:
            until_ns = max(until_ns, self._launch_ns(now_ns))
        if until_ns <= now_ns:
            self._is_head_paid = False
            return True
        self._held_until_ns = until_ns
        port.wake_at(until_ns)
        return False

    def _launch_ns(self, now_ns: int) -> int:
        # The model's time of the packet's launch, found when the packet comes to the head. One
        # that is past is none: the packet goes at once.
        if not self._launch_at_ns:
            context = self._context
            launch_ns = self._port.launch_ns(context.launch, is_next=context.is_first)
            self._launch_at_ns = launch_ns if launch_ns > now_ns else now_ns
            self._is_launched = launch_ns > now_ns
        return self._launch_at_ns

    def _add(self, addr: int, command: int, info: int) -> None:
        size = command & _LENGTH_MASK
        is_large = bool(command & reg.ADVTXD_DCMD_TSE)
        try:
            self._size += size
            if self._size > (_MAX_LARGE_SEND if is_large else _MAX_PACKET):
                raise DmaError("a packet beyond all limits")
            self._parts.append(bytes(self._memory.view(addr, size)))
        except DmaError:
            self.num_bad += 1
            self._drop()
            return
        if command & reg.ADVTXD_DCMD_EOP:
            packet = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._drop()
            self._send(packet, command, info)

    def _drop(self) -> None:
        self._parts = []
        self._size = 0

    def _send(self, packet: bytes, command: int, info: int) -> None:
        if len(packet) < 14:
            self.num_bad += 1
            return
        # This process may wake late; the hardware sends at the launch time itself.
        earliest_ns = self._launch_at_ns if self._is_launched else 0
        self._held_until_ns = self._launch_at_ns = 0
        self._is_launched = False
        packets = [packet]
        if command & reg.ADVTXD_DCMD_TSE:
            packets = segment(packet, self._context)
        for item in packets:
            self._send_one(item, command, info, earliest_ns)
        if self.has_launch_times:
            self._context = Context()  # a launch time is for one packet

    def _send_one(self, packet: bytes, command: int, info: int, earliest_ns: int) -> None:
        if info & _OPTIONS:
            packet = insert_checksums(packet, self._context, info)
        if command & reg.ADVTXD_DCMD_VLE:
            packet = insert_vlan(packet, self._context.vlan)
        if len(packet) < 60:
            packet = packet.ljust(60, b"\0")
        wire_ns = self._port.send(packet, earliest_ns)
        if command & reg.ADVTXD_MAC_TSTAMP:
            slot = (command >> reg.ADVTXD_TSTAMP_REG_SHIFT) & 3
            timer = 1 if info & reg.ADVTXD_PTP2_TIMER_1 else 0
            self._port.stamp_tx(packet, self._number, (slot, timer), wire_ns)

    def _complete(self, view: memoryview, offset: int) -> None:
        port = self._port
        if view.readonly:
            self.num_bad += 1
        elif not port.faults:
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
