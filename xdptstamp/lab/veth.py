# SPDX-License-Identifier: GPL-2.0-only
"""A link without hardware: a veth pair whose far end is in a namespace of its own."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from types import TracebackType

from xdptstamp._sys import netns
from xdptstamp.errors import SetupError, SystemCallError
from xdptstamp.lab import link
from xdptstamp.lab.claim import Claim, claim, sweep
from xdptstamp.lab.plan import LabPlan, free_plans
from xdptstamp.lab.removal import remove_lab


class VethLab:
    """A veth pair: the DUT end in the current namespace, the link partner's in one of its own.

    A context manager. When the block is entered both ends have IPv4 and IPv6 addresses and a
    carrier; when it is left, link, namespace and the processes in the namespace are gone. What a
    killed process left of its lab is removed by the next lab that is made.

    :param num_queues: Tx queues, and Rx queues, of each end.
    """

    def __init__(self, num_queues: int = 2) -> None:
        self.num_queues = num_queues
        self._claim: Claim | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> VethLab:
        with _privilege_explained(), contextlib.ExitStack() as stack:
            sweep(remove_lab)
            self._claim = claim(free_plans(link.networks_in_use()))
            # Registered before anything is made: it does not mind what is not there yet.
            stack.callback(self._remove)
            netns.create(self.plan.name)
            link.make_pair(self.plan, self.num_queues)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def plan(self) -> LabPlan:
        """Names and addresses.

        :raises SetupError: The lab is not there (any more).
        """
        return self._claimed.plan

    @property
    def ifname(self) -> str:
        """The DUT end."""
        return self.plan.ifname

    @property
    def netns(self) -> str:
        """The partner's namespace."""
        return self.plan.name

    @property
    def keepalive_fd(self) -> int:
        """A file whose being open keeps the lab from counting as abandoned.

        A child that inherits it may outlive a killed owner, and still has its link.
        """
        return self._claimed.fd

    @property
    def environ(self) -> dict[str, str]:
        """What names this link to every command, as in the kernel's drivers/net selftests."""
        (local_v4, local_v6), (remote_v4, remote_v6) = self.plan.addresses
        return {
            "NETIF": self.ifname,
            "LOCAL_V4": local_v4,
            "LOCAL_V6": local_v6,
            "REMOTE_V4": remote_v4,
            "REMOTE_V6": remote_v6,
            "REMOTE_TYPE": "netns",
            "REMOTE_ARGS": self.netns,
        }

    @property
    def _claimed(self) -> Claim:
        if self._claim is None:
            raise SetupError("lab veth", "there is none outside of its `with` block")
        return self._claim

    def _remove(self) -> None:
        claimed, self._claim = self._claimed, None
        try:
            remove_lab(claimed.plan.name)
        except BaseException:
            claimed.abandon()
            raise
        claimed.release()


@contextlib.contextmanager
def _privilege_explained() -> Iterator[None]:
    try:
        yield
    except SystemCallError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        needs = "needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root (sudo)"
        raise SetupError(
            "lab veth",
            f"no privilege to make a link and a namespace ({error.call}: "
            f"{error.strerror}); {needs}",
        ) from None
