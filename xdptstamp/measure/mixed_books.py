# SPDX-License-Identifier: GPL-2.0-only
"""Where the packets of a round went: the sink's books, and the counters on the way to it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdptstamp.collect import collect_counters, pause_frames, tx_counter
from xdptstamp.dut import Dut
from xdptstamp.errors import SetupError
from xdptstamp.measure.sink_client import SinkClient
from xdptstamp.measure.sink_report import SinkReport
from xdptstamp.rounds import Round

# On the DUT: what the stack or the driver would not take. What the kernel dropped of ours (EBUSY)
# is in it.
_DUT_COUNTERS = ("link.tx_dropped",)
_PARTNER_COUNTERS = (
    "link.rx_dropped",
    "link.rx_missed_errors",
    "link.rx_over_errors",
    "link.rx_crc_errors",
    "link.rx_frame_errors",
    "link.rx_length_errors",
)
_RING_COUNTERS = ("rx_dropped", "rx_ring_full")

# The kernel shows a packet in the sink's ring at the end of a poll, and tells nobody when.
_SETTLE_S = 1.0
_SETTLE_STEP_S = 0.01


@dataclass(frozen=True, slots=True)
class Moment:
    """Every counter on the way, at one moment."""

    dut: dict[str, int]
    pause: dict[str, int]
    tx_packets: int | None
    sink: SinkReport | None


class Books:
    """Reads the counters around a round.

    :param sink: None: nobody counts what arrives.
    """

    def __init__(self, dut: Dut, sink: SinkClient | None) -> None:
        self._dut = dut
        self._sink = sink
        self._driver, self._kind = dut.nic.driver_info().driver, dut.nic.link().kind

    def open(self) -> Moment:
        """Every counter before a round."""
        sink = self._sink.report() if self._sink is not None else None
        return self._moment(sink)

    def close(self, opened: Moment, result: Round, sent: Mapping[int, int]) -> None:
        """Write down in ``result`` what the counters gained.

        :param sent: packets sent of each stream; the first one is the round's own.
        :raises SetupError: If the sink has ended.
        """
        if self._sink is None:
            self._note_dut(opened, self._moment(None), result)
            return
        deadline = time.monotonic() + _SETTLE_S
        while True:
            moment = self._moment(self._sink.report())
            self._note_dut(opened, moment, result)
            self._note_sink(opened, moment, result, sent)
            if not result.unaccounted or time.monotonic() > deadline:
                break
            time.sleep(_SETTLE_STEP_S)
        for stream_id in sent:
            self._sink.forget(stream_id)

    def _moment(self, sink: SinkReport | None) -> Moment:
        try:
            dut = collect_counters(self._dut.nic)
        except SetupError:  # the interface is gone, and its counters with it
            return Moment({}, {}, None, sink)
        sent = dut.get(tx_counter(self._kind, dut))
        return Moment(dut, pause_frames(self._driver, dut), sent, sink)

    def _note_dut(self, opened: Moment, closed: Moment, result: Round) -> None:
        if closed.tx_packets is not None and opened.tx_packets is not None:
            result.nic_sent = closed.tx_packets - opened.tx_packets
        result.pause_frames = _gained(opened.pause, closed.pause, tuple(closed.pause), "DUT ")
        result.located = _gained(opened.dut, closed.dut, _DUT_COUNTERS, "DUT ")
        if not closed.dut and result.dropped_by_kernel:
            result.located["dropped by kernel"] = result.dropped_by_kernel
        # Where completions never came; older kernels show late what they have taken.
        not_taken = min(self._dut.xsks[0].tx.num_waiting(), result.lost)
        if not_taken:
            result.located["left in Tx ring"] = not_taken

    def _note_sink(
        self, opened: Moment, closed: Moment, result: Round, sent: Mapping[int, int]
    ) -> None:
        before, after = opened.sink, closed.sink
        assert before is not None and after is not None, "a sink was asked both times"
        own = after.stream(next(iter(sent)))
        result.received, result.missing = own.received, next(iter(sent.values())) - own.received
        result.reordered, result.duplicates = own.reordered, own.duplicates
        result.corrupted, result.pattern_errors = own.corrupted, own.pattern_errors
        located = result.located
        located |= _gained(before.link, after.link, _PARTNER_COUNTERS, "partner ")
        located |= _gained(before.ring, after.ring, _RING_COUNTERS, "sink ")
        refusals = [name for name in after.program if name.startswith(("refused", "passed_no"))]
        located |= _gained(before.program, after.program, refusals, "sink program ")
        streams = [after.stream(stream_id) for stream_id in sent]
        for name in ("corrupted", "too_late"):
            count = sum(getattr(each, name) for each in streams)
            if count:
                located[f"sink {name}"] = count
        missing = sum(sent.values()) - sum(each.received for each in streams)
        _count_once(located, sum(located.values()) - missing)
        _leave_delivered(located, sum(located.values()) - missing)
        result.unaccounted = missing - sum(located.values())


def _count_once(located: dict[str, int], num_twice: int) -> None:
    # What a socket of the sink has no room for some drivers, veth in native mode among them, count
    # as dropped by the interface as well. And a veth that is refused a packet by its peer, for the
    # MTU there, counts what the peer counts.
    elsewhere = [*(f"sink {name}" for name in _RING_COUNTERS), "DUT tx_dropped"]
    num_elsewhere = sum(located.get(name, 0) for name in elsewhere)
    by_interface = located.pop("partner rx_dropped", 0)
    by_interface -= max(min(num_twice, num_elsewhere, by_interface), 0)
    if by_interface:
        located["partner rx_dropped"] = by_interface


def _leave_delivered(located: dict[str, int], num_spare: int) -> None:
    # A NIC may pad a frame that is too short, of the stack's own for one, count it and deliver it
    # all the same: QEMU's igb and e1000e do (RUC, which igb shows as rx_length_errors).
    name = "partner rx_length_errors"
    num_short = located.pop(name, 0)
    num_short -= max(min(num_spare, num_short), 0)
    if num_short:
        located[name] = num_short


def _gained(
    before: Mapping[str, int], after: Mapping[str, int], names: Sequence[str], prefix: str
) -> dict[str, int]:
    # What counters gained, those that gained nothing left out.
    gained = {
        name: after[name] - before[name] for name in names if name in before and name in after
    }
    return {prefix + name.removeprefix("link."): count for name, count in gained.items() if count}
