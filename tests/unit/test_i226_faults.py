# SPDX-License-Identifier: GPL-2.0-only
"""Faults of the virtual I226, its control socket, flow control and a FIFO that is full."""

import json
import re
import socket
import time

import pytest

from tests.unit import i226_kit as kit
from tests.unit.i226_kit import MACS, TX_NS, RxRing, TxRing, ethernet
from xdptstamp.lab.i226.faults import FaultSpecError, parse_duration, parse_fault

S = 10**9
CRCERRS, RNBC, RQDPC = 0x4000, 0x40A0, 0xC030
XONRXC, XONTXC, XOFFRXC, XOFFTXC = 0x4048, 0x404C, 0x4050, 0x4054
RFCE, TFCE = 0x08000000, 0x10000000
FCRTL, FCRTH, FCTTV = 0x2160, 0x2168, 0x170


@pytest.fixture
def begin(i226):
    """``begin(spec, port=0)``: let a fault begin; all end with the test."""

    def begin(spec, port=0):
        answer = i226.control(fault=spec, port=port)
        assert "error" not in answer
        return answer

    yield begin
    for port in range(2):
        assert i226.control(clear=None, port=port)["faults"] == {}


@pytest.fixture
def count(i226):
    """``count(name, port=0)``: how often a fault struck."""
    return lambda name, port=0: i226.control(state=None, port=port)["faults"][name]


def numbered(number):
    return ethernet(number.to_bytes(2, "big") + bytes(40))


def send(ring, num):
    """Send packets with numbers from 1 on, one by one."""
    for number in range(1, num + 1):
        ring.send(numbered(number))


def arrived(nics, received):
    """The numbers of the packets that have arrived."""
    nics[1].settle()
    numbers = []
    while (packet := received.poll()) is not None:
        numbers.append(int.from_bytes(packet.data[14:16], "big"))
    return numbers


# -- stamps


def outcomes(i226, nics, num):
    """What becomes of so many stamps, each asked for when the one before is settled."""
    nic, ring = nics[0], TxRing(nics[0])
    nic.enable_stamps()
    num_before = len(i226.truth())
    for number in range(num):
        ring.send(numbered(number), stamp=number % 4)
        nic.stamp(number % 4)
    return [line["outcome"] for line in i226.truth()[num_before:]]


@pytest.mark.parametrize(
    ("keys", "lost"),
    [
        ("", {0, 1, 2, 3, 4, 5, 6, 7, 8}),
        (":every=3", {2, 5, 8}),
        (":after=4", {4, 5, 6, 7, 8}),
        (":every=2,after=3", {4, 6, 8}),
        (":count=2", {0, 1}),
        (":every=3,count=1,after=1", {3}),
        (":every=0", {0, 1, 2, 3, 4, 5, 6, 7, 8}),
        (":count=0", set()),
    ],
)
def test_lost_stamps(i226, nics, begin, count, keys, lost):
    begin("lose-stamp" + keys)
    words = outcomes(i226, nics, 9)
    assert {number for number, word in enumerate(words) if word == "lost"} == lost
    assert set(words) <= {"lost", "delivered"}
    assert count("lose-stamp") == len(lost)


@pytest.mark.parametrize("delay", ["40ms", "40ms..41ms"])
def test_late_stamps_are_right(i226, nics, begin, delay):
    begin(f"delay-stamp:delay={delay}")
    nic, ring = nics[0], TxRing(nics[0])
    nic.enable_stamps()
    ring.send(numbered(1), stamp=2)
    nic.until(lambda: nic.read(kit.TSYNCTXCTL) & 4)
    now_ns = nic.time()
    stamp_ns = nic.stamp(2) + TX_NS[2500]
    assert stamp_ns == int(i226.truth()[-1]["wire_ns"])
    assert now_ns - stamp_ns >= 40_000_000


def test_delays_may_be_exponential(i226, nics, begin, count):
    begin("delay-stamp:delay=exp(20us)")
    ring, nic = TxRing(nics[0]), nics[0]
    nic.enable_stamps()
    for number in range(50):
        ring.send(numbered(number), stamp=0)
        nic.until(lambda: nic.read(kit.TSYNCTXCTL) & 1)
        nic.stamp(0)
    assert count("delay-stamp") == 50


