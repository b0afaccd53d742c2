# SPDX-License-Identifier: GPL-2.0-only
"""The virtual I226's process: vfio-user, its clients, its command line, its end."""

import errno
import json
import os
import signal
import struct
import subprocess
import sys

import pytest

from tests.unit import i226_kit as kit
from tests.unit.i226_kit import GUEST_BASE, HEADER, LIMIT_S, Client
from xdptstamp.lab.i226.__main__ import main

PAGE = 4096


@pytest.fixture
def client(i226):
    client = Client(i226.paths[0])
    yield client
    client.close()


@pytest.fixture
def memory():
    fd = os.memfd_create("memory")
    os.ftruncate(fd, 4 * PAGE)
    yield fd
    os.close(fd)


def version(client, text, major=0):
    return client.command(kit.VERSION, struct.pack("<HH", major, 1) + text)


def test_the_version_offers_what_was_asked_for(client):
    asked = {"capabilities": {"max_data_xfer_size": 1048576, "pgsizes": 4096, "other": {}}}
    error, payload = version(client, json.dumps(asked).encode() + b"\0")
    assert (error, struct.unpack_from("<HH", payload)) == (0, (0, 0))
    answer = json.loads(payload[4:].rstrip(b"\0"))
    assert answer == {"capabilities": {"max_data_xfer_size": 1 << 20, "pgsizes": 4096}}


@pytest.mark.parametrize(
    "text",
    [b"", b"[]\0", b'{"capabilities": 5}\0', b'{"capabilities": null}\0', b'"x"\0', b"7\0"],
)
def test_a_version_without_capabilities_is_answered(client, text):
    error, payload = version(client, text)
    assert (error, payload[4:]) == (0, b'{"capabilities": {}}\0')


@pytest.mark.parametrize("text", [b"{\0", b"\xff\xfe\0", b"[" * 100_000])
def test_a_version_that_is_no_json_is_an_error(client, text):
    assert version(client, text) == (errno.EINVAL, b"")
    assert version(client, b"")[0] == 0


def test_another_major_version_is_an_error(client):
    assert version(client, b"", major=1)[0] == errno.EPROTONOSUPPORT


def test_the_device_is_a_pci_device_with_its_regions_and_interrupts(client):
    info = client.checked(kit.GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
    assert struct.unpack("<IIII", info) == (16, 3, 9, 5)
    sizes = {}
    for index in range(9):
        region = client.checked(kit.GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0))
        _, flags, number, _, size, _ = struct.unpack("<IIIIQQ", region)
        assert (number, bool(size)) == (index, flags == 3)
        sizes[index] = size
    assert {index: size for index, size in sizes.items() if size} == {
        0: 128 * 1024,
        3: 16 * 1024,
        7: 4096,
    }
    counts = []
    for index in range(5):
        irq = client.checked(kit.GET_IRQ_INFO, struct.pack("<IIII", 16, 0, index, 0))
        counts.append(struct.unpack("<IIII", irq)[3])
    assert counts == [0, 0, 5, 0, 0]


def test_the_config_space_is_an_i226(client):
    data = client.checked(kit.REGION_READ, struct.pack("<QII", 0, 7, 256))[16:]
    assert struct.unpack_from("<HH", data) == (0x8086, 0x125B)  # IGC_DEV_ID_I226_LM
    assert data[9:12] == b"\0\0\x02"
    capabilities, where = {}, data[0x34]
    while where:
        capabilities[data[where]] = where
        where = data[where + 1]
    assert set(capabilities) == {0x01, 0x10, 0x11}  # power, PCI Express, MSI-X
    assert struct.unpack_from("<H", data, capabilities[0x11] + 2)[0] & 0x7FF == 4
    client.write(0, 0xFFFFFFFF, region=7)  # who it is does not change
    client.write(4, 0xFFFF, size=2, region=7)
    assert client.read(0, region=7) == 0x125B8086
    assert client.read(4, size=2, region=7) == 0x0547
    assert client.command(kit.RESET)[0] == 0
    assert client.read(4, size=2, region=7) == 0


