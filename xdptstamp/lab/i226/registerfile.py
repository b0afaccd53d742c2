# SPDX-License-Identifier: GPL-2.0-only
"""BAR 0: which registers do something when they are read or written; the others just keep."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from xdptstamp.lab.i226 import registers as reg

if TYPE_CHECKING:
    from xdptstamp.lab.i226.port import Port
    from xdptstamp.lab.i226.rxqueue import RxQueue
    from xdptstamp.lab.i226.txqueue import TxQueue

_WORD_MASK = 0xFFFFFFFF
_TIMADJ_SIGN, _TIMADJ_MASK = 1 << 31, 0x3FFFFFFF
_RXPBS_DEFAULT = 0x000000A2

#: Registers that steer packets: filters read them anew after a write.
_STEERING = (
    (reg.RCTL, reg.RCTL),
    (reg.MRQC, reg.MRQC),
    (reg.MTA, reg.MTA + 0x1FC),
    (reg.RA, reg.RA + 8 * reg.NUM_RECEIVE_ADDRESSES - 4),
    (reg.RETA, reg.RETA + 0x7C),
    (reg.RSSRK, reg.RSSRK + 0x24),
    (reg.ETQF, reg.ETQF + 4 * reg.NUM_ETQF - 4),
    (reg.VLANPQF, reg.VLANPQF),
    (reg.WUFC, reg.WUFC_EXT),
)


class RegisterFile:
    """The registers of one port."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._words = array("I", bytes(reg.BAR0_SIZE))
        self._readers: dict[int, Callable[[], int]] = {}
        self._writers: dict[int, Callable[[int], None]] = {}
        self._pending_ns = 0
        self.is_tx_enabled = False

    def reset(self) -> None:
        """All as after power-on."""
        self._words = array("I", bytes(reg.BAR0_SIZE))
        self._pending_ns = 0
        self.is_tx_enabled = False
        if not self._readers:
            self._make_handlers()
        low, high = self._port.config.mac[:4], self._port.config.mac[4:]
        words = self._words
        words[reg.RA >> 2] = int.from_bytes(low, "little")
        words[(reg.RA + 4) >> 2] = int.from_bytes(high, "little") | reg.RAH_AV
        words[reg.EECD >> 2] = reg.EECD_AUTO_RD
        words[reg.I225_PHPM >> 2] = reg.PHPM_RST_COMP
        words[reg.RXPBS >> 2] = _RXPBS_DEFAULT

    def stored(self, offset: int) -> int:
        """What was last written."""
        return self._words[offset >> 2]

    def read(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes, each word that they touch once."""
        if size == 4 and not offset & 3:
            return self._read_word(offset).to_bytes(4, "little")
        first = offset & ~3
        words = range(first, offset + size, 4)
        data = b"".join(self._read_word(word).to_bytes(4, "little") for word in words)
        return data[offset - first : offset - first + size]

    def write(self, offset: int, data: bytes) -> None:
        """Write whole words; what is no whole word is not for a register and does nothing."""
        if not offset & 3:
            for start in range(0, len(data) - 3, 4):
                self._write_word(offset + start, int.from_bytes(data[start : start + 4], "little"))

    def _read_word(self, offset: int) -> int:
        reader = self._readers.get(offset)
        return self._words[offset >> 2] if reader is None else reader() & _WORD_MASK

    def _write_word(self, offset: int, value: int) -> None:
        writer = self._writers.get(offset)
        if writer is None:
            self._words[offset >> 2] = value
        else:
            writer(value)

    # -- the handlers

    def _make_handlers(self) -> None:
        self._make_general()
        self._make_interrupts()
        self._make_time()
        for number in range(reg.NUM_QUEUES):
            self._make_tx_queue(number)
            self._make_rx_queue(number)
        filters = self._port.filters
        for first, last in _STEERING:
            for offset in range(first, last + 4, 4):
                self._writers[offset] = self._storing(offset, lambda _: filters.changed())
        self._writers[reg.FHFTSL] = self._storing(reg.FHFTSL, filters.select_page)
        for first in (reg.FHFT, reg.FHFT_EXT):
            for offset in range(first, first + 0x400, 4):
                self._readers[offset] = _bound(filters.flex_read, offset)
                self._writers[offset] = _bound_write(filters.flex_write, offset)

    def _storing(self, offset: int, action: Callable[[int], object]) -> Callable[[int], None]:
        index = offset >> 2

        def write(value: int) -> None:
            self._words[index] = value
            action(value)

        return write

    def _make_general(self) -> None:
        port = self._port
        statistics = port.statistics
        self._readers[reg.STATUS] = self._status
        self._writers[reg.STATUS] = _ignore
        self._writers[reg.CTRL] = self._write_ctrl
        self._writers[reg.MDIC] = self._write_mdic
        self._writers[reg.EERD] = self._write_eerd
        self._readers[reg.SWSM] = self._read_swsm
        self._writers[reg.I225_PHPM] = lambda value: self._keep(
            reg.I225_PHPM, value | reg.PHPM_RST_COMP
        )
        self._writers[reg.EECD] = lambda value: self._keep(reg.EECD, value | reg.EECD_AUTO_RD)
        self._writers[reg.TCTL] = self._storing(reg.TCTL, self._set_tctl)
        for offset in range(reg.STATISTICS_FIRST, reg.STATISTICS_LAST + 4, 4):
            self._readers[offset] = _bound(statistics.read, offset)
            self._writers[offset] = _ignore

    def _make_interrupts(self) -> None:
        irq = self._port.interrupts

        def set_ims(value: int) -> None:
            irq.write_ims(value)

        def clear(name: str) -> Callable[[int], None]:
            return lambda value: setattr(irq, name, getattr(irq, name) & ~value)

        def put(name: str) -> Callable[[int], None]:
            return lambda value: setattr(irq, name, value)

        self._readers |= {
            reg.ICR: irq.read_icr,
            reg.IMS: lambda: irq.ims,
            reg.EICR: lambda: irq.eicr,
            reg.EIMS: lambda: irq.eims,
            reg.EIAC: lambda: irq.eiac,
            reg.EIAM: lambda: irq.eiam,
            reg.GPIE: lambda: irq.gpie,
            reg.IVAR0: lambda: irq.ivar[0],
            reg.IVAR0 + 4: lambda: irq.ivar[1],
            reg.IVAR_MISC: lambda: irq.ivar_misc,
        }
        self._writers |= {
            reg.ICR: clear("icr"),
            reg.ICS: irq.raise_other,
            reg.IMS: set_ims,
            reg.IMC: clear("ims"),
            reg.EICR: clear("eicr"),
            reg.EICS: irq.set_causes,
            reg.EIMS: irq.unmask,
            reg.EIMC: clear("eims"),
            reg.EIAC: put("eiac"),
            reg.EIAM: put("eiam"),
            reg.GPIE: put("gpie"),
            reg.IVAR0: lambda value: irq.ivar.__setitem__(0, value),
            reg.IVAR0 + 4: lambda value: irq.ivar.__setitem__(1, value),
            reg.IVAR_MISC: put("ivar_misc"),
        }

    def _make_time(self) -> None:
        port = self._port
        stamps = port.stamps
        for timer, (low, high) in enumerate(
            ((reg.SYSTIML, reg.SYSTIMH), (reg.SYSTIML_1, reg.SYSTIMH_1))
        ):
            self._readers[low] = _bound(self._latch_time, timer)
            self._writers[low] = self._set_low_time
            self._writers[high] = _bound_write(self._set_high_time, timer)
        self._writers[reg.TIMINCA] = self._storing(
            reg.TIMINCA, lambda value: port.clocks[0].set_timinca(port.now_ns(), value)
        )
        self._writers[reg.TIMADJ] = self._storing(reg.TIMADJ, self._adjust)
        self._writers[reg.TSAUXC] = self._storing(reg.TSAUXC, self._set_tsauxc)
        self._readers[reg.TSICR] = self._read_tsicr
        self._writers[reg.TSICR] = _ignore
        self._readers[reg.TSYNCTXCTL] = lambda: (
            self.stored(reg.TSYNCTXCTL) & ~reg.TSYNCTXCTL_TXTT_ANY | stamps.valid
        )
        self._writers[reg.TSYNCTXCTL] = self._storing(reg.TSYNCTXCTL, self._set_tsynctxctl)
        for slot in range(reg.NUM_TX_STAMPS):
            self._readers[reg.TXSTMPL[slot]] = _bound(stamps.read_low, slot)
            self._readers[reg.TXSTMPH[slot]] = _bound(stamps.read_high, slot)
            self._writers[reg.TXSTMPL[slot]] = self._writers[reg.TXSTMPH[slot]] = _ignore

    def _make_tx_queue(self, number: int) -> None:
        queue = self._port.queues[number]
        self._make_ring(queue, number, reg.TDBAL, set_tail=_nothing, enable=queue.enable)
        for offset in (reg.TXQCTL + 4 * number, reg.TQAVCTRL):
            self._writers[offset] = self._storing(offset, lambda _: self._set_launch_modes())

    def _make_rx_queue(self, number: int) -> None:
        receiver = self._port.receiver
        queue = receiver.queues[number]
        self._make_ring(
            queue,
            number,
            reg.RDBAL,
            set_tail=lambda: receiver.drain(number),
            enable=lambda is_enabled: receiver.enable(number, is_enabled),
        )
        step = number * reg.QUEUE_STEP
        self._writers[reg.SRRCTL + step] = self._storing(reg.SRRCTL + step, queue.set_srrctl)
        self._readers[reg.RQDPC + step] = _bound(receiver.read_dropped, number)

    def _make_ring(
        self,
        queue: TxQueue | RxQueue,
        number: int,
        first: int,
        *,
        set_tail: Callable[[], None],
        enable: Callable[[bool], None],
    ) -> None:
        # The registers of a ring lie alike on both sides; `first` is BAL of queue 0.
        low, high, length, head, tail, control = (
            first + number * reg.QUEUE_STEP + (register - reg.RDBAL)
            for register in (reg.RDBAL, reg.RDBAH, reg.RDLEN, reg.RDH, reg.RDT, reg.RXDCTL)
        )

        def put_base(_: int) -> None:
            queue.base = (self.stored(high) << 32 | self.stored(low)) & ~0x7F

        def put_tail(value: int) -> None:
            queue.tail = value & 0xFFFF
            set_tail()

        def put_head(value: int) -> None:
            queue.head = value & 0xFFFF

        def put_control(value: int) -> None:
            enable(bool(value & reg.DCTL_QUEUE_ENABLE))

        for offset in (low, high):
            self._writers[offset] = self._storing(offset, put_base)
        self._writers[length] = self._storing(length, queue.set_length)
        self._writers[head], self._readers[head] = put_head, lambda: queue.head
        self._writers[tail], self._readers[tail] = put_tail, lambda: queue.tail
        self._writers[control] = self._storing(control, put_control)

    def _keep(self, offset: int, value: int) -> None:
        self._words[offset >> 2] = value

    def _status(self) -> int:
        port = self._port
        value = reg.STATUS_FD
        if port.speed:
            value |= reg.STATUS_LU | reg.STATUS_SPEED[port.speed]
        if port.paused_until_ns > port.now_ns():
            value |= reg.STATUS_TXOFF
        if not self.stored(reg.CTRL) & reg.CTRL_GIO_MASTER_DISABLE:
            value |= reg.STATUS_GIO_MASTER_ENABLE
        return value

    def _write_ctrl(self, value: int) -> None:
        if value & reg.CTRL_RST:
            self._port.reset_mac()
            return
        # The PHY's reset is over as soon as it is asked for; what it was told stays.
        self._keep(reg.CTRL, value & ~reg.CTRL_PHY_RST)

    def _write_mdic(self, value: int) -> None:
        self._keep(reg.MDIC, self._port.phy.access(value))

    def _write_eerd(self, value: int) -> None:
        # An NVM full of zeros: every word is there at once.
        self._keep(reg.EERD, value & 0xFFFC | reg.NVM_RW_REG_DONE)

    def _read_swsm(self) -> int:
        # SMBI is set by whoever reads it: that it was free is seen by the first reader alone.
        # There is no second one here.
        return self.stored(reg.SWSM) & ~reg.SWSM_SMBI

    def _set_tctl(self, value: int) -> None:
        self.is_tx_enabled = bool(value & reg.TCTL_EN)

    def _set_launch_modes(self) -> None:
        is_tsn = self.stored(reg.TQAVCTRL) & reg.TQAVCTRL_TRANSMIT_MODE_TSN
        for number, queue in enumerate(self._port.queues):
            mode = self.stored(reg.TXQCTL + 4 * number)
            queue.has_launch_times = bool(is_tsn and mode & reg.TXQCTL_QUEUE_MODE_LAUNCHT)

    def _latch_time(self, timer: int) -> int:
        # Reading the low half latches the high one.
        port = self._port
        seconds, nanoseconds = divmod(port.clocks[timer].at(port.now_ns()), 1_000_000_000)
        self._keep((reg.SYSTIMH, reg.SYSTIMH_1)[timer], seconds & _WORD_MASK)
        return nanoseconds

    def _set_low_time(self, value: int) -> None:
        self._pending_ns = value

    def _set_high_time(self, timer: int, value: int) -> None:
        port = self._port
        port.clocks[timer].set(port.now_ns(), value * 1_000_000_000 + self._pending_ns)

    def _adjust(self, value: int) -> None:
        delta_ns = value & _TIMADJ_MASK
        port = self._port
        port.clocks[0].step(port.now_ns(), -delta_ns if value & _TIMADJ_SIGN else delta_ns)

    def _set_tsauxc(self, value: int) -> None:
        now_ns = self._port.now_ns()
        for clock, stop in zip(
            self._port.clocks, (reg.TSAUXC_DISABLE0, reg.TSAUXC_DISABLE1), strict=True
        ):
            clock.run(now_ns, is_running=not value & stop)

    def _set_tsynctxctl(self, value: int) -> None:
        self._port.stamps.is_enabled = bool(value & reg.TSYNCTXCTL_ENABLED)

    def _read_tsicr(self) -> int:
        value, self._port.tsicr = self._port.tsicr, 0
        return value


def _bound(read: Callable[[int], int], argument: int) -> Callable[[], int]:
    return lambda: read(argument)


def _bound_write(write: Callable[[int, int], None], argument: int) -> Callable[[int], None]:
    return lambda value: write(argument, value)


def _ignore(_value: int) -> None:
    # Read-only.
    return


def _nothing() -> None:
    # A Tx ring is looked at when the loop comes round.
    return
