# SPDX-License-Identifier: GPL-2.0-only
"""What facts about a machine and an interface mean: each line, its verdict, what to do."""

import pytest

from tests.unit.caps_kit import I226, MACHINE, VETH, facts_of, faults_json
from xdptstamp.assess import assess_interface, assess_interfaces, assess_machine, conclude
from xdptstamp.assess.machine import UMEM_BYTES, X86
from xdptstamp.assess.settings import MAX_MTU
from xdptstamp.dut import DutConfig, _frame_size
from xdptstamp.errors import SetupError
from xdptstamp.features import Features, from_masks
from xdptstamp.finding import Unread
from xdptstamp.ring import _X86

NO_FEATURES = Features(None, None, None, None, "this kernel does not tell xsk-features").to_json()
SECOND = 1_000_000_000


def of(section, key):
    """The findings of that key as (verdict, text, advice)."""
    found = [finding for finding in section.findings if finding.key == key]
    return [(str(each.verdict), each.text, each.advice) for each in found]


def machine(key, **changes):
    return of(assess_machine(facts_of(MACHINE, **changes)), key)


def interface(key, base=I226, **changes):
    return of(assess_interface(facts_of(base, **changes)), key)


# -- a machine


def test_a_good_machine_has_nothing_but_ok():
    section = assess_machine(facts_of(MACHINE))
    assert section.title == "machine board-7"
    assert {finding.verdict for finding in section.findings} == {"ok"}
    assert of(section, "kernel") == [("ok", "Linux 7.3.4+deb13-amd64, PREEMPT_RT", "")]
    assert of(section, "tai") == [("ok", "37 s ahead of UTC", "")]
    assert of(section, "libxdp") == [("ok", "libxdp.so.1.5.0, with Tx metadata", "")]


@pytest.mark.parametrize(
    ("key", "changes", "expected"),
    [
        ("kernel", {"machine": {"is_guest": True}}, ("ok", ", PREEMPT_RT, a guest", "")),
        ("af-xdp", {"af_xdp": "none"}, ("lacks", "none", "CONFIG_XDP_SOCKETS")),
        ("af-xdp", {"af_xdp": "no-tx-metadata"}, ("lacks", "no Tx metadata", "Linux 6.11")),
        ("libxdp", {"libxdp": "none"}, ("doubt", "none: --dispatcher", "apt install libxdp1")),
        ("libxdp", {"libxdp": "unknown"}, ("ok", "version unknown, with Tx metadata", "")),
        (
            "libxdp",
            {"libxdp": "1.3.0", "libxdp_tx_metadata": False},
            ("ok", "libxdp.so.1.3.0 has no Tx metadata (1.5.2 has): the kernel is asked", ""),
        ),
        (
            "libxdp",
            {"libxdp": "none", "machine": {"machine": "aarch64"}},
            ("lacks", "none", "on this CPU the rings need it: apt install libxdp1"),
        ),
        ("libbpf", {"libbpf": "none"}, ("lacks", "none", "apt install libbpf1")),
        ("btf", {"btf": False}, ("lacks", "none: no Rx timestamp", "CONFIG_DEBUG_INFO_BTF")),
        ("tai", {"clocks": {"tai_offset_s": 0}}, ("ok", "CLOCK_TAI shows UTC", "")),
        (
            "servos",
            {"servos": ["ptp4l (process 7)", "phc2sys (process 8)"]},
            ("doubt", "ptp4l (process 7), phc2sys (process 8) run", "end them"),
        ),
        (
            "governor",
            {"machine": {"governors": {"performance": [0], "schedutil": [1, 2, 3, 8]}}},
            (
                "doubt",
                "schedutil on CPUs 1-3, 8: the CPU's speed follows its load",
                "cpupower frequency-set -g performance",
            ),
        ),
        (
            "governor",
            {"machine": {"governors": {"performance": [0, 1]}}},
            ("ok", "performance", ""),
        ),
    ],
)
def test_a_machine(key, changes, expected):
    ((verdict, text, advice),) = machine(key, **changes)
    assert verdict == expected[0]
    assert expected[1] in text
    assert expected[2] in advice
    assert bool(advice) == bool(expected[2])


