# SPDX-License-Identifier: GPL-2.0-only
"""A DUT that answers requests: in a thread of the test, or (run as a script) a process of its own.

``python responding.py IFNAME`` prints "ready" and answers until it is killed.
"""

import contextlib
import sys
import threading
import time

import numpy as np

from xdptstamp.dut import DutConfig, acquire
from xdptstamp.measure.ping_pong import PingPong, PingPongConfig
from xdptstamp.measure.stop import Stop
from xdptstamp.sample import empty_batch

LIMIT_S = 30


def wait_until(is_true, what, limit_s=LIMIT_S):
    """Return once ``is_true()``; fail if that does not come.

    :param what: what is waited for; a function, if it is only then to be said.
    """
    deadline = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline, f"never came: {what() if callable(what) else what}"
        time.sleep(0.001)


class Responding:
    """ping-pong on an interface of this namespace, as a context manager.

    :param measure: a PingPongConfig.
    :param config: fields of DutConfig.
    """

    def __init__(self, ifname, measure=None, **config):
        self._measure = measure or PingPongConfig()
        # As the command does it; None has Python make the replies.
        config.setdefault("reply_flags", self._measure.reply_flags)
        self._config = DutConfig(ifname, **config)
        self._batches = [empty_batch(0)]
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run)
        self._stack = contextlib.ExitStack()
        self._failure = None
        self._num_unseen = None
        self.result = None

    def __enter__(self):
        with self._stack as stack:
            stack.callback(self._stop.close)
            self.dut = stack.enter_context(acquire(self._config))
            self._ping_pong = PingPong(self.dut, self._measure, self, self._stop, lambda _: None)
            self._thread.start()
            stack.callback(self.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        return self._stack.__exit__(*exc_info)

    def put(self, batch):
        """Take samples (it is the measurement's sink)."""
        self._batches.append(batch.copy())

    @property
    def rows(self):
        """All samples so far."""
        return np.concatenate(self._batches)

    def num_rows(self):
        """How many samples there are, once all packets received so far have theirs."""

        def num_received():
            return sum(responder.counts.received for responder in self.responders)

        wait_until(lambda: len(self.rows) >= num_received(), "the samples of all packets")
        return len(self.rows)

    def wait_rows(self, count):
        """All samples, once there are ``count``."""
        wait_until(lambda: len(self.rows) >= count, f"{count} samples")
        return self.rows

    def stop(self):
        """End the measurement; returns its result."""
        self._stop.request("test")
        self._thread.join()
        if self._failure:
            raise self._failure
        return self.result

    def wait(self):
        """Wait for the measurement's own end; returns its result."""
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the measurement does not end"
        return self.stop()

    @property
    def responders(self):
        """One of each queue."""
        return self._ping_pong._responders

    def counters(self):
        """The program's counters, by name."""
        return self.dut.program.counters()

    def count(self, port, frames):
        """Send frames from the partner and wait until the program has seen them all.

        :return: how much each counter has grown by them; those that have not are left out. What
            the partner's stack sent meanwhile is taken out of ``passed_other``.
        """
        before = self._settled(port)
        for frame in frames:
            port.send(frame)
        num_due = sum(before.values()) + len(frames)
        wait_until(
            lambda: sum(self._settled(port).values()) >= num_due,
            lambda: f"{len(frames)} frames more than {before}, in {self.counters()}",
        )
        after = self._settled(port)
        grown = {name: now - before[name] for name, now in after.items()}
        grown["passed_other"] -= sum(grown.values()) - len(frames)
        return {name: number for name, number in grown.items() if number}

    def count_blast(self, port, frame, count):
        """Send a request ``count`` times, as fast as can be; returns how many were redirected."""
        before = self._settled(port)["redirected"]
        port.blast(frame, count)
        return self._settled(port)["redirected"] - before

    def _settled(self, port):
        # The counters, at a moment when the program has seen all that the partner has sent. In skb
        # mode it sees more: what this end broadcasts comes back to it.
        if self._num_unseen is None:
            self._num_unseen = self._first_difference(port)
        found = [None]

        def is_settled():
            found.append((self.counters(), port.num_sent()))
            counters, num_sent = found[-1]
            return found[-1] == found[-2] and num_sent - sum(counters.values()) <= self._num_unseen

        wait_until(is_settled, lambda: f"as many packets counted as sent: {found[-1]}")
        counters, num_sent = found[-1]
        self._num_unseen = num_sent - sum(counters.values())
        return counters

    def _first_difference(self, port):
        # Packets that were sent before the program was there, read when nothing is under way.
        found = []
        while len(found) < 5 or len(set(found[-5:])) > 1:
            found.append((sum(self.counters().values()), port.num_sent()))
            time.sleep(0.005)
        return found[-1][1] - found[-1][0]

    def _run(self):
        try:
            self.result = self._ping_pong.run()
        except BaseException as error:
            self._failure = error


def main(ifname):
    """Answer until killed."""
    with Responding(ifname) as responding:
        print("ready", flush=True)
        responding._thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
