# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp phc`` and ``hwtstamp`` where no NIC has either: what they refuse, and how."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.recording_kit import wait_for
from tests.unit.test_phc_ioctls import REAL, Driver
from xdptstamp import phc as phc_module
from xdptstamp.cli import hwtstamp as hwtstamp_cli
from xdptstamp.cli import phc as phc_cli
from xdptstamp.cli.main import command
from xdptstamp.cli.params import CLOCK_RATE, SIGNED_DURATION
from xdptstamp.hwtstamp import RX_FILTERS, TX_TYPES
from xdptstamp.phc import Phc
from xdptstamp.servos import SERVOS, running_servos

SECOND = 1_000_000_000


def invoke(*words: str) -> Result:
    return CliRunner().invoke(command, words)


@pytest.fixture
def servo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that name."""
    program = tmp_path / request.param
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as process:
        # The kernel names it a moment after exec has closed what Popen waits for.
        comm = Path(f"/proc/{process.pid}/comm")
        wait_for(lambda: comm.read_text().strip() == request.param)
        yield process
        process.terminate()


@pytest.mark.parametrize("servo", SERVOS, indirect=True)
def test_the_clock_is_not_set_beside_a_servo_without_force(
    servo: subprocess.Popen[bytes],
) -> None:
    name = Path(str(servo.args[0])).name  # type: ignore[index]
    assert f"{name} (process {servo.pid})" in running_servos()
    refused = invoke("phc", "set", "ptp987")
    assert refused.exit_code == 1
    assert f"{name} (process {servo.pid})" in refused.stderr
    assert "end it first, or use --force" in refused.stderr
    forced = invoke("phc", "set", "ptp987", "--force")
    assert forced.exit_code == 1
    assert "/dev/ptp987: no such PTP hardware clock" in forced.stderr


def test_processes_of_other_names_are_no_servos(tmp_path: Path) -> None:
    for pid, name in (("1", "systemd"), ("22", "ptp4l"), ("333", "xptp4l"), ("self", "phc2sys")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "comm").write_text(f"{name}\n")
    (tmp_path / "4").mkdir()  # it has just ended
    assert running_servos(tmp_path) == ["ptp4l (process 22)"]


def test_an_interface_without_a_clock_is_not_supported() -> None:
    for words in (("show",), ("set", "--offset", "-37s"), ("compare",)):
        done = invoke("phc", words[0], "lo", *words[1:])
        assert done.exit_code == 4
        assert "found lo (its driver), which has none" in done.stderr


@pytest.mark.parametrize("words", [("phc", "show"), ("phc", "set"), ("hwtstamp", "restore")])
def test_an_interface_must_be_named(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NETIF", raising=False)
    done = invoke(*words)
    assert done.exit_code == 2
    assert "the interface (or set NETIF)" in done.stderr


def test_hwtstamp_of_an_interface_that_has_none() -> None:
    shown = invoke("hwtstamp", "show", "lo", "--format", "jsonl")
    data = json.loads(shown.stdout)
    assert (data["ifname"], data["hwtstamp"], data["kept"]) == ("lo", None, None)
    assert invoke("hwtstamp", "set", "lo", "--tx", "on").exit_code == 4
    assert invoke("hwtstamp", "set", "lo").exit_code == 2
    assert "nothing to restore" in invoke("hwtstamp", "restore", "lo").stderr


def test_names_of_settings_are_in_the_kernels_order() -> None:
    assert tuple(hwtstamp_cli._TX_TYPES) == TX_TYPES
    assert tuple(hwtstamp_cli._RX_FILTERS) == RX_FILTERS


@pytest.mark.parametrize(
    ("text", "ns"), [("0", 0), ("37s", 37 * SECOND), ("-37s", -37 * SECOND), ("-1ns", -1)]
)
def test_a_duration_may_have_a_sign(text: str, ns: int) -> None:
    assert SIGNED_DURATION.convert(text, None, None) == ns


@pytest.mark.parametrize("text", ["", "-", "--1s", "37", "s", "1.5ns"])
def test_what_is_no_signed_duration(text: str) -> None:
    done = invoke("phc", "set", "lo", "--offset", text)
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("text", "ppb"),
    [("50ppm", 50_000), ("-50ppm", -50_000), ("+1ppb", 1), ("0.005ppm", 5), ("0ppm", 0)],
)
def test_rates(text: str, ppb: int) -> None:
    assert CLOCK_RATE.convert(text, None, None) == ppb


@pytest.mark.parametrize("text", ["50", "ppm", "0.5ppb", "1e3ppm", "0.0001ppm", "--1ppm"])
def test_what_is_no_rate(text: str) -> None:
    done = invoke("phc", "set", "lo", "--rate", text)
    assert done.exit_code == 2
    assert "is not a rate such as 50ppm" in done.stderr


# With a clock's ioctls answered by a double: no machine without a PTP clock has them.


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver(offset=5_000)
    monkeypatch.setattr(phc_module, "Path", lambda path: Path("/dev/null"))
    monkeypatch.setattr(phc_module.fcntl, "ioctl", driver.ioctl)
    return driver


def test_show_tells_offset_method_and_why_not_a_better_one(driver: Driver) -> None:
    driver.errors = {0xC0403D08: 95}
    done = invoke("phc", "show", "/dev/ptp0")
    assert done.exit_code == 0
    words = " ".join(done.stdout.split())
    assert "PHC - TAI +0.000005000 s (+-0.201 us)" in words
    assert "compared by extended: half of the shortest window" in words
    assert "not precise Operation not supported" in words
    data = json.loads(invoke("phc", "show", "ptp0", "--format", "jsonl").stdout)
    assert (data["method"], data["offset_ns"], data["uncertainty_ns"]) == ("extended", 5000, 201)
    assert data["caps"]["max_adj_ppb"] == 62499999


def test_what_setting_took_is_taken_away_again(driver: Driver) -> None:
    class Slow(Phc):
        steps: list[int]

        def set_ns(self, time_ns: int) -> None:
            driver.offset = 37 * SECOND - 20_000_000
            self.steps = []

        def step(self, step_ns: int) -> None:
            # Reading and writing takes a while here, too, each time.
            self.steps.append(step_ns)
            driver.offset += step_ns - 700

    driver.errors = {0xC0403D08: 95}
    with Slow(0) as clock:
        after = phc_cli._set_to(clock, 37 * SECOND)
        assert clock.steps == [20_000_000, 1_400]
    assert after.offset_ns == 37 * SECOND


def test_a_look_at_a_busy_moment_moves_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Set(Phc):
        def set_ns(self, time_ns: int) -> None:
            driver.offset = 0

        def step(self, step_ns: int) -> None:
            pytest.fail("it was right")

    def ioctl(fd: int, number: int, request: bytearray) -> int:
        # The first look of all is off by more than it says it may be, the others are good.
        is_busy = number == 0xC4C03D09 and not driver.asked.count(number)
        driver.offset, driver.windows = (9_000, (8_000,) * 5) if is_busy else (0, (400,) * 5)
        return driver.ioctl(fd, number, request)

    driver.errors = {0xC0403D08: 95}
    monkeypatch.setattr(phc_module.fcntl, "ioctl", ioctl)
    with Set(0) as clock:
        assert phc_cli._set_to(clock, 0).offset_ns == 0


def test_compare_ends_with_the_drift(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.errors = {0xC0403D08: 95}
    moments = iter([(0, 5_000), (10, 5_500), (20, 6_000), (30, 9 * SECOND)] * 2)

    def ioctl(fd: int, number: int, request: bytearray) -> int:
        if number == 0xC4C03D09:
            elapsed_ms, driver.offset = next(moments)
            driver.start = REAL + elapsed_ms * 1_000_000
        return driver.ioctl(fd, number, request)

    monkeypatch.setattr(phc_module.fcntl, "ioctl", ioctl)
    words = ("phc", "compare", "ptp0", "--duration", "30ms", "--interval", "10ms")
    done = invoke(*words, "--format", "jsonl")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["sample"] * 4 + ["end"]
    assert [line["continues"] for line in lines[:4]] == [True, True, True, False]
    assert (lines[4]["num_samples"], lines[4]["num_steps"]) == (4, 1)
    # 1000 ns in 20 ms, each end known to 201 ns.
    assert (lines[4]["drift_ppb"], lines[4]["drift_uncertainty_ppb"]) == (50_000, 20_100)
    text = invoke(*words).stdout
    assert text.count("STEP") == 1
    assert "drift: +50.000 ppm (+-20.100)" in text
