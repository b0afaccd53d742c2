# SPDX-License-Identifier: GPL-2.0-only
"""What is doubtful about a ``ping`` without anybody asking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.stats import Summary
from xdptstamp.text.lines import percent
from xdptstamp.unreached import ERRNO_ADVICE, NO_REPLY_ADVICE

#: A lost request has no latency. If more than this is lost, p99.9 of all requests is not among the
#: latencies that there are.
MAX_LOST_PER_MILLE = 1
#: From one request to the next, more than what was asked.
MAX_SLOWER_PERCENT = 5

_MIN_SENT = 100  # of fewer the first ones alone may take that long
_NEVER = {
    "lost_here": (
        "replies dropped here, the socket was full",
        "lengthen --interval, or raise net.core.rmem_max",
    ),
    "rx_bad_checksum": (
        "UDP datagrams came here with a wrong checksum",
        "the DUT or its NIC makes wrong checksums: capture them with tcpdump -vv",
    ),
    "corrupted": (
        "replies differ from their request",
        "something between this end and the DUT alters packets",
    ),
    "duplicates": (
        "replies came more than once; each is counted once",
        "look for a loop or a mirror in the network between",
    ),
    "reordered": (
        "replies came in another order than their requests",
        "look whether the DUT spreads one flow over several queues",
    ),
    "left_out": (
        "requests left out, this end was more than a second behind",
        "lengthen --interval, or take --wait spin and a free CPU",
    ),
    "tx_stamps_missing": (
        "requests without the kernel's Tx timestamp",
        "lengthen --interval; if all lack it, see net.core.tstamp_allow_data",
    ),
    "late": (
        "replies came after their request was given up; those requests count as lost",
        "lengthen --timeout",
    ),
}
_LOST_IN = {
    "lost_here": "here",
    "lost_bad_checksum": "with a wrong checksum",
    "not_received": "on the way or there",
}


def ping_warnings(info: RunInfo, summary: Summary) -> Iterator[Warning]:
    """The doubts about a ping; none about another kind of run, or one that was killed."""
    counts = info.counts
    if info.kind != "ping" or "sent" not in counts:
        return
    yield from _check_never(counts)
    yield from _check_lost(counts)
    yield from _check_pace(info)
    yield from _check_clocks(info.obtained)


def _check_never(counts: Mapping[str, Any]) -> Iterator[Warning]:
    for key, (text, advice) in _NEVER.items():
        if counts.get(key):
            yield Warning(f"ping-{key.replace('_', '-')}", text, str(counts[key]), "0", advice)
    for key, text in (("send_errors", "attempts to send failed"), ("icmp_errors", "ICMP errors")):
        for name, number in (counts.get(key) or {}).items():
            advice = ERRNO_ADVICE.get(name, "see the errno's meaning")
            key_of = f"ping-{key.replace('_', '-')}"
            yield Warning(key_of, f"{text}: {name}", str(number), "0", advice)


def _check_lost(counts: Mapping[str, Any]) -> Iterator[Warning]:
    sent, lost = counts["sent"], counts.get("lost", 0)
    if sent and not counts.get("received"):
        yield Warning("ping-no-reply", "no reply came at all", "0", "1", NO_REPLY_ADVICE)
    elif lost * 1000 > MAX_LOST_PER_MILLE * sent:
        where = [f"{counts[key]} {word}" for key, word in _LOST_IN.items() if counts.get(key)]
        yield Warning(
            "ping-lost",
            "requests were lost: they have no round trip, and the slowest may be among them",
            f"{percent(lost, sent)} of {sent}" + (f": {', '.join(where)}" if where else ""),
            f"{MAX_LOST_PER_MILLE / 10:g} %",
            "lengthen --interval; what the DUT dropped is in the counts of its own run",
        )


def _check_pace(info: RunInfo) -> Iterator[Warning]:
    asked, obtained = info.asked.get("interval_ns"), info.obtained.get("interval_ns")
    if not (isinstance(asked, int) and isinstance(obtained, int) and asked > 0):
        return  # a flood is as fast as it goes
    if info.counts["sent"] >= _MIN_SENT and obtained * 100 > (100 + MAX_SLOWER_PERCENT) * asked:
        yield Warning(
            "generator-limited",
            "requests went out more slowly than asked: this end is the limit",
            f"one in {obtained} ns, asked {asked} ns",
            f"{MAX_SLOWER_PERCENT} % longer",
            "lengthen --interval, or take --wait spin and a free CPU",
        )


def _check_clocks(obtained: Mapping[str, Any]) -> Iterator[Warning]:
    found = obtained.get("kernel_timestamps", "rx+tx")
    if found != "rx+tx":
        advice = "times of the application alone remain where they lack"
        yield Warning("ping-kernel-timestamps", "kernel timestamps", str(found), "rx+tx", advice)
    before, after = (obtained.get(key) for key in ("tai_offset_s", "tai_offset_at_end_s"))
    if before != after:
        yield Warning(
            "ping-tai-offset",
            "the offset of CLOCK_TAI changed during the run: intervals across it are wrong",
            f"{after} s",
            f"{before} s",
            "let ptp4l, chrony or ntpd settle before the run",
            is_untrusted=True,
        )
