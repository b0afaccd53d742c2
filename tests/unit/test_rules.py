# SPDX-License-Identifier: GPL-2.0-only
"""Rules of the design that a linter can be told, or that a test can look up in the source."""

import ast
import importlib
import pkgutil
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

import xdptstamp

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "xdptstamp"
TOP_LEVEL = {"pyproject.toml", "xdptstamp", "bpf", "scripts", "tests", "results", "README.md"}
MAX_LINES = 400
SPDX = "SPDX-License-Identifier: GPL-2.0-only"

# Taken apart, so that this file does not break its own rule.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:" + "work|root|home" + r")/\w|/tmp/" + r"t/")
REGISTRY_HOSTS = re.compile(
    "|".join(
        f"{name}\\.{domain}"
        for name, domain in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("deb.debian", "org"),
            ("npmjs", "org"),
            ("crates", "io"),
        )
    )
)


def project_files():
    """All files that are tracked or are to be; from an unpacked archive, all there are."""
    command = ("git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        names = done.stdout.split("\0")
    else:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    paths = [Path(name) for name in names if name and not ignored(Path(name))]
    return [path for path in paths if (ROOT / path).is_file()]


def ignored(path):
    return path.parts[0] in {".git", ".cache"} or "__pycache__" in path.parts


def texts():
    for path in project_files():
        if path.suffix not in {".parquet", ".o"}:
            yield path, (ROOT / path).read_text()


def modules():
    return [PACKAGE / path.relative_to("xdptstamp") for path in project_files() if is_module(path)]


def is_module(path):
    return path.parts[0] == "xdptstamp" and path.suffix == ".py"


def top_level_module(path):
    """The name below xdptstamp that the contracts know a module by."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def offences(pattern):
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_rules_look_at_the_whole_project():
    names = {str(path) for path in project_files()}
    assert {
        "pyproject.toml",
        "xdptstamp/errors.py",
        "bpf/xdptstamp.bpf.c",
        "scripts/setup",
    } <= names


def test_only_the_agreed_names_at_the_top():
    names = {path.parts[0] for path in project_files()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_no_path_of_a_machine():
    assert offences(MACHINE_PATHS) == []


def test_no_host_of_a_registry():
    assert offences(REGISTRY_HOSTS) == []


@pytest.mark.parametrize("line", ["cd /work/" + "x", "'/home/" + "me/x'", "/tmp" + "/t/v"])
def test_a_path_of_a_machine_would_be_found(line):
    assert MACHINE_PATHS.search(line)


def test_every_source_file_names_its_licence():
    suffixes = {".py", ".c", ".h", ""}
    sources = [(path, text) for path, text in texts() if path.suffix in suffixes]
    sources = [(path, text) for path, text in sources if text and path.name != ".gitignore"]
    assert [str(path) for path, text in sources if SPDX not in "".join(text.splitlines()[:2])] == []


def test_files_stay_short():
    long = {
        str(path): len(text.splitlines())
        for path, text in texts()
        if path.parts[0] != "tests"
        # What a run or a report wrote is as long as it is.
        and not (path.parts[0] == "results" and path.name != "README.md")
        and len(text.splitlines()) > MAX_LINES
    }
    assert long == {}


def imported_names(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_ctypes_only_in_sys():
    users = {
        path for path in modules() if "ctypes" in {n.split(".")[0] for n in imported_names(path)}
    }
    assert {top_level_module(path) for path in users} == {"_sys"}


@pytest.mark.parametrize("contract", ["sides", "sides-mirrored"])
def test_every_module_has_a_place_in_the_contracts(contract):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {each["id"]: each for each in settings["tool"]["importlinter"]["contracts"]}
    placed = set(re.findall(r"\w+", " ".join(contracts[contract]["layers"])))
    existing = {top_level_module(path) for path in modules()} - {"__init__", "__main__"}
    assert existing - placed == set()


def public_names(module):
    """What a module defines, and what a package re-exports."""
    tree = ast.parse(Path(module.__file__).read_text())
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return {name for name in names if not name.startswith("_")}


def modules_with_all():
    found = pkgutil.walk_packages(xdptstamp.__path__, "xdptstamp.")
    everything = [xdptstamp, *(importlib.import_module(each.name) for each in found)]
    return [module for module in everything if hasattr(module, "__all__")]


def test_all_is_complete_and_true():
    checked = 0
    for module in modules_with_all():
        exported = module.__all__
        assert len(set(exported)) == len(exported), module.__name__
        assert [name for name in exported if not hasattr(module, name)] == [], module.__name__
        assert public_names(module) - set(exported) == set(), module.__name__
        checked += 1
    assert checked


def test_the_library_lists_what_it_offers():
    assert set(xdptstamp.__all__) <= set(dir(xdptstamp))
    assert xdptstamp.__all__


def commands(group, words=("xdptstamp",)):
    context = click.Context(group, info_name=words[-1])
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def all_commands():
    from xdptstamp.cli.main import command

    return dict(commands(command))


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    names = [" ".join(words) for words in all_commands()]
    assert "xdptstamp ping-pong" in names
    assert [name for name in names if name not in readme] == []


def test_every_command_and_option_says_what_it_does():
    silent = []
    for words, command in all_commands().items():
        if not command.help:
            silent.append(" ".join(words))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not (parameter.help or parameter.hidden):
                silent.append(" ".join((*words, parameter.opts[0])))
    assert silent == []


def test_every_option_in_the_readme_exists():
    known = {name for command in all_commands().values() for p in command.params for name in p.opts}
    known |= {
        name
        for command in all_commands().values()
        for p in command.params
        for name in p.secondary_opts
    }
    readme = (ROOT / "README.md").read_text()
    lines = [line for line in readme.splitlines() if "xdptstamp " in line and "pip" not in line]
    used = {name for line in lines for name in re.findall(r"(?<!\S)--[a-z][a-z-]+", line)}
    assert used - known - {"--help"} == set()


def test_scripts_are_executable_and_name_their_interpreter():
    for path in project_files():
        if path.parts[0] in {"scripts", ".ci"} and not path.suffix:
            assert (ROOT / path).stat().st_mode & 0o100, path
            assert (ROOT / path).read_text().startswith("#!/"), path


def test_shell_scripts_parse():
    shells = [p for p, text in texts() if text.startswith("#!/bin/sh")]
    assert len(shells) >= 6
    for path in shells:
        done = subprocess.run(
            ("sh", "-n", path), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
