# SPDX-License-Identifier: GPL-2.0-only
"""``compare --format md|junit|json``, as their readers have it."""

import json

import pytest
from junitparser import Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt

from tests.unit.compare_kit import change_info, compare, mixed
from tests.unit.data_kit import edit_info
from tests.unit.test_compare_refusals import UNTRUSTED


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three runs each, the second slower by 10 %; one more of the first on another DUT."""
    base = tmp_path_factory.mktemp("formats")
    for number in range(3):
        mixed(base / "a", number, 1)
        mixed(base / "b", 10 + number, 0.9)
    change_info(mixed(base / "a", 5, label="lonely"), "dut", hostname="other")
    return base


def junit(*arguments, code=0):
    done = compare(*arguments, "--format", "junit")
    assert done.exit_code == code, done.output
    assert done.stdout.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>')
    suites = list(JUnitXml.fromstring(done.stdout.encode()))
    for suite in suites:
        results = [[type(each) for each in case.result] for case in suite]
        counted = (len(results), *(sum(k in r for r in results) for k in (Failure, Skipped)))
        assert (suite.tests, suite.failures, suite.skipped or 0) == counted
    return suites


def test_junit_has_a_case_for_each_figure_and_a_suite_for_what_has_no_partner(folders):
    suite, unpaired = junit(folders / "a", folders / "b")
    assert suite.name == "xdptstamp.compare.mixed.B"
    cases = {case.name: case for case in suite}
    slower = cases["64 1:10 bandwidth"]
    # Only a limit says what is too slow.
    assert slower.is_passed
    assert slower.classname == "xdptstamp.compare.mixed.B.figures"
    assert slower.system_out.startswith("slower: A ")
    properties = {each.name: each.value for each in suite.properties()}
    assert properties["key.kernel"] == "6.18"
    assert (properties["side.B"], properties["this-boot-only"]) == (str(folders / "b"), "false")
    text = compare(folders / "a", folders / "b", "--format", "junit").stdout
    assert "<system-out>B is SLOWER than A (64 0:1 bandwidth, " in text
    (case,) = unpaired
    assert (case.classname, case.is_skipped) == ("xdptstamp.compare.unpaired", True)
    assert case.name.startswith("A alone has these, B none: ")


def test_junit_fails_where_a_limit_is_missed(folders):
    limits = ("--fail-if", "bandwidth < -3%", "--fail-if", "lost > 1%")
    suite, _ = junit(folders / "a", folders / "b", *limits, code=3)
    cases = {case.name: case for case in suite if case.classname.endswith(".fail-if")}
    missed = cases["bandwidth < -3% (64 1:10 bandwidth)"]
    (failure,) = missed.result
    assert (type(failure), failure.type) == (Failure, "missed")
    assert failure.message.startswith("MISSED: --fail-if 'bandwidth < -3%' 64 1:10 bandwidth: ")
    assert cases["lost > 1% (64 1:10 lost)"].is_passed


def test_junit_of_what_cannot_be_told(tmp_path):
    runs = [mixed(tmp_path / name, seed, 1, 4, 0.1) for name, seed in (("a", 1), ("b", 2))]
    limit = ("--fail-if", "bandwidth < -1%")
    (suite,) = junit(*runs, *limit, code=3)
    cases = [case for case in suite if case.classname.endswith(".fail-if")]
    assert {case.result[0].type for case in cases} == {"inconclusive"}
    assert all(isinstance(case.result[0], Failure) for case in cases)
    figure = next(case for case in suite if case.name == "64 1:10 bandwidth")
    assert figure.result[0].type == "not-enough"
    assert figure.result[0].message.startswith("not enough: ")
    (suite,) = junit(*runs, *limit, "--inconclusive", "pass")
    cases = [case for case in suite if case.classname.endswith(".fail-if")]
    assert all(isinstance(case.result[0], Skipped) for case in cases)


def test_junit_fails_for_a_run_that_is_not_to_be_trusted(tmp_path):
    runs = [mixed(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]
    edit_info(runs[0], warnings=[UNTRUSTED])
    (suite,) = junit(*runs, code=3)
    (case,) = [case for case in suite if case.classname.endswith(".trust")]
    assert case.result[0].type == "untrusted"
    assert "is not to be trusted: the books do not add up: 3 packets" in case.result[0].message


def test_md_is_plain_text_for_a_cover_letter(folders):
    done = compare(folders / "a", folders / "b", "--format", "md")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "xdptstamp compare: mixed, SOFTWARE timestamps"
    assert lines[1] == "=" * len(lines[0])
    assert lines[4].startswith("verdict: B is SLOWER than A")
    # `git am` takes what begins so for the end of the message, or for a patch.
    assert not any(line.startswith(("---", "diff ", "Index: ")) for line in lines)
    assert all(line.isascii() and line.isprintable() for line in lines)
    paths = [line for line in lines if str(folders) in line]
    assert all(len(line) <= 72 for line in lines if line not in paths)
    tokens = MarkdownIt().parse(done.stdout)
    assert [token.type for token in tokens] == ["heading_open", "inline", "heading_close", "fence"]
    assert tokens[3].content == "\n".join(lines[4:-1]) + "\n"


def test_table_and_md_say_the_same(folders):
    forms = ((), ("--format", "md"))
    table, md = (compare(folders / "a", folders / "b", *form).stdout for form in forms)
    assert set(table.splitlines()) <= set(md.splitlines())


def test_json_has_all_that_the_table_has(folders):
    done = compare(folders / "a", folders / "b", "--format", "json", "--fail-if", "bandwidth < -3%")
    data = json.loads(done.stdout)
    assert done.exit_code == 3
    assert (data["type"], data["confidence"], data["resolution"]) == ("compare", 0.95, 0.03)
    assert [side["letter"] for side in data["sides"]] == ["A", "B"]
    (pair,) = data["pairs"]
    assert pair["keys"]["dut"] == "board7"
    assert [len(pair[name]) for name in ("base_runs", "side_runs")] == [3, 3]
    assert {limit["outcome"] for limit in pair["limits"]} == {"missed"}
    assert data["num_judged"] == sum(each["p"] is not None for each in pair["figures"])
