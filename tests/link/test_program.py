# SPDX-License-Identifier: GPL-2.0-only
"""What the BPF program redirects, refuses and leaves alone; and how it comes and goes."""

import contextlib
import os
import random
import select
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pyroute2.iproute import IPRoute

from tests.link.frames import CTAG, PORT, Port, internet_sum
from tests.link.responding import Responding, wait_until
from xdptstamp._sys import libbpf
from xdptstamp.dut import DutConfig, acquire
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.nic import Nic
from xdptstamp.program import Program, ProgramConfig, object_path


@pytest.fixture(scope="module")
def answering(shared_lab):
    with Responding(shared_lab.ifname) as responding:
        yield responding


@pytest.fixture
def port(shared_lab):
    with Port(shared_lab) as opened:
        yield opened


@pytest.mark.parametrize("version", [4, 6])
def test_other_packets_are_not_ours(answering, port, version):
    ours = port.request(version)
    l3_offset = ours.l3_offset
    frame = ours.build()
    others = [
        ours.but(dport=PORT + 1).build(),
        ours.but(dport=struct.unpack("<H", struct.pack(">H", PORT))[0]).build(),
        ours.but(dst_mac=b"\x02\0\0\0\0\x01").build(),
        ours.but(dst_mac=b"\xff" * 6).build(),
        ours.but(tags=((CTAG, 1),) * 3).build(),
        ours.but(tags=((0x9100, 1),)).build(),
        frame[:12] + b"\x88\xf7" + frame[14:],  # PTP over Ethernet
        frame[:12] + (b"\x86\xdd" if version == 4 else b"\x08\x00") + frame[14:],
        frame[:l3_offset] + b"\x55" + frame[l3_offset + 1 :],  # IP version 5
        bytes(6) + frame[6:],
    ]
    if version == 4:
        others.append(frame[:l3_offset] + b"\x44" + frame[l3_offset + 1 :])  # header of 16 bytes
        others.append(frame[: l3_offset + 9] + b"\x06" + frame[l3_offset + 10 :])  # TCP
    assert answering.count(port, others) == {"passed_other": len(others)}
    assert port.replies(1, timeout_s=0.05) == []


def test_arp_is_answered_by_the_stack(answering, port, shared_lab):
    request = port.request()
    question = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + port.mac + request.saddr
    frame = b"\xff" * 6 + port.mac + b"\x08\x06" + question + bytes(6) + request.daddr
    assert answering.count(port, [frame]) == {"passed_other": 1}
    wanted = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + request.dst_mac + request.daddr
    while (reply := port.receive())[12:14] != b"\x08\x06":
        continue
    assert reply[14:].startswith(wanted)


@pytest.mark.parametrize("version", [4, 6])
def test_echo_requests_are_answered_by_the_stack(answering, port, shared_lab, version):
    # Both stacks must find each other first: ARP, neighbour discovery.
    family, protocol, kind, host = (
        (socket.AF_INET, socket.IPPROTO_ICMP, 8, shared_lab.local_v4)
        if version == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, shared_lab.local_v6)
    )
    before = answering.counters()["redirected"]
    with port.call(lambda: socket.socket(family, socket.SOCK_RAW, protocol)) as echo:
        echo.settimeout(10)
        body = struct.pack("!HH", os.getpid() & 0xFFFF, 1) + random.Random(1).randbytes(56)
        head = bytes((kind, 0))
        csum = 0xFFFF - internet_sum(head + b"\0\0" + body)  # the kernel does it for ICMPv6
        echo.sendto(head + struct.pack("!H", csum) + body, (host, 0))
        reply_kind = 0 if version == 4 else 129
        while True:
            data = echo.recv(2048)
            message = data[20:] if version == 4 else data
            if message[0] == reply_kind and message[4:] == body:
                break
    assert answering.counters()["redirected"] == before


@pytest.mark.parametrize("version", [4, 6])
def test_tcp_connections_carry_their_data(answering, port, shared_lab, version):
    family, host = (
        (socket.AF_INET, shared_lab.local_v4)
        if version == 4
        else (socket.AF_INET6, shared_lab.local_v6)
    )
    sent = random.Random(version).randbytes(1 << 20)
    with socket.create_server((host, PORT), family=family) as server:  # the same number, over TCP
        client = port.call(lambda: socket.create_connection((host, PORT), timeout=10))
        with client, server.accept()[0] as served:
            sender = threading.Thread(target=client.sendall, args=(sent,))
            sender.start()
            received = b""
            while len(received) < len(sent):
                received += served.recv(1 << 16)
            sender.join()
    assert received == sent


@pytest.mark.parametrize("version", [4, 6])
def test_udp_to_other_ports_reaches_its_socket(answering, port, shared_lab, version):
    with udp_server(shared_lab, version, 0) as server:
        other = server.getsockname()[1]
        request = port.request(version, dport=other, payload=b"for somebody else", tags=())
        assert answering.count(port, [request.build()]) == {"passed_other": 1}
        assert server.recv(2048) == b"for somebody else"


