# SPDX-License-Identifier: GPL-2.0-only
"""Waking the kernel to send what the Tx ring holds, and which packets it dropped doing so."""

from __future__ import annotations

import errno
from collections.abc import Callable

from xdptstamp._sys.if_xdp import XDP_RING_NEED_WAKEUP
from xdptstamp.xsk import Xsk

_U32 = 0xFFFFFFFF
# Calls beyond what the budget makes necessary, before the rest is left to the next round.
_SPARE_WAKEUPS = 4


class TxWaker:
    """Wakes one socket's Tx side.

    :param on_drop: called with the position in the Tx ring of each packet that the kernel dropped
        (copy mode); it completes it, and stamps it, all the same.
    :ivar errors: how often a call failed otherwise, by errno.
    :ivar num_dropped: packets dropped.
    :ivar is_needed: the last wakeup left packets in the ring.
    """

    def __init__(self, xsk: Xsk, on_drop: Callable[[int], None]) -> None:
        self.errors: dict[str, int] = {}
        self.num_dropped = 0
        self.is_needed = False
        self._xsk = xsk
        self._share = xsk.tx.size if xsk.is_zero_copy else xsk.max_tx_skb_budget
        self._on_drop = on_drop
        self._taken = xsk.tx.consumer_position  # how far the kernel is in the Tx ring

    def send(self, count: int) -> None:
        """Show the kernel ``count`` reserved packets and have it send them.

        What one call sends is shown to it before each call: more would only make it answer
        EAGAIN, and an exception costs more than the call.
        """
        xsk, submit, consumer = self._xsk, self._xsk.tx.submit, self._xsk.tx.consumer
        flags, is_always_woken = self._xsk.tx.flags, not self._xsk.config.is_need_wakeup
        wakeup_tx, share, is_left = xsk.wakeup_tx, self._share, False
        while count:
            part = share if count > share else count
            submit(part)
            count -= part
            if is_always_woken or flags[0] & XDP_RING_NEED_WAKEUP:
                shown = consumer[0]
                error = wakeup_tx()
                if error:
                    self.go_on(shown, error)
                is_left = error != 0 and self.is_needed
        # Once for all calls that went well: it must never be a whole ring behind.
        self._note_taken(consumer[0])
        self.is_needed = is_left

    def wake(self) -> None:
        """Wake the kernel until it has taken what the ring holds, or takes no more for now."""
        tx = self._xsk.tx
        if self._xsk.config.is_need_wakeup and not tx.needs_wakeup():
            self.is_needed = False
            return
        shown = tx.consumer_position
        self.go_on(shown, self._xsk.wakeup_tx())

    def go_on(self, shown: int, error: int) -> None:
        """Do what is to be done after a first wakeup.

        :param shown: the Tx ring's consumer position right before it.
        :param error: what it returned.
        """
        self._note_taken(shown)
        if error and not self._xsk.is_zero_copy:
            error = self._send_the_rest(error)
        self.is_needed = error != 0
        if error and error != errno.EAGAIN:
            name = errno.errorcode.get(error, str(error))
            self.errors[name] = self.errors.get(name, 0) + 1

    def _send_the_rest(self, error: int) -> int:
        # The kernel sends inside the call: EBUSY is about one packet, EAGAIN says that the call's
        # share is sent, or that the NIC takes no more. Returns what the last call said.
        xsk, wakeups_left = self._xsk, None
        while error:
            if error == errno.EBUSY:
                self._note_drop()
            elif error != errno.EAGAIN:
                break
            elif wakeups_left is None:
                shares = xsk.tx.num_waiting() // xsk.max_tx_skb_budget
                wakeups_left = shares + _SPARE_WAKEUPS
            elif wakeups_left == 0:
                break
            else:
                wakeups_left -= 1
            shown = xsk.tx.consumer_position
            error = xsk.wakeup_tx()
            self._note_taken(shown)  # as it stood before the call, which does not wait for this
        return error

    def _note_taken(self, shown: int) -> None:
        if (shown - self._taken) & _U32 <= self._xsk.tx.size:
            self._taken = shown

    def _note_drop(self) -> None:
        # The call ended at the packet that was dropped: it is the last one taken. Without Linux
        # commit 1eb8b0dac189 ("net: xsk: update tx queue consumer immediately after
        # transmission") (in v6.17) the ring shows it only later; there it is the next one, unless
        # the same call had sent others before.
        before = self._taken
        self._note_taken(self._xsk.tx.consumer_position)
        if self._taken == before:
            self._taken = (before + 1) & _U32
        self.num_dropped += 1
        self._on_drop((self._taken - 1) & _U32)
