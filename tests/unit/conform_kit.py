# SPDX-License-Identifier: GPL-2.0-only
"""What a driver made of a few made-up rules, for tests of the forms it is shown in."""

import contextlib
import io
from dataclasses import replace

from xdptstamp.conformance import CaseResult, Conformance, Rule
from xdptstamp.text.conform.output import open_conform_output

BOTH = {
    "copy": "every stamp lies between submit and completion",
    "zero-copy": "every stamp lies between submit and completion, on the PHC",
}
BOUNDS = Rule(
    key="stamp-in-bounds",
    group="stamps",
    title="stamps lie between submit and completion",
    text="100 packets are sent one by one, each asking for a stamp; none may be older than its "
    "submit, nor newer than its completion.",
    source="Documentation/networking/xsk-tx-metadata.rst",
    expected=BOTH,
)
STALE = replace(
    BOUNDS,
    key="stamp-not-stale",
    title="a frame that is used again shows no stamp of before",
    text="A frame is sent twice, the second time without asking.",
)
SHORT = Rule(
    key="metadata-too-short",
    group="negative",
    title="a UMEM with 8 bytes of metadata is refused",
    text="A UMEM is registered with tx_metadata_len 8.",
    source="net/xdp/xdp_umem.c xdp_umem_reg()",
    expected={"copy": "EINVAL", "zero-copy": "EINVAL"},
)
CLOSE = Rule(
    key="close-with-pending",
    group="negative",
    title="a socket may close while a stamp is pending",
    text="One packet is sent, and the socket closed before its completion.",
    source="Linux commit 45b33e805bd3",
    expected={"zero-copy": "the kernel goes on"},
    danger="kernels without Linux commit 45b33e805bd3 page-fault",
)
RULES = (BOUNDS, STALE, SHORT, CLOSE)

PASSED = CaseResult(
    BOUNDS, "pass", "100 of 100 stamps in bounds", 1_234_567_890, figures={"num_stamps": 100}
)
SKIPPED = CaseResult(STALE, "skip", "the driver returns no stamps")
FAILED = CaseResult(
    SHORT,
    "fail",
    "the kernel took it, and wrote the stamp over the packet's first 8 bytes",
    5_000_000,
    figures={"first_word": 1763818000000000000, "ratio": 0.5},
    kernel_log=("[12.3] WARNING: CPU: 0 PID: 1 at net/xdp/xsk.c:1", "ok 7 not a line of KTAP"),
)
KNOWN = CaseResult(
    CLOSE,
    "known-fault",
    "the kernel log has a page fault",
    fault="exit-with-pending-stamp",
    fault_note="known fault of igc (fixed by Linux commit 45b33e805bd3): kernel page fault",
)
ALL = (PASSED, SKIPPED, FAILED, KNOWN)


def conformance_of(*results, mode="zero-copy", **fields):
    """A run on eth1 that came to these ``results``."""
    fields = {
        "ifname": "eth1",
        "driver": "igc",
        "kernel": "6.12.117+deb13-amd64",
        "argv": ["xdptstamp", "conform", "eth1"],
        "started_utc": "2026-01-22T13:26:05Z",
        "versions": {"xdptstamp": "0.1.0", "libbpf": "1.1.2"},
        **fields,
    }
    return Conformance(mode=mode, results=list(results), **fields)


def written(form, conformance, num=None, *, is_strict=False):
    """All that is written to stdout in the form of that name."""
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        output = open_conform_output(form, is_strict=is_strict)
        output.begin(
            replace(conformance, results=[], notes=[], ended_by=None),
            len(conformance.results) if num is None else num,
        )
        for result in conformance.results:
            output.line(result)
        output.end(conformance)
    return stdout.getvalue()
