# SPDX-License-Identifier: GPL-2.0-only
"""Every struct, constant and counter that C and Python both know, as a C compiler sees it.

The installed headers are used for what they have. What is newer than Debian 12's is written down
here, from include/uapi/linux/if_xdp.h of Linux v6.17 and headers/xdp/xsk.h of xdp-tools v1.6.
"""

import ctypes  # noqa: TID251 - the layouts of its structures are what is tested
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from xdptstamp import program, ring, txmd
from xdptstamp._sys import dispatcher, if_xdp, libbpf, libxdp
from xdptstamp.measure import responder
from xdptstamp.umem import PACKET_HEADROOM

BPF_DIR = Path(__file__).parents[2] / "bpf"
COMPILERS = ("cc", "gcc", "clang", "clang-14")

PRELUDE = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include "xdptstamp.h"

#define SIZE(type) printf("%s %zu\n", #type, sizeof(struct type))
#define FIELD(type, field) printf("%s.%s %zu+%zu\n", #type, #field, \
	offsetof(struct type, field), sizeof(((struct type *)0)->field))
#define NUMBER(name) printf("%s %llu\n", #name, (unsigned long long)(name))
"""

# What may be newer than the headers.
UAPI = r"""
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#define XDP_PKT_CONTD (1 << 0)
#endif
#ifndef XDP_UMEM_TX_METADATA_LEN
#define XDP_UMEM_TX_METADATA_LEN (1 << 2)
#define XDP_TXMD_FLAGS_TIMESTAMP (1 << 0)
#define XDP_TXMD_FLAGS_CHECKSUM (1 << 1)
#define XDP_TX_METADATA (1 << 1)
#define xdp_umem_reg xdp_umem_reg_of_6_11
struct xdp_umem_reg_of_6_11 {
	__u64 addr;
	__u64 len;
	__u32 chunk_size;
	__u32 headroom;
	__u32 flags;
	__u32 tx_metadata_len;
};
#endif
#ifndef XDP_TXMD_FLAGS_LAUNCH_TIME
#define XDP_TXMD_FLAGS_LAUNCH_TIME (1 << 2)
#define xsk_tx_metadata xsk_tx_metadata_of_6_15
struct xsk_tx_metadata_of_6_15 {
	__u64 flags;
	union {
		struct {
			__u16 csum_start;
			__u16 csum_offset;
			__u64 launch_time;
		} request;
		struct {
			__u64 tx_timestamp;
		} completion;
	};
};
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif
#ifndef BPF_F_XDP_DEV_BOUND_ONLY
#define BPF_F_XDP_DEV_BOUND_ONLY (1U << 6)
#endif
"""

# Since xdp-tools v1.5; the installed header may be older.
XSK_OPTIONS = r"""
struct xsk_umem_opts_of_1_5 {
	size_t sz;
	int fd;
	__u64 size;
	__u32 fill_size;
	__u32 comp_size;
	__u32 frame_size;
	__u32 frame_headroom;
	__u32 flags;
	__u32 tx_metadata_len;
	size_t :0;
};
struct xsk_socket_opts_of_1_5 {
	size_t sz;
	void *rx;
	void *tx;
	void *fill;
	void *comp;
	__u32 rx_size;
	__u32 tx_size;
	__u32 libxdp_flags;
	__u32 xdp_flags;
	__u16 bind_flags;
	size_t :0;
};
#ifdef xsk_umem_opts__last_field
_Static_assert(sizeof(struct xsk_umem_opts) == sizeof(struct xsk_umem_opts_of_1_5), "");
_Static_assert(sizeof(struct xsk_socket_opts) == sizeof(struct xsk_socket_opts_of_1_5), "");
_Static_assert(offsetof(struct xsk_umem_opts, tx_metadata_len) ==
		offsetof(struct xsk_umem_opts_of_1_5, tx_metadata_len), "");
_Static_assert(offsetof(struct xsk_socket_opts, bind_flags) ==
		offsetof(struct xsk_socket_opts_of_1_5, bind_flags), "");
