# SPDX-License-Identifier: GPL-2.0-only
"""The kernel of a guest: which one, its modules, and what it lacks, known before it is booted."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import subprocess
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xdptstamp.errors import SetupError, UnsupportedError

#: What every guest takes: option, and the module that has it where it is not built in.
NEEDED: Mapping[str, str | None] = {
    "CONFIG_BLK_DEV_INITRD": None,
    "CONFIG_DEVTMPFS": None,
    "CONFIG_SERIAL_8250_CONSOLE": None,
    "CONFIG_VIRTIO_PCI": "virtio_pci",
    "CONFIG_VIRTIO_CONSOLE": "virtio_console",
    "CONFIG_NET_9P_VIRTIO": "9pnet_virtio",
    "CONFIG_9P_FS": "9p",
    "CONFIG_XDP_SOCKETS": None,
    "CONFIG_BPF_SYSCALL": None,
    "CONFIG_DEBUG_INFO_BTF": None,
}

# In the header of a bzImage (Documentation/arch/x86/boot.rst): where the version string lies.
_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_VERSION_AT, _VERSION_BASE = 0x20E, 0x200

# CONFIG_IKCONFIG puts the gzipped config between these (kernel/configs.c).
_IKCONFIG = re.compile(rb"IKCFG_ST(\x1f\x8b.*?)IKCFG_ED", re.DOTALL)
_MAX_VMLINUX = 1 << 30


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel to boot.

    :param image: the bzImage.
    :param release: as ``uname -r`` has it.
    :param modules: its ``lib/modules/RELEASE``; None: all is built in.
    """

    image: Path
    release: str
    modules: Path | None

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number."""
        numbers = re.match(r"([0-9]+)\.([0-9]+)", self.release)
        return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def find_kernel(image: Path, modules: Path | None = None) -> Kernel:
    """The kernel in that file.

    :param modules: its modules' folder, or a root that has it (``make modules_install
        INSTALL_MOD_PATH=...``); default: beside the image, else those of this machine, if any.
    :raises SetupError: No such file, no bzImage, no modules where they were said to be.
    """
    try:
        with image.open("rb") as file:
            head = file.read(0x10000)
    except OSError as error:
        raise SetupError(str(image), f"cannot be read: {error.strerror}") from None
    if head[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
        raise SetupError(
            str(image), "is no bzImage of x86 (arch/x86/boot/bzImage of a kernel build)"
        )
    start = int.from_bytes(head[_VERSION_AT : _VERSION_AT + 2], "little") + _VERSION_BASE
    release = head[start:].split(b"\0", 1)[0].split(b" ", 1)[0].decode(errors="replace")
    return Kernel(image.resolve(), release, _find_modules(image.resolve(), release, modules))


def _find_modules(image: Path, release: str, named: Path | None) -> Path | None:
    if named is not None:
        for folder in (named / "lib/modules" / release, named):
            if (folder / "modules.dep").is_file():
                return folder.resolve()
        advice = "`make modules_install INSTALL_MOD_PATH=DIR` or depmod makes it"
        raise SetupError(str(named), f"has no modules.dep for {release}; {advice}")
    places = (image.parent, image.parent / "lib/modules" / release, Path("/lib/modules", release))
    return next((place.resolve() for place in places if (place / "modules.dep").is_file()), None)


def check(kernel: Kernel, needed: Mapping[str, str | None]) -> None:
    """Refuse a kernel whose config or modules say that it cannot run the guest.

    Where no config is at hand the kernel is not refused: the guest looks for itself.

    :param needed: as :data:`NEEDED`.
    :raises UnsupportedError: Names all that is lacking.
    """
    config = read_config(kernel)
    if config is None:
        return
    lacking = []
    files = _module_files(kernel)
    for option, module in needed.items():
        value = config.get(option, "n")
        if value == "m" and module not in files:
            where = kernel.modules or "no folder of modules"
            lacking.append(f"{option} (a module that is not in {where})")
        elif value not in {"y", "m"}:
            lacking.append(option)
    if lacking:
        raise lacks(kernel, lacking)


def lacks(kernel: Kernel, options: Iterable[str]) -> UnsupportedError:
    """The error that names what the kernel was built without."""
    found = f"Linux {kernel.release} ({kernel.image}) without"
    return UnsupportedError("a guest with this kernel", ", ".join(options), found)


def read_config(kernel: Kernel) -> dict[str, str] | None:
    """The options the kernel was built with; None if no config is at hand.

    Looked for beside the image, in a kernel build's tree, with the modules and in the image.
    """
    folder, image = kernel.image.parent, kernel.image
    places = [folder / f"config-{kernel.release}", folder / "config"]
    if image.parts[-4:-1] == ("arch", "x86", "boot"):
        places.append(image.parents[3] / ".config")
    if kernel.modules is not None:
        places += [kernel.modules / "config", kernel.modules / "build/.config"]
    for place in places:
        try:
            return _parse(place.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue  # not there, or a link to a tree that is gone
    found = _IKCONFIG.search(_unpacked(image.read_bytes()))
    return None if found is None else _parse(gzip.decompress(found[1]).decode(errors="replace"))


def unpack(kernel: Kernel) -> bytes | None:
    """The kernel proper, an ELF file that QEMU can start; None where it cannot, or we cannot.

    An emulated CPU would take seconds to unpack it. QEMU enters it as a PVH guest.
    """
    config = read_config(kernel)
    if config is None or config.get("CONFIG_PVH") != "y":
        return None
    return _unpacked(kernel.image.read_bytes()) or None


def _parse(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _unpacked(image: bytes) -> bytes:
    # The kernel proper is in the image in one of several formats, at a place that only its first
    # bytes tell; b"" if no way leads to it.
    for magic, unpack in _UNPACKERS.items():
        at = image.find(magic)
        while at >= 0:
            data = unpack(image[at:])
            if data[:4] == b"\x7fELF":
                return data
            at = image.find(magic, at + 1)
    return b""


def _by(maker: Callable[[], object]) -> Callable[[bytes], bytes]:
    def unpack(data: bytes) -> bytes:
        try:
            return maker().decompress(data, _MAX_VMLINUX)  # type: ignore[attr-defined,no-any-return]
        except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
            return b""

    return unpack


def _by_program(*argv: str) -> Callable[[bytes], bytes]:
    def unpack(data: bytes) -> bytes:
        try:
            return subprocess.run(argv, input=data, capture_output=True, check=False).stdout
        except FileNotFoundError:
            return b""

    return unpack


_UNPACKERS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x28\xb5\x2f\xfd": _by_program("zstd", "-dcq"),
    b"\xfd7zXZ\0": _by(lzma.LZMADecompressor),
    b"\x1f\x8b\x08": _by(lambda: zlib.decompressobj(wbits=31)),
    b"BZh": _by(bz2.BZ2Decompressor),
    b"\x02\x21\x4c\x18": _by_program("lz4", "-dcq"),
    b"\x5d\0\0": _by(lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE)),
}


def _module_files(kernel: Kernel) -> dict[str, Path]:
    return {name: path for name, (path, _) in _dependencies(kernel).items()}


def _dependencies(kernel: Kernel) -> dict[str, tuple[Path, list[str]]]:
    # From modules.dep: name of the module, its file, the names of those that it needs.
    if kernel.modules is None:
        return {}
    found = {}
    for line in (kernel.modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        file, _, needs = line.partition(":")
        found[_name(file)] = kernel.modules / file, [_name(need) for need in needs.split()]
    return found


def _name(file: str) -> str:
    return os.path.basename(file).split(".ko", 1)[0].replace("-", "_")


def modules_to_load(kernel: Kernel, needed: Mapping[str, str | None]) -> list[tuple[str, bytes]]:
    """Name and contents (unpacked) of the modules that boot takes, each after those it needs.

    What is not there is taken to be built in; the guest says so if it is not.

    :param needed: as :data:`NEEDED`.
    :raises SetupError: A module cannot be read or unpacked.
    """
    known = _dependencies(kernel)
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in known and name not in order:
            for need in reversed(known[name][1]):
                visit(need)
            order[name] = None

    for module in needed.values():
        if module:
            visit(module)
    return [(name, _read_module(known[name][0])) for name in order]


def _read_module(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".gz":
            return gzip.decompress(data)
        if path.suffix == ".zst":
            return subprocess.run(
                ["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True
            ).stdout
        return data
    except (OSError, lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise SetupError(str(path), f"the module cannot be read: {error}") from None
