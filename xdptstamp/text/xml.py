# SPDX-License-Identifier: GPL-2.0-only
"""Elements of XML whose text may come from anywhere."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement

# What XML 1.0 cannot hold, not even as a reference (section 2.2, Char), and the carriage return,
# which a parser would turn into a line feed.
_NO_CHAR = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(tag: str, **attributes: str) -> Element:
    """An element with attributes."""
    return Element(tag, {name: clean(value) for name, value in attributes.items()})


def add(parent: Element, tag: str, **attributes: str) -> Element:
    """An element with attributes below another."""
    return SubElement(parent, tag, {name: clean(value) for name, value in attributes.items()})


def clean(value: str) -> str:
    """A text with all that is not allowed as ``\\x1b``: seen, and harmless."""
    return _NO_CHAR.sub(lambda match: match[0].encode("unicode_escape").decode(), value)


def ascii_xml(text: str) -> str:
    """References, so that a document is what its first line says whatever the encoding is."""
    return text.encode("ascii", "xmlcharrefreplace").decode()
