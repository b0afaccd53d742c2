# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp hwtstamp``: the NIC's timestamping setting, as ``hwstamp_ctl`` has it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from xdptstamp.cli._shown import format_option, show_facts

if TYPE_CHECKING:
    from xdptstamp.hwtset import Changed
    from xdptstamp.hwtstamp import NicHwtstamp

# As ethtool -T prints them; what a NIC has is `hwtstamp show`.
_TX_TYPES = ("off", "on", "onestep-sync", "onestep-p2p")
_RX_FILTERS = (
    "none all some ptpv1-l4-event ptpv1-l4-sync ptpv1-l4-delay-req ptpv2-l4-event ptpv2-l4-sync "
    "ptpv2-l4-delay-req ptpv2-l2-event ptpv2-l2-sync ptpv2-l2-delay-req ptpv2-event ptpv2-sync "
    "ptpv2-delay-req ntp-all"
).split()

_ifname = click.argument("ifname", envvar="NETIF", required=False)
_force = click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Also while a measurement uses it, or after somebody else changed it.",
)


@click.group("hwtstamp", short_help="Show, set and restore the NIC's timestamping setting.")
def command() -> None:
    """Show, set and restore which packets the NIC stamps (SIOCSHWTSTAMP)."""


@command.command("show")
@_ifname
@format_option
def show(ifname: str | None, output_format: str) -> None:
    """Show the setting of IFNAME, what it offers, and what `restore` would put back."""
    from xdptstamp.hwtset import kept_setting
    from xdptstamp.hwtstate import users_of

    device = _device(ifname)
    config, info, kept = device.get(), device.timestamping_info(), kept_setting(device)
    tx_types = _names(_TX_TYPES, info.tx_types if info else 0)
    rx_filters = _names(_RX_FILTERS, info.rx_filters if info else 0)
    phc_index = info.phc_index if info and info.phc_index >= 0 else None
    users = users_of(device.ifindex)
    facts = {
        "interface": device.ifname,
        "hwtstamp": str(config) if config else "none: its driver has no such setting",
        "Tx offered": " ".join(tx_types) or "none",
        "Rx offered": " ".join(rx_filters) or "none",
        "PHC": "none" if phc_index is None else f"/dev/ptp{phc_index}",
        "used by": ", ".join(f"process {pid}" for pid in users) or "no measurement",
        "to restore": str(kept) if kept else "nothing",
    }
    data = {
        "ifname": device.ifname,
        "hwtstamp": _json(config),
        "tx_types": tx_types,
        "rx_filters": rx_filters,
        "phc_index": phc_index,
        "users": users,
        "kept": _json(kept),
    }
    show_facts(facts, data, output_format)


@command.command("set")
@_ifname
@click.option(
    "--tx", type=click.Choice(_TX_TYPES), help="Sent packets that ask. Default: as it is."
)
@click.option("--rx", type=click.Choice(_RX_FILTERS), help="Received ones. Default: as it is.")
@_force
@format_option
def set_(
    ifname: str | None, tx: str | None, rx: str | None, is_forced: bool, output_format: str
) -> None:
    """Set which packets IFNAME stamps; what it was is kept in /run/xdptstamp for `restore`."""
    from xdptstamp.hwtset import change_setting

    if tx is None and rx is None:
        raise click.UsageError("Nothing to set: give --tx, --rx or both.")
    changed = change_setting(
        _device(ifname),
        None if tx is None else _TX_TYPES.index(tx),
        None if rx is None else _RX_FILTERS.index(rx),
        is_forced=is_forced,
    )
    _show_change(changed, output_format)


@command.command("restore")
@_ifname
@_force
@format_option
def restore(ifname: str | None, is_forced: bool, output_format: str) -> None:
    """Put back what was set on IFNAME before `hwtstamp set`, or before a measurement that was
    killed.
    """
    from xdptstamp.hwtset import restore_setting

    _show_change(restore_setting(_device(ifname), is_forced=is_forced), output_format)


def _device(ifname: str | None) -> NicHwtstamp:
    from xdptstamp.hwtstamp import NicHwtstamp
    from xdptstamp.nic import Nic

    if not ifname:
        raise click.UsageError("Missing argument 'IFNAME': the interface (or set NETIF).")
    return NicHwtstamp(Nic(ifname))


def _show_change(changed: Changed, output_format: str) -> None:
    facts = {"before": str(changed.before), "now": str(changed.after)}
    data = {"before": _json(changed.before), "after": _json(changed.after), "notes": changed.notes}
    show_facts(facts, data, output_format)
    for note in changed.notes:
        click.echo(f"note: {note}", err=True)


def _names(names: tuple[str, ...] | list[str], mask: int) -> list[str]:
    return [name for value, name in enumerate(names) if mask >> value & 1]


def _json(config: Any) -> dict[str, Any] | None:
    return None if config is None else {**dataclasses.asdict(config), "text": str(config)}
