# SPDX-License-Identifier: GPL-2.0-only
"""One AF_XDP socket on a veth: what comes back, what is refused, and in which words.

The other way to register the UMEM, through libxdp, is in test_libxdp_new.py.
"""

import contextlib
import errno
import os
import resource
import select
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from tests.link.running import wait_carrier
from xdptstamp import packet, ring, txmd
from xdptstamp import xsk as xsk_module
from xdptstamp._sys import libxdp, netns
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.nic import Nic
from xdptstamp.program import META_DTYPE, META_LEN, META_VERSION, Program, ProgramConfig
from xdptstamp.umem import Umem
from xdptstamp.xsk import Xsk, XskConfig

HAS_REAL_NIC = bool(os.environ.get("NETIF"))
ETHERTYPE = 0x88B5  # for experiments: no stack answers it
LIMIT_S = 20
SO_RCVBUFFORCE = 33  # linux/socket.h; the limit of net.core.rmem_max is too low
SMALL = XskConfig(rx_size=64, tx_size=64)

pytestmark = pytest.mark.skipif(HAS_REAL_NIC, reason="looks at the partner's end of a veth pair")


@pytest.fixture(params=["direct", "helpers"])
def access(request, monkeypatch):
    """Ring indices accessed directly, then through libxdp's helpers."""
    if request.param == "helpers":
        if libxdp.version() is None:
            pytest.skip("libxdp is not installed")
        monkeypatch.setattr(ring, "uses_direct_access", lambda: False)


def set_link(ifname, state):
    subprocess.run(("ip", "link", "set", ifname, state), check=True)


class Partner:
    """The far end of the link: its state, and the frames it gets."""

    def __init__(self, link):
        self._namespace = link.environ["REMOTE_ARGS"]
        (self.ifname,) = netns.call_inside(
            self._namespace, lambda: [name for _, name in socket.if_nameindex() if name != "lo"]
        )
        self._capture = netns.call_inside(self._namespace, self._open)

    def _open(self):
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        capture.bind((self.ifname, ETHERTYPE))
        capture.settimeout(LIMIT_S)
        return capture

    def set_link(self, state):
        netns.call_inside(self._namespace, lambda: set_link(self.ifname, state))
        self._capture.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # ENETDOWN: known

    def receive(self, count):
        """The next frames; an error if they do not come."""
        return [self._capture.recv(4096) for _ in range(count)]

    def is_silent(self):
        return not select.select([self._capture], [], [], 0)[0]

    def send_udp(self, source, destination, port, payloads):
        def send():
            family = socket.AF_INET6 if ":" in destination else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as opened:
                opened.bind((source, 0))
                for payload in payloads:
                    opened.sendto(payload, (destination, port))

        netns.call_inside(self._namespace, send)

    def close(self):
        self._capture.close()


@pytest.fixture
def partner(shared_lab):
    """The far end of the module's link; its link is up again after the test."""
    with contextlib.closing(Partner(shared_lab)) as far:
        yield far
        far.set_link("up")
        wait_carrier(Nic(shared_lab.ifname), LIMIT_S)


def frame_of(number, length=60):
    """A broadcast frame that can be told from others."""
    head = b"\xff" * 6 + b"\2\0\0\0\0\1" + ETHERTYPE.to_bytes(2, "big")
    return (head + number.to_bytes(4, "big")).ljust(length, bytes([number % 251]))


def submit(xsk, frames, data, flags=txmd.TIMESTAMP, length=None):
    """Write a request and a packet into each of ``frames`` and submit them; returns addrs."""
    umem = xsk.umem
    start, count = xsk.tx.reserve(len(frames))
    assert count == len(frames)
    addrs = [umem.tx_addr(frame) for frame in frames]
    for entry, addr, content in zip(xsk.tx.entries(start, count), addrs, data, strict=True):
        txmd.write_request(umem.view, addr - umem.tx_metadata_len, flags, 14, 6)
        umem.view[addr : addr + len(content)] = content
        options = txmd.OPTION if flags else 0
        xsk.tx.descs[entry] = (addr, length or len(content), options)
    xsk.tx.submit(count)
    return addrs


def completions(xsk, count):
    """The addrs of the next completions; an error if they do not come."""
    found = []
    deadline = time.monotonic() + LIMIT_S
    while len(found) < count:
        start, obtained = xsk.comp.peek(count - len(found))
        found += [int(xsk.comp.addrs[entry]) for entry in xsk.comp.entries(start, obtained)]
        xsk.comp.release(obtained)
        assert time.monotonic() < deadline, f"{len(found)} of {count} completions"
    return found


