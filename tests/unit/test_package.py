# SPDX-License-Identifier: GPL-2.0-only
"""The package as its users get it: built, installed without a compiler, and quick to start."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "pandas", "pyarrow", "pyroute2", "matplotlib")
BPF_OBJECT = "xdptstamp/_bpf/xdptstamp.bpf.o"


def run(*command, **options):
    """Run a command; its output is what a failing test shows."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(*arguments, **options):
    return run(sys.executable, "-m", "pip", *arguments, **options)


def copy_source(target):
    """Copy what a build needs, without what earlier builds left in the working tree."""
    for name in ("bpf", "scripts", "xdptstamp"):
        ignore = shutil.ignore_patterns("__pycache__", "_bpf")
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", ".gitignore"):
        shutil.copy(ROOT / name, target)
    return target


def build_wheel(source, target):
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    pip("wheel", *options, "--wheel-dir", target, source)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = copy_source(tmp_path_factory.mktemp("source"))
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def required_distributions(requirements, extra=""):
    """Return the names of all distributions that ``requirements`` need, as installed here."""
    names = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        marker = requirement.marker
        if requirement.name in names or (marker and not marker.evaluate({"extra": extra})):
            continue
        names.add(requirement.name)
        waiting += map(Requirement, importlib.metadata.requires(requirement.name) or ())
    return names


def lend(names, site_packages):
    """Link the files of installed distributions into another environment."""
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files if file.parts[0] != ".."}:
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(distribution.locate_file(top))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel and what it declares to need, and nothing else.

    The dependencies are links to those of this environment: no network, no ten seconds of copying.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    env = {"PATH": str(folder / "bin"), "HOME": str(folder)}
    pip("--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, env=env)
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    (metadata,) = importlib.metadata.distributions(name="xdptstamp", path=[str(site_packages)])
    lend(required_distributions(metadata.requires), site_packages)
    return folder, env


def test_wheel_installed_without_clang_runs(installed, tmp_path):
    folder, env = installed
    assert not any(shutil.which(name, path=env["PATH"]) for name in ("clang", "clang-14", "cc"))
    text = run(folder / "bin/xdptstamp", "--help", cwd=tmp_path, env=env)
    assert "ping-pong" in text


def test_installed_wheel_finds_its_bpf_object(installed, tmp_path):
    folder, env = installed
    program = (
        "import importlib.resources, xdptstamp\n"
        "print(xdptstamp.__file__)\n"
        "folder = importlib.resources.files('xdptstamp') / '_bpf'\n"
        "data = (folder / 'xdptstamp.bpf.o').read_bytes()\n"
        "print(data[:4], int.from_bytes(data[18:20], 'little'))\n"
    )
    where, what = run(folder / "bin/python", "-c", program, cwd=tmp_path, env=env).splitlines()
    assert where.startswith(str(folder))
    assert what == "b'\\x7fELF' 247"  # EM_BPF


def test_every_module_imports_with_what_the_wheel_requires(installed, tmp_path):
    folder, env = installed
    program = (
        "import importlib, pkgutil, xdptstamp\n"
        "for module in pkgutil.walk_packages(xdptstamp.__path__, 'xdptstamp.'):\n"
        "    if module.name != 'xdptstamp.pytest_plugin':  # pytest itself loads it\n"
        "        importlib.import_module(module.name)\n"
        "        print(module.name)\n"
    )
    names = run(folder / "bin/python", "-W", "error", "-c", program, cwd=tmp_path, env=env)
    assert "xdptstamp.errors" in names.split()


@pytest.mark.parametrize("words", [(), ("-p", "xdptstamp.pytest_plugin")], ids=["alone", "and -p"])
def test_installed_wheel_gives_pytest_its_fixtures(installed, tmp_path, words):
    folder, env = installed
    (tmp_path / "lent").mkdir()
    lend(required_distributions(["pytest"]), tmp_path / "lent")
    (tmp_path / "test_user.py").write_text("def test_one(xsk): pass\n")
    text = run(
        *(folder / "bin/python", "-W", "error", "-m", "pytest", "-rs", *words, "test_user.py"),
        cwd=tmp_path,
        env={**env, "PYTHONPATH": tmp_path / "lent"},
    )
    assert "plugins: xdptstamp-" in text
    assert "no interface to test: name one with --xdptstamp-ifname or NETIF" in text


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl")
    assert BPF_OBJECT in names
    assert "xdptstamp/drivers.toml" in names
    assert "xdptstamp/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert {re.sub(r"-[\d.]+\d", "", top) for top in tops} == {"xdptstamp", "xdptstamp.dist-info"}
    assert [name for name in names if "/_bpf/" in name] == [BPF_OBJECT]


def test_two_builds_in_different_folders_are_the_same_bytes(wheel, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    again = build_wheel(copy_source(tmp_path / "elsewhere"), tmp_path)
    assert again.read_bytes() == wheel.read_bytes()


def test_bpf_object_names_no_folder_of_the_builder(wheel):
    data = zipfile.ZipFile(wheel).read(BPF_OBJECT)
    paths = {path.decode() for path in re.findall(rb"(?<![\w/])\.?/[\w.+-]+(?:/[\w.+-]+)+", data)}
    assert "./bpf/xdptstamp.bpf.c" in paths
    known = ("./bpf/", "/usr/include/", "/usr/lib/")
    assert [path for path in paths if not path.startswith(known)] == []


def test_sdist_builds_the_same_wheel(wheel, tmp_path):
    command = (sys.executable, "-m", "hatchling", "build", "--target", "sdist")
    (tmp_path / "source").mkdir()
    run(*command, "--directory", tmp_path, cwd=copy_source(tmp_path / "source"))
    (archive,) = tmp_path.glob("*.tar.gz")
    (tmp_path / "unpacked").mkdir()
    run("tar", "-xf", archive, "-C", tmp_path / "unpacked")
    (source,) = (tmp_path / "unpacked").iterdir()
    again = build_wheel(source, tmp_path / "wheel")
    assert again.read_bytes() == wheel.read_bytes()


def build_with(path, source):
    command = (sys.executable, "scripts/build_bpf.py")
    env = {"PATH": str(path)}
    return subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, check=False)


def test_missing_clang_is_one_clear_message(tmp_path):
    (tmp_path / "source").mkdir()
    done = build_with(tmp_path, copy_source(tmp_path / "source"))
    assert done.returncode == 1
    assert "clang is not on the PATH" in done.stderr
    assert "apt-get install clang-14 libbpf-dev" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_bpf_source_shows_what_clang_says_and_keeps_the_old_object(tmp_path):
    source = copy_source(tmp_path)
    old = source / BPF_OBJECT
    old.parent.mkdir()
    old.write_bytes(b"old")
    (source / "bpf/xdptstamp.bpf.c").write_text("int broken(void) { return nowhere; }\n")
    done = build_with(os.environ["PATH"], source)
    assert done.returncode == 1
    assert "undeclared identifier 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(old.parent.iterdir()) == [old]
    assert old.read_bytes() == b"old"


def loaded_modules(program):
    ending = "\nimport json, sys\nprint(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    return json.loads(run(sys.executable, "-c", program + ending).splitlines()[-1])


def test_import_stays_light():
    assert not set(HEAVY) & set(loaded_modules("import xdptstamp"))


def test_help_stays_light():
    program = (
        "import sys\n"
        "from xdptstamp.cli.main import main\n"
        "sys.argv = ['xdptstamp', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
    )
    loaded = set(loaded_modules(program))
    assert "click" in loaded
    assert not set(HEAVY) & loaded
