# SPDX-License-Identifier: GPL-2.0-only
"""What a tester may ask of the device while it runs: one JSON object a line, one for an answer.

======================================= ======================================================
``{"fault": "lose-stamp:every=3"}``     let a fault begin (:mod:`xdptstamp.lab.i226.faults`)
``{"clear": "lose-stamp"}``             end it; ``{"clear": null}``: all
``{"link": false}``                     pull the cable, or with ``true`` plug it in
``{"phc_step_ns": -37000000000}``       move the PHC
``{"phc_ppb": 50000}``                  let its oscillator run so much too fast
``{"state": null}``                     link, PHC, what the faults did, descriptors that made no
                                        sense
======================================= ======================================================

Beside them ``"port"``: 0 (default) or 1. The answer has ``"error"`` where it went wrong.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from xdptstamp.errors import XdptstampError
from xdptstamp.lab.i226.faults import NAMES, parse_fault
from xdptstamp.lab.i226.port import Port

_MAX_LINE = 65536
_MAX_STEP_NS = 1 << 62
_MAX_PPB = 500_000_000


class Control:
    """One tester on a connected stream socket."""

    def __init__(self, sock: socket.socket, ports: list[Port]) -> None:
        self.sock = sock
        self._ports = ports
        self._buffer = b""

    def serve(self) -> bool:
        """Answer each whole line that has come; False: the tester is gone."""
        try:
            data = self.sock.recv(_MAX_LINE)
            self._buffer += data
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                self.sock.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except OSError:
            return False
        return bool(data) and len(self._buffer) < _MAX_LINE

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("a request is an object")
            port = self._port(request.pop("port", 0))
            for key, value in request.items():
                self._do(port, key, value)
        except (ValueError, TypeError, AttributeError, XdptstampError) as error:
            return {"error": str(error)}
        except RecursionError:
            return {"error": "nested too deeply"}
        return self._state(port)

    def _port(self, number: Any) -> Port:
        for port in self._ports:
            if number == port.config.number:
                return port
        raise ValueError(f"no port {number!r}")

    def _do(self, port: Port, key: str, value: Any) -> None:
        now_ns = port.now_ns()
        if key == "fault":
            fault = parse_fault(value)
            (port if fault.port is None else self._port(fault.port)).begin(fault)
        elif key == "clear":
            if value is not None and value not in NAMES:
                raise ValueError(f"no fault {value!r}")
            port.faults.clear(value)
        elif key == "link":
            port.wire.is_plugged = bool(value)
            port.wire.negotiate()
        elif key == "phc_step_ns":
            port.clocks[0].step(now_ns, _number(key, value, _MAX_STEP_NS))
        elif key == "phc_ppb":
            for clock in port.clocks:
                clock.set_oscillator(now_ns, _number(key, value, _MAX_PPB))
        elif key != "state":
            raise ValueError(f"nothing is called {key!r}")

    @staticmethod
    def _state(port: Port) -> dict[str, Any]:
        now_ns = port.now_ns()
        return {
            "port": port.config.number,
            "mac": port.config.mac_text,
            "speed": port.speed,
            "phc_ns": port.clocks[0].at(now_ns),
            "model_ns": now_ns,
            "faults": port.faults.counts(),
            "num_bad": sum(queue.num_bad for queue in port.queues)
            + sum(queue.num_bad for queue in port.receiver.queues),
        }


def _number(key: str, value: Any, limit: int) -> int:
    if not isinstance(value, int) or abs(value) > limit:
        raise ValueError(f"{key}: {value!r} is no integer up to {limit}")
    return value
