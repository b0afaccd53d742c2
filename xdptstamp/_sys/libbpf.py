# SPDX-License-Identifier: GPL-2.0-only
"""libbpf: one BPF object, its programs and maps, and a link to an interface.

Source: libbpf src/libbpf.h, src/bpf.h. Works with libbpf 1.1 (Debian 12) and newer.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from pathlib import Path

from xdptstamp.errors import BpfLoadError, SystemCallError, UnsupportedError

# Linux commit 2b3486bc2d23 ("bpf: Introduce device-bound XDP programs") (in v6.3)
BPF_F_XDP_DEV_BOUND_ONLY = 1 << 6

XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2

_BPF_XDP = 37  # enum bpf_attach_type


class bpf_link_create_opts(ctypes.Structure):
    # Only its head; libbpf takes the size from sz.
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
    )


#: What libbpf_set_print and libxdp_set_print take.
PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_P = ctypes.c_void_p
_INT = ctypes.c_int
_U32 = ctypes.c_uint32

# name: (restype, argtypes)
_SIGNATURES = {
    "bpf_object__open_file": (_P, (ctypes.c_char_p, _P)),
    "bpf_object__close": (None, (_P,)),
    "bpf_object__load": (_INT, (_P,)),
    "bpf_object__find_program_by_name": (_P, (_P, ctypes.c_char_p)),
    "bpf_object__find_map_by_name": (_P, (_P, ctypes.c_char_p)),
    "bpf_program__set_autoload": (_INT, (_P, ctypes.c_bool)),
    "bpf_program__set_ifindex": (None, (_P, _U32)),
    "bpf_program__set_flags": (_INT, (_P, _U32)),
    "bpf_program__fd": (_INT, (_P,)),
    "bpf_map__set_max_entries": (_INT, (_P, _U32)),
    "bpf_map__set_initial_value": (_INT, (_P, ctypes.c_char_p, ctypes.c_size_t)),
    "bpf_map__fd": (_INT, (_P,)),
    "bpf_map_update_elem": (_INT, (_INT, _P, _P, ctypes.c_uint64)),
    "bpf_map_delete_elem": (_INT, (_INT, _P)),
    "bpf_map_lookup_elem": (_INT, (_INT, _P, _P)),
    "bpf_link_create": (_INT, (_INT, _INT, _INT, ctypes.POINTER(bpf_link_create_opts))),
    "bpf_link_update": (_INT, (_INT, _INT, _P)),
    "bpf_prog_get_fd_by_id": (_INT, (_U32,)),
    "bpf_xdp_attach": (_INT, (_INT, _INT, _U32, _P)),
    "bpf_xdp_detach": (_INT, (_INT, _U32, _P)),
    "libbpf_num_possible_cpus": (_INT, ()),
    "libbpf_set_print": (_P, (PRINT,)),
    "libbpf_version_string": (ctypes.c_char_p, ()),
}

_messages: list[str] = []


@PRINT  # type: ignore[untyped-decorator]
def collect_message(level: int, text: bytes, arguments: int) -> int:
    """Keep what a library has to say, for an error's message, and off the user's terminal."""
    # It comes as a va_list, which every 64-bit ABI passes as a pointer.
    buffer = ctypes.create_string_buffer(1 << 16)
    vsnprintf = ctypes.CDLL(None).vsnprintf
    vsnprintf.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)
    vsnprintf(buffer, len(buffer), text, arguments)
    if level < 2:  # LIBBPF_WARN and LIBBPF_INFO; libxdp's are the same
        _messages.append(buffer.value.decode(errors="replace"))
    return 0


def take_messages() -> list[str]:
    """The lines the libraries wrote since the last call."""
    lines = "".join(_messages).splitlines()
    _messages.clear()
    return lines


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded libbpf with its signatures set and its messages kept for :class:`BpfLoadError`.

    :raises UnsupportedError: If it is not installed.
    """
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise UnsupportedError(
            "loading BPF programs", "libbpf.so.1 (Debian: apt install libbpf1)", "none"
        ) from error
    for name, (restype, argtypes) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype = restype
        function.argtypes = argtypes
    loaded.libbpf_set_print(collect_message)
    return loaded


def version() -> str:
    """libbpf's version, such as "1.1.2"; "none" if it is not installed."""
    try:
        text: bytes = library().libbpf_version_string()
    except UnsupportedError:
        return "none"
    return text.decode().removeprefix("v")


