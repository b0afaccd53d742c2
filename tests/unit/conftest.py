# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the tests without privilege."""

import contextlib

import pytest

from tests.unit.i226_kit import MACS, Nic, Server
from tests.unit.recording_kit import make_info
from xdptstamp.store import create_run


@pytest.fixture
def run_dir(tmp_path):
    """The folder of a new run."""
    with create_run(tmp_path / "results", make_info()) as run_dir:
        yield run_dir


@pytest.fixture
def start_i226(tmp_path):
    """``start_i226(*arguments, num_ports=2, complaint="")``: a virtual I226.

    It has to end well, and without a word but its ``complaint`` about a client; None: any.
    """
    servers = []

    def start(*arguments, num_ports=2, complaint=""):
        folder = tmp_path / f"i226-{len(servers)}"
        folder.mkdir()
        servers.append((Server(folder, *arguments, num_ports=num_ports), complaint))
        return servers[-1][0]

    yield start
    ends = [(server.stop(), server.errors.strip(), complaint) for server, complaint in servers]
    for code, errors, complaint in ends:
        assert (code, errors) == (0, errors if complaint is None else complaint)


@pytest.fixture
def connect_i226():
    """``connect_i226(server)``: the ports of a server as :class:`tests.unit.i226_kit.Nic`."""
    with contextlib.ExitStack() as stack:

        def connect(server):
            pairs = zip(server.paths, MACS, strict=False)
            return [stack.enter_context(contextlib.closing(Nic(*pair))) for pair in pairs]

        yield connect


@pytest.fixture(scope="module")
def i226(tmp_path_factory):
    """A virtual I226 with two ports, for all tests of a file: each client finds it anew."""
    server = Server(tmp_path_factory.mktemp("i226"))
    yield server
    assert (server.stop(), server.errors) == (0, "")


@pytest.fixture
def nics(i226, connect_i226):
    """Its ports, set up."""
    return connect_i226(i226)
