# SPDX-License-Identifier: GPL-2.0-only
"""Taking a lab away, whole or half-made, ours or one that a killed owner left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from xdptstamp._sys import netns
from xdptstamp.lab import link
from xdptstamp.lab.plan import partner_ifname_of

# How long a process on the partner may take to end after SIGTERM, and the kernel after SIGKILL.
_GRACE_NS = 2_000_000_000


def remove_lab(name: str) -> None:
    """Remove the link and the namespace of a lab, and end the processes in the namespace.

    :param name: the lab's; what of it does not exist is no error.
    :raises SystemCallError: No privilege, or the kernel refuses.
    """
    try:
        if netns.inode_of(name) is not None:
            end_processes(name)
            # Removing the namespace would remove the link too, but some time later. From this
            # side it is found wherever the other end is by now, and whatever its name.
            netns.call_inside(name, lambda: link.delete(partner_ifname_of(name)))
    finally:
        netns.remove(name)


def end_processes(name: str) -> None:
    """End every process in namespace ``name``: one that stayed would keep the link alive."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with _processes_in(name) as pidfds:
            if not pidfds:
                return
            for pidfd in pidfds:
                # It may have ended in between, which is what is wanted.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
            _await_end(pidfds)


@contextlib.contextmanager
def _processes_in(name: str) -> Iterator[list[int]]:
    inode = netns.inode_of(name)
    with contextlib.ExitStack() as stack:
        pidfds = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            # It ended while we looked; or it belongs to a user whom we may not look at, and who
            # cannot have entered a namespace of ours.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if _netns_of(entry) != inode:
                    continue
                pidfd = os.pidfd_open(int(entry.name))
                stack.callback(os.close, pidfd)
                # The number may have passed to another process before it was opened.
                if _netns_of(entry) == inode:
                    pidfds.append(pidfd)
        yield pidfds


def _netns_of(process: Path) -> tuple[int, int]:
    status = os.stat(process / "ns" / "net")
    return status.st_dev, status.st_ino


def _await_end(pidfds: list[int]) -> None:
    deadline_ns = time.monotonic_ns() + _GRACE_NS
    poller = select.poll()
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
    num_running = len(pidfds)
    while num_running:
        left_ns = deadline_ns - time.monotonic_ns()
        ended = poller.poll(max(left_ns, 0) // 1_000_000)
        if not ended:
            return
        for pidfd, _ in ended:
            poller.unregister(pidfd)
        num_running -= len(ended)
