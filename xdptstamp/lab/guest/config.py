# SPDX-License-Identifier: GPL-2.0-only
"""What a guest is asked to be, and what is fixed about each: names, addresses, what it sees."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xdptstamp.lab.guest import agent, kit
from xdptstamp.lab.guest.kernel import NEEDED, Kernel, find_kernel
from xdptstamp.lab.guest.nics import NICS, SLOTS, NicKind

#: The interfaces of the virtual I226: the DUT's, the link partner's.
PORTS = NICS["i226"].ports
#: The link partner's namespace.
NETNS = "xdpt-partner"

_IPV4 = ("198.18.0.1", "198.18.0.2")
_IPV6 = ("fd78:6473::1", "fd78:6473::2")

# Linux before 7.0 never completes a zero-copy Tx of igc where a queue's Rx and Tx have an interrupt
# each, which is so with two CPUs: igc_xsk_wakeup kicks the Rx one.
_TWO_CPUS_SINCE = (7, 0)

# Over these the guest has file systems of its own.
_OWN = tuple(Path(name) for name in ("/tmp", "/run", "/var/tmp", "/dev"))
_PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """What to boot.

    :param kernel: a name of :data:`xdptstamp.lab.guest.KERNELS`, or the path of a bzImage.
    :param modules: the folder of its modules; default: see
        :func:`xdptstamp.lab.guest.kernel.find_kernel`.
    :param nic: a name of :data:`xdptstamp.lab.guest.NICS`.
    :param num_ports: 0, 1 or 2 (then the second is the link partner, in a namespace of its own).
    :param num_cpus: default: 2, or 4 for kernels whose igc needs them.
    :param memory: in bytes.
    :param boot_timeout_s: from start to the first command.
    :param output_dir: the folder that the guest can write to; default: ``XDPTSTAMP_OUTPUT_DIR``,
        else ``results``.
    :param truth: where the virtual I226 notes what really happened; default: a file that is gone
        with the guest.
    :param device_options: further words for the virtual I226's command line.
    :param qemu: the words that start QEMU; default: see :func:`xdptstamp.lab.guest.kit.find_qemu`.
    """

    kernel: str = "recent"
    modules: Path | None = None
    nic: str = "i226"
    num_ports: int = 2
    num_cpus: int | None = None
    memory: int = 512 << 20
    boot_timeout_s: float = 60
    output_dir: Path | None = None
    truth: Path | None = None
    device_options: Sequence[str] = field(default=())
    qemu: Sequence[str] = field(default=())

    @property
    def nic_kind(self) -> NicKind:
        """The NIC that is meant."""
        return NICS[self.nic]

    @property
    def needed(self) -> Mapping[str, str | None]:
        """What the guest takes of its kernel: option, and the module that has it."""
        return {**NEEDED, **{need.option: need.module for need in self.nic_kind.needs}}

    def __post_init__(self) -> None:
        if not self.nic_kind.is_served and (self.truth or self.device_options):
            raise ValueError(f"truth and device_options are of the virtual I226, not of {self.nic}")

    def find_kernel(self) -> Kernel:
        """The kernel that is meant.

        :raises SetupError: It is not there.
        """
        if self.kernel in kit.KERNELS:
            return kit.kit_kernel(self.kernel, self.needed, self.modules)
        return find_kernel(Path(self.kernel), self.modules)

    def cpus_for(self, kernel: Kernel) -> int:
        """How many CPUs the guest gets."""
        needs_four = self.nic_kind.driver == "igc" and kernel.version < _TWO_CPUS_SINCE
        return self.num_cpus or (4 if needs_four else 2)

    @property
    def writable(self) -> Path:
        """The folder that the guest can write to."""
        named = self.output_dir or os.environ.get("XDPTSTAMP_OUTPUT_DIR") or "results"
        return Path(named).absolute()

    @property
    def environ(self) -> dict[str, str]:
        """What names the link, and the folder for runs, to every command in the guest."""
        named = {"XDPTSTAMP_OUTPUT_DIR": str(self.writable)}
        if self.num_ports:
            named |= {"NETIF": self.nic_kind.ports[0], "LOCAL_V4": _IPV4[0], "LOCAL_V6": _IPV6[0]}
        if self.num_ports == 2:
            named |= {"REMOTE_V4": _IPV4[1], "REMOTE_V6": _IPV6[1]}
            named |= {"REMOTE_TYPE": "netns", "REMOTE_ARGS": NETNS}
        return named

    def init_settings(self, kernel: Kernel) -> dict[str, str]:
        """The shell variables of the init script."""
        settings = {
            "PYTHON": sys.executable,
            "AGENT": agent.__file__,
            "NETNS": NETNS,
            "WRITABLE": str(self.writable),
            "SHOWN": "\n".join(map(str, _to_be_shown())),
            "MODULES_DIR": str(kernel.modules or ""),
            "DRIVER": self.nic_kind.driver,
            "NIC_NEEDS": " ".join(f"{need.option}:{need.path}" for need in self.nic_kind.needs),
        }
        for number, (name, slot) in enumerate(zip(self.nic_kind.ports, SLOTS, strict=True)):
            words = f"{slot} {name} {_IPV4[number]}/30 {_IPV6[number]}/64"
            settings[f"PORT_{number}"] = words if number < self.num_ports else ""
        return settings


def _to_be_shown() -> list[Path]:
    # Of what a command needs, that which lies below a folder that the guest has its own of.
    needed = [Path.cwd(), _PACKAGE.parent, *map(Path, (sys.prefix, sys.base_prefix, *sys.path))]
    absolute = {path.absolute() for path in needed if path.is_dir()}
    hidden = sorted(path for path in absolute if any(own in path.parents for own in _OWN))
    return [path for path in hidden if not any(other in path.parents for other in hidden)]


def compile_modules() -> None:
    """Write the .pyc files of this project, where they can be and are not there.

    The guest cannot write them, and compiling takes long on an emulated CPU.
    """
    import compileall

    compileall.compile_dir(_PACKAGE, quiet=2, workers=1)
