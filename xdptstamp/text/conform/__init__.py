# SPDX-License-Identifier: GPL-2.0-only
"""What a driver made of the metadata contract, as text; one module per form.

- ``output``: :func:`~xdptstamp.text.conform.output.open_output`, what ``--format`` offers.
- ``table``, ``ktap``, ``junit``: these forms.
- ``rules``: the rules themselves, as a list and in full.
- ``matrix``: several results side by side, in Markdown.
"""