def test_privilege_that_is_missing():
    found = machine("privilege", missing_capabilities=["CAP_BPF", "CAP_PERFMON"])
    advice = "run as root (sudo), or give it these alone"
    assert found == [("lacks", "CAP_BPF and CAP_PERFMON to measure", advice)]
    found = machine("privilege", missing_for_sched=["CAP_SYS_NICE"])
    assert found == [
        ("ok", "enough to measure", ""),
        ("doubt", "no CAP_SYS_NICE: --sched cannot be used", "run as root (sudo)"),
    ]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (UMEM_BYTES - 1, ("lacks", "4 MiB: not enough for one queue")),
        (UMEM_BYTES, ("doubt", "4 MiB: enough for one queue")),
        (8 << 20, ("doubt", "8 MiB: enough for 2 queues")),
        (65536, ("lacks", "0.0625 MiB: not enough for one queue")),
    ],
)
def test_memory_that_may_be_locked(limit, expected):
    ((*found, advice),) = machine("locked-memory", lockable_bytes=limit)
    assert tuple(found) == expected
    assert "ulimit -l" in advice


@pytest.mark.parametrize(
    ("leap", "text"),
    [
        ("insert", "leap second (insert) at the end of this UTC day: CLOCK_REALTIME steps"),
        ("happening", "leap second is happening: CLOCK_REALTIME steps"),
    ],
)
def test_a_leap_second(leap, text):
    assert machine("tai", clocks={"leap": leap})[1][:2] == ("doubt", text)


def test_what_could_not_be_read_is_a_line_that_says_why_and_what_would_tell():
    unread = {
        "af_xdp": Unread("socket(AF_XDP): Operation not permitted", "it needs CAP_NET_RAW"),
        "libxdp_tx_metadata": Unread("socket(AF_XDP): Operation not permitted", "CAP_NET_RAW"),
    }
    section = assess_machine(facts_of(MACHINE, unread))
    assert of(section, "af-xdp") == [
        (
            "doubt",
            "not known: socket(AF_XDP): Operation not permitted",
            "it needs CAP_NET_RAW",
        )
    ]
    text = "libxdp.so.1.5.0; not known whether it has Tx metadata"
    assert of(section, "libxdp") == [("doubt", text, "CAP_NET_RAW")]
    assert len(section.findings) == len(assess_machine(facts_of(MACHINE)).findings)


# -- an interface


def test_a_good_i226_has_nothing_but_ok():
    section = assess_interface(facts_of(I226))
    assert section.title == "interface eth1"
    assert {finding.verdict for finding in section.findings} == {"ok"}
    assert [(finding.key, finding.text) for finding in section.findings] == [
        ("driver", "igc at 0000:03:00.0, firmware 2017:888d"),
        ("link", "up, 2500 Mb/s, MTU 1500"),
        ("queues", "4, each with Rx and Tx"),
        ("rings", "Rx 256 of 4096, Tx 256 of 4096"),
        ("coalescing", "rx-usecs 0, tx-usecs 0"),
        ("eee", "off"),
        ("pause", "off"),
        ("xdp", "in the driver (native)"),
        ("zero-copy", "yes, one buffer a packet"),
        ("tx-timestamp", "yes, HARDWARE"),
        ("tx-checksum", "not offered; xdptstamp sums up by itself"),
        ("launch-time", "yes"),
        ("rx-metadata", "timestamp, hash; no VLAN tag"),
        ("xdp-program", "none attached"),
        ("phc", "/dev/ptp0 (igc), read by method precise"),
        ("phc-tai", "+0.000000012 s (+-0.100 us)"),
        ("hwtstamp", "tx off, rx none; a run sets tx on, rx all, and restores it"),
        ("stamp-slots", "4 at once, all queues and the stack together; given up after 15 s"),
        ("counters", "tx_hwtstamp_skipped, tx_hwtstamp_timeouts"),
        ("fault", "none of those known of igc"),
    ]


