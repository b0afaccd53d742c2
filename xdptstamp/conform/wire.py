# SPDX-License-Identifier: GPL-2.0-only
"""What the link partner has on its wire: frames as they came, and frames to send to the DUT."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from dataclasses import dataclass

from xdptstamp._sys import netns

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE = 33
_RCVBUF = 16 << 20
# struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid
_AUXDATA = struct.Struct("=IIIHHHH")
_CSUM_NOT_READY = 1 << 3  # TP_STATUS_CSUMNOTREADY
_VLAN_VALID = 1 << 4
_SILENCE_S = 1.0
_FRAME_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the wire, from the Ethernet header on, without FCS.

    :param data: with the VLAN tag, which the kernel carries beside the packet, put back.
    :param is_csum_left: its L4 checksum is left to whoever sends it on (CHECKSUM_PARTIAL).
    """

    data: bytes
    is_csum_left: bool


class Wire:
    """The link partner's interface, in its namespace; a context manager.

    :param namespace: the partner's network namespace.
    :param ifname: the partner's interface.
    """

    def __init__(self, namespace: str, ifname: str) -> None:
        def open_socket() -> socket.socket:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            with contextlib.suppress(OSError):  # no CAP_NET_ADMIN: as much as there is
                opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RCVBUF)
            opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            opened.bind((ifname, _ETH_P_ALL))
            opened.setblocking(False)
            return opened

        self._socket = netns.call_inside(namespace, open_socket)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def forget(self) -> None:
        """Drop what has come until now."""
        while self._receive() is not None:
            pass

    def collect(self, token: bytes, count: int, limit_s: float = 10.0) -> list[Frame]:
        """The frames that hold ``token``, in their order.

        :param count: it returns as soon as so many have come; else when none has come for a
            second, or after ``limit_s``.
        """
        frames: list[Frame] = []
        deadline = time.monotonic() + limit_s
        while len(frames) < count and time.monotonic() < deadline:
            if not select.select([self._socket], [], [], _SILENCE_S)[0]:
                break
            frame = self._receive()
            if frame is not None and token in frame.data:
                frames.append(frame)
        return frames

    def send(self, frame: bytes) -> None:
        """Send a frame towards the DUT."""
        self._socket.send(frame)

    def _receive(self) -> Frame | None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_FRAME_MAX, 256)
        except BlockingIOError:
            return None
        status = tci = tpid = 0
        for level, kind, value in ancillary:
            if level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(value)
        if status & _VLAN_VALID:
            data = data[:12] + struct.pack("!HH", tpid or 0x8100, tci) + data[12:]
        return Frame(data, bool(status & _CSUM_NOT_READY))
