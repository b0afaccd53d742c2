# SPDX-License-Identifier: GPL-2.0-only
"""Which packets a port takes, and to which queue they go: addresses, flex, EtherType, VLAN, RSS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdptstamp.lab.i226 import registers as reg

_BROADCAST = b"\xff" * 6
_KEY_WORDS = 10
_MAX_FLOWS = 4096
_NUM_FLEX = 32
_FLEX_STEP = 0x100
_FLEX_LAST_WORD = 0xFC
_FLEX_DROP = 1 << 25
_VLAN_ETHERTYPE = 0x8100
_TCP, _UDP = 6, 17

# Types as the descriptor has them (enum igc_rss_type_num, igc.h).
_NO_HASH = 0
_TCP_IPV4, _IPV4, _TCP_IPV6, _IPV6, _UDP_IPV4, _UDP_IPV6 = 1, 2, 3, 5, 7, 8


@dataclass(frozen=True, slots=True)
class Steering:
    """Where a packet goes.

    :param queue: Rx queue; None: a filter drops it.
    :param rss_type: as in the descriptor, 0 without a hash.
    """

    queue: int | None
    rss_hash: int = 0
    rss_type: int = _NO_HASH


class Filters:
    """The filters of one port.

    :param read: a register's value by its offset.
    """

    _rctl = 0

    def __init__(self, read: Callable[[int], int]) -> None:
        self._read = read
        self._flex: dict[int, int] = {}
        self._flows: dict[bytes, Steering] = {}
        self._addresses: list[tuple[bytes, int]] = []
        self._is_stale = True
        self._page = 0

    def changed(self) -> None:
        """A register that steers was written."""
        self._is_stale = True

    def reset(self) -> None:
        """Forget the flex filters, which have memory of their own."""
        self._flex.clear()
        self._page = 0
        self._is_stale = True

    def select_page(self, value: int) -> None:
        """FHFTSL: which eight flex filters the window shows."""
        self._page = value & 3

    def flex_read(self, offset: int) -> int:
        """A word of the flex filters' window."""
        return self._flex.get(self._flex_key(offset), 0)

    def flex_write(self, offset: int, value: int) -> None:
        """Write a word of the flex filters' window."""
        self._flex[self._flex_key(offset)] = value
        self._is_stale = True

    @property
    def is_on(self) -> bool:
        """The port receives."""
        if self._is_stale:
            self._refresh()
        return bool(self._rctl & reg.RCTL_EN)

    def takes(self, packet: bytes) -> bool:
        """Whether the packet's destination is one of the port's."""
        if not self.is_on:
            return False
        rctl = self._rctl
        destination = packet[:6]
        if destination[0] & 1:
            if destination == _BROADCAST:
                return bool(rctl & (reg.RCTL_BAM | reg.RCTL_MPE))
            if rctl & reg.RCTL_MPE or destination in self._own:
                return True
            return self._is_in_table(destination)
        return bool(rctl & reg.RCTL_UPE) or destination in self._own

    def steer(self, packet: bytes) -> Steering:
        """The queue and the hash of a packet."""
        if self._is_stale:
            self._refresh()
        if self._has_rules:
            for rule in (self._by_flex, self._by_ethertype, self._by_address, self._by_vlan):
                steering = rule(packet)
                if steering is not None:
                    return steering
        return self._by_rss(packet)

    def _flex_key(self, offset: int) -> int:
        # 8 filters are seen at a time, four in each window.
        if offset >= reg.FHFT_EXT:
            index = 4 + (offset - reg.FHFT_EXT) // _FLEX_STEP
        else:
            index = (offset - reg.FHFT) // _FLEX_STEP
        return (self._page * 8 + index) * _FLEX_STEP + offset % _FLEX_STEP

    def _refresh(self) -> None:
        self._is_stale = False
        self._flows.clear()
        read = self._read
        self._rctl = read(reg.RCTL)
        self._addresses = []
        for index in range(reg.NUM_RECEIVE_ADDRESSES):
            low, high = read(reg.RA + 8 * index), read(reg.RA + 8 * index + 4)
            if high & reg.RAH_AV:
                address = low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")
                self._addresses.append((address, high))
        self._own = {a for a, high in self._addresses if not high & reg.RAH_ASEL_SRC_ADDR}
        self._ethertypes = {}
        for index in range(reg.NUM_ETQF):
            value = read(reg.ETQF + 4 * index)
            if value & reg.ETQF_FILTER_ENABLE and value & reg.ETQF_QUEUE_ENABLE:
                self._ethertypes[value & 0xFFFF] = (value >> reg.ETQF_QUEUE_SHIFT) & 7
        self._vlan_queues = read(reg.VLANPQF)
        self._enabled_flex = self._find_flex()
        self._has_rules = bool(
            self._enabled_flex
            or self._ethertypes
            or self._vlan_queues
            or any(high & reg.RAH_QSEL_ENABLE for _, high in self._addresses)
        )
        self._mrqc = read(reg.MRQC)
        self._table = [
            (read(reg.RETA + 4 * (index >> 2)) >> (8 * (index & 3))) & 0x3 for index in range(128)
        ]
        self._key = b"".join(
            read(reg.RSSRK + 4 * index).to_bytes(4, "little") for index in range(_KEY_WORDS)
        )

    def _find_flex(self) -> list[int]:
        enable = self._read(reg.WUFC)
        if not enable & reg.WUFC_FLEX_HQ:
            return []
        bits = (enable >> reg.WUFC_FLX0_SHIFT) & 0xFF | (self._read(reg.WUFC_EXT) & 0xFFFFFF00)
        return [index for index in range(_NUM_FLEX) if bits >> index & 1]

    def _is_in_table(self, destination: bytes) -> bool:
        # RCTL.MO = 0: bits 47 to 36 of the address.
        value = (destination[4] >> 4 | destination[5] << 4) & 0xFFF
        return bool(self._read(reg.MTA + 4 * (value >> 5)) >> (value & 31) & 1)

    def _by_flex(self, packet: bytes) -> Steering | None:
        for index in self._enabled_flex:
            base = index * _FLEX_STEP
            control = self._flex.get(base + _FLEX_LAST_WORD, 0)
            if self._flex_matches(base, control & 0xFF, packet):
                queue = (control >> 8) & 7
                return Steering(None if control & _FLEX_DROP else queue % reg.NUM_QUEUES)
        return None

    def _flex_matches(self, base: int, length: int, packet: bytes) -> bool:
        if not length or len(packet) < length:
            return False
        for position in range(min(length, 128)):
            row, column = divmod(position, 8)
            mask = self._flex.get(base + 16 * row + 8, 0)
            if mask >> column & 1:
                word = self._flex.get(base + 16 * row + 4 * (column >> 2), 0)
                if (word >> (8 * (column & 3))) & 0xFF != packet[position]:
                    return False
        return True

    def _by_ethertype(self, packet: bytes) -> Steering | None:
        queue = self._ethertypes.get(int.from_bytes(packet[12:14], "big"))
        return None if queue is None else Steering(queue % reg.NUM_QUEUES)

    def _by_address(self, packet: bytes) -> Steering | None:
        for address, high in self._addresses:
            if high & reg.RAH_QSEL_ENABLE:
                start = 6 if high & reg.RAH_ASEL_SRC_ADDR else 0
                if packet[start : start + 6] == address:
                    return Steering((high >> reg.RAH_QSEL_SHIFT) & 3)
        return None

    def _by_vlan(self, packet: bytes) -> Steering | None:
        if int.from_bytes(packet[12:14], "big") != _VLAN_ETHERTYPE:
            return None
        entry = self._vlan_queues >> (4 * (packet[14] >> 5))
        return Steering(entry & 3) if entry & 8 else None

    def _by_rss(self, packet: bytes) -> Steering:
        # A tag that is there does not matter to the hash.
        ip = 18 if packet[12:14] == b"\x81\x00" else 14
        flow = packet[ip - 2 : ip + 44]
        if packet[ip - 2 : ip] == b"\x08\x00":
            # Only what the hash depends on: 20 bytes of header and the ports.
            flow = packet[ip - 2 : ip + 1] + packet[ip + 6 : ip + 10] + packet[ip + 12 : ip + 24]
        known = self._flows.get(flow)
        if known is None:
            known = self._hash(packet, ip)
            if len(self._flows) >= _MAX_FLOWS:
                self._flows.clear()
            self._flows[flow] = known
        return known

    def _hash(self, packet: bytes, ip: int) -> Steering:
        default = Steering((self._mrqc >> 3) & 3)
        if not self._mrqc & reg.MRQC_ENABLE_RSS_MQ:
            return default
        kind, data = self._hash_input(packet, ip)
        if kind == _NO_HASH:
            return default
        value = toeplitz(self._key, data)
        return Steering(self._table[value & 127], value, kind)

    def _hash_input(self, packet: bytes, ip: int) -> tuple[int, bytes]:
        mrqc = self._mrqc
        if packet[ip - 2 : ip] == b"\x08\x00" and len(packet) >= ip + 24:
            addresses, protocol = packet[ip + 12 : ip + 20], packet[ip + 9]
            l4 = ip + (packet[ip] & 0xF) * 4
            # Fragments have no ports.
            if int.from_bytes(packet[ip + 6 : ip + 8], "big") & 0x3FFF:
                protocol = 0
            choices = (
                (_TCP, reg.MRQC_RSS_FIELD_IPV4_TCP, _TCP_IPV4),
                (_UDP, reg.MRQC_RSS_FIELD_IPV4_UDP, _UDP_IPV4),
            )
            plain = (reg.MRQC_RSS_FIELD_IPV4, _IPV4)
        elif packet[ip - 2 : ip] == b"\x86\xdd" and len(packet) >= ip + 44:
            addresses, protocol, l4 = packet[ip + 8 : ip + 40], packet[ip + 6], ip + 40
            choices = (
                (_TCP, reg.MRQC_RSS_FIELD_IPV6_TCP, _TCP_IPV6),
                (_UDP, reg.MRQC_RSS_FIELD_IPV6_UDP, _UDP_IPV6),
            )
            plain = (reg.MRQC_RSS_FIELD_IPV6, _IPV6)
        else:
            return _NO_HASH, b""
        for number, enable, kind in choices:
            if protocol == number and mrqc & enable:
                return kind, addresses + packet[l4 : l4 + 4]
        return (plain[1], addresses) if mrqc & plain[0] else (_NO_HASH, b"")


def toeplitz(key: bytes, data: bytes) -> int:
    """The RSS hash of ``data`` (Microsoft's definition), 32 bits."""
    window = int.from_bytes(key, "big")
    size = 8 * len(key)
    result = 0
    for position, byte in enumerate(data):
        for bit in range(8):
            if byte & (0x80 >> bit):
                result ^= window >> (size - 32 - 8 * position - bit)
    return result & 0xFFFFFFFF