#endif
"""


def find_compiler():
    return next(filter(None, map(shutil.which, COMPILERS)), None)


COMPILER = find_compiler()
# Each test needs one; Debian's clang, which compiles bpf/, brings all that a C program needs.
pytestmark = pytest.mark.skipif(COMPILER is None, reason=f"none of {', '.join(COMPILERS)}")


def run_c(tmp_path, prelude, statements):
    """What a C program of these statements prints: name to the rest of its line."""
    source, binary = tmp_path / "abi.c", tmp_path / "abi"
    source.write_text(
        prelude + "int main(void)\n{\n" + "\n".join(statements) + "\n\treturn 0;\n}\n"
    )
    command = (COMPILER, "-std=gnu11", "-Wall", "-Werror", "-I", BPF_DIR, source, "-o", binary)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = subprocess.run((binary,), capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in printed.splitlines())


def numbers_in_c(tmp_path, prelude, names):
    values = run_c(tmp_path, prelude, [f"\tNUMBER({name});" for name in names])
    return {name: int(value) for name, value in values.items()}


def layout_in_c(tmp_path, prelude, type_name, fields):
    """Size of a struct, and offset and size of each field, as C has them."""
    statements = [f"\tSIZE({type_name});"]
    statements += [f"\tFIELD({type_name}, {field});" for field in fields]
    values = run_c(tmp_path, prelude, statements)
    layout = {name.split(".", 1)[1]: value for name, value in values.items() if "." in name}
    return int(values[type_name]), layout


def layout_of_structure(structure):
    """The same of a ctypes structure."""
    fields = {}
    for name, *_ in structure._fields_:
        field = getattr(structure, name)
        fields[name] = f"{field.offset}+{field.size}"
    return ctypes.sizeof(structure), fields


def layout_of_dtype(dtype):
    """The same of a NumPy structured type."""
    fields = {name: f"{offset}+{kind.itemsize}" for name, (kind, offset) in dtype.fields.items()}
    return dtype.itemsize, fields


@pytest.mark.parametrize(
    "structure",
    [
        if_xdp.xdp_umem_reg,
        if_xdp.sockaddr_xdp,
        if_xdp.xdp_ring_offset,
        if_xdp.xdp_mmap_offsets,
        if_xdp.xdp_statistics,
        if_xdp.xdp_desc,
    ],
    ids=lambda structure: structure.__name__,
)
def test_a_kernel_struct_is_as_in_c(tmp_path, structure):
    ours = layout_of_structure(structure)
    assert layout_in_c(tmp_path, PRELUDE + UAPI, structure.__name__, ours[1]) == ours


def test_an_entry_of_rx_and_tx_is_as_in_c(tmp_path):
    ours = layout_of_dtype(ring.DESC_DTYPE)
    assert layout_in_c(tmp_path, PRELUDE + UAPI, "xdp_desc", ours[1]) == ours


def test_tx_metadata_is_as_in_c(tmp_path):
    fields = (
        "flags",
        "completion.tx_timestamp",
        "request.csum_start",
        "request.csum_offset",
        "request.launch_time",
    )
    size, layout = layout_in_c(tmp_path, PRELUDE + UAPI, "xsk_tx_metadata", fields)
    assert size == txmd.METADATA_LEN == ctypes.sizeof(if_xdp.xsk_tx_metadata)
    assert layout["completion.tx_timestamp"] == f"{txmd.STAMP_OFFSET}+8"
    _, ours = layout_of_structure(if_xdp.xsk_tx_metadata)
    assert ours == {
        "flags": layout["flags"],
        "tx_timestamp": layout["completion.tx_timestamp"],
        "launch_time": layout["request.launch_time"],
    }
    # The sentinel's bytes, 12 to 15, are no part of any request.
    assert layout["request.csum_start"] == "8+2"
    assert layout["request.csum_offset"] == "10+2"
    assert layout["request.launch_time"] == "16+8"


def test_kernel_constants_are_as_in_c(tmp_path):
    names = [name for name in vars(if_xdp) if name.startswith(("XDP_", "AF_", "SOL_"))]
    # Not part of the UAPI: headroom is include/linux/bpf.h's, the families are socket.h's.
    names = sorted(set(names) - {"XDP_PACKET_HEADROOM", "AF_XDP", "SOL_XDP"})
    assert len(names) > 20
    ours = {name: getattr(if_xdp, name) for name in names}
    assert numbers_in_c(tmp_path, PRELUDE + UAPI, names) == ours


def test_socket_constants_are_as_in_c(tmp_path):
    names = ("AF_XDP", "SOL_XDP")
    prelude = "#include <sys/socket.h>\n" + PRELUDE
    assert numbers_in_c(tmp_path, prelude, names) == {"AF_XDP": 44, "SOL_XDP": 283}
    assert (if_xdp.AF_XDP, if_xdp.SOL_XDP) == (44, 283)


def test_attach_constants_are_as_in_c(tmp_path):
    ours = {
        "BPF_F_XDP_DEV_BOUND_ONLY": libbpf.BPF_F_XDP_DEV_BOUND_ONLY,
        "XDP_FLAGS_SKB_MODE": libbpf.XDP_FLAGS_SKB_MODE,
        "XDP_FLAGS_DRV_MODE": libbpf.XDP_FLAGS_DRV_MODE,
        "BPF_XDP": libbpf._BPF_XDP,
    }
    assert numbers_in_c(tmp_path, PRELUDE + UAPI, ours) == ours


def test_the_head_of_libbpfs_link_options_is_as_in_c(tmp_path):
    _, ours = layout_of_structure(libbpf.bpf_link_create_opts)
    size, layout = layout_in_c(tmp_path, PRELUDE, "bpf_link_create_opts", ours)
    assert layout == ours
    # libbpf reads a shorter struct as if the rest were zero.
    assert size >= ctypes.sizeof(libbpf.bpf_link_create_opts)


# bpf/xdptstamp.h


def test_what_the_program_stores_is_as_in_c(tmp_path):
    ours = layout_of_dtype(program.META_DTYPE)
    assert layout_in_c(tmp_path, PRELUDE, "xdptstamp_rx_meta", ours[1]) == ours
    assert program.META_LEN == ours[0]
    # bpf_xdp_adjust_meta takes no other length; and no member may lie in another's padding.
    assert program.META_LEN % 4 == 0
    assert program.META_LEN <= 252
    sizes = [program.META_DTYPE[name].itemsize for name in program.META_DTYPE.names]
    assert sum(sizes) == program.META_LEN


def test_room_for_a_reply_is_as_in_c(tmp_path):
    numbers = numbers_in_c(tmp_path, PRELUDE, ("XDPTSTAMP_TX_ROOM",))
    assert numbers == {"XDPTSTAMP_TX_ROOM": program.TX_ROOM}
    vlan_len = 4
    assert program.TX_ROOM >= txmd.METADATA_LEN + vlan_len
    # It is the end of the struct, so what stands before it survives the reply.
    _, layout = layout_of_dtype(program.META_DTYPE)
    assert layout["tx_room"] == f"{program.META_LEN - program.TX_ROOM}+{program.TX_ROOM}"
    assert program.META_LEN <= PACKET_HEADROOM == if_xdp.XDP_PACKET_HEADROOM


def test_version_and_bits_are_as_in_c(tmp_path):
    ours = {
        "XDPTSTAMP_META_VERSION": program.META_VERSION,
        "XDPTSTAMP_VALID_RX_HW": program.VALID_RX_HW,
        "XDPTSTAMP_VALID_HASH": program.VALID_HASH,
        "XDPTSTAMP_VALID_VLAN": program.VALID_VLAN,
        "XDPTSTAMP_VALID_REPLY": program.VALID_REPLY,
        "XDPTSTAMP_TX_METADATA_LEN": txmd.METADATA_LEN,
        "XDPTSTAMP_SENTINEL": txmd.SENTINEL,
    }
    assert numbers_in_c(tmp_path, PRELUDE, ours) == ours


def test_counters_are_those_of_c_in_its_order(tmp_path):
    names = [f"XDPTSTAMP_{name.upper()}" for name in program.COUNTERS]
    numbers = numbers_in_c(tmp_path, PRELUDE, [*names, "XDPTSTAMP_NUM_COUNTERS"])
    assert numbers.pop("XDPTSTAMP_NUM_COUNTERS") == len(program.COUNTERS)
    assert list(numbers.values()) == list(range(len(program.COUNTERS)))


def test_the_constants_of_a_load_are_as_in_c(tmp_path):
    names = ("port", "mac", "is_sink", "makes_replies", "reply_flags", "reserved")
    size, layout = layout_in_c(tmp_path, PRELUDE, "xdptstamp_config", names)
    assert layout == {
        "port": "0+2",
        "mac": "2+6",
        "is_sink": "8+1",
        "makes_replies": "9+1",
        "reply_flags": "10+1",
        "reserved": "11+5",
    }
    assert size == 16
    assert program._CONFIG.size == size
    # The port is in network byte order, the address as it is.
    packed = program._CONFIG.pack(9091, b"\2\0\0\0\0\1", False, True, 3)
    assert packed == b"\x23\x83\2\0\0\0\0\1\0\1\3" + bytes(5)


def test_the_responders_shortcuts_are_the_same_layout():
    fields = program.META_DTYPE.fields
    packed = responder._META.pack(program.META_VERSION, 14, 34, 4, 6, 0xABCD)
    meta = bytearray(program.META_LEN)
    meta[: len(packed)] = packed
    found = np.frombuffer(meta, dtype=program.META_DTYPE)[0]
    assert found["version"] == program.META_VERSION
    assert (found["l3_offset"], found["l4_offset"]) == (14, 34)
    assert (found["valid"], found["ip_version"], found["udp_csum"]) == (4, 6, 0xABCD)
    assert responder._VLAN_OFFSET == fields["vlan_proto"][1]
    assert fields["vlan_tci"][1] == responder._VLAN_OFFSET + 2


# libxdp

needs_libxdp_dev = pytest.mark.skipif(
    not Path("/usr/include/xdp/libxdp.h").is_file(), reason="no libxdp-dev: no header to compare"
)
LIBXDP = "#include <xdp/libxdp.h>\n#include <xdp/xsk.h>\n"


@needs_libxdp_dev
@pytest.mark.parametrize("name", ["xsk_ring_prod", "xsk_ring_cons"])
def test_libxdps_rings_are_as_in_c(tmp_path, name):
    ours = layout_of_structure(libxdp.xsk_ring)
    assert layout_in_c(tmp_path, PRELUDE + LIBXDP, name, ours[1]) == ours


@needs_libxdp_dev
def test_libxdps_program_options_are_as_in_c(tmp_path):
    _, ours = layout_of_structure(dispatcher.xdp_program_opts)
    size, layout = layout_in_c(tmp_path, PRELUDE + LIBXDP, "xdp_program_opts", ours)
    assert layout == ours
    assert size == ctypes.sizeof(dispatcher.xdp_program_opts)


@needs_libxdp_dev
def test_libxdps_constants_are_as_in_c(tmp_path):
    ours = {
        "XDP_MODE_NATIVE": dispatcher._MODES["native"],
        "XDP_MODE_SKB": dispatcher._MODES["skb"],
        "XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD": libxdp.LIBXDP_FLAGS_INHIBIT_PROG_LOAD,
    }
    assert numbers_in_c(tmp_path, PRELUDE + LIBXDP, ours) == ours


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("xsk_umem_opts_of_1_5", libxdp.xsk_umem_opts),
        ("xsk_socket_opts_of_1_5", libxdp.xsk_socket_opts),
    ],
)
def test_libxdps_options_are_as_in_c(tmp_path, name, structure):
    header = LIBXDP if Path("/usr/include/xdp/xsk.h").is_file() else ""
    ours = layout_of_structure(structure)
    prelude = PRELUDE + header + XSK_OPTIONS
    assert layout_in_c(tmp_path, prelude, name, ours[1]) == ours
