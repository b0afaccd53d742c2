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


if __name__ == "__main__":
    # Here, because the measuring process imports this module, and needs neither. All at once, while
    # that process does other things.
    from xdptstamp.store.recorder_process import main
    from xdptstamp.text.output import open_output

    def _open(args: Sequence[str]) -> Output:
        return open_output(args[0], is_quiet=_QUIET in args)

    sys.exit(main(_open))
