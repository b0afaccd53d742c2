# SPDX-License-Identifier: GPL-2.0-only
"""A driver of the virtual I226 for tests: the real server process, real sockets and memory.

No QEMU and no igc: registers, rings and descriptors are written here as igc writes them (igc_main.c
and igc_ptp.c), with numbers of their own, so that a wrong one in the model is noticed.
"""

import contextlib
import csv
import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 20
GUEST_BASE = 0x1_0000_0000
MEMORY_SIZE = 8 << 20
NUM_VECTORS = 5
MACS = (bytes.fromhex("027864220600"), bytes.fromhex("027864220601"))
BROADCAST = b"\xff" * 6
# IGC_I225_TX_LATENCY_*, IGC_I225_RX_LATENCY_* (igc.h, v7.3): what igc adds and subtracts.
TX_NS = {10: 240, 100: 58, 1000: 80, 2500: 1325}
RX_NS = {10: 6450, 100: 185, 1000: 300, 2500: 1485}

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO = 1, 2, 3, 4, 5
GET_IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE, RESET = 7, 8, 9, 10, 13
NO_REPLY = 0x10
HEADER = struct.Struct("<HHIII")

CTRL, STATUS, RCTL, TCTL, MRQC = 0x0, 0x8, 0x100, 0x400, 0x5818
ICR, ICS, IMS, IMC, GPIE = 0x1500, 0x1504, 0x1508, 0x150C, 0x1514
EICS, EIMS, EIMC, EIAC, EIAM, EICR = 0x1520, 0x1524, 0x1528, 0x152C, 0x1530, 0x1580
IVAR0, IVAR_MISC = 0x1700, 0x1740
TSYNCTXCTL, TSYNCRXCTL, TSICR, TSIM = 0xB614, 0xB620, 0xB66C, 0xB674
SYSTIML, SYSTIMH, TIMINCA, TIMADJ, TSAUXC = 0xB600, 0xB604, 0xB608, 0xB60C, 0xB640
TXSTMPL = (0xB618, 0xB698, 0xB6B8, 0xB6D8)
TXSTMPH = tuple(offset + 4 for offset in TXSTMPL)
GPTC, GPRC, MPC = 0x4080, 0x4074, 0x4010

RCTL_DEFAULT = 0x04008012  # EN, MPE, BAM, SECRC: as igc_setup_rctl, with all multicasts
CMD_DATA = 0x2B300000  # DEXT, RS, IFCS, EOP, data
CMD_EOP, CMD_VLE, CMD_TSE, CMD_STAMP = 0x01000000, 0x40000000, 0x80000000, 0x00080000
IXSM, TXSM = 0x100, 0x200


