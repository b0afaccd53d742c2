# SPDX-License-Identifier: GPL-2.0-only
"""The text a run ends with: plain ASCII, made from the run info and the summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xdptstamp.runinfo import RunInfo, Warning
from xdptstamp.sample import Batch, Cause, clock_of, column
from xdptstamp.stats import Summary
from xdptstamp.text.clocks import clock_pairs
from xdptstamp.text.intervals import Spreads, interval_lines
from xdptstamp.text.lines import book, pair, path_lines, percent, stamp_words, wrap
from xdptstamp.text.packets import packet_lines, packet_view

#: What each cause means, for who reads a table.
CAUSE_WORDS = {
    Cause.DISABLED: "hwtstamp was off",
    Cause.UNSUPPORTED: "driver has none for AF_XDP",
    Cause.SKIPPED: "inferred: no free stamp slot",
    Cause.TIMED_OUT: "inferred: driver gave up",
    Cause.RESET: "adapter reset or link lost",
    Cause.INVALID: "untrue, or packet dropped",
    Cause.LOST_BY_DRIVER: "its completion never came",
    Cause.NOT_COMPLETED: "run ended before completion",
}

# The books of each kind: shown in this order; the first group also when zero.
_ALWAYS = {
    "ping-pong": ("redirected", "received", "answered", "completed", "refused"),
    "ping": ("sent", "received", "lost", "duplicates", "reordered", "corrupted"),
    "mixed": ("sent", "completed", "lost", "received", "not_received"),
}
# What a count is given as a share of.
_SHARE_OF = {"ping-pong": "received", "ping": "sent", "mixed": "sent"}


_OBTAINED = {
    "mode": "mode",
    "xdp_mode": "XDP mode",
    "hwtstamp": "hwtstamp",
    "rx_hints": "Rx hints",
    "wait": "wait",
    "cpu": "CPU",
    "sched": "scheduling",
}


def format_summary(
    info: RunInfo,
    summary: Summary,
    packets: Batch | None = None,
    *,
    details: Sequence[str] = (),
    spreads: Spreads | None = None,
) -> list[str]:
    """The final text of a run.

    :param packets: packets to show one by one, already chosen.
    :param details: lines to put below the header.
    :param spreads: how sure the percentiles are.
    :return: ASCII lines of at most 72 columns; only a longer path stands whole on a line.
    """
    lines = [*header_lines(info), *(["", *details] if details else [])]
    if packets is not None and len(packets):
        view = packet_view(info.kind, info.timestamps)
        word = "answered" if info.kind == "ping" else "stamped"
        word = "" if info.timestamps == "none" and info.kind != "ping" else f"{word} "
        lines += ["", f"first {word}packets, {stamp_words(info.timestamps)}"]
        lines += packet_lines(view, packets)
    for block in (count_lines(info), stamp_lines(info, summary), counter_lines(info)):
        lines += ["", *block] if block else []
    lines += ["", *interval_lines(info, summary, spreads)]
    lines += [*warning_block(info), *path_block(info)]
    return [line for text in lines for line in text.split("\n")]


def header_lines(info: RunInfo) -> list[str]:
    """What ran, where, how, and which kind of timestamps on which clock."""
    lines = [f"xdptstamp {info.kind}: {stamp_words(info.timestamps)}"]
    for key, value in header_pairs(info):
        lines += pair(key, value)
    return lines


def flat_counts(counts: dict[str, Any]) -> dict[str, int]:
    """The integers among ``counts``, those of an inner book as ``book: name``."""
    flat: dict[str, int] = {}
    for key, value in counts.items():
        if isinstance(value, dict):
            book_name = key.removesuffix("_by")
            flat |= {f"{book_name}: {inner}": n for inner, n in flat_counts(value).items()}
        elif isinstance(value, int) and not isinstance(value, bool):
            flat[key] = value
    return flat


def book_rows(kind: str, counts: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(name, count, share) of the books: the main ones, then whatever else is not zero."""
    flat = flat_counts(counts)
    always = [key for key in _ALWAYS.get(kind, ()) if key in flat]
    names = [*always, *(key for key, count in flat.items() if count and key not in always)]
    whole = flat.get(_SHARE_OF.get(kind, ""), 0)
    shared = {"answered", "refused", "lost", "not_received", "duplicates", "reordered", "corrupted"}
    return [
        (
            key.replace("_", " "),
            flat[key],
            percent(flat[key], whole) if key in shared and flat[key] <= whole and whole else "",
        )
        for key in names
    ]


def header_pairs(info: RunInfo) -> Iterator[tuple[str, object]]:
    """What ran, where and how, as titles and values."""
    yield from run_pairs(info)
    if info.nic.get("ifname"):
        driver = info.nic.get("driver")
        yield "interface", info.nic["ifname"] + (f", driver {driver}" if driver else "")
    for key, title in _OBTAINED.items():
        if info.obtained.get(key) is not None:
            yield title, obtained_text(info, key)
    yield from note_pairs(info)
    target = info.partner.get("host") or info.partner.get("address")
    if target:
        yield "partner", target
    yield "timestamps", stamp_source(info)
    yield from clock_pairs(info)