def test_what_is_refused_reaches_the_stack(answering, port, shared_lab):
    with udp_server(shared_lab, 4, PORT) as server:
        request = port.request(options=b"\1\1\1\1", payload=b"with options")
        assert answering.count(port, [request.build()]) == {"refused_ip_options": 1}
        assert server.recv(2048) == b"with options"


@contextlib.contextmanager
def udp_server(link, version, number):
    family, host = (
        (socket.AF_INET, link.local_v4) if version == 4 else (socket.AF_INET6, link.local_v6)
    )
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((host, number))
        server.settimeout(10)
        yield server


def test_queues_without_a_socket_leave_packets_to_the_stack(lab):
    if lab.is_real:
        pytest.skip("which queue a packet comes in on is known of a veth alone")
    affinity = os.sched_getaffinity(0)
    with (
        Port(lab) as port,
        Responding(lab.ifname, queues=(1,)) as responding,
        udp_server(lab, 4, PORT) as server,
    ):
        port.use_queue_of_cpu()
        grown = {}
        try:
            for cpu in sorted(affinity)[:2]:
                os.sched_setaffinity(0, {cpu})
                frame = port.request(payload=bytes((cpu,))).build()
                grown[cpu % 2] = responding.count(port, [frame])
        finally:
            os.sched_setaffinity(0, affinity)
        if len(grown) < 2:
            pytest.skip("one CPU reaches one queue only")
        assert grown == {0: {"passed_no_socket": 1}, 1: {"redirected": 1}}
        assert server.recv(2048)[0] % 2 == 0
        counts = responding.stop().counts
        assert (counts["passed_no_socket"], counts["answered"]) == (1, 1)


def test_a_removed_socket_leaves_packets_to_the_stack(lab):
    with (
        Port(lab) as port,
        Responding(lab.ifname) as responding,
        udp_server(lab, 4, PORT) as server,
    ):
        port.ask(port.request())
        responding.stop()
        frame = port.request(payload=b"late").build()
        assert responding.count(port, [frame]) == {"passed_no_socket": 1}
        assert server.recv(2048) == b"late"


@pytest.mark.parametrize(
    ("wanted", "obtained"), [("auto", "native"), ("native", "native"), ("skb", "skb")]
)
def test_mode_is_what_was_asked_for(lab, wanted, obtained):
    with acquire(DutConfig(lab.ifname, xdp_mode=wanted)) as dut:
        assert dut.program.xdp_mode == obtained
        assert [program.mode for program in dut.nic.xdp_programs()] == [obtained]
        assert dut.program.has_hints is (obtained == "native")
        hints = dut.obtained()["rx_hints"]
        reason = "a program in skb mode cannot be device-bound"
        assert hints == ("kfuncs" if obtained == "native" else reason)
    assert Nic(lab.ifname).xdp_programs() == ()


def test_an_mtu_too_large_for_native_mode(lab):
    if lab.is_real:
        pytest.skip("the limit is the veth driver's")
    with IPRoute() as ipr:
        ipr.link("set", index=Nic(lab.ifname).ifindex, mtu=3700)
    with Port(lab) as port:
        port.call(lambda: set_mtu(port.ifname, 3700))
    with (
        pytest.raises(SystemCallError, match=r"its MTU, for one.*--xdp-mode skb"),
        acquire(DutConfig(lab.ifname, xdp_mode="native")),
    ):
        pytest.fail("attached")
    with acquire(DutConfig(lab.ifname)) as dut:
        assert dut.program.xdp_mode == "skb"


def set_mtu(ifname, mtu):
    with IPRoute() as ipr:
        ipr.link("set", index=socket.if_nametoindex(ifname), mtu=mtu)


@contextlib.contextmanager
def loaded_program(ifname):
    """Somebody else's XDP program; the descriptor of it."""
    loaded = libbpf.BpfObject(object_path(), ifname)
    try:
        loaded.choose_program("xdptstamp_plain", ("xdptstamp_hints",))
        loaded.load()
        yield loaded.program_fd("xdptstamp_plain")
    finally:
        loaded.close()


@contextlib.contextmanager
def attached_by_netlink(ifname, flags):
    """Somebody else's XDP program, attached as ``ip link`` does it."""
    nic = Nic(ifname)
    with loaded_program(ifname) as fd:
        libbpf.attach_xdp(fd, nic.ifindex, flags, ifname)
        try:
            yield nic.xdp_programs()
        finally:
            if Nic(ifname).xdp_programs():
                libbpf.detach_xdp(nic.ifindex, flags, ifname)


FLAGS = {"native": libbpf.XDP_FLAGS_DRV_MODE, "skb": libbpf.XDP_FLAGS_SKB_MODE}


