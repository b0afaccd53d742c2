# SPDX-License-Identifier: GPL-2.0-only
"""Compile ``bpf/*.bpf.c`` to ``xdptstamp/_bpf/*.bpf.o``.

The build of the package runs it (a hatchling hook), so that the wheel carries the objects and who
installs it needs no clang. ``python scripts/build_bpf.py`` does the same in the working tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run by hand, outside a build

    class BuildHookInterface:  # type: ignore[no-redef]
        """Stands in for hatchling's class, which a run by hand does not need."""


#: In order of preference; ``CLANG`` in the environment comes before all of them.
CLANGS = ("clang", *(f"clang-{version}" for version in range(22, 13, -1)))

# Little-endian on every builder, so that all builds of one source are one wheel. The debug
# information is there for BTF, and BTF names source files: relative ones, or it would carry the
# folder it was built in to everybody who installs the wheel.
FLAGS = ("-target", "bpfel", "-O2", "-g", "-Wall", "-Werror")


class BuildError(Exception):
    """The objects could not be built; the message says what is missing."""


def find_clang() -> str:
    """Return the path of a clang that can compile for BPF.

    :raises BuildError: there is none.
    """
    wanted = os.environ.get("CLANG")
    for name in (wanted,) if wanted else CLANGS:
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(
        f"cannot compile bpf/: {wanted or 'clang'} is not on the PATH. Install clang 14 or newer "
        "and libbpf-dev (Debian: apt-get install clang-14 libbpf-dev linux-libc-dev), or install "
        "a wheel of xdptstamp, which needs neither."
    )


def find_multiarch_include() -> list[str]:
    """Return the option for ``asm/types.h``, which Debian keeps in a folder per architecture."""
    folders = sorted(Path("/usr/include").glob(f"{os.uname().machine}-linux-gnu*"))
    return [f"-I{folder}" for folder in folders if (folder / "asm/types.h").exists()][:1]


def compile_object(root: Path, source: Path, target: Path) -> None:
    """Compile one BPF source file.

    :param root: the project; paths in the object are relative to it.
    :param source: relative to ``root``.
    :param target: replaced in one step, so that a program starting now sees the old or the new.
    :raises BuildError: clang is missing or refuses the source.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / target.name
        command = [find_clang(), *FLAGS, *find_multiarch_include()]
        command += [f"-fdebug-prefix-map={root}=.", "-fdebug-compilation-dir=."]
        command += ["-c", str(source), "-o", str(fresh)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{' '.join(command)} failed:\n{done.stderr.rstrip()}")
        fresh.replace(target)


def build(root: Path) -> dict[Path, str]:
    """Compile all BPF sources.

    :return: each object with its path in the wheel.
    """
    sources = sorted((root / "bpf").glob("*.bpf.c"))
    if not sources:
        raise BuildError(f"{root / 'bpf'}: no *.bpf.c there; the source tree is incomplete")
    objects = {}
    for source in sources:
        path = f"xdptstamp/_bpf/{source.name.removesuffix('.c')}.o"
        compile_object(root, source.relative_to(root), root / path)
        objects[root / path] = path
    return objects


class BpfBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    """Puts the objects into the wheel; an editable install finds them in the working tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files of the wheel are collected."""
        if self.target_name != "wheel":
            return
        try:
            objects = build(Path(self.root))
        except BuildError as error:
            self.app.abort(str(error))
        if version != "editable":
            build_data["force_include"].update({str(path): at for path, at in objects.items()})


if __name__ == "__main__":
    try:
        build(Path(__file__).resolve().parent.parent)
    except BuildError as error:
        sys.exit(str(error))