class Server:
    """The process of the device, with its sockets in ``folder``."""

    def __init__(self, folder, *arguments, num_ports=2):
        self.paths = [folder / f"port{number}.sock" for number in range(num_ports)]
        self.control_path = folder / "control.sock"
        self.truth_path = folder / "truth.csv"
        self.errors_path = folder / "errors.txt"
        sockets = [word for path in self.paths for word in ("--socket", str(path))]
        with self.errors_path.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "xdptstamp.lab.i226", *sockets),
                    *("--control", str(self.control_path), "--truth", str(self.truth_path)),
                    *arguments,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        if self.process.stdout.readline() != "ready\n":
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"the server did not start: {self.errors}")

    @property
    def errors(self):
        """What it wrote to stderr."""
        return self.errors_path.read_text(encoding="utf-8")

    def control(self, **request):
        """The answer of the control socket to one request."""
        return json.loads(self.control_lines(json.dumps(request))[0])

    def control_lines(self, *lines):
        """The answers to lines as they are."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT_S)
            sock.connect(str(self.control_path))
            sock.sendall("".join(f"{line}\n" for line in lines).encode())
            with sock.makefile() as answers:
                return [answers.readline() for _ in lines]

    def truth(self):
        """The lines of the truth log so far."""
        with self.truth_path.open(encoding="ascii", newline="") as file:
            return list(csv.DictReader(file))

    def num_fds(self):
        """Open file descriptors of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rss_kib(self):
        """Resident memory without what is shared with the guest, in KiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])

    def cpu_s(self):
        """Processor time used so far, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """End it by its stdin; the exit code."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            return self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


class Client:
    """The client's side of one vfio-user socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(str(path))
        self._number = 0

    def close(self):
        """Hang up."""
        self.sock.close()

    def command(self, command, payload=b"", fds=(), flags=0):
        """Send one message; (error, payload) of its reply."""
        self.send(command, payload, fds, flags)
        return self.reply(command)

    def send(self, command, payload=b"", fds=(), flags=0):
        """Send one message."""
        self._number = (self._number + 1) & 0xFFFF
        header = HEADER.pack(self._number, command, HEADER.size + len(payload), flags, 0)
        socket.send_fds(self.sock, [header + payload], list(fds))

    def reply(self, command):
        """(error, payload) of the reply to the last message."""
        number, answered, size, flags, error = HEADER.unpack(self._receive(HEADER.size))
        assert (number, answered, flags & 0xF) == (self._number, command, 1)
        assert bool(flags & 0x20) == bool(error)
        return error, self._receive(size - HEADER.size)

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise ConnectionError("the server hung up")
            data += part
        return data

    def checked(self, command, payload=b"", fds=()):
        """The payload of a reply that is no error."""
        error, data = self.command(command, payload, fds)
        assert error == 0, os.strerror(error)
        return data

    def read(self, offset, size=4, region=0):
        """A register as an integer."""
        data = self.checked(REGION_READ, struct.pack("<QII", offset, region, size))
        return int.from_bytes(data[16:], "little")

    def write(self, offset, value, size=4, region=0):
        """Write a register as QEMU does: without an answer."""
        data = struct.pack("<QII", offset, region, size) + value.to_bytes(size, "little")
        self.send(REGION_WRITE, data, flags=NO_REPLY)

    def put(self, offset, value):
        """Write a register and wait until it has been."""
        self.write(offset, value)
        self.read(STATUS)

    def map(self, addr, size, fd, flags=3, offset=0):
        """Let the device reach ``fd`` at ``addr``; the error."""
        fds = () if fd is None else (fd,)
        return self.command(DMA_MAP, struct.pack("<IIQQQ", 32, flags, offset, addr, size), fds)[0]

    def unmap(self, addr, size, flags=0):
        """Take memory away again; the error."""
        return self.command(DMA_UNMAP, struct.pack("<IIQQ", 24, flags, addr, size))[0]

    def until(self, condition, what="it"):
        """Wait for ``condition``: the server goes round once for each register that is read."""
        end = time.monotonic() + LIMIT_S
        while not (result := condition()):
            assert time.monotonic() < end, f"{what} does not come"
            self.read(STATUS)
        return result

    def settle(self):
        """Everything that was asked for has been done, as far as it is not for later.

        The server goes round a few times, and what was on the wire has arrived.
        """
        end_ns = time.monotonic_ns() + 100_000
        for _ in range(4):
            self.read(STATUS)
        while time.monotonic_ns() < end_ns:
            self.read(STATUS)


