# SPDX-License-Identifier: GPL-2.0-only
"""The device under test, brought into the right state for a measurement and back again.

:func:`acquire` is the one place that changes the machine. The order matters: attaching the
program resets some adapters (igc), so carrier, the hwtstamp setting and the sockets come after.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xdptstamp._sys import libxdp
from xdptstamp.clock import UnknownClock
from xdptstamp.collect import CAPABILITIES, missing_capabilities
from xdptstamp.drivers import Driver, known_driver
from xdptstamp.errors import SetupError
from xdptstamp.faults import known_faults
from xdptstamp.features import Features, read_features
from xdptstamp.hwtstamp import HwtstampGuard, NicHwtstamp, read_hwtstamp
from xdptstamp.linkwatch import HasFileno, LinkWatch
from xdptstamp.nic import Nic
from xdptstamp.phc import Phc
from xdptstamp.phcwatch import PhcWatch
from xdptstamp.program import Program, ProgramConfig, XdpMode
from xdptstamp.stamp import StampRules
from xdptstamp.txmd import METADATA_LEN
from xdptstamp.umem import PACKET_HEADROOM, Umem
from xdptstamp.xsk import Mode, Registration, Xsk, XskConfig

#: Below this hardware ring size minus the reserve some igc kernels lose descriptors (6.12.95).
RING_RESERVE = 4

_CARRIER_TIMEOUT_S = 10.0
_MAX_FRAME_OVERHEAD = 14 + 2 * 4  # Ethernet header and two VLAN tags


@dataclass(frozen=True, slots=True)
class DutConfig:
    """How to set the DUT up.

    :param queues: queue ids; None: all; none of them: the caller opens sockets of its own.
    :param mode: "auto" is zero-copy wherever the netdev advertises it, and then a failing bind is
        an error; copy elsewhere.
    :param port: UDP port whose packets go to the sockets; None: none do.
    :param hwtstamp: "auto" (touch only what is off), "on" or "keep".
    :param is_forced: use an interface that other traffic needs, replace an attached program.
    :param max_tx_skb_budget: packets that one wakeup may send in copy mode.
    :param registration: who registers the UMEM; "auto": libxdp where it can, else the kernel.
    :param reply_flags: let the program make the replies, asking for their stamps with these flags;
        None: requests come as they are. So they do as well where the NIC fills in checksums.
    :param is_sink: only receive, and nothing but the packets: no Tx metadata is asked of the
        kernel, which may be older than that.
    """

    ifname: str
    queues: tuple[int, ...] | None = None
    mode: Literal["auto", "copy", "zero-copy"] = "auto"
    xdp_mode: XdpMode = "auto"
    port: int | None = 9091
    hwtstamp: Literal["auto", "on", "keep"] = "auto"
    is_forced: bool = False
    is_dispatched: bool = False
    num_frames: int = 2048
    num_tx_frames: int = 0
    max_tx_skb_budget: int = 256
    registration: Literal["auto", "kernel", "libxdp"] = "auto"
    reply_flags: int | None = None
    is_sink: bool = False


@dataclass(slots=True)
class Dut:
    """What :func:`acquire` set up; valid inside its context.

    The fill rings hold all frames; nothing is redirected before ``program.add_socket``.

    :ivar mode: what the sockets were bound in, or are to be.
    """

    config: DutConfig
    nic: Nic
    features: Features
    mode: Mode
    driver: Driver | None
    watch: LinkWatch
    program: Program
    xsks: list[Xsk]
    guard: HwtstampGuard
    capacity: int
    clocks: PhcWatch | None = None
    setup_notes: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Sentences for the user; after the context also on what was restored."""
        return [*self.guard.notes, *self.setup_notes]

    @property
    def is_hardware(self) -> bool:
        """Whether stamps come from the NIC: all sockets are in zero-copy mode."""
        return self.mode == "zero-copy" and all(xsk.is_zero_copy for xsk in self.xsks)

    @property
    def has_timestamps(self) -> bool:
        """Whether there can be Tx stamps; so too where the kernel does not tell."""
        return not self.is_hardware or self.features.is_tx_timestamp is not False

    def stamp_rules(self) -> StampRules:
        """What stamps can be now: the hwtstamp setting is read anew.

        Without a PHC nothing can be ruled out by their times.
        """
        if not self.is_hardware:
            return StampRules()
        timeout_s = self.driver.tx_timeout_s if self.driver else None
        hwtstamp = read_hwtstamp(self.nic)
        return StampRules(
            is_hardware=True,
            is_offered=self.has_timestamps,
            is_hwtstamp_on=None if hwtstamp is None else hwtstamp.is_tx_on,
            timeout_ns=None if timeout_s is None else round(timeout_s * 1_000_000_000),
            num_slots=(self.driver.num_stamp_slots if self.driver else None) or 1,
            clock=self.clocks or UnknownClock(),
        )

    def obtained(self) -> dict[str, Any]:
        """What was obtained, for the run info."""
        hwtstamp = self.guard.obtained
        return {
            "mode": "zero-copy" if self.is_hardware else "copy",
            "xdp_mode": self.program.xdp_mode,
            "queues": [xsk.queue_id for xsk in self.xsks],
            "rx_hints": self._rx_hints(),
            "hwtstamp": None if hwtstamp is None else str(hwtstamp),
            "umem": {
                "registration": self.xsks[0].config.registration,
                "num_frames": self.xsks[0].umem.num_frames,
                "frame_size": self.xsks[0].umem.frame_size,
                "tx_metadata_len": self.xsks[0].umem.tx_metadata_len,
            },
            "in_flight_capacity": self.capacity,
            "max_tx_skb_budget": self.xsks[0].max_tx_skb_budget,
        }

    def _rx_hints(self) -> str:
        if self.program.has_hints and self.features.rx_metadata == 0:
            return "the driver gives none"
        return self.program.no_hints_reason or "kfuncs"


