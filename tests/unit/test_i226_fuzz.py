# SPDX-License-Identifier: GPL-2.0-only
"""Random register accesses, descriptors and messages: the virtual I226 lives and does not grow."""

import contextlib
import os
import random
import struct
import time

import pytest

from tests.unit import i226_kit as kit
from tests.unit.i226_kit import GUEST_BASE, MEMORY_SIZE, Client, RxRing, TxRing, ethernet

NUM_ACCESSES = 1_000_000
NUM_DESCRIPTORS = 20_000
BATCH = 2000
BAR0_SIZE = 128 * 1024
_WRITE = struct.Struct("<HHIIIQIII")
_READ = struct.Struct("<HHIIIQII")
# Registers with a meaning: where igc reads and writes.
BUSY = [
    *(0x0, 0x8, 0x10, 0x20, 0xE14, 0x12014, 0x5B50, 0x100, 0x400, 0x5818, 0x2160, 0x2168, 0x170),
    *range(0x1500, 0x1534, 4),
    *(0x1580, 0x1700, 0x1704, 0x1740, 0x3570, 0x3314, 0x3318, 0x331C, 0x5804, 0x5808, 0x580C),
    *range(0x3344, 0x3354, 4),
    *range(0x4000, 0x413C, 4),
    *range(0x5200, 0x5400, 16),
    *range(0x5400, 0x5480, 4),
    *range(0x55B0, 0x55B4, 4),
    *range(0x5C00, 0x5CD0, 4),
    *range(0x9000, 0x9E00, 32),
    *range(0xB600, 0xB6E0, 4),
    *(base + field for base in range(0xC000, 0xC100, 0x40) for field in range(0, 0x34, 4)),
    *(base + field for base in range(0xE000, 0xE100, 0x40) for field in range(0, 0x2C, 4)),
]
VALUES = [0, 1, 2, 0x1F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x02000000, 0x04000000]


