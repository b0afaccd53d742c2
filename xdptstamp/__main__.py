# SPDX-License-Identifier: GPL-2.0-only
"""``python -m xdptstamp``."""

from xdptstamp.cli.main import main

if __name__ == "__main__":
    main()
