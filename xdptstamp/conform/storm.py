# SPDX-License-Identifier: GPL-2.0-only
"""The teardown storm: users of the interface end in every way, with stamps pending, many times.

Each round a process of its own attaches the program, opens a socket and sends packets that ask for
stamps; then it ends, or is ended, in the way of that round. The parent has no sockets: a child
that is killed leaves nothing in it. Processes are forked, for there may be hundreds, and an
interpreter's start takes longer than a round.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from xdptstamp import _rtnl, addressing
from xdptstamp.conform.pcidevice import PciDevice
from xdptstamp.conform.stormsender import SIZE, StormSender
from xdptstamp.conformance import STORM, CaseResult, Outcome, Rule
from xdptstamp.errors import SetupError, XdptstampError
from xdptstamp.hwtstamp import NicHwtstamp, read_hwtstamp
from xdptstamp.kernellog import KernelLog
from xdptstamp.measure.stop import Stop
from xdptstamp.nic import Nic
from xdptstamp.program import Program, ProgramConfig
from xdptstamp.umem import Umem
from xdptstamp.xsk import Mode, Xsk, XskConfig

_PENDING_FAULT = "exit-with-pending-stamp"

#: How long a process may take to be gone: a lost stamp holds a drain of the driver's for 15 s.
GONE_S = 30.0
_READY_S = 30.0
_CARRIER_S = 20.0
_SENT_FIRST = 32
#: A pause before the end, at most: it is to come at any moment of the sending.
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Way:
    """A way to end.

    :param end: what the process does itself after it has sent; None: it goes on sending.
    :param strike: what is done to it; gets its pid.
    :param is_on_own_link: on a veth pair of the round's own, which vanishes with its namespace.
    :param is_unbound: the driver is taken from the device, and given back.
    :param is_answered: it sends what the partner's stack answers, so that the DUT's has traffic.
    """

    key: str
    title: str
    end: Callable[[Xsk, Program], None] | None = None
    strike: Callable[[Nic, int], None] | None = None
    is_on_own_link: bool = False
    is_unbound: bool = False
    is_answered: bool = False


@dataclass(slots=True)
class _Tally:
    num_rounds: int = 0
    num_sent: int = 0
    problem: str = ""
    log: list[str] = field(default_factory=list)


def _close(xsk: Xsk, program: Program) -> None:
    xsk.close()
    program.close()


def _detach(xsk: Xsk, program: Program) -> None:
    program.close()
    xsk.close()


def _exit(_xsk: Xsk, _program: Program) -> None:
    os._exit(0)


def _kill(_nic: Nic, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _down(nic: Nic, pid: int) -> None:
    with addressing.kept(nic.ifname, nic.ifindex):
        _rtnl.set_link(nic.ifindex, is_up=False)
        os.kill(pid, signal.SIGKILL)
        _rtnl.set_link(nic.ifindex, is_up=True)


WAYS = (
    Way("storm-close", "sockets closed with stamps pending", end=_close),
    Way("storm-detach", "the program detached, then sockets closed", end=_detach),
    Way("storm-exit", "the process exits and closes nothing", end=_exit),
    Way("storm-kill", "kill -9 while it sends", strike=_kill),
    Way("storm-down", "the link goes down while it sends, then kill -9", strike=_down),
    Way("storm-namespace", "the namespace of the link's other end goes", is_on_own_link=True),
    Way("storm-unbind", "the driver is unbound while it sends", is_unbound=True),
    Way("storm-answered", "kill -9 while the partner answers", strike=_kill, is_answered=True),
)
#: A known fault that the way with answers sets off, and only that one.
ANSWERED_FAULT = "program-changes-under-traffic"


def rule_of(way: Way) -> Rule:
    """The rule that a way is run by."""
    right = "the process is gone, the kernel says nothing, the next one starts"
    return Rule(
        key=way.key,
        group=STORM,
        title=way.title,
        text=f"A process attaches its program, binds a socket, sends {_SENT_FIRST} packets that "
        f"ask for stamps, and ends: {way.title}. Many times, in random order with the other ways.",
        source="Linux commit 45b33e805bd3 (igc), for what was wrong here once",
        expected={"copy": right, "zero-copy": right},
        danger="a kernel that is wrong here may crash",
    )


def choose_ways(keys: tuple[str, ...]) -> tuple[Way, ...]:
    """The ways of these names; of none: all.

    :raises SetupError: There is no such way.
    """
    known = {way.key: way for way in WAYS}
    for key in keys:
        if key not in known:
            raise SetupError(f"case {key}", f"the storm has {', '.join(known)}")
    return tuple(known[key] for key in keys) if keys else WAYS


class Storm:
    """Rounds on one interface.

    :param packets: what is sent: a frame that nobody answers, and one that the partner does.
    :param own_link: makes a veth pair, its other end in a namespace of its own, and yields the
        name of the near end.
    :param fault_notes: the known faults that this kernel may have, in sentences, by key.
    :param seed: of ways, queues and pauses.
    """

    def __init__(
        self,
        nic: Nic,
        mode: Mode,
        packets: tuple[bytes, bytes],
        around: tuple[KernelLog, Stop],
        *,
        own_link: Callable[[], contextlib.AbstractContextManager[str]],
        fault_notes: Mapping[str, str],
        seed: int,
    ) -> None:
        self._nic = nic
        self._mode = mode
        self._packets = packets
        self._fault_notes = fault_notes
        self._log, self._stop = around
        self._own_link = own_link
        self._random = random.Random(seed)
        self._ways: tuple[Way, ...] = WAYS
        self._tallies = {way.key: _Tally() for way in WAYS}
        self._device = PciDevice.of(nic.ifname)
        self._hwtstamp = read_hwtstamp(nic)

    def run(
        self, num_rounds: int, on_round: Callable[[int], None], ways: tuple[Way, ...] = WAYS
    ) -> bool:
        """Run the rounds; whether all were. Ends at the first that goes wrong, or at a signal.

        :param on_round: called after each with how many there were.
        """
        self._log.lines()
        self._ways = ways
        possible = [way for way in ways if self._why_not(way) is None]
        order = [way for _ in range(num_rounds) for way in possible][:num_rounds]
        self._random.shuffle(order)
        for number, way in enumerate(order):
            if self._stop.reason is not None:
                return False
            if not self._round(way, number):
                return False
            on_round(number + 1)
        return True

    def results(self) -> list[CaseResult]:
        """What each way came to that was to be run."""
        return [self._result(way) for way in self._ways]

    def _round(self, way: Way, number: int) -> bool:
        tally = self._tallies[way.key]
        tally.num_rounds += 1
        try:
            tally.num_sent += self._one(way)
            self._check_left()
        except XdptstampError as error:
            tally.problem = f"round {number + 1}: {error}"
        lines = [line.text for line in self._log.lines() if line.is_untrusted]
        if lines:
            tally.log += lines
            tally.problem = (
                tally.problem or f"round {number + 1}: the kernel complained: {lines[0]}"
            )
        return not tally.problem

    def _why_not(self, way: Way) -> str | None:
        # Why a way is not possible here; None: it is.
        if way.is_answered and ANSWERED_FAULT in self._fault_notes and self._ways != (way,):
            return f"alone (--case {way.key}), for: {self._fault_notes[ANSWERED_FAULT]}"
        if way.is_on_own_link and self._nic.link().kind != "veth":
            return "a NIC does not go with a namespace: it moves to another"
        if way.is_unbound and self._device is None:
            return "the interface is of no PCI device, whose driver could be unbound"
        return None

    def _one(self, way: Way) -> int:
        if not way.is_on_own_link:
            return self._send_and_end(way, self._nic, lambda: None)
        with contextlib.ExitStack() as stack:
            ifname = stack.enter_context(self._own_link())
            return self._send_and_end(way, Nic(ifname), stack.close)

    def _send_and_end(self, way: Way, nic: Nic, take_link: Callable[[], None]) -> int:
        queue_id = self._random.randrange(nic.num_queues().usable)
        pause_s = self._random.uniform(0, _PAUSE_S)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._live(way, nic, queue_id, writer)
        os.close(writer)
        try:
            told = _read_line(reader, _READY_S)
            if not told.startswith("sent "):
                raise SetupError(f"{nic.ifname} queue {queue_id}", told or "it said nothing")
            time.sleep(pause_s)
            if way.strike is not None:
                way.strike(nic, pid)
            take_link()
            if way.is_unbound:
                self._unbind(pid)
            elif way.is_on_own_link:
                os.kill(pid, signal.SIGKILL)
            self._await_gone(pid)
            pid = 0
            return int(told.split()[1])
        finally:
            os.close(reader)
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _unbind(self, pid: int) -> None:
        assert self._device is not None
        addressing_before, link = addressing.Addressing(self._nic.ifindex), self._nic.link()
        self._device.unbind()
        os.kill(pid, signal.SIGKILL)
        self._device.bind(link.ifname)
        self._nic = Nic(link.ifname)
        _rtnl.set_link(self._nic.ifindex, mtu=link.mtu, is_up=True)
        addressing_before.put_back(link.ifname, self._nic.ifindex)
        if self._hwtstamp is not None:
            NicHwtstamp(self._nic).set(self._hwtstamp)

    def _await_gone(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            if not select.select([pidfd], [], [], GONE_S)[0]:
                raise SetupError(f"process {pid}", f"is not gone after {GONE_S:.0f} s")
        finally:
            os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SetupError(f"process {pid}", f"ended with {os.WEXITSTATUS(status)}")

    def _check_left(self) -> None:
        deadline = time.monotonic() + GONE_S
        while self._nic.xdp_programs():
            if time.monotonic() > deadline:
                raise SetupError(self._nic.ifname, "still has the XDP program of a process gone")
            time.sleep(0.01)
        # Whoever comes next is to find the link as it was.
        with self._nic.watch() as watch:
            watch.wait_carrier(_CARRIER_S, self._stop)

    def _result(self, way: Way) -> CaseResult:
        tally, why_not = self._tallies[way.key], self._why_not(way)
        figures: dict[str, int | float | str] = {
            "rounds": tally.num_rounds,
            "stamps_asked": tally.num_sent,
        }
        seen = f"{tally.num_rounds} rounds, {tally.num_sent} stamps asked for right before the end"
        outcome: Outcome = "pass"
        fault = self._fault_of(way, tally)
        if tally.problem:
            outcome, seen = "known-fault" if fault else "fail", tally.problem
        elif why_not is not None:
            outcome, seen = "skip", why_not
        elif not tally.num_rounds:
            outcome, seen = "skip", "no round of it was run"
        return CaseResult(
            rule_of(way),
            outcome,
            seen,
            fault=fault,
            fault_note=self._fault_notes[fault] if fault else "",
            figures=figures,
            kernel_log=tuple(tally.log),
        )

    def _fault_of(self, way: Way, tally: _Tally) -> str | None:
        # What explains that the kernel complained.
        key = ANSWERED_FAULT if way.is_answered else _PENDING_FAULT
        return key if tally.log and key in self._fault_notes else None

    def _live(self, way: Way, nic: Nic, queue_id: int, writer: int) -> NoReturn:
        # In the child: nothing of the parent's may run at its end. A terminal's Ctrl-C comes to
        # it, too, and is no end that was planned.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        code = 1
        try:
            with nic.watch() as watch:
                program = Program(nic, ProgramConfig(port=0, num_queues=nic.num_queues().rx))
                watch.wait_carrier(_CARRIER_S)
            umem = Umem(2 * SIZE, 2048)
            config = XskConfig(mode=self._mode, rx_size=SIZE, tx_size=SIZE)
            xsk = Xsk(umem, nic.ifname, queue_id, config, rx_frames=range(SIZE, 2 * SIZE))
            sender = StormSender(xsk, self._packets[way.is_answered])
            os.write(writer, f"sent {sender.send(_SENT_FIRST)}\n".encode())
            if way.end is not None:
                way.end(xsk, program)
            else:
                while True:
                    sender.send(8)
            code = 0
        except XdptstampError as error:
            os.write(writer, f"{error}\n".encode())
        finally:
            os._exit(code)


def _read_line(fd: int, limit_s: float) -> str:
    data, deadline = b"", time.monotonic() + limit_s
    while not data.endswith(b"\n"):
        left_s = max(deadline - time.monotonic(), 0)
        if not select.select([fd], [], [], left_s)[0]:
            raise SetupError("a process of the storm", f"has not sent within {limit_s:.0f} s")
        part = os.read(fd, 4096)
        if not part:
            break
        data += part
    return data.decode(errors="replace").strip()
