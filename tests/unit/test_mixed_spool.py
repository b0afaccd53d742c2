# SPDX-License-Identifier: GPL-2.0-only
"""Completed packets on their way to the recorder: nothing is lost but what a full disk refuses."""

import contextlib
import errno
import itertools
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdptstamp.errors import SystemCallError
from xdptstamp.measure import spool as spool_module
from xdptstamp.measure.spool import FIELDS, Spool

COMP = FIELDS.index("tx_comp_ns")
ROW_BYTES = 8 * len(FIELDS)

_CHILD = """
import sys
from pathlib import Path
import numpy as np
from xdptstamp.measure.spool import Spool
with Spool(Path(sys.argv[2]), inherited_fd=int(sys.argv[1])) as spool:
    for number in range(int(sys.argv[3])):
        at, value = np.zeros(1, np.int64), np.ones(1, np.uint64)
        spool.add(at, value, 5, (number, 2, 3, 4))
    spool.flush()
    assert spool.error is None
"""


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path) as opened:
        yield opened


def fill(spool, first, count, comp_ns):
    """Packets from ``first`` on that completed together; returns the next number."""
    numbers = np.arange(first, first + count)
    group = (first, 10 * first, comp_ns, comp_ns - 1)
    spool.add(numbers - first, values_of(numbers), numbers % 4, group)
    return first + count


def values_of(numbers):
    """Some are beyond int64, as sentinels are."""
    return numbers.astype(np.uint64) + np.uint64((1 << 63) - 500)


def numbers_of(chunks):
    return [number for rows in chunks for number in rows[:, 0].tolist()]


@contextlib.contextmanager
def file_limit(size):
    """No file of this process grows beyond that: so nothing is to be printed meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# What comes back


def test_rows_come_back_as_they_were_filled_in(spool, tmp_path):
    number, firsts, counts = 0, [], []
    for count in itertools.islice(itertools.cycle([1, 300, 8192, 0, 17]), 12):
        firsts.append(number)
        counts.append(count)
        number = fill(spool, number, count, 7 * number)
    assert (spool.num_rows, spool.num_lost, spool.error) == (number, 0, None)
    rows = np.concatenate(list(spool.chunks()))
    assert rows.dtype == np.int64
    numbers, first = np.arange(number), np.repeat(firsts, counts)
    assert np.array_equal(rows[:, 0], numbers)
    assert np.array_equal(rows[:, 1].view(np.uint64), values_of(numbers))
    assert np.array_equal(rows[:, 2:5].T, [10 * first, 7 * first, 7 * first - 1])
    assert np.array_equal(rows[:, 5], numbers % 4)
    assert list(tmp_path.iterdir()) == []  # a file without a name


def test_nothing_in_gives_nothing(spool):
    assert list(spool.chunks()) == []
    fill(spool, 0, 0, 1)
    assert list(spool.chunks()) == []
    assert spool.num_rows == 0


@settings(deadline=None, max_examples=60)
@given(moments=st.lists(st.integers(1, 40), max_size=40), chunk_rows=st.integers(1, 60))
def test_what_completed_at_one_moment_is_never_parted(tmp_path_factory, moments, chunk_rows):
    place = tmp_path_factory.getbasetemp()
    with Spool(place) as spool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "_CHUNK_ROWS", chunk_rows)
        number = 0
        for comp_ns, count in enumerate(moments, 1):
            number = fill(spool, number, count, comp_ns)
        chunks = [rows.copy() for rows in spool.chunks()]
    assert numbers_of(chunks) == list(range(number))
    for before, after in itertools.pairwise(chunks):
        assert before[-1, COMP] != after[0, COMP]
    # Some at a time: no more than is read at once and the moment that it leaves open.
    longest = chunk_rows + max(moments, default=0)
    assert all(0 < len(rows) <= longest for rows in chunks)


def test_a_run_longer_than_memory_comes_in_pieces(spool):
    number = 0
    for moment in range(50):
        number = fill(spool, number, 8000, moment)
    sizes = [len(rows) for rows in spool.chunks()]
    assert sum(sizes) == 400_000
    assert max(sizes) <= 65536 + 8000
    assert all(size % 8000 == 0 for size in sizes)


def test_reading_twice_and_on_gives_everything(spool):
    fill(spool, 0, 5, 1)
    assert numbers_of(spool.chunks()) == list(range(5))
    fill(spool, 5, 5, 2)
    assert numbers_of(spool.chunks()) == list(range(10))
    assert numbers_of(spool.chunks()) == list(range(10))


# Room on the disk


def test_clear_forgets_and_gives_the_room_back(spool):
    fill(spool, 0, 8192, 1)
    fill(spool, 0, 100, 1)
    spool.flush()
    assert os.fstat(spool.fileno()).st_size == 8292 * ROW_BYTES
    fill(spool, 0, 100, 1)  # not written yet
    spool.clear()
    stat = os.fstat(spool.fileno())
    assert (stat.st_size, stat.st_blocks) == (0, 0)
    assert (spool.num_rows, list(spool.chunks())) == (0, [])
    fill(spool, 7, 3, 1)
    assert numbers_of(spool.chunks()) == [7, 8, 9]


@pytest.mark.parametrize("small_disk", ["64k"], indirect=True)
def test_a_full_disk_is_noted_and_what_it_refused_is_counted(small_disk):
    with Spool(small_disk) as spool:
        number = 0
        for moment in range(10):
            number = fill(spool, number, 300, moment)
            spool.flush()
            assert spool.num_rows == number  # seen, wherever it went
        assert str(spool.error) == (
            f"keeping samples failed on {small_disk}: No space left on device. Free space there, "
            "or give another --output-dir."
        )
        kept = 65536 // ROW_BYTES  # the last one cut off
        assert numbers_of(spool.chunks()) == list(range(kept))
        assert spool.num_lost == number - kept
        # Nor is anything written once there is room again: rows would be missing in between.
        spool.clear()
        fill(spool, 0, 10, 1)
        assert list(spool.chunks()) == []
        assert spool.num_lost == 10


@pytest.mark.parametrize("size", [0, 1, ROW_BYTES - 1, ROW_BYTES, 5 * ROW_BYTES + 7])
def test_a_limit_anywhere_within_a_row(tmp_path, size):
    with Spool(tmp_path) as spool:
        with file_limit(size):
            fill(spool, 0, 10, 3)
            chunks = list(spool.chunks())
        assert spool.error.errno == errno.EFBIG
        kept = size // ROW_BYTES
        assert numbers_of(chunks) == list(range(kept))
        assert spool.num_lost == 10 - kept


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SystemCallError) as raised:
        Spool(tmp_path / "none")
    assert str(raised.value) == (
        f"keeping samples failed on {tmp_path / 'none'}: No such file or directory. Give another "
        "--output-dir."
    )


# Another process


def test_another_process_writes_what_this_one_reads(spool, tmp_path):
    fd = str(spool.fileno())
    for count in (20_000, 3):
        argv = [sys.executable, "-c", _CHILD, fd, str(tmp_path), str(count)]
        subprocess.run(argv, pass_fds=(spool.fileno(),), check=True)
        rows = np.concatenate(list(spool.chunks()))
        assert rows[:, 0].tolist() == list(range(count))
        assert (rows[:, 1:] == np.arange(1, 6)).all()
        spool.clear()
        assert list(spool.chunks()) == []


def test_a_descriptor_that_is_none_is_an_error(tmp_path):
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    os.close(write_fd)
    with pytest.raises(SystemCallError, match="Bad file descriptor"):
        Spool(tmp_path, inherited_fd=write_fd)
