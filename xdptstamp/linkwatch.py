# SPDX-License-Identifier: GPL-2.0-only
"""Watch one interface: has it gone, gone down, lost its carrier or got another name?

A raw netlink socket: a measuring loop polls it, and a question without news costs one recv.
"""

from __future__ import annotations

import enum
import errno
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Protocol

from xdptstamp._rtnl import IFF_LOWER_UP, IFF_UP
from xdptstamp.errors import SetupError, SystemCallError

_RTMGRP_LINK = 1
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
_IFLA_IFNAME = 3
_IFLA_CARRIER_CHANGES = 35
_NLA_TYPE_MASK = 0x3FFF

_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_NLATTR = struct.Struct("=HH")

# The kernel cuts a message that does not fit; one with many virtual functions is tens of kB.
_BUFFER_SIZE = 1 << 17


class HasFileno(Protocol):
    """Something to poll."""

    def fileno(self) -> int:
        """Its descriptor."""


class LinkChange(enum.IntEnum):
    """What happened to the interface, the worse the greater."""

    NONE = 0
    CARRIER_BOUNCED = 1  # lost and regained since the last look
    RENAMED = 2
    NO_CARRIER = 3
    DOWN = 4
    VANISHED = 5  # removed, or moved to another namespace


@dataclass(frozen=True, slots=True)
class _State:
    ifname: str
    flags: int
    carrier_changes: int