def test_the_options_timestamp_delay_and_fault(start_i226, connect_i226):
    server = start_i226("--timestamp-delay", "5ms", "--fault", "lose-stamp:after=1", num_ports=1)
    (nic,) = connect_i226(server)
    nic.enable_stamps()
    ring = TxRing(nic)
    ring.send(numbered(1), stamp=0)
    nic.until(lambda: nic.read(kit.TSYNCTXCTL) & 1)
    assert nic.time() - nic.stamp(0) >= 5_000_000
    ring.send(numbered(2), stamp=1)
    assert [line["outcome"] for line in server.truth()] == ["delivered", "lost"]
    assert server.control(state=None)["faults"] == {"delay-stamp": 1, "lose-stamp": 1}


def test_a_fault_says_whose_it_is(start_i226):
    server = start_i226("--fault", "drop-rx:port=1", "--fault", "lose-stamp")
    server.control(fault="lose-completion:port=1", port=0)
    on = [set(server.control(state=None, port=port)["faults"]) for port in (0, 1)]
    assert on == [{"lose-stamp"}, {"drop-rx", "lose-completion"}]
    assert server.control(fault="drop-rx:port=2") == {"error": "no port 2"}


def test_a_stamp_that_is_on_its_way_keeps_its_register_and_does_not_survive_a_reset(
    i226, nics, begin
):
    begin("delay-stamp:delay=100ms")
    nic, ring = nics[0], TxRing(nics[0])
    nic.enable_stamps()
    ring.send(numbered(1), stamp=0)
    ring.send(numbered(2), stamp=0)
    assert [line["outcome"] for line in i226.truth()[-2:]] == ["delivered", "busy"]
    nic.write(kit.CTRL, 0x04000000)
    nic.enable_stamps()
    nic.until(lambda: nic.time() > 150_000_000)
    assert nic.read(kit.TSYNCTXCTL) & 0xF == 0


def test_a_register_that_is_never_freed(i226, nics, begin):
    begin("stick-stamp:slot=1")
    nic, ring = nics[0], TxRing(nics[0])
    nic.enable_stamps()
    for slot in (0, 1):
        ring.send(numbered(slot), stamp=slot)
        nic.until(lambda slot=slot: nic.read(kit.TSYNCTXCTL) >> slot & 1)
    first = nic.stamp(1)
    nic.stamp(0)
    assert nic.read(kit.TSYNCTXCTL) & 0xF == 2
    ring.send(numbered(2), stamp=1)
    assert nic.stamp(1) == first
    assert i226.truth()[-1]["outcome"] == "busy"


# -- packets


def test_dropped_packets(nics, begin, count):
    begin("drop-rx:every=4,after=1", port=1)
    ring, received = TxRing(nics[0]), RxRing(nics[1])
    send(ring, 13)
    assert arrived(nics, received) == [1, 2, 3, 4, 6, 7, 8, 10, 11, 12]
    assert count("drop-rx", 1) == 3
    assert (nics[1].read(kit.GPRC), nics[0].read(kit.GPTC)) == (10, 13)


def test_corrupted_packets_are_counted_and_not_received(nics, begin):
    begin("corrupt-rx:every=3", port=1)
    ring, received = TxRing(nics[0]), RxRing(nics[1])
    send(ring, 7)
    assert arrived(nics, received) == [1, 2, 4, 5, 7]
    assert (nics[1].read(CRCERRS), nics[1].read(CRCERRS), nics[1].read(kit.GPRC)) == (2, 0, 5)


def test_damaged_packets_differ_in_one_bit_of_their_payload(nics, begin):
    begin("damage-rx:every=2", port=1)
    ring, received = TxRing(nics[0]), RxRing(nics[1])
    packets = [ethernet(bytes([number]) * 200) for number in range(20)]
    for packet in packets:
        ring.send(packet)
    differences = []
    for packet, got in zip(packets, received.take(20), strict=True):
        different = int.from_bytes(packet, "big") ^ int.from_bytes(got.data, "big")
        assert packet[:42] == got.data[:42]
        differences.append(different.bit_count())
    assert differences == [0, 1] * 10
    assert nics[1].read(CRCERRS) == 0


