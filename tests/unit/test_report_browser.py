# SPDX-License-Identifier: GPL-2.0-only
"""The page of ``xdptstamp report`` in a real browser: without an error, and its plots respond."""

import pytest
from click.testing import CliRunner

from tests.unit.chromium_kit import chromium, find_chromium
from tests.unit.data_kit import mixed_run, ping_pong_run, ping_pong_samples
from xdptstamp.cli.main import command

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="no Chromium: set XDPTSTAMP_CHROMIUM, or put it on the PATH"
)
WRONG = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
COURSE = 'plots.find(plot => plot.spec.key === "course-tx_app_to_tx_comp")'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    paths = [
        ping_pong_run(folder / "runs", 12_000, "hardware", label="</script><b>x</b>"),
        mixed_run(folder / "runs", "hardware", ping_pong_samples(300, "hardware")),
    ]
    file = folder / "page.html"
    done = CliRunner().invoke(command, ["report", *map(str, paths), "-o", str(file)])
    assert done.exit_code in {0, 3}, done.output
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    yield browser
    assert browser.told(*WRONG) == []
    # It asks for nothing but itself.
    requests = browser.told("Network.requestWillBeSent")
    assert {each["params"]["request"]["url"] for each in requests} == {page.as_uri()}


def test_every_plot_is_drawn(opened):
    assert opened.js("document.querySelectorAll('figure.plot').length") >= 15
    assert opened.js("[...document.querySelectorAll('figure.plot svg')].length") >= 15
    assert opened.js("plots.every(plot => plot.canvas.querySelector('path'))")
    # What a number could not be worked out from would be drawn as NaN.
    assert opened.js("!document.body.innerHTML.includes('NaN')")


def test_the_keyboard_goes_to_the_slowest_packet_and_zooms_to_single_ones(opened):
    opened.js(f"{COURSE}.canvas.focus()")
    assert opened.js(f"document.activeElement === {COURSE}.canvas")
    opened.key("m")
    slowest = opened.js(f"{COURSE}.reading.innerText")
    values = opened.js("data[data.length - 2].packets.values.tx_app_to_tx_comp_ns")
    most = max(value for value in values if value is not None)
    assert f"{most / 1000:,.3f} us: seq " in slowest
    assert "tx_hw_ns 1790000037" in slowest and "(phc) +" in slowest
    whole = opened.js(f"{COURSE}.view")
    for _ in range(9):
        opened.key("+")
    view = opened.js(f"{COURSE}.view")
    assert view[1] - view[0] < (whole[1] - whole[0]) / 500
    assert opened.js(f"{COURSE}.shown().some(each => each.form === 'details')")
    # The other courses of the run show the same time.
    same = f"plots.filter(p => p.link === {COURSE}.link).map(p => p.view.join()).sort()"
    views = opened.js(same)
    assert len(views) >= 5 and len(set(views)) == 1
    opened.key("ArrowDown")  # from the slowest packets to all single ones
    opened.key("ArrowRight")
    after = opened.js(f"{COURSE}.reading.innerText")
    assert after != slowest and "us: seq " in after
    opened.key("0")
    assert opened.js(f"{COURSE}.view") == whole


def test_the_pointer_reads_a_mark_and_zooms_to_what_it_drags_over(opened):
    opened.js(f"{COURSE}.canvas.scrollIntoView({{block: 'center'}})")
    left, top, width, height = opened.js(
        f"(b => [b.left, b.top, b.width, b.height])({COURSE}.canvas.getBoundingClientRect())"
    )
    opened.mouse("mouseMoved", left + width / 2, top + height / 2)
    assert " us" in opened.js(f"{COURSE}.reading.innerText")
    whole = opened.js(f"{COURSE}.view")
    y = top + height / 3
    opened.mouse("mousePressed", left + width * 0.3, y, is_down=True)
    for share in (0.4, 0.5):
        opened.mouse("mouseMoved", left + width * share, y, is_down=True)
    opened.mouse("mouseReleased", left + width * 0.5, y)
    low, high = opened.js(f"{COURSE}.view")
    assert whole[0] < low < high < whole[1]
    opened.js(f"{COURSE}.box.querySelector('[aria-label=\"Show all\"]').click()")
    assert opened.js(f"{COURSE}.view") == whole


def test_a_series_is_left_out_by_its_button(opened):
    count = opened.js("plots[0].shown().length")
    opened.js("plots[0].box.querySelector('.legend button').click()")
    assert opened.js("plots[0].shown().length") == count - 1
    pressed = "plots[0].box.querySelector('.legend button').getAttribute('aria-pressed')"
    assert opened.js(pressed) == "false"


def test_a_phone_scrolls_nothing_sideways_but_tables(browser, page):
    browser.open(page, width=360, height=740)
    assert browser.js("document.documentElement.scrollWidth") <= 360
    assert browser.js(
        "[...document.querySelectorAll('main *')].every(node => node.closest('.scroll, svg, pre')"
        " || node.classList.contains('skip') || node.getBoundingClientRect().right <= 360)"
    )
    assert browser.told(*WRONG) == []


def test_light_and_dark_follow_what_is_preferred(browser, page):
    seen = []
    for scheme in ("light", "dark"):
        browser.open(page, scheme=scheme)
        seen.append(browser.js("getComputedStyle(document.body).backgroundColor"))
    assert seen == ["rgb(255, 255, 255)", "rgb(20, 24, 28)"]


def test_it_prints_with_all_plots(opened):
    document = opened.pdf()
    assert document.startswith(b"%PDF") and document.count(b"/Type /Page\n") >= 5
