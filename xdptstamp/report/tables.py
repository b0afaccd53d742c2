# SPDX-License-Identifier: GPL-2.0-only
"""The tables of a run as plain data, with the very cells that ``xdptstamp show`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdptstamp.bandwidth import (
    BANDWIDTH_PPM,
    measured,
    merged_latency,
    rates,
    sources,
    sum_counts,
    totals,
)
from xdptstamp.histogram import RELATIVE_ERROR
from xdptstamp.report.figure import Table
from xdptstamp.report.recomputed import Recomputed
from xdptstamp.sample import INTERVALS_OF_KIND, clock_of, interval_name
from xdptstamp.spread import Spread
from xdptstamp.text.clocks import compared_notes
from xdptstamp.text.intervals import (
    QUANTILES,
    end_text,
    interval_values,
    refused_notes,
    shown_intervals,
    spread_notes,
)
from xdptstamp.text.lines import percent, stamp_words
from xdptstamp.text.mixed import sample_lines
from xdptstamp.text.mixed_tables import (
    BANDWIDTH,
    HOLD,
    bandwidth_notes,
    bandwidth_values,
    causes_seen,
    hold_notes,
    hold_rows,
    second_app_lines,
    setting_label,
    sharing_notes,
    source_words,
)
from xdptstamp.text.summary import CAUSE_WORDS, book_rows

_EXACT = f"max is exact, percentiles within 1/{RELATIVE_ERROR.denominator} of a sample"


def run_tables(found: Recomputed) -> Iterator[Table]:
    """All tables of a run, in the order of ``show``."""
    if found.rounds:
        yield bandwidth_table(found)
        yield timestamp_table(found)
        yield hold_table(found)
    yield from interval_tables(found)
    if not found.rounds and found.has_samples:
        yield stamp_table(found)
    yield from book_tables(found)


def _words(found: Recomputed) -> str:
    return stamp_words(found.run.info.timestamps)


# Bandwidth, timestamps, hold time.


def bandwidth_table(found: Recomputed) -> Table:
    """What arrived in a second, and as a share of the baseline."""
    own = rates(found.settings, found.rounds, found.run.info.nic.get("speed_mbps"))
    rows = []
    for rate in own:
        setting = found.settings[rate.setting]
        name = f"{setting.size_bytes} {setting_label(setting)}"
        rows.append([name, *bandwidth_values(setting, rate)])
    source = source_words(sources(found.rounds)) if own else "no round was measured"
    # A round's length is by CLOCK_MONOTONIC, which nobody sets.
    title = f"Bandwidth: {source}; {_words(found)}; clock: monotonic"
    notes = tuple(bandwidth_notes(found.settings, own)) if own else ()
    return Table(title, ("size ratio", *BANDWIDTH.titles), rows, _plain(notes))


def timestamp_table(found: Recomputed) -> Table:
    """What was requested, what came, and why the rest did not."""
    causes = causes_seen(found.rounds)
    rows, notes = [], []
    for index, setting in enumerate(found.settings):
        own = measured(found.rounds, index)
        if not own:
            continue
        name = f"{setting.size_bytes} {setting_label(setting)}"
        requested, stamped = sum(r.requested for r in own), sum(r.stamped for r in own)
        missing = sum_counts(each.causes for each in own)
        counts = [requested, stamped, sum(missing.values())]
        throttled = sum(each.throttled_ns for each in own)
        rows.append(
            [
                name,
                *(f"{count:,}" for count in counts),
                percent(stamped, requested),
                *(f"{missing.get(cause, 0):,}" if requested else "-" for cause in causes),
                percent(throttled, sum(each.duration_ns for each in own)) if throttled else "-",
            ]
        )
        timestamps = found.run.info.timestamps
        app = second_app_lines(own, merged_latency(found.rounds, index), timestamps)
        notes += [f"{name}: {' '.join(line.strip() for line in app)}"] if app else []
    head = ("size ratio", "requested", "stamped", "missing", "% stamped", *causes, "throttled")
    notes += [line.strip() for line in sharing_notes(found.settings)]
    notes += _reconciliation(found)
    return Table(f"Timestamps: {_words(found)}", head, rows, _plain(notes))


def hold_table(found: Recomputed) -> Table:
    """Submit to completion by position, and how often completions were looked at."""
    rows, shown = [], []
    for index, setting in enumerate(found.settings):
        for position, values in hold_rows(found.rounds, index):
            name = f"{setting.size_bytes} {setting_label(setting)} {position}"
            rows.append([name, *values])
            shown += values
    title = f"Hold time, submit to completion, in us; {_words(found)}; clock: tai"
    notes = tuple(hold_notes(shown)) if rows else ("no completion was seen",)
    return Table(title, ("size ratio position", *HOLD.titles), rows, _plain(notes))


# Intervals.


def interval_tables(found: Recomputed) -> Iterator[Table]:
    """The percentiles of every interval that may be shown, each with its two ends."""
    info, summary = found.run.info, found.summary
    shown = shown_intervals(info, summary)
    refused = tuple(refused_notes(info, summary))
    word = "Round trip" if info.kind == "ping" else "Intervals"
    if not shown and not refused:
        return
    rows = []
    titles = [title for title, _ in QUANTILES]
    for name, histogram in shown.items():
        rows.append([name, f"{histogram.count:,}", *interval_values(histogram)])
        spreads = found.spreads.get(f"{name}_ns", {})
        rows += (
            [
                ["95 % from", "", *_ends(titles, spreads, "low"), ""],
                ["to", "", *_ends(titles, spreads, "high"), ""],
            ]
            if spreads
            else []
        )
    names = [f"{name}_ns" for name in shown]
    across = list(compared_notes(info, summary, names))
    notes = [_EXACT] if rows else []
    if any("-" in row for row in rows):
        notes.append("-: too few samples for that percentile")
    notes += across + list(spread_notes(names, found.spreads, has_across=bool(across)))
    clocks = dict.fromkeys(
        info.clocks.get(column) or clock_of(column)
        for ends in INTERVALS_OF_KIND[info.kind]
        if interval_name(*ends).removesuffix("_ns") in shown
        for column in ends
    )
    title = f"{word} in us; {_words(found)}"
    title += f"; clock: {' and '.join(clocks)}" if clocks else ""
    yield Table(title, ("", "packets", *titles, "max"), rows, _plain([*notes, *refused]))


def _ends(titles: Sequence[str], spreads: dict[str, Spread], which: str) -> list[str]:
    return [end_text(getattr(spreads[t], which)) if t in spreads else "" for t in titles]


# Counts.


def stamp_table(found: Recomputed) -> Table:
    """Requested, stamped, and the cause of each missing stamp."""
    summary, info = found.summary, found.run.info
    stamped, missing = summary.num_stamped, summary.num_missing
    requested = stamped + missing
    rows = [
        ["requested", f"{requested:,}", "", ""],
        ["stamped", f"{stamped:,}", percent(stamped, requested), ""],
        ["missing", f"{missing:,}", percent(missing, requested), ""],
    ]
    if info.kind == "ping":
        rows = [["packets stamped", f"{stamped:,}", percent(stamped, summary.num_samples), ""]]
    for cause, count in sorted(summary.causes.items()):
        if count:
            words = CAUSE_WORDS[cause]
            rows.append([cause.label, f"{count:,}", percent(count, requested), words])
    title = f"Timestamps: {_words(found)}"
    return Table(title, ("", "count", "share", "meaning"), rows, _plain(_reconciliation(found)))


def book_tables(found: Recomputed) -> Iterator[Table]:
    """Where packets went; counters of the interface that moved."""
    info = found.run.info
    counts = totals(found.settings, found.rounds) if found.rounds else info.counts
    # What has a table of its own.
    own_tables = ("requested", "stamped", BANDWIDTH_PPM) if found.rounds else ()
    counts = {name: count for name, count in counts.items() if name not in own_tables}
    rows = [[name, f"{count:,}", share] for name, count, share in book_rows(info.kind, counts)]
    if found.rounds:
        own = measured(found.rounds)
        for title, books in (
            ("missing", (each.located for each in own)),
            ("pause frames", (each.pause_frames for each in own)),
            ("kernel refused", (each.wakeup_errors for each in own)),
        ):
            total = sum_counts(books).items()
            rows += [[f"{title}: {name}", f"{count:,}", ""] for name, count in total if count]
    if rows:
        notes = tuple(sample_lines(found.summary)) if found.rounds else ()
        yield Table("Packets", ("", "count", "share"), rows, notes)
    moved = [
        [name, f"{pair['after'] - pair['before']:,}"]
        for name, pair in info.counters.items()
        if pair["after"] != pair["before"]
    ]
    if moved:
        yield Table("Interface counters that moved", ("", "by"), moved)


def _reconciliation(found: Recomputed) -> list[str]:
    texts = found.run.info.counts.get("reconciliation") or []
    return [f"driver's stamp counters: {text}" for text in texts]


def _plain(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(n[1:-1] if n.startswith("(") and n.endswith(")") else n for n in notes)
