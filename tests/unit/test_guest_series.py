# SPDX-License-Identifier: GPL-2.0-only
"""``lab guest`` with several kernels: their order, the comparison at the end, and git bisect."""

import pytest
from click.testing import CliRunner

from tests.unit.compare_kit import change_info, mixed
from xdptstamp.cli._guest_series import Comparison, bisect_code, order_of, run_series
from xdptstamp.cli.main import command
from xdptstamp.compare import parse_change_limit
from xdptstamp.errors import SetupError, UnsupportedError
from xdptstamp.lab.guest import GuestConfig, GuestDiedError

KERNELS = ("6.12", "recent")
LIMIT = parse_change_limit("bandwidth < -5%")


class Guests:
    """What boots: each kernel as fast as it is, and one run a guest."""

    def __init__(self, base, speeds, codes=()):
        self.booted = []
        self._base, self._speeds, self._codes = base, speeds, list(codes)

    def run(self, config):
        number = len(self.booted)
        self.booted.append(config.kernel)
        code = self._codes.pop(0) if self._codes else 0
        path = mixed(self._base / str(number), number, speed=self._speeds[config.kernel])
        return code, [change_info(path, "dut", kernel_release=config.kernel)]


def series(guests, repeats, limits=(LIMIT,)):
    configs = [GuestConfig(kernel=name) for name in KERNELS]
    order = order_of(len(configs), repeats)
    return run_series(configs, order, guests.run, Comparison(limits, "table"))


def lab_guest(*words):
    return CliRunner().invoke(command, ["lab", "guest", *words])


def test_kernels_take_turns_and_turns_are_turned_around():
    assert order_of(2, 3) == [0, 1, 1, 0, 0, 1]
    assert order_of(3, 2) == [0, 1, 2, 2, 1, 0]
    assert order_of(1, 2) == [0, 0]


def test_the_runs_of_the_kernels_are_compared(tmp_path, capsys):
    guests = Guests(tmp_path, {"6.12": 1.0, "recent": 0.8})
    assert series(guests, 2, limits=()) == 0
    assert guests.booted == ["6.12", "recent", "recent", "6.12"]
    out, err = capsys.readouterr()
    assert "guest 3 of 4: kernel recent" in err
    assert "slower" in out
    assert "6.12" in out


@pytest.mark.parametrize(("speed", "code"), [(0.8, 3), (1.0, 0)], ids=["slower", "as fast"])
def test_a_limit_that_is_missed_is_code_3(tmp_path, capsys, speed, code):
    assert series(Guests(tmp_path, {"6.12": 1.0, "recent": speed}), 3) == code
    assert ("MISSED" in capsys.readouterr().out) == (code == 3)


def test_a_run_that_is_not_to_be_trusted_ends_nothing_and_is_not_forgotten(tmp_path):
    guests = Guests(tmp_path, {"6.12": 1.0, "recent": 1.0}, codes=[0, 3])
    assert series(guests, 3) == 3
    assert len(guests.booted) == 6


def test_a_command_that_fails_ends_it(tmp_path, capsys):
    guests = Guests(tmp_path, {"6.12": 1.0, "recent": 1.0}, codes=[0, 127])
    assert series(guests, 3) == 127
    assert len(guests.booted) == 2
    assert capsys.readouterr().out == ""


def test_a_command_that_measures_nothing_has_nothing_to_compare():
    configs = [GuestConfig(kernel=name) for name in KERNELS]
    with pytest.raises(SetupError, match="made no run below --output-dir"):
        run_series(configs, [0, 1], lambda _: (0, []), Comparison((), "table"))


def raising(error):
    def run():
        raise error

    return run


DIED = GuestDiedError("lab guest", "the guest has ended")
LEFT = GuestDiedError("lab guest", "the third signal")
LEFT.exit_code = 130


@pytest.mark.parametrize(
    ("run", "is_up", "code", "said"),
    [
        (lambda: 0, False, 0, ""),
        (lambda: 3, False, 1, ""),
        (lambda: 1, False, 125, ""),
        (lambda: 127, False, 125, ""),
        (lambda: 130, False, 130, ""),
        (raising(DIED), True, 1, "bisect: the kernel failed: lab guest: the guest has ended"),
        (raising(LEFT), True, 130, "bisect: ended: lab guest: the third signal"),
        (raising(DIED), False, 125, "cannot be tested"),
        (raising(UnsupportedError("igc", "CONFIG_IGC", "none")), False, 125, "cannot be tested"),
    ],
    ids=["good", "bad", "error", "no command", "Ctrl-C", "a panic", "left", "no boot", "no driver"],
)
def test_what_git_bisect_is_told(capsys, run, is_up, code, said):
    assert bisect_code(run, lambda: is_up) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kernel", "6.12", "--kernel", "recent"), "take a COMMAND"),
        (("--repeats", "2"), "take a COMMAND"),
        (("--bisect",), "take a COMMAND"),
        (("--fail-if", "bandwidth < -3%", "--", "true"), "name a second --kernel"),
        (("--kernel", "6.12", "--modules", "/", "--modules", "/", "--", "true"), "once for each"),
        (("--kernel", "6.12", "--kernel", "recent", "--fail-if", "x", "--", "true"), "--fail-if"),
        (("--repeats", "0", "--", "true"), "--repeats"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(words, said):
    done = lab_guest(*words)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())


def test_a_kernel_that_is_not_there_cannot_be_tested(tmp_path):
    missing = str(tmp_path / "bzImage")
    done = lab_guest("--bisect", "--kernel", missing, "--", "true")
    assert done.exit_code == 125
    assert missing in done.output
