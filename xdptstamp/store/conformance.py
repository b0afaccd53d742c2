# SPDX-License-Identifier: GPL-2.0-only
"""Reading what ``xdptstamp conform --format json`` wrote."""

from __future__ import annotations

import json
from pathlib import Path

from xdptstamp.conformance import Conformance
from xdptstamp.errors import RunFileError


def read_conformance(path: Path) -> Conformance:
    """The results in the file ``path``.

    :raises RunFileError: If it is unreadable, damaged, something else, or of an unknown schema.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise RunFileError(path, f"cannot read it: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        problem = f"truncated or damaged, it is not valid JSON ({error})"
        raise RunFileError(path, problem) from error
    try:
        return Conformance.from_json(data)
    except ValueError as error:
        raise RunFileError(path, f"no conformance that can be read here: {error}") from error
