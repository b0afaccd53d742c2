# SPDX-License-Identifier: GPL-2.0-only
"""The description of a machine, on trees made by hand, and the arithmetic of counters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xdptstamp.collect import (
    collect_dut,
    collect_versions,
    missing_capabilities,
    pair_counters,
    pause_frames,
    tx_counter,
)
from xdptstamp.drivers import known_driver

UUID = "sys/class/dmi/id/product_uuid"
SERIAL = "sys/class/dmi/id/board_serial"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    put(tmp_path, "proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n")
    put(tmp_path, "proc/cpuinfo", "model name\t: Some CPU\nflags\t\t: fpu vme\n")
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dut_id(root: Path) -> str:
    return str(collect_dut(root)["dut_id"])


def test_the_dut_id_is_stable_and_gives_nothing_away(root: Path) -> None:
    put(root, SERIAL, "BOARD-0042\n")
    first = collect_dut(root)
    assert first["dut_id_from"] == ["machine_id", "board_serial"]
    put(root, "proc/cmdline", "isolcpus=1")
    assert dut_id(root) == first["dut_id"]
    assert len(first["dut_id"]) == 16
    assert "0123456789abcdef" not in json.dumps(first)
    assert "BOARD-0042" not in json.dumps(first)


def test_boards_with_one_image_are_told_apart(root: Path) -> None:
    ids = set()
    for serial in ("A1", "A2", "A3"):
        put(root, SERIAL, serial)
        ids.add(dut_id(root))
    assert len(ids) == 3


@pytest.mark.parametrize(
    "serial",
    [
        "To Be Filled By O.E.M.",
        "Default string",
        "None",
        "0000000000",
        "03000200-0400-0500-0006-000700080009",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "Not Specified",
        "",
    ],
)
def test_a_serial_that_firmware_left_empty_is_none(root: Path, serial: str) -> None:
    before = dut_id(root)
    put(root, SERIAL, serial + "\n")
    put(root, UUID, serial + "\n")
    assert dut_id(root) == before
    assert collect_dut(root)["dut_id_from"] == ["machine_id"]


def test_a_machine_without_any_id_goes_by_its_hostname(tmp_path: Path) -> None:
    dut = collect_dut(tmp_path)
    assert dut["dut_id_from"] == ["hostname"]
    assert len(dut["dut_id"]) == 16


def test_only_boot_parameters_that_matter_are_kept(root: Path) -> None:
    put(root, "proc/cmdline", "quiet token=secret isolcpus=2,3 nohz_full=2,3 mitigations=off x.y=1")
    assert collect_dut(root)["cmdline"] == ["isolcpus=2,3", "nohz_full=2,3", "mitigations=off"]


def test_the_active_preemption_is_told(root: Path) -> None:
    assert collect_dut(root)["preemption"]["mode"] is None
    put(root, "proc/cmdline", "preempt=none")
    assert collect_dut(root)["preemption"]["mode"] == "none"
    put(root, "sys/kernel/debug/sched/preempt", "none voluntary (full) lazy\n")
    assert collect_dut(root)["preemption"]["mode"] == "full"


def test_governors_are_grouped(root: Path) -> None:
    assert collect_dut(root)["governors"] == {}
    for cpu, governor in ((0, "powersave"), (2, "performance"), (10, "performance")):
        name = f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
        put(root, name, governor + "\n")
    assert collect_dut(root)["governors"] == {"powersave": [0], "performance": [2, 10]}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("proc/cpuinfo", "flags\t: fpu hypervisor lahf_lm\n", True),
        ("proc/cpuinfo", "flags\t: fpu lahf_lm\n", False),
        ("sys/class/dmi/id/sys_vendor", "QEMU\n", True),
        ("proc/device-tree/hypervisor/compatible", "linux,kvm\0", True),
        ("proc/cpuinfo", "CPU implementer\t: 0x41\n", None),
    ],
)
def test_guests_are_told(tmp_path: Path, name: str, text: str, expected: bool | None) -> None:
    put(tmp_path, name, text)
    assert collect_dut(tmp_path)["is_guest"] is expected


def test_the_device_tree_names_a_board(tmp_path: Path) -> None:
    put(tmp_path, "proc/device-tree/model", "Some Board Rev 2\0")
    put(tmp_path, "proc/device-tree/serial-number", "10000000abcdef\0")
    dut = collect_dut(tmp_path)
    assert dut["product"] == dut["cpu_model"] == "Some Board Rev 2"
    assert dut["dut_id_from"] == ["device_tree_serial"]


def test_the_real_machine_can_be_described() -> None:
    dut = collect_dut()
    assert json.loads(json.dumps(dut)) == dut
    assert dut["num_cpus"] >= 1
    assert dut["kernel_release"] in Path("/proc/version").read_text()
    assert dut["dut_id"] == dut_id(Path("/"))


def test_versions_of_libraries_are_added() -> None:
    versions = collect_versions({"libxdp": "1.3.1"})
    assert versions["libxdp"] == "1.3.1"
    assert versions["python"].startswith("3.")
    assert versions["pyroute2"][0].isdigit()


def test_counters_that_changed_are_paired() -> None:
    before = {"same": 5, "more": 5, "reset": 5, "gone": 5}
    after = {"same": 5, "more": 9, "reset": 1, "new": 7}
    assert pair_counters(before, after) == {
        "more": {"before": 5, "after": 9},
        "reset": {"before": 5, "after": 1},
    }


IGC_PAUSE = {
    "rx_flow_control_xon": 1,
    "rx_flow_control_xoff": 2,
    "tx_flow_control_xon": 3,
    "tx_flow_control_xoff": 0,
}


def test_pause_frames_of_a_known_driver_are_those_in_its_row() -> None:
    driver = known_driver("igc")
    assert driver is not None
    assert set(driver.pause_counters) == set(IGC_PAUSE)
    assert pause_frames("igc", {"tx_packets": 9, "pause": 5, **IGC_PAUSE}) == IGC_PAUSE
    assert pause_frames("igc", {"tx_packets": 9, "rx_flow_control_xon": 4}) == {
        "rx_flow_control_xon": 4
    }


@pytest.mark.parametrize(
    "name",
    [
        "rx_flow_control_xon",
        "rx_pause_frames",
        "mmc_tx_pause_frame",
        "rx_prio0_pause",
        "tx_pause_ctrl_phy",
        "port.link_xoff_rx",
        "tx_pb_0_pxon",
        "RxPauseFrames",
    ],
)
def test_pause_frames_of_an_unknown_driver_go_by_their_names(name: str) -> None:
    assert pause_frames("other", {"tx_packets": 9, name: 5}) == {name: 5}


@pytest.mark.parametrize(
    "name",
    [
        "tx_packets",
        "tx_global_pause_duration",
        "rx_prio0_pause_transition",
        "tx_pause_storm_warning_events",
        "port.tx_priority_0_xon_2_xoff",
        "tx_restart_queue",
    ],
)
def test_what_counts_no_pause_frames(name: str) -> None:
    assert pause_frames("other", {name: 5}) == {}


@pytest.mark.parametrize(
    ("names", "kind", "expected"),
    [
        (["tx_packets", "link.tx_packets"], "", "tx_packets"),
        (["tx0_packets", "link.tx_packets"], "", "link.tx_packets"),
        (["tx_packets", "link.tx_packets"], "veth", "link.tx_packets"),
        (["link.tx_packets"], "", "link.tx_packets"),
    ],
)
def test_hardware_counts_its_own_packets_where_it_can(
    names: list[str], kind: str, expected: str
) -> None:
    assert tx_counter(kind, dict.fromkeys(names, 9)) == expected


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("0000000000000000", ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"]),
        ("0000008000003000", []),
        ("0000000000203000", []),  # CAP_SYS_ADMIN instead of CAP_BPF
        ("0000008000001000", ["CAP_NET_RAW"]),
        ("000001ffffffffff", []),
    ],
)
def test_missing_capabilities_are_named(tmp_path: Path, mask: str, expected: list[str]) -> None:
    put(tmp_path, "proc/self/status", f"Name:\tx\nCapPrm:\t{'f' * 16}\nCapEff:\t{mask}\n")
    needed = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"]
    assert missing_capabilities(needed, tmp_path) == expected
