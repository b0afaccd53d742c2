# SPDX-License-Identifier: GPL-2.0-only
"""The tests in parts, each a pytest of its own; ``scripts/test`` runs one after the other.

``pytest -p tests.parts --part PART`` runs, of the tests that it is given, those of one part:

- parallel: all that are not in another part; they may run beside each other.
- serial: those marked so, which need a processor at any moment;
- guest: those in tests/guest, two files at a time: one guest leaves half of two processors idle.
"""

import contextlib
import os
import signal
from pathlib import Path
from xml.etree import ElementTree

import pytest

PARTS = ("parallel", "serial", "guest")
_GUEST = Path(__file__).parent / "guest"

# What the fixtures of a worker may take to remove what they made.
_CLEANING_LIMIT_S = 30
_workers = []


def pytest_addoption(parser):
    parser.addoption("--part", choices=PARTS, required=True, help="run this part of the tests")


def pytest_collection_modifyitems(config, items):
    part = config.option.part
    config.hook.pytest_deselected(items=[item for item in items if _part_of(item) != part])
    items[:] = [item for item in items if _part_of(item) == part]


def _part_of(item):
    if _GUEST in item.path.parents:
        return "guest"
    return "serial" if item.get_closest_marker("serial") else "parallel"


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session):
    """Keep in the file of ``--junit-xml`` what the parts before have written."""
    config = session.config
    path = config.option.xmlpath
    is_first = config.option.part == PARTS[0]
    if not path or is_first or hasattr(config, "workerinput"):
        return (yield)
    before = ElementTree.parse(path).getroot()
    result = yield
    tree = ElementTree.parse(path)
    tree.getroot()[:0] = list(before)
    tree.write(path, encoding="utf-8", xml_declaration=True)
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodeready(node):
    _workers.append(node)


def pytest_keyboard_interrupt():
    """Pass SIGINT on: by itself xdist lets the workers go on, and kills them after ten seconds."""
    for node in _workers:
        with contextlib.suppress(ProcessLookupError):
            # xdist has asked for this before; an answer now would wait for the tests' end.
            os.kill(node.gateway._rinfo().pid, signal.SIGINT)
    for node in _workers:
        with contextlib.suppress(node.channel.RemoteError, node.channel.TimeoutError):
            node.channel.waitclose(_CLEANING_LIMIT_S)


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        signal.signal(signal.SIGINT, _interrupt_once)


def _interrupt_once(number, frame):
    # A terminal's Ctrl-C reaches a worker twice; the second would interrupt its fixtures' cleaning.
    signal.signal(number, _ignore)
    raise KeyboardInterrupt


def _ignore(number, frame):
    """Not SIG_IGN, which commands that are still started would inherit."""