def stamp_of(xsk, addr):
    return txmd.read_stamp(xsk.umem.view, addr - xsk.umem.tx_metadata_len)


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_TAI)


# What comes back


@pytest.mark.parametrize("tx_metadata_len", [16, 24, 248])
def test_packets_arrive_unharmed_and_their_stamps_come_back(
    shared_lab, partner, access, tx_metadata_len
):
    with Xsk(Umem(128, tx_metadata_len=tx_metadata_len), shared_lab.ifname, 0, SMALL) as xsk:
        for first in range(0, 320, 32):  # every ring of 64 entries wraps
            data = [frame_of(number) for number in range(first, first + 32)]
            before_ns = now_ns()
            addrs = submit(xsk, [number % 128 for number in range(first, first + 32)], data)
            assert xsk.wakeup_tx() == 0
            assert sorted(completions(xsk, 32)) == sorted(addrs)
            for addr in addrs:
                assert before_ns <= stamp_of(xsk, addr) <= now_ns()
            assert partner.receive(32) == data
        assert set(xsk.statistics().values()) == {0} | {xsk.statistics()["tx_ring_empty_descs"]}
        assert xsk.comp.peek(1)[1] == 0


def test_what_was_obtained_is_told(shared_lab):
    with Xsk(Umem(64), shared_lab.ifname, 1, SMALL) as xsk:
        assert xsk.is_zero_copy is False
        assert xsk.max_tx_skb_budget == 32
        assert (xsk.rx.size, xsk.tx.size, xsk.fill.size, xsk.comp.size) == (64, 64, 128, 64)
        assert set(xsk.statistics()) == {
            "rx_dropped",
            "rx_invalid_descs",
            "tx_invalid_descs",
            "rx_ring_full",
            "rx_fill_ring_empty_descs",
            "tx_ring_empty_descs",
        }
        assert xsk.tx.needs_wakeup()


def test_without_a_request_no_stamp_comes(shared_lab, partner):
    with Xsk(Umem(64), shared_lab.ifname, 0, SMALL) as xsk:
        (addr,) = submit(xsk, [3], [frame_of(1)])
        xsk.wakeup_tx()
        assert completions(xsk, 1) == [addr]
        assert stamp_of(xsk, addr) is not None
        # The same frame again: its old stamp must not be seen.
        submit(xsk, [3], [frame_of(2)], flags=0)
        xsk.wakeup_tx()
        assert completions(xsk, 1) == [addr]
        assert stamp_of(xsk, addr) is None
        assert partner.receive(2) == [frame_of(1), frame_of(2)]


def test_a_umem_without_metadata_sends(shared_lab, partner):
    with Xsk(Umem(64, tx_metadata_len=0), shared_lab.ifname, 0, SMALL) as xsk:
        xsk.umem.view[:60] = frame_of(5)
        xsk.tx.reserve(1)
        xsk.tx.descs[0] = (0, 60, 0)
        xsk.tx.submit(1)
        assert xsk.wakeup_tx() == 0
        assert completions(xsk, 1) == [0]
        assert partner.receive(1) == [frame_of(5)]


def test_a_checksum_request_alone_leaves_its_offsets_and_no_stamp(shared_lab):
    macs, ports = (b"\xff" * 6, b"\2\0\0\0\0\1"), (40000, 9)
    data = packet.build_udp(macs, (shared_lab.local_v4, shared_lab.remote_v4), ports, b"x" * 30)
    with Xsk(Umem(64), shared_lab.ifname, 0, SMALL) as xsk:
        umem, addr = xsk.umem, xsk.umem.tx_addr(2)
        umem.view[addr : addr + len(data)] = data
        txmd.write_request(umem.view, addr - 24, txmd.CHECKSUM, 34, packet.UDP_CSUM_OFFSET)
        xsk.tx.reserve(1)
        xsk.tx.descs[0] = (addr, len(data), txmd.OPTION)
        xsk.tx.submit(1)
        assert xsk.wakeup_tx() == 0
        assert completions(xsk, 1) == [addr]
        field = int.from_bytes(umem.view[addr - 16 : addr - 8], "little")
        assert field & 0xFFFFFFFF == 393250  # what others print as a time
        assert stamp_of(xsk, addr) is None


