# SPDX-License-Identifier: GPL-2.0-only
"""Runs as text, one module per form: a table, JSON lines, the lines of ``xdp_hw_metadata``."""
