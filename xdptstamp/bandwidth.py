# SPDX-License-Identifier: GPL-2.0-only
"""What the rounds of a ``mixed`` run amount to: rates, ratios to the baseline, books."""