@pytest.mark.parametrize("local", ["local_v4", "local_v6"])
def test_packets_come_in_with_what_the_program_says_of_them(shared_lab, partner, access, local):
    destination = getattr(shared_lab, local)
    source = getattr(shared_lab, local.replace("local", "remote"))
    nic = Nic(shared_lab.ifname)
    port = 9091
    with contextlib.closing(Program(nic, ProgramConfig(port, num_queues=2))) as program:
        wait_carrier(nic, LIMIT_S)
        xsks = [
            Xsk(Umem(32), nic.ifname, 0, SMALL),
            Xsk(Umem(32), nic.ifname, 1, SMALL, rx_frames=range(32)),
        ]
        with xsks[0], xsks[1]:
            fill(xsks[0], range(32))
            for xsk in xsks:
                program.add_socket(xsk.queue_id, xsk.fd)
            for first in range(0, 200, 10):
                payloads = [b"number %d" % number for number in range(first, first + 10)]
                before_ns = now_ns()
                partner.send_udp(source, destination, port, payloads)
                found = received(xsks, 10)
                assert [
                    data[-len(payload) :]
                    for (data, _), payload in zip(found, payloads, strict=True)
                ] == payloads
                for _, meta in found:
                    assert meta["version"] == META_VERSION
                    assert before_ns <= meta["rx_xdp_ns"] <= now_ns()
                    assert meta["ip_version"] == (6 if ":" in destination else 4)
            assert program.counters()["redirected"] == 200
            assert sum(xsk.statistics()["rx_dropped"] for xsk in xsks) == 0
            assert [xsk.wakeup_rx() for xsk in xsks] == [0, 0]


def test_more_frames_than_the_fill_ring_holds_are_refused(shared_lab):
    config = XskConfig(rx_size=64, tx_size=64, fill_size=32)
    with pytest.raises(ValueError, match="33 rx_frames in a fill ring of 32"):
        Xsk(Umem(64), shared_lab.ifname, 0, config, rx_frames=range(33))


def fill(xsk, frames):
    start, count = xsk.fill.reserve(len(frames))
    assert count == len(frames)
    for entry, frame in zip(xsk.fill.entries(start, count), frames, strict=True):
        xsk.fill.addrs[entry] = frame * 2048
    xsk.fill.submit(count)