def test_reordered_packets(nics, begin, count):
    begin("reorder-rx:every=3", port=1)
    nics[1].enable_stamps()
    ring, received = TxRing(nics[0]), RxRing(nics[1])
    send(ring, 8)
    packets = received.take(8)
    numbers = [int.from_bytes(packet.data[14:16], "big") for packet in packets]
    assert numbers == [1, 2, 4, 3, 5, 6, 8, 7]
    assert count("reorder-rx", 1) == 2
    stamps = [packet.stamps_ns[1] for packet in packets]
    assert stamps == sorted(set(stamps))  # the wire carries one at a time


# -- descriptors and interrupts


def test_late_completions_come_in_their_order(nics, begin):
    begin("delay-completion:delay=1ms..60ms")
    ring, received = TxRing(nics[0]), RxRing(nics[1])
    indices = [ring.put(numbered(number)) for number in range(1, 9)]
    start_ns = time.monotonic_ns()
    ring.kick()

    def done():
        states = [ring.is_done(index) for index in indices]
        assert states == sorted(states, reverse=True)
        return all(states)

    nics[0].until(done)
    assert time.monotonic_ns() - start_ns >= 1_000_000
    assert arrived(nics, received) == list(range(1, 9))


def test_lost_completions(nics, begin, count):
    begin("lose-completion:every=3")
    ring = TxRing(nics[0])
    indices = [ring.put(numbered(number)) for number in range(7)]
    ring.kick()
    nics[0].until(lambda: ring.is_done(indices[-1]))
    assert [ring.is_done(index) for index in indices] == [1, 1, 0, 1, 1, 0, 1]
    assert count("lose-completion") == 2
    assert nics[0].read(0xE010) == 7


def test_lost_interrupts(nics, begin, count):
    begin("lose-interrupt:vector=2,count=1")
    nic = nics[0]
    for vector in (1, 2):
        nic.signals(vector)
    nic.write(kit.EICS, 0b110)
    nic.settle()
    assert (nic.signals(1), nic.signals(2)) == (1, 0)
    # The lost one is not masked as one is that was raised: the next cause raises it.
    assert nic.read(kit.EIMS) & 0b110 == 0b100
    nic.write(kit.EICS, 0b110)
    nic.settle()
    assert (nic.signals(1), nic.signals(2)) == (0, 1)
    assert count("lose-interrupt") == 1


def test_a_slow_head_waits_once_for_each_packet(nics, begin, count):
    begin("slow-head:delay=30ms,every=2")
    nic, ring = nics[0], TxRing(nics[0])
    nic.enable_stamps()
    last = [ring.put(numbered(slot), stamp=slot) for slot in range(4)][-1]
    start_ns = nic.time()
    ring.kick()
    nic.until(lambda: ring.is_done(last))
    nic.until(lambda: nic.read(kit.TSYNCTXCTL) & 0xF == 0xF)
    times = [nic.stamp(slot) - start_ns for slot in range(4)]
    assert times == sorted(times)
    assert times[1] - times[0] >= 30_000_000
    assert times[3] - times[2] >= 30_000_000
    assert count("slow-head") == 2


# -- link and clock


def test_the_link_flaps_once(i226, nics, begin):
    nics[0].read(kit.ICR)
    begin("flap-link:down=50ms")
    assert nics[0].read(kit.STATUS) & 2 == 0
    assert nics[0].read(kit.ICR) & 4
    nics[0].until(lambda: nics[0].read(kit.STATUS) & 2, "the link")
    assert nics[0].read(kit.ICR) & 4
    assert i226.control(state=None)["faults"] == {"flap-link": 1}


def test_the_link_flaps_again_and_again_until_it_is_over(i226, nics, begin, count):
    begin("flap-link:period=20ms,down=5ms,after=2,count=3")
    nics[0].until(lambda: count("flap-link") == 3, "three times")
    nics[0].until(lambda: nics[0].read(kit.STATUS) & 2, "the link")


def test_another_flapping_takes_the_place_of_the_first(i226, nics, begin, count):
    begin("flap-link:period=10ms,down=1ms")
    nics[0].until(lambda: count("flap-link") >= 2)
    begin("flap-link:period=300s,down=1ms")
    start_ns = nics[0].time()
    nics[0].until(lambda: nics[0].time() > start_ns + 100_000_000)
    assert count("flap-link") == 1


