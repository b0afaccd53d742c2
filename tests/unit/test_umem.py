# SPDX-License-Identifier: GPL-2.0-only
"""The memory of frames, and the settings that are refused whatever the kernel would take."""

import numpy as np
import pytest

from xdptstamp.errors import SetupError
from xdptstamp.umem import Umem


@pytest.mark.parametrize("length", [0, 16, 24, 32, 248])
def test_tx_metadata_lengths_that_every_kernel_takes(length):
    assert Umem(4, tx_metadata_len=length).tx_addr(3) == 3 * 2048 + length


# Some kernels take 8, and their stamp then overwrites the packet's first bytes.
@pytest.mark.parametrize("length", [-8, 1, 8, 12, 15, 17, 20, 249, 256, 264, 4096])
def test_other_tx_metadata_lengths_are_refused(length):
    with pytest.raises(SetupError) as caught:
        Umem(4, tx_metadata_len=length)
    assert str(caught.value) == (
        f"UMEM: tx_metadata_len {length} is not a multiple of 8 from 16 to 248"
    )


@pytest.mark.parametrize("num_frames", [-1, 0, 3, 6, 2047])
def test_a_number_of_frames_that_no_ring_can_hold_is_refused(num_frames):
    with pytest.raises(SetupError, match=rf"UMEM: num_frames {num_frames} is not a power of two"):
        Umem(num_frames)


@pytest.mark.parametrize("frame_size", [0, 1024, 2047, 3000, 8192])
def test_a_frame_size_of_no_aligned_umem_is_refused(frame_size):
    with pytest.raises(SetupError, match=f"frame_size {frame_size} is neither 2048 nor 4096"):
        Umem(4, frame_size)


@pytest.mark.parametrize("frame_size", [2048, 4096])
def test_the_memory_is_whole_and_zero(frame_size):
    umem = Umem(8, frame_size)
    assert umem.size == len(umem.view) == umem.array.size == 8 * frame_size
    assert not umem.array.any()
    # The kernel wants it at the start of a page.
    assert umem.address % 4096 == 0


def test_view_array_and_address_are_one_memory():
    umem = Umem(2)
    umem.view[100:103] = b"abc"
    assert umem.array[100:103].tobytes() == b"abc"
    umem.array[4095] = 7
    assert umem.view[4095] == 7
    assert umem.array.ctypes.data == umem.address


def test_gather_copies_rows():
    umem = Umem(4)
    for frame in range(4):
        umem.view[frame * 2048 : frame * 2048 + 4] = bytes([frame] * 4)
    rows = umem.gather(np.array([6144, 0, 2048]), 4)
    assert rows.tolist() == [[3] * 4, [0] * 4, [1] * 4]
    assert rows.flags.c_contiguous
    assert rows.view("<u4").reshape(-1).tolist() == [0x03030303, 0, 0x01010101]
    rows[:] = 9
    assert umem.view[0] == 0


def test_gather_of_nothing():
    rows = Umem(2).gather(np.array([], dtype=np.int64), 8)
    assert rows.shape == (0, 8)
    assert rows.view("<u8").shape == (0, 1)


def test_gather_beyond_the_memory_is_an_error():
    with pytest.raises(IndexError):
        Umem(2).gather(np.array([4092]), 8)