def test_a_veth_has_software_timestamps_alone():
    section = assess_interface(facts_of(VETH))
    by_key = {finding.key: (str(finding.verdict), finding.text) for finding in section.findings}
    assert by_key == {
        "driver": ("ok", "veth, a software interface"),
        "link": ("ok", "up, 2500 Mb/s, MTU 1500"),
        "queues": ("ok", "4, each with Rx and Tx"),
        "rings": ("ok", "none in hardware"),
        "coalescing": ("ok", "none"),
        "eee": ("ok", "none"),
        "pause": ("ok", "none"),
        "xdp": ("ok", "in the driver (native)"),
        "zero-copy": ("lacks", "no: packets are copied"),
        "tx-timestamp": ("lacks", "SOFTWARE alone, of the kernel"),
        "tx-checksum": ("ok", "not offered; xdptstamp sums up by itself"),
        "launch-time": ("ok", "not offered"),
        "rx-metadata": ("ok", "timestamp (none without hardware), hash, VLAN tag"),
        "xdp-program": ("ok", "none attached"),
        "phc": ("lacks", "none"),
        "hwtstamp": ("lacks", "no such setting"),
    }


@pytest.mark.parametrize(
    ("key", "changes", "expected"),
    [
        ("link", {"link": {"is_up": False}}, ("lacks", "down", "ip link set eth1 up")),
        (
            "link",
            {"link": {"has_carrier": False}},
            ("lacks", "up, but no carrier", "is the cable in, and the link partner up?"),
        ),
        ("link", {"speed_mbps": None}, ("ok", "up, MTU 1500", "")),
        (
            "use",
            {"refusal": "refused: your ssh connection runs over it. Name another"},
            (
                "doubt",
                "your ssh connection runs over it",
                "choose another interface, or use --force",
            ),
        ),
        (
            "queues",
            {"num_queues": {"rx": 2, "tx": 1, "combined": 0, "is_exact": False}},
            ("ok", "2 Rx, 1 Tx allocated (those in use are not told)", ""),
        ),
        (
            "coalescing",
            {"coalescing": {"rx_usecs": 3, "tx_usecs": None}},
            (
                "doubt",
                "rx-usecs 3: 3 has igc choose the delay by the traffic",
                "ethtool -C eth1 rx-usecs 0",
            ),
        ),
        (
            "coalescing",
            {"driver": {"driver": "mlx5_core"}, "coalescing": {"rx_usecs": 3, "tx_usecs": 8}},
            ("ok", "rx-usecs 3, tx-usecs 8", ""),
        ),
        (
            "coalescing",
            {"coalescing": {"rx_usecs": 0, "tx_usecs": 100}},
            (
                "doubt",
                "rx-usecs 0, tx-usecs 100: latencies and hold times are longer by up to that",
                "ethtool -C eth1 tx-usecs 0",
            ),
        ),
        (
            "coalescing",
            {"coalescing": {"rx_usecs": 0, "tx_usecs": 1}},
            (
                "doubt",
                "rx-usecs 0, tx-usecs 1: 1 has igc choose the delay by the traffic",
                "ethtool -C eth1 tx-usecs 0",
            ),
        ),
        (
            "coalescing",
            {"coalescing": {"is_adaptive_rx": True}},
            (
                "doubt",
                "rx-usecs 0, tx-usecs 0, adaptive-rx on: the driver chooses the delay by the "
                "traffic",
                "ethtool -C eth1 adaptive-rx off adaptive-tx off rx-usecs 0",
            ),
        ),
        (
            "eee",
            {"eee": {"is_enabled": True, "is_active": True}},
            (
                "doubt",
                "active: waking the link delays packets",
                "ethtool --set-eee eth1 eee off",
            ),
        ),
        (
            "eee",
            {"eee": {"is_enabled": True, "is_active": False}},
            ("ok", "on, not active on this link", ""),
        ),
        (
            "pause",
            {"pause": {"tx": True}, "pause_counters": []},
            (
                "doubt",
                "Tx on: pause frames stop the sender",
                "ethtool -A eth1 autoneg off rx off tx off",
            ),
        ),
        (
            "xdp-program",
            {"link": {"xdp": [{"mode": "skb", "prog_id": 31}]}},
            (
                "doubt",
                "id 31 is attached (skb mode)",
                "end its owner (bpftool prog show), or use --force to replace it during the run",
            ),
        ),
        (
            "users",
            {"users": [4711, 4712]},
            ("doubt", "a measurement of xdptstamp (process 4711, 4712)", "wait for its end"),
        ),
    ],
)
def test_an_interface_in_another_state(key, changes, expected):
    assert interface(key, **changes) == [expected]


