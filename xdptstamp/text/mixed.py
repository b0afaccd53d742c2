# SPDX-License-Identifier: GPL-2.0-only
"""The text a ``mixed`` run ends with: a header and three tables that can be pasted in a mail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from xdptstamp.bandwidth import BANDWIDTH_PPM, measured, sources, sum_counts, totals
from xdptstamp.rounds import Round, Setting
from xdptstamp.runinfo import RunInfo
from xdptstamp.stats import Summary
from xdptstamp.text.clocks import clock_pairs
from xdptstamp.text.intervals import Spreads, interval_lines
from xdptstamp.text.lines import book, duration, pair, stamp_words, wrap
from xdptstamp.text.mixed_tables import (
    bandwidth_lines,
    hold_lines,
    source_words,
    timestamp_lines,
)
from xdptstamp.text.summary import (
    book_rows,
    note_pairs,
    obtained_text,
    path_block,
    run_pairs,
    stamp_source,
    warning_block,
)

_OBTAINED = {
    "mode": "mode",
    "xdp_mode": "XDP mode",
    "hwtstamp": "hwtstamp",
    "wait": "wait",
    "sched": "scheduling",
}
_PARTNER_KEYS = ("host", "address", "remote_v4", "remote_v6", "mac", "remote_type", "remote_args")


def format_mixed(
    info: RunInfo,
    settings: Sequence[Setting],
    rounds: Sequence[Round],
    summary: Summary,
    *,
    details: Sequence[str] = (),
    spreads: Spreads | None = None,
) -> list[str]:
    """The final text of a ``mixed`` run.

    :param summary: of the samples recorded.
    :param details: lines to put below the header.
    :param spreads: how sure the percentiles of the intervals are.
    :return: ASCII lines of at most 72 columns; only a longer path stands whole on a line.
    """
    lines = [f"xdptstamp {info.kind}: {stamp_words(info.timestamps)}"]
    for key, value in mixed_header_pairs(info, rounds):
        lines += pair(key, value)
    blocks = (
        details,
        bandwidth_lines(info, settings, rounds),
        timestamp_lines(info, settings, rounds),
        hold_lines(info, settings, rounds),
        _interval_lines(info, summary, spreads),
        book_lines(settings, rounds),
        sample_lines(summary),
    )
    for block in blocks:
        lines += ["", *block] if block else []
    return [*lines, *warning_block(info), *path_block(info)]


def mixed_header_pairs(info: RunInfo, rounds: Sequence[Round]) -> Iterator[tuple[str, object]]:
    """What ran, where and how, as titles and values."""
    yield from run_pairs(info)
    yield "machine", machine_text(info)
    yield "kernel", info.dut.get("kernel_release", "?")
    yield "interface", _interface(info)
    for key, title in _OBTAINED.items():
        if info.obtained.get(key) is not None:
            yield title, obtained_text(info, key)
    yield "queue", _queues(info)
    yield "CPU", _cpu(info)
    yield "rounds", _rounds(info, rounds)
    yield "rate", info.asked.get("rate") or "as fast as it goes"
    yield "batch", _batch(info)
    if found := sources(rounds):
        yield "bandwidth", source_words(found)
    yield from note_pairs(info)
    yield "partner", _partner(info)
    yield "timestamps", stamp_source(info)
    yield from clock_pairs(info)


def machine_text(info: RunInfo) -> str:
    """CPU, architecture, number of CPUs of the DUT."""
    dut = info.dut
    parts = [dut.get("cpu_model") or "unknown CPU", dut.get("machine")]
    parts.append(f"{dut['num_cpus']} CPUs" if dut.get("num_cpus") else None)
    parts.append("a guest" if dut.get("is_guest") else None)
    return ", ".join(str(part) for part in parts if part)


def _interface(info: RunInfo) -> str:
    nic = info.nic
    parts = [str(nic.get("ifname", "?")), f"driver {nic.get('driver') or '?'}"]
    speed = nic.get("speed_mbps")
    nominal = " (nominal: it moves as fast as the CPU can)" if nic.get("driver") == "veth" else ""
    parts.append(f"{speed} Mbit/s{nominal}" if speed else "unknown speed")
    return ", ".join(parts)


def _queues(info: RunInfo) -> str:
    queues: Any = info.obtained.get("queues")
    return ", ".join(str(queue) for queue in queues) if queues else "?"


def _cpu(info: RunInfo) -> str:
    cpu = info.obtained.get("cpu")
    return "any (no affinity)" if cpu is None else f"{cpu} (affinity)"


def _rounds(info: RunInfo, rounds: Sequence[Round]) -> str:
    text = str(len({each.round for each in measured(rounds)}))
    if info.obtained.get("duration_ns") is not None:
        text += f", {duration(info.obtained['duration_ns'])} per setting"
    if any(each.is_warmup for each in rounds):
        warmup_ns = info.obtained.get("warmup_ns")
        text += f" after {duration(warmup_ns) + ' of ' if warmup_ns else ''}warm-up"
    text += ", in random order"
    seed = info.obtained.get("seed")
    return text if seed is None else f"{text} (seed {seed})"


def _batch(info: RunInfo) -> str:
    pending = info.obtained.get("max_pending")
    limit = "not limited" if not pending else f"at most {pending}"
    return f"{info.obtained.get('batch', '?')} packets; pending timestamps {limit}"


def _partner(info: RunInfo) -> str:
    known = (info.partner.get(key) for key in _PARTNER_KEYS)
    return " ".join(dict.fromkeys(str(value) for value in known if value)) or "none named"


def book_lines(settings: Sequence[Setting], rounds: Sequence[Round]) -> list[str]:
    """Where packets went, over all settings; pause frames and refusals, which look like cost."""
    own = measured(rounds)
    counts = totals(settings, rounds)
    for name in ("requested", "stamped", BANDWIDTH_PPM):
        counts.pop(name, None)
    rows = book_rows("mixed", counts)
    # Names of counters stay as they are, to be looked up.
    rows += _counter_rows("missing", (each.located for each in own))
    unaccounted = sum(each.unaccounted for each in own)
    rows += [("missing: unaccounted", unaccounted, "")] if unaccounted else []
    rows += _counter_rows("pause frames", (each.pause_frames for each in own))
    rows += _counter_rows("kernel refused", (each.wakeup_errors for each in own))
    return ["packets of all settings, warm-up left out", *book(rows, name_width=34)]


def _counter_rows(title: str, books: Iterable[dict[str, int]]) -> list[tuple[str, int, str]]:
    total = sum_counts(books)
    return [(f"{title}: {name}", count, "") for name, count in total.items() if count]


# In copy mode the hold time says it all: the stamp is taken where the packet is let go.
def _interval_lines(info: RunInfo, summary: Summary, spreads: Spreads | None) -> list[str]:
    is_shown = info.timestamps == "hardware" and summary.num_samples
    return interval_lines(info, summary, spreads) if is_shown else []


def sample_lines(summary: Summary) -> list[str]:
    """How many samples there are; nothing of none."""
    if not summary.num_samples:
        return []
    text = f"samples recorded: {summary.num_samples:,}"
    if summary.num_warmup:
        text += f", and {summary.num_warmup:,} of the warm-up"
    return wrap(text)