@pytest.mark.parametrize("command", [0, 6, 11, 12, 99, 0xFFFF])
def test_an_unknown_command_is_an_error(client, command):
    assert client.command(command)[0] == errno.ENOSYS


@pytest.mark.parametrize(
    "command", [kit.DMA_MAP, kit.DMA_UNMAP, kit.SET_IRQS, kit.REGION_READ, kit.GET_IRQ_INFO]
)
def test_a_command_without_its_fields_is_an_error(client, command):
    assert client.command(command, b"\x01\0")[0] == errno.EINVAL


@pytest.mark.parametrize(
    ("offset", "region", "count"),
    [(1 << 17, 0, 4), ((1 << 17) - 2, 0, 4), (0, 1, 4), (0, 99, 1), (1 << 63, 0, 4), (4095, 7, 2)],
)
def test_an_access_outside_of_a_region_is_an_error(client, offset, region, count):
    fields = struct.pack("<QII", offset, region, count)
    assert client.command(kit.REGION_READ, fields)[0] == errno.EINVAL
    assert client.command(kit.REGION_WRITE, fields + bytes(count))[0] == errno.EINVAL


def test_a_write_of_less_than_announced_is_an_error(client):
    assert client.command(kit.REGION_WRITE, struct.pack("<QII", 0, 0, 8) + b"1234")[0] != 0


def test_unknown_interrupts_are_an_error(client):
    for index, flags, start, count in (
        (2, 0x24, 0, 6),
        (2, 0x24, 4, 2),
        (2, 0x24, 0, 0xFFFFFFFF),
        (2, 0x21, 0xFFFFFFFF, 0xFFFFFFFF),
        (2, 0x08, 0, 1),  # mask
        (0, 0x24, 0, 1),
        (99, 0x24, 0, 1),
    ):
        irqs = struct.pack("<IIIII", 20, flags, index, start, count)
        assert client.command(kit.SET_IRQS, irqs)[0] == errno.EINVAL, (index, flags, start, count)


def test_interrupts_are_set_triggered_and_taken_away(client):
    def set_irqs(flags, start, count, fds=(), data=b""):
        irqs = struct.pack("<IIIII", 20, flags, 2, start, count)
        client.checked(kit.SET_IRQS, irqs + data, fds)

    def signals():
        return [os.eventfd_read(fd) - 1 for fd in fds if os.eventfd_write(fd, 1) is None]

    fds = [os.eventfd(0) for _ in range(5)]
    set_irqs(0x24, 0, 5, fds)
    set_irqs(0x21, 1, 2)  # trigger, no data
    set_irqs(0x22, 0, 5, data=b"\1\0\0\1\0")  # bools
    assert signals() == [1, 1, 1, 1, 0]
    set_irqs(0x24, 3, 1)  # no descriptor: this one is off
    set_irqs(0x21, 0, 5)
    assert signals() == [1, 1, 1, 0, 1]
    set_irqs(0x21, 0, 0)  # all off
    set_irqs(0x21, 0, 5)
    assert signals() == [0] * 5
    for fd in fds:
        os.close(fd)


def test_an_eventfd_that_is_none_is_the_clients_loss(client, memory):
    reading, writing = os.pipe()
    os.close(reading)
    for fd in (writing, memory, os.open("/dev/full", os.O_RDWR)):
        client.checked(kit.SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, 0, 1), [fd])
        client.checked(kit.SET_IRQS, struct.pack("<IIIII", 20, 0x21, 2, 0, 1))
        if fd != memory:
            os.close(fd)
    assert client.read(kit.STATUS) & 1


