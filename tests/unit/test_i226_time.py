# SPDX-License-Identifier: GPL-2.0-only
"""The virtual I226's time: its clocks, the stamps of packets, launch times, the truth log."""

import itertools
import time
from fractions import Fraction
from math import floor

import pytest

from tests.unit import i226_kit as kit
from tests.unit.i226_kit import BROADCAST, MACS, RX_NS, TX_NS, RxRing, TxRing, ethernet
from xdptstamp.lab.i226.clock import Clock

S = 10**9
EPOCH = 1_790_000_000 * S
TSICR_TXTS, ICR_TS = 0x2, 1 << 19
COLUMNS = (
    "port,mac,direction,queue_id,slot,wire_ns,register_ns,outcome,model_ns,"
    "src_port,dst_port,payload,length"
)


def udp(payload, ports=(1000, 2000)):
    """A UDP packet without checksums: the log wants its ports and payload."""
    size = 28 + len(payload)
    ip = bytes([0x45, 0]) + size.to_bytes(2, "big") + bytes(4) + b"\x40\x11\0\0" + bytes(8)
    header = b"".join(port.to_bytes(2, "big") for port in ports)
    header += (8 + len(payload)).to_bytes(2, "big") + b"\0\0"
    return ethernet(ip + header + payload, ethertype=0x0800)


# -- the clock


class Changes:
    """Counts how often a clock says that it changed."""

    def __init__(self):
        self.num = 0

    def __call__(self):
        self.num += 1


def make_clock(now_ns=0):
    changes = Changes()
    return Clock(now_ns, changes), changes


def test_a_clock_runs_with_the_model():
    clock, _ = make_clock(1000)
    clock.set(5000, EPOCH)
    assert clock.at(5000) == EPOCH
    assert clock.at(5000 + 123_456_789_012) == EPOCH + 123_456_789_012
    assert clock.at(4000) == EPOCH - 1000
    clock.step(6000, -S)
    assert clock.at(6000) == EPOCH + 1000 - S


