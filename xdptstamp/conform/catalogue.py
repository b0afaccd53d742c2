# SPDX-License-Identifier: GPL-2.0-only
"""All cases, in the order in which they are run: what disturbs comes last."""

from __future__ import annotations

import difflib

from xdptstamp.conform import (
    completions,
    disturb,
    launch,
    negative,
    offloads,
    receive,
    sharing,
    stamps,
)
from xdptstamp.conform.case import Case
from xdptstamp.errors import SetupError

CASES: tuple[Case, ...] = (
    *stamps.CASES,
    *completions.CASES,
    *offloads.CASES,
    *launch.CASES,
    *sharing.CASES,
    *receive.CASES,
    *negative.CASES,
    *disturb.CASES,
)


def choose(keys: tuple[str, ...]) -> tuple[Case, ...]:
    """The cases of these names; of none: all.

    :raises SetupError: There is no such case; the nearest name is told.
    """
    known = {case.rule.key: case for case in CASES}
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SetupError(f"case {key}", f"there is none{hint} (--list shows all)")
    return tuple(known[key] for key in dict.fromkeys(keys)) if keys else CASES