def test_memory_is_mapped_once_and_unmapped_by_its_limits(client, memory):
    assert client.map(GUEST_BASE, 2 * PAGE, memory) == 0
    assert client.map(GUEST_BASE + PAGE, 2 * PAGE, memory) == errno.EEXIST
    assert client.map(GUEST_BASE + 2 * PAGE, 2 * PAGE, memory, offset=2 * PAGE) == 0
    assert client.unmap(GUEST_BASE, PAGE) == errno.ENOENT
    assert client.unmap(GUEST_BASE, 2 * PAGE) == 0
    assert client.unmap(GUEST_BASE, 2 * PAGE) == errno.ENOENT
    assert client.map(GUEST_BASE, 2 * PAGE, None) == 0  # known, and not reachable
    assert client.unmap(0, 0, flags=2) == 0  # all
    assert client.map(GUEST_BASE, 4 * PAGE, memory, flags=1) == 0


@pytest.mark.parametrize(
    ("addr", "size", "offset"),
    [
        (GUEST_BASE, 0, 0),
        (GUEST_BASE, 5 * PAGE, 0),  # beyond the end of its file
        (GUEST_BASE, PAGE, 4 * PAGE),
        (GUEST_BASE, PAGE, 17),
        (GUEST_BASE, (1 << 64) - PAGE, 0),
        ((1 << 64) - PAGE, 2 * PAGE, 0),
        (GUEST_BASE, PAGE, (1 << 64) - PAGE),
    ],
)
def test_impossible_memory_is_an_error(client, memory, addr, size, offset):
    assert client.map(addr, size, memory, offset=offset) == errno.EINVAL


def test_a_descriptor_that_cannot_be_mapped_is_an_error(client, memory):
    reading, writing = os.pipe()
    read_only = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
    assert client.map(GUEST_BASE, PAGE, reading) == errno.EINVAL
    assert client.map(GUEST_BASE, PAGE, read_only) == errno.EACCES
    assert client.map(GUEST_BASE, PAGE, read_only, flags=1) == 0
    for fd in (reading, writing, read_only):
        os.close(fd)


def test_no_reply_where_none_is_wanted(client):
    client.send(kit.REGION_WRITE, struct.pack("<QIII", 0x1524, 0, 4, 0x5), flags=kit.NO_REPLY)
    client.send(99, b"", flags=kit.NO_REPLY)  # not even that it is unknown
    client.send(kit.RESET, b"", flags=0x11)  # a reply to nothing
    assert client.read(0x1524) == 0x5


def test_messages_arrive_in_pieces_and_together(client):
    read = HEADER.pack(7, kit.REGION_READ, 32, 0, 0) + struct.pack("<QII", 8, 0, 4)
    for byte in read[:-1]:
        client.sock.sendall(bytes([byte]))
    client.sock.sendall(read[-1:] + read * 3)
    size = HEADER.size + 20
    answers = b""
    while len(answers) < 4 * size:
        answers += client.sock.recv(4096)
    assert answers == answers[:size] * 4


def test_descriptors_are_not_leaked(i226, client, memory):
    client.read(kit.STATUS)
    before = i226.num_fds()
    event = os.eventfd(0)
    for _ in range(50):
        assert client.map(GUEST_BASE, PAGE, memory) == 0
        assert client.map(GUEST_BASE, PAGE, memory) == errno.EEXIST
        assert client.unmap(GUEST_BASE, PAGE) == 0
        client.checked(kit.SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, 0, 1), [event] * 3)
        client.command(kit.SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, 0, 9), [event])
        client.checked(kit.SET_IRQS, struct.pack("<IIIII", 20, 0x21, 2, 0, 0))
    os.close(event)
    assert i226.num_fds() == before


@pytest.mark.parametrize(
    "size",
    [0, 15, 0xFFFFFFFF],
)
def test_who_breaks_the_protocol_is_let_go_and_the_next_one_served(start_i226, size, memory):
    server = start_i226(complaint=f"i226: client of port 0: a message of {size} bytes")
    broken, waiting = Client(server.paths[0]), Client(server.paths[0])
    assert broken.map(GUEST_BASE, PAGE, memory) == 0
    broken.write(0x5400, 0x12345678)
    broken.sock.sendall(HEADER.pack(1, kit.REGION_READ, size, 0, 0))
    assert broken.sock.recv(1) == b""
    # As after power-on: memory and registers are the next one's own.
    assert waiting.map(GUEST_BASE, PAGE, memory) == 0
    assert waiting.read(0x5400) != 0x12345678
    for client in (broken, waiting):
        client.close()


def test_who_sends_descriptors_that_nothing_needs_is_let_go(start_i226, memory):
    text = "i226: client of port 0: file descriptors that no message needs"
    server = start_i226(complaint=text)
    client, other = Client(server.paths[0]), Client(server.paths[1])
    for each in (client, other):
        each.read(kit.STATUS)
    before = server.num_fds()
    with pytest.raises(ConnectionError):
        for _ in range(20):
            client.send(kit.GET_INFO, b"", [memory] * 3)
            client.reply(kit.GET_INFO)
    other.until(lambda: server.num_fds() == before - 1, "the end of its descriptors")
    for each in (client, other):
        each.close()


def test_who_takes_no_answers_does_not_stop_the_other_port(start_i226):
    server = start_i226(complaint="i226: client of port 0: does not take an answer: timed out")
    deaf, other = Client(server.paths[0]), Client(server.paths[1])
    other.read(kit.STATUS)
    question = HEADER.pack(1, kit.REGION_READ, 32, 0, 0) + struct.pack("<QII", 0, 7, 4096)
    deaf.sock.settimeout(LIMIT_S)
    with pytest.raises(OSError):  # let go, in the end
        while True:
            deaf.sock.sendall(question)
    assert other.read(kit.STATUS) & 1
    for client in (deaf, other):
        client.close()


def test_the_end_of_stdin_ends_it(start_i226):
    server = start_i226()
    server.process.stdin.close()
    assert server.process.wait(LIMIT_S) == 0


def test_sigterm_ends_it_though_nothing_happens(start_i226):
    server = start_i226()
    server.process.send_signal(signal.SIGINT)  # not this one
    server.control(state=None)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(LIMIT_S) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed", "40"], "--speed"),
        (["--delay", "25"], "'25' is no duration"),
        (["--delay=-1us"], "not in the future"),
        (["--delay", "9" * 400 + "s"], "longer than a year"),
        (["--timestamp-delay", "5us..1us"], "is no delay"),
        (["--mac", "zz"], "hex"),
        (["--mac", "010203040506"], "a MAC has six bytes and is no group's"),
        (["--mac", "02:78:64:22:06"], "a MAC has six bytes"),
        (["--mac", "02:78:64:22:06:07"] * 2, "not more MACs than ports"),
        (["--socket", "b", "--socket", "c"], "one or two ports"),
        (["--fault", "lose-everything"], "no fault 'lose-everything'; there are delay-stamp"),
        (["--fault", "slow-head"], "needs delay="),
        (["--fault", "wrong-phy:by=much"], "no duration"),
        (["--fault", "drop-rx:port=1"], "fault drop-rx: there is no port 1"),
    ],
)
def test_bad_arguments_are_told(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["i226", "--socket", str(tmp_path / "a.sock"), *arguments])
    try:
        code = main()
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--truth", "/nowhere/truth.csv"], "/nowhere/truth.csv"),
        (["--control", "/nowhere/control"], "no socket at /nowhere/control"),
        (["--control", "/" + "x" * 200], "AF_UNIX path too long"),
        ([], "stdin has to be a pipe or a terminal: this ends when it does"),
    ],
)
def test_what_cannot_be_opened_is_told(tmp_path, arguments, message):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "xdptstamp.lab.i226"),
            *("--socket", str(tmp_path / "a.sock"), *arguments),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