@pytest.mark.parametrize(
    ("driver", "mtu", "limit"),
    [("igc", 1501, 1500), ("st_gmac", 9000, 1500), ("mlx5_core", MAX_MTU + 1, MAX_MTU)],
)
def test_an_mtu_that_is_too_large(driver, mtu, limit):
    changes = {"driver": {"driver": driver}, "faults": []}
    assert interface("link", **changes, link={"mtu": limit})[0][0] == "ok"
    assert interface("link", **changes, link={"mtu": mtu})[1:] == [
        ("lacks", f"MTU {mtu} is too large for XDP", f"ip link set eth1 mtu {limit}")
    ]


def test_limits_are_those_of_the_measuring_commands():
    assert _frame_size(MAX_MTU, "eth1")
    with pytest.raises(SetupError):
        _frame_size(MAX_MTU + 1, "eth1")
    assert DutConfig("eth1").num_frames * _frame_size(1500, "eth1") == UMEM_BYTES
    assert set(_X86) == set(X86)


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        # xdp, zc_max_segs, rx_metadata, xsk
        (
            (0, None, 0, 0),
            {
                "xdp": ("lacks", "not in the driver"),
                "zero-copy": ("lacks", "no: packets are copied"),
                "tx-timestamp": ("lacks", "SOFTWARE alone, of the kernel"),
                "rx-metadata": ("doubt", "none: received packets have no HARDWARE timestamp"),
            },
        ),
        (
            (1, None, 7, 0),
            {"xdp": ("lacks", "in the driver, without XDP_REDIRECT")},
        ),
        (
            (11, 8, 7, 3),
            {
                "zero-copy": ("ok", "yes, up to 8 buffers a packet"),
                "tx-checksum": ("ok", "yes"),
                "launch-time": ("ok", "not offered"),
                "rx-metadata": ("ok", "timestamp, hash, VLAN tag"),
            },
        ),
        (
            (11, 1, 2, 0),
            {
                "tx-timestamp": ("lacks", "none in zero-copy mode"),
                "rx-metadata": (
                    "doubt",
                    "hash; no timestamp nor VLAN tag: received packets have no HARDWARE timestamp",
                ),
            },
        ),
    ],
)
def test_features(masks, expected):
    section = assess_interface(facts_of(I226, features=from_masks(*masks).to_json()))
    for key, answer in expected.items():
        ((verdict, text, _),) = of(section, key)
        assert (verdict, text) == answer


def test_a_vlan_tag_that_goes_lost():
    text = "the NIC strips VLAN tags, and nothing tells of them"
    found = interface("rx-metadata", strips_vlan_tags=True)
    assert found[1:] == [("doubt", text, "ethtool -K eth1 rxvlan off")]
    told = from_masks(11, 1, 7, 5).to_json()
    assert len(interface("rx-metadata", strips_vlan_tags=True, features=told)) == 1


def test_what_an_old_kernel_does_not_tell_is_not_known():
    section = assess_interface(facts_of(I226, features=NO_FEATURES))
    for key in ("xdp", "zero-copy", "tx-timestamp", "rx-metadata"):
        ((verdict, text, _),) = of(section, key)
        assert (verdict, text) == ("doubt", "not known: this kernel does not tell xsk-features")
    assert of(section, "tx-checksum") == of(section, "launch-time") == []
    assert conclude([section], facts_of(I226, features=NO_FEATURES)).timestamps is None


@pytest.mark.parametrize(
    ("tai_offset_s", "offset_ns", "verdict", "words"),
    [
        (37, -999_999, "ok", "-0.000999999 s (+-0.100 us)"),
        (0, 37 * SECOND + 5, "ok", "the PHC is on TAI, which the kernel was not told"),
        (37, -37 * SECOND, "doubt", "-37.000000000 s (+-0.100 us): the PHC is on UTC"),
        (37, 1_000_001, "doubt", "the PHC is on no known time"),
        (0, -1_700_000_000 * SECOND, "doubt", "the PHC is on no known time"),
    ],
)
def test_where_the_phc_is(tai_offset_s, offset_ns, verdict, words):
    phc = {"tai_offset_s": tai_offset_s, "offset_ns": offset_ns}
    ((found, text, advice),) = interface("phc-tai", phc=phc)
    assert found == verdict
    assert words in text
    assert bool(advice) == (verdict == "doubt")


