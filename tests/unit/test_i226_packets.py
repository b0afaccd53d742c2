# SPDX-License-Identifier: GPL-2.0-only
"""The virtual I226: packets from one port to the other, interrupts, statistics."""

import os

import pytest

from tests.unit import i226_kit as kit
from tests.unit.i226_kit import BROADCAST, MACS, RxRing, TxRing, ethernet

# Offsets as in igc_regs.h.
GORCL, GORCH, GOTCL, GOTCH, BPRC, MPRC = 0x4088, 0x408C, 0x4090, 0x4094, 0x4078, 0x407C
BPTC, MPTC, TPR, TPT = 0x40F4, 0x40F0, 0x40D0, 0x40D4
PTC, PRC = range(0x40D8, 0x40F0, 4), range(0x405C, 0x4074, 4)


def test_a_packet_arrives_as_it_was_sent_on_all_queues(nics):
    rings = [TxRing(nics[0], queue) for queue in range(4)]
    received = RxRing(nics[1])
    packets = [ethernet(bytes([queue]) * (46 + 13 * queue)) for queue in range(4)]
    for ring, packet in zip(rings, packets, strict=True):
        ring.send(packet)
    assert [packet.data for packet in received.take(4)] == packets


def test_a_short_packet_is_padded(nics):
    received = RxRing(nics[1])
    packet = MACS[1] + MACS[0] + b"\x88\xb5" + b"x"
    TxRing(nics[0]).send(packet)
    assert received.take_one().data == packet + bytes(60 - len(packet))


def test_a_packet_of_several_descriptors_is_joined(nics):
    received, ring = RxRing(nics[1]), TxRing(nics[0])
    packet = ethernet(bytes(range(200)))
    pieces = [packet[:14], packet[14:15], b"", packet[15:]]
    for piece in pieces[:-1]:
        ring.put(piece, command=kit.CMD_DATA & ~kit.CMD_EOP)
    ring.send(pieces[-1])
    assert received.take_one().data == packet


def test_a_packet_larger_than_a_buffer_takes_several(nics):
    received, ring = RxRing(nics[1], buffer_kib=1), TxRing(nics[0], buffer_size=4096)
    packet = ethernet(os.urandom(3000))
    ring.send(packet)
    ring.send(packet[:1024])  # fills one buffer exactly
    assert [each.data for each in received.take(2)] == [packet, packet[:1024]]


def test_the_rings_wrap_and_keep_the_order(nics):
    ring, received = TxRing(nics[0], count=8), RxRing(nics[1], count=16)
    for number in range(100):
        ring.send(ethernet(number.to_bytes(2, "big")))
        assert received.take_one().data[14:16] == number.to_bytes(2, "big")
        received.give(1)


def test_completions_come_only_where_they_were_asked_for(nics):
    ring = TxRing(nics[0])
    silent = ring.put(ethernet(b"1"), command=kit.CMD_DATA & ~0x08000000)
    last = ring.send(ethernet(b"2"))
    assert not ring.is_done(silent)
    assert nics[0].read(0xE010) == last + 1  # TDH


def test_a_batch_is_one_interrupt_and_masks_itself(nics):
    ring = TxRing(nics[0], queue=2)
    nics[0].signals(3)
    for _ in range(10):
        last = ring.put(ethernet(b""))
    ring.kick()
    nics[0].until(lambda: ring.is_done(last))
    nics[0].settle()
    assert nics[0].signals(3) == 1
    assert nics[0].read(kit.EIMS) == 0x1F & ~(1 << 3)  # EIAM
    assert nics[0].read(kit.EICR) == 0  # EIAC
    # What comes while it is masked is kept, and raised when it is unmasked.
    ring.send(ethernet(b""))
    nics[0].settle()
    assert nics[0].signals(3) == 0
    assert nics[0].read(kit.EICR) == 1 << 3
    nics[0].write(kit.EIMS, 1 << 3)
    assert nics[0].wait_for_vector(3) == 1
    assert nics[0].read(kit.EICR) == 0


def test_a_received_packet_raises_its_queue(nics):
    received = RxRing(nics[1])
    nics[1].signals(1)
    TxRing(nics[0]).send(ethernet(b""))
    assert nics[1].wait_for_vector(1) == 1
    assert received.poll() is not None
    assert nics[1].signals(2) == 0


def test_eics_raises_enabled_vectors(nics):
    nic = nics[0]
    nic.write(kit.EIMC, 1 << 4)
    for vector in range(5):
        nic.signals(vector)
    nic.write(kit.EICS, 1 << 2 | 1 << 4)
    nic.settle()
    assert [nic.signals(vector) for vector in range(5)] == [0, 0, 1, 0, 0]
    assert nic.read(kit.EICR) == 1 << 4
    nic.write(kit.EICR, 1 << 4)  # cleared by writing it
    nic.write(kit.EIMS, 1 << 4)
    nic.settle()
    assert nic.signals(4) == 0


def test_without_eiac_and_eiame_software_clears_and_masks(nics):
    nic = nics[0]
    nic.write(kit.EIAC, 0)
    nic.write(kit.GPIE, 0x80000011)
    nic.write(kit.EICS, 1 << 1)
    nic.settle()
    assert nic.read(kit.EICR) == 1 << 1
    assert nic.read(kit.EIMS) == 0x1F


