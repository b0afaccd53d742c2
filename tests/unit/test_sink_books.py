# SPDX-License-Identifier: GPL-2.0-only
"""A sink's books of whole batches against an oracle that takes packets one by one."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdptstamp import stream
from xdptstamp.measure import sink_books
from xdptstamp.measure.sink import num_frames
from xdptstamp.measure.sink_books import SinkBooks
from xdptstamp.measure.sink_report import SinkReport, StreamCounts

FRAME_LEN = 60
SMALL_WINDOW = 8


def packets(numbers, stream_id=1, pattern=(0, 0), is_stamped=None):
    """Payloads as the sender makes them; ``numbers`` count on beyond 31 bits."""
    numbers = np.asarray(numbers, dtype=np.int64)
    if is_stamped is None:
        period = max(sum(pattern), 1)
        is_stamped = numbers % period < pattern[0]
    first = stream.first_payload(stream_id, pattern, stream.LEN)
    data = np.frombuffer(bytearray(first * len(numbers)), dtype=stream.DTYPE)
    words = stream.words(numbers, np.asarray(is_stamped, dtype=np.bool_)).view(">u4")
    data["word"], data["complement"] = words[::2], words[1::2]
    return data


def take(books, payloads):
    books.add(payloads, np.full(len(payloads), FRAME_LEN))


def counts_of(*batches, **options):
    """The counts of one stream after these batches of numbers."""
    books = SinkBooks()
    for numbers in batches:
        take(books, packets(numbers, **options))
    (counts,) = books.counts().values()
    return counts


class Oracle:
    """One stream, packet by packet, all numbers kept for ever."""

    def __init__(self, window):
        self.counts = StreamCounts()
        self._window = window
        self._seen = set()

    def add(self, number, is_stamped, pattern):
        counts, highest = self.counts, self.counts.span - 1
        if number <= highest - self._window or number < 0:
            counts.too_late += 1
        elif number in self._seen:
            counts.duplicates += 1
        else:
            self._seen.add(number)
            counts.received += 1
            counts.bytes += FRAME_LEN
            counts.stamped += is_stamped
            counts.reordered += number < highest
            if sum(pattern):
                counts.pattern_errors += is_stamped != (number % sum(pattern) < pattern[0])
            counts.span = max(counts.span, number + 1)


# About a stream's next number: most in order, others some way ahead or behind.
STEPS = st.one_of(st.just(0), st.integers(-12, 12))
PACKETS = st.tuples(
    st.sampled_from((3, 4, 0xFFFFFFFF)),
    STEPS,
    st.booleans(),
    st.sampled_from(("good", "good", "good", "good", "damaged", "foreign")),
)
PATTERNS = {3: (1, 2), 4: (0, 0), 0xFFFFFFFF: (2, 1)}
# Where the streams stand before: at their start, about the wrap, and far beyond it.
STARTS = st.sampled_from((0, stream.NUMBER_SPAN - 15, 5 * stream.NUMBER_SPAN - 3))


@given(st.lists(st.lists(PACKETS, max_size=40), max_size=6), STARTS)
def test_any_packets_in_any_batches(batches, start):
    with mock.patch.object(sink_books, "WINDOW", SMALL_WINDOW):
        books, oracles, foreign = SinkBooks(), {}, 0
        for stream_id in PATTERNS if start else ():
            oracles[stream_id] = bring_to(books, stream_id, start)
        for batch in batches:
            rows, damaged = [], []
            for stream_id, step, is_stamped, kind in batch:
                oracle = oracles.get(stream_id) or Oracle(SMALL_WINDOW)
                number = max(0, oracle.counts.span + step)
                row = packets([number], stream_id, PATTERNS[stream_id], [is_stamped])
                if kind == "good":
                    oracles[stream_id] = oracle
                    oracle.add(number, is_stamped, PATTERNS[stream_id])
                elif kind == "damaged":
                    row["complement"] ^= 1 << 20
                    damaged.append(stream_id)
                else:
                    row["magic"] ^= 1
                    foreign += 1
                rows.append(row)
            # Judged after the good ones of its batch: a stream may have begun in it.
            for stream_id in damaged:
                if stream_id in oracles:
                    oracles[stream_id].counts.corrupted += 1
                else:
                    foreign += 1
            if rows:
                take(books, np.concatenate(rows))
    assert books.counts() == {key: oracle.counts for key, oracle in oracles.items()}
    assert books.foreign == foreign
    placed = foreign + sum(counts.packets for counts in books.counts().values())
    assert placed == sum(map(len, batches)) + sum(
        oracle.prelude for oracle in oracles.values() if start
    )


def bring_to(books, stream_id, start):
    """A stream that has come to ``start`` in the greatest jumps that can be told from going back;
    its oracle."""
    oracle = Oracle(SMALL_WINDOW)
    numbers = [*range(0, start, stream.NUMBER_SPAN // 2 - 1), start]
    for number in numbers:
        take(books, packets([number], stream_id, PATTERNS[stream_id], [False]))
        oracle.add(number, False, PATTERNS[stream_id])
    oracle.prelude = len(numbers)
    return oracle


@given(st.lists(st.integers(0, 5000), unique=True, min_size=1), st.integers(1, 700))
def test_gaps_are_counted_whatever_the_batches(numbers, size):
    batches = [sorted(numbers)[at : at + size] for at in range(0, len(numbers), size)]
    counts = counts_of(*batches)
    assert counts.missing == max(numbers) + 1 - len(numbers)
    assert (counts.received, counts.span) == (len(numbers), max(numbers) + 1)
    assert counts.reordered == counts.duplicates == counts.too_late == 0


def test_everything_in_order():
    assert counts_of(range(2048), range(2048, 4000)) == StreamCounts(
        received=4000, span=4000, bytes=4000 * FRAME_LEN
    )


def test_reordered_are_those_that_came_after_a_greater_number():
    counts = counts_of([0, 1, 4, 2, 3, 5])
    assert (counts.received, counts.reordered, counts.missing) == (6, 2, 0)


@pytest.mark.parametrize("batches", [([0, 1, 2, 1, 1],), ([0, 1, 2], [1], [1])])
def test_a_number_that_comes_three_times_is_two_duplicates(batches):
    counts = counts_of(*batches)
    assert (counts.received, counts.duplicates, counts.reordered) == (3, 2, 0)


def test_the_window_is_as_wide_as_it_says():
    edge = sink_books.WINDOW
    within = counts_of([0, edge], [1, 1])
    assert (within.received, within.reordered, within.duplicates) == (3, 1, 1)
    behind = counts_of([0, edge], [0])
    assert (behind.received, behind.too_late, behind.missing) == (2, 1, edge - 1)


def test_a_jump_wider_than_the_window_leaves_nothing_of_it():
    far = 5 * sink_books.WINDOW
    counts = counts_of([0, 1, 2, far], [far - 3, far - 2, far - 1], range(far + 1, far + 100))
    assert (counts.received, counts.reordered, counts.duplicates) == (106, 3, 0)
    assert counts.missing == far - 6


def test_the_pattern_goes_on_where_numbers_begin_again():
    numbers = np.arange(stream.NUMBER_SPAN - 50, stream.NUMBER_SPAN + 50)
    half = [stream.NUMBER_SPAN // 2 - 1, stream.NUMBER_SPAN - 51]
    counts = counts_of([0], *[[number] for number in half], numbers, pattern=(3, 4))
    assert counts.pattern_errors == 0
    assert counts.span == stream.NUMBER_SPAN + 50
    assert counts.stamped == sum(n % 7 < 3 for n in (0, *half, *numbers))


def test_requests_that_break_the_pattern():
    is_stamped = np.arange(22) % 11 < 1
    is_stamped[[0, 5]] ^= True  # one missing, one too many
    counts = counts_of(range(22), pattern=(1, 10), is_stamped=is_stamped)
    assert (counts.pattern_errors, counts.stamped) == (2, 2)


def test_more_streams_than_are_kept_are_foreign():
    with mock.patch.object(sink_books, "MAX_STREAMS", 2):
        books = SinkBooks()
        for stream_id in (7, 8, 9, 7):
            take(books, packets(range(3), stream_id))
        assert list(books.counts()) == [7, 8]
        assert books.foreign == 3
        books.forget(8)
        books.forget(8)
        take(books, packets(range(5), 9))
    assert {key: counts.received for key, counts in books.counts().items()} == {7: 3, 9: 5}
    assert (books.foreign, books.forgotten) == (3, 3)


def test_damage_alone_begins_no_stream():
    books = SinkBooks()
    payloads = packets(range(3))
    payloads["word"] ^= 2
    take(books, payloads)
    assert (books.counts(), books.foreign) == ({}, 3)
    take(books, packets([]))
    take(books, packets([0]))
    take(books, payloads)
    (counts,) = books.counts().values()
    assert (counts.corrupted, counts.received) == (3, 1)


def test_a_report_survives_json():
    report = SinkReport(
        streams={0xFFFFFFFF: StreamCounts(received=5, span=9)}, ring={"left": 1}, unaccounted=-2
    )
    assert SinkReport.from_json({"type": "report", **report.to_json()}) == report
    assert report.stream(0xFFFFFFFF).missing == 4
    assert report.stream(1) == StreamCounts()


@pytest.mark.parametrize(("num_queues", "frames"), [(1, 8192), (2, 8192), (3, 4096), (64, 2048)])
def test_frames_of_a_queue(num_queues, frames):
    assert num_frames(num_queues) == frames
