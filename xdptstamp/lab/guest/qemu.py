# SPDX-License-Identifier: GPL-2.0-only
"""QEMU: its command line, and a process that is never left behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Of PCI bus 0, beside those of the NICs (nics.py).
_ROOT_SLOT, _WRITABLE_SLOT, _SERIAL_SLOT = 8, 9, 10

_COMMAND_LINE = " ".join(
    (
        "console=ttyS0 panic=-1 quiet net.ifnames=0",
        # What costs time on an emulated CPU and protects nobody here.
        "mitigations=off cryptomgr.notests random.trust_cpu=on",
        "init_on_alloc=0 randomize_kstack_offset=off",
    )
)

# Emulated CPUs have one time stamp counter; that its watchdog reads another CPU's late is no reason
# to leave it for a slower clock, and to patch the kernel for that.
_EMULATED_WORDS = "tsc=reliable"

# Until init.sh starts the others: a kernel patches its own code by the hundred places while it
# boots, and what QEMU had translated of code that another CPU patched may run on, with the
# breakpoint of the patching in it ("Oops: int3", or a hang), in one of 250 boots on a busy host.
_ONE_CPU = "maxcpus=1"

# Four levels of page tables to walk instead of five, copying and clearing by words, not by bytes,
# no protection keys to change with each task. What finds faults of a kernel (smap, smep) stays.
_EMULATED_CPU = "max,la57=off,erms=off,fsrm=off,pku=off"

# Started instead of QEMU, with stdin a pipe that closes when its parent closes it or is gone,
# however that comes: then QEMU is killed and the folder of its files removed. Says QEMU's exit
# code as soon as there is one.
_KEEPER = """
dir=$1
shift
exec 3<&0
"$@" </dev/null >/dev/null 2>"$dir/qemu.log" 3<&- &
qemu=$!
{ read -r _ <&3; kill -KILL $qemu; } >/dev/null 2>&1 &
watcher=$!
trap "" PIPE # the one to be told may be gone
wait $qemu
code=$?
kill $watcher 2>/dev/null
wait $watcher 2>/dev/null
echo $code
exec >&-
read -r _ <&3
rm -rf -- "$dir"
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """What QEMU is to be.

    :param program: the words that start it.
    :param accel: ``kvm`` or ``tcg``.
    :param memory: in bytes.
    :param writable: the host's folder that the guest may write to.
    :param begins_with_one_cpu: of an emulated guest; what is built in finds one then.
    :param nics: the words that make each port (:meth:`NicKind.qemu_words`).
    :param agent: the socket that the agent's port is to connect to; None: there is no such port.
    """

    program: Sequence[str]
    accel: str
    image: Path
    initramfs: Path
    console: Path
    memory: int
    cpus: int
    agent: Path | None
    begins_with_one_cpu: bool = False
    writable: Path | None = None
    nics: Sequence[Sequence[str]] = field(default=())
    kernel_words: str = ""

    def argv(self) -> list[str]:
        """The command line."""
        words = [*self.program, "-machine", "q35,memory-backend=mem"]
        # Shared, so that a device server can be given it.
        words += ["-object", f"memory-backend-memfd,id=mem,size={self.memory},share=on"]
        words += ["-m", f"{self.memory // 1024}k", "-smp", str(self.cpus)]
        if self.accel == "kvm":
            words += ["-accel", "kvm", "-cpu", "host"]
            kernel_words = [_COMMAND_LINE, self.kernel_words]
        else:
            words += ["-accel", "tcg,thread=multi", "-cpu", _EMULATED_CPU]
            one_cpu = _ONE_CPU if self.begins_with_one_cpu else ""
            kernel_words = [_COMMAND_LINE, _EMULATED_WORDS, one_cpu, self.kernel_words]
        words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        words += ["-chardev", f"file,id=console,path={_escaped(self.console)}"]
        words += ["-serial", "chardev:console"]
        words += ["-kernel", str(self.image), "-initrd", str(self.initramfs)]
        words += ["-append", " ".join(filter(None, kernel_words))]
        words += self._share("root", Path("/"), _ROOT_SLOT, ",readonly=on")
        if self.writable is not None:
            words += self._share("writable", self.writable, _WRITABLE_SLOT, "")
        if self.agent is not None:
            words += ["-device", f"virtio-serial-pci,addr={_SERIAL_SLOT:x}"]
            words += ["-chardev", f"socket,id=agent,path={_escaped(self.agent)},server=off"]
            words += ["-device", "virtserialport,chardev=agent,name=xdptstamp"]
        for port in self.nics:
            words += port
        return words

    @staticmethod
    def _share(name: str, path: Path, slot: int, more: str) -> list[str]:
        # An inode number is the host's own only within one of its file systems.
        share = f"local,id={name},path={_escaped(path)},security_model=none,multidevs=remap{more}"
        return [
            "-fsdev",
            share,
            "-device",
            f"virtio-9p-pci,fsdev={name},mount_tag={name},addr={slot:x}",
        ]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")


class Keeper:
    """A running QEMU and the folder of its files; both are gone when this process is.

    :param folder: removed at the end; QEMU's own messages are in its ``qemu.log``.
    """

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        # A session of its own: a Ctrl-C on the terminal is for the command in the guest.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "sh", str(folder), *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._log = folder / "qemu.log"
        self._code: int | None = None
        self._lock = threading.Lock()

    def await_client(self, listener: socket.socket, timeout_s: float) -> bool:
        """Wait until QEMU connects; False if it ends instead.

        :raises TimeoutError: Neither has come in time.
        """
        assert self._process.stdout is not None
        ends = [listener.fileno(), self._process.stdout.fileno()]
        ready = select.select(ends, [], [], timeout_s)[0]
        if not ready:
            raise TimeoutError
        return listener.fileno() in ready

    def cpu_s(self) -> float:
        """Processor time of QEMU and what watches it so far, in seconds."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # gone since
                words = path.read_bytes().rpartition(b")")[2].split()
                if int(words[3]) == self._process.pid:  # its session
                    ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def exit_text(self) -> str:
        """How QEMU ended, once it has; waits for that."""
        assert self._process.stdout is not None
        with self._lock:
            if self._code is None:
                self._code = int(self._process.stdout.readline() or b"0")
        log = self._log.read_text(encoding="utf-8", errors="replace").strip()
        code = self._code
        how = f"by signal {signal.Signals(code - 128).name}" if code > 128 else f"with code {code}"
        return f"QEMU ended {how}" + (f": {log}" if log else "")

    def close(self) -> None:
        """End QEMU, remove the folder; returns when that is done."""
        self._process.communicate()
