# SPDX-License-Identifier: GPL-2.0-only
"""Results of conform as plain data: their JSON form, read back; what is foreign or damaged."""

import json
import math

import pytest

from tests.unit.conform_kit import ALL, FAILED, KNOWN, PASSED, conformance_of, written
from xdptstamp.conformance import SCHEMA_VERSION, CaseResult, Conformance
from xdptstamp.errors import RunFileError
from xdptstamp.store.conformance import read_conformance

FULL = conformance_of(*ALL, ended_by="SIGINT", notes=["hwtstamp was restored"])


@pytest.fixture
def reading(tmp_path):
    """``reading(text)``: what a file with that content reads as."""

    def read(content):
        path = tmp_path / "conform.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_conformance(path)

    return read


@pytest.mark.parametrize("conformance", [FULL, conformance_of(), conformance_of(PASSED)])
def test_what_is_written_as_json_reads_back_as_it_was(reading, conformance):
    text = written("json", conformance)
    assert reading(text) == conformance
    assert json.loads(text)["counts"] == conformance.counts()


def test_odd_text_and_nanoseconds_survive(reading):
    result = CaseResult(
        FAILED.rule,
        "fail",
        "NUL \0, escape \x1b, a surrogate \udcff, \u2028 and \U0001f600",
        figures={"stamp_ns": 1763818000000000001, "share": 0.1, "word": "0x10"},
        kernel_log=("a\tb\r", ""),
    )
    assert reading(written("json", conformance_of(result))).results == [result]


def test_a_figure_that_is_no_number_does_not_cost_the_results(reading):
    result = CaseResult(FAILED.rule, "fail", "?", figures={"a": math.nan, "b": -math.inf, "c": 1.0})
    back = reading(written("json", conformance_of(result)))
    assert back.results[0].figures == {"a": "nan", "b": "-inf", "c": 1.0}


def test_what_a_newer_xdptstamp_adds_is_left_out(reading):
    data = {**FULL.to_json(), "colour": "blue"}
    data["results"][0]["rule"]["since"] = "v6.8"
    assert reading(json.dumps(data)) == FULL


def test_what_an_older_one_lacked_has_its_default(reading):
    data = FULL.to_json()
    del data["versions"], data["results"][0]["kernel_log"]
    back = reading(json.dumps(data))
    assert (back.versions, back.results[0].kernel_log) == ({}, ())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("9" * 5000, "not valid JSON"),
        ("[]", "not what xdptstamp conform writes as json"),
        ("null", "not what xdptstamp conform writes as json"),
        ('{"kind": "ping-pong", "schema_version": 1}', "not what xdptstamp conform writes"),
        ('{"run_id": "x", "state": "complete"}', "not what xdptstamp conform writes as json"),
        ('{"kind": "conformance"}', f"schema version None, this xdptstamp reads {SCHEMA_VERSION}"),
        (
            '{"kind": "conformance", "schema_version": 99}',
            f"schema version 99, this xdptstamp reads {SCHEMA_VERSION}",
        ),
    ],
)
def test_a_foreign_or_cut_file_is_named_with_what_is_wrong(reading, tmp_path, content, problem):
    with pytest.raises(RunFileError) as caught:
        reading(content)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'conform.json'}: ")


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("ifname",), None, "ifname is of the wrong type: None"),
        (("mode",), "native", "mode is 'native', not one of copy, zero-copy"),
        (("mode",), ["copy"], "mode is ['copy'], not one of copy, zero-copy"),
        (("results",), {}, "results is of the wrong type: {}"),
        (("results", 2), "fail", "results[2] is of the wrong type: 'fail'"),
        (("results", 2, "outcome"), "failed", "results[2].outcome is 'failed', not one of pass"),
        (("results", 2, "duration_ns"), 1.5, "results[2].duration_ns is of the wrong type: 1.5"),
        (("results", 2, "duration_ns"), True, "results[2].duration_ns is of the wrong type: True"),
        (("results", 2, "fault"), 7, "results[2].fault is of the wrong type: 7"),
        (("results", 2, "figures", "ratio"), [], "results[2].figures.ratio is of the wrong type"),
        (("results", 2, "kernel_log", 1), 7, "results[2].kernel_log[1] is of the wrong type: 7"),
        (("results", 2, "rule"), None, "results[2].rule is of the wrong type: None"),
        (("results", 2, "rule", "expected"), {"native": "x"}, "results[2].rule.expected is 'nat"),
    ],
)
def test_a_damaged_value_is_named_by_its_place(reading, path, value, problem):
    data = FULL.to_json()
    target = data
    for key in path[:-1]:
        target[key] = list(target[key]) if isinstance(target[key], tuple) else target[key]
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(RunFileError) as caught:
        reading(json.dumps(data))
    assert problem in str(caught.value)


@pytest.mark.parametrize("path", [("driver",), ("results", 3, "seen"), ("results", 3, "rule")])
def test_a_missing_value_is_named_by_its_place(reading, path):
    data = target = FULL.to_json()
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
    with pytest.raises(RunFileError, match=f"{name.replace('[', '.').replace(']', '.')} is miss"):
        reading(json.dumps(data))


def test_no_file_and_a_folder_are_clear_errors(tmp_path):
    with pytest.raises(RunFileError, match="cannot read it: No such file"):
        read_conformance(tmp_path / "nothing.json")
    with pytest.raises(RunFileError, match="cannot read it: Is a directory"):
        read_conformance(tmp_path)


def test_the_command_that_reproduces_a_case_is_safe_in_a_shell():
    assert conformance_of(KNOWN).reproduce(KNOWN) == (
        "xdptstamp conform eth1 --mode zero-copy --case close-with-pending --dangerous"
    )
    odd = conformance_of(PASSED, ifname="a;b'$c")
    assert odd.reproduce(PASSED) == (
        """xdptstamp conform 'a;b'"'"'$c' --mode zero-copy --case stamp-in-bounds"""
    )


def test_a_known_fault_fails_a_strict_run_alone():
    known, failed = conformance_of(PASSED, KNOWN), conformance_of(FAILED)
    assert (known.has_failed(), known.has_failed(is_strict=True)) == (False, True)
    assert (failed.has_failed(), failed.has_failed(is_strict=True)) == (True, True)
    assert Conformance.from_json(known.to_json()).counts() == {
        "pass": 1,
        "fail": 0,
        "skip": 0,
        "known-fault": 1,
    }
