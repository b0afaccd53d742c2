# SPDX-License-Identifier: GPL-2.0-only
"""The packets of ``mixed``: each says which one it is and whether its stamp was asked for.

A UDP payload of 18 bytes and zeros behind them, in network byte order:

- at 0: magic, u16;
- at 2: stream, u32: one phase of one sender. Each stream counts from 0;
- at 6: word, u32: number of the packet in its stream (31 bits), and in the lowest bit whether its
  timestamp was requested;
- at 10: the word's complement: so the UDP checksum is the same whatever the word is, and a damaged
  word shows;
- at 14: T, u16, and N, u16: the pattern of the stream. Both 0: it has none.

Packet ``n`` of a pattern ``T:N`` asks for its timestamp if ``n % (T + N) < T``.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

MAGIC = 0x7874  # "xt"
LEN = 18  # what fills an IPv4 frame of 64 bytes

#: Where the word and its complement lie in the payload.
WORD_OFFSET = 6

#: Numbers run up to here and begin again at 0.
NUMBER_SPAN = 1 << 31

#: The greatest T and N.
MAX_PATTERN = 0xFFFF

#: UDP destination port where nothing else is asked for.
DEFAULT_PORT = 9093

#: The payload, to read many of at once.
DTYPE = np.dtype(
    [
        ("magic", ">u2"),
        ("stream", ">u4"),
        ("word", ">u4"),
        ("complement", ">u4"),
        ("stamped", ">u2"),
        ("plain", ">u2"),
    ]
)

_PAYLOAD = struct.Struct("!HIIIHH")
_U32 = 0xFFFFFFFF


def first_payload(stream: int, pattern: tuple[int, int], length: int) -> bytes:
    """The payload of packet 0 of a stream, its timestamp not requested.

    :param pattern: (T, N), or (0, 0) for none.
    :param length: bytes, at least :data:`LEN`.
    """
    return _PAYLOAD.pack(MAGIC, stream, 0, _U32, *pattern).ljust(length, b"\0")


def words(
    numbers: npt.NDArray[np.int64], is_stamped: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint64]:
    """Word and complement of each packet, as they lie in the payload.

    :param numbers: of the packets, from 0.
    :return: big-endian uint64 of the same shape.
    """
    word = ((numbers << 1) & _U32) | is_stamped
    together: npt.NDArray[np.uint64] = (word << 32 | (word ^ _U32)).astype(">u8")
    return together
