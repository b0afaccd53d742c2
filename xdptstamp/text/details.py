# SPDX-License-Identifier: GPL-2.0-only
"""How a run was made, for who was not there: the command, the machine, NIC, versions."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from xdptstamp.runinfo import RunInfo
from xdptstamp.text.lines import pair
from xdptstamp.text.mixed import machine_text

_VERSIONS = ("xdptstamp", "libbpf", "libxdp", "python")


def detail_lines(info: RunInfo, *, has_samples: bool, has_rounds: bool) -> list[str]:
    """What a run's header leaves out because whoever started it knows.

    :param has_samples: False: they are not in the run's folder.
    :param has_rounds: of ``mixed``; other kinds have none.
    """
    pairs = [
        *made_pairs(info),
        *missing_pairs(info, has_samples=has_samples, has_rounds=has_rounds),
    ]
    # A path of the command is to be copied.
    lines = pair("command", shlex.join(info.argv), keeps_words=True)
    return lines + [line for key, value in pairs for line in pair(key, value)]


def made_pairs(info: RunInfo) -> Iterator[tuple[str, object]]:
    """What the header leaves out of the machine, NIC and versions."""
    if info.kind != "mixed":  # its own header has these
        if info.dut.get("cpu_model") or info.dut.get("machine"):
            yield "machine", machine_text(info)
        if info.dut.get("kernel_release"):
            yield "kernel", info.dut["kernel_release"]
        if info.obtained.get("queues"):
            yield "queues", _queues(info)
    if info.nic.get("driver"):
        yield "NIC", _nic(info)
    umem = info.obtained.get("umem") or {}
    if umem:
        size = f"{umem.get('num_frames', '?')} frames of {umem.get('frame_size', '?')} bytes"
        yield "UMEM", f"{size}, metadata of {umem.get('tx_metadata_len', '?')}"
    versions = [f"{name} {info.versions[name]}" for name in _VERSIONS if name in info.versions]
    if versions:
        yield "versions", ", ".join(versions)


def _nic(info: RunInfo) -> str:
    nic = info.nic
    speed = nic.get("speed_mbps")
    parts = [
        f"driver {nic['driver']}",
        f"version {nic['driver_version']}" if nic.get("driver_version") else None,
        f"firmware {nic['firmware']}" if nic.get("firmware") else None,
        f"at {nic['bus']}" if nic.get("bus") else None,
        f"{speed} Mbit/s" if speed else None,
    ]
    return ", ".join(part for part in parts if part)


def _queues(info: RunInfo) -> str:
    obtained, asked = info.obtained["queues"], info.asked.get("queues")
    text = ", ".join(map(str, obtained))
    if asked is None:
        return f"{text} (asked all)"
    return text if asked == obtained else f"{text} (asked {asked})"


def missing_pairs(
    info: RunInfo, *, has_samples: bool, has_rounds: bool
) -> Iterator[tuple[str, object]]:
    """What a reader would look for in vain."""
    if info.state == "running":
        yield "note", "still being written: this is what is on disk by now"
    if not has_samples:
        yield "note", "the samples are not in this folder: nothing here is worked out from them"
    if info.state != "running" and not info.counts.keys() - {"recorder_overruns"}:
        yield "note", "no counts: the run did not live to write its own"
    if info.kind == "mixed" and not has_rounds:
        yield "note", "no rounds, and so no tables of them: they are written at the end"
