# SPDX-License-Identifier: GPL-2.0-only
"""What is known of a guest before it boots: its kernel, modules, first files, QEMU."""

import dataclasses
import gzip
import json
import lzma
import os
import shlex
import subprocess
import sys
import time
import zlib

import pytest
from click.testing import CliRunner

from xdptstamp.cli.lab_guest import guest
from xdptstamp.errors import SetupError, UnsupportedError
from xdptstamp.lab.guest import NICS, GuestConfig, accel, kit
from xdptstamp.lab.guest.config import _to_be_shown
from xdptstamp.lab.guest.initramfs import build_initramfs
from xdptstamp.lab.guest.kernel import (
    check,
    find_kernel,
    modules_to_load,
    read_config,
    unpack,
)
from xdptstamp.lab.guest.qemu import Keeper, Machine

RELEASE = "7.9.1-test"
NEEDED = GuestConfig().needed
COMPLETE = {option: "m" if module else "y" for option, module in NEEDED.items()}
MODULES = {
    "virtio_pci": "virtio_pci_modern_dev virtio",
    "virtio_pci_modern_dev": "",
    "virtio": "",
    "virtio_console": "",
    "9pnet": "netfs",
    "netfs": "",
    "9pnet_virtio": "9pnet netfs",
    "9p": "9pnet netfs",
    "igc": "ptp",
    "ptp": "",
    "unrelated": "",
}


