# SPDX-License-Identifier: GPL-2.0-only
"""What the ioctls of a PTP clock carry, by bytes that are known; there is no such clock here."""

from __future__ import annotations

import errno
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

from xdptstamp import phc
from xdptstamp._sys import timex
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.phc import Phc, SystemClocks, system_clocks

SECOND = 1_000_000_000
REAL = 1_790_000_000 * SECOND

GETCAPS, PLAIN, PRECISE, EXTENDED = 0x80503D01, 0x43403D05, 0xC0403D08, 0xC4C03D09


def clock_time(ns: int) -> bytes:
    """struct ptp_clock_time, written out."""
    seconds, nanoseconds = divmod(ns, SECOND)
    return seconds.to_bytes(8, "little", signed=True) + nanoseconds.to_bytes(4, "little") + bytes(4)


class Driver:
    """Answers ioctls as a driver would: PHC minus CLOCK_REALTIME, and how long reading takes."""

    def __init__(self, offset: int = 0, windows: tuple[int, ...] = (900, 700, 400, 800, 600)):
        self.offset, self.windows = offset, windows
        self.start = REAL  # CLOCK_REALTIME when it is read
        self.errors: dict[int, int] = {}
        self.asked: list[int] = []
        self.requests: list[bytes] = []

    def ioctl(self, fd: int, number: int, request: bytearray) -> int:
        self.asked.append(number)
        self.requests.append(bytes(request))
        if number in self.errors:
            raise OSError(self.errors[number], "no")
        answer = {
            GETCAPS: self._caps,
            PLAIN: self._plain,
            PRECISE: self._precise,
            EXTENDED: self._extended,
        }[number](bytes(request))
        assert len(answer) == len(request)
        request[:] = answer
        return 0

    def _caps(self, request: bytes) -> bytes:
        return struct.pack("<20i", 62499999, 0, 2, 2, 1, 4, 1, 1, 999, *[0] * 11)

    def _precise(self, request: bytes) -> bytes:
        times = (REAL + self.offset, REAL, 12345)
        return b"".join(map(clock_time, times)) + bytes(16)

    def _extended(self, request: bytes) -> bytes:
        head = request[:16]
        count = int.from_bytes(head[:4], "little")
        times = []
        for n, window in enumerate(self.windows[:count]):
            start = self.start + n * 10_000
            times += [start, start + window // 2 + self.offset, start + window]
        body = b"".join(map(clock_time, times))
        return (head + body).ljust(1216, b"\0")

    def _plain(self, request: bytes) -> bytes:
        head, times, now = request[:16], [], REAL
        for window in self.windows[: int.from_bytes(head[:4], "little")]:
            times += [now, now + window // 2 + self.offset]
            now += window
        return (head + b"".join(map(clock_time, [*times, now]))).ljust(832, b"\0")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(phc, "Path", lambda path: Path("/dev/null"))
    monkeypatch.setattr(phc.fcntl, "ioctl", driver.ioctl)
    monkeypatch.setattr(phc.timex, "system_state", lambda: (0, 0, 0))
    return driver


@pytest.fixture
def compiler() -> str:
    """A C compiler: Debian's clang, which compiles bpf/, or any other."""
    found = (shutil.which(name) for name in ("cc", "gcc", "clang", "clang-14"))
    return next(path for path in found if path)


def test_sizes_and_numbers_are_those_of_the_kernels_header(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "sizes.c"
    source.write_text(
        "#include <stdio.h>\n#include <linux/ptp_clock.h>\nint main(void) {"
        'printf("%lu %lu %lu %lu\\n", PTP_CLOCK_GETCAPS, PTP_SYS_OFFSET, PTP_SYS_OFFSET_PRECISE, '
        "PTP_SYS_OFFSET_EXTENDED); return 0; }\n"
    )
    program = tmp_path / "sizes"
    subprocess.run([compiler, "-w", "-o", program, source], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    assert [int(word) for word in done.stdout.split()] == [GETCAPS, PLAIN, PRECISE, EXTENDED]
    assert [
        phc._PTP_CLOCK_GETCAPS,
        phc._PTP_SYS_OFFSET,
        phc._PTP_SYS_OFFSET_PRECISE,
        phc._PTP_SYS_OFFSET_EXTENDED,
    ] == [GETCAPS, PLAIN, PRECISE, EXTENDED]


def test_precise_is_taken_where_there_is_one(driver: Driver) -> None:
    driver.offset = 37 * SECOND + 5
    with Phc(0) as clock:
        sample = clock.compare()
        assert (sample.method, clock.method, clock.refusals) == ("precise", "precise", {})
    assert (sample.tai_ns, sample.offset_ns, sample.uncertainty_ns) == (REAL, 37 * SECOND + 5, 100)
    assert driver.asked == [PRECISE]
    assert driver.requests == [bytes(64)]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOTTY, errno.ENODEV])
def test_extended_keeps_the_shortest_window(driver: Driver, number: int) -> None:
    driver.offset = -5
    driver.errors = {PRECISE: number}
    with Phc(0) as clock:
        sample = clock.compare()
        assert clock.method == "extended"
        assert list(clock.refusals) == ["precise"]
        clock.compare()
    # The third: 400 ns around it; half of that, and one for what was rounded.
    assert (sample.method, sample.offset_ns, sample.uncertainty_ns) == ("extended", -5, 201)
    assert sample.tai_ns == REAL + 20_000 + 200
    assert driver.asked == [PRECISE, EXTENDED, EXTENDED], "what was refused is not asked again"
    # Five readings against CLOCK_REALTIME, reserved words zero: newer kernels look at all of them.
    assert driver.requests[1] == (5).to_bytes(4, "little") + bytes(1212)


def test_plain_is_the_last_resort(driver: Driver) -> None:
    driver.errors = dict.fromkeys((PRECISE, EXTENDED), errno.EOPNOTSUPP)
    with Phc(0) as clock:
        sample = clock.compare()
        assert (clock.method, list(clock.refusals)) == ("plain", ["precise", "extended"])
    assert (sample.method, sample.offset_ns, sample.uncertainty_ns) == ("plain", 0, 201)
    assert sample.tai_ns == REAL + 900 + 700 + 200
    assert driver.requests[2] == (5).to_bytes(4, "little") + bytes(828)


def test_a_clock_that_is_gone_says_so(driver: Driver) -> None:
    driver.errors = dict.fromkeys((PRECISE, EXTENDED, PLAIN), errno.ENODEV)
    with Phc(0) as clock, pytest.raises(SystemCallError) as caught:
        clock.compare()
    assert str(caught.value) == (
        "PTP_SYS_OFFSET failed on /dev/null: No such device. Is it a PTP clock, and is its NIC "
        "still there?"
    )


def test_the_kernels_tai_offset_is_added(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phc.timex, "system_state", lambda: (37, 0, 0))
    driver.offset = 37 * SECOND
    with Phc(0) as clock:
        sample = clock.compare()
    assert (sample.tai_ns, sample.offset_ns) == (REAL + 37 * SECOND, 0)
    assert (sample.tai_offset_s, sample.realtime_ns) == (37, REAL)


def test_a_tai_offset_that_is_set_meanwhile_is_read_again(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = [0, 37, 37, 37]
    monkeypatch.setattr(phc.timex, "system_state", lambda: (offsets.pop(0), 0, 0))
    with Phc(0) as clock:
        assert clock.compare().tai_ns == REAL + 37 * SECOND
    assert (len(driver.asked), offsets) == (2, [])


def test_a_system_clock_that_never_rests_is_refused(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = iter(range(100))
    monkeypatch.setattr(phc.timex, "system_state", lambda: (next(offsets), 0, 0))
    with Phc(0) as clock, pytest.raises(SetupError, match="is set again and again"):
        clock.compare()


def test_a_system_clock_that_was_set_back_within_a_reading_spoils_only_that(
    driver: Driver,
) -> None:
    driver.errors = {PRECISE: errno.EOPNOTSUPP}
    driver.windows = (900, -5000, 600, 800, 700)
    with Phc(0) as clock:
        assert clock.compare().uncertainty_ns == 301


def test_a_time_before_1970_keeps_its_nanoseconds(driver: Driver) -> None:
    driver.offset = -REAL - 1
    with Phc(0) as clock:
        assert clock.compare().phc_ns == -1


def test_caps(driver: Driver) -> None:
    with Phc(0) as clock:
        caps = clock.caps()
    assert (caps.max_adj_ppb, caps.num_pins, caps.max_phase_adj_ns) == (62499999, 4, 999)
    assert caps.has_pps
    assert caps.has_cross_timestamping
    assert caps.has_phase_adjustment


def test_setting_needs_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phc, "Path", lambda path: Path("/dev/null"))
    with Phc(0, is_writable=True) as clock:
        with pytest.raises(SystemCallError, match="clock_settime failed on /dev/null"):
            clock.set_ns(REAL)
        with pytest.raises(SystemCallError, match="clock_adjtime failed on /dev/null"):
            clock.step(5)
        with pytest.raises(SystemCallError, match="clock_adjtime failed on /dev/null"):
            clock.set_rate_ppb(5)
        with pytest.raises(SystemCallError, match="clock_adjtime failed on /dev/null"):
            clock.rate_ppb()


# struct timex, and what is asked with it.


class Adjusted:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int, int, int]] = []

    def __call__(self, clock: int, reference: object) -> int:
        values = reference._obj  # type: ignore[attr-defined]
        self.calls.append((clock, values.modes, values.time_sec, values.time_usec, values.freq))
        return 0


@pytest.fixture
def adjusted(monkeypatch: pytest.MonkeyPatch) -> Adjusted:
    adjusted = Adjusted()
    monkeypatch.setattr(timex._libc, "clock_adjtime", adjusted)
    return adjusted


def test_struct_timex_is_the_kernels(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "timex.c"
    fields = "freq status time tick shift tai".split()
    offsets = ", ".join(f"offsetof(struct timex, {name})" for name in fields)
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n#include <sys/timex.h>\nint main(void) {"
        f'printf("%zu%s\\n", sizeof(struct timex), ""); size_t all[] = {{{offsets}}};'
        'for (int i = 0; i < 6; i++) printf("%zu\\n", all[i]); return 0; }\n'
    )
    program = tmp_path / "timex"
    subprocess.run([compiler, "-w", "-o", program, source], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    layout = timex.timex
    ours = [layout.freq, layout.status, layout.time_sec, layout.tick, layout.shift, layout.tai]
    import ctypes  # noqa: TID251 - the layout under test is made of it

    expected = [ctypes.sizeof(layout), *(field.offset for field in ours)]
    assert [int(word) for word in done.stdout.split()] == expected


@pytest.mark.parametrize(
    ("step", "parts"),
    [(37 * SECOND, (37, 0)), (1, (0, 1)), (-1, (-1, 999_999_999)), (-37 * SECOND, (-37, 0))],
)
def test_a_step_is_seconds_and_nanoseconds_forward(
    adjusted: Adjusted, step: int, parts: tuple[int, int]
) -> None:
    timex.step(-29, step, "it")
    assert adjusted.calls == [(-29, 0x2100, *parts, 0)]


@pytest.mark.parametrize(
    ("ppb", "freq"), [(0, 0), (50_000, 3_276_800), (-50_000, -3_276_800), (1, 66), (1000, 65536)]
)
def test_a_rate_is_in_65536ths_of_a_ppm(adjusted: Adjusted, ppb: int, freq: int) -> None:
    timex.set_frequency_ppb(-29, ppb, "it")
    assert adjusted.calls == [(-29, 2, 0, 0, freq)]


def test_the_kernels_own_clocks_are_what_this_machine_says() -> None:
    clocks = system_clocks()
    measured = time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(time.CLOCK_REALTIME)
    assert clocks.tai_offset_s == round(measured / SECOND)
    assert clocks.leap in ("none", "insert", "delete", "happening")


@pytest.mark.parametrize(
    ("state", "leap", "word"),
    [
        ((37, 0, 0), "none", None),
        ((37, 0x10, 1), "insert", "STA_INS"),
        ((37, 0x20, 2), "delete", "STA_DEL"),
        ((37, 0x10, 3), "happening", "just happened"),
        ((37, 0x10, 4), "happening", "just happened"),
        ((37, 0x40, 5), "none", None),
        ((0, 0x40, 5), "none", "TAI offset is 0"),
    ],
)
def test_leap_seconds_and_a_missing_tai_offset_are_said(
    monkeypatch: pytest.MonkeyPatch, state: tuple[int, int, int], leap: str, word: str | None
) -> None:
    monkeypatch.setattr(phc.timex, "system_state", lambda: state)
    clocks = system_clocks()
    assert clocks == SystemClocks(state[0], leap)
    assert [word in note for note in clocks.notes()] == ([] if word is None else [True])
