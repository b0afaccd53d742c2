# SPDX-License-Identifier: GPL-2.0-only
"""A Python that has imported the project: in a guest, that is most of a short command's time.

``forker.py serve SOCKET`` imports it once, and writes the script ``SOCKET-python``. As Python, that
has the server fork for ``-m MODULE``, with the script's streams, folder, environment and
namespaces. Signals go to the child, its end is the script's; without the script it is killed.
Anything else is for the real Python. A command finds the script as its ``sys.executable``, so its
recorder and its sink come by it, too.
"""

import gc
import marshal
import os
import select
import signal
import socket
import struct
import sys

NUMBER = struct.Struct("<i")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_REQUEST, _MAX_FDS = 1 << 20, 64
# The last is a root to change to: that of the mount namespace is another.
_PLACES = ("ns/net", "ns/mnt", "root")
# What the measuring commands import; all else is imported when it is used, as ever.
_MODULES = """
    xdptstamp.cli._mixed_run xdptstamp.cli.hwtstamp xdptstamp.cli.phc xdptstamp.cli.ping_pong
    xdptstamp.comparison xdptstamp.dut xdptstamp.measure.environment xdptstamp.measure.ping_pong
    xdptstamp.hwtset xdptstamp.reconcile xdptstamp.store.recorder pyroute2.iproute
    pyroute2.netlink.generic xdptstamp.cli.caps xdptstamp.assess xdptstamp.caps xdptstamp.text.caps
    xdptstamp.cli._recorder xdptstamp.store.recorder_process xdptstamp.cli.sink
    xdptstamp.measure.sink xdptstamp.text.output
"""


def serve(path):
    """Fork for whoever connects, until killed."""
    from importlib import import_module

    for name in _MODULES.split():
        import_module(name)
    # A child that looks through all of this for garbage, or takes it apart at its end, copies it.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(64)
        real, python = sys.executable, f"{path}-python"
        with open(python, "w", encoding="utf-8", opener=_executable) as script:
            script.write(f'#!/bin/sh\nexec {real} -I -S {__file__} {path} {real} "$@"\n')
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
        print(python, flush=True)
        while True:
            line, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _keep(line, python)
            line.close()


def _executable(path, flags):
    return os.open(path, flags, 0o755)


def _keep(line, python):
    # One command from its start to its end.
    data, fds, _, _ = socket.recv_fds(line, _MAX_REQUEST, _MAX_FDS)
    pid = os.fork()
    if pid == 0:
        line.close()
        _become(marshal.loads(data), fds, python)
    for fd in fds:
        os.close(fd)
    line.send(NUMBER.pack(pid))
    ended = os.pidfd_open(pid)
    if ended not in select.select([line, ended], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    try:
        line.send(NUMBER.pack(os.waitstatus_to_exitcode(status)))
    except BrokenPipeError:
        pass
    os._exit(0)


def _become(asked, fds, python):
    os.setsid()
    _join(*fds[: len(_PLACES)])
    _take(fds[len(_PLACES) :], asked["fds"])
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    for number in asked["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.executable = python
    module, sys.argv = asked["module"], [asked["module"], *asked["words"]]
    if not hasattr(sys.modules.get(module), "__path__"):
        sys.modules.pop(module, None)  # imported already, which runpy warns of
    import runpy

    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    _end(code)


def _end(code):
    # As Python does, but for taking itself apart, which takes longer here than a short command:
    # nothing is to be left to the end of a file that is not closed.
    import atexit
    import threading

    threading._shutdown()
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120
    os._exit(code if isinstance(code, int) else int(code is not None))


def _join(net, mnt, root):
    import ctypes  # noqa: TID251

    libc = ctypes.CDLL(None, use_errno=True)
    for fd in (net, mnt):
        if libc.setns(fd, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def _take(fds, numbers):
    # Those of the command by its numbers for them; none of ours is in the way.
    fds = [_above(fd, max(numbers)) for fd in fds]
    for fd, number in zip(fds, numbers, strict=True):
        os.dup2(fd, number)
        os.close(fd)


def _above(fd, number):
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, number + 1)
    os.close(fd)
    return moved


def _open_fds():
    # What this process was started with.
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            os.fstat(number)
        except OSError:
            continue  # the listing's own
        found.append(number)
    return sorted(found)


def main(path, real, *words):
    """Be ``python WORDS...``; returns its exit code."""
    asked = [*(word for word in words[:2] if word != "-P"), *words[2:]]
    if len(asked) < 2 or asked[0] != "-m":
        os.execv(real, [real, *words])
    numbers = _open_fds()
    places = [os.open(f"/proc/self/{name}", os.O_RDONLY) for name in _PLACES]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(path)
        request = {
            "module": asked[1],
            "words": asked[2:],
            "cwd": os.getcwd(),
            "env": dict(os.environ),
            "fds": numbers,
            "ignored": [n for n in _PASSED_ON if signal.getsignal(n) == signal.SIG_IGN],
        }
        socket.send_fds(line, [marshal.dumps(request)], [*places, *numbers])
        (pid,) = NUMBER.unpack(line.recv(NUMBER.size))
        for fd in numbers[3:]:
            os.close(fd)  # whoever waits for their end is to see it
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        (code,) = NUMBER.unpack(line.recv(NUMBER.size))
    if code < 0:
        if -code in _PASSED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(main(*sys.argv[1:]))