def test_the_clock_jumps(i226, nics, begin):
    nics[0].set_time(1000 * S)
    answer = begin("step-phc:by=-37s")
    assert answer["faults"] == {}  # over at once
    assert 963 * S <= nics[0].time() < 1000 * S
    i226.control(phc_step_ns=500 * S)
    assert 1463 * S <= nics[0].time() < 1500 * S


def test_the_oscillator_runs_too_fast(i226, nics):
    nics[0].set_time(0)
    i226.control(phc_ppb=500_000_000)
    first = i226.control(state=None)
    second = i226.control(state=None)
    i226.control(phc_ppb=0)
    elapsed_ns = second["model_ns"] - first["model_ns"]
    assert abs((second["phc_ns"] - first["phc_ns"]) * 2 - elapsed_ns * 3) <= 3


# -- the control socket, and what cannot be understood


def test_the_state(i226, nics):
    state = i226.control(state=None, port=1)
    assert state["model_ns"] <= time.monotonic_ns()
    assert (state["port"], state["mac"], state["speed"]) == (1, MACS[1].hex(":"), 2500)
    assert (state["faults"], state["num_bad"]) == ({}, 0)
    ring = TxRing(nics[0])
    ring.put_raw(0x10, 0x2B30003C, 0)  # an address that is not mapped
    ring.put_raw(0, 0x0B00003C, 0)  # a legacy descriptor
    ring.kick()
    nics[0].settle()
    assert i226.control(state=None)["num_bad"] == 2


def test_faults_are_cleared_by_name_or_all(i226, begin):
    for name in ("drop-rx", "lose-stamp", "corrupt-rx"):
        begin(name)
    assert set(i226.control(clear="drop-rx")["faults"]) == {"lose-stamp", "corrupt-rx"}
    assert i226.control(clear="step-phc")["faults"].keys() == {"lose-stamp", "corrupt-rx"}
    assert i226.control(clear=None)["faults"] == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting"),
        ("7", "a request is an object"),
        ("[]", "a request is an object"),
        ('{"port": 2}', "no port 2"),
        ('{"port": -1}', "no port -1"),
        ('{"port": "0"}', "no port '0'"),
        ('{"jump": 1}', "nothing is called 'jump'"),
        ('{"fault": "burn"}', "no fault 'burn'; there are delay-stamp"),
        ('{"fault": 3}', "int"),
        ('{"clear": []}', "unhashable"),
        ('{"clear": "burn"}', "no fault 'burn'"),
        ('{"phc_step_ns": 1e400}', "no integer"),
        ('{"phc_step_ns": 1.5}', "no integer"),
        ('{"phc_step_ns": "1"}', "no integer"),
        ('{"phc_ppb": -1000000000}', "no integer up to"),
        ('{"phc_step_ns": ' + "9" * 5000 + "}", "digit"),
        ("[" * 30_000, "nested too deeply"),
    ],
)
def test_what_the_control_socket_does_not_understand(i226, line, message):
    error, state = map(json.loads, i226.control_lines(line, '{"state": null}'))
    assert list(error) == ["error"]
    assert message in error["error"]
    assert state["port"] == 0


def test_a_line_without_end_is_hung_up_on(i226):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(kit.LIMIT_S)
        sock.connect(str(i226.control_path))
        with pytest.raises(OSError):  # a reset, or a broken pipe
            while True:
                sock.sendall(b" " * 4096)
    assert i226.control(state=None)["port"] == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no fault ''"),
        ("lose-stamp:slot=1", "fault lose-stamp has no 'slot'"),
        ("lose-stamp:every", "'every' is no KEY=VALUE"),
        ("lose-stamp:every=-1", "every=-1: not a number"),
        ("lose-stamp:every=1.5", "not a number"),
        ("lose-stamp:count=\u0663", "not a number"),
        ("delay-stamp", "fault delay-stamp needs delay="),
        ("delay-stamp:delay=5", "'5' is no duration"),
        ("delay-stamp:delay=-5us", "is no delay"),
        ("delay-stamp:delay=5us..1us", "is no delay"),
        ("delay-stamp:delay=exp(x)", "'x' is no duration"),
        ("slow-head:delay=" + "9" * 30 + "s", "longer than a year"),
        ("flap-link:period=-1s", "period=-1s: not in the future"),
        ("flap-link:down=0s", "down=0s: not in the future"),
        ("step-phc", "fault step-phc needs by="),
        ("wrong-phy:by=x", "'x' is no duration"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(FaultSpecError, match=re.escape(message)):
        parse_fault(spec)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [("20us", 20_000), ("1.5ms", 1_500_000), ("-37s", -37 * S), ("9007199.254740993s", None)],
)
def test_durations_are_exact(text, expected_ns):
    # The last one is no float.
    assert parse_duration(text) == (9_007_199_254_740_993 if expected_ns is None else expected_ns)


