# SPDX-License-Identifier: GPL-2.0-only
"""The tests in parts, each a pytest of its own; ``scripts/test`` runs one after the other.

``pytest -p tests.parts --part PART`` runs, of the tests that it is given, those of one part:

- parallel: all that are not in another part; they may run beside each other.
- serial: those marked so, which need a processor at any moment;
- guest: those in tests/guest; their guest has all processors.
"""

from pathlib import Path
from xml.etree import ElementTree

import pytest

PARTS = ("parallel", "serial", "guest")
_GUEST = Path(__file__).parent / "guest"


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
