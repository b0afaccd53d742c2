# SPDX-License-Identifier: GPL-2.0-only
"""What a request carries, and what its reply must carry back.

All big-endian, after the UDP header::

    0   u16  0x5801: "X", then version 1
    2   u48  run id, random
    8   u16  the four 16-bit words of seq, XORed
    10  u64  seq
    18  u64  time of sending, ns, CLOCK_TAI (if the payload has 26 bytes or more)
    ..       a fixed pattern to the end

The first 18 bytes are what a 64-byte frame has room for over IPv4.
"""

from __future__ import annotations

import struct

from xdptstamp.sample import NULL

_MAGIC_VERSION = b"\x58\x01"
_RUN_ID_BYTES = 6
_FIELDS = struct.Struct(">8sHQQ")
_CHECK_SEQ = struct.Struct(">HQ")
_CHECK_SEQ_TIME = struct.Struct(">HQQ")
_SEQ = struct.Struct(">Q")
_CHECK_AT, _SEQ_AT, _TIME_AT = 8, 10, 18
_PATTERN = bytes(range(256))

#: Shortest payload that can be told apart and matched.
MIN_PAYLOAD_BYTES = _TIME_AT

#: Answers of :meth:`Payload.read` that are not a sequence number.
CORRUPTED = -1
FOREIGN = -2


class Payload:
    """The payload of one run: written in place for each request, checked in each reply.

    :param run_id: tells this run's replies from those of another; 48 bits.
    :param length: bytes of UDP payload, at least :data:`MIN_PAYLOAD_BYTES`.
    """

    def __init__(self, run_id: int, length: int) -> None:
        self.length = length
        self.data = bytearray((_PATTERN * (length // 256 + 1))[:length])
        self.has_time = length >= _FIELDS.size
        self._prefix = _MAGIC_VERSION + run_id.to_bytes(_RUN_ID_BYTES, "big")
        self.data[:_CHECK_AT] = self._prefix
        self._tail_at = _FIELDS.size if self.has_time else _TIME_AT
        self._tail = bytes(self.data[self._tail_at :])

    def write(self, seq: int, now_ns: int) -> None:
        """Make :attr:`data` the request ``seq`` sent at ``now_ns`` (CLOCK_TAI)."""
        if self.has_time:
            _CHECK_SEQ_TIME.pack_into(self.data, _CHECK_AT, _check(seq), seq, now_ns)
        else:
            _CHECK_SEQ.pack_into(self.data, _CHECK_AT, _check(seq), seq)

    def read(self, data: bytearray, num_bytes: int) -> tuple[int, int]:
        """The sequence number in a datagram, and the time of sending (ns, CLOCK_TAI).

        :param data: at least 26 bytes, of which ``num_bytes`` are the datagram's.
        :return: For the number :data:`FOREIGN` if the datagram is not of this run,
            :data:`CORRUPTED` if it is and differs from what was sent; for the time
            :data:`~xdptstamp.sample.NULL` if it carries none. The time is not checked.
        """
        prefix, check, seq, time_ns = _FIELDS.unpack_from(data)
        if prefix != self._prefix or num_bytes < _CHECK_AT:
            return FOREIGN, NULL
        if num_bytes != self.length or check != _check(seq):
            return CORRUPTED, NULL
        if not self.has_time:
            time_ns = NULL
        if self._tail and not data.startswith(self._tail, self._tail_at):
            return CORRUPTED, NULL
        return seq, time_ns

    def seq_at_end(self, data: bytearray, num_bytes: int) -> int:
        """The sequence number in a whole packet that came back from the error queue.

        How long its headers are depends on the device that stamped it, so look from the end.

        :return: or :data:`FOREIGN` if it is not a request of this run.
        """
        start = num_bytes - self.length
        if start < 0 or not data.startswith(self._prefix, start):
            return FOREIGN
        seq: int = _SEQ.unpack_from(data, start + _SEQ_AT)[0]
        return seq


# Without it, a changed seq would pass for the reply to another request.
def _check(seq: int) -> int:
    return (seq ^ seq >> 16 ^ seq >> 32 ^ seq >> 48) & 0xFFFF
