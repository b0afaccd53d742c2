# SPDX-License-Identifier: GPL-2.0-only
"""A guest: booted, used, ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from xdptstamp.errors import SetupError, XdptstampError
from xdptstamp.lab.guest import kit
from xdptstamp.lab.guest.accel import choose_accel
from xdptstamp.lab.guest.channel import Channel, GuestProcess, OnOutput, default_environ
from xdptstamp.lab.guest.config import GuestConfig, compile_modules
from xdptstamp.lab.guest.console import last_lines, lines_of_a_hang
from xdptstamp.lab.guest.device import DeviceServer
from xdptstamp.lab.guest.initramfs import build_initramfs
from xdptstamp.lab.guest.kernel import Kernel, check, lacks, modules_to_load, unpack
from xdptstamp.lab.guest.qemu import Keeper, Machine

_QUIT_LIMIT_S = 10
_TELL_LIMIT_S = 10
_LOOK_S = 0.05
_MAX_PARENT = 64
_SAID = "xdptstamp-guest: "
# All levels to the console; then the tasks that are blocked, and the backtraces of all CPUs. A
# kernel may print later than it is told to, in a thread.
_TOLD = f"{_SAID}where it hangs has been told"
_TELL = f"for key in 8 w l; do echo $key >/proc/sysrq-trigger; done; echo '<1>{_TOLD}' >/dev/kmsg"
_LACKS = "lacks: "


class GuestDiedError(SetupError):
    """The guest ended, did not come up, or was given up; the message has its console's end."""


