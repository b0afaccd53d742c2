# SPDX-License-Identifier: GPL-2.0-only
"""What a machine does to a measurement: read from trees made by hand, and what a run says of it."""

import json
import os

import pytest

from tests.unit.data_kit import edit_info, ping_pong_run
from tests.unit.test_checks import run_of
from xdptstamp.busy import BusyWatch
from xdptstamp.checks import run_warnings
from xdptstamp.errors import RunFileError
from xdptstamp.report import recompute
from xdptstamp.report.shown import shown_lines
from xdptstamp.store import open_run

IDLE = "sys/devices/system/cpu/cpu{cpu}/cpuidle/state{number}/{name}"
HEADER = "           CPU0       CPU1       CPU2\n"
QUIET = {"rx_usecs": 0, "tx_usecs": 0, "is_adaptive_rx": False, "is_adaptive_tx": None}


def put(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def put_idle(root, usages):
    """States POLL and C6 of the CPUs; ``usages``: how often each was entered, by CPU."""
    for cpu, both in usages.items():
        for number, (name, latency_us) in enumerate((("POLL", 0), ("C6", 133))):
            for key, value in (("name", name), ("latency", latency_us), ("usage", both[number])):
                put(root, IDLE.format(cpu=cpu, number=number, name=key), f"{value}\n")


def put_interrupts(root, *rows):
    lines = [f"{irq:>4}: {' '.join(map(str, counts))}   {name}\n" for irq, counts, name in rows]
    put(root, "proc/interrupts", HEADER + "".join(lines) + " NMI:   0   0   0   Non-maskable\n")


@pytest.fixture
def root(tmp_path):
    """A machine of three CPUs, one vector of the PCI device of eth1, one of virtio on eth2."""
    for name in ("0000:03:00.0/msi_irqs/125", "0000:04:00.0/msi_irqs/30", "0000:04:00.0/virtio1/x"):
        put(tmp_path, f"sys/devices/{name}", "msix\n")
    for ifname, device in (("eth1", "0000:03:00.0"), ("eth2", "0000:04:00.0/virtio1")):
        (tmp_path / "sys/class/net" / ifname).mkdir(parents=True)
        (tmp_path / "sys/class/net" / ifname / "device").symlink_to(f"../../../devices/{device}")
    put_idle(tmp_path, {0: (5, 100), 1: (6, 200)})
    put_interrupts(tmp_path, (125, (7, 0, 0), "PCI-MSIX 1-edge eth1-TxRx-0"), (30, (1, 2, 3), "x"))
    return tmp_path


def test_idle_states_entered_meanwhile_are_counted_by_cpu(root):
    watch = BusyWatch(None, root)
    assert watch.idle_states() == watch.interrupts() == []
    put_idle(root, {0: (5, 140), 1: (9, 200)})
    found = watch.idle_states()
    assert found == [
        {"name": "POLL", "latency_us": 0, "entered": {"1": 3}},
        {"name": "C6", "latency_us": 133, "entered": {"0": 40}},
    ]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("ifname", "irq"), [("eth1", 125), ("eth2", 30)])
def test_interrupts_of_an_interface_are_those_of_its_device(root, ifname, irq):
    watch = BusyWatch(ifname, root)
    put_interrupts(root, (125, (7, 9, 0), "eth1-TxRx-0"), (30, (1, 11, 3), "virtio1-input.0"))
    ((found),) = watch.interrupts()
    assert (found["irq"], found["taken"]) == (irq, {"1": 9})
    assert found["name"] in ("eth1-TxRx-0", "virtio1-input.0")


def test_a_machine_that_tells_nothing_is_no_error(tmp_path):
    watch = BusyWatch("eth1", tmp_path)
    put(tmp_path, "proc/interrupts", "")
    assert watch.idle_states() == watch.interrupts() == []


def test_this_machine_is_read():
    # eth0 of a virtual machine has vectors, and no idle state; whatever is there has its form.
    for ifname in os.listdir("/sys/class/net"):
        watch = BusyWatch(ifname)
        for each in (*watch.idle_states(), *watch.interrupts()):
            assert all(cpu.isdecimal() for cpu in each.get("entered", each.get("taken")))


# -- what a run says of it


def c6(entered):
    return {"idle_states": [{"name": "C6", "latency_us": 133, "entered": entered}]}


def taken(*by_cpu):
    return {
        "interrupts": [
            {"irq": 125 + number, "name": f"eth1-TxRx-{number}", "taken": each}
            for number, each in enumerate(by_cpu)
        ]
    }


