# SPDX-License-Identifier: GPL-2.0-only
"""The XDP program that brings packets to AF_XDP sockets, and what it stores ahead of each.

Its source is ``bpf/xdptstamp.bpf.c``; :data:`META_DTYPE` mirrors ``bpf/xdptstamp.h``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from xdptstamp._sys import dispatcher, libbpf
from xdptstamp.errors import BpfLoadError, SetupError, SystemCallError, UnsupportedError
from xdptstamp.nic import Nic

XdpMode = Literal["auto", "native", "skb"]

META_VERSION = 0x78740001
VALID_RX_HW, VALID_HASH, VALID_VLAN, VALID_REPLY = 1, 2, 4, 8

#: Bytes kept free between what the program stores and the packet: Tx metadata and a VLAN tag.
TX_ROOM = 32

#: struct xdptstamp_rx_meta; times in ns, ``rx_hw_ns`` on the PHC, ``rx_xdp_ns`` on CLOCK_TAI.
META_DTYPE = np.dtype(
    [
        ("version", "<u4"),
        ("l3_offset", "<u2"),
        ("l4_offset", "<u2"),
        ("rx_hw_ns", "<u8"),
        ("rx_xdp_ns", "<u8"),
        ("hash", "<u4"),
        ("hash_type", "<u4"),
        ("vlan_proto", "<u2"),
        ("vlan_tci", "<u2"),
        ("rx_hw_errno", "<i2"),
        ("hash_errno", "<i2"),
        ("vlan_errno", "<i2"),
        ("valid", "u1"),
        ("ip_version", "u1"),
        ("udp_csum", "<u2"),
        ("reserved", "<u2"),
        ("tx_room", "u1", (TX_ROOM,)),
    ],
    align=True,
)
META_LEN = META_DTYPE.itemsize

#: enum xdptstamp_counter: every packet the program sees is in exactly one of these.
COUNTERS = (
    "redirected",
    "passed_other",
    "passed_no_socket",
    "refused_fragment",
    "refused_ip_options",
    "refused_ip_length",
    "refused_ip_csum",
    "refused_udp_length",
    "refused_udp_csum",
    "refused_source",
    "refused_destination",
    "refused_no_room",
)

_HINTS, _PLAIN = "xdptstamp_hints", "xdptstamp_plain"
_CONFIG = struct.Struct("!H6s3B5x")
_FLAGS = {"native": libbpf.XDP_FLAGS_DRV_MODE, "skb": libbpf.XDP_FLAGS_SKB_MODE}
_UPDATE_IF_NOEXIST = 1  # XDP_FLAGS_UPDATE_IF_NOEXIST
# ERANGE: veth's answer to an MTU that its XDP cannot hold.
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT, errno.ERANGE)


def object_path() -> Path:
    """The compiled BPF object inside the package.

    :raises SetupError: If the package was installed without it.
    """
    path = Path(str(resources.files("xdptstamp") / "_bpf" / "xdptstamp.bpf.o"))
    if not path.is_file():
        raise SetupError(str(path), "the BPF object is missing; install xdptstamp again")
    return path


@dataclass(frozen=True, slots=True)
class ProgramConfig:
    """What to load and how to attach it.

    :param port: UDP destination port to redirect.
    :param num_queues: queues the interface has.
    :param is_forced: replace a program that was attached by netlink; it is put back at the end.
    :param is_dispatched: attach through libxdp's dispatcher, beside other programs.
    :param reply_flags: turn each request into its reply, and put a request for a stamp with these
        flags (:mod:`xdptstamp.txmd`) ahead of it, in a UMEM whose tx_metadata_len is 24; None:
        leave packets as they are, but for their TTL.
    :param is_sink: only redirect: UDP is not checked, and nothing is stored ahead of a packet.
    """

    port: int = 9091
    num_queues: int = 1
    xdp_mode: XdpMode = "auto"
    is_forced: bool = False
    is_dispatched: bool = False
    reply_flags: int | None = None
    is_sink: bool = False


class Program:
    """The program, loaded and attached to one interface until :meth:`close`.

    ``xdp_mode`` is what was obtained ("native" or "skb"); ``has_hints`` whether the driver's Rx
    metadata kfuncs can be asked, else ``no_hints_reason`` says why not.

    :raises SetupError: Another program is attached.
    :raises BpfLoadError: The kernel refuses the program.
    """

    def __init__(self, nic: Nic, config: ProgramConfig) -> None:
        self._nic = nic
        self._config = config
        self.no_hints_reason = ""
        with contextlib.ExitStack() as stack:
            if not config.is_dispatched:
                self._make_way(stack)
            self._link = -1
            self._object, self.xdp_mode = self._load_and_attach(stack)
            self._undo = stack.pop_all()
        self._counters_fd = self._object.map_fd("counters")

    @property
    def has_hints(self) -> bool:
        """Whether Rx timestamp, hash and VLAN tag are asked of the driver."""
        return not self.no_hints_reason

    def add_socket(self, queue_id: int, fd: int) -> None:
        """Redirect the packets of ``queue_id`` to the AF_XDP socket ``fd``."""
        libbpf.update_map(self._object.map_fd("xsks_map"), queue_id, fd)

    def remove_socket(self, queue_id: int) -> None:
        """Leave the packets of ``queue_id`` to the stack from now on."""
        libbpf.delete_from_map(self._object.map_fd("xsks_map"), queue_id)

    def counters(self) -> dict[str, int]:
        """Packets seen since the load, by :data:`COUNTERS`."""
        return dict(zip(COUNTERS, libbpf.sum_percpu(self._counters_fd, len(COUNTERS)), strict=True))

    def replace(self) -> None:
        """Put a second copy, without sockets, in the place of this one, on the same bpf_link.

        :raises SetupError: There is no bpf_link (``is_dispatched``).
        """
        if self._link < 0:
            raise SetupError(self._nic.ifname, "the XDP program hangs on no bpf_link")
        name = _HINTS if self.has_hints else _PLAIN
        loaded = self._open(name)
        self._undo.callback(loaded.close)
        if self.has_hints:
            loaded.bind_to_device(name, self._nic.ifindex)
        loaded.load()
        libbpf.update_link(self._link, loaded.program_fd(name), self._nic.ifname)
        self._object = loaded
        self._counters_fd = loaded.map_fd("counters")

    def close(self) -> None:
        """Detach; a program that was replaced is put back."""
        self._undo.close()

    def _make_way(self, stack: contextlib.ExitStack) -> None:
        # Somebody else's program stays, unless forced; and then it comes back.
        for attached in self._nic.xdp_programs():
            if not self._config.is_forced:
                raise SetupError(
                    self._nic.ifname,
                    f"XDP program id {attached.prog_id} is attached already ({attached.mode} "
                    "mode). End its owner, or use --force to replace it during the run",
                )
            flags = _FLAGS.get(attached.mode, 0)
            fd = libbpf.take_program(attached.prog_id, self._nic.ifname)
            stack.callback(os.close, fd)
            try:
                libbpf.detach_xdp(self._nic.ifindex, flags, self._nic.ifname)
            except SystemCallError as error:
                if error.errno not in (errno.EBUSY, errno.EINVAL):
                    raise
                raise SetupError(
                    self._nic.ifname,
                    f"XDP program id {attached.prog_id} hangs on a bpf_link, which only its owner "
                    "can end, even with --force",
                ) from error
            stack.callback(self._put_back, fd, attached.prog_id, flags)

    def _put_back(self, fd: int, prog_id: int, flags: int) -> None:
        flags |= _UPDATE_IF_NOEXIST  # whatever somebody has attached meanwhile stays
        try:
            libbpf.attach_xdp(fd, self._nic.ifindex, flags, self._nic.ifname)
        except SystemCallError as error:
            if error.errno != errno.ENODEV:  # gone, and with it what it had
                error.advice = f"XDP program id {prog_id}, replaced for the run, is not back."
                raise

    def _load_and_attach(self, stack: contextlib.ExitStack) -> tuple[libbpf.BpfObject, str]:
        if self._config.is_dispatched:
            self.no_hints_reason = "libxdp's dispatcher is not device-bound"
            loaded = self._open(_PLAIN)
            stack.callback(loaded.close)
            mode = dispatcher.attach(
                loaded, _PLAIN, self._nic.ifindex, self._config.xdp_mode, self._nic.ifname, stack
            )
            return loaded, mode
        modes = ("native", "skb") if self._config.xdp_mode == "auto" else (self._config.xdp_mode,)
        for mode in modes:
            try:
                return self._load_in_mode(mode, stack), mode
            except (SystemCallError, UnsupportedError) as error:
                is_last = mode == modes[-1]
                if is_last or getattr(error, "errno", 0) not in _NOT_SUPPORTED:
                    raise
        raise AssertionError("unreachable: the last mode returns or raises")

    def _load_in_mode(self, mode: str, stack: contextlib.ExitStack) -> libbpf.BpfObject:
        if self._config.is_sink:
            self.no_hints_reason = "a sink asks for none"
        elif mode == "skb":
            self.no_hints_reason = "a program in skb mode cannot be device-bound"
        loaded = None if self.no_hints_reason else self._load_with_hints()
        name = _HINTS
        if loaded is None:
            name = _PLAIN
            loaded = self._open(_PLAIN)
            loaded.load()
        try:
            link = libbpf.attach_xdp_link(
                loaded.program_fd(name), self._nic.ifindex, _FLAGS[mode], self._nic.ifname
            )
        except SystemCallError as error:
            loaded.close()
            raise _explained(error, mode) from error
        stack.callback(loaded.close)
        stack.callback(os.close, link)
        self._link = link
        return loaded

    def _load_with_hints(self) -> libbpf.BpfObject | None:
        loaded = self._open(_HINTS)
        loaded.bind_to_device(_HINTS, self._nic.ifindex)
        try:
            loaded.load()
        except BpfLoadError as error:
            loaded.close()
            if error.errno not in _NOT_SUPPORTED:
                raise
            self.no_hints_reason = f"the driver takes no device-bound program: {error.strerror}"
            return None
        return loaded

    def _open(self, name: str) -> libbpf.BpfObject:
        loaded = libbpf.BpfObject(object_path(), self._nic.ifname)
        other = _PLAIN if name == _HINTS else _HINTS
        loaded.choose_program(name, (other,))
        loaded.set_max_entries("xsks_map", max(1, self._config.num_queues))
        mac = bytes.fromhex(self._nic.mac.replace(":", ""))
        flags = self._config.reply_flags
        replies = (flags is not None, flags or 0)
        loaded.set_rodata(_CONFIG.pack(self._config.port, mac, self._config.is_sink, *replies))
        return loaded


def _explained(error: SystemCallError, mode: str) -> SystemCallError:
    if error.errno == errno.EBUSY:
        error.advice = "Another XDP program was attached meanwhile."
    elif error.errno == errno.EPERM:
        error.advice = "It needs CAP_NET_ADMIN and CAP_BPF."
    elif error.errno in _NOT_SUPPORTED and mode == "native":
        error.advice = (
            "The driver has no native XDP in its present settings (its MTU, for one). "
            "Try --xdp-mode skb."
        )
    return error
