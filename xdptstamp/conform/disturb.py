# SPDX-License-Identifier: GPL-2.0-only
"""Cases of what happens to the interface while stamps are pending: every completion is accounted
for, and the socket, or its successor, is of use afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from xdptstamp import _ethtool, _rtnl, addressing
from xdptstamp._ethtool import Channels
from xdptstamp.conform.case import Case, SkipError, Verdict
from xdptstamp.conform.exchange import Exchange
from xdptstamp.conform.stand import Stand
from xdptstamp.conformance import Rule
from xdptstamp.errors import SystemCallError
from xdptstamp.hwtstamp import NicHwtstamp
from xdptstamp.phc import Phc

_COUNT = 240
_BATCH = 4
_STEP_NS = 10_000_000_000


@dataclass(slots=True)
class Disturbed:
    """Packets before, while and after something happened.

    :param after: what a new socket's packets became.
    """

    done: Exchange
    after: Exchange


def _disturbed(stand: Stand, happen: Callable[[], None], undo: Callable[[], None]) -> Disturbed:
    def meanwhile() -> Iterator[None]:
        for _ in range(_COUNT // _BATCH // 3):
            yield
        happen()
        for _ in range(_COUNT // _BATCH // 3):
            yield
        undo()

    stand.needs_stamps()
    try:
        with stand.socket() as lane:
            packets = stand.packets([number % 2 == 0 for number in range(_COUNT)])
            done = stand.run(lane, packets, in_flight=16, batch=_BATCH, meanwhile=meanwhile())
    finally:
        undo()
    with stand.socket() as lane:
        after = stand.run(lane, stand.packets([True] * 16), in_flight=1, batch=1)
    return Disturbed(done, after)


def judge_disturbed(found: Disturbed) -> Verdict:
    """No stamp is false, none comes twice, and a new socket works."""
    done, after = found.done, found.after
    lost = int(np.count_nonzero(~done.is_completed))
    false = int(np.count_nonzero(done.is_written & done.is_requested & ~done.is_possible))
    touched = int(np.count_nonzero(done.is_written & ~done.is_requested))
    missing = int(np.count_nonzero(done.is_requested & done.is_completed & ~done.is_written))
    again = int(np.count_nonzero(after.is_stamped))
    again_completed = int(np.count_nonzero(after.is_completed))
    wrong = {
        "never completed": lost,
        "completions too many": done.num_foreign,
        "false stamps": false,
        "stamps where none was asked": touched,
    }
    words = [f"{count} {what}" for what, count in wrong.items() if count]
    words = words or [f"all {len(done.found)} completed once, {missing} stamps are missing"]
    words.append(
        f"behind it, with a new socket, {again_completed} of {len(after.found)} completed and "
        f"{again} were stamped"
    )
    seen = "; ".join(words)
    figures: dict[str, int | float | str] = {"lost": lost, "missing": missing, "false": false}
    is_right = not (done.num_foreign or false or touched or lost) and again == len(after.found)
    return Verdict(is_right, seen, figures)


def _link_down(stand: Stand) -> Disturbed:
    index = stand.nic.ifindex

    def up() -> None:
        _rtnl.set_link(index, is_up=True)
        stand.await_carrier()

    with addressing.kept(stand.nic.ifname, index):
        return _disturbed(stand, lambda: _rtnl.set_link(index, is_up=False), up)


def _mtu(stand: Stand) -> Disturbed:
    index, before = stand.nic.ifindex, stand.nic.link().mtu

    def back() -> None:
        _rtnl.set_link(index, mtu=before)
        stand.await_carrier()

    return _disturbed(stand, lambda: _rtnl.set_link(index, mtu=before - 100), back)


def _hwtstamp(stand: Stand) -> Disturbed:
    stand.needs_zero_copy("stamps do not depend on the NIC's setting")
    device = NicHwtstamp(stand.nic)
    before = device.get()
    if before is None:
        raise SkipError("the interface has no hwtstamp setting")
    return _disturbed(
        stand, lambda: device.set(replace(before, tx_type=0)), lambda: device.set(before)
    )


def _phc_step(stand: Stand) -> Disturbed:
    stand.needs_zero_copy("stamps are on CLOCK_TAI")
    clocks, info = stand.dut.clocks, stand.nic.timestamping_info()
    if clocks is None or info is None or info.phc_index < 0:
        raise SkipError("there is no PHC to be compared")
    stepped: list[int] = []

    def step() -> None:
        phc.step(_STEP_NS)
        stepped.append(1)
        clocks.sample()

    def back() -> None:
        if stepped:
            stepped.clear()
            phc.step(-_STEP_NS)
            clocks.sample()

    with Phc(info.phc_index, is_writable=True) as phc:
        return _disturbed(stand, step, back)


def _channels(stand: Stand) -> Disturbed:
    name, before = stand.nic.ifname, _ethtool.channels(stand.nic.ifname)
    if before is None or stand.nic.num_queues().usable < 2:
        raise SkipError("there is no queue to be taken away (ethtool -l)")
    num_fewer = stand.nic.num_queues().usable - 1
    fewer = Channels(
        rx=min(before.rx, num_fewer),
        tx=min(before.tx, num_fewer),
        combined=min(before.combined, num_fewer),
    )
    refused: list[SystemCallError] = []

    def take() -> None:
        try:
            _ethtool.set_channels(name, fewer)
        except SystemCallError as error:
            refused.append(error)
        stand.await_carrier()

    def back() -> None:
        if _ethtool.channels(name) != before:
            _ethtool.set_channels(name, before)
            stand.await_carrier()

    found = _disturbed(stand, take, back)
    if refused:
        raise SkipError(f"the driver takes no queue away now: {refused[0]}")
    return found


def _program(stand: Stand) -> Disturbed:
    program = stand.dut.program

    def swap() -> None:
        program.replace()
        stand.await_carrier()

    return _disturbed(stand, swap, lambda: None)


_ACCOUNTED = "all complete, no stamp is false, a new socket works"


def _rule(key: str, title: str, text: str, source: str, *modes: str) -> Rule:
    expected = {mode: _ACCOUNTED for mode in modes or ("copy", "zero-copy")}
    text = f"{_COUNT} packets at 1:1, 16 in flight. {text}"
    return Rule(key, "disturbance", title, text, source, expected)  # type: ignore[arg-type]


CASES = (
    Case(
        _rule(
            "link-down",
            "the link goes down and comes again",
            "In their midst the interface is set down, and up again a third later.",
            "igc_down(), igc_clean_tx_ring(), igc_main.c",
        ),
        _link_down,
        judge_disturbed,
        faults=("exit-with-pending-stamp",),
    ),
    Case(
        _rule(
            "mtu-change",
            "the MTU changes",
            "In their midst the MTU becomes 100 less, and what it was a third later.",
            "igc_change_mtu(), igc_main.c, resets the adapter",
        ),
        _mtu,
        judge_disturbed,
    ),
    Case(
        _rule(
            "channel-change",
            "another queue is taken away",
            "In their midst the last queue is taken away, and given back a third later.",
            "ethnl_set_channels(), net/ethtool/channels.c",
        ),
        _channels,
        judge_disturbed,
        faults=("channels-reset-rings",),
    ),
    Case(
        _rule(
            "program-replaced",
            "the XDP program is replaced",
            "In their midst another program takes the place of the first, on the same bpf_link.",
            "bpf_xdp_link_update(), net/core/dev.c",
        ),
        _program,
        judge_disturbed,
    ),
    Case(
        _rule(
            "phc-step",
            "the PHC is stepped",
            "In their midst the PHC jumps 10 s ahead, and back a third later.",
            "igc_ptp_settime_i225(), igc_ptp.c",
            "zero-copy",
        ),
        _phc_step,
        judge_disturbed,
    ),
    Case(
        _rule(
            "hwtstamp-toggled",
            "Tx timestamping is turned off and on",
            "In their midst the NIC's Tx timestamping is turned off, and on a third later.",
            "igc_ptp_disable_tx_timestamp(), igc_ptp.c",
            "zero-copy",
        ),
        _hwtstamp,
        judge_disturbed,
    ),
)
