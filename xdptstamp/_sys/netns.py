# SPDX-License-Identifier: GPL-2.0-only
"""Network namespaces with a name, as ip-netns(8) keeps them: make, remove, enter.

A namespace is a property of a thread. What has to happen in another one happens in a thread made
for it and thrown away after it: no later work can inherit a namespace by mistake, and nothing is
forked in a process that may have threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from xdptstamp._sys.libc import check
from xdptstamp.errors import SystemCallError, UnsupportedError

#: Where ip-netns(8) keeps one mount point per named namespace.
NETNS_DIR = Path("/var/run/netns")

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_RDONLY = 0x1
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_MS_SHARED = 0x100000
_MNT_DETACH = 2

_THIS_NETNS = "/proc/thread-self/ns/net"
_NEEDS_ADMIN = "It needs CAP_SYS_ADMIN: run as root."

_T = TypeVar("_T")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)


def path_of(name: str) -> Path:
    """The mount point of namespace ``name``."""
    return NETNS_DIR / name


def inode_of(name: str) -> tuple[int, int] | None:
    """What tells namespace ``name`` from others (device, inode); None if there is none."""
    try:
        status = os.stat(path_of(name))
    except FileNotFoundError:
        return None
    # A mount point on which nothing is mounted is a leftover, not a namespace.
    if status.st_dev == os.stat(NETNS_DIR).st_dev:
        return None
    return status.st_dev, status.st_ino


def create(name: str) -> None:
    """Make network namespace ``name``; its ``lo`` is down.

    :raises SystemCallError: EEXIST if the name is taken, EPERM without CAP_SYS_ADMIN.
    :raises UnsupportedError: The kernel has no network namespaces.
    """
    mount_point = path_of(name)
    try:
        NETNS_DIR.mkdir(mode=0o755, exist_ok=True)
        _share_netns_dir()
        os.close(os.open(mount_point, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except SystemCallError:
        raise
    except OSError as error:
        raise _translated(error, "create", f"network namespace {name}") from None
    try:
        _in_new_thread(lambda: _pin_new_namespace(mount_point))
    except BaseException:
        remove(name)
        raise


def remove(name: str) -> None:
    """Take the name off a namespace; the kernel ends it with its last process and socket.

    Neither a missing name nor a missing namespace is an error.

    :raises SystemCallError: EPERM without CAP_SYS_ADMIN.
    """
    mount_point = path_of(name)
    if _libc.umount2(os.fsencode(mount_point), _MNT_DETACH) == -1:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):  # not mounted, not there
            raise SystemCallError(number, "umount", str(mount_point), _NEEDS_ADMIN)
    try:
        mount_point.unlink(missing_ok=True)
    except OSError as error:
        raise _translated(error, "unlink", str(mount_point)) from None


def enter(name: str) -> None:
    """Take the calling thread into namespace ``name`` for good, with a /sys that shows it.

    As ``ip netns exec`` does, but what is mounted below /sys (bpffs, cgroups, tracing) stays.

    :raises SystemCallError: ENOENT if there is no such namespace, EPERM without CAP_SYS_ADMIN.
    """
    _set_netns(name)
    if os.path.ismount("/sys"):
        _remount_sysfs()


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Take the calling thread into network namespace ``name``, and back. /sys stays as it is.

    :raises SystemCallError: As :func:`enter`.
    """
    before = os.open(_THIS_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_netns(name)
        yield
    finally:
        try:
            check(_libc.setns(before, _CLONE_NEWNET), "setns", "the namespace left before")
        finally:
            os.close(before)


def call_inside(name: str, function: Callable[[], _T]) -> _T:
    """Call ``function`` in network namespace ``name``, in a thread of its own.

    Sockets that it makes belong to the namespace and can be used from any thread.

    :raises SystemCallError: As :func:`enter`; besides, whatever ``function`` raises.
    """

    def work() -> _T:
        _set_netns(name)
        return function()

    return _in_new_thread(work)


def popen_inside(name: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a command in namespace ``name``: ``subprocess.Popen`` with its options.

    The process is the command itself, with no wrapper between: its pid, signals and exit status
    are the caller's to use.

    :raises SystemCallError: As :func:`enter`.
    :raises OSError: The command cannot be started, as from ``Popen``.
    """

    def work() -> subprocess.Popen[Any]:
        # fork() copies the namespaces of the thread that calls it, not those of the process.
        enter(name)
        return subprocess.Popen(argv, **options)

    return _in_new_thread(work)


def _in_new_thread(function: Callable[[], _T]) -> _T:
    # Leaving the block joins the thread also when a KeyboardInterrupt comes: nothing that the
    # caller undoes is still being done.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function).result()


def _translated(error: OSError, call: str, subject: str) -> SystemCallError:
    number = error.errno or errno.EIO
    advice = _NEEDS_ADMIN if number in (errno.EPERM, errno.EACCES) else ""
    return SystemCallError(number, call, subject, advice)


def _set_netns(name: str) -> None:
    subject = f"network namespace {name}"
    if inode_of(name) is None:
        advice = "Whatever made it has removed it, or never made it; `ip netns` lists those here."
        raise SystemCallError(errno.ENOENT, "setns", subject, advice)
    try:
        fd = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _translated(error, "open", subject) from None
    try:
        check(_libc.setns(fd, _CLONE_NEWNET), "setns", subject, _NEEDS_ADMIN)
    finally:
        os.close(fd)


def _mount(source: str, target: str, kind: str, flags: int) -> int:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode())
    return int(_libc.mount(*arguments, flags, None))


def _share_netns_dir() -> None:
    # What is mounted below a shared mount is seen, and later unmounted, in every mount namespace.
    target = str(NETNS_DIR)
    if _mount("none", target, "none", _MS_SHARED | _MS_REC) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:  # EINVAL: not a mount point yet
        check(-1, "mount", target, _NEEDS_ADMIN)
    check(_mount(target, target, "none", _MS_BIND | _MS_REC), "mount", target, _NEEDS_ADMIN)
    check(_mount("none", target, "none", _MS_SHARED | _MS_REC), "mount", target, _NEEDS_ADMIN)


def _pin_new_namespace(mount_point: Path) -> None:
    if _libc.unshare(_CLONE_NEWNET) == -1:
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            found = f"Linux {platform.release()} without it"
            raise UnsupportedError("a network namespace", "a kernel with CONFIG_NET_NS", found)
        raise SystemCallError(number, "unshare", "the network namespace", _NEEDS_ADMIN)
    target = str(mount_point)
    check(_mount(_THIS_NETNS, target, "none", _MS_BIND), "mount", target, _NEEDS_ADMIN)


def _remount_sysfs() -> None:
    # sysfs shows the network namespace it was mounted from. In a mount namespace of our own the
    # right one goes over the old; the mounts below the old are carried over.
    check(_libc.unshare(_CLONE_NEWNS), "unshare", "the mount namespace", _NEEDS_ADMIN)
    # Only /sys, not / as ip-netns does: in a chroot / is no mount point.
    check(_mount("none", "/sys", "none", _MS_SLAVE | _MS_REC), "mount", "/sys", _NEEDS_ADMIN)
    read_only = _MS_RDONLY if os.statvfs("/sys").f_flag & os.ST_RDONLY else 0
    with contextlib.ExitStack() as stack:
        below = []
        for target in _mounts_below_sys():
            fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            below.append((fd, target))
        check(_mount("sysfs", "/sys", "sysfs", read_only), "mount", "/sys", _NEEDS_ADMIN)
        for fd, target in below:
            source = f"/proc/thread-self/fd/{fd}"
            check(_mount(source, target, "none", _MS_BIND | _MS_REC), "mount", target)


def _mounts_below_sys() -> list[str]:
    # Field 5 of mountinfo is the mount point; one below another comes along with it (MS_REC).
    found: list[str] = []
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        points = sorted(line.split()[4] for line in lines)
    for point in points:
        if point.startswith("/sys/") and not any(point.startswith(f"{up}/") for up in found):
            found.append(point)
    return list(dict.fromkeys(found))
