# SPDX-License-Identifier: GPL-2.0-only
"""``python -m xdptstamp.lab.i226``: the device server as a process of its own.

Prints ``ready`` when clients can connect, and ends when its stdin does, or on SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import signal
import sys
from pathlib import Path
from typing import TextIO

from xdptstamp.errors import XdptstampError
from xdptstamp.lab.i226.faults import Delay, Fault, parse_duration, parse_fault
from xdptstamp.lab.i226.port import Port, PortConfig
from xdptstamp.lab.i226.schedule import Schedule
from xdptstamp.lab.i226.server import Server
from xdptstamp.lab.i226.truth import TruthLog
from xdptstamp.lab.i226.wire import SPEEDS, Wire

_DEFAULT_MACS = ("02:78:64:22:06:00", "02:78:64:22:06:01")


def main() -> int:
    """Serve until told to stop."""
    arguments = _parser().parse_args()
    try:
        faults = [parse_fault(spec) for spec in arguments.fault]
        if arguments.timestamp_delay is not None:
            delay = Delay.parse(arguments.timestamp_delay)
            faults.append(Fault("delay-stamp", delay=delay))
        wire = Wire(arguments.speed, _wire_delay(arguments.delay))
        macs = _macs(arguments.mac, len(arguments.socket))
        for fault in faults:
            if (fault.port or 0) >= len(macs):
                raise ValueError(f"fault {fault.name}: there is no port {fault.port}")
    except (XdptstampError, ValueError) as error:
        print(f"i226: {error}", file=sys.stderr)
        return 2
    schedule = Schedule()
    with contextlib.ExitStack() as stack:
        try:
            file = arguments.truth and stack.enter_context(_create(arguments.truth))
            truth = TruthLog(file)
            ports = [
                Port(PortConfig(number, mac), schedule, wire, truth)
                for number, mac in enumerate(macs)
            ]
            server = Server(ports, schedule, truth)
            _open_sockets(server, ports, arguments)
        except OSError as error:
            print(f"i226: {error}", file=sys.stderr)
            return 2
        server.stop_on(signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the guest's command
        for fault in faults:
            ports[fault.port or 0].begin(fault)
        wire.negotiate()
        gc.freeze()
        print("ready", flush=True)
        server.run()
    return 0


def _open_sockets(server: Server, ports: list[Port], arguments: argparse.Namespace) -> None:
    for port, path in zip(ports, arguments.socket, strict=True):
        server.listen(port, path)
    if arguments.control:
        server.listen_for_control(arguments.control)
    try:
        server.watch_for_end(sys.stdin.buffer)
    except (OSError, AttributeError):  # a regular file, or none
        raise OSError("stdin has to be a pipe or a terminal: this ends when it does") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m xdptstamp.lab.i226", description=__doc__)
    parser.add_argument("--socket", action="append", type=Path, required=True)
    parser.add_argument("--mac", action="append", default=[])
    parser.add_argument("--control", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--speed", type=int, choices=SPEEDS, default=2500)
    parser.add_argument("--delay", default="25ns")
    parser.add_argument("--timestamp-delay")
    parser.add_argument("--fault", action="append", default=[])
    return parser


def _macs(given: list[str], num_ports: int) -> list[bytes]:
    if num_ports > len(_DEFAULT_MACS) or len(given) > num_ports:
        raise ValueError("one or two ports, and not more MACs than ports")
    texts = given + list(_DEFAULT_MACS[len(given) :])
    macs = [bytes.fromhex(text.replace(":", "")) for text in texts[:num_ports]]
    if any(len(mac) != 6 or mac[0] & 1 for mac in macs):
        raise ValueError("a MAC has six bytes and is no group's")
    return macs


def _wire_delay(text: str) -> int:
    delay_ns = parse_duration(text)
    if delay_ns < 0:
        raise ValueError(f"--delay {text}: not in the future")
    return delay_ns


def _create(path: Path) -> TextIO:
    return path.open("w", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