# -- flow control


def test_a_full_fifo_loses_packets_and_counts_them(nics):
    ring, received = TxRing(nics[0]), RxRing(nics[1], num_given=0)
    packet = ethernet(bytes(1500))
    for _ in range(30):
        ring.send(packet)
    nics[1].settle()
    fitting = 34 * 1024 // 1514  # IGC_RXPBSIZE_EXP_BMC_DEFAULT
    assert nics[1].read(kit.MPC) == 30 - fitting
    assert (nics[1].read(RQDPC), nics[1].read(RQDPC)) == (30 - fitting, 0)
    assert nics[1].read(RNBC) == fitting
    nics[1].signals(1)
    received.give(100)
    assert [got.data for got in received.take(fitting)] == [packet] * fitting
    assert nics[1].wait_for_vector(1) == 1
    ring.send(packet)
    assert received.take_one().data == packet
    assert nics[1].read(kit.MPC) == 0


def test_a_queue_that_is_disabled_loses_what_it_holds(nics):
    ring, received = TxRing(nics[0]), RxRing(nics[1], num_given=0)
    for _ in range(30):
        ring.send(ethernet(bytes(1500)))
    nics[1].settle()
    nics[1].put(0xC028, 0)  # RXDCTL
    assert nics[1].read(kit.MPC) == 8
    nics[1].put(0xC028, 0x02000000)
    ring.send(numbered(7))
    nics[1].settle()
    received.give(10)
    assert arrived(nics, received) == [7]


def test_a_receiver_lets_the_sender_pause_and_go_on(start_i226, connect_i226):
    # At 10 Mb/s the longest pause is 3.3 s, and a packet 1.2 ms.
    server = start_i226("--speed", "10")
    sender, receiver = connect_i226(server)
    sender.put(kit.CTRL, RFCE)
    receiver.write(FCRTL, 0x80000000 | 8 * 1024)
    receiver.write(FCRTH, 16 * 1024)
    receiver.write(FCTTV, 0xFFFF)
    receiver.put(kit.CTRL, TFCE)
    ring, received = TxRing(sender), RxRing(receiver, num_given=0)
    last = [ring.put(ethernet(bytes(1500))) for _ in range(60)][-1]
    ring.kick()
    sender.until(lambda: sender.read(kit.STATUS) & 0x10, "the pause")  # TXOFF
    start_ns = time.monotonic_ns()
    sender.settle()
    head = sender.read(0xE010)
    assert 10 < head < 20
    assert (receiver.read(XOFFTXC), sender.read(XOFFRXC)) == (1, 1)
    sender.until(lambda: time.monotonic_ns() > start_ns + 50_000_000)
    assert sender.read(0xE010) == head
    received.give(200)
    received.take(60)
    assert sender.read(kit.STATUS) & 0x10 == 0
    assert time.monotonic_ns() - start_ns < 3_000_000_000
    assert (receiver.read(XONTXC), sender.read(XONRXC)) == (1, 1)
    assert receiver.read(kit.MPC) == 0
    assert ring.is_done(last)


def test_a_sender_without_flow_control_does_not_pause(nics):
    nics[1].write(FCRTH, 8 * 1024)
    nics[1].write(FCTTV, 0xFFFF)
    nics[1].put(kit.CTRL, TFCE)
    ring = TxRing(nics[0])
    RxRing(nics[1], num_given=0)
    for _ in range(30):
        ring.send(ethernet(bytes(1500)))
    nics[1].settle()
    assert nics[0].read(XOFFRXC) == nics[1].read(XOFFTXC) > 0
    assert nics[0].read(kit.STATUS) & 0x10 == 0
    assert nics[1].read(kit.MPC) == 8