@contextlib.contextmanager
def acquire(config: DutConfig, stop: HasFileno | None = None) -> Iterator[Dut]:
    """Set the DUT up, and restore everything at the end, whatever happened in between.

    The caller drains the sockets before it leaves.

    :param stop: readable once nothing is to be waited for any more.
    :raises SetupError: No such interface or queue, no privilege, link down, interface or port
        refused, another XDP program attached.
    :raises UnsupportedError: The kernel, driver or a library lacks what is needed.
    :raises SystemCallError: A call failed; the message says on what and what to do.
    """
    with contextlib.ExitStack() as stack:
        nic = checked_nic(config)
        queues = _choose_queues(nic, config)
        features = read_features(nic.ifindex)
        mode = choose_mode(config, features)
        guard = HwtstampGuard(NicHwtstamp(nic), config.hwtstamp)

        watch = stack.enter_context(nic.watch())
        program = Program(
            nic,
            ProgramConfig(
                port=config.port or 0,
                num_queues=nic.num_queues().rx,
                xdp_mode=config.xdp_mode,
                is_forced=config.is_forced,
                is_dispatched=config.is_dispatched,
                reply_flags=_reply_flags(config, mode, features),
                is_sink=config.is_sink,
            ),
        )
        stack.callback(program.close)
        watch.wait_carrier(_CARRIER_TIMEOUT_S, stop)
        watch.check()  # what attaching did to the carrier is not news
        stack.enter_context(guard)
        xsks = [stack.enter_context(open_socket(nic, config, q, mode)) for q in queues]
        driver = known_driver(nic.driver_info().driver)
        notes = [] if config.port is None else _vlan_notes(nic, program, features)
        if mode == "zero-copy" and driver is not None:
            notes += [fault.note(driver.name) for fault, _ in known_faults(nic, driver)]
        yield Dut(
            config=config,
            nic=nic,
            features=features,
            mode=mode,
            driver=driver,
            watch=watch,
            program=program,
            xsks=xsks,
            guard=guard,
            capacity=capacity(nic, mode, config.num_tx_frames or config.num_frames),
            clocks=_watch_phc(nic, mode, notes, stack),
            setup_notes=notes,
        )


def checked_nic(config: DutConfig) -> Nic:
    """The interface, if :func:`acquire` would take it; nothing is changed.

    :raises SetupError: As :func:`acquire`.
    """
    nic = Nic(config.ifname)
    _check_privilege(config.ifname)
    _check_interface(nic, config)
    if not config.is_forced and config.port is not None:
        _check_port(config.port)
    return nic


def _check_privilege(ifname: str) -> None:
    missing = missing_capabilities(CAPABILITIES)
    if missing:
        names = " and ".join(missing)
        raise SetupError(ifname, f"needs {names}: run as root (sudo), or give it these alone")


def _check_interface(nic: Nic, config: DutConfig) -> None:
    refusal = nic.refusal(config.is_forced)
    if refusal is not None:
        raise refusal
    link = nic.link()
    if not link.is_up:
        raise SetupError(nic.ifname, f"the link is down; ip link set {nic.ifname} up")
    _frame_size(link.mtu, nic.ifname)


def _choose_queues(nic: Nic, config: DutConfig) -> tuple[int, ...]:
    usable = nic.num_queues().usable
    queues = tuple(range(usable)) if config.queues is None else config.queues
    wrong = [queue_id for queue_id in queues if not 0 <= queue_id < usable]
    if wrong:
        there = "queue 0 alone" if usable == 1 else f"queues 0 to {usable - 1}"
        raise SetupError(nic.ifname, f"no queue {wrong[0]}; there is {there} (ethtool -l)")
    return queues