def run_pairs(info: RunInfo) -> Iterator[tuple[str, object]]:
    """Which run, when, and on which machine."""
    yield "run", info.run_id
    if info.label:
        yield "label", info.label
    yield "state", info.state + (f", ended by {info.ended_by}" if info.ended_by else "")
    yield "time", f"{info.started_utc} to {info.ended_utc or '?'}"
    if info.dut.get("hostname"):
        yield "host", info.dut["hostname"]


def note_pairs(info: RunInfo) -> Iterator[tuple[str, object]]:
    """What was remarkable on the way."""
    for note in info.obtained.get("notes") or []:
        yield "note", note
    if isinstance(info.obtained.get("kernel_log"), str):
        yield "note", info.obtained["kernel_log"]


def obtained_text(info: RunInfo, key: str) -> str:
    """``copy (asked auto)``; the question only where the answer differs."""
    obtained, asked = info.obtained[key], info.asked.get(key)
    return str(obtained) if asked in (None, obtained) else f"{obtained} (asked {asked})"


def stamp_source(info: RunInfo) -> str:
    """Which kind of Tx stamps, in which column, on which clock."""
    name = {"hardware": "tx_hw_ns", "software": "tx_sw_ns"}.get(info.timestamps)
    if name is None:
        features = info.nic.get("features") or {}
        is_refused = features.get("is_tx_timestamp") is False
        if is_refused and info.obtained.get("mode") == "zero-copy":
            return "none: the driver offers AF_XDP no Tx timestamps"
        return "none"
    clock = info.clocks.get(name, clock_of(name))
    return f"{info.timestamps.upper()}, {name}, clock {clock}: {column(name).meaning}"


def count_lines(info: RunInfo) -> list[str]:
    """Where packets went; nothing where nobody counted."""
    rows = book_rows(info.kind, info.counts)
    return ["packets", *book(rows)] if rows else []


def stamp_lines(info: RunInfo, summary: Summary) -> list[str]:
    """Requested, stamped, and the cause of each missing stamp."""
    stamped, missing = summary.num_stamped, summary.num_missing
    if info.kind == "ping":
        row = ("packets stamped", stamped, percent(stamped, summary.num_samples))
        return [stamp_words(info.timestamps), *book([row])] if stamped else []
    requested = stamped + missing
    if not requested:
        return [f"{stamp_words(info.timestamps)}: none requested"]
    rows = [
        ("requested", requested, ""),
        ("stamped", stamped, percent(stamped, requested)),
        ("missing", missing, percent(missing, requested)),
    ]
    rows += [
        (f"  {cause.label}", count, CAUSE_WORDS[cause])
        for cause, count in sorted(summary.causes.items())
        if count
    ]
    return [stamp_words(info.timestamps), *book(rows)]


def counter_lines(info: RunInfo) -> list[str]:
    """Counters of the interface that moved, and how they agree with our books."""
    rows = [
        (name, pair_["after"] - pair_["before"], "")
        for name, pair_ in info.counters.items()
        if pair_["after"] != pair_["before"]
    ]
    lines = ["interface counters that moved", *book(rows)] if rows else []
    return lines + reconciliation_lines(info)


def reconciliation_lines(info: RunInfo) -> list[str]:
    """What the driver counted of missing stamps, held against our books."""
    texts = info.counts.get("reconciliation", [])
    lines = ["driver's stamp counters"] if texts else []
    return lines + [line for text in texts for line in wrap(text, "  ", "    ")]


def warning_block(info: RunInfo) -> list[str]:
    """Every warning, after a blank line, and the verdict if it is a bad one."""
    lines = [""] if info.warnings else []
    for warning in info.warnings:
        lines += warning_lines(warning)
    if not info.is_trusted:
        lines.append("NOT TO BE TRUSTED: see the warnings marked UNTRUSTED.")
    return lines


def warning_lines(warning: Warning) -> list[str]:
    """A warning with its value, its limit and what to do."""
    word = "UNTRUSTED" if warning.is_untrusted else "warning"
    lines = wrap(f"{word}: {warning.message}", "", "  ")
    lines += wrap(f"{warning.value}; limit: {warning.limit} [{warning.key}]", "  ")
    return lines + wrap(warning.advice, "  ")


def path_block(info: RunInfo) -> list[str]:
    """Where the run is, after a blank line."""
    known = (("run folder", "run_dir"), ("CSV", "csv"))
    lines = [
        line
        for title, key in known
        if info.obtained.get(key)
        for line in path_lines(title, info.obtained[key])
    ]
    return ["", *lines] if lines else []
