# SPDX-License-Identifier: GPL-2.0-only
"""The AF_XDP metadata contract as cases that any driver can be run against.

A case drives the kernel (``observe``) and then judges what it saw (``judge``), which is plain
arithmetic over plain data: a judgement can be shown to fail without a driver that does.
"""