def test_causes_of_icr_are_masked_kept_and_cleared_by_reading(nics):
    nic = nics[0]
    nic.read(kit.ICR)
    nic.signals(0)
    nic.write(kit.IMC, 0xFFFFFFFF)
    nic.write(kit.ICS, 0x4)
    nic.settle()
    assert nic.signals(0) == 0
    nic.write(kit.IMS, 0x4)
    assert nic.wait_for_vector(0) == 1
    assert nic.read(kit.ICR) == 0x80000004
    assert nic.read(kit.ICR) == 0


def test_no_valid_entry_no_interrupt(nics):
    nics[0].write(kit.IVAR0, 0)
    nics[0].signals(1)
    TxRing(nics[0]).send(ethernet(b""))
    nics[0].settle()
    assert nics[0].signals(1) == 0


def test_statistics_count_and_clear_on_read(nics):
    ring, received = TxRing(nics[0]), RxRing(nics[1], num_given=200)
    sizes = [60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1514]
    for size in sizes:
        ring.send(ethernet(bytes(size - 14)))
    ring.send(ethernet(b"", destination=BROADCAST))
    ring.send(ethernet(b"", destination=b"\x01\0\x5e\0\0\x01"))
    received.take(len(sizes) + 2)
    num, octets = len(sizes) + 2, sum(sizes) + 2 * 60 + 4 * (len(sizes) + 2)
    sender, receiver = nics
    assert [sender.read(offset) for offset in (kit.GPTC, TPT, GOTCL, GOTCH, BPTC, MPTC)] == [
        *(num, num, octets, 0, 1, 1)
    ]
    assert [receiver.read(offset) for offset in (kit.GPRC, TPR, GORCL, GORCH, BPRC, MPRC)] == [
        *(num, num, octets, 0, 1, 1)
    ]
    # FCS included: 64, to 127, to 255, to 511, to 1023, above.
    assert [sender.read(offset) for offset in PTC] == [3, 2, 2, 2, 2, 2]
    assert [receiver.read(offset) for offset in PRC] == [3, 2, 2, 2, 2, 2]
    again = (kit.GPTC, TPT, GOTCL, BPTC, *PTC)
    assert [sender.read(offset) for offset in again] == [0] * len(again)


def test_a_port_that_is_reset_or_no_bus_master_sends_nothing(nics):
    ring = TxRing(nics[0])
    nics[0].write(4, 0x0402, size=2, region=7)
    index = ring.put(ethernet(b"1"))
    ring.kick()
    nics[0].settle()
    assert not ring.is_done(index)
    nics[0].write(4, 0x0406, size=2, region=7)
    nics[0].until(lambda: ring.is_done(index))
    nics[0].write(kit.CTRL, 0x04000000)
    index = ring.put(ethernet(b"2"))
    ring.kick()
    nics[0].settle()
    assert not ring.is_done(index)
    assert nics[0].read(kit.TCTL) == 0
    assert nics[0].read(0x5400) == int.from_bytes(MACS[0][:4], "little")
    assert nics[0].read(0x5404) == int.from_bytes(MACS[0][4:], "little") | 0x80000000


def test_without_a_link_packets_go_nowhere(i226, nics):
    ring, received = TxRing(nics[0]), RxRing(nics[1])
    assert nics[0].read(kit.STATUS) & 0x2
    nics[0].read(kit.ICR)
    i226.control(link=False)
    assert nics[0].read(kit.STATUS) & 0x2 == 0
    assert nics[1].read(kit.STATUS) & 0x2 == 0
    assert nics[0].read(kit.ICR) & 0x4
    ring.send(ethernet(b"lost"))
    assert nics[0].read(kit.GPTC) == 0
    i226.control(link=True)
    ring.send(ethernet(b"there"))
    assert received.take_one().data[14:19] == b"there"


@pytest.mark.parametrize(("speed", "bits"), [(10, 0), (100, 0x40), (1000, 0x80), (2500, 0x400080)])
def test_the_status_has_the_speed(start_i226, connect_i226, speed, bits):
    (nic,) = connect_i226(start_i226("--speed", str(speed), num_ports=1))
    assert nic.read(kit.STATUS) & 0x4000C2 == bits | 0x2


def test_the_phy_answers_and_leaves_the_link_when_it_is_powered_down(nics):
    nic = nics[0]

    def mdic(register, data=None):
        operation = 0x08000000 if data is None else 0x04000000 | data
        nic.write(0x20, operation | register << 16)
        value = nic.read(0x20)
        assert value & 0x10000000
        return value & 0xFFFF

    assert (mdic(2), mdic(3) & 0xFC00) == (0x67C9, 0xDC00)  # I225_I_PHY_ID
    assert mdic(1) & 0x24 == 0x24
    control = mdic(0)
    mdic(0, control | 0x0800)
    assert mdic(1) & 0x04 == 0
    assert nics[1].read(kit.STATUS) & 0x2 == 0
    mdic(0, control & ~0x0800)
    assert mdic(1) & 0x04
    # Without 2.5 Gb/s in the advertisement (7.0x20 through registers 13 and 14): 1 Gb/s.
    for register, data in ((13, 7), (14, 0x20), (13, 0x4007), (14, 0)):
        mdic(register, data)
    mdic(0, control | 0x0200)
    assert nics[1].read(kit.STATUS) & 0x4000C2 == 0x82
