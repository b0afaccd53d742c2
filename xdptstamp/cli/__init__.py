# SPDX-License-Identifier: GPL-2.0-only
"""The commands: one small file each; they wire what measures to what stores and shows."""
