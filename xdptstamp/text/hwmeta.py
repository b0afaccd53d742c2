# SPDX-License-Identifier: GPL-2.0-only
"""The lines of the kernel selftest ``xdp_hw_metadata``, for scripts that read its output.

Formats and order are those of tools/testing/selftests/bpf/xdp_hw_metadata.c, except that no value
is printed which was not measured:

- ``%p``, there the address of its socket structure, is ``0x1000`` for queue 0, ``0x2000`` for
  queue 1: the same for one queue throughout a run and over all runs.
- The ring indices count the printed packets of a queue from 0; as there, the fill ring is 128
  ahead. A reply leaves from the frame of its request, so all addresses of a packet are equal.
- Where the selftest would subtract from a stamp it does not have (0, or the last packet's), the
  line is left out. Without a completion there is no ``complete tx``, as there.
- ``skip``, ``fail``, ``redir`` are the BPF program's counters when the batch was read.
- Seconds are rounded from the integer, half away from zero. The selftest rounds a double, and
  can differ in the last of its four digits.

Deltas subtract across clocks with no measured offset, as the selftest does: right only where the
PHC follows CLOCK_TAI. Choosing this format is the opt-out, said on stderr and in the run info.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from xdptstamp.errors import UnsupportedError
from xdptstamp.runinfo import RunInfo
from xdptstamp.sample import NULL, Batch
from xdptstamp.stats import Summary
from xdptstamp.text.lines import ascii_text, stamp_words, write_lines
from xdptstamp.text.summary import format_summary

# Half the frames of the selftest's UMEM are in its fill ring before the first packet.
_FILL_AHEAD = 128
# The selftest's poll() comes back empty after this time.
_POLL_NS = 1_000_000_000

CLOSING_LINE = "detaching bpf program...."


class HwmetaOutput:
    """``--format hwmeta``; the summary goes to stderr."""

    def __init__(self) -> None:
        self._num_printed: Counter[int] = Counter()
        self._last_ns = time.monotonic_ns()

    def start(self, info: RunInfo) -> None:
        """Say what these lines subtract; open the queues as the selftest says it.

        :raises UnsupportedError: If the run is not a ping-pong: the selftest knows no other.
        """
        check_kind(info)
        write_lines(note_lines(info), sys.stderr)
        write_lines(opening_lines(info))

    def batch(self, batch: Batch, summary: Summary, status: dict[str, int]) -> None:
        """Write one block for each packet."""
        poll = poll_line(1, status)
        blocks = packet_blocks(batch, self._num_printed)
        write_lines(line for block in blocks for line in (poll, *block))
        self._last_ns = time.monotonic_ns()

    def tick(self, summary: Summary, status: dict[str, int]) -> None:
        """Write the line of an empty poll after a second without packets."""
        now_ns = time.monotonic_ns()
        if now_ns - self._last_ns >= _POLL_NS:
            self._last_ns = now_ns
            write_lines([poll_line(0, status)])

    def end(self, info: RunInfo, summary: Summary) -> None:
        """Close as the selftest does; the summary to stderr."""
        write_lines([CLOSING_LINE])
        write_lines(format_summary(info, summary), sys.stderr)


def check_kind(info: RunInfo) -> None:
    """Refuse a run whose packets the selftest has no lines for.

    :raises UnsupportedError: If it is not a ping-pong.
    """
    if info.kind != "ping-pong":
        raise UnsupportedError("--format hwmeta", "a ping-pong run", f"a {info.kind} run")


def recorded_lines(info: RunInfo, batches: Iterable[Batch]) -> Iterator[list[str]]:
    """The lines of a run that is over, some at a time.

    What the BPF program had counted when a packet was read is not recorded: the poll() of each
    packet is left out, and the one at the end says what was counted in all.
    """
    num_printed: Counter[int] = Counter()
    yield opening_lines(info)
    for batch in batches:
        yield [line for block in packet_blocks(batch, num_printed) for line in block]
    counts = {name: count for name, count in info.counts.items() if isinstance(count, int)}
    refused = info.counts.get("refused_by") or {}
    counts |= {f"refused_{name}": count for name, count in refused.items()}
    polled = [poll_line(0, counts)] if "redirected" in counts else []
    yield [*polled, CLOSING_LINE]


def note_lines(info: RunInfo) -> list[str]:
    """What a reader of these lines must know, for stderr."""
    return [
        f"note: {stamp_words(info.timestamps)} behind every TX-complete-time below;",
        "note: --format hwmeta subtracts across clocks (PHC, CLOCK_TAI) with no",
        "note: measured offset; such deltas hold only where the PHC follows TAI.",
    ]


def opening_lines(info: RunInfo) -> list[str]:
    """``rxq`` and ``open_xsk``, for the queues of the run."""
    queues = info.obtained.get("queues") or []
    ifname = ascii_text(info.nic.get("ifname", "?"))
    lines = [f"rxq: {len(queues)}"] if queues else []
    return lines + [f"open_xsk({ifname}, {_pointer(q)}, {q})" for q in queues]


def poll_line(num_ready: int, status: dict[str, int]) -> str:
    """The line of one poll()."""
    passed = sum(count for key, count in status.items() if key.startswith("passed"))
    refused = sum(count for key, count in status.items() if key.startswith("refused_"))
    redirected = status.get("redirected", status.get("received", 0))
    return f"poll: {num_ready} (0) skip={passed} fail={refused} redir={redirected}"


def packet_blocks(batch: Batch, num_printed: Counter[int]) -> Iterator[list[str]]:
    """The lines of each packet.

    :param num_printed: packets of each queue that were printed before; counted on.
    """
    names = batch.dtype.names or ()
    # Plain integers: reading a field of a NumPy row costs more than printing it.
    for row in batch.tolist():
        sample = dict(zip(names, row, strict=True))
        queue_id = sample["queue_id"]
        yield packet_block(sample, num_printed[queue_id])
        num_printed[queue_id] += 1


def packet_block(sample: Mapping[str, int], index: int) -> list[str]:
    """The lines of one packet.

    :param sample: its columns by name.
    :param index: how many packets of its queue were printed before.
    """
    xsk = _pointer(sample["queue_id"])
    addr = sample["addr"]
    hex_addr = f"{max(addr, 0):x}"
    return [
        "xsk_ring_cons__peek: 1",
        f"{xsk}: rx_desc[{index}]->addr={hex_addr} addr={hex_addr} comp_addr={hex_addr} EoP",
        *_rx_lines(sample),
        *_tx_lines(sample, xsk, index, hex_addr),
        f"{xsk}: complete rx idx={index + _FILL_AHEAD} addr={hex_addr}",
    ]


def delta_line(name: str, reference_name: str, stamp_ns: int, reference_ns: int) -> str:
    """A stamp and how much later the reference is, with the digits of ``%0.4f`` and ``%0.3f``."""
    delta_ns = reference_ns - stamp_ns
    return (
        f"{name}:   {stamp_ns} (sec:{_decimal(stamp_ns, 9, 4)}) delta to {reference_name} "
        f"sec:{_decimal(delta_ns, 9, 4)} ({_decimal(delta_ns, 3, 3)} usec)"
    )


def _pointer(queue_id: int) -> str:
    return f"0x{(queue_id + 1) * 0x1000:x}"


def _rx_lines(sample: Mapping[str, int]) -> Iterator[str]:
    if sample["rx_hash"] != NULL:
        kind = max(sample["rx_hash_type"], 0)
        yield f"rx_hash: 0x{sample['rx_hash']:X} with RSS type:0x{kind:X}"
    else:
        yield f"No rx_hash, err={_error(sample, 'rx_hash_errno')}"
    yield from _rx_stamp_lines(sample)
    if sample["rx_vlan_tci"] != NULL:
        tci = sample["rx_vlan_tci"]
        yield f"rx_vlan_proto: 0x{sample['rx_vlan_proto']:X}"
        yield f"rx_vlan_tci: PCP={tci >> 13}, DEI={tci >> 12 & 1}, VID=0x{tci & 0xFFF:X}"
    else:
        yield f"No rx_vlan_tci or rx_vlan_proto, err={_error(sample, 'rx_vlan_errno')}"


# The selftest prints the XDP time only beside a hardware one.
def _rx_stamp_lines(sample: Mapping[str, int]) -> Iterator[str]:
    rx_hw, rx_xdp, rx_app = (sample[n] for n in ("rx_hw_ns", "rx_xdp_ns", "rx_app_ns"))
    if rx_hw == NULL:
        yield f"No rx_timestamp, err={_error(sample, 'rx_hw_errno')}"
        return
    if rx_app != NULL:
        yield delta_line("HW RX-time", "User RX-time", rx_hw, rx_app)
        if rx_xdp != NULL:
            yield delta_line("XDP RX-time", "User RX-time", rx_xdp, rx_app)


def _tx_lines(sample: Mapping[str, int], xsk: str, index: int, hex_addr: str) -> Iterator[str]:
    if sample["tx_csum"] != NULL:
        csum, want, start = (sample[name] for name in ("tx_csum", "tx_csum_want", "tx_csum_start"))
        yield (
            f"{xsk}: ping-pong with csum={csum:04x} (want {max(want, 0):04x}) "
            f"csum_start={start} csum_offset=6"
        )
    if sample["tx_comp_ns"] != NULL:
        yield f"{xsk}: complete tx idx={index} addr={hex_addr}"
        yield from _complete_lines(sample)


def _complete_lines(sample: Mapping[str, int]) -> Iterator[str]:
    stamp = sample["tx_hw_ns"]
    if stamp == NULL:
        stamp = sample["tx_sw_ns"]
    if stamp == NULL:
        yield "No tx_timestamp"
        return
    rx_hw, rx_xdp, comp = (sample[n] for n in ("rx_hw_ns", "rx_xdp_ns", "tx_comp_ns"))
    yield delta_line("HW TX-complete-time", "User TX-complete-time", stamp, comp)
    if rx_xdp != NULL:
        yield delta_line("XDP RX-time", "User TX-complete-time", rx_xdp, comp)
    if rx_hw != NULL:
        yield delta_line("HW RX-time", "HW TX-complete-time", rx_hw, stamp)


# Negative, as the kernel's functions return it.
def _error(sample: Mapping[str, int], name: str) -> int:
    return -abs(sample[name])


# `value` / 10**`scale` with `digits` digits; a negative value keeps its sign even as -0.0000.
def _decimal(value: int, scale: int, digits: int) -> str:
    unit = 10 ** (scale - digits)
    whole, rest = divmod((abs(value) + unit // 2) // unit, 10**digits)
    return f"{'-' if value < 0 else ''}{whole}.{rest:0{digits}d}"
