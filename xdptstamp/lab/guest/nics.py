# SPDX-License-Identifier: GPL-2.0-only
"""The NICs that a guest can have: the virtual I226, and those that QEMU emulates itself.

QEMU's own have no device server and no notes of what really happened. Their wire is a socket with
both ends in QEMU. A hub would do as well, but for its order: of packets that wait for a NIC it
hands on those first that came last (net_hub_flush in qemu_flush_or_purge_queued_packets).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Slots of PCI bus 0; the init script finds a NIC by its own. The virtual functions of an igb take
# two slots, from sixteen above its own on: so two ports do not stand side by side.
SLOTS = (4, 6)


@dataclass(frozen=True, slots=True)
class Need:
    """What a NIC takes of the kernel.

    :param option: that it is built with.
    :param module: that has it where it is not built in.
    :param path: what is in the guest's /sys when it is there.
    """

    option: str
    module: str
    path: str


@dataclass(frozen=True, slots=True)
class NicKind:
    """A NIC that a guest can have, or two, of which the second is the link partner's.

    :param driver: of the kernel.
    :param ports: names of the interfaces.
    :param device: QEMU's device and its properties; None: the device server is the NIC.
    """

    name: str
    driver: str
    ports: tuple[str, str]
    needs: tuple[Need, ...]
    device: Mapping[str, Any] | None = field(default=None)

    @property
    def is_served(self) -> bool:
        """Whether the device server is the NIC: it takes commands, and notes the truth."""
        return self.device is None

    def qemu_words(self, num_ports: int, folder: Path) -> list[list[str]]:
        """The words of QEMU's command line for each port.

        :param folder: has the sockets of the device server, where that is the NIC, or is to have
            that of the wire.
        """
        return [self._port_words(number, num_ports, folder) for number in range(num_ports)]

    def _port_words(self, number: int, num_ports: int, folder: Path) -> list[str]:
        words = []
        if self.device is None:
            path = str(served_socket(folder, number))
            device = {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": path}}
        else:
            name = f"port{number}"
            device = {**self.device, "netdev": name, "mac": _MAC.format(number)}
            addr = {"type": "unix", "path": str(folder / "wire.sock")}
            # QEMU binds and connects in threads of their own, and gives up where nobody listens
            # yet: a wire that carries nothing. The end that connects comes first, so that each
            # boot proves that it tries again.
            end = {"server": True} if number else {"server": False, "reconnect-ms": 10}
            # A socket has no carrier before both its ends are there; a hub alone has.
            wire = (
                {"type": "stream", "addr": addr} | end
                if num_ports == 2
                else {"type": "hubport", "hubid": 0}
            )
            words = ["-netdev", json.dumps({**wire, "id": name})]
        return [*words, "-device", json.dumps(device | {"addr": f"{SLOTS[number]:x}"})]


def served_socket(folder: Path, number: int) -> Path:
    """Where the device server listens for one port."""
    return folder / f"port{number}.sock"


_MAC = "02:78:64:22:06:{:02x}"
_PTP = Need("CONFIG_PTP_1588_CLOCK", "ptp", "/sys/class/ptp")


def _pci(module: str) -> Need:
    return Need(f"CONFIG_{module.upper()}", module, f"/sys/bus/pci/drivers/{module}")


_KINDS: Sequence[NicKind] = (
    NicKind("i226", "igc", ("igc0", "igc1"), (_PTP, _pci("igc"))),
    # No firmware of its own to boot from the network.
    NicKind("igb", "igb", ("igb0", "igb1"), (_PTP, _pci("igb")), {"driver": "igb", "romfile": ""}),
    NicKind(
        "virtio",
        "virtio_net",
        ("virtio0", "virtio1"),
        (Need("CONFIG_VIRTIO_NET", "virtio_net", "/sys/bus/virtio/drivers/virtio_net"),),
        {
            "driver": "virtio-net-pci",
            "romfile": "",
            # Else the driver does not map memory by the DMA API, and refuses zero-copy.
            "disable-legacy": "on",
            "iommu_platform": True,
        },
    ),
)

#: By the name that ``--nic`` takes.
NICS = {kind.name: kind for kind in _KINDS}