class LinkWatch:
    """News of one interface since the watch was opened, or since the last :meth:`check`.

    Belongs to the network namespace that was current when it was made. A context manager.

    :raises SetupError: If the interface is gone already.
    """

    def __init__(self, ifname: str, ifindex: int) -> None:
        self.ifname = ifname
        self.ifindex = ifindex
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(
            socket.AF_NETLINK, flags | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        # Answers come here, so that no news is taken for one.
        self._asking = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE)
        self._seen = _State(ifname, 0, 0)
        try:
            # Listening begins before the first look, so that nothing falls between the two.
            self._socket.bind((0, _RTMGRP_LINK))
            state = self._look()
        except BaseException:
            self.close()
            raise
        if state is None:
            self.close()
            raise SetupError(ifname, "the interface is gone")
        self._seen = self._start = state
        self._has_vanished = False

    def __enter__(self) -> LinkWatch:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when there may be news."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop watching."""
        self._socket.close()
        self._asking.close()

    @property
    def has_carrier(self) -> bool:
        """Whether the interface was up with carrier at the last look."""
        return bool(self._seen.flags & IFF_LOWER_UP)

    @property
    def is_up(self) -> bool:
        """Whether the administrator had it up at the last look."""
        return bool(self._seen.flags & IFF_UP)

    @property
    def num_carrier_changes(self) -> int:
        """How often the carrier came or went since the watch was opened."""
        return self._seen.carrier_changes - self._start.carrier_changes

    def check(self, *, asks: bool = False) -> LinkChange:
        """The worst since the last look; blocks for a moment when the link has just gone down.

        How it is now counts, too: a link that was down and still is, is ``DOWN``.

        :param asks: ask the kernel as well, which tells of a carrier up to a second late. Costs
            some 20 us: a question and its answer, in a measuring loop.
        """
        before, was_up = self._seen.carrier_changes, self.is_up
        worst = LinkChange.NONE
        for state in self._news():
            if state is None:
                self._has_vanished = True
                break
            self._seen = state
            worst = max(worst, self._judge(state))
        if asks and not self._has_vanished:
            asked = self._look()
            self._has_vanished = asked is None
            self._seen = asked or self._seen
        # A removal begins with going down, and tells of its end some milliseconds later. The
        # kernel answers this look when it is over.
        if was_up and not self.is_up and self._look() is None:
            self._has_vanished = True
        if self._has_vanished:
            return LinkChange.VANISHED
        if worst == LinkChange.NONE and before != self._seen.carrier_changes:
            return LinkChange.CARRIER_BOUNCED
        return max(worst, self._judge(self._seen))

    def describe(self, change: LinkChange) -> str:
        """What a user reads about ``change``, after the name of the interface."""
        return {
            LinkChange.NONE: "is as it was",
            LinkChange.CARRIER_BOUNCED: "lost its carrier and got it back",
            LinkChange.RENAMED: f"was renamed to {self._seen.ifname}",
            LinkChange.NO_CARRIER: "has no carrier: is the cable in, the partner up?",
            LinkChange.DOWN: f"is down: `ip link set {self.ifname} up`",
            LinkChange.VANISHED: "vanished: removed, or moved to another namespace",
        }[change]

    def wait_carrier(self, timeout_s: float, stop: HasFileno | None = None) -> None:
        """Return once the interface is up and has carrier.

        :param stop: ends the wait without carrier as soon as it is readable.
        :raises SetupError: If it is not within ``timeout_s``, is set down or vanishes.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            # Asked as well: a driver that was just reset (igb, igc by an XDP program) has lost its
            # carrier already, and the kernel tells of that up to a second late.
            if self.check(asks=True) == LinkChange.VANISHED:
                raise SetupError(self.ifname, self.describe(LinkChange.VANISHED))
            if not self.is_up:
                raise SetupError(self.ifname, self.describe(LinkChange.DOWN))
            if self.has_carrier:
                return
            left = deadline - time.monotonic()
            news = self._wait(left, stop) if left > 0 else []
            if stop is not None and stop.fileno() in news:
                return
            if not news:
                break
        # The kernel tells of a carrier up to a second late; the last word has the state itself.
        state = self._look()
        if state is None or not state.flags & IFF_LOWER_UP:
            problem = f"no carrier within {timeout_s:g} s: is the cable in, the partner up?"
            raise SetupError(self.ifname, problem)
        self._seen = state

    def _wait(self, timeout_s: float, stop: HasFileno | None) -> list[int]:
        poller = select.poll()
        for source in (self, stop):
            if source is not None:
                poller.register(source.fileno(), select.POLLIN)
        return [fd for fd, _ in poller.poll(timeout_s * 1000)]

    def _judge(self, state: _State) -> LinkChange:
        if not state.flags & IFF_UP:
            return LinkChange.DOWN
        if not state.flags & IFF_LOWER_UP:
            return LinkChange.NO_CARRIER
        return LinkChange.NONE if state.ifname == self.ifname else LinkChange.RENAMED

    def _news(self) -> list[_State | None]:
        # All states since the last look, in order; None: gone.
        news: list[_State | None] = []
        while True:
            try:
                data = self._socket.recv(_BUFFER_SIZE)
            except BlockingIOError:
                return news
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise SystemCallError(error.errno or 0, "recv", "rtnetlink") from None
                # The kernel dropped news because nobody read them: look how things are now.
                news.append(self._look())
            else:
                news += self._parse(data)

    def _look(self) -> _State | None:
        body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, self.ifindex, 0, 0)
        size = _NLMSGHDR.size + len(body)
        self._asking.send(_NLMSGHDR.pack(size, _RTM_GETLINK, _NLM_F_REQUEST, 0, 0) + body)
        data = self._asking.recv(_BUFFER_SIZE)
        _, kind, *_ = _NLMSGHDR.unpack_from(data)
        if kind == _NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", data, _NLMSGHDR.size)
            if -code != errno.ENODEV:
                raise SystemCallError(-code, "RTM_GETLINK", self.ifname)
            return None
        return self._parse(data)[0]

    def _parse(self, data: bytes) -> list[_State | None]:
        news: list[_State | None] = []
        at = 0
        while at + _NLMSGHDR.size + _IFINFOMSG.size <= len(data):
            length, kind, *_ = _NLMSGHDR.unpack_from(data, at)
            family, _, ifindex, flags, _ = _IFINFOMSG.unpack_from(data, at + _NLMSGHDR.size)
            # A bridge tells of its ports in a family of its own; a port that leaves is not gone.
            if ifindex == self.ifindex and family == socket.AF_UNSPEC:
                body = data[at + _NLMSGHDR.size + _IFINFOMSG.size : at + length]
                if kind == _RTM_DELLINK:
                    news.append(None)
                elif kind == _RTM_NEWLINK:
                    news.append(_parse_state(flags, body, self._seen))
            at += max((length + 3) & ~3, _NLMSGHDR.size)
        return news


def _parse_state(flags: int, attributes: bytes, known: _State) -> _State:
    ifname, carrier_changes, at = known.ifname, known.carrier_changes, 0
    while at + _NLATTR.size <= len(attributes):
        length, kind = _NLATTR.unpack_from(attributes, at)
        value = attributes[at + _NLATTR.size : at + length]
        if kind & _NLA_TYPE_MASK == _IFLA_IFNAME:
            ifname = os.fsdecode(value.rstrip(b"\0"))
        elif kind & _NLA_TYPE_MASK == _IFLA_CARRIER_CHANGES:
            carrier_changes = struct.unpack("=I", value)[0]
        at += max((length + 3) & ~3, _NLATTR.size)
    return _State(ifname, flags, carrier_changes)