# What provokes each warning, and what the user reads: value, limit, advice.
PROVOKED = [
    (
        "coalescing",
        run_of(nic={"ifname": "eth1", "driver": "igc", "coalescing": {**QUIET, "rx_usecs": 3}}),
        "rx-usecs 3, tx-usecs 0",
        "less than 10 us, and not by the traffic",
        "ethtool -C eth1 rx-usecs 0",
    ),
    (
        "coalescing",
        run_of(nic={"ifname": "eth1", "driver": "x", "coalescing": {**QUIET, "tx_usecs": 50}}),
        "rx-usecs 0, tx-usecs 50",
        "less than 10 us, and not by the traffic",
        "ethtool -C eth1 tx-usecs 0",
    ),
    (
        "eee",
        run_of(nic={"ifname": "eth1", "eee": {"is_enabled": True, "is_active": True}}),
        "active",
        "off",
        "ethtool --set-eee eth1 eee off",
    ),
    (
        "governor",
        run_of(dut={"governors": {"powersave": [0, 1, 2, 3]}}),
        "powersave on CPUs 0-3",
        "performance",
        "cpupower frequency-set -g performance",
    ),
    (
        "idle-states",
        run_of(dut=c6({"0": 2, "3": 3})),
        "C6 (133 us) 5 times on CPUs 0, 3; 4000 packets",
        "below 10 us, or 1 in 1000 packets",
        "cpupower idle-set -D 10, or keep /dev/cpu_dma_latency open at 0",
    ),
    (
        "interrupts-moved",
        run_of(nic=taken({"1": 9000}, {"0": 98, "2": 2})),
        "interrupt 126 (eth1-TxRx-1) on CPUs 0, 2",
        "99 % of each on one CPU",
        "stop irqbalance, and write one CPU into /proc/irq/N/smp_affinity_list",
    ),
    (
        "interrupts-on-own-cpu",
        run_of(nic=taken({"1": 98}, {"2": 2}), obtained={"cpu": 2, "wait": "spin"}),
        "CPU 2: 2 of 100 interrupts",
        "1 %",
        "give the process another --cpu, or move them by /proc/irq/N/smp_affinity_list",
    ),
    (
        "pause-frames",
        run_of(counters={"rx_flow_control_xoff": {"before": 5, "after": 12}}),
        "rx_flow_control_xoff 7",
        "0",
        "turn it off on both ends (ethtool -A IFNAME rx off tx off), and measure again",
    ),
    (
        "pause-uncounted",
        run_of(
            nic={
                "ifname": "eth1",
                "pause": {"is_autoneg": True, "rx": True, "tx": True},
                "pause_counters": [],
            }
        ),
        "Rx and Tx on",
        "off",
        "ethtool -A eth1 autoneg off rx off tx off",
    ),
]


@pytest.mark.parametrize(("key", "run", "value", "limit", "advice"), PROVOKED)
def test_warning_is_provoked(key, run, value, limit, advice):
    (warning,) = run_warnings(*run)
    assert (warning.key, warning.is_untrusted) == (key, False)
    assert (warning.value, warning.limit, warning.advice) == (value, limit, advice)


@pytest.mark.parametrize(
    "run",
    [
        run_of(nic={"coalescing": None, "eee": None, "pause": None, "pause_counters": []}),
        run_of(nic={"driver": "x", "coalescing": {**QUIET, "rx_usecs": 9}}),
        run_of(nic={"eee": {"is_enabled": True, "is_active": False}}),
        run_of(dut={"governors": {"performance": [0, 1], "userspace": [2]}}),
        run_of(dut={"governors": {"powersave": [0]}}, obtained={"cpu": 1}),
        run_of(dut=c6({"0": 4})),  # four of 4000 packets move no percentile that is shown
        run_of(dut=c6({"0": 900}), obtained={"cpu": 1}),
        run_of(dut={"idle_states": [{"name": "C1E", "latency_us": 9, "entered": {"0": 900}}]}),
        run_of(nic=taken({"0": 99, "2": 1})),
        # Poll mode shares a CPU with its interrupts, and sleeps while they are taken.
        run_of(nic=taken({"1": 900}), obtained={"cpu": 1, "wait": "poll"}),
        run_of(nic=taken({"1": 900}), obtained={"cpu": 2, "wait": "spin"}),
        # Flow control that is counted, and has not stopped anybody.
        run_of(
            nic={
                "pause": {"is_autoneg": True, "rx": True, "tx": False},
                "pause_counters": ["rx_flow_control_xoff"],
            }
        ),
    ],
)
def test_warning_is_absent_at_its_limit(run):
    assert run_warnings(*run) == []


def test_cpus_that_nobody_waits_for_may_sleep_beside_a_sender():
    info, summary = run_of(dut=c6({"0": 900}))
    info.kind = "mixed"
    assert run_warnings(info, summary) == []
    info.nic |= taken({"0": 5000})
    (warning,) = run_warnings(info, summary)
    assert warning.key == "idle-states"


def test_a_run_of_before_is_judged_by_what_it_noted(tmp_path):
    # Versions before these warnings noted governors, and counters before and after.
    counters = {
        "rx_pause": {"before": 0, "after": 3},
        "rx_pause_duration": {"before": 0, "after": 9},
    }
    noted = {"dut": {"governors": {"schedutil": [0]}}, "counters": counters}
    path = ping_pong_run(tmp_path, 2000, nic={"driver": "x"}, **noted)
    text = " ".join("\n".join(shown_lines(recompute(open_run(path)))).split())
    assert "schedutil on CPU 0; limit: performance [governor]" in text
    assert "rx_pause 3; limit: 0 [pause-frames]" in text


@pytest.mark.parametrize(
    "fields",
    [
        {"dut": {"governors": {"x": "0"}}},
        {"dut": {"idle_states": [{"name": "C6", "latency_us": "133", "entered": {}}]}},
        {"nic": {"coalescing": {"rx_usecs": 3}}},
        {"nic": {"interrupts": [{"irq": 1, "name": "x", "taken": {"0": None}}]}},
        {"nic": {"eee": {"is_enabled": 1, "is_active": 1}}},
    ],
)
def test_a_damaged_note_is_one_clear_message(tmp_path, fields):
    path = ping_pong_run(tmp_path, 20)
    edit_info(path, **fields)
    with pytest.raises(RunFileError, match=r"lacks|cannot be"):
        open_run(path)


def test_a_hostile_cpu_is_no_cpu(tmp_path):
    path = ping_pong_run(tmp_path, 20)
    edit_info(path, dut=c6({"\x1b[31m": 9, "-1": 9, "0": 9}))
    text = "\n".join(shown_lines(recompute(open_run(path))))
    assert "C6 (133 us) 9 times on CPU 0; 20 packets" in " ".join(text.split())
