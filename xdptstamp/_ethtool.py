# SPDX-License-Identifier: GPL-2.0-only
"""What a network driver answers to ioctls: SIOCETHTOOL and the hwtstamp pair.

Names and layouts are those of linux/ethtool.h and linux/net_tstamp.h. ``None`` as an answer means
that the driver does not implement the request.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from dataclasses import dataclass

from xdptstamp.errors import SetupError, SystemCallError

_SIOCETHTOOL = 0x8946
_SIOCSHWTSTAMP = 0x89B0
_SIOCGHWTSTAMP = 0x89B1

_GDRVINFO = 0x03
_GRINGPARAM = 0x10
_GSTRINGS = 0x1B
_GSTATS = 0x1D
_GFLAGS = 0x25
_GSSET_INFO = 0x37
_GCHANNELS = 0x3C
_SCHANNELS = 0x3D
_GET_TS_INFO = 0x41
_GLINKSETTINGS = 0x4C

_FLAG_RXVLAN = 1 << 8
_SS_STATS = 1
_STRING_SIZE = 32
_SPEED_UNKNOWN = 0xFFFFFFFF

# Statistics can become more between the question how many there are and the question for them
# (a queue is added); the kernel then writes past what was counted.
_SPARE_STATISTICS = 512
_STATISTICS_ATTEMPTS = 5

_DRVINFO = struct.Struct("=I32s32s32s32s32s12s5I")
_RINGPARAM = struct.Struct("=9I")
_CHANNELS = struct.Struct("=9I")
_SSET_INFO = struct.Struct("=IIQI")
_HEADER = struct.Struct("=III")
_TS_INFO = struct.Struct("=IIiI12xI12x")
_LINK_SETTINGS = struct.Struct("=IIBBBBBBBb4s28x")
_HWTSTAMP = struct.Struct("=iii")

# The highest link mode masks known to a kernel are 4 words of 32 bit, three masks; room for 127.
_LINK_MODES_ROOM = 3 * 127 * 4


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """``ethtool -i``: empty strings are what the driver left empty."""

    driver: str
    version: str
    firmware: str
    bus: str


@dataclass(frozen=True, slots=True)
class RingSizes:
    """``ethtool -g``: descriptors of one hardware ring, now and at most."""

    rx: int
    tx: int
    rx_max: int
    tx_max: int


@dataclass(frozen=True, slots=True)
class Channels:
    """``ethtool -l``: queues in use; a combined one has an Rx and a Tx side."""

    rx: int
    tx: int
    combined: int


@dataclass(frozen=True, slots=True)
class TimestampingInfo:
    """``ethtool -T``, as the kernel's bit masks.

    :param so_timestamping: SOF_TIMESTAMPING_* bits.
    :param phc_index: N of /dev/ptpN; -1: the NIC has no clock.
    :param tx_types: bit n: HWTSTAMP_TX_* of value n is offered.
    :param rx_filters: bit n: HWTSTAMP_FILTER_* of value n is offered.
    """

    so_timestamping: int
    phc_index: int
    tx_types: int
    rx_filters: int


def driver_info(ifname: str) -> DriverInfo | None:
    """Driver, its version, firmware and bus address."""
    answer = _ask(ifname, _DRVINFO.pack(_GDRVINFO, *[b""] * 6, *[0] * 5), "ETHTOOL_GDRVINFO")
    if answer is None:
        return None
    _, driver, version, firmware, bus, *_ = _DRVINFO.unpack(answer)
    return DriverInfo(_text(driver), _text(version), _text(firmware), _text(bus))


def ring_sizes(ifname: str) -> RingSizes | None:
    """Hardware ring sizes of each queue."""
    request = _RINGPARAM.pack(_GRINGPARAM, *[0] * 8)
    answer = _ask(ifname, request, "ETHTOOL_GRINGPARAM")
    if answer is None:
        return None
    _, rx_max, _, _, tx_max, rx, _, _, tx = _RINGPARAM.unpack(answer)
    return RingSizes(rx=rx, tx=tx, rx_max=rx_max, tx_max=tx_max)


def channels(ifname: str) -> Channels | None:
    """Queues in use."""
    answer = _ask(ifname, _CHANNELS.pack(_GCHANNELS, *[0] * 8), "ETHTOOL_GCHANNELS")
    if answer is None:
        return None
    *_, rx, tx, _, combined = _CHANNELS.unpack(answer)
    return Channels(rx=rx, tx=tx, combined=combined)


def set_channels(ifname: str, wanted: Channels) -> None:
    """Set the queues in use.

    :raises SystemCallError: EINVAL: a queue that would go has an AF_XDP socket, or there are not
        so many; EPERM.
    """
    answer = _ask(ifname, _CHANNELS.pack(_GCHANNELS, *[0] * 8), "ETHTOOL_GCHANNELS")
    if answer is None:
        return
    *most, _, _, other, _ = _CHANNELS.unpack(answer)[1:]
    numbers = (wanted.rx, wanted.tx, other, wanted.combined)
    _ask(ifname, _CHANNELS.pack(_SCHANNELS, *most, *numbers), "ETHTOOL_SCHANNELS")


def timestamping_info(ifname: str) -> TimestampingInfo | None:
    """What the NIC's timestamping offers."""
    request = _TS_INFO.pack(_GET_TS_INFO, 0, 0, 0, 0)
    answer = _ask(ifname, request, "ETHTOOL_GET_TS_INFO")
    if answer is None:
        return None
    _, so_timestamping, phc_index, tx_types, rx_filters = _TS_INFO.unpack(answer)
    return TimestampingInfo(so_timestamping, phc_index, tx_types, rx_filters)


def speed_mbps(ifname: str) -> int | None:
    """Link speed in Mbit/s; None where there is no link or no such thing."""
    call = "ETHTOOL_GLINKSETTINGS"
    try:
        # Asked with no room for the masks, the kernel answers minus the room it wants.
        first = _ask(ifname, _link_settings(0), call)
        if first is None:
            return None
        num_words = -_LINK_SETTINGS.unpack(first)[9]
        answer = _ask(ifname, _link_settings(num_words) + bytes(_LINK_MODES_ROOM), call)
    except SystemCallError:
        return None  # some drivers answer an error of their own while the link is down
    if answer is None:
        return None
    speed = int(_LINK_SETTINGS.unpack_from(answer)[1])
    return None if speed in {0, _SPEED_UNKNOWN} else speed


def strips_vlan_tags(ifname: str) -> bool:
    """Whether the interface takes VLAN tags off received packets."""
    answer = _ask(ifname, struct.pack("=II", _GFLAGS, 0), "ETHTOOL_GFLAGS")
    return answer is not None and bool(struct.unpack("=II", answer)[1] & _FLAG_RXVLAN)


def statistics(ifname: str) -> dict[str, int]:
    """``ethtool -S``: every counter by name; empty where the driver has none.

    :raises SetupError: If names and values do not pair, however often they are asked for.
    """
    for _ in range(_STATISTICS_ATTEMPTS):
        num = _num_statistics(ifname)
        pairs = _paired_statistics(ifname, num) if num else {}
        if pairs is not None:
            return pairs
    raise SetupError(ifname, "the driver gives another number of statistics at every question")


def _paired_statistics(ifname: str, num: int) -> dict[str, int] | None:
    # None: the driver changed their number in between, and names and values may not pair.
    spare = num + _SPARE_STATISTICS
    strings = _HEADER.pack(_GSTRINGS, _SS_STATS, num) + bytes(spare * _STRING_SIZE)
    values = struct.pack("=II", _GSTATS, num) + bytes(spare * 8)
    names = _ask(ifname, strings, "ETHTOOL_GSTRINGS")
    numbers = _ask(ifname, values, "ETHTOOL_GSTATS")
    if names is None or numbers is None:
        return {}
    num_names, num_numbers = _HEADER.unpack_from(names)[2], struct.unpack_from("=I", numbers, 4)[0]
    if not num == num_names == num_numbers:
        return None
    body = names[_HEADER.size :]
    texts = [
        _text(body[at : at + _STRING_SIZE]) for at in range(0, num * _STRING_SIZE, _STRING_SIZE)
    ]
    return dict(zip(texts, struct.unpack_from(f"={num}Q", numbers, 8), strict=True))


def get_hwtstamp(ifname: str) -> tuple[int, int, int] | None:
    """The hwtstamp setting: flags, tx_type, rx_filter."""
    answer = _ioctl(ifname, _SIOCGHWTSTAMP, _HWTSTAMP.pack(0, 0, 0), "SIOCGHWTSTAMP")
    return None if answer is None else _HWTSTAMP.unpack(answer)


def set_hwtstamp(ifname: str, flags: int, tx_type: int, rx_filter: int) -> bool:
    """Ask for a hwtstamp setting; False: the driver has none.

    :raises SystemCallError: ERANGE where the NIC has no such filter; EPERM.
    """
    request = _HWTSTAMP.pack(flags, tx_type, rx_filter)
    return _ioctl(ifname, _SIOCSHWTSTAMP, request, "SIOCSHWTSTAMP") is not None


def _num_statistics(ifname: str) -> int:
    request = _SSET_INFO.pack(_GSSET_INFO, 0, 1 << _SS_STATS, 0)
    answer = _ask(ifname, request, "ETHTOOL_GSSET_INFO")
    if answer is None:
        return 0
    _, _, mask, num = _SSET_INFO.unpack(answer)
    return int(num) if mask else 0


def _link_settings(num_words: int) -> bytes:
    return _LINK_SETTINGS.pack(_GLINKSETTINGS, *[0] * 8, num_words, b"")


def _ask(ifname: str, request: bytes, call: str) -> bytes | None:
    return _ioctl(ifname, _SIOCETHTOOL, request, call)


def _ioctl(ifname: str, number: int, request: bytes, call: str) -> bytes | None:
    # struct ifreq holds a pointer to the request, and the kernel answers in its place; an array
    # is memory with a known address that does not move.
    memory = array.array("B", request)
    ifreq = struct.pack("16sQ16x", ifname.encode(), memory.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            fcntl.ioctl(sock, number, ifreq)
        except OSError as error:
            if error.errno in {errno.EOPNOTSUPP, errno.ENOTTY}:
                return None
            raise _explained(error, call, ifname) from None
    return memory.tobytes()


def _explained(error: OSError, call: str, ifname: str) -> SetupError | SystemCallError:
    number = error.errno or errno.EIO
    if number == errno.ENODEV:
        return SetupError(ifname, "the interface is gone, or its driver is resetting it")
    advice = {
        errno.EPERM: "It needs CAP_NET_ADMIN in the namespace of the interface.",
        errno.ERANGE: "The NIC has no such setting; `ethtool -T` lists those it has.",
        errno.EBUSY: "The driver refuses while something else uses this setting.",
    }.get(number, "")
    return SystemCallError(number, call, ifname, advice)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace").strip()
