# SPDX-License-Identifier: GPL-2.0-only
"""The only place with ctypes: kernel structs, libc, libxdp, libbpf.

What leaves this package are ints, bytes, memoryviews, NumPy arrays and
:class:`~xdptstamp.errors.SystemCallError`.
"""
