# SPDX-License-Identifier: GPL-2.0-only
"""A pytest plugin: AF_XDP sockets on a NIC that is set up before each test, and restored after it.

pytest loads this in every run where xdptstamp is installed, so it imports nothing of it before a
test asks for a fixture.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdptstamp.dut import Dut, DutConfig
    from xdptstamp.xsk import Xsk

# Half of the frames are the test's, to send from; the NIC receives into the others.
_NUM_FRAMES = 2048


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("xdptstamp", "AF_XDP sockets with Tx timestamps")
    group.addoption(
        "--xdptstamp-ifname",
        metavar="IFNAME",
        help="The interface of the fixtures dut and xsk; default NETIF of the environment.",
    )
    group.addoption(
        "--xdptstamp-mode",
        choices=("auto", "copy", "zero-copy"),
        default="auto",
        help="auto: zero-copy wherever the interface advertises it, copy elsewhere.",
    )
    group.addoption(
        "--xdptstamp-queue", type=int, metavar="N", help="Use this queue only; default: all."
    )


@pytest.fixture
def dut_config(request: pytest.FixtureRequest) -> DutConfig:
    """How :func:`dut` is set up, from the options; a fixture of this name can do it otherwise.

    :raises pytest.skip.Exception: If no interface is named.
    """
    option = request.config.option
    ifname = option.xdptstamp_ifname or os.environ.get("NETIF")
    if not ifname:
        pytest.skip("no interface to test: name one with --xdptstamp-ifname or NETIF")
    from xdptstamp.dut import DutConfig

    return DutConfig(
        ifname,
        queues=None if option.xdptstamp_queue is None else (option.xdptstamp_queue,),
        mode=option.xdptstamp_mode,
        num_frames=_NUM_FRAMES,
        num_tx_frames=_NUM_FRAMES // 2,
    )


@pytest.fixture
def dut(dut_config: DutConfig, request: pytest.FixtureRequest) -> Iterator[Dut]:
    """The interface, acquired: a :class:`xdptstamp.dut.Dut`, drained and restored after the test.

    Frames 0 to ``dut.config.num_tx_frames - 1`` of each socket's UMEM are the test's.

    :raises pytest.skip.Exception: If the kernel, the driver or a library lacks what is needed.
    :raises pytest.fail.Exception: If it cannot be set up otherwise.
    """
    from xdptstamp.dut import acquire
    from xdptstamp.errors import UnsupportedError, XdptstampError
    from xdptstamp.measure.drain import drain

    problem: XdptstampError | None = None
    with contextlib.ExitStack() as stack:
        try:
            acquired = stack.enter_context(acquire(dut_config))
        except XdptstampError as error:
            problem = error
        # Out here the sentence stands alone, without the error that it is of.
        if isinstance(problem, UnsupportedError):
            pytest.skip(str(problem))
        if problem is not None:
            pytest.fail(str(problem), pytrace=False)
        # Shown with a test that fails: known faults of the driver are among them.
        request.node.add_report_section("setup", "xdptstamp", "\n".join(acquired.notes))
        yield acquired
        num_left = drain(acquired)
    if num_left:
        text = f"{dut_config.ifname}: the completions of {num_left} packets never came"
        warnings.warn(pytest.PytestWarning(text), stacklevel=1)


@pytest.fixture
def xsk(dut: Dut) -> Xsk:
    """The first AF_XDP socket of :func:`dut`: a :class:`xdptstamp.xsk.Xsk`."""
    return dut.xsks[0]