class Nic(Client):
    """A port as a driver has set it up: memory, vectors 0 (other) and 1 to 4 (queues)."""

    def __init__(self, path, mac):
        super().__init__(path)
        self.mac = mac
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, MEMORY_SIZE)
        self.memory = mmap.mmap(self.fd, MEMORY_SIZE)
        self._next = 0
        self.vectors = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(NUM_VECTORS)]
        assert self.map(GUEST_BASE, MEMORY_SIZE, self.fd) == 0
        irqs = struct.pack("<IIIII", 20, 0x24, 2, 0, NUM_VECTORS)
        self.checked(SET_IRQS, irqs, self.vectors)
        self.set_up()

    def set_up(self):
        """What a driver does after a reset, but for its rings."""
        self.write(4, 0x0406, size=2, region=7)  # memory, bus master
        self.write(GPIE, 0xC0000011)  # MSI-X, EIAME, PBA, NSICR
        self.write(IVAR_MISC, 0x8000)
        for pair in range(2):
            first = 2 * pair + 1 | 0x80
            second = 2 * pair + 2 | 0x80
            self.write(IVAR0 + 4 * pair, first | first << 8 | second << 16 | second << 24)
        for offset in (EIAC, EIAM, EIMS):
            self.write(offset, 0x1F)
        self.write(RCTL, RCTL_DEFAULT)
        self.write(TCTL, 0x2)
        self.settle()

    def close(self):
        """Hang up, and give everything back."""
        super().close()
        self.memory.close()
        for fd in (self.fd, *self.vectors):
            os.close(fd)

    def allocate(self, size):
        """Offset of memory in its own pages."""
        start = self._next
        self._next += -(-size // 4096) * 4096
        assert self._next <= MEMORY_SIZE
        return start

    def signals(self, vector):
        """How often a vector was raised since the last call."""
        try:
            return os.eventfd_read(self.vectors[vector])
        except BlockingIOError:
            return 0

    def wait_for_vector(self, vector):
        """Wait until it is raised."""
        readable, _, _ = select.select([self.vectors[vector]], [], [], LIMIT_S)
        assert readable, f"vector {vector} is not raised"
        return self.signals(vector)

    def enable_stamps(self):
        """As igc_ptp_enable_tx_timestamp and _rx_timestamp: timer 1 first, then timer 0."""
        self.write(TSYNCTXCTL, 0x30)
        for queue in range(4):
            offset = 0xC00C + 0x40 * queue
            self.write(offset, self.read(offset) | 0x40004000)
        self.write(TSYNCRXCTL, 0x418)

    def set_time(self, reading_ns):
        """As igc_ptp_write_i225."""
        self.write(SYSTIML, reading_ns % 10**9)
        self.write(SYSTIMH, reading_ns // 10**9)

    def time(self, timer=0):
        """As igc_ptp_read."""
        low = self.read((SYSTIML, 0xB688)[timer])
        return self.read((SYSTIMH, 0xB68C)[timer]) * 10**9 + low

    def stamp(self, slot):
        """A Tx stamp register; reading it frees it."""
        low = self.read(TXSTMPL[slot])
        return self.read(TXSTMPH[slot]) * 10**9 + low


class TxRing:
    """One Tx queue as igc_configure_tx_ring sets it up."""

    def __init__(self, nic, queue=0, count=256, buffer_size=2048):
        self.nic, self.queue, self.count = nic, queue, count
        self.start = nic.allocate(16 * count)
        self._buffers = nic.allocate(buffer_size * count)
        self._buffer_size = buffer_size
        self.tail = 0
        step = 0x40 * queue
        self._tdt = 0xE018 + step
        nic.write(0xE028 + step, 0)
        nic.write(0xE008 + step, 16 * count)
        nic.write(0xE000 + step, (GUEST_BASE + self.start) & 0xFFFFFFFF)
        nic.write(0xE004 + step, (GUEST_BASE + self.start) >> 32)
        nic.write(0xE010 + step, 0)
        nic.write(self._tdt, 0)
        nic.write(0xE028 + step, 0x02100108)

    def put(self, data, command=CMD_DATA, info=0, stamp=None, timer=0):
        """A data descriptor; its index. ``stamp``: the register that it asks for."""
        where = self._buffers + self.tail * self._buffer_size
        assert len(data) <= self._buffer_size
        self.nic.memory[where : where + len(data)] = data
        if stamp is not None:
            command |= CMD_STAMP | stamp << 16
            info |= 0x20 if timer else 0
        return self.put_raw(GUEST_BASE + where, command | len(data), info | len(data) << 14)

    def put_raw(self, addr, command, info):
        """A descriptor as it is; its index."""
        return self._put(struct.pack("<QII", addr, command, info))

    def put_context(
        self,
        vlan=0,
        mac_size=14,
        ip_size=20,
        flags=0x400,
        mss=0,
        l4_size=0,
        launch=0,
        is_first=False,
    ):
        """A context descriptor as igc_tx_ctxtdesc writes it; its index."""
        first = vlan << 16 | mac_size << 9 | ip_size
        last = mss << 16 | l4_size << 8 | (0x80 if is_first else 0)
        return self._put(struct.pack("<IIII", first, launch, 0x20200000 | flags, last))

    def _put(self, descriptor):
        index = self.tail
        where = self.start + 16 * index
        self.nic.memory[where : where + 16] = descriptor
        self.tail = (index + 1) % self.count
        return index

    def kick(self):
        """Ring the doorbell."""
        self.nic.write(self._tdt, self.tail)

    def is_done(self, index):
        """The descriptor was written back."""
        where = self.start + 16 * index + 12
        return self.nic.memory[where : where + 4] == b"\x01\0\0\0"

    def send(self, data, **options):
        """Send one packet and wait for its completion."""
        index = self.put(data, **options)
        self.kick()
        self.nic.until(lambda: self.is_done(index), "the completion")
        return index


@dataclass
class Packet:
    """A packet as the driver finds it.

    :param stamps_ns: of timer 1 and timer 0, as struct igc_inline_rx_tstamps (igc.h) has them.
    """

    data: bytes
    status: int
    vlan: int
    rss_hash: int
    rss_type: int
    stamps_ns: tuple[int, int] | None


class RxRing:
    """One Rx queue as igc_configure_rx_ring sets it up, with all its buffers given."""

    def __init__(self, nic, queue=0, count=256, buffer_kib=2, num_given=None):
        self.nic, self.queue, self.count = nic, queue, count
        self._size = 1024 * buffer_kib
        self.start = nic.allocate(16 * count)
        self._buffers = nic.allocate(self._size * count)
        self.tail = self._next = 0
        step = 0x40 * queue
        self._rdt = 0xC018 + step
        nic.write(0xC028 + step, 0)
        nic.write(0xC000 + step, (GUEST_BASE + self.start) & 0xFFFFFFFF)
        nic.write(0xC004 + step, (GUEST_BASE + self.start) >> 32)
        nic.write(0xC008 + step, 16 * count)
        nic.write(0xC010 + step, 0)
        nic.write(self._rdt, 0)
        srrctl = nic.read(0xC00C + step) & 0x40024000
        nic.write(0xC00C + step, srrctl | 0x02000400 | buffer_kib)
        nic.write(0xC028 + step, 0x02040808)
        self.give(count - 1 if num_given is None else num_given)
        nic.settle()  # what the other port sends now arrives

    def give(self, num):
        """Give so many buffers to the NIC."""
        for _ in range(num):
            where = self.start + 16 * self.tail
            addr = GUEST_BASE + self._buffers + self.tail * self._size
            self.nic.memory[where : where + 16] = struct.pack("<QQ", addr, 0)
            self.tail = (self.tail + 1) % self.count
        self.nic.write(self._rdt, self.tail)

    def poll(self):
        """The next packet, or None; its buffers are not given back."""
        data, index = b"", self._next
        while True:
            where = self.start + 16 * index
            if not any(self.nic.memory[where + 12 : where + 14]):
                return None  # no length: as igc_clean_rx_irq looks at it
            low, rss_hash, status, length, vlan = struct.unpack_from(
                "<IIIHH", self.nic.memory, where
            )
            assert status & 1
            buffer = self._buffers + index * self._size
            data += self.nic.memory[buffer : buffer + length]
            self.nic.memory[where : where + 16] = bytes(16)
            index = (index + 1) % self.count
            if status & 2:
                break
        self._next = index
        stamps = None
        if status & 0x8000:
            low1, high1, low0, high0 = struct.unpack_from("<IIII", data)
            stamps = high1 * 10**9 + low1, high0 * 10**9 + low0
            data = data[16:]
        return Packet(data, status, vlan, rss_hash, low & 0xF, stamps)

    def take(self, num=1):
        """Wait for so many packets."""
        packets = []
        for _ in range(num):
            packets.append(self.nic.until(self.poll, "a packet"))
        return packets

    def take_one(self):
        """Wait for one packet."""
        return self.take()[0]


def ethernet(payload, destination=MACS[1], source=MACS[0], ethertype=0x88B5):
    """An Ethernet packet without FCS, at least 60 bytes."""
    return (destination + source + ethertype.to_bytes(2, "big") + payload).ljust(60, b"\0")