def test_a_phc_that_may_not_be_opened():
    unread = {"phc": Unread("/dev/ptp0 may not be opened", "give this user read permission")}
    section = assess_interface(facts_of(I226, unread))
    assert of(section, "phc") == [("ok", "/dev/ptp0", "")]
    text = "not known: /dev/ptp0 may not be opened"
    assert of(section, "phc-tai") == [("doubt", text, "give this user read permission")]


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"timestamping": {"tx_types": 1}}, "lacks", "Tx timestamps cannot be turned on"),
        ({"timestamping": {"rx_filters": 1 | 1 << 12}}, "doubt", "not every received packet"),
        (
            {"hwtstamp": {"text": "tx on, rx all", "is_tx_on": True}},
            "doubt",
            "tx on, rx all: something else turned it on",
        ),
        (
            {"hwtstamp": {"text": "tx on, rx all", "is_tx_on": True}, "users": [5]},
            "ok",
            "tx on, rx all; a run sets",
        ),
    ],
)
def test_hwtstamp(changes, verdict, words):
    ((found, text, _),) = interface("hwtstamp", **changes)
    assert found == verdict
    assert words in text


def test_a_driver_that_is_not_known_cannot_be_reconciled():
    facts = facts_of(I226, driver={"driver": "newnic"})
    for name in ("counters", "faults_of", "faults", "pause_counters"):
        del facts.values[name]
    section = assess_interface(facts)
    ((verdict, text, advice),) = of(section, "driver")
    assert verdict == "doubt"
    assert text.endswith("xdptstamp knows neither its counters nor its faults")
    assert "missing timestamps" in advice
    assert of(section, "fault") == of(section, "counters") == of(section, "stamp-slots") == []


@pytest.mark.parametrize("driver", ["st_gmac", "mlx5_core"])
def test_a_driver_without_counters_is_said_to_have_none(driver):
    changes = {"driver": {"driver": driver}, "counters": {}, "faults": []}
    ((verdict, text, advice),) = interface("counters", **changes)
    assert (verdict, text) == ("doubt", f"{driver} counts no missing timestamps")
    assert "not reconcilable" in advice
    assert interface("stamp-slots", **changes) == [
        ("ok", "no limit: each completion brings its packet's", "")
    ]


def test_a_counter_that_this_kernels_driver_has_not():
    ((verdict, text, _),) = interface("counters", counters={"skipped": "x", "timed_out": "y"})
    assert verdict == "ok"
    facts = facts_of(I226)
    del facts.values["counters"]["skipped"]
    ((verdict, text, _),) = of(assess_interface(facts), "counters")
    assert (verdict, text) == ("doubt", "this kernel's igc has no tx_hwtstamp_skipped")


# -- known faults


def sources(release, btf=None):
    faults = faults_json("igc", release, btf=btf)
    section = assess_interface(facts_of(I226, faults=faults))
    return [each.source for each in section.findings if each.key == "fault"]


def test_a_fault_found_by_version_says_that_it_may_be_fixed():
    pending, *_ = sources("6.12.70")
    assert pending == (
        "fixed by Linux commit 45b33e805bd3 "
        '("igc: fix page fault in XDP TX timestamps handling"); '
        "judged by version (fixed in 7.0, 6.19.10, 6.18.20, 6.12.78); "
        "a distribution may have the fix"
    )


def test_a_fault_that_was_looked_for_says_so():
    pending, *_ = sources("6.12.70", btf=b"\0igc_up\0")
    assert pending.endswith(
        "; this driver has no igc_ptp_clear_xsk_tx_tstamp_queue, which the fix brings"
    )
    assert "45b33e805bd3" not in "".join(
        sources("6.12.70", b"\0igc_ptp_clear_xsk_tx_tstamp_queue\0")
    )