def write_image(path, payload=b""):
    """A file that begins as a bzImage does, with the kernel proper packed into it."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    text = f"{RELEASE} (somebody@somewhere) #1 SMP".encode()
    head[0x300 : 0x300 + len(text)] = text
    path.write_bytes(bytes(head) + payload)
    return path


def write_config(path, options):
    path.write_text("# a comment\n" + "".join(f"{key}={options[key]}\n" for key in options))


def write_modules(folder, names=MODULES, suffix=".ko"):
    folder.mkdir(parents=True)
    lines = []
    for name in names:
        path = folder / "kernel" / f"{name.replace('_', '-')}{suffix}"
        path.parent.mkdir(exist_ok=True)
        data = f"module {name}".encode()
        path.write_bytes(lzma.compress(data) if suffix.endswith("xz") else data)
        needs = [f"kernel/{need.replace('_', '-')}{suffix}" for need in names[name].split()]
        lines.append(f"kernel/{path.name}: {' '.join(needs)}\n")
    (folder / "modules.dep").write_text("".join(lines))
    return folder


@pytest.fixture
def image(tmp_path):
    return write_image(tmp_path / "bzImage")


# -- which kernel


def test_release_and_version_come_from_the_image(image):
    kernel = find_kernel(image)
    assert (kernel.release, kernel.version, kernel.modules) == (RELEASE, (7, 9), None)


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + b"x" * 5000])
def test_what_is_no_bzimage_is_refused(tmp_path, content):
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(SetupError, match=r"vmlinux: is no bzImage of x86 \(arch/x86/boot/bzImage"):
        find_kernel(path)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(SetupError, match="nothing: cannot be read: No such file"):
        find_kernel(tmp_path / "nothing")


@pytest.mark.parametrize("place", ["", f"lib/modules/{RELEASE}"])
def test_modules_are_found_in_the_folder_or_below_a_root(image, tmp_path, place):
    folder = write_modules(tmp_path / "mods" / place)
    assert find_kernel(image, tmp_path / "mods").modules == folder


def test_modules_beside_the_image_are_found(image, tmp_path):
    folder = write_modules(tmp_path / f"lib/modules/{RELEASE}")
    assert find_kernel(image).modules == folder


def test_a_folder_without_modules_is_refused(image, tmp_path):
    with pytest.raises(SetupError, match=f"no modules.dep for {RELEASE}; `make modules_install"):
        find_kernel(image, tmp_path)


def test_a_kernel_of_the_kit_that_is_not_there_names_the_script(tmp_path, monkeypatch):
    monkeypatch.setenv("XDPTSTAMP_CACHE_DIR", str(tmp_path))
    with pytest.raises(SetupError, match=r"no kernel 6\.12 in the cache .*scripts/guest_kit 6\.12"):
        GuestConfig(kernel="6.12").find_kernel()
    with pytest.raises(SetupError, match=r"no busybox in the cache .*scripts/guest_kit"):
        kit.busybox()


def test_two_cpus_where_igc_sends_with_two(image, tmp_path):
    old = write_image(tmp_path / "old")
    old.write_bytes(old.read_bytes().replace(RELEASE.encode(), b"6.12.9-old"))
    assert GuestConfig().cpus_for(find_kernel(image)) == 2
    assert GuestConfig().cpus_for(find_kernel(old)) == 4
    assert GuestConfig(num_cpus=3).cpus_for(find_kernel(old)) == 3
    assert GuestConfig(nic="igb").cpus_for(find_kernel(old)) == 2


def test_the_command_line_names_the_nics_there_are():
    (option,) = [param for param in guest.params if param.name == "nic"]
    assert list(option.type.choices) == list(NICS)


@pytest.mark.parametrize("option", ["--fault", "--timestamp-delay", "--wire-delay", "--speed"])
@pytest.mark.parametrize("nic", ["igb", "virtio"])
def test_what_the_virtual_i226_alone_can_is_refused_for_other_nics(nic, option):
    done = CliRunner().invoke(guest, ["--nic", nic, option, "1", "--", "true"])
    assert done.exit_code == 2
    problem = f"{option} is of the virtual I226 (--nic i226) alone; {nic} is a NIC of QEMU's own"
    assert problem in done.output


def test_other_nics_have_no_truth(tmp_path):
    done = CliRunner().invoke(guest, ["--nic", "igb", "--truth", str(tmp_path / "t"), "true"])
    assert done.exit_code == 2
    assert "--truth is of the virtual I226" in done.output
    with pytest.raises(ValueError, match="not of igb"):
        GuestConfig(nic="igb", truth=tmp_path / "t")


@pytest.mark.parametrize("nic", NICS)
def test_each_nic_needs_its_own_driver(image, tmp_path, nic):
    drivers = {"i226": "CONFIG_IGC", "igb": "CONFIG_IGB", "virtio": "CONFIG_VIRTIO_NET"}
    needed = GuestConfig(nic=nic).needed
    config = dict.fromkeys(needed, "y")
    config.update(dict.fromkeys(drivers.values(), "n"))
    write_config(tmp_path / "config", config)
    with pytest.raises(UnsupportedError) as caught:
        check(find_kernel(image), needed)
    assert caught.value.needs == drivers[nic]


def test_a_kernel_of_an_older_kit_is_to_be_fetched_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDPTSTAMP_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "guest/kernel-recent"
    write_modules(folder / f"lib/modules/{RELEASE}")
    write_image(folder / "vmlinuz")
    write_config(folder / "config", {**COMPLETE, "CONFIG_IGB": "m"})
    assert GuestConfig().find_kernel().release == RELEASE
    with pytest.raises(SetupError, match=r"no kernel recent with CONFIG_IGB \(a module .* in the "):
        GuestConfig(nic="igb").find_kernel()


# -- what it lacks


def test_a_complete_kernel_is_accepted(image, tmp_path):
    write_modules(tmp_path / f"lib/modules/{RELEASE}")
    write_config(tmp_path / f"config-{RELEASE}", COMPLETE)
    check(find_kernel(image), NEEDED)


@pytest.mark.parametrize("option", NEEDED)
def test_each_option_that_is_lacking_is_named(image, tmp_path, option):
    write_config(tmp_path / f"config-{RELEASE}", dict.fromkeys(NEEDED, "y") | {option: "n"})
    with pytest.raises(UnsupportedError) as caught:
        check(find_kernel(image), NEEDED)
    assert caught.value.needs == option
    assert caught.value.found == f"Linux {RELEASE} ({image}) without"
    assert caught.value.exit_code == 4


def test_all_that_is_lacking_is_named_at_once(image, tmp_path):
    write_config(tmp_path / "config", {"CONFIG_IGC": "y"})
    with pytest.raises(UnsupportedError) as caught:
        check(find_kernel(image), NEEDED)
    assert caught.value.needs == ", ".join(option for option in NEEDED if option != "CONFIG_IGC")


def test_a_module_that_is_not_in_the_folder_is_lacking(image, tmp_path):
    names = {name: needs for name, needs in MODULES.items() if name != "igc"}
    folder = write_modules(tmp_path / f"lib/modules/{RELEASE}", names)
    write_config(tmp_path / f"config-{RELEASE}", COMPLETE)
    with pytest.raises(UnsupportedError) as caught:
        check(find_kernel(image), NEEDED)
    assert caught.value.needs == f"CONFIG_IGC (a module that is not in {folder})"


def test_modules_without_any_folder_are_lacking(image, tmp_path):
    write_config(tmp_path / f"config-{RELEASE}", COMPLETE)
    with pytest.raises(UnsupportedError, match=r"CONFIG_9P_FS \(a module that is not in no folder"):
        check(find_kernel(image), NEEDED)


def test_without_a_config_the_guest_itself_looks(image):
    assert read_config(find_kernel(image)) is None
    check(find_kernel(image), NEEDED)


def test_the_config_of_a_build_tree_is_found(tmp_path):
    boot = tmp_path / "arch/x86/boot"
    boot.mkdir(parents=True)
    write_config(tmp_path / ".config", {"CONFIG_IGC": "y"})
    assert read_config(find_kernel(write_image(boot / "bzImage"))) == {"CONFIG_IGC": "y"}


def zlib_pack(data):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


PACKERS = {
    "gzip": zlib_pack,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": lambda data: (
        subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    ),
}


@pytest.mark.parametrize("packer", PACKERS)
def test_the_config_in_the_image_is_found(tmp_path, packer):
    options = gzip.compress(b"CONFIG_IGC=m\n# CONFIG_9P_FS is not set\n")
    vmlinux = b"\x7fELF" + b"\0" * 1000 + b"IKCFG_ST" + options + b"IKCFG_ED" + b"\0" * 1000
    try:
        packed = PACKERS[packer](vmlinux)
    except FileNotFoundError:
        pytest.skip(f"{packer} is not installed")
    # Before it the bytes that begin the format, by chance.
    image = write_image(tmp_path / "bzImage", packed[:4] + b"noise" + packed + b"\x12\x34\x56\x78")
    assert read_config(find_kernel(image)) == {"CONFIG_IGC": "m"}


@pytest.mark.parametrize(("has_pvh", "is_packed"), [("y", True), ("n", True), ("y", False)])
def test_the_kernel_proper_is_started_where_qemu_can(tmp_path, has_pvh, is_packed):
    vmlinux = b"\x7fELF" + bytes(1000)
    packed = PACKERS["xz"](vmlinux) if is_packed else b"not packed as far as we know"
    kernel = find_kernel(write_image(tmp_path / "bzImage", packed))
    assert unpack(kernel) is None, "without a config nobody knows"
    write_config(tmp_path / "config", {"CONFIG_PVH": has_pvh})
    assert unpack(kernel) == (vmlinux if is_packed and has_pvh == "y" else None)


# -- what it is started with


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz"])
def test_modules_come_after_those_they_need(image, tmp_path, suffix):
    write_modules(tmp_path / f"lib/modules/{RELEASE}", suffix=suffix)
    loaded = modules_to_load(find_kernel(image), NEEDED)
    names = [name for name, _ in loaded]
    assert set(names) == set(MODULES) - {"unrelated"}
    assert len(set(names)) == len(names)
    for name, data in loaded:
        assert data == f"module {name}".encode()
        assert all(names.index(need) < names.index(name) for need in MODULES[name].split())


def test_a_broken_module_is_named(image, tmp_path):
    folder = write_modules(tmp_path / f"lib/modules/{RELEASE}", suffix=".ko.xz")
    (folder / "kernel/igc.ko.xz").write_bytes(b"no xz")
    with pytest.raises(SetupError, match=r"igc\.ko\.xz: the module cannot be read"):
        modules_to_load(find_kernel(image), NEEDED)


def test_the_archive_as_cpio_reads_it(tmp_path):
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"not really")
    archive = build_initramfs(busybox, [("igc", b"odd")], {"WORD": "it's\ntwo lines"})
    entries = dict(entries_of(archive))
    assert entries["bin/busybox"] == b"not really"
    assert entries["modules/igc.ko"] == b"odd"
    assert entries["init"].startswith(b"#!/bin/sh")
    script = entries["guest.conf"].decode() + 'printf "%s|%s" "$MODULES" "$WORD"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "igc.ko|it's\ntwo lines"


def entries_of(archive):
    at = 0
    while True:
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        if name == "TRAILER!!!":
            return
        start = (at + 110 + name_size + 3) // 4 * 4
        yield name, archive[start : start + size]
        at = (start + size + 3) // 4 * 4


def test_what_lies_below_a_folder_of_the_guests_own_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = _to_be_shown()
    assert any(tmp_path == path or path in tmp_path.parents for path in shown)
    assert not any(path != other and path in other.parents for path in shown for other in shown)
    monkeypatch.chdir("/")
    assert tmp_path not in _to_be_shown()


# -- QEMU


def write_program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


OLD_QEMU = """case $* in
*help*) echo 'name "virtio-net-pci", bus PCI' ;;
*version*) echo "QEMU emulator version 7.2.9" ;;
esac"""


def test_a_qemu_without_vfio_user_is_named(tmp_path, monkeypatch):
    program = write_program(tmp_path / "qemu-system-x86_64", OLD_QEMU)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDPTSTAMP_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(UnsupportedError) as caught:
        kit.find_qemu()
    assert caught.value.needs == "QEMU >= 10.1 with vfio-user-pci (scripts/guest_kit fetches one)"
    assert caught.value.found == f"QEMU emulator version 7.2.9 ({program}) without it"


def test_the_kits_qemu_stands_in_for_an_old_one(tmp_path, monkeypatch):
    write_program(tmp_path / "qemu-system-x86_64", OLD_QEMU)
    (tmp_path / "guest/qemu").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("XDPTSTAMP_CACHE_DIR", str(tmp_path))
    assert kit.find_qemu()[0] == str(tmp_path / "guest/qemu/lib/ld-linux-x86-64.so.2")


def test_the_systems_qemu_is_taken_if_it_can(tmp_path, monkeypatch):
    program = write_program(
        tmp_path / "qemu-system-x86_64", """echo 'name "vfio-user-pci", bus PCI'"""
    )
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert kit.find_qemu() == [str(program)]


def test_no_qemu_at_all_names_the_script(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDPTSTAMP_CACHE_DIR", str(tmp_path))
    with pytest.raises(SetupError, match=r"no QEMU in the cache .*scripts/guest_kit"):
        kit.find_qemu()


@pytest.fixture
def machine(tmp_path, image):
    return Machine(
        program=[str(tmp_path / "qemu")],
        accel="tcg",
        image=image,
        initramfs=tmp_path / "initramfs",
        console=tmp_path / "console",
        memory=256 << 20,
        cpus=3,
        agent=tmp_path / "a,b.sock",
        writable=tmp_path / "out,put",
        nics=NICS["i226"].qemu_words(2, tmp_path),
    )


def test_an_emulated_guest_alone_may_begin_with_one_cpu(machine):
    one = dataclasses.replace(machine, begins_with_one_cpu=True)
    assert " tsc=reliable maxcpus=1" in shlex.join(one.argv())
    kvm = shlex.join(dataclasses.replace(one, accel="kvm").argv())
    assert "maxcpus" not in kvm
    assert "tsc=" not in kvm


def test_the_command_line(machine, tmp_path):
    line = shlex.join(machine.argv())
    assert "-accel tcg,thread=multi" in line
    assert " tsc=reliable" in line
    assert "maxcpus" not in line
    assert "memory-backend-memfd,id=mem,size=268435456,share=on" in line
    assert "-m 262144k -smp 3" in line
    assert "path=/,security_model=none,multidevs=remap,readonly=on" in line
    # A comma in a name is doubled.
    assert f"path={tmp_path}/out,,put,security_model=none,multidevs=remap " in line + " "
    assert f"path={tmp_path}/a,,b.sock,server=off" in line
    assert line.count("vfio-user-pci") == 2
    assert "-netdev" not in line


@pytest.mark.parametrize("nic", ["igb", "virtio"])
def test_the_ports_of_other_nics_have_a_wire_of_their_own(machine, tmp_path, nic):
    words = dataclasses.replace(machine, nics=NICS[nic].qemu_words(2, tmp_path)).argv()
    objects = [json.loads(word) for word in words if word.startswith("{")]
    wires, devices = objects[::2], objects[1::2]
    assert [wire["type"] for wire in wires] == ["stream"] * 2
    # Who connects comes first, and finds nobody yet: it has to try again.
    assert [wire["server"] for wire in wires] == [False, True]
    assert wires[0]["reconnect-ms"] > 0
    addr = {"type": "unix", "path": str(tmp_path / "wire.sock")}
    assert [wire["addr"] for wire in wires] == [addr] * 2
    assert [device["netdev"] for device in devices] == [wire["id"] for wire in wires]
    assert len({device["mac"] for device in devices}) == 2
    assert "vfio-user-pci" not in shlex.join(words)
    (alone,) = NICS[nic].qemu_words(1, tmp_path)
    assert json.loads(alone[1])["type"] == "hubport"


def trial(tmp_path, monkeypatch, qemu_does):
    """choose_accel with a QEMU that does so, where /dev/kvm is there."""
    write_program(tmp_path / "qemu", f"echo tried >>{tmp_path}/tries\n{qemu_does}")
    monkeypatch.setattr(accel, "_DEVICE", tmp_path / "qemu")
    monkeypatch.setattr(accel, "_LIMIT_S", 0.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_kvm_is_taken_when_the_guest_came_up_and_remembered(machine, tmp_path, monkeypatch):
    says = accel.ALIVE.decode()
    trial(tmp_path, monkeypatch, f"case $* in *kvm*trial*) echo {says} >{machine.console} ;; esac")
    assert [accel.choose_accel(machine) for _ in range(3)] == ["kvm"] * 3
    assert (tmp_path / "tries").read_text() == "tried\n"


@pytest.mark.parametrize("does", ["exec sleep 1000", "exit 1", "exit 0"])
def test_a_kvm_that_does_not_boot_is_not_taken(machine, tmp_path, monkeypatch, does):
    trial(tmp_path, monkeypatch, does)
    machine.console.write_bytes(b"")
    assert [accel.choose_accel(machine) for _ in range(2)] == ["tcg"] * 2
    assert (tmp_path / "tries").read_text() == "tried\n"


def test_without_kvm_nothing_is_tried(machine, tmp_path, monkeypatch):
    trial(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(accel, "_DEVICE", tmp_path / "nothing")
    assert accel.choose_accel(machine) == "tcg"
    assert not (tmp_path / "tries").exists()


# -- the keeper of QEMU


def test_the_keeper_says_how_qemu_ended_and_removes_the_folder(tmp_path):
    folder = tmp_path / "guest"
    folder.mkdir()
    keeper = Keeper(["sh", "-c", "echo no such thing >&2; exit 3"], folder)
    assert keeper.exit_text() == "QEMU ended with code 3: no such thing"
    assert folder.is_dir()
    keeper.close()
    assert not folder.exists()


def test_the_keeper_ends_qemu(tmp_path):
    folder = tmp_path / "guest"
    folder.mkdir()
    note = tmp_path / "pid"
    keeper = Keeper(
        ["sh", "-c", f"echo $$ >{note}.new; mv {note}.new {note}; exec sleep 1000"], folder
    )
    while not note.exists():
        assert keeper._process.poll() is None
    keeper.close()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


PARENT = """
import pathlib, sys
from xdptstamp.lab.guest.qemu import Keeper
keeper = Keeper(["sleep", "1000"], pathlib.Path(sys.argv[1]))
print("started", flush=True)
sys.stdin.read()
"""


def test_the_keeper_of_a_killed_parent_removes_the_folder(tmp_path):
    folder = tmp_path / "guest"
    folder.mkdir()
    argv = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"started\n"
        parent.kill()
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline
