# SPDX-License-Identifier: GPL-2.0-only
"""A comparison of runs as text: ``table``, ``json``, ``junit`` and ``md``."""

from __future__ import annotations

import json

from xdptstamp.contrast import Contrast

#: The names ``--format`` takes.
FORMATS = ("table", "json", "junit", "md")


def contrast_text(contrast: Contrast, form: str, *, is_unsure_fine: bool = False) -> list[str]:
    """The lines of a comparison.

    :param form: one of :data:`FORMATS`.
    :param is_unsure_fine: a ``--fail-if`` that the runs do not tell is no failure.
    """
    if form == "json":
        from xdptstamp.text.contrast.data import contrast_json

        return [json.dumps(contrast_json(contrast), indent=2, allow_nan=False)]
    if form == "junit":
        from xdptstamp.text.contrast.junit import junit_text

        return [junit_text(contrast, is_unsure_fine=is_unsure_fine)]
    from xdptstamp.text.contrast.table import contrast_lines, md_lines

    return contrast_lines(contrast) if form == "table" else md_lines(contrast)
