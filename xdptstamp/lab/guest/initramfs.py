# SPDX-License-Identifier: GPL-2.0-only
"""The small file system that the kernel starts from: busybox, modules, the first process."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

_INIT = Path(__file__).with_name("init.sh")
_TRAILER = "TRAILER!!!"
_FOLDERS = ("bin", "dev", "proc", "sys", "run", "host", "new", "modules", "lib", "lib/modules")
# What the kernel calls (/proc/sys/kernel/modprobe).
_LINKS = {"sbin": "bin"}


def build_initramfs(
    busybox: Path, modules: Sequence[tuple[str, bytes]], settings: Mapping[str, str]
) -> bytes:
    """The archive.

    :param modules: name and contents, in the order of loading.
    :param settings: shell variables of the init script; newlines and quotes are fine.
    """
    names = " ".join(f"{name}.ko" for name, _ in modules)
    lines = [f"{key}={shlex.quote(value)}" for key, value in settings.items()]
    archive = _Archive()
    for folder in _FOLDERS:
        archive.add(folder, stat.S_IFDIR | 0o755)
    for link, target in _LINKS.items():
        archive.add(link, stat.S_IFLNK | 0o777, target.encode())
    archive.add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    archive.add("init", stat.S_IFREG | 0o755, _INIT.read_bytes())
    text = "\n".join([f"MODULES={shlex.quote(names)}", *lines, ""])
    archive.add("guest.conf", stat.S_IFREG | 0o644, text.encode("utf-8", "surrogateescape"))
    for name, data in modules:
        archive.add(f"modules/{name}.ko", stat.S_IFREG | 0o644, data)
    return archive.finish()


class _Archive:
    # cpio as the kernel reads it (Documentation/driver-api/early-userspace/buffer-format.rst).
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(self, name: str, mode: int, data: bytes = b"") -> None:
        self._count += 1
        path = name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [_padded(header + path), _padded(data)]

    def finish(self) -> bytes:
        self.add(_TRAILER, 0)
        return b"".join(self._parts)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
