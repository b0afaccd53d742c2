# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp report`` and ``show --plot``: the page, the letter, the images, the terminal."""

import html.parser
import io
import itertools
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from tests.unit.data_kit import (
    OLD_RUNS,
    edit_info,
    info_json,
    info_of,
    mixed_run,
    ping_pong_run,
    ping_pong_samples,
    write_run,
)
from xdptstamp.cli.main import command
from xdptstamp.report import recompute
from xdptstamp.report.figures import run_figures
from xdptstamp.report.image import draw_image
from xdptstamp.report.letter import letter_lines
from xdptstamp.report.reported import report_of
from xdptstamp.report.shown import shown_lines
from xdptstamp.report.terminal import figure_lines
from xdptstamp.report.webpage import page_parts
from xdptstamp.store import open_run
from xdptstamp.text.lines import ascii_text

EVIL = "</script><script>alert(1)</script><!--\u202e\x1b[2J NaN &amp; ``` =1+1 '\"$x^2$"


def run_cli(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def page_of(*paths):
    return "".join(page_parts(report_of([open_run(path) for path in paths])))


def letter_of(*paths):
    reported = report_of([open_run(path) for path in paths], has_figures=False)
    return list(letter_lines(reported))


def figures_of(path):
    return run_figures(recompute(open_run(path))).figures


class Page(html.parser.HTMLParser):
    """What a browser would make of a page.

    :ivar tags: (name, attributes) of each; ``text``: what is to be read; ``scripts``: theirs.
    """

    VOID = frozenset({"meta", "br", "input", "link", "img"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.scripts, self.open = [], "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        ping_pong_run(folder, 1_500, "hardware", label="first"),
        mixed_run(folder, "hardware", ping_pong_samples(300, "hardware")),
    ]


@pytest.fixture(scope="module")
def text(paths):
    return page_of(*paths)


# The page.


def test_the_page_loads_nothing_and_its_policy_would_not_let_it(text):
    page = Page(text)
    assert page.open == []
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy and "data:" not in policy
    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "srcset", "action", "style"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_headings_plots_and_tables_can_be_reached_and_read_without_seeing(text):
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [each["href"][1:] for each in page.all("a")]
    assert "main" in targets and set(targets) <= set(ids)
    plots = [a for _, a in page.tags if a.get("class") == "canvas"]
    assert len(plots) == text.count('<figure class="plot"') >= 15
    for plot in plots:
        assert plot["tabindex"] == "0" and plot["aria-label"] and plot["aria-describedby"] in ids
    assert text.count("The numbers of this plot") == len(plots)
    assert page.all("html")[0]["lang"] == "en"


def test_the_page_has_the_tables_of_show_cell_by_cell(paths, text):
    cells = set(re.findall(r"-?\d[\d,]*\.\d{3}(?!\d)", Page(text).text))
    for path in paths:
        shown = shown_lines(recompute(open_run(path)))
        start = next(n for n, line in enumerate(shown) if re.match("intervals in|bandwidth:", line))
        numbers = {
            word.strip("(),;[]") for line in shown[start:] for word in line.split()
            if re.fullmatch(r"-?[\d,]+\.\d{3}", word.strip("(),;[]"))
        }  # fmt: skip
        assert len(numbers) > 20
        assert {n for n in numbers if n not in cells} == set()


def test_the_page_says_how_to_make_the_run_again_and_where_it_was_made(text):
    page = Page(text).text
    assert "xdptstamp ping-pong eth1 --label 'two words'" in page
    for part in ("board7", "6.18", "igc", "HARDWARE timestamps", "PHC - TAI", "samples-files"):
        assert (part in page) == (part != "samples-files")


def test_a_run_gives_the_same_page_each_time():
    assert page_of(OLD_RUNS[0]) == page_of(OLD_RUNS[0])


@pytest.mark.parametrize("path", OLD_RUNS, ids=lambda path: path.name)
def test_a_run_of_whatever_version_becomes_a_page_and_a_letter(path):
    page = Page(page_of(path))
    assert page.open == []
    assert "undefined" not in page.text and "None" not in page.text
    assert json.loads(page.scripts[0])
    assert all(len(line) <= 72 or "xdptstamp " in line for line in letter_of(path))


@pytest.fixture
def evil_path(tmp_path):
    path = ping_pong_run(tmp_path, 300, "hardware", label="evil")
    info = info_json(path)
    warning = dict.fromkeys(("key", "message", "value", "limit", "advice"), EVIL)
    edit_info(
        path,
        label=EVIL,
        argv=["xdptstamp", EVIL],
        nic=info["nic"] | {"driver": EVIL, EVIL: EVIL},
        dut=info["dut"] | {"hostname": EVIL},
        asked={EVIL: EVIL},
        obtained={"mode": EVIL, "notes": [EVIL]},
        counters={EVIL: {"before": 1, "after": 2}},
        clocks={"tx_app_ns": EVIL},
        warnings=[warning],
        timestamps=EVIL,
        versions={EVIL: EVIL},
        partner={EVIL: EVIL},
    )
    return path


def test_what_a_run_says_is_text_whatever_it_says(evil_path):
    text = page_of(evil_path, evil_path)
    page = Page(text)
    assert page.open == []
    assert [each for each in page.scripts if "alert" in each] == page.scripts[:1]
    data = json.loads(page.scripts[0])
    # It is escaped before it gets there, too: the plots show text as it is.
    assert data[-1]["packets"]["clocks"]["tx_app_ns"] == ascii_text(EVIL)
    names = {s["name"] for part in data for figure in part["figures"] for s in figure["series"]}
    assert all(name.isascii() and name.isprintable() for name in names)
    assert len(page.all("script")) == 2
    assert "\x1b" not in text and "\u202e" not in text
    assert "<script>alert(1)</script>" in page.text and "\\u202e" in page.text


def test_what_a_run_says_is_text_in_a_letter_an_image_and_a_terminal_too(evil_path):
    lines = letter_of(evil_path)
    assert all(line.isascii() and line.isprintable() for line in lines)
    tokens = MarkdownIt().parse("\n".join(lines))
    assert not [each for each in tokens if each.type.startswith("html")]
    out = io.BytesIO()
    drawn = report_of([open_run(evil_path)])
    draw_image(out, "svg", EVIL, [(EVIL, drawn.drawn[0].figures[:1])])
    root = ET.fromstring(out.getvalue())
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    for figure in drawn.drawn[0].figures:
        lines = figure_lines(figure, 72)
        assert all(line.isascii() and line.isprintable() for line in lines)


def test_a_run_without_samples_is_reported_as_that(tmp_path):
    path = ping_pong_run(tmp_path, 30)
    for file in (path / "samples").iterdir():
        file.unlink()
    (path / "samples").rmdir()
    page = Page(page_of(path))
    assert "There is nothing to draw" in page.text
    assert "the samples are not in this folder" in page.text
    assert "the samples are not in this folder" in " ".join("\n".join(letter_of(path)).split())
    out = io.BytesIO()
    draw_image(out, "svg", "x", [("x", figures_of(path))])
    assert b"There is nothing to draw" in out.getvalue()


@pytest.mark.parametrize("times", ["any", "few", "equal", "far", "warm-up"])
def test_times_that_make_no_sense_are_drawn_all_the_same(tmp_path, times):
    samples = ping_pong_samples(40)
    rng = np.random.default_rng(1)
    for name in ("rx_xdp_ns", "rx_app_ns", "tx_app_ns", "tx_sw_ns", "tx_comp_ns"):
        if times == "any":
            samples[name] = rng.integers(-(2**62), 2**62, 40)
        elif times == "few":
            samples[name] = rng.integers(0, 5, 40)
        elif times == "equal":
            samples[name] = 7
        elif times == "far":
            samples[name] = 2**62 if name == "tx_comp_ns" else 5
    samples["is_warmup"] = times == "warm-up"
    path = write_run(tmp_path, info_of(), samples)
    page = Page(page_of(path))
    assert page.open == [] and json.loads(page.scripts[0])
    assert letter_of(path)
    figures = figures_of(path)
    assert bool(figures) == (times != "warm-up")
    for figure in figures:
        assert max(map(len, figure_lines(figure, 72))) <= 72


def test_several_runs_are_side_by_side_and_nothing_is_concluded(tmp_path):
    paths = [
        ping_pong_run(
            tmp_path, count, label=label, started_utc=f"2026-01-22T13:26:0{count // 500}Z"
        )
        for count, label in ((1_000, "one"), (1_500, "two"), (2_000, None))
    ]
    reported = report_of([open_run(path) for path in paths])
    assert reported.names == ("one", "two", paths[2].name)
    figure = next(f for f in reported.beside.figures if f.key == "beside-tx_app_to_tx_comp")
    assert [series.name for series in figure.series] == list(reported.names)
    for series, run in zip(figure.series, reported.runs, strict=True):
        assert series.x[-1] == run.summary.intervals["tx_app_to_tx_comp_ns"].max
    page = Page("".join(page_parts(reported))).text
    assert page.count("Whether they differ: xdptstamp compare.") >= 5


# The letter.


@pytest.mark.parametrize("number", [0, 1])
def test_the_letter_fits_72_columns_and_has_the_tables_of_show(paths, number):
    lines = letter_of(paths[number])
    assert all(line == line.rstrip() and line.isascii() for line in lines)
    assert [line for line in lines if len(line) > 72] == []
    # Neither a comment to an editor nor where git am would cut it.
    assert not [line for line in lines if line.startswith("#") or line == "---"]
    shown = shown_lines(recompute(open_run(paths[number])))
    start = next(n for n, line in enumerate(shown) if re.match("intervals in|bandwidth:", line))
    end = next(n for n, line in enumerate(shown) if re.match("warning|UNTRUSTED|run folder", line))
    missing = [line for line in shown[start:end] if line not in lines]
    assert missing == []


def test_the_letter_is_markdown_too(paths):
    tokens = MarkdownIt().parse("\n".join(letter_of(*paths)))
    headings = [
        (each.tag, after.content)
        for each, after in itertools.pairwise(tokens)
        if each.type == "heading_open"
    ]
    assert [text for tag, text in headings if tag == "h1"] == [
        "first, xdptstamp ping-pong: HARDWARE timestamps",
        f"{paths[1].name}, xdptstamp mixed: HARDWARE timestamps",
    ]
    titles = [text for tag, text in headings if tag == "h2"]
    for title in ("Bandwidth", "Hold time", "Latencies", "Doubts", "How to reproduce"):
        assert title in titles
    assert {each.type for each in tokens} <= {
        "heading_open", "inline", "heading_close", "fence", "paragraph_open", "paragraph_close",
    }  # fmt: skip


def words_of(command):
    """What a shell makes of it."""
    script = f"set -- {command.strip()}\nprintf '%s\\n' \"$@\""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_command_of_a_letter_is_the_one_that_was_run(tmp_path):
    argv = ["xdptstamp", "mixed", "eth1", "--ratio", "1:1,1:10", "--label", "two words", "-x" * 40]
    path = ping_pong_run(tmp_path, 50, argv=argv, obtained={"seed": 7})
    block = "\n".join(letter_of(path)).partition("measure again:\n")[2].partition("\nmeasure")[0]
    assert "\\\n" in block
    assert words_of(block) == argv
    again = "\n".join(letter_of(path)).partition("in the same order:\n")[2].partition("\nshow")[0]
    assert words_of(again) == [*argv, "--seed", "7"]


# Images.


def test_an_image_is_the_same_each_time_and_its_text_is_text(paths):
    figures = [each for each in figures_of(paths[1]) if each.key == "hold"]
    for form in ("png", "svg"):
        images = []
        for _ in range(2):
            out = io.BytesIO()
            draw_image(out, form, "a title", [("x", figures)])
            images.append(out.getvalue())
        assert images[0] == images[1]
    root = ET.fromstring(images[0])
    words = "".join(node.text or "" for node in root.iter() if node.tag.endswith("}text"))
    for part in ("a title", "Hold time by position after a stamp", "HARDWARE timestamps", "1:10"):
        assert part in words
    assert b"<dc:date>" not in images[0]


def test_every_form_of_marks_is_drawn():
    path = next(path for path in OLD_RUNS if path.name.endswith("mixed-hardware"))
    figures = [f for f in figures_of(path) if not f.key.startswith(("pps", "course-tx_app"))]
    forms = {series.form for figure in figures for series in figure.series}
    assert forms == {"steps", "line", "points", "bars", "whiskers", "details"}
    out = io.BytesIO()
    draw_image(out, "png", "old", [("x", figures)])
    assert out.getvalue().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_how_to_get_it_and_ends_with_4(tmp_path, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run_cli("report", paths[0], "--format", "png", "-o", tmp_path / "x.png")
    assert done.exit_code == 4
    assert "pip install 'xdptstamp[plot]'" in done.output
    assert list(tmp_path.iterdir()) == []
    # The page does without.
    assert run_cli("report", paths[0], "-o", tmp_path / "x.html").exit_code == 0


# The command.


def test_the_latest_run_is_the_default_and_nothing_is_overwritten(tmp_path):
    for second, label in ((5, "older"), (9, "newer")):
        started = f"2026-01-22T13:26:0{second}Z"
        ping_pong_run(tmp_path / "runs", 40, label=label, started_utc=started)
    file = tmp_path / "out.md"
    arguments = ("report", "--output-dir", tmp_path / "runs", "--format", "md", "-o", file)
    assert run_cli(*arguments).exit_code == 0
    first = file.read_text()
    assert re.search("^label +newer$", first, re.MULTILINE)
    done = run_cli(*arguments)
    assert (done.exit_code, "exists already" in done.output) == (1, True)
    assert run_cli(*arguments, "--force").exit_code == 0
    assert file.read_text() == first
    assert run_cli(*arguments[:-2]).output == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_one_run_that_cannot_be_read_leaves_no_file(tmp_path, paths):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    file = tmp_path / "x.html"
    done = run_cli("report", paths[0], tmp_path / "broken", "-o", file)
    assert (done.exit_code, "truncated or damaged" in done.output) == (1, True)
    assert not file.exists() and len(list(tmp_path.iterdir())) == 1


def test_an_untrusted_run_is_written_says_so_and_ends_with_3(tmp_path):
    path = ping_pong_run(tmp_path / "runs", 700)
    sorted((path / "samples").iterdir())[1].unlink()
    for form in ("html", "md"):
        file = tmp_path / f"x.{form}"
        assert run_cli("report", path, "--format", form, "-o", file).exit_code == 3
        assert "NOT TO BE TRUSTED" in file.read_text()
        assert "00002.parquet where 00001.parquet should be" in " ".join(file.read_text().split())


# The terminal.


def test_show_draws_the_same_figures_in_72_plain_columns_in_a_pipe(paths):
    for path in paths:
        plain = run_cli("show", path).output
        drawn = run_cli("show", path, "--plot").output
        assert drawn.startswith(plain)
        plots = drawn.removeprefix(plain)
        assert all(len(line) <= 72 for line in plots.splitlines())
        assert plots.isascii() and "\x1b" not in plots
        words = " ".join(plots.split())
        for figure in figures_of(path):
            assert f"{figure.title} ({figure.subtitle})" in words
    done = run_cli("show", paths[0], "--plot", "--format", "jsonl")
    assert done.exit_code == 2


def test_a_terminal_plot_has_its_marks_where_they_belong(paths):
    tail = next(f for f in figures_of(paths[0]) if f.key == "tail-sent")
    for width in (60, 120):
        lines = figure_lines(tail, width)
        assert max(map(len, lines)) <= width
        rows = [line.partition("|")[2] for line in lines if "|" in line]
        assert rows[0][0] in "abc"  # all packets are at least as slow as the fastest
        assert rows[-1].rstrip()[-1] in "abc" and len(rows[-1]) > width * 0.7  # and one the slowest
    colored = "\n".join(figure_lines(tail, 80, has_color=True))
    assert re.sub(r"\x1b\[\d+m", "", colored).splitlines() == figure_lines(tail, 80)
    assert "\x1b[34ma\x1b[0m" in colored
