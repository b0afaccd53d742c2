# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp conform --storm N``."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from xdptstamp.cli._conformance import exit_code, new_conformance
from xdptstamp.cli.session import catch_signals
from xdptstamp.errors import SetupError, UnsupportedError

if TYPE_CHECKING:
    from xdptstamp.nic import Nic

#: Known faults of which one may crash the kernel in a storm.
DANGERS = ("exit-with-pending-stamp",)

_LOCAL_EXPERIMENTAL = b"\x88\xb5"  # an EtherType that no stack listens to (IEEE 802)


def run_storm(ifname: str, keys: tuple[str, ...], num_rounds: int, options: dict[str, Any]) -> int:
    """Run the storm; returns the exit code."""
    from xdptstamp.conform.runner import fault_notes
    from xdptstamp.conform.stand import PORT
    from xdptstamp.conform.storm import Storm, choose_ways
    from xdptstamp.dut import DutConfig, checked_nic, choose_mode
    from xdptstamp.features import read_features
    from xdptstamp.hwtstamp import HwtstampGuard, NicHwtstamp
    from xdptstamp.kernellog import KernelLog
    from xdptstamp.measure.stop import Stop
    from xdptstamp.text.conform.output import open_conform_output

    config = DutConfig(
        ifname, mode=options["mode"], xdp_mode=options["xdp_mode"], is_forced=options["is_forced"]
    )
    ways = choose_ways(keys)
    output = open_conform_output(options["form"], is_strict=options["is_strict"])
    nic = checked_nic(config)
    mode = choose_mode(config, read_features(nic.ifindex))
    packets = _packets(nic, PORT)
    notes = fault_notes(nic, mode)
    if not options["is_daring"] and (found := [notes[key] for key in DANGERS if key in notes]):
        raise UnsupportedError("the storm", "--dangerous on this kernel", "; ".join(found))
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(contextlib.closing(Stop()))
        signals = stack.enter_context(catch_signals(stop))
        log = stack.enter_context(KernelLog())
        guard = stack.enter_context(HwtstampGuard(NicHwtstamp(nic), "on"))
        seed = secrets.randbits(32)
        done = new_conformance(nic, mode)
        done.notes += [f"seed {seed}", *([log.problem] if log.problem else [])]
        storm = Storm(
            nic, mode, packets, (log, stop), own_link=_own_link, fault_notes=notes, seed=seed
        )
        output.begin(done, len(ways))
        is_complete = storm.run(num_rounds, _progress(num_rounds), ways)
        for result in storm.results():
            done.results.append(result)
            output.line(result)
        if not is_complete:
            done.ended_by = stop.reason or "the first round that went wrong"
    done.notes += guard.notes
    output.end(done)
    return exit_code(done, signals, is_strict=options["is_strict"])


def _packets(nic: Nic, port: int) -> tuple[bytes, bytes]:
    # One that nobody answers, and one to which the partner answers that nobody wants it.
    from xdptstamp import nexthop
    from xdptstamp.packet import build_udp

    address = os.environ.get("REMOTE_V4")
    if not address:
        raise SetupError("link partner", "not named: REMOTE_V4 is not set")
    route = nexthop.resolve(address, nic.ifname)
    macs, addresses = (route.mac, route.source_mac), (route.source, route.address)
    silent = b"".join(macs) + _LOCAL_EXPERIMENTAL + bytes(46)
    return silent, build_udp(macs, addresses, (port, port), bytes(18))


@contextlib.contextmanager
def _own_link() -> Iterator[str]:
    from xdptstamp.lab import VethLab

    with VethLab(2) as lab:
        yield lab.environ["NETIF"]


def _progress(num_rounds: int) -> Callable[[int], None]:
    def show(number: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if number == num_rounds else ""
            print(f"\rround {number} of {num_rounds}", end=end, file=sys.stderr, flush=True)

    return show
