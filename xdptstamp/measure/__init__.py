# SPDX-License-Identifier: GPL-2.0-only
"""Measurements: each yields samples and counts; none prints or writes files."""
