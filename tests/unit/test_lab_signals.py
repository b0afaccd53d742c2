# SPDX-License-Identifier: GPL-2.0-only
"""Which signals to a lab are one request: timeout(1) sends each of its own twice."""

import signal

from xdptstamp.cli.lab import _REPEAT_NS, _Request

FIRST = _Request(signal.SIGTERM, sender=100, at_ns=5_000_000_000)


def test_the_same_signal_again_at_once():
    assert _Request(signal.SIGTERM, 100, FIRST.at_ns + _REPEAT_NS).repeats(FIRST)


def test_the_same_signal_later():
    assert not _Request(signal.SIGTERM, 100, FIRST.at_ns + _REPEAT_NS + 1).repeats(FIRST)


def test_another_signal_or_another_sender():
    assert not _Request(signal.SIGINT, 100, FIRST.at_ns).repeats(FIRST)
    assert not _Request(signal.SIGTERM, 101, FIRST.at_ns).repeats(FIRST)