@pytest.mark.parametrize("sign", [0, 0x80000000])
@pytest.mark.parametrize("scaled_ppm", [0, 1, 65536, 50 * 65536, 62_499_999 * 65536 // 1000])
@pytest.mark.parametrize("oscillator_ppb", [0, -1, 50_000])
def test_timinca_is_exact(sign, scaled_ppm, oscillator_ppb):
    # As igc_ptp_adjfine_i225; TIMINCA adds 2^-32 ns to each 3.2 ns (datasheet, 8.15.6).
    increment = (scaled_ppm << 14) // 78125
    clock, _ = make_clock()
    clock.set_oscillator(0, oscillator_ppb)
    clock.set(0, EPOCH)
    clock.set_timinca(0, increment | sign)
    offset = Fraction(increment, 1 << 32) / Fraction(32, 10)
    rate = (1 - offset if sign else 1 + offset) * (1 + Fraction(oscillator_ppb, S))
    for elapsed_ns in (1, 999, S, 3600 * S):
        # A rate is a whole number of 2^-36: only the oscillator's can need rounding.
        error_ns = 0 if oscillator_ppb == 0 else Fraction(elapsed_ns, 1 << 36)
        exact = EPOCH + elapsed_ns * rate
        assert floor(exact - error_ns) <= clock.at(elapsed_ns) <= floor(exact)
    # 1 ppm is 1 ppm to within what the driver's division leaves: less than one increment.
    expected = Fraction(scaled_ppm, 65536) / 10**6
    assert 0 <= expected - offset < Fraction(10, 1 << 37)


def test_the_rate_changes_without_a_jump():
    clock, _ = make_clock()
    clock.set(0, EPOCH)
    before = clock.at(S)
    for change in (
        lambda: clock.set_timinca(S, 0x7FFFFFFF),
        lambda: clock.set_oscillator(S, 100_000),
        lambda: clock.set_timinca(S, 0xFFFFFFFF),
        lambda: clock.run(S, is_running=False),
        lambda: clock.run(S, is_running=True),
    ):
        change()
        assert clock.at(S) == before


@pytest.mark.parametrize("register", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000001])
def test_when_is_the_inverse_of_at(register):
    clock, _ = make_clock()
    clock.set(17, EPOCH)
    clock.set_timinca(1000, register)
    for reading_ns in (EPOCH + 5000, EPOCH + 5001, EPOCH + 7 * S, EPOCH - 7 * S):
        model_ns = clock.when(reading_ns)
        assert clock.at(model_ns) >= reading_ns > clock.at(model_ns - 1)


def test_a_clock_that_stands_still_goes_on_later():
    clock, _ = make_clock()
    clock.set(0, EPOCH)
    clock.run(10, is_running=False)
    assert clock.at(3600 * S) == EPOCH + 10 + floor(Fraction(3600 * S, 1 << 36))
    clock.run(3600 * S, is_running=True)
    assert clock.at(3601 * S) - clock.at(3600 * S) == S


def test_each_change_is_told():
    clock, changes = make_clock()
    for number, change in enumerate(
        (
            lambda: clock.set(0, 1),
            lambda: clock.step(0, 1),
            lambda: clock.set_timinca(0, 1),
            lambda: clock.set_oscillator(0, 1),
            lambda: clock.run(0, is_running=False),
        ),
        start=1,
    ):
        change()
        assert changes.num == number


# -- its registers


def test_systim_is_set_latched_and_runs(nics):
    nic = nics[0]
    before_ns = time.monotonic_ns()
    nic.set_time(EPOCH + 999_999_999)
    nic.read(kit.STATUS)
    set_ns = time.monotonic_ns()
    low = nic.read(kit.SYSTIML)
    after_ns = time.monotonic_ns()
    reading_ns = nic.read(kit.SYSTIMH) * S + low
    elapsed_ns = reading_ns - EPOCH - 999_999_999
    assert 0 <= elapsed_ns <= after_ns - before_ns
    assert elapsed_ns <= after_ns - set_ns + (set_ns - before_ns)
    # The high half is of the moment at which the low one was read.
    assert nic.read(kit.SYSTIMH) * S + low == reading_ns


def test_the_two_timers_are_apart(nics):
    nic = nics[0]
    nic.set_time(EPOCH)
    other = nic.time(1)
    assert other < 3600 * S < EPOCH <= nic.time(0)
    nic.write(0xB688, 5)
    nic.write(0xB68C, 7)
    assert 0 <= nic.time(1) - 7 * S - 5 < S
    assert nic.time(0) >= EPOCH


def test_timadj_steps_by_its_sign(nics):
    nic = nics[0]
    nic.set_time(EPOCH)
    nic.write(kit.TIMADJ, 500_000_000)
    first = nic.time()
    assert 500_000_000 <= first - EPOCH < 500_000_000 + 60 * S
    nic.write(kit.TIMADJ, 0x80000000 | 0x3B9ACA00 - 1)
    assert nic.time() - first < 60 * S - 999_999_999
    nic.write(kit.TIMADJ, 0x40000000)  # IGC_TIMADJ_ADJUST_METH alone: as igc_ptp_reset writes it
    assert EPOCH - 500_000_000 <= nic.time() < EPOCH + 60 * S


def test_tsauxc_stops_and_starts_the_timers(nics):
    nic = nics[0]
    nic.set_time(EPOCH)
    nic.write(kit.TSAUXC, 1 << 31)
    stopped = nic.time()
    running = nic.time(1)
    assert nic.time() == stopped
    assert nic.time(1) > running
    nic.write(kit.TSAUXC, 1 << 27)
    standing = nic.time(1)
    assert nic.time(1) == standing
    assert nic.time() > stopped
    nic.write(kit.TSAUXC, 0)
    assert nic.time(1) > standing


# -- stamps


@pytest.mark.parametrize("speed", [10, 100, 1000, 2500])
def test_every_stamp_is_exact_at_every_speed(start_i226, connect_i226, speed):
    server = start_i226("--speed", str(speed), "--delay", "40ns")
    nics = connect_i226(server)
    for nic in nics:
        nic.enable_stamps()
    sender, receiver = nics
    sender.set_time(EPOCH)
    receiver.set_time(2 * EPOCH)
    ring, received = TxRing(sender, queue=1), RxRing(receiver)
    stamps = []
    for slot in (0, 1, 2, 3, 2, 0):
        ring.send(udp(b"payload of %d" % slot), stamp=slot)
        sender.until(lambda slot=slot: sender.read(kit.TSYNCTXCTL) >> slot & 1, "the stamp")
        stamps.append((slot, sender.stamp(slot) + TX_NS[speed]))
        assert sender.read(kit.TSYNCTXCTL) & 0xF == 0
    packets = received.take(len(stamps))
    lines = server.truth()
    sent = [line for line in lines if line["direction"] == "tx"]
    arrived = [line for line in lines if line["direction"] == "rx"]
    assert [(int(line["slot"]), int(line["wire_ns"])) for line in sent] == stamps
    assert [int(line["register_ns"]) + TX_NS[speed] for line in sent] == [s for _, s in stamps]
    wire_ns = [packet.stamps_ns[1] - RX_NS[speed] for packet in packets]  # timer 0
    assert [int(line["wire_ns"]) for line in arrived] == wire_ns
    # What left at a moment was there after the cable's length, in the model's time.
    assert [int(line["model_ns"]) for line in arrived] == [int(s["model_ns"]) + 40 for s in sent]
    for line in sent:
        assert (line["port"], line["mac"], line["queue_id"]) == ("0", MACS[0].hex(":"), "1")
        assert (line["outcome"], line["src_port"], line["dst_port"]) == (
            "delivered",
            *"1000 2000".split(),
        )
        assert (bytes.fromhex(line["payload"])[:12], line["length"]) == (
            b"payload of %d" % int(line["slot"]),
            "60",
        )
    assert {(line["port"], line["mac"], line["slot"], line["queue_id"]) for line in arrived} == {
        ("1", MACS[1].hex(":"), "", "0")
    }


def test_an_error_of_the_phy_shows(start_i226, connect_i226):
    server = start_i226("--fault", "wrong-phy:by=7ns")
    server.control(port=1, fault="wrong-phy:by=-9ns")
    nics = connect_i226(server)
    for nic in nics:
        nic.enable_stamps()
    ring, received = TxRing(nics[0]), RxRing(nics[1])
    ring.send(udp(b""), stamp=0)
    nics[0].until(lambda: nics[0].read(kit.TSYNCTXCTL) & 1)
    stamp_ns = nics[0].stamp(0) + TX_NS[2500]
    packet = received.take_one()
    sent, arrived = server.truth()
    assert stamp_ns - int(sent["wire_ns"]) == -7
    assert packet.stamps_ns[1] - RX_NS[2500] - int(arrived["wire_ns"]) == -9


def test_a_stamp_of_the_other_timer(i226, nics):
    nic = nics[0]
    nic.enable_stamps()
    nic.set_time(EPOCH)
    ring = TxRing(nic)
    before = nic.time(1)
    ring.send(udp(b""), stamp=3, timer=1)
    nic.until(lambda: nic.read(kit.TSYNCTXCTL) & 8)
    assert before < nic.stamp(3) + TX_NS[2500] < nic.time(1) < EPOCH


def test_both_timers_are_in_front_of_a_received_packet(nics):
    nic = nics[1]
    nic.enable_stamps()
    nic.set_time(EPOCH)
    received = RxRing(nic)
    before = [nic.time(1), nic.time(0)]
    packet = udp(b"hello")
    TxRing(nics[0]).send(packet)
    got = received.take_one()
    after = [nic.time(1), nic.time(0)]
    assert got.data == packet
    for low, stamp_ns, high in zip(before, got.stamps_ns, after, strict=True):
        assert low <= stamp_ns - RX_NS[2500] <= high


def test_no_rx_stamps_unless_asked_for(nics):
    received = RxRing(nics[1])
    TxRing(nics[0]).send(udp(b""))
    assert received.take_one().stamps_ns is None


def test_the_stamp_interrupt(nics):
    nic = nics[0]
    nic.enable_stamps()
    nic.write(kit.TSIM, TSICR_TXTS)
    nic.write(kit.IMS, ICR_TS)
    nic.read(kit.ICR)
    nic.write(kit.EIMS, 1)
    nic.settle()
    nic.signals(0)
    TxRing(nic).send(udp(b""), stamp=1)
    assert nic.wait_for_vector(0) == 1
    assert nic.read(kit.ICR) == 0x80000000 | ICR_TS
    assert (nic.read(kit.TSICR), nic.read(kit.TSICR)) == (TSICR_TXTS, 0)
    assert nic.read(kit.TSYNCTXCTL) & 0xF == 2  # until it is read
    nic.stamp(1)
    assert nic.read(kit.TSYNCTXCTL) & 0xF == 0


def test_a_register_that_holds_a_stamp_keeps_it(i226, nics):
    nic = nics[0]
    nic.enable_stamps()
    ring = TxRing(nic)
    num_before = len(i226.truth())
    ring.send(udp(b"1"), stamp=0)
    nic.until(lambda: nic.read(kit.TSYNCTXCTL) & 1)
    ring.send(udp(b"2"), stamp=0)
    stamp_ns = nic.stamp(0) + TX_NS[2500]
    first, second = i226.truth()[num_before:]
    assert (first["outcome"], second["outcome"]) == ("delivered", "busy")
    assert stamp_ns == int(first["wire_ns"]) < int(second["wire_ns"])


def test_no_stamps_while_they_are_off(i226, nics):
    num_before = len(i226.truth())
    TxRing(nics[0]).send(udp(b""), stamp=0)
    nics[0].settle()
    assert nics[0].read(kit.TSYNCTXCTL) & 0xF == 0
    assert [line["outcome"] for line in i226.truth()[num_before:]] == ["disabled"]


def test_without_a_link_there_is_no_stamp(i226, nics):
    nics[0].enable_stamps()
    num_before = len(i226.truth())
    i226.control(link=False)
    TxRing(nics[0]).send(udp(b""), stamp=0)
    nics[0].settle()
    i226.control(link=True)
    assert nics[0].read(kit.TSYNCTXCTL) & 0xF == 0
    assert [line["outcome"] for line in i226.truth()[num_before:]] == ["lost"]


def test_no_stamp_is_there_before_its_packet_is_on_the_wire(start_i226, connect_i226):
    # At 10 Mb/s a large packet takes a millisecond, and the one behind it is fetched ahead.
    server = start_i226("--speed", "10", num_ports=1)
    (nic,) = connect_i226(server)
    nic.enable_stamps()
    ring = TxRing(nic)
    for slot in range(4):
        ring.put(ethernet(bytes(1500)), stamp=slot)
    ring.kick()
    for slot in range(4):
        nic.until(lambda slot=slot: nic.read(kit.TSYNCTXCTL) >> slot & 1)
        now_ns = nic.time()
        assert nic.stamp(slot) + TX_NS[10] <= now_ns
    wire_ns = [int(line["wire_ns"]) for line in server.truth()]
    # 1514 bytes, FCS, preamble and gap; more where the process was late.
    assert all(b - a >= 1538 * 800 for a, b in itertools.pairwise(wire_ns))


def test_the_log_has_its_columns_and_what_is_no_udp(i226, nics):
    assert i226.truth_path.read_text(encoding="ascii").splitlines()[0] == COLUMNS
    nics[0].enable_stamps()
    TxRing(nics[0]).send(ethernet(b"x", destination=BROADCAST), stamp=0)
    nics[0].settle()
    line = i226.truth()[-1]
    assert (line["src_port"], line["dst_port"], line["payload"]) == ("", "", "")


# -- launch times


@pytest.fixture
def launching(nics):
    """A port whose queue 0 has launch times in cycles of 0.4 s from EPOCH on, and its ring."""
    nic = nics[0]
    nic.set_time(EPOCH)
    nic.write(0x331C, 400_000_000)  # QBVCYCLET
    nic.write(0x3314, 0)  # BASET_L
    nic.write(0x3318, EPOCH // S)  # BASET_H
    nic.write(0x3344, 1)  # TXQCTL(0): launch times
    nic.write(0x3570, 1)  # TQAVCTRL: TSN
    nic.enable_stamps()
    return nic, TxRing(nic)


def launch(nic, ring, slot, **options):
    ring.put_context(**options)
    index = ring.put(udp(b""), stamp=slot)
    ring.kick()
    return index


def stamp(nic, slot):
    nic.until(lambda: nic.read(kit.TSYNCTXCTL) >> slot & 1, "the stamp")
    return nic.stamp(slot) + TX_NS[2500]


@pytest.mark.parametrize(
    ("start_ns", "offset_ns", "is_first", "expected_ns"),
    [
        (10 * S, 700_000_000, False, 10 * S + 700_000_000),  # in this cycle
        (9_300_000_000, 1, True, 10 * S + 1),  # the first flag: in the next one
    ],
)
def test_a_packet_is_launched_to_the_nanosecond(
    launching, start_ns, offset_ns, is_first, expected_ns
):
    nic, ring = launching
    nic.write(0x331C, 2_000_000_000)
    nic.set_time(EPOCH + start_ns)
    index = launch(nic, ring, 0, launch=offset_ns, is_first=is_first)
    nic.settle()
    assert not ring.is_done(index)
    assert stamp(nic, 0) == EPOCH + expected_ns <= nic.time()
    assert ring.is_done(index)


def test_a_launch_time_that_is_past_is_now_and_one_packets_only(launching):
    nic, ring = launching
    before = nic.time()
    launch(nic, ring, 0, launch=1)
    wire_ns = stamp(nic, 0)
    assert before <= wire_ns <= nic.time()
    ring.put(udp(b""), stamp=1)  # no context of its own
    ring.kick()
    assert wire_ns < stamp(nic, 1) < nic.time()


def test_the_queue_waits_and_other_queues_do_not(launching):
    nic, ring = launching
    other = TxRing(nic, queue=1)
    launch(nic, ring, 0, launch=200_000_000, is_first=True)
    behind = ring.put(udp(b""), stamp=1)
    ring.kick()
    other.send(udp(b""), stamp=2)
    overtaking, waited, follower = stamp(nic, 2), stamp(nic, 0), stamp(nic, 1)
    assert overtaking < waited < follower
    nic.until(lambda: ring.is_done(behind))


def test_a_step_of_the_clock_launches_what_it_jumped_over(launching):
    nic, ring = launching
    nic.write(0x331C, 4_000_000_000)
    launch(nic, ring, 0, launch=3_900_000_000, is_first=True)
    nic.settle()
    assert nic.read(kit.TSYNCTXCTL) & 1 == 0
    before = nic.time()
    nic.set_time(before + 60 * S)
    wire_ns = stamp(nic, 0)
    assert before + 60 * S <= wire_ns <= nic.time()


def test_a_clock_that_stands_still_launches_nothing(launching):
    nic, ring = launching
    nic.write(kit.TSAUXC, 1 << 31)
    index = launch(nic, ring, 0, launch=100_000_000, is_first=True)
    nic.settle()
    assert not ring.is_done(index)
    nic.write(kit.TSAUXC, 0)
    nic.until(lambda: ring.is_done(index))


def test_a_cycle_of_nothing_is_a_second(launching):
    nic, ring = launching
    nic.write(0x331C, 0)
    nic.set_time(EPOCH + 100_000_000)
    launch(nic, ring, 0, launch=800_000_000)
    assert stamp(nic, 0) == EPOCH + 800_000_000


def test_without_the_mode_there_are_no_launch_times(launching):
    nic, ring = launching
    nic.write(0x3344, 0)
    before = nic.time()
    launch(nic, ring, 0, launch=399_999_999, is_first=True)
    assert stamp(nic, 0) - before < 400_000_000
