# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as plain text of at most 72 columns; ``md`` is the same, for a cover letter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdptstamp.contrast import Change, Contrast, Pair, SideRun, Word
from xdptstamp.text.contrast.words import (
    bit_unit,
    change_text,
    limit_text,
    met_text,
    number,
    overall,
    unit_of,
    verdict_text,
)
from xdptstamp.text.lines import WIDTH, ascii_text, pair, stamp_words, wrap

_NAME, _VALUE, _CHANGE = 8, 8, 20
_TITLES = {"vs_baseline": "vs 0:1", "cpu_user": "user", "cpu_system": "sys"}
# Of what a pair has in common, this is worth a reader's while; the rest is in the JSON.
_SHOWN_KEYS = (
    *("dut", "nic", "mode", "xdp-mode", "queues", "cpu", "batch", "rate", "interval", "size"),
    *("kernel", "driver", "firmware", "counted-by"),
)
_MAX_RUNS = 12


def contrast_lines(contrast: Contrast) -> list[str]:
    """The text: ASCII lines of at most 72 columns; only a longer path stands whole on a line."""
    lines = [_title(contrast), *_head_lines(contrast)]
    for each in contrast.pairs:
        lines += ["", *_pair_lines(contrast, each)]
    return [*lines, "", *_verdict_lines(contrast), *_note_lines(contrast)]


def md_lines(contrast: Contrast) -> list[str]:
    """The same for a cover letter that may also be read as Markdown: the verdict comes first, and
    all that a run may have named is in a block that is shown as it is."""
    title = _title(contrast)
    lines = [*_verdict_lines(contrast), "", *_head_lines(contrast)]
    for each in contrast.pairs:
        lines += ["", *_pair_lines(contrast, each)]
    return [title, "=" * len(title), "", "```", *lines, "", *_note_lines(contrast), "```"]


def _head_lines(contrast: Contrast) -> list[str]:
    lines = []
    for side in contrast.sides:
        runs = "1 run" if side.num_runs == 1 else f"{side.num_runs} runs"
        base = ", the base" if side is contrast.sides[0] else ""
        lines += pair(side.letter, f"{side.name} ({runs}{base})", keeps_words=True)
    if contrast.by:
        lines += pair("compared by", ", ".join(contrast.by))
    for text in contrast.unpaired:
        lines += pair("unpaired", text, keeps_words=True)
    return lines + [line for run in contrast.doubted().values() for line in _doubt_lines(run)]


def _note_lines(contrast: Contrast) -> list[str]:
    return [line for note in _notes(contrast) for line in wrap(f"({note})", "  ", "   ")]


def _title(contrast: Contrast) -> str:
    kinds = dict.fromkeys(f"{p.kind}, {stamp_words(p.timestamps)}" for p in contrast.pairs)
    return wrap(f"xdptstamp compare: {'; '.join(kinds)}")[0]


def _doubt_lines(run: SideRun) -> Iterator[str]:
    yield from wrap(f"NOT TO BE TRUSTED: {run.run_id or run.path}", "", "  ")
    for doubt in run.doubts:
        yield from wrap(f"{doubt.message}: {doubt.value} [{doubt.key}]", "  ", "    ")


def _pair_lines(contrast: Contrast, each: Pair) -> list[str]:
    lines = wrap(f"{each.letter} against A{_which(contrast, each)}")
    for letter, runs in (("A", each.base_runs), (each.letter, each.runs)):
        for run in runs[:_MAX_RUNS]:
            label = f", label {run.label}" if run.label else ""
            lines += pair(f"  {letter}", f"{run.run_id or run.path}{label}")
        if len(runs) > _MAX_RUNS:
            lines += pair(f"  {letter}", f"and {len(runs) - _MAX_RUNS} more")
    common = [f"{key} {each.keys[key]}" for key in _SHOWN_KEYS if key in each.keys]
    lines += pair("  in common", ", ".join(common)) if common else []
    if each.unknown:
        lines += pair("  not noted", f"by every run, taken to agree: {', '.join(each.unknown)}")
    for text in (*each.notes, *_warnings(each)):
        lines += pair("  note", text, keeps_words=True)
    if each.design == "one":
        lines += wrap(
            "  ONE RUN A SIDE: this boot only. Boots differ by more than any of them shows; "
            "several runs a side would tell.",
            "",
            "  ",
        )
    head = f"{'':<{_NAME}}{'A':>{_VALUE}}{each.letter:>{_VALUE}}{'change % [95 %]':>{_CHANGE}}"
    return [*lines, "", head, *_rows(each)]


def _which(contrast: Contrast, each: Pair) -> str:
    same = [p for p in contrast.pairs if p.letter == each.letter]
    if len(same) < 2:
        return ""
    names = [key for key in each.keys if len({p.keys.get(key) for p in same}) > 1]
    return ": " + ", ".join(f"{name} {each.keys[name]}" for name in names)