def choose_mode(config: DutConfig, features: Features) -> Mode:
    """The mode that sockets are bound in."""
    if config.mode != "auto":
        return config.mode
    # Zero-copy needs the driver's own XDP.
    if config.xdp_mode == "skb" or not features.is_zero_copy:
        return "copy"
    return "zero-copy"


def _xsk_config(config: DutConfig, mode: Mode) -> XskConfig:
    registration: Registration
    if config.registration == "auto":
        registration = "libxdp" if libxdp.has_umem_options() else "kernel"
    else:
        registration = config.registration
    tx_size = config.num_tx_frames or config.num_frames
    return XskConfig(
        mode=mode,
        registration=registration,
        rx_size=config.num_frames,
        tx_size=tx_size,
        max_tx_skb_budget=min(config.max_tx_skb_budget, tx_size) if mode == "copy" else None,
    )


def open_socket(nic: Nic, config: DutConfig, queue_id: int, mode: Mode) -> Xsk:
    """Open the socket of one queue as :func:`acquire` does, its fill ring filled.

    A program must be attached for a zero-copy socket to send.

    :return: the socket, to be drained and closed.
    :raises SetupError, UnsupportedError, SystemCallError: As :class:`~xdptstamp.xsk.Xsk`.
    """
    frame_size = _frame_size(nic.link().mtu, nic.ifname)
    umem = Umem(config.num_frames, frame_size, 0 if config.is_sink else METADATA_LEN)
    frames = range(config.num_tx_frames, umem.num_frames)
    xsk = Xsk(umem, nic.ifname, queue_id, _xsk_config(config, mode), rx_frames=frames)
    # The driver may have a longer ring than there are frames; that is no loss.
    xsk.restart_statistics()
    return xsk


def _frame_size(mtu: int, ifname: str) -> int:
    for frame_size in (2048, 4096):
        if mtu + _MAX_FRAME_OVERHEAD + PACKET_HEADROOM <= frame_size:
            return frame_size
    largest = 4096 - PACKET_HEADROOM - _MAX_FRAME_OVERHEAD
    problem = f"MTU {mtu} is more than one frame holds; ip link set {ifname} mtu {largest}"
    raise SetupError(ifname, problem)


def _vlan_notes(nic: Nic, program: Program, features: Features) -> list[str]:
    # The kernel and the NIC may carry a tag beside the packet; only the kfunc tells of it.
    if program.has_hints and features.is_rx_vlan_tag is not False:
        return []
    # A software interface (veth) hands on what the sender left beside the packet in any case.
    if not nic.link().kind and not nic.strips_vlan_tags():
        return []
    reason = program.no_hints_reason or "the driver does not give it"
    return [
        f"a VLAN tag that {nic.ifname} strips is not seen ({reason}), and is missing in the reply "
        f"(ethtool -K {nic.ifname} rxvlan off)"
    ]


def _reply_flags(config: DutConfig, mode: Mode, features: Features) -> int | None:
    # A checksum that the NIC is to fill in needs another request, and a sum of its own.
    is_csum_offloaded = mode == "zero-copy" and features.is_tx_checksum
    return None if is_csum_offloaded else config.reply_flags


def capacity(nic: Nic, mode: Mode, tx_size: int) -> int:
    """How many packets may be in flight on one queue without some igc kernels losing them."""
    sizes = nic.ring_sizes() if mode == "zero-copy" else None
    if sizes is None:
        return tx_size
    return max(1, min(tx_size, sizes.tx - RING_RESERVE))


def _watch_phc(
    nic: Nic, mode: Mode, notes: list[str], stack: contextlib.ExitStack
) -> PhcWatch | None:
    info = nic.timestamping_info() if mode == "zero-copy" else None
    if info is None or info.phc_index < 0:
        return None
    try:
        return PhcWatch(stack.enter_context(Phc(info.phc_index)))
    except SetupError as error:
        notes.append(f"stamps are not checked against the PHC's time: {error}")
        return None


def _check_port(port: int) -> None:
    # What the program redirects, a socket of this machine would miss without a word.
    for table in ("udp", "udp6"):
        lines = Path(f"/proc/thread-self/net/{table}").read_text(encoding="ascii").splitlines()
        if any(int(line.split()[1].rpartition(":")[2], 16) == port for line in lines[1:]):
            problem = "is in use by a socket of this machine; choose another --port, or --force"
            raise SetupError(f"UDP port {port}", problem)
