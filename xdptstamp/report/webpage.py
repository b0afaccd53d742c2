# SPDX-License-Identifier: GPL-2.0-only
"""A report as one HTML page that needs nothing from anywhere.

Its policy (CSP) lets it load nothing, and run its own script alone, known by its hash: no word of
a run can become code. What comes from a run is escaped, and so is the data that the plots draw.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

from xdptstamp.report.beside import beside_tables
from xdptstamp.report.figure import Drawn, Figure, Table
from xdptstamp.report.recomputed import Recomputed
from xdptstamp.report.reported import Reported, commands
from xdptstamp.report.tables import run_tables
from xdptstamp.runinfo import Warning
from xdptstamp.text.details import made_pairs, missing_pairs
from xdptstamp.text.lines import ascii_text, stamp_words
from xdptstamp.text.mixed import mixed_header_pairs
from xdptstamp.text.summary import header_pairs
from xdptstamp.text.truth import truth_lines

_SCRIPTS = ("axes.js", "plot.js", "live.js")
_KEYS = (
    "Plots: drag to zoom, double-click to see all. With the keyboard: Tab to a plot; left and "
    "right go from mark to mark, up and down from series to series; + and - zoom, Shift with an "
    "arrow moves, 0 shows all, m goes to the greatest value."
)
# Of what was obtained: in the tables of the rounds; where the run lies on this machine.
_ELSEWHERE = ("settings", "run_dir", "csv")


def page_parts(reported: Reported) -> Iterator[str]:
    """The page, a part at a time."""
    style, script = _asset("style.css"), "".join(_asset(name) for name in _SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"xdptstamp report: {', '.join(reported.names)}"
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
    )
    yield from _body(reported)
    parts = [*([reported.beside] if reported.beside.figures else []), *reported.drawn]
    yield f'<script type="application/json" id="data">{_json(parts)}</script>\n'
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def _body(reported: Reported) -> Iterator[str]:
    yield '<a class="skip" href="#main">Skip to the content</a>\n<header>\n'
    number = len(reported.runs)
    yield f"<h1>xdptstamp report: {number} run{'' if number == 1 else 's'}</h1>\n"
    yield '<nav aria-label="Contents"><ul>\n'
    is_beside = number > 1
    if is_beside:
        yield '<li><a href="#beside">Side by side</a></li>\n'
    for at, name in enumerate(reported.names):
        yield f'<li><a href="#run{at}">{_text(name)}</a></li>\n'
    yield f'</ul></nav>\n<p class="notes keys">{_text(_KEYS)}</p>\n'
    yield (
        "<noscript><p>The plots need JavaScript, which is off. Below each are its numbers.</p>"
        "</noscript>\n"
    )
    yield '</header>\n<main id="main">\n'
    if is_beside:
        yield '<section id="beside" class="run"><h2>Side by side</h2>\n'
        yield from map(_table, beside_tables(reported.runs, reported.names))
        if reported.beside.figures:
            yield "<h3>Plots of all runs</h3>\n"
        yield from _figures(0, reported.beside)
        yield "</section>\n"
    for at, (run, name, drawn) in enumerate(
        zip(reported.runs, reported.names, reported.drawn, strict=True)
    ):
        part = at + bool(reported.beside.figures)
        yield from _run(f"run{at}", name, run, drawn, part)
    yield "</main>\n"


def _run(key: str, name: str, run: Recomputed, drawn: Drawn, part: int) -> Iterator[str]:
    info = run.run.info
    words = stamp_words(info.timestamps)
    yield f'<section class="run" id="{key}"><h2>{_text(name)}</h2>\n'
    yield f'<p><a class="skip" href="#{key}-tables">Skip to the tables of this run</a></p>\n'
    yield "<h3>Summary</h3>\n"
    yield f"<p><strong>xdptstamp {_text(info.kind)}: {_text(words)}</strong></p>\n"
    yield _verdict(run)
    pairs = mixed_header_pairs(info, run.rounds) if run.rounds else header_pairs(info)
    yield _pairs(pairs)
    yield from map(_table, _slowest(drawn, words))
    if info.warnings:
        yield f"<h3>Warnings ({len(info.warnings)})</h3>\n"
        yield from map(_warning, info.warnings)
    yield "<h3>Plots</h3>\n"
    if not drawn.figures:
        yield "<p>There is nothing to draw: this folder has no samples, and no rounds.</p>\n"
    yield from _figures(part, drawn)
    yield f'<h3 id="{key}-tables">Tables</h3>\n'
    yield from map(_table, run_tables(run))
    if run.truth is not None:
        text = "\n".join(truth_lines(run.truth))
        yield f'<h3>Truth</h3>\n<pre tabindex="0">{_text(text, keeps_lines=True)}</pre>\n'
    yield from _environment(run)
    yield "<h3>How to reproduce</h3>\n<dl>\n"
    for title, line in commands(info):
        yield f"<dt>{_text(title)}</dt><dd><code>{_text(shlex.join(line))}</code></dd>\n"
    yield "</dl>\n</section>\n"


def _verdict(run: Recomputed) -> str:
    info = run.run.info
    if not info.is_trusted:
        return (
            '<p class="verdict bad"><span class="word">NOT TO BE TRUSTED</span>: see the warnings '
            "marked UNTRUSTED.</p>\n"
        )
    count = len(info.warnings)
    doubts = "no warning" if not count else f"{count} warning{'' if count == 1 else 's'}, see below"
    return f'<p class="verdict">Nothing forbids relying on these numbers; {doubts}.</p>\n'


# The packet that took longest, of each interval.
def _slowest(drawn: Drawn, words: str) -> Iterator[Table]:
    courses = [figure.table for figure in drawn.figures if figure.key.startswith("course-")]
    if courses:
        # The capture points are in the tables of the plots.
        head = [title for title in courses[0].head[1:] if not title.endswith("_ns")]
        rows = [
            [each.head[0].removesuffix(" us"), *each.rows[0][: len(head) + 1]] for each in courses
        ]
        head = ["", "us", *head]
        yield Table(f"The slowest packet of each interval; {words}", tuple(head), rows)


def _warning(warning: Warning) -> str:
    is_bad = warning.is_untrusted
    return (
        f'<div class="warning{" bad" if is_bad else ""}">'
        f'<p><span class="word">{"UNTRUSTED" if is_bad else "warning"}</span>: '
        f"{_text(warning.message)}</p>"
        f"<p>{_text(warning.value)}; limit: {_text(warning.limit)} "
        f"<code>[{_text(warning.key)}]</code></p><p>{_text(warning.advice)}</p></div>\n"
    )


def _environment(run: Recomputed) -> Iterator[str]:
    info = run.run.info
    yield "<h3>Environment</h3>\n"
    yield _pairs(
        [
            *made_pairs(info),
            *missing_pairs(info, has_samples=run.has_samples, has_rounds=bool(run.rounds)),
        ]
    )
    keys = [key for key in dict.fromkeys([*info.asked, *info.obtained]) if key not in _ELSEWHERE]
    pairs = [(key, info.asked.get(key), info.obtained.get(key)) for key in keys]
    rows = [[key, _short(a), _short(o)] for key, a, o in pairs if (a, o) != (None, None)]
    tables = [Table("Asked for and obtained", ("", "asked", "obtained"), rows)] if rows else []
    for title, facts in (
        ("Machine (DUT)", info.dut),
        ("Interface", info.nic),
        ("Link partner", info.partner),
        ("Versions", info.versions),
        ("Clocks of the columns", info.clocks),
    ):
        rows = [[key, _short(value)] for key, value in facts.items() if value is not None]
        tables += [Table(title, ("", "value"), rows)] if rows else []
    for table in tables:
        yield _table(table, cell="wide")


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 2_000 else f"{text[:2_000]} ... ({len(text):,} characters)"


def _figures(part: int, drawn: Drawn) -> Iterator[str]:
    for number, figure in enumerate(drawn.figures):
        yield _figure(part, number, figure)


def _figure(part: int, number: int, figure: Figure) -> str:
    key = f"part{part}-{figure.key}"
    notes = "".join(f'<p class="notes">{_text(note)}</p>' for note in figure.notes)
    return (
        f'<figure class="plot" id="{key}" data-part="{part}" data-figure="{number}">'
        f'<figcaption><h4>{_text(figure.title)}</h4><p class="sub">{_text(figure.subtitle)}</p>'
        f'<p class="text" id="{key}-text">{_text(figure.text)}</p></figcaption>'
        f'<p class="sub">{_text(figure.y.title)}</p>'
        f'<div class="canvas" tabindex="0" role="application" aria-roledescription="plot" '
        f'aria-label="{_text(figure.title)}" aria-describedby="{key}-text"></div>'
        '<div class="legend"></div>'
        f'<div class="tools" role="toolbar" aria-label="Zoom: {_text(figure.title)}"></div>'
        '<div class="reading" aria-live="polite">'
        '<p class="hint">Point at a mark to read it.</p></div>'
        f"{notes}"
        f'<details class="figures-table"><summary>The numbers of this plot</summary>'
        f"{_table(figure.table)}</details></figure>\n"
    )


def _table(table: Table, cell: str = "") -> str:
    kind = f' class="{cell}"' if cell else ""
    head = "".join(f'<th scope="col"{kind}>{_text(title)}</th>' for title in table.head)
    rows = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td{kind}>{_text(value)}</td>" for value in row[1:])
        + "</tr>\n"
        for row in table.rows
    )
    notes = "".join(f'<p class="notes">{_text(note)}</p>' for note in table.notes)
    return (
        f'<div class="tablebox"><p class="caption">{_text(table.title)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(table.title)}">'
        f'<table aria-label="{_text(table.title)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{notes}</div>\n"
    )


def _pairs(pairs: Iterable[tuple[str, object]]) -> str:
    rows = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>\n" for key, value in pairs)
    return f"<dl>\n{rows}</dl>\n" if rows else ""


def _text(value: object, *, keeps_lines: bool = False) -> str:
    """Text of a run as HTML: nothing in it is markup, steers a reader or turns text around."""
    lines = str(value).split("\n") if keeps_lines else [str(value)]
    return "\n".join(html.escape(ascii_text(line)) for line in lines)


# In a script element `</script>` and `<!--` end or change it, wherever they stand.
def _json(parts: Sequence[Drawn]) -> str:
    data = [
        {"packets": part.packets, "figures": [figure.to_json() for figure in part.figures]}
        for part in parts
    ]
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files("xdptstamp.report").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
