# SPDX-License-Identifier: GPL-2.0-only
"""What ``xdptstamp compare`` refuses or doubts, and what it says then."""

import pytest

from tests.unit.compare_kit import change_info, compare, mixed, ping
from tests.unit.data_kit import edit_info, info_of, ping_pong_run
from tests.unit.mixed_kit import info_of as mixed_info
from xdptstamp.compare import compare as compare_runs
from xdptstamp.compare import member
from xdptstamp.errors import IncompatibleRunsError
from xdptstamp.report import recompute
from xdptstamp.store import create_run, open_run

UNTRUSTED = {
    "key": "books-unbalanced",
    "message": "the books do not add up",
    "value": "3 packets",
    "limit": "0",
    "advice": "measure again",
    "is_untrusted": True,
}


@pytest.fixture
def two(tmp_path):
    """Two runs that are alike."""
    return [mixed(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2))]


def refused(*arguments, code=1):
    done = compare(*arguments)
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    return done.stderr


@pytest.mark.parametrize(
    ("part", "name", "value", "key", "shown"),
    [
        ("dut", "kernel_release", "6.18", "kernel", "A: 6.12.57-rt14; B: 6.18"),
        (
            "dut",
            "governors",
            {"powersave": [0, 1]},
            "governors",
            "A: performance=2; B: powersave=2",
        ),
        ("dut", "dut_id", "other", "dut", "A: same (board7); B: other (board7)"),
        ("nic", "driver", "igb", "driver", "A: veth; B: igb"),
        ("nic", "driver_version", "2.0", "driver-version", "A: 1.0; B: 2.0"),
        ("obtained", "mode", "zero-copy", "mode", "A: copy; B: zero-copy"),
        ("obtained", "batch", 512, "batch", "A: 256; B: 512"),
        ("obtained", "cpu", None, "cpu", "A: 1; B: any"),
        ("versions", "xdptstamp", "0.2", "xdptstamp", "A: 0.1; B: 0.2"),
    ],
)
def test_runs_that_differ_in_what_nobody_asked_about(tmp_path, part, name, value, key, shown):
    runs = [mixed(tmp_path / each, seed) for each, seed in (("a", 1), ("b", 2))]
    like = mixed_info()
    for run in runs:
        change_info(run, "dut", governors={"performance": [0, 1]}, dut_id="same", hostname="board7")
        change_info(run, "dut", kernel_release=like.dut["kernel_release"])
        change_info(run, "nic", driver="veth", driver_version="1.0")
        change_info(run, "obtained", **like.obtained)
        change_info(run, "versions", xdptstamp="0.1")
    change_info(runs[1], part, **{name: value})
    assert refused(*runs) == (
        f"Error: the runs differ in: {key}\n  {key}: {shown}\n"
        f"If that is what you compare: --by {key}\n"
    )
    done = compare(*runs, "--by", key)
    assert done.exit_code == 0, done.output
    assert f"compared by  {key}\n" in done.stdout


def test_the_error_names_the_keys(two):
    change_info(two[1], "dut", kernel_release="6.99")
    change_info(two[1], "nic", firmware="9")
    change_info(two[0], "nic", firmware="8")
    members = [(str(path), [member(recompute(open_run(path)))]) for path in two]
    with pytest.raises(IncompatibleRunsError) as caught:
        compare_runs(members)
    assert caught.value.keys == ["kernel", "firmware"]
    assert str(caught.value).endswith("--by kernel --by firmware")


def test_a_kernel_that_was_built_anew_is_another(two):
    for run, version in zip(two, ("#1 SMP", "#2 SMP"), strict=True):
        change_info(run, "dut", kernel_version=version)
    assert "  kernel: A: 6.18 #1 SMP; B: 6.18 #2 SMP\n" in refused(*two)


def test_runs_of_a_side_that_differ_are_refused_as_well(tmp_path, two):
    third = mixed(tmp_path / "a", 3)
    change_info(third, "dut", kernel_release="6.99")
    assert "  kernel: A and B: 6.18; A: 6.99\n" in refused(tmp_path / "a", two[1])


def test_kinds_cannot_be_compared(tmp_path, two):
    other = ping(tmp_path / "c", 1)
    assert refused(two[0], other).startswith("Error: the runs differ in: kind\n")
    assert "Runs of different kinds measure different things." in refused(two[0], other)
    assert "no key 'kind'" in refused(*two, "--by", "kind", code=2)