def test_a_fault_without_a_fix_says_so():
    assert {source.rpartition("; ")[2] for source in sources("7.3.4")} == {"no fix is known"}


def test_in_copy_mode_the_faults_are_those_of_af_xdp():
    faults = faults_json("af_xdp", "6.18.44")
    found = interface("fault", VETH, faults_of="af_xdp", faults=faults)
    assert [verdict for verdict, _, _ in found] == ["doubt", "doubt"]
    assert "one refused request stops the socket" in found[1][1]
    found = interface("fault", VETH, faults_of="af_xdp", faults=[])
    assert found == [("ok", "none of those known of af_xdp", "")]


def test_a_fault_is_a_doubt_with_what_to_do():
    faults = faults_json("igc", "7.3.4")
    (verdict, text, advice), *others = interface("fault", faults=faults)
    assert len(others) == len(faults) - 1
    assert verdict == "doubt"
    assert text.startswith("a socket or a program that comes or goes while packets")
    assert advice == "keep other traffic off the interface when a run begins and ends"


# -- all interfaces, and the conclusion


def test_each_interface_is_a_line():
    found = [
        facts_of(I226),
        facts_of(I226, link={"ifname": "eth2", "has_carrier": False}, refusal="refused: x. y"),
        facts_of(VETH, link={"xdp": [{"mode": "native", "prog_id": 3}]}),
        facts_of(VETH, link={"ifname": "veth9", "is_up": False}),
        facts_of(I226, link={"ifname": "eth3"}, features=NO_FEATURES),
        facts_of(I226, link={"ifname": "eth4"}, features=from_masks(11, 1, 0, 0).to_json()),
        facts_of(VETH, {"driver": Unread("it is gone", "")}, link={"ifname": "gone0"}),
    ]
    section = assess_interfaces(found)
    assert [(each.title, str(each.verdict), each.text) for each in section.findings] == [
        ("eth1", "ok", "HARDWARE timestamps, igc at 0000:03:00.0"),
        (
            "eth2",
            "doubt",
            "HARDWARE timestamps, igc at 0000:03:00.0, no carrier, needs --force",
        ),
        (
            "veth0",
            "doubt",
            "SOFTWARE timestamps, veth, a software interface, an XDP program is attached",
        ),
        ("veth9", "doubt", "SOFTWARE timestamps, veth, a software interface, down"),
        ("eth3", "doubt", "timestamps of an unknown kind, igc at 0000:03:00.0"),
        ("eth4", "doubt", "no timestamps in zero-copy mode, igc at 0000:03:00.0"),
        ("gone0", "doubt", "not known: it is gone"),
    ]


def test_a_machine_without_an_interface_is_told_of_the_lab():
    (finding,) = assess_interfaces([]).findings
    assert (finding.verdict, finding.text) == ("lacks", "none but lo")
    assert "xdptstamp lab veth" in finding.advice


@pytest.mark.parametrize(
    ("base", "changes", "timestamps", "blocked_by"),
    [
        (I226, {}, "hardware", ()),
        (VETH, {}, "software", ()),
        (I226, {"features": from_masks(11, 1, 3, 0).to_json()}, "none", ()),
        (I226, {"link": {"is_up": False}}, "hardware", ("link",)),
        (
            VETH,
            {"refusal": "refused: x", "link": {"xdp": [{"mode": "skb", "prog_id": 1}]}},
            "software",
            ("other use", "XDP program"),
        ),
    ],
)
def test_the_conclusion(base, changes, timestamps, blocked_by):
    facts = facts_of(base, **changes)
    section = assess_interface(facts)
    conclusion = conclude([section], facts)
    assert (conclusion.timestamps, conclusion.blocked_by) == (timestamps, blocked_by)
    verdicts = [finding.verdict for finding in section.findings]
    assert conclusion.num_lacks == verdicts.count("lacks")
    assert conclusion.num_doubts == verdicts.count("doubt")


def test_privilege_that_is_missing_stops_any_run():
    machine_section = assess_machine(facts_of(MACHINE, missing_capabilities=["CAP_BPF"]))
    assert conclude([machine_section], None).blocked_by == ("privilege",)
