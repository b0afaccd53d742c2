# SPDX-License-Identifier: GPL-2.0-only
"""The recorder process with its text output: ``python -m xdptstamp.cli._recorder``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xdptstamp.store.guarded_output import Output

_QUIET = "quiet"


def output_args(output_format: str, *, is_quiet: bool) -> tuple[str, ...]:
    """What the measuring process passes on to :func:`_open`."""
    return (output_format, *([_QUIET] if is_quiet else []))


def _open(args: Sequence[str]) -> Output:
    from xdptstamp.text.output import open_output

    return open_output(args[0], is_quiet=_QUIET in args)


if __name__ == "__main__":
    # Here, because the measuring process imports this module, and needs no Parquet library.
    from xdptstamp.store.recorder_process import main

    sys.exit(main(_open))