def test_an_unknown_key_is_named_beside_those_there_are(two):
    message = refused(*two, "--by", "colour", code=2)
    assert "Invalid value for --by: no key 'colour'. Keys: timestamps, dut, nic, mode" in message


def test_one_side_alone(two):
    message = refused(two[0])
    assert message.startswith("Error: one side alone: name two runs or folders of runs, or say")
    assert "Missing argument" in refused(code=2)
    assert "nothing to compare: every run has kernel 6.18" in refused(*two, "--by", "kernel")


def test_a_run_that_does_not_note_what_is_compared(two):
    change_info(two[0], "dut", kernel_release="6.12")
    change_info(two[1], "dut", kernel_release=None)
    expected = f"Error: {two[1]}: does not note its kernel (--by)\n"
    assert refused(*two, "--by", "kernel") == expected


def test_no_such_run_and_what_is_none(tmp_path, two):
    assert "no such run, neither here nor in" in refused(two[0], tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert refused(two[0], tmp_path / "empty") == f"Error: {tmp_path}/empty: holds no run\n"
    (two[1] / "run.json").write_text("{")
    assert "truncated or damaged, it is not valid JSON" in refused(*two)


def test_more_sides_than_letters(tmp_path):
    path = ping(tmp_path, 1, count=20)
    assert "27 sides: at most 26 can be compared" in refused(*[path] * 27)


def test_a_run_that_is_not_to_be_trusted_is_named_and_doubted(two):
    edit_info(two[1], warnings=[UNTRUSTED])
    done = compare(*two)
    assert done.exit_code == 3
    assert f"NOT TO BE TRUSTED: {two[1].name}\n" in done.stdout
    assert "  the books do not add up: 3 packets [books-unbalanced]\n" in done.stdout
    assert "NOT TO BE TRUSTED: see the run named so" in " ".join(done.stdout.split())


def test_a_run_that_is_still_being_written_is_doubted(tmp_path):
    ended = ping(tmp_path / "a", 1)
    with create_run(tmp_path / "b", info_of("ping")) as run_dir:
        done = compare(ended, run_dir.path)
    assert done.exit_code == 3
    assert "  it is still being written: state running [still-running]\n" in done.stdout


def test_other_warnings_are_named(two):
    edit_info(two[0], warnings=[{**UNTRUSTED, "key": "loaded", "is_untrusted": False}])
    done = compare(*two)
    assert done.exit_code == 0
    assert "warnings of A (see show): loaded" in done.stdout


HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> \x1b[2J\r\n```\n# \u202e | x"


@pytest.mark.parametrize("form", ["table", "md", "junit", "json"])
def test_hostile_labels_are_shown_escaped(two, form):
    for number, run in enumerate(two):
        edit_info(run, label=HOSTILE, run_id=f"{HOSTILE} {number}")
        change_info(run, "dut", hostname=HOSTILE, kernel_release=HOSTILE)
    done = compare(*two, "--format", form)
    assert done.exit_code == 0, done.output
    assert done.stdout.isascii()
    assert all(line.isprintable() for line in done.stdout.split("\n"))
    assert "\x1b" not in done.stdout
    if form in ("table", "md"):
        assert "\\x1b[2J\\r\\n" in "".join(done.stdout.split())
        fences = [line for line in done.stdout.split("\n") if line.lstrip().startswith("```")]
        assert len(fences) == (2 if form == "md" else 0)
    if form == "junit":
        assert "<script>" not in done.stdout


def test_hostile_keys_are_escaped_in_a_refusal(two):
    change_info(two[1], "dut", kernel_release="6.9\x1b[2J")
    assert "B: 6.9\\x1b[2J" in refused(*two)


def test_ping_pong_without_samples_has_its_books_alone(tmp_path):
    runs = [ping_pong_run(tmp_path / name, 100) for name in ("a", "b")]
    for run in runs:
        for file in (run / "samples").iterdir():
            file.unlink()
    done = compare(*runs)
    assert done.exit_code == 0, done.output
    assert "B and A have nothing whose change has an interval" in " ".join(done.stdout.split())
