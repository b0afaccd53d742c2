# SPDX-License-Identifier: GPL-2.0-only
"""What ``scripts/guest_kit`` has put into the cache: kernels, busybox, QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from xdptstamp.errors import SetupError, UnsupportedError
from xdptstamp.lab.guest.kernel import Kernel, check, find_kernel

#: Names of the kernels that the kit has.
KERNELS = ("recent", "6.12")

_PROJECT = Path(__file__).parents[3]
_PROGRAM = "qemu-system-x86_64"
_DEVICE = '"vfio-user-pci"'


def kit_dir() -> Path:
    """The folder of the kit: below ``XDPTSTAMP_CACHE_DIR``, else below ``.cache`` of the source."""
    cache = os.environ.get("XDPTSTAMP_CACHE_DIR")
    return (Path(cache) if cache else _PROJECT / ".cache").absolute() / "guest"


def kit_kernel(name: str, needed: Mapping[str, str | None], modules: Path | None = None) -> Kernel:
    """A kernel of :data:`KERNELS`.

    :param needed: as :data:`xdptstamp.lab.guest.kernel.NEEDED`.
    :raises SetupError: It has not been fetched, or by an older kit, which had fewer modules.
    """
    folder = kit_dir() / f"kernel-{name}"
    command = f"scripts/guest_kit {name}"
    if not folder.is_dir():
        raise _missing(f"kernel {name}", folder, command)
    if modules is not None:
        return find_kernel(folder / "vmlinuz", modules)
    kernel = find_kernel(folder / "vmlinuz", folder)
    try:
        check(kernel, needed)
    except UnsupportedError as error:
        raise _missing(f"kernel {name} with {error.needs}", folder, command) from None
    return kernel


def busybox() -> Path:
    """The static busybox that runs the guest's first process.

    :raises SetupError: It has not been fetched.
    """
    path = kit_dir() / "busybox"
    if not path.is_file():
        raise _missing("busybox", path, "scripts/guest_kit")
    return path


def _missing(what: str, path: Path, command: str) -> SetupError:
    advice = f"fetch it with: {command} (once; it needs no privilege)"
    return SetupError("lab guest", f"no {what} in the cache ({path}); {advice}")


def find_qemu() -> list[str]:
    """The words that start a QEMU which has ``vfio-user-pci``: this machine's, else the kit's.

    :raises UnsupportedError: This machine's has not, and there is none in the kit.
    :raises SetupError: There is none at all.
    """
    system = shutil.which(_PROGRAM)
    if system and _DEVICE in _output([system, "-device", "help"]):
        return [system]
    folder = kit_dir() / "qemu"
    if folder.is_dir():
        # Through the loader that it was linked for: this machine's C library may be older.
        libs = folder / "lib"
        loader = [str(libs / "ld-linux-x86-64.so.2"), "--library-path", str(libs)]
        return [*loader, str(folder / _PROGRAM), "-L", str(folder / "share")]
    if system:
        version = (_output([system, "--version"]).splitlines() or ["QEMU"])[0]
        needs = "QEMU >= 10.1 with vfio-user-pci (scripts/guest_kit fetches one)"
        raise UnsupportedError("lab guest", needs, f"{version} ({system}) without it")
    raise _missing("QEMU", folder, "scripts/guest_kit")


def _output(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout
