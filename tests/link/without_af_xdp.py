# SPDX-License-Identifier: GPL-2.0-only
"""Run a command as on a kernel without AF_XDP: ``without_af_xdp.py COMMAND...``.

A seccomp filter answers socket(AF_XDP, ...) as such a kernel does, and allows the rest.
"""

import ctypes  # noqa: TID251 - prctl(2)
import os
import platform
import struct
import sys

_SOCKET_CALL = {"x86_64": 41, "aarch64": 198, "riscv64": 198}
_AF_XDP = 44
_EAFNOSUPPORT = 97

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARGUMENT_AT = 0, 16  # in struct seccomp_data


def _filter():
    steps = (
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_EQUAL, 0, 3, _SOCKET_CALL[platform.machine()]),
        (_LOAD_WORD, 0, 0, _ARGUMENT_AT),
        (_JUMP_IF_EQUAL, 0, 1, _AF_XDP),
        (_RETURN, 0, 0, _ERRNO | _EAFNOSUPPORT),
        (_RETURN, 0, 0, _ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps), len(steps)


def main():
    """Install the filter and become the command."""
    code, length = _filter()
    steps = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("@HP", length, ctypes.addressof(steps)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0),
    ):
        if libc.prctl(*(ctypes.c_ulong(argument) for argument in arguments)):
            raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
