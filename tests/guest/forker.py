# SPDX-License-Identifier: GPL-2.0-only
"""Commands of the project in a guest without their imports, which are most of a short run there.

``forker.py serve SOCKET`` imports the project once; ``python -I -S forker.py SOCKET WORD...`` has
it fork, and the child is ``xdptstamp WORD...`` with this process's streams, folder and environment.
Signals go to the child, its end is this process's; without this process it is killed.
"""

import marshal
import os
import select
import signal
import socket
import struct
import sys

NUMBER = struct.Struct("<i")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAX_REQUEST = 1 << 20
# What the measuring commands import; all else is imported when it is used, as ever.
_MODULES = """
    xdptstamp.cli._mixed_run xdptstamp.cli.hwtstamp xdptstamp.cli.phc xdptstamp.cli.ping_pong
    xdptstamp.comparison xdptstamp.dut xdptstamp.measure.environment xdptstamp.measure.ping_pong
    xdptstamp.hwtset xdptstamp.reconcile xdptstamp.store.recorder pyroute2.iproute
    pyroute2.netlink.generic
"""


def serve(path):
    """Fork for whoever connects, until killed."""
    from importlib import import_module

    from xdptstamp.cli.main import main as command

    for name in _MODULES.split():
        import_module(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
        print("ready", flush=True)
        while True:
            line, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _keep(line, command)
            line.close()


def _keep(line, command):
    # One command from its start to its end.
    data, fds, _, _ = socket.recv_fds(line, _MAX_REQUEST, 3)
    pid = os.fork()
    if pid == 0:
        line.close()
        _become(marshal.loads(data), fds, command)
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


def _become(asked, fds, command):
    os.setsid()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww")
    )
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["xdptstamp", *asked["words"]]
    sys.exit(command())


def main(path, *words):
    """Be the command; returns its exit code."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(path)
        asked = {"words": words, "cwd": os.getcwd(), "env": dict(os.environ)}
        socket.send_fds(line, [marshal.dumps(asked)], [0, 1, 2])
        (pid,) = NUMBER.unpack(line.recv(NUMBER.size))
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(pid, number))
        (code,) = NUMBER.unpack(line.recv(NUMBER.size))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(main(*sys.argv[1:]))
