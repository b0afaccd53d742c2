# SPDX-License-Identifier: GPL-2.0-only
"""The DUT on which cases run: acquired once, a socket for each case, what it does on the wire."""

from __future__ import annotations

import contextlib
import secrets
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xdptstamp import _rtnl, nexthop, txmd
from xdptstamp._sys import netns
from xdptstamp.clock import SameClock, StampClock, UnknownClock
from xdptstamp.conform.case import SkipError
from xdptstamp.conform.exchange import SILENCE_NS, Exchange, Lane, Packet
from xdptstamp.conform.wire import Wire
from xdptstamp.dut import Dut
from xdptstamp.errors import SetupError
from xdptstamp.hwtstamp import NicHwtstamp
from xdptstamp.measure.drain import drain_sockets
from xdptstamp.measure.stop import Stop
from xdptstamp.measure.vigil import Vigil
from xdptstamp.nexthop import NextHop
from xdptstamp.packet import build_udp
from xdptstamp.umem import Umem
from xdptstamp.xsk import Xsk, XskConfig

#: UDP port of what is sent: discard.
PORT = 9
#: UDP port of what the program gives to the sockets.
RX_PORT = 9096
_SOURCE_PORT = 9095
_SERIAL = struct.Struct("!I")
_LOOK_S = 1e-3
_PERIOD_NS = 50_000_000
_CARRIER_S = 10.0
_PATIENCE_NS = 60_000_000_000
_HEADERS_LEN = 14 + 20 + 8

Tags = tuple[tuple[int, int], ...]

#: A frame with its FCS has 64 bytes.
SHORTEST = 60


class InterruptedCaseError(Exception):
    """A signal, or the loss of the interface, ended a case; the message is what did."""


@dataclass(frozen=True, slots=True)
class Socket:
    """How a case wants its socket.

    :param tx_metadata_len: 0: a UMEM without Tx metadata.
    :param size: entries of each ring, and frames to send from; a power of two.
    :param umem_flags: None: as the length needs.
    """

    queue_id: int = 0
    tx_metadata_len: int = txmd.METADATA_LEN
    size: int = 256
    is_multi_buffer: bool = False
    umem_flags: int | None = None