def _warnings(each: Pair) -> Iterator[str]:
    for letter, runs in (("A", each.base_runs), (each.letter, each.runs)):
        keys = dict.fromkeys(key for run in runs for key in run.warnings)
        if keys:
            yield f"warnings of {letter} (see show): {', '.join(keys)}"


def _rows(each: Pair) -> list[str]:
    lines: list[str] = []
    last = ""
    for change in each.changes:
        group = _group(change)
        if group != last:
            lines += wrap(group)
            last = group
        lines += [*_row(change, each), *_bit_row(change)]
    return lines


# The same in bits on the wire.
def _bit_row(change: Change) -> list[str]:
    bits = change.figure.wire_bits
    if not bits:
        return []
    values = [None if v is None else v * bits for v in (change.base, change.value)]
    factor, unit = bit_unit(values[1] if values[0] is None else values[0])
    cells = "".join(f"{number(value, factor):>{_VALUE}}" for value in values)
    return [f" {unit:<{_NAME - 1}}{cells}"]


# What stands above the rows that belong together.
def _group(change: Change) -> str:
    figure = change.figure
    if not figure.stat:
        return figure.setting or "counts"
    unit = unit_of(figure, change.base)[1]
    return " ".join(part for part in (figure.setting, f"{figure.subject}, {unit}") if part)


def _row(change: Change, each: Pair) -> list[str]:
    figure = change.figure
    factor, unit = unit_of(figure, change.value if change.base is None else change.base)
    name = f" {_row_name(change, unit)}{'' if figure.scale in ('relative', 'points') else ' *'}"
    values = [number(value, factor) for value in (change.base, change.value)]
    is_short = len(name) + 1 + len(values[0]) <= _NAME + _VALUE
    lines = [] if is_short else [name]
    line = (
        f"{name}{values[0]:>{_NAME + _VALUE - len(name)}}"
        if is_short
        else (f"{values[0]:>{_NAME + _VALUE}}")
    )
    line = f"{line}{values[1]:>{_VALUE}}{change_text(change):>{_CHANGE}}"
    words = ascii_text(verdict_text(change, each))
    if len(line) + 1 + len(words) <= WIDTH:
        return [*lines, f"{line} {words}"]
    return [*lines, line, *wrap(words, " " * max(4, WIDTH - len(words)))]


def _row_name(change: Change, unit: str) -> str:
    figure = change.figure
    if figure.stat:
        return figure.stat
    if figure.subject in ("bandwidth", "bits"):
        return unit
    return _TITLES.get(figure.subject, figure.subject)


def _verdict_lines(contrast: Contrast) -> list[str]:
    lines = []
    for each in contrast.pairs:
        doubt = ". NOT TO BE TRUSTED: see the run named so" if each.is_doubted else ""
        which = _which(contrast, each).removeprefix(": ")
        head = f"verdict ({which}): " if which else "verdict: "
        lines += wrap(f"{head}{overall(each, contrast.resolution)}{doubt}", "", "  ")
        for text in _limit_texts(each):
            lines += wrap(text, "", "  ")
    return lines


# Those that are met together, each other by itself.
def _limit_texts(each: Pair) -> Iterator[str]:
    for text in dict.fromkeys(limit.text for limit in each.limits):
        of_text = [limit for limit in each.limits if limit.text == text]
        met = [limit for limit in of_text if limit.outcome == "met"]
        if met:
            yield met_text(met)
        yield from (limit_text(limit, each) for limit in of_text if limit.outcome != "met")


def _notes(contrast: Contrast) -> Iterator[str]:
    num = contrast.num_judged()
    if not num:
        return
    yield (
        f"called different only if it holds over all {num} figures together (Holm): by chance "
        "alone any is in at most 5 % of comparisons. So an interval that leaves out 0 may not do"
    )
    limit = f"{100 * contrast.resolution:g} %"
    yield (
        f"same: the 95 % interval lies within {limit}; not enough: it does not, and so many more "
        f"on each side would find a change of {limit} nine times in ten"
    )
    designs = {each.design for each in contrast.pairs}
    if "runs" in designs:
        yield "several runs: each is one value, the interval is Welch's on their logarithms"
    if any(change.why == "clocks too unsure" for _, change in contrast.changes()):
        yield "clocks too unsure: how wrong their offset may be is part of the interval"
    if "one" in designs:
        yield (
            "one run a side: rates by paired rounds, percentiles by resampling rounds and blocks "
            "of neighbouring packets"
        )
    yield from _scale_notes([change for _, change in contrast.changes()])


def _scale_notes(changes: Sequence[Change]) -> Iterator[str]:
    yield ("values: geometric means of rounds or runs; percentiles within 1/256, interpolated")
    if any(change.figure.scale == "points" for change in changes):
        yield "counts are in %, of what was requested, sent or received; their change is in points"
    if any(change.figure.scale in ("ns", "plain") for change in changes):
        yield "*: a value is not above 0, so the change is a difference, in the unit of its values"
    if any(change.word is Word.MISSING for change in changes):
        yield "-: that side has no such figure"
