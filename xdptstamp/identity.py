# SPDX-License-Identifier: GPL-2.0-only
"""Which packet is which: a number made of what a packet carries.

Whoever saw the same packet, on another machine or on the wire, makes the same number of it, so
that two records of it are joined without a look at any time in them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: So many bytes of the UDP payload count; a shorter payload as if zeros followed.
PAYLOAD_BYTES = 24

# A multiplier of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(31)


def payload_ids(payloads: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The number of each packet, never negative.

    :param payloads: shape (n, :data:`PAYLOAD_BYTES`), contiguous; zeros behind a short payload.
    """
    ids = np.zeros(len(payloads), np.uint64)
    for word in payloads.view("<u8").reshape(-1, PAYLOAD_BYTES // 8).T:
        ids = (ids ^ word) * _FACTOR
        ids ^= ids >> _SHIFT
    return (ids >> np.uint64(1)).astype(np.int64)
