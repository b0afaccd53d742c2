# SPDX-License-Identifier: GPL-2.0-only
"""The rules that can be tried: all of them in short, or one in full."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from xdptstamp.conformance import Rule
from xdptstamp.text.lines import ascii_text, path_lines, wrap

_KEY_WIDTH, _MODE_WIDTH = 28, 9


def list_lines(rules: Iterable[Rule]) -> list[str]:
    """What ``--list`` prints: of each rule its key, its modes and its title, by group.

    :return: ASCII lines of at most 72 columns.
    """
    lines: list[str] = []
    for group, members in groupby(rules, key=lambda rule: rule.group):
        lines += ["", *wrap(group)] if lines else wrap(group)
        for rule in members:
            danger = "--dangerous" if rule.danger else ""
            head = f"  {ascii_text(rule.key):<{_KEY_WIDTH}} {_modes(rule)} {danger}".rstrip()
            lines += wrap(head, "", "    ")
            lines += wrap(rule.title, " " * 6)
            lines += wrap(f"dangerous: {rule.danger}", " " * 6, " " * 8) if rule.danger else []
    return lines


def explain_lines(rule: Rule) -> list[str]:
    """What ``--explain`` prints: the whole rule in prose.

    :return: ASCII lines of at most 72 columns; only a longer command stands whole on a line.
    """
    danger = " --dangerous" if rule.danger else ""
    lines = wrap(f"{rule.key}: {rule.title}")
    paragraphs = [
        rule.text,
        *(f"In {mode} mode this is right: {text}" for mode, text in rule.expected.items()),
        _other_modes(rule),
        f"Where it is written: {rule.source}",
        f"It is run with --dangerous only: {rule.danger}" if rule.danger else "",
    ]
    for paragraph in paragraphs:
        lines += ["", *wrap(paragraph)] if paragraph else []
    command = f"xdptstamp conform IFNAME --case {rule.key}{danger}"
    return [*lines, "", *path_lines("alone", command)]


# In columns, so that a rule of one mode stands out.
def _modes(rule: Rule) -> str:
    modes = ("copy", "zero-copy")
    return " ".join(f"{mode if mode in rule.expected else '-':<{_MODE_WIDTH}}" for mode in modes)


def _other_modes(rule: Rule) -> str:
    missing = [mode for mode in ("copy", "zero-copy") if mode not in rule.expected]
    return f"There is no such rule in {missing[0]} mode." if len(missing) == 1 else ""
