# SPDX-License-Identifier: GPL-2.0-only
"""The link partner's side of ping-pong: UDP requests, their replies, and what became of each.

Needs no privilege. Of the requests, ``sent = received + lost``; of those lost, ``lost_here`` were
answered but dropped at our socket, ``lost_bad_checksum`` had a reply with a wrong UDP checksum,
and the rest is ``not_received``. A failed attempt to send is no request: it has no seq.
Those of the warm-up are in none of these; ``warmup_sent = warmup_received + warmup_lost``.

::

    with closing(Stop()) as stop, open_ping(PingConfig("192.0.2.1", count=1000)) as pinger:
        print(pinger.obtained)
        result = pinger.run(sink, stop)
"""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xdptstamp.errors import SetupError
from xdptstamp.measure import _udp_stamp as udp
from xdptstamp.measure._ping_books import STATUS_NAMES, PingResult
from xdptstamp.measure._ping_config import (
    DEFAULT_PORT,
    FAMILIES,
    FCS_BYTES,
    PingConfig,
    frame_bytes,
    payload_bytes,
)
from xdptstamp.measure._ping_loop import Hooks, PingLoop
from xdptstamp.measure.stop import Stop
from xdptstamp.sample import Batch, SampleSink
from xdptstamp.unreached import NO_REPLY_ADVICE

__all__ = [
    "DEFAULT_PORT",
    "STATUS_NAMES",
    "PingConfig",
    "PingResult",
    "Pinger",
    "open_ping",
    "wait_ready",
]

_PROBE_NS = 200_000_000  # how long a probe waits for its answer
_FD_SETSIZE = 1024  # select(2), the only wait that takes less than a millisecond, knows no more


class Pinger:
    """One ping, ready to run; made by :func:`open_ping`."""

    def __init__(self, config: PingConfig, stamped: udp.StampedSocket) -> None:
        self._config = config
        self._stamped = stamped
        family = stamped.remote.family
        length = payload_bytes(config.size_bytes, family, stamped.mtu)
        self._size_bytes = frame_bytes(family, length) + FCS_BYTES

    @property
    def obtained(self) -> dict[str, Any]:
        """What the machine granted, and where the requests go."""
        stamped = self._stamped
        return {
            "host": stamped.remote.host,
            "address": stamped.remote.address,
            "port": stamped.remote.port,
            "source": stamped.local[0],
            "source_port": stamped.local[1],
            "ifname": stamped.ifname,
            "family": "6" if stamped.remote.family == socket.AF_INET6 else "4",
            "mtu": stamped.mtu,
            "size_bytes": self._size_bytes,
            "wait": self._config.wait,
            "kernel_timestamps": stamped.kernel_timestamps,
            "rcvbuf_bytes": stamped.rcvbuf_bytes,
            "is_rcvbuf_forced": stamped.is_rcvbuf_forced,
            "tai_offset_s": udp.tai_offset_ns() // 1_000_000_000,
        }

    def run(
        self,
        sink: SampleSink,
        stop: Stop,
        on_tick: Callable[[dict[str, int]], str | None] = lambda status: None,
    ) -> PingResult:
        """Send requests and take the replies, until count, deadline or ``stop``.

        Each request gives one row of ``sink``, when it is answered or given up.

        :param stop: ends the sending; what is under way is still waited for, at most a second.
        :param on_tick: called some ten times a second with the counts of ``STATUS_NAMES``; it
            returns a reason to end, or None.
        :raises SetupError: If nothing answered and an error says why.
        """
        return PingLoop(self._config, self._stamped, sink, Hooks(stop, on_tick)).run()


@contextmanager
def open_ping(config: PingConfig) -> Iterator[Pinger]:
    """Find the DUT and open a socket to it; nothing is sent yet.

    :raises SetupError: If there is no such host, no way to it, or the requests do not fit.
    """
    remote = udp.resolve(config.host, config.port, FAMILIES[config.family])
    with udp.open_socket(
        remote,
        source=config.source,
        interface=config.interface,
        rcvbuf_bytes=config.rcvbuf_bytes,
    ) as stamped:
        if stamped.sock.fileno() >= _FD_SETSIZE:
            raise SetupError("this process", f"has more than {_FD_SETSIZE} files open; close some")
        yield Pinger(config, stamped)


def wait_ready(config: PingConfig, limit_ns: int, stop: Stop) -> None:
    """Send probes, five a second, until the DUT answers one or ``stop`` is asked for.

    Each has a socket of its own, so that a late answer cannot get into the run. The DUT counts
    those it answers.

    :raises SetupError: If none is answered within ``limit_ns``, or as :func:`open_ping`.
    """
    deadline_ns = time.monotonic_ns() + limit_ns
    probe = dataclasses.replace(
        config, count=1, warmup=0, interval_ns=0, deadline_ns=None, timeout_ns=_PROBE_NS
    )
    while stop.reason is None:
        with open_ping(probe) as pinger:
            problem = _probe(pinger, stop)
            if problem is None:
                return
            if time.monotonic_ns() >= deadline_ns:
                where = f"{pinger.obtained['host']} port {pinger.obtained['port']}"
                raise SetupError(where, f"no answer within {limit_ns / 1e9:g} s: {problem}")


# Why there was no answer, None if there was one.
def _probe(pinger: Pinger, stop: Stop) -> str | None:
    try:
        result = pinger.run(_NoSink(), stop)
    except SetupError as error:
        return error.problem
    return None if result.counts["received"] else NO_REPLY_ADVICE


class _NoSink:
    def put(self, batch: Batch) -> None:
        """Samples of a probe are of no use."""