@pytest.mark.parametrize("theirs", ["native", "skb"])
@pytest.mark.parametrize("ours", ["auto", "native", "skb"])
def test_a_program_attached_by_netlink_stays(lab, theirs, ours):
    nic = Nic(lab.ifname)
    with attached_by_netlink(lab.ifname, FLAGS[theirs]) as programs:
        assert [program.mode for program in programs] == [theirs]
        with (
            pytest.raises(SetupError, match=rf"id {programs[0].prog_id} .*{theirs}.* use --force"),
            acquire(DutConfig(lab.ifname, xdp_mode=ours)),
        ):
            pytest.fail("attached")
        assert nic.xdp_programs() == programs


@pytest.mark.parametrize("theirs", ["native", "skb"])
@pytest.mark.parametrize("ours", ["native", "skb"])
def test_force_replaces_it_and_puts_it_back(lab, theirs, ours):
    nic = Nic(lab.ifname)
    with attached_by_netlink(lab.ifname, FLAGS[theirs]) as programs, Port(lab) as port:
        with Responding(lab.ifname, is_forced=True, xdp_mode=ours):
            (during,) = nic.xdp_programs()
            assert during.mode == ours
            assert during.prog_id != programs[0].prog_id
            port.ask(port.request())
        assert nic.xdp_programs() == programs


def test_force_that_fails_puts_it_back_too(lab):
    with attached_by_netlink(lab.ifname, FLAGS["native"]) as programs:
        with (
            pytest.raises(SetupError, match="no queue 99"),
            acquire(DutConfig(lab.ifname, is_forced=True, queues=(99,))),
        ):
            pytest.fail("there is such a queue")
        # The socket comes after the program: here that fails.
        with (
            acquire_queue_taken(lab.ifname),
            pytest.raises(SystemCallError, match="queue has an AF_XDP socket already"),
            acquire(DutConfig(lab.ifname, is_forced=True)),
        ):
            pytest.fail("bound twice")
        assert Nic(lab.ifname).xdp_programs() == programs


@contextlib.contextmanager
def acquire_queue_taken(ifname):
    from xdptstamp.umem import Umem
    from xdptstamp.xsk import Xsk

    with Xsk(Umem(64), ifname, 0) as xsk:
        yield xsk


def test_a_program_on_a_bpf_link_cannot_be_replaced(lab):
    nic = Nic(lab.ifname)
    with loaded_program(lab.ifname) as fd:
        link = libbpf.attach_xdp_link(fd, nic.ifindex, FLAGS["native"], lab.ifname)
        try:
            programs = nic.xdp_programs()
            for is_forced, reason in ((False, "use --force"), (True, "hangs on a bpf_link")):
                with (
                    pytest.raises(SetupError, match=reason),
                    acquire(DutConfig(lab.ifname, is_forced=is_forced)),
                ):
                    pytest.fail("attached")
                assert nic.xdp_programs() == programs
        finally:
            os.close(link)


def test_an_interface_that_vanishes_ends_it_quietly(lab):
    if lab.is_real:
        pytest.skip("removes the interface")
    nic = Nic(lab.ifname)
    with attached_by_netlink_until_gone(lab.ifname), Port(lab) as port:
        with Responding(lab.ifname, is_forced=True) as responding:
            port.ask(port.request())
            with IPRoute() as ipr:
                ipr.link("del", index=nic.ifindex)
            result = responding.wait()
        assert result.failure
        assert result.ended_by.startswith(f"{lab.ifname} ")
        assert not any(result.counts["unaccounted"].values()), result.counts


@contextlib.contextmanager
def attached_by_netlink_until_gone(ifname):
    with loaded_program(ifname) as fd:
        libbpf.attach_xdp(fd, Nic(ifname).ifindex, FLAGS["native"], ifname)
        yield


def test_a_killed_process_leaves_no_program(lab):
    script = Path(__file__).with_name("responding.py")
    nic = Nic(lab.ifname)
    with Port(lab) as port:
        process = subprocess.Popen([sys.executable, script, lab.ifname], stdout=subprocess.PIPE)
        with process:
            try:
                assert select.select([process.stdout], [], [], 60)[0]
                assert process.stdout.readline() == b"ready\n"
                port.ask(port.request())
                with (
                    pytest.raises(SetupError, match="is attached already"),
                    acquire(DutConfig(lab.ifname)),
                ):
                    pytest.fail("attached beside another process")
                port.ask(port.request())
            finally:
                process.kill()
        wait_until(lambda: nic.xdp_programs() == (), "the end of the program")
        with Responding(lab.ifname) as responding:
            port.ask(port.request())
            assert responding.stop().counts["answered"] == 1


def test_counters_start_anew(lab):
    with Port(lab) as port:
        for _ in range(2):
            with Responding(lab.ifname) as responding:
                assert responding.counters()["redirected"] == 0
                port.ask(port.request())
                assert responding.counters()["redirected"] == 1


def test_a_program_can_be_used_alone(lab):
    nic = Nic(lab.ifname)
    program = Program(nic, ProgramConfig(port=PORT, num_queues=2))
    try:
        with Port(lab) as port:
            port.send(port.request().build())
            wait_until(lambda: program.counters()["passed_no_socket"] == 1, "the packet")
    finally:
        program.close()
    assert nic.xdp_programs() == ()
