# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp caps``: what a machine, its kernel and a NIC can do, before a run."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from xdptstamp.assess import Conclusion
    from xdptstamp.finding import Facts, Section

SCHEMA_VERSION = 1
_COLOURS = {"ok": "green", "doubt": "yellow", "lacks": "red"}


@click.command("caps")
@click.argument("ifname", envvar="NETIF", required=False)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(("table", "json")),
    default="table",
    show_default=True,
    help="What is printed.",
)
def command(ifname: str | None, output_format: str) -> None:
    """Say what this machine, its kernel and the NIC IFNAME can do, and what to do about the rest.

    Nothing is changed. Without IFNAME (or NETIF): the machine, and each interface in a line.
    What takes privilege to read is named.
    """
    from xdptstamp.assess import assess_interface, assess_interfaces, assess_machine, conclude
    from xdptstamp.caps import read_interface, read_interfaces, read_machine
    from xdptstamp.nic import Nic

    if ifname:
        found = [read_interface(Nic(ifname))]
        interface: Facts | None = found[0]
        about = assess_interface(found[0])
    else:
        found = read_interfaces()
        interface, about = None, assess_interfaces(found)
    machine = read_machine()
    sections = [assess_machine(machine), about]
    conclusion = conclude(sections, interface)
    if output_format == "table":
        _print_table(ifname, sections, conclusion)
        return
    data = {
        "schema_version": SCHEMA_VERSION,
        "ifname": ifname or None,
        "conclusion": dataclasses.asdict(conclusion),
        "sections": [dataclasses.asdict(section) for section in sections],
        "facts": {
            "machine": dataclasses.asdict(machine),
            "interfaces": [dataclasses.asdict(each) for each in found],
        },
    }
    click.echo(json.dumps(data, indent=2))


def _print_table(ifname: str | None, sections: list[Section], conclusion: Conclusion) -> None:
    from xdptstamp.text.caps import caps_lines, conclusion_text

    has_colours = False if os.environ.get("NO_COLOR") else None  # None: on a terminal
    lines = caps_lines(
        sections,
        conclusion_text(conclusion, ifname),
        shutil.get_terminal_size().columns,
        lambda word, verdict: click.style(word, fg=_COLOURS[verdict]),
    )
    for line in lines:
        click.echo(line, color=has_colours)
