# SPDX-License-Identifier: GPL-2.0-only
"""A clock that somebody sets while a measurement runs."""

import itertools
import threading

from tests.link.responding import Responding
from xdptstamp.measure import vigil


def test_a_clock_that_is_set_in_mid_run_is_noticed(lab, monkeypatch):
    # Setting the real clock would be felt by everybody on this machine.
    offsets = itertools.chain([5], itertools.repeat(37_000_000_005))
    num_looks = itertools.count()
    looked = threading.Event()

    def offset_ns():
        if next(num_looks):
            looked.set()
        return next(offsets)

    monkeypatch.setattr(vigil, "tai_offset_ns", offset_ns)
    with Responding(lab.ifname) as responding:
        assert looked.wait(10)
        result = responding.stop()
    assert result.clock_step_ns == 37_000_000_000