class Stand:
    """What cases drive the kernel through.

    :param dut: acquired without sockets.
    :param environ: names the link partner (``REMOTE_V4``, ``REMOTE_TYPE``, ``REMOTE_ARGS``).
    :ivar wire: the link partner's wire; None where it cannot be asked, and ``no_wire`` says why.
    """

    def __init__(self, dut: Dut, environ: Mapping[str, str], stop: Stop) -> None:
        self.dut = dut
        self.nic = dut.nic
        self.mode = dut.mode
        self.no_wire = ""
        self.wire: Wire | None = None
        self._token = secrets.token_bytes(8)
        self._serial = 0
        self._looked_ns = 0
        #: What happened to the interface meanwhile.
        self.vigil = Vigil(dut, _PATIENCE_NS)
        self._stop = stop
        self._stack = contextlib.ExitStack()
        self._route = self._find_partner(environ)

    def __enter__(self) -> Stand:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def is_zero_copy(self) -> bool:
        """Whether sockets are bound in zero-copy mode."""
        return self.mode == "zero-copy"

    @property
    def ring_size(self) -> int:
        """Descriptors of the hardware's Tx ring of a queue; in copy mode none is in the way."""
        sizes = self.nic.ring_sizes() if self.is_zero_copy else None
        return sizes.tx if sizes else 1024

    def prepare(self) -> None:
        """Before each case: a link, and the hwtstamp setting that was obtained, set anew.

        A driver may have lost it without saying so (igc, by a change of its channels).
        """
        self.await_carrier()
        device = NicHwtstamp(self.nic)
        wanted = self.dut.guard.obtained
        if self.is_zero_copy and wanted is not None:
            device.set(wanted)

    def tick(self) -> None:
        """Called while something is awaited.

        :raises InterruptedCaseError: A signal came, or the interface is gone.
        """
        if self._stop.reason is not None:
            raise InterruptedCaseError(self._stop.reason)
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns > _PERIOD_NS:
            self._looked_ns = now_ns
            self.vigil.look()

    def await_carrier(self) -> None:
        """Wait for the link after something that took it, and compare the clocks anew."""
        self.vigil.look()
        self.dut.watch.wait_carrier(_CARRIER_S, self._stop)
        self.vigil.look()

    @property
    def partner_address(self) -> str:
        """The link partner's IPv4 address."""
        return self._route.address

    def await_true(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait until it holds; whether it did within ``limit_s``."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.tick()
            time.sleep(_LOOK_S)
        return True

    def needs_wire(self) -> Wire:
        """The link partner's wire.

        :raises SkipError: It cannot be asked.
        """
        if self.wire is None:
            raise SkipError(self.no_wire)
        return self.wire

    def needs_zero_copy(self, why: str) -> None:
        """Skip in copy mode, and say why."""
        if not self.is_zero_copy:
            raise SkipError(f"in copy mode {why}")

    def needs_stamps(self) -> None:
        """Skip where the driver does not offer Tx timestamps in this mode."""
        if self.is_zero_copy and self.dut.features.is_tx_timestamp is False:
            raise SkipError(
                f"{self._driver} does not offer Tx timestamps to zero-copy sockets (xsk-features)"
            )

    @property
    def _driver(self) -> str:
        return self.nic.driver_info().driver or self.nic.ifname

    def packets(
        self, pattern: Sequence[bool], length: int = SHORTEST, tags: Tags = ()
    ) -> list[Packet]:
        """Packets of which those ask for a stamp that ``pattern`` says; no two are alike.

        :param length: of the shortest frame at least; without FCS.
        :param tags: VLAN tags, (protocol, TCI) from the outside in.
        """
        return [
            Packet(
                self.datagram(length, tags),
                txmd.TIMESTAMP if is_stamped else 0,
                txmd.OPTION if is_stamped else 0,
            )
            for is_stamped in pattern
        ]

    def datagram(self, length: int = SHORTEST, tags: Tags = ()) -> bytes:
        """A UDP packet to the partner's discard port that can be told from any other."""
        route, self._serial = self._route, self._serial + 1
        payload = self._token + _SERIAL.pack(self._serial)
        room = length - _HEADERS_LEN - 4 * len(tags) - len(payload)
        payload += bytes((self._serial + i) & 0xFF for i in range(max(room, 0)))
        return build_udp(
            (route.mac, route.source_mac),
            (route.source, route.address),
            (_SOURCE_PORT, PORT),
            payload,
            vlan_tags=tags,
        )

    def request(self, source_port: int, tags: Tags = ()) -> bytes:
        """A UDP packet as the link partner sends it to the DUT's sockets."""
        route = self._route
        return build_udp(
            (route.source_mac, route.mac),
            (route.address, route.source),
            (source_port, RX_PORT),
            bytes(18),
            vlan_tags=tags,
        )

    @contextlib.contextmanager
    def socket(self, wanted: Socket = Socket()) -> Iterator[Lane]:
        """A socket for a case, its fill ring filled.

        Where the case was cut short its packets are waited for before it is closed.
        """
        umem = Umem(2 * wanted.size, 2048, wanted.tx_metadata_len, is_checked=False)
        config = XskConfig(
            mode=self.mode,
            rx_size=wanted.size,
            tx_size=wanted.size,
            is_multi_buffer=wanted.is_multi_buffer,
            umem_flags=wanted.umem_flags,
        )
        frames = range(wanted.size, umem.num_frames)
        with Xsk(umem, self.nic.ifname, wanted.queue_id, config, rx_frames=frames) as xsk:
            self.await_carrier()
            xsk.restart_statistics()
            try:
                yield Lane(xsk, wanted.size, self.tick)
            except BaseException:
                drain_sockets([xsk], self.dut.watch)
                raise

    def run(
        self,
        lane: Lane,
        packets: Sequence[Packet],
        *,
        in_flight: int | None = None,
        batch: int = 32,
        silence_ns: int = SILENCE_NS,
        meanwhile: Iterator[None] | None = None,
    ) -> Exchange:
        """Send ``packets`` and return everything that became of them."""
        before = self._counters()
        if self.wire is not None:
            self.wire.forget()
        done = lane.exchange(
            packets,
            in_flight=in_flight or self.safe_in_flight(lane),
            batch=batch,
            silence_ns=silence_ns,
            meanwhile=meanwhile,
        )
        after = self._counters()
        done.counters = {role: after[role] - before[role] for role in before}
        self._judge_times(done)
        if self.wire is not None:
            self._collect(done)
        return done

    def safe_in_flight(self, lane: Lane) -> int:
        """As many as no kernel is known to lose packets with."""
        return min(lane.xsk.tx.size, self.dut.capacity)

    def stamp_clock(self) -> StampClock:
        """The clock that stamps are on."""
        if not self.is_zero_copy:
            return SameClock()
        if self.dut.clocks is None:
            return UnknownClock()
        self.dut.clocks.sample()
        return self.dut.clocks

    def _judge_times(self, done: Exchange) -> None:
        clock = self.stamp_clock()
        values = np.where(done.is_written, done.found, 0).astype(np.int64)
        end_ns = np.where(done.done_ns < 0, done.submit_ns, done.done_ns)
        done.is_possible = (values > 0) & clock.is_possible(values, done.submit_ns, end_ns)

    def _collect(self, done: Exchange) -> None:
        assert self.wire is not None
        done.frames = self.wire.collect(self._token, len(done.expected))

    def _counters(self) -> dict[str, int]:
        driver = self.dut.driver
        if driver is None or not driver.counters:
            return {}
        statistics = self.nic.statistics()
        return {role: statistics[name] for role, name in driver.counters.items()}

    def _find_partner(self, environ: Mapping[str, str]) -> NextHop:
        address = environ.get("REMOTE_V4")
        if not address:
            raise SetupError(
                "link partner", "not named: REMOTE_V4 is not set; `xdptstamp lab veth` sets it"
            )
        route = nexthop.resolve(address, self.nic.ifname)
        if environ.get("REMOTE_TYPE") != "netns":
            self.no_wire = "the link partner's wire is not seen: it is not a namespace here"
            return route
        namespace = environ["REMOTE_ARGS"]
        ifname = netns.call_inside(namespace, lambda: _rtnl.find_link_by_address(address))
        if ifname is None:
            raise SetupError("link partner", f"nothing in {namespace} has the address {address}")
        self.wire = self._stack.enter_context(Wire(namespace, ifname))
        return route