def make_batch(chance, num):
    """Random accesses, as bytes; how many bytes of answers there will be."""
    words, answers = [], 0
    for _ in range(num):
        draw = chance.random()
        offset = chance.choice(BUSY) if draw < 0.7 else chance.randrange(BAR0_SIZE // 4) * 4
        if draw < 0.02:
            size = chance.choice((1, 2, 8))
            offset = min(offset + chance.randrange(4), BAR0_SIZE - size)
            words.append(_READ.pack(0, kit.REGION_READ, 32, 0, 0, offset, 0, size))
            answers += 32 + size
        elif chance.random() < 0.02:
            words.append(_READ.pack(0, kit.REGION_READ, 32, 0, 0, offset, 0, 4))
            answers += 36
        else:
            value = chance.choice(VALUES) if chance.random() < 0.4 else chance.getrandbits(32)
            if offset == 0 and chance.random() < 0.95:
                value &= ~0x04000000  # not a reset each time
            words.append(_WRITE.pack(0, kit.REGION_WRITE, 36, kit.NO_REPLY, 0, offset, 0, 4, value))
    return b"".join(words), answers


def exchange(nic, batch):
    """Send a batch and take all answers."""
    data, answers = batch
    nic.sock.sendall(data)
    while answers:
        answers -= len(nic.sock.recv(min(answers, 65536)))


def check_alive(server, nics):
    """A packet goes from port to port; the answer of each took less than a guest would bear."""
    for nic in nics:
        started = time.monotonic()
        assert nic.command(kit.RESET)[0] == 0
        assert time.monotonic() - started < 5
    for nic in nics:
        nic.set_up()
    received = RxRing(nics[1], num_given=8, count=16)
    TxRing(nics[0], count=16).send(ethernet(b"alive"))
    assert received.take_one().data[14:19] == b"alive"
    assert server.process.poll() is None


@pytest.mark.slow
def test_random_accesses(start_i226, connect_i226):
    server = start_i226()
    nics = connect_i226(server)
    chance = random.Random(0x1226)
    # The same batches in another order, and on the other port: drawing numbers is not the test.
    batches = [make_batch(chance, BATCH) for _ in range(50)]
    num_done = 0
    before = None
    while num_done < NUM_ACCESSES:
        chance.shuffle(batches)
        for index, batch in enumerate(batches):
            exchange(nics[index % 2], batch)
            num_done += BATCH
        if before is None:
            before = server.rss_kib(), server.num_fds()
    assert server.rss_kib() < before[0] + 4096
    assert server.num_fds() == before[1]
    check_alive(server, nics)


def random_descriptor(chance):
    """One that may make sense, one that hardly does, or bits."""
    addr = chance.choice(
        (
            *(GUEST_BASE + chance.randrange(MEMORY_SIZE) for _ in range(9)),
            GUEST_BASE + MEMORY_SIZE - chance.randrange(64),
            chance.getrandbits(64),
            0,
        )
    )
    draw = chance.random()
    if draw < 0.1:
        return os.urandom(16)
    if draw < 0.4:  # a context
        mss, l4_size = chance.choice((0, 1, 16, 536, 1448, 65535)), chance.choice((0, 8, 20, 255))
        first = chance.getrandbits(32) if chance.random() < 0.5 else 14 << 9 | 20
        flags = 0x20200000 | chance.choice((0, 0x400, 0x800, 0xC00, 0x1000, 0x1400))
        launch = chance.choice((0, 0, 1, chance.getrandbits(32)))
        return struct.pack("<IIII", first, launch, flags, mss << 16 | l4_size << 8 | 0x80)
    command = 0x20300000 | chance.getrandbits(20) & 0xF0000
    for bit in (0x01000000, 0x08000000, 0x40000000, 0x80000000):
        command |= bit if chance.random() < 0.7 else 0
    size = chance.choice((0, 1, 13, 14, 60, 1514, 9000, 65535))
    return struct.pack("<QII", addr, command | size, chance.getrandbits(32) & 0x3FF)


def place_ring(nic, chance, base, queue, ring):
    """Let a queue have its ring somewhere: mostly where ``ring`` is."""
    step = 0x40 * queue
    size = chance.choice((0, 8, 16, 128, *[4096] * 8, 0xFFFFF0, 0xFFFFFFFF))
    addr = chance.choice(
        (*[ring] * 8, 0, chance.getrandbits(64), GUEST_BASE + MEMORY_SIZE - 128, READ_ONLY)
    )
    nic.write(base + 0x28 + step, 0)
    nic.write(base + step, addr & 0xFFFFFFFF)
    nic.write(base + 4 + step, addr >> 32)
    nic.write(base + 8 + step, size)
    nic.write(base + 0x10 + step, chance.choice((0, 0, 0, 255, chance.getrandbits(17))))
    nic.write(base + 0x28 + step, chance.choice((0, 0x02000000, 0x02000000, 0x02000000)))
    nic.write(base + 0x18 + step, chance.choice((0, 1, 255, 255, 0xFFFF, chance.getrandbits(32))))


READ_ONLY = 0x7_0000_0000


@pytest.mark.slow
def test_random_descriptors(start_i226, connect_i226):
    server = start_i226()
    nics = connect_i226(server)
    chance = random.Random(0x1227)
    for nic in nics:
        assert nic.map(READ_ONLY, MEMORY_SIZE, nic.fd, flags=1) == 0
        nic.write(0x3570, 1)
        nic.enable_stamps()
    rings = [nics[0].allocate(4096) for _ in range(8)]
    before = None
    num_done = 0
    while num_done < NUM_DESCRIPTORS:
        for queue, start in enumerate(rings):
            nic = nics[queue & 1]
            descriptors = b"".join(random_descriptor(chance) for _ in range(256))
            nic.memory[start : start + 4096] = descriptors
            num_done += 256
            nic.write(0x3344 + 4 * (queue >> 1), chance.random() < 0.1)  # launch times
            place_ring(nic, chance, 0xE000, queue >> 1, GUEST_BASE + start)
            place_ring(nics[1 - (queue & 1)], chance, 0xC000, queue >> 1, GUEST_BASE + start)
            nic.write(kit.RCTL, 0x0400801A)
            nic.write(kit.CTRL, chance.choice((0, 0x40000000, 0x18000000)))
            end = time.monotonic() + 0.01
            while time.monotonic() < end:
                started = time.monotonic()
                nic.read(kit.STATUS)
                assert time.monotonic() - started < 5
            for slot in range(4):
                nic.stamp(slot)
        if before is None:
            before = server.rss_kib(), server.num_fds()
    assert server.rss_kib() < before[0] + 8192
    assert server.num_fds() == before[1]
    # It was not for nothing: packets were sent, and received.
    assert sum(nic.read(kit.GPTC) for nic in nics) > 1000
    assert sum(nic.read(kit.GPRC) for nic in nics) > 1000
    assert server.control(state=None)["num_bad"] > 100
    check_alive(server, nics)


@pytest.mark.slow
def test_random_messages(start_i226, connect_i226):
    # What a client sends need not make sense either; it may be let go, and the next one is served.
    server = start_i226(complaint=None)
    chance = random.Random(0x1228)
    other = Client(server.paths[1])
    other.read(kit.STATUS)
    before = server.num_fds()
    event = os.eventfd(0)
    for _ in range(300):
        with contextlib.closing(Client(server.paths[0])) as client:
            client.read(kit.STATUS)
            for _ in range(20):
                payload = os.urandom(chance.choice((0, 1, 8, 16, 20, 24, 32, 36, 100)))
                if chance.random() < 0.5:  # small numbers are more likely to mean something
                    payload = bytes(byte if chance.random() < 0.3 else 0 for byte in payload)
                fds = [event] * chance.choice((0, 0, 0, 1, 2))
                command = chance.choice((*range(16), 99))
                try:
                    client.send(command, payload, fds, chance.choice((0, kit.NO_REPLY)))
                except OSError:
                    break  # let go
        other.until(lambda: server.num_fds() == before, "the end of its descriptors")
    other.close()
    os.close(event)
    assert "Traceback" not in server.errors
    check_alive(server, connect_i226(server))
