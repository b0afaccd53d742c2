# SPDX-License-Identifier: GPL-2.0-only
"""The C programs that benchmarks hold ours against, compiled when they are needed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = Path(__file__).resolve().parent / "c"
_FLAGS = (
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-I",
    str(_ROOT / "bpf"),
)


def build(name: str) -> Path:
    """Compile ``c/NAME.c`` into the cache, unless it is there; returns the program.

    :raises SystemExit: No C compiler, or it refuses.
    """
    compiler = _compiler()
    source = _SOURCES / f"{name}.c"
    program = _cache() / f"{name}-{_stamp(compiler, source)}"
    if not program.exists():
        unfinished = program.with_suffix(f".{os.getpid()}")
        done = subprocess.run([compiler, *_FLAGS, "-o", unfinished, source], check=False)
        if done.returncode != 0:
            raise SystemExit(f"bench: {compiler} could not compile {source}")
        unfinished.replace(program)
    return program


def _compiler() -> str:
    # scripts/setup wants a clang for bpf/ anyway.
    wanted = (os.environ["CC"],) if os.environ.get("CC") else ("cc", "clang", "clang-14")
    for name in wanted:
        if shutil.which(name):
            return name
    raise SystemExit(f"bench: no C compiler ({' '.join(wanted)}); apt-get install gcc libc6-dev")


def _cache() -> Path:
    folder = Path(os.environ.get("XDPTSTAMP_CACHE_DIR") or _ROOT / ".cache") / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stamp(compiler: str, source: Path) -> str:
    # What the program is made of: another source is another program.
    parts = [source, *sorted(_SOURCES.glob("*.h")), *sorted((_ROOT / "bpf").glob("*.h"))]
    content = b"".join(part.read_bytes() for part in parts)
    return hashlib.sha256(" ".join((compiler, *_FLAGS)).encode() + content).hexdigest()[:12]
