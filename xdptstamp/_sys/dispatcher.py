# SPDX-License-Identifier: GPL-2.0-only
"""Attaching through libxdp's dispatcher, beside other XDP programs.

The dispatcher is pinned in bpffs and outlives a killed owner; hence never the default. Source:
xdp-tools headers/xdp/libxdp.h; ``xdp_program__create`` since 1.3.
"""

from __future__ import annotations

import contextlib
import ctypes

from xdptstamp._sys import libbpf, libxdp
from xdptstamp.errors import SystemCallError, UnsupportedError

_MODES = {"auto": 1, "native": 1, "skb": 2}  # enum xdp_attach_mode
_NAMES = {1: "native", 2: "skb"}
_MAX_ERRNO = 4095
_PREFIX = "libxdp:"


class xdp_program_opts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("obj", ctypes.c_void_p),
        ("opts", ctypes.c_void_p),
        ("prog_name", ctypes.c_char_p),
        ("find_filename", ctypes.c_char_p),
        ("open_filename", ctypes.c_char_p),
        ("pin_path", ctypes.c_char_p),
        ("id", ctypes.c_uint32),
        ("fd", ctypes.c_int),
    )


def _library() -> ctypes.CDLL:
    library = libxdp.library()
    library.xdp_program__create.restype = ctypes.c_void_p
    library.xdp_program__create.argtypes = (ctypes.POINTER(xdp_program_opts),)
    for name in ("xdp_program__attach", "xdp_program__detach"):
        function = getattr(library, name)
        function.restype = ctypes.c_int
        function.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_uint)
    library.xdp_program__close.restype = None
    library.xdp_program__close.argtypes = (ctypes.c_void_p,)
    library.xdp_multiprog__get_from_ifindex.restype = ctypes.c_void_p
    library.xdp_multiprog__get_from_ifindex.argtypes = (ctypes.c_int,)
    library.xdp_multiprog__is_legacy.restype = ctypes.c_bool
    library.xdp_multiprog__is_legacy.argtypes = (ctypes.c_void_p,)
    library.xdp_multiprog__close.restype = None
    library.xdp_multiprog__close.argtypes = (ctypes.c_void_p,)
    library.libxdp_set_print.argtypes = (libbpf.PRINT,)
    library.libxdp_set_print(libbpf.collect_message)
    return library


def attach(  # noqa: PLR0917 - one call of the library
    loaded: libbpf.BpfObject,
    program_name: str,
    ifindex: int,
    xdp_mode: str,
    subject: str,
    stack: contextlib.ExitStack,
) -> str:
    """Load ``program_name`` of an opened object and add it to the interface's dispatcher.

    :param stack: gets what undoes it.
    :return: the mode obtained, "native" or "skb".
    :raises UnsupportedError: libxdp is missing, or no dispatcher is possible here.
    :raises SystemCallError: libxdp refuses; EBUSY: a program is attached without a dispatcher.
    """
    library = _library()
    options = xdp_program_opts(
        sz=ctypes.sizeof(xdp_program_opts), obj=loaded.pointer, prog_name=program_name.encode()
    )
    program = library.xdp_program__create(ctypes.byref(options))
    code = _error_in_pointer(program)
    if code:
        raise SystemCallError(code, "xdp_program__create", subject)
    stack.callback(library.xdp_program__close, program)
    mode = _MODES[xdp_mode]
    libbpf.take_messages()
    result = library.xdp_program__attach(program, ifindex, mode, 0)
    messages = _in_a_sentence(libbpf.take_messages())
    if result:
        raise SystemCallError(-result, "adding to the XDP dispatcher", subject, messages)
    stack.callback(_detach, library, program, ifindex, mode, subject)
    if not _is_dispatched(library, ifindex):
        # Where no dispatcher is possible libxdp attaches the program alone, and says it worked.
        needs = "a bpffs (mount -t bpf bpf /sys/fs/bpf) and a kernel that takes freplace programs"
        raise UnsupportedError(f"libxdp's dispatcher on {subject}", needs, messages)
    return _NAMES[mode]


def _is_dispatched(library: ctypes.CDLL, ifindex: int) -> bool:
    attached = library.xdp_multiprog__get_from_ifindex(ifindex)
    if attached is None or _error_in_pointer(attached):
        return False
    try:
        return not library.xdp_multiprog__is_legacy(attached)
    finally:
        library.xdp_multiprog__close(attached)


def _in_a_sentence(messages: list[str]) -> str:
    # libbpf's own lines, also of what went well, are in between.
    own = [message for message in messages if message.startswith(_PREFIX)]
    texts = [message.removeprefix(_PREFIX).strip() for message in own]
    return "; ".join(text for text in texts if not text.startswith("Falling back"))


def _detach(library: ctypes.CDLL, program: int, ifindex: int, mode: int, subject: str) -> None:
    result = library.xdp_program__detach(program, ifindex, mode, 0)
    if result:
        raise SystemCallError(-result, "leaving the XDP dispatcher", subject)


def _error_in_pointer(pointer: int | None) -> int:
    # libxdp returns errors as pointers in the last page, as the kernel does.
    value = ctypes.c_ssize_t(pointer or 0).value
    if pointer is None:
        return ctypes.get_errno()
    return -value if -_MAX_ERRNO <= value < 0 else 0