def received(xsks, count):
    """(packet, metadata) of the next packets; their frames go back to the fill ring."""
    found = []
    while len(found) < count:
        assert select.select([xsk.fd for xsk in xsks], [], [], LIMIT_S)[0], f"only {len(found)}"
        for xsk in xsks:
            start, obtained = xsk.rx.peek(count)
            descs = [xsk.rx.descs[entry].tolist() for entry in xsk.rx.entries(start, obtained)]
            xsk.rx.release(obtained)
            for addr, length, _ in descs:
                meta = bytes(xsk.umem.view[addr - META_LEN : addr])
                data = bytes(xsk.umem.view[addr : addr + length])
                found.append((data, np.frombuffer(meta, META_DTYPE)[0]))
            fill(xsk, [addr // 2048 for addr, _, _ in descs])
    return found


# What a wakeup says


def test_with_the_peer_down_the_kernel_drops_completes_and_stamps(shared_lab, partner):
    with Xsk(Umem(64), shared_lab.ifname, 0, SMALL) as xsk:
        partner.set_link("down")
        addrs = submit(xsk, range(3), [frame_of(number) for number in range(3)])
        assert [xsk.wakeup_tx() for _ in range(4)] == [errno.EBUSY] * 3 + [0]
        assert completions(xsk, 3) == addrs
        # The trap: these look like stamps. InFlight knows better (test_inflight.py).
        assert all(stamp_of(xsk, addr) for addr in addrs)


def test_a_packet_longer_than_the_mtu_is_dropped_like_that_too(shared_lab, partner):
    with Xsk(Umem(64), shared_lab.ifname, 0, SMALL) as xsk:
        data = [frame_of(0), frame_of(1, 1600), frame_of(2)]
        addrs = submit(xsk, range(3), data)
        assert [xsk.wakeup_tx() for _ in range(2)] == [errno.EBUSY, 0]
        assert completions(xsk, 3) == addrs
        assert partner.receive(2) == [data[0], data[2]]


def test_with_the_link_down_nothing_is_taken(lab):
    with Xsk(Umem(64), lab.ifname, 0, SMALL) as xsk:
        assert (xsk.wakeup_tx(), xsk.wakeup_rx()) == (0, 0)
        set_link(lab.ifname, "down")
        addrs = submit(xsk, range(3), [frame_of(number) for number in range(3)])
        assert (xsk.wakeup_tx(), xsk.wakeup_rx()) == (errno.ENETDOWN, errno.ENETDOWN)
        assert xsk.tx.num_waiting() == 3
        assert xsk.comp.peek(1)[1] == 0
        set_link(lab.ifname, "up")
        wait_carrier(Nic(lab.ifname), LIMIT_S)
        assert xsk.wakeup_tx() == 0
        assert completions(xsk, 3) == addrs


def test_with_the_interface_gone_a_wakeup_says_so_and_close_works(lab):
    with Xsk(Umem(64), lab.ifname, 0, SMALL) as xsk:
        subprocess.run(("ip", "link", "delete", lab.ifname), check=True)
        submit(xsk, [0], [frame_of(0)])
        assert (xsk.wakeup_tx(), xsk.wakeup_rx()) == (errno.ENXIO, errno.ENXIO)


@pytest.mark.parametrize("budget", [None, 256])
def test_the_budget_is_what_one_wakeup_sends(shared_lab, budget):
    config = XskConfig(tx_size=256, max_tx_skb_budget=budget)
    with Xsk(Umem(256), shared_lab.ifname, 0, config) as xsk:
        if budget and xsk.max_tx_skb_budget != budget:
            pytest.skip("this kernel has no XDP_MAX_TX_SKB_BUDGET (v6.17)")
        assert xsk.max_tx_skb_budget == (budget or 32)
        submit(xsk, range(256), [frame_of(number) for number in range(256)])
        said = []
        while not said or said[-1] == errno.EAGAIN:
            said.append(xsk.wakeup_tx())
        assert said == [errno.EAGAIN] * (0 if budget else 7) + [0]
        assert len(set(completions(xsk, 256))) == 256


# What is refused


def refusal(shared_lab, *, umem=None, queue_id=0, ifname=None, **options):
    config = XskConfig(**{"rx_size": 64, "tx_size": 64, **options})
    with pytest.raises((SystemCallError, SetupError)) as caught:
        Xsk(umem or Umem(64), ifname or shared_lab.ifname, queue_id, config)
    return str(caught.value)


@pytest.mark.parametrize("budget", [0, 31, 65])
def test_a_budget_that_the_kernel_refuses(shared_lab, budget):
    with Xsk(Umem(64), shared_lab.ifname, 0, XskConfig(max_tx_skb_budget=33)) as xsk:
        if xsk.max_tx_skb_budget != 33:
            pytest.skip("this kernel has no XDP_MAX_TX_SKB_BUDGET (v6.17)")
    message = refusal(shared_lab, max_tx_skb_budget=budget)
    assert message.startswith(f"setsockopt failed on {shared_lab.ifname} queue 0, copy: ")
    # It was closed again.
    Xsk(Umem(64), shared_lab.ifname, 0, SMALL).close()


def test_no_such_interface(shared_lab):
    assert refusal(shared_lab, ifname="nosuch0") == "nosuch0: no such interface"


@pytest.mark.parametrize("queue_id", [2, 77])
def test_no_such_queue(shared_lab, queue_id):
    assert refusal(shared_lab, queue_id=queue_id) == (
        f"bind failed on {shared_lab.ifname} queue {queue_id}, copy: Invalid argument. No such "
        "queue (ethtool -l), or a kernel that cannot be asked for Tx metadata (before v6.11; "
        "v6.10.y can)."
    )


def test_zero_copy_where_there_is_none(shared_lab):
    assert refusal(shared_lab, mode="zero-copy") == (
        f"bind failed on {shared_lab.ifname} queue 0, zero-copy: Operation not supported. The "
        "driver or its present settings do not allow this mode. Try --mode copy."
    )


def test_a_queue_that_is_taken(shared_lab, monkeypatch):
    opened = []

    def counting(request):
        opened.append(request)
        return open_kernel(request)

    open_kernel = xsk_module._OPENERS["kernel"]
    monkeypatch.setitem(xsk_module._OPENERS, "kernel", counting)
    monkeypatch.setattr(xsk_module, "_BIND_RETRY_S", 0.2)
    descriptors = len(os.listdir("/proc/self/fd"))
    with Xsk(Umem(64), shared_lab.ifname, 0, SMALL):
        opened.clear()
        assert refusal(shared_lab) == (
            f"bind failed on {shared_lab.ifname} queue 0, copy: Device or resource busy. The queue "
            "has an AF_XDP socket already: end its owner, or use another queue."
        )
        assert len(opened) > 1
        Xsk(Umem(64), shared_lab.ifname, 1, SMALL).close()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_binding_again_right_after_close(shared_lab):
    descriptors, mappings = len(os.listdir("/proc/self/fd")), num_ring_mappings()
    assert mappings == 0
    for _ in range(20):
        with Xsk(Umem(64), shared_lab.ifname, 0, SMALL):
            assert num_ring_mappings() == 4
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert num_ring_mappings() == 0


def num_ring_mappings():
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum("socket:[" in line for line in maps)


def test_binding_does_not_mind_a_link_that_is_down(lab):
    set_link(lab.ifname, "down")
    with Xsk(Umem(64), lab.ifname, 0, SMALL) as xsk:
        assert xsk.wakeup_tx() == errno.ENETDOWN


# A request that the kernel would refuse for ever


def test_an_unknown_flag_wedges_the_kernels_ring_and_never_gets_there(shared_lab):
    umem = Umem(64)
    with Xsk(umem, shared_lab.ifname, 0, SMALL) as xsk:
        submit(xsk, [0], [frame_of(0)])
        # Past our functions, which refuse it:
        umem.view[0:8] = (1 << 5).to_bytes(8, "little")
        assert [xsk.wakeup_tx() for _ in range(3)] == [errno.EINVAL] * 3
        submit(xsk, [1], [frame_of(1)])
        assert xsk.wakeup_tx() == errno.EINVAL
    with Xsk(Umem(64), shared_lab.ifname, 0, SMALL) as xsk:
        with pytest.raises(SetupError, match="Tx metadata: flags 0x20 are not"):
            txmd.write_request(xsk.umem.view, 0, 1 << 5)
        (addr,) = submit(xsk, [1], [frame_of(1)])
        assert xsk.wakeup_tx() == 0
        assert completions(xsk, 1) == [addr]


# Privilege. Each in a process of its own, which has given some of it up.

PROGRAM = textwrap.dedent(
    """
    import sys
    from xdptstamp.errors import XdptstampError
    from xdptstamp.umem import Umem
    from xdptstamp.xsk import Xsk

    try:
        Xsk(Umem(int(sys.argv[2])), sys.argv[1]).close()
    except XdptstampError as error:
        sys.exit(str(error))
    """
)


def run_without(capabilities, ifname, num_frames, memlock=None):
    dropped = ",".join(f"-{name}" for name in capabilities)
    command = ("setpriv", f"--bounding-set={dropped}", "--inh-caps=-all")

    def limit():
        if memlock is not None:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (memlock, memlock))

    return subprocess.run(
        (*command, sys.executable, "-c", PROGRAM, ifname, str(num_frames)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=limit,
    )


def test_a_umem_beyond_the_lock_limit(shared_lab):
    # The kernel counts per user, so other UMEMs of this user only add to it.
    done = run_without(["ipc_lock"], shared_lab.ifname, 2048, memlock=1 << 20)
    assert done.returncode == 1
    assert done.stderr == (
        f"setsockopt failed on UMEM for {shared_lab.ifname} queue 0, copy: No buffer space "
        "available. The UMEM of 4 MiB passes RLIMIT_MEMLOCK (ulimit -l): raise it, use fewer "
        "--queue, or give CAP_IPC_LOCK.\n"
    )


def test_with_cap_ipc_lock_the_lock_limit_does_not_matter(shared_lab):
    done = run_without(["sys_resource"], shared_lab.ifname, 2048, memlock=1 << 20)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_cap_net_raw(shared_lab):
    done = run_without(["net_raw"], shared_lab.ifname, 64)
    assert done.returncode == 1
    assert done.stderr == (
        f"socket(AF_XDP) failed on {shared_lab.ifname} queue 0, copy: Operation not permitted. "
        "It needs CAP_NET_RAW.\n"
    )


def test_net_raw_alone_is_enough_for_a_socket(shared_lab):
    others = ["net_admin", "sys_admin", "bpf", "sys_resource", "dac_override", "perfmon"]
    done = run_without(others, shared_lab.ifname, 64)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_frame_can_be_given_back_before_the_kernel_shows_that_it_took_it(shared_lab):
    umem = Umem(64)
    with Xsk(umem, shared_lab.ifname, 0, SMALL, rx_frames=range(64)) as xsk:
        # A packet that is there, and a fill ring that looks as if nothing had been taken of it.
        assert xsk.fill.num_waiting() == 64
        assert xsk.fill.reserve(64)[1] == 64