class BpfObject:
    """A compiled BPF object: choose its program, load it, use its maps.

    :param path: the ELF file.
    :param subject: what error messages call it.
    """

    def __init__(self, path: Path, subject: str) -> None:
        self._library = library()
        self._subject = subject
        self._programs: dict[str, int] = {}
        ctypes.set_errno(0)
        pointer = self._library.bpf_object__open_file(os.fsencode(path), None)
        if not pointer:
            raise SystemCallError(ctypes.get_errno(), "bpf_object__open_file", str(path))
        self.pointer: int | None = pointer

    def choose_program(self, name: str, others: tuple[str, ...]) -> None:
        """Load ``name`` and leave the ``others`` of the object alone."""
        for other in others:
            self._library.bpf_program__set_autoload(self._find_program(other), False)
        self._find_program(name)

    def bind_to_device(self, name: str, ifindex: int) -> None:
        """Make program ``name`` device-bound, as the Rx metadata kfuncs demand."""
        program = self._find_program(name)
        self._library.bpf_program__set_ifindex(program, ifindex)
        self._library.bpf_program__set_flags(program, BPF_F_XDP_DEV_BOUND_ONLY)

    def set_max_entries(self, map_name: str, count: int) -> None:
        """Size a map before the load."""
        self._check(
            self._library.bpf_map__set_max_entries(self._find_map(map_name), count), map_name
        )

    def set_rodata(self, value: bytes) -> None:
        """Set the constants (all of section .rodata) before the load."""
        rodata = self._find_map(".rodata")
        self._check(self._library.bpf_map__set_initial_value(rodata, value, len(value)), ".rodata")

    def load(self) -> None:
        """Hand the chosen program and the maps to the kernel.

        :raises BpfLoadError: With libbpf's messages and the verifier's log.
        """
        take_messages()
        result = self._library.bpf_object__load(self.pointer)
        if result:
            log = "\n".join(take_messages())
            raise BpfLoadError(-result, "loading the BPF program", self._subject, log)

    def program_fd(self, name: str) -> int:
        """The descriptor of a loaded program."""
        fd: int = self._library.bpf_program__fd(self._find_program(name))
        return fd

    def map_fd(self, name: str) -> int:
        """The descriptor of a loaded map."""
        fd: int = self._library.bpf_map__fd(self._find_map(name))
        return fd

    def close(self) -> None:
        """Drop programs and maps; the kernel keeps those in use."""
        if self.pointer is not None:
            self._library.bpf_object__close(self.pointer)
            self.pointer = None

    def _find_program(self, name: str) -> int:
        program = self._library.bpf_object__find_program_by_name(self.pointer, name.encode())
        return self._found(program, f"program {name}")

    def _find_map(self, name: str) -> int:
        return self._found(
            self._library.bpf_object__find_map_by_name(self.pointer, name.encode()), f"map {name}"
        )

    def _found(self, pointer: int | None, what: str) -> int:
        if not pointer:
            raise SystemCallError(errno.ENOENT, f"looking up {what}", self._subject)
        return pointer

    def _check(self, result: int, what: str) -> None:
        if result:
            raise SystemCallError(-result, f"setting {what}", self._subject)


def update_map(fd: int, key: int, value: int) -> None:
    """Set a map's element; key and value are 32 bits.

    :raises SystemCallError: If the kernel refuses.
    """
    result = library().bpf_map_update_elem(
        fd, ctypes.byref(ctypes.c_uint32(key)), ctypes.byref(ctypes.c_uint32(value)), 0
    )
    if result:
        raise SystemCallError(-result, "bpf_map_update_elem", f"key {key}")


def delete_from_map(fd: int, key: int) -> None:
    """Remove a map's element; one that is gone already (its socket closed) is fine."""
    result = library().bpf_map_delete_elem(fd, ctypes.byref(ctypes.c_uint32(key)))
    if result and result != -errno.ENOENT:
        raise SystemCallError(-result, "bpf_map_delete_elem", f"key {key}")


def sum_percpu(fd: int, num_entries: int) -> list[int]:
    """The values of a per-CPU array of 64-bit counters, summed over CPUs."""
    values = (ctypes.c_uint64 * library().libbpf_num_possible_cpus())()
    sums = []
    for key in range(num_entries):
        result = library().bpf_map_lookup_elem(fd, ctypes.byref(ctypes.c_uint32(key)), values)
        if result:
            raise SystemCallError(-result, "bpf_map_lookup_elem", f"key {key}")
        sums.append(sum(values))
    return sums


def attach_xdp_link(program_fd: int, ifindex: int, flags: int, subject: str) -> int:
    """Attach by bpf_link; the program goes when the returned descriptor is closed, by whomever.

    :param flags: :data:`XDP_FLAGS_DRV_MODE` or :data:`XDP_FLAGS_SKB_MODE`.
    :raises SystemCallError: EBUSY: a program is attached already.
    """
    options = bpf_link_create_opts(sz=ctypes.sizeof(bpf_link_create_opts), flags=flags)
    fd: int = library().bpf_link_create(program_fd, ifindex, _BPF_XDP, ctypes.byref(options))
    if fd < 0:
        raise SystemCallError(-fd, "attaching the XDP program", subject)
    return fd


def update_link(link_fd: int, program_fd: int, subject: str) -> None:
    """Put another program in the place of the one that hangs on a bpf_link, in one step.

    :raises SystemCallError: The kernel refuses.
    """
    error: int = library().bpf_link_update(link_fd, program_fd, None)
    if error < 0:
        raise SystemCallError(-error, "replacing the XDP program", subject)


def take_program(program_id: int, subject: str) -> int:
    """A descriptor of a loaded program, to attach it again later."""
    fd: int = library().bpf_prog_get_fd_by_id(program_id)
    if fd < 0:
        raise SystemCallError(-fd, "bpf_prog_get_fd_by_id", subject, "It needs CAP_SYS_ADMIN.")
    return fd


def detach_xdp(ifindex: int, flags: int, subject: str) -> None:
    """Detach what was attached by netlink in the mode of ``flags``.

    :raises SystemCallError: EBUSY or EINVAL if it hangs on a bpf_link, which only its owner ends.
    """
    result = library().bpf_xdp_detach(ifindex, flags, None)
    if result:
        raise SystemCallError(-result, "detaching the XDP program", subject)


def attach_xdp(program_fd: int, ifindex: int, flags: int, subject: str) -> None:
    """Attach by netlink: for putting back what :func:`detach_xdp` took away."""
    result = library().bpf_xdp_attach(ifindex, program_fd, flags, None)
    if result:
        raise SystemCallError(-result, "attaching the XDP program", subject)
