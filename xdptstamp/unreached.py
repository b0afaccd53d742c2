# SPDX-License-Identifier: GPL-2.0-only
"""Why a request gets no reply, and what to do about it."""

from __future__ import annotations

#: What to do where nothing comes back at all.
NO_REPLY_ADVICE = "is `xdptstamp ping-pong` running on that port? Does a firewall drop it?"

#: By the name of the errno that a socket gave.
ERRNO_ADVICE = {
    "ECONNREFUSED": "nobody answers on that port. Start `xdptstamp ping-pong` there",
    "EHOSTUNREACH": "it does not answer ARP or ND. Is it up, and on this link?",
    "ENETUNREACH": "no route to it. Is the link up and has this end an address? See `ip route`",
    "ENETDOWN": "the interface is down. `ip link set DEV up`",
    "EPERM": "a firewall rule of this machine forbids it. See `nft list ruleset`",
    "EMSGSIZE": "the request is longer than the path's MTU. Take a smaller --size",
    "ENOBUFS": "the interface's queue is full. Take a longer --interval",
}
