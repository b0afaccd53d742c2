# SPDX-License-Identifier: GPL-2.0-only
"""The memory that AF_XDP sockets and the NIC share, cut into frames of one size.

The kernel's page on it: Documentation/networking/af_xdp.rst; on the headroom for Tx metadata:
Documentation/networking/xsk-tx-metadata.rst.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

from xdptstamp._sys import libc
from xdptstamp.errors import SetupError
from xdptstamp.txmd import METADATA_LEN

#: The kernel leaves this much ahead of a received packet (XDP_PACKET_HEADROOM), in bytes.
PACKET_HEADROOM = 256

_FRAME_SIZES = (2048, 4096)  # aligned mode: a power of two between 2048 and the page size


class Umem:
    """Memory for ``num_frames`` frames of ``frame_size`` bytes.

    :param num_frames: a power of two, so that a fill ring can hold every frame.
    :param frame_size: bytes: 2048 or 4096.
    :param tx_metadata_len: bytes of Tx metadata ahead of each packet to send; 0: none. A multiple
        of 8 from 16 to 248: some kernels accept 8 and then write the stamp over the packet.
    :param is_checked: False: any length, to see what the kernel says of it.
    :raises SetupError: If a value is out of range, whatever this kernel would accept.

    One UMEM belongs to one socket here; it can outlive it.
    """

    def __init__(
        self,
        num_frames: int = 2048,
        frame_size: int = 2048,
        tx_metadata_len: int = METADATA_LEN,
        *,
        is_checked: bool = True,
    ) -> None:
        if num_frames < 1 or num_frames & (num_frames - 1):
            raise SetupError("UMEM", f"num_frames {num_frames} is not a power of two")
        if frame_size not in _FRAME_SIZES:
            raise SetupError("UMEM", f"frame_size {frame_size} is neither 2048 nor 4096")
        is_fit = not tx_metadata_len % 8 and 16 <= tx_metadata_len < 256
        if tx_metadata_len and is_checked and not is_fit:
            raise SetupError(
                "UMEM", f"tx_metadata_len {tx_metadata_len} is not a multiple of 8 from 16 to 248"
            )
        self.num_frames = num_frames
        self.frame_size = frame_size
        self.tx_metadata_len = tx_metadata_len
        self._memory = mmap.mmap(-1, num_frames * frame_size)
        #: All bytes, to read and write: index by ``addr``.
        self.view = memoryview(self._memory)
        #: The same as a NumPy array of uint8.
        self.array: npt.NDArray[np.uint8] = np.frombuffer(self._memory, dtype=np.uint8)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.num_frames * self.frame_size

    @property
    def address(self) -> int:
        """Where the memory starts in this process."""
        return libc.address_of(self._memory)

    def tx_addr(self, frame: int) -> int:
        """The ``addr`` of a packet to send from ``frame``: right behind its Tx metadata."""
        return frame * self.frame_size + self.tx_metadata_len

    def gather(self, addrs: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.uint8]:
        """Copy ``length`` bytes from each of ``addrs``.

        :return: array of shape (len(addrs), length), contiguous.
        """
        gathered: npt.NDArray[np.uint8] = self.array[addrs[:, None] + np.arange(length)]
        return gathered