class Guest:
    """A guest with its NIC, a context manager: up when the block is entered, gone after.

    Commands run as root in it, with the host's files, of which they can write those below
    ``output_dir`` alone. Several may run at once, from several threads.
    """

    def __init__(self, config: GuestConfig | None = None) -> None:
        self.config = config or GuestConfig()
        self._stack = contextlib.ExitStack()
        self._folder = Path()
        self._kernel: Kernel | None = None
        self._keeper: Keeper | None = None
        self._channel: Channel | None = None
        self._device: DeviceServer | None = None
        self._is_over = False
        self._given_up: GuestDiedError | None = None

    def __enter__(self) -> Guest:
        kernel = self._kernel = self.config.find_kernel()
        check(kernel, self.config.needed)
        with contextlib.ExitStack() as stack:
            self._make_folders(stack)
            self._start(kernel, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and not self._line.is_over:
            self._line.quit(_QUIT_LIMIT_S)
        self._is_over = True
        device = self._device
        has_device = device is None or device.is_running
        said = self.device_log
        self._stack.close()
        if kind is None and not has_device:
            raise SetupError("virtual I226", f"its process has ended too early: {said}")

    @property
    def environ(self) -> dict[str, str]:
        """What names the link, and the folder for runs, to every command in the guest."""
        return self.config.environ

    @property
    def kernel(self) -> Kernel:
        """The kernel that runs.

        :raises SetupError: Outside of the ``with`` block.
        """
        if self._kernel is None:
            raise _outside()
        return self._kernel

    @property
    def truth_path(self) -> Path:
        """The virtual I226's notes of what really happened; other NICs make none."""
        return (self.config.truth or self._folder / "truth.csv").absolute()

    @property
    def console(self) -> str:
        """What the kernel and the init script have written so far."""
        try:
            data = (self._folder / "console").read_bytes()
        except FileNotFoundError:  # QEMU makes it
            return ""
        return data.decode(errors="replace").replace("\r", "")

    @property
    def device_log(self) -> str:
        """What the virtual NIC has said on its stderr so far."""
        return self._device.log if self._device is not None else ""

    def control(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command (``{"fault": "lose-stamp", "every": 3}``) to the virtual I226.

        :raises SetupError: There is none, or it is gone.
        """
        if self._device is None:
            raise SetupError("lab guest", "has no virtual I226 to be told anything")
        return self._device.control(command)

    def popen(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
        on_output: OnOutput | None = None,
    ) -> GuestProcess:
        """Start a command.

        :param cwd: default: this process's.
        :param env: besides this process's environment and :attr:`environ`.
        :param terminal: rows and columns: give it a terminal, all output of which is stdout.
        :param on_output: called for each piece (whether it is stderr, bytes), in another thread;
            default: it is kept.
        """
        environ = default_environ() | self.environ | dict(env or {})
        return self._line.popen(argv, cwd or os.getcwd(), environ, terminal, on_output)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; the return code is returned, not judged.

        :param timeout: seconds after which it is killed.
        :raises subprocess.TimeoutExpired: After ``timeout``; with the output so far.
        :raises XdptstampError: It cannot be started, or the guest died.
        """
        process = self.popen(argv, cwd=cwd, env=env)
        process.write(input)
        process.close_stdin()
        try:
            code = process.wait(timeout)
        except BaseException as error:
            process.send_signal(signal.SIGKILL, is_group=True)
            if isinstance(error, subprocess.TimeoutExpired):
                error.output = process.stdout.encode()
                error.stderr = process.stderr.encode()
            raise
        return subprocess.CompletedProcess(list(argv), code, process.stdout, process.stderr)

    def give_up(self, why: str) -> GuestDiedError:
        """End the line to a guest that hangs; the error that each command in it fails with.

        It says ``why``, and what the kernel still said within 10 s when it was asked for the tasks
        that are blocked and for the backtraces of its CPUs.
        """
        deadline = time.monotonic() + _TELL_LIMIT_S
        with contextlib.suppress(XdptstampError, subprocess.TimeoutExpired):
            self.popen(["/bin/sh", "-c", _TELL], cwd="/").wait(_TELL_LIMIT_S)
            while _TOLD not in self.console and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
        words = f"the guest was killed, for {why}{self._last_words(lines_of_a_hang)}"
        self._given_up = GuestDiedError("lab guest", words)
        self._line.close()
        return self._given_up

    @property
    def _line(self) -> Channel:
        if self._channel is None:
            raise _outside()
        return self._channel

    def _make_folders(self, stack: contextlib.ExitStack) -> None:
        # A socket's path has at most 107 bytes.
        parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < _MAX_PARENT else "/tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="xdptstamp-guest-", dir=parent))
        stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        output_dir = self.config.writable
        if not output_dir.is_dir():
            output_dir.mkdir(parents=True)
            stack.callback(_remove_if_empty, output_dir)

    def _start(self, kernel: Kernel, stack: contextlib.ExitStack) -> None:
        deadline = time.monotonic() + self.config.boot_timeout_s
        if self.config.num_ports and self.config.nic_kind.is_served:
            self._device = DeviceServer(
                self._folder, self.config.num_ports, self.truth_path, self.config.device_options
            )
            stack.callback(self._device.close)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self._folder / "agent.sock"))
        listener.listen(1)
        machine = self._machine(kernel)
        machine = dataclasses.replace(machine, accel=choose_accel(machine))
        if self._device is not None:
            self._device.await_ready()
        # Ended before the line to it, whose other end it is.
        stack.callback(self._close_line)
        self._keeper = Keeper(machine.argv(), self._folder)
        stack.callback(self._keeper.close)
        compile_modules()
        self._connect(listener, deadline)

    def _machine(self, kernel: Kernel) -> Machine:
        image = kernel.image
        if unpacked := unpack(kernel):
            image = self._folder / "vmlinux"
            image.write_bytes(unpacked)
        initramfs = self._folder / "initramfs"
        settings = self.config.init_settings(kernel)
        modules = modules_to_load(kernel, self.config.needed)
        initramfs.write_bytes(build_initramfs(kit.busybox(), modules, settings))
        return Machine(
            program=self.config.qemu or kit.find_qemu(),
            accel="tcg",
            image=image,
            initramfs=initramfs,
            console=self._folder / "console",
            memory=self.config.memory,
            cpus=self.config.cpus_for(kernel),
            agent=self._folder / "agent.sock",
            # A driver that is built in makes as many queues as there are CPUs before init.sh runs.
            begins_with_one_cpu=self.config.nic_kind.driver in dict(modules),
            writable=self.config.writable,
            nics=self.config.nic_kind.qemu_words(self.config.num_ports, self._folder),
        )

    def _connect(self, listener: socket.socket, deadline: float) -> None:
        assert self._keeper is not None
        # QEMU connects before anything else, or ends.
        try:
            is_there = self._keeper.await_client(listener, max(deadline - time.monotonic(), 0))
        except TimeoutError:
            raise self._is_late() from None
        if not is_there:
            raise self._death()
        line, _ = listener.accept()
        self._channel = Channel(line, self._death)
        self._channel.start()
        if not self._channel.wait_ready(max(deadline - time.monotonic(), 0)):
            raise self._is_late()
        if self._channel.is_over:
            raise self._death()

    def _is_late(self) -> GuestDiedError:
        limit = f"no command could be run within {self.config.boot_timeout_s:g} s"
        # All of it: the kernel turns in circles, or the host is slow. Next to none: it waits.
        cpu_s = self._keeper.cpu_s() if self._keeper else 0
        used = f"QEMU has used {cpu_s:.1f} s of processor time"
        return GuestDiedError("lab guest", f"{limit} (--boot-timeout); {used}{self._last_words()}")

    def _close_line(self) -> None:
        self._is_over = True
        if self._channel is not None:
            self._channel.close()

    def _death(self) -> XdptstampError:
        # Called when QEMU has ended, or is about to.
        if self._given_up is not None:
            return self._given_up
        if self._is_over:
            return SetupError("lab guest", "the guest was ended before the command had")
        assert self._keeper is not None
        how = self._keeper.exit_text()
        for line in self.console.splitlines():
            _, is_said, words = line.partition(_SAID + _LACKS)
            if is_said:
                return lacks(self.kernel, words.split())
        return GuestDiedError("lab guest", f"the guest has ended ({how}){self._last_words()}")

    def _last_words(self, choose: Callable[[str], list[str]] = last_lines) -> str:
        lines = choose(self.console)
        text = "\n  ".join(["; its console:", *lines]) if lines else "; its console is empty"
        said = self.device_log
        return f"{text}\nThe virtual I226 said: {said}" if said else text


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _outside() -> SetupError:
    return SetupError("lab guest", "there is none outside of its `with` block")
