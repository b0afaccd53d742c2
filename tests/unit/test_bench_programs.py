# SPDX-License-Identifier: GPL-2.0-only
"""The C programs of the benchmarks compile without a warning, and once."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "scripts" / "benchmarks" / "c").glob("*.c"))


@pytest.fixture
def programs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDPTSTAMP_CACHE_DIR", str(tmp_path))
    path = ROOT / "scripts" / "benchmarks" / "_c.py"
    spec = importlib.util.spec_from_file_location("bench_programs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", [source.stem for source in SOURCES])
def test_it_compiles_and_says_how_it_is_used(programs, name):
    program = programs.build(name)
    assert programs.build(name) == program
    assert len(list(program.parent.iterdir())) == 1
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {name} ")


def test_no_compiler_is_said(programs, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SystemExit, match="no C compiler"):
        programs.build("sender")
