# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp caps`` on the igc driver; Linux 6.12 is in test_longterm.py."""

import json

import pytest

from tests.guest.bench import words_of


@pytest.fixture
def caps(bench):
    """``caps()``: what caps says: findings by key as (verdict, text, advice), and all of it."""

    def ask():
        done = bench.xdptstamp("caps", "--format", "json")
        assert done.stderr == ""
        data = json.loads(done.stdout)
        found = {}
        for section in data["sections"]:
            for each in section["findings"]:
                line = (each["verdict"], each["text"], each["advice"])
                found.setdefault(each["key"], []).append(line)
        return found, data

    return ask


def test_the_virtual_i226_has_hardware_timestamps(bench, caps):
    found, data = caps()
    ifname = bench.guest.environ["NETIF"]
    assert (data["ifname"], data["conclusion"]["timestamps"]) == (ifname, "hardware")
    assert data["conclusion"]["blocked_by"] == []
    assert found["driver"][0][1].startswith("igc at 0000:00:04.0, firmware ")
    assert found["link"] == [("ok", "up, 2500 Mb/s, MTU 1500", "")]
    assert found["rings"] == [("ok", "Rx 256 of 4096, Tx 256 of 4096", "")]
    assert found["zero-copy"] == [("ok", "yes, one buffer a packet", "")]
    assert found["tx-timestamp"] == [("ok", "yes, HARDWARE", "")]
    assert found["launch-time"] == [("ok", "yes", "")]
    assert found["rx-metadata"][0] == ("ok", "timestamp, hash; no VLAN tag", "")
    assert found["counters"] == [("ok", "tx_hwtstamp_skipped, tx_hwtstamp_timeouts", "")]
    assert found["phc"][0][:2] == ("ok", "/dev/ptp0 (027864220600), read by method extended")
    assert found["af-xdp"][0][0] == found["btf"][0][0] == "ok"
    assert any(
        text.startswith("a socket or a program that comes or goes") for _, text, _ in found["fault"]
    )
    # What the driver's fix brings was found in it: no doubt by version is left.
    sources = [each["source"] for each in data["sections"][1]["findings"] if each["source"]]
    assert {source.rpartition("; ")[2] for source in sources} == {"no fix is known"}
    assert "EEE" not in bench.shell("dmesg"), "the kernel complains of a question"
    assert_settings(data["facts"]["interfaces"][0]["values"], bench)


def assert_settings(values, bench):
    """Those that ethtool shows."""
    shown = bench.shell('ethtool -c "$NETIF"; ethtool -a "$NETIF"; ethtool --show-eee "$NETIF"')
    lines = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
    lines = {name.strip(): value.strip() for name, value in lines.items()}
    for side in ("rx", "tx"):
        assert str(values["coalescing"][f"{side}_usecs"]) == lines[f"{side}-usecs"]
    assert lines["Adaptive RX"] == "n/a  TX: n/a"
    assert values["coalescing"]["is_adaptive_rx"] is None
    assert values["pause"]["rx"] == (lines["RX"] == "on")
    assert values["pause"]["tx"] == (lines["TX"] == "on")
    vlan = bench.shell('ethtool -k "$NETIF" | grep rx-vlan-offload')
    assert values["strips_vlan_tags"] == (" on" in vlan)
    assert values["eee"]["is_enabled"] == (not lines["EEE status"].startswith("disabled"))


def test_a_state_that_is_not_fit_for_a_run_is_named(bench):
    bench.xdptstamp("hwtstamp", "set", "--tx", "on", "--rx", "all")
    # Other tests need the IPv6 address, which the kernel would take away with the link.
    keep = "/proc/sys/net/ipv6/conf/$NETIF/keep_addr_on_down"
    bench.shell(f'echo 1 >{keep}; ip link set "$NETIF" down; mv /dev/ptp0 /dev/hidden')
    try:
        table = bench.xdptstamp("caps").stdout
    finally:
        bench.shell(
            'mv /dev/hidden /dev/ptp0; ip link set "$NETIF" up\n'
            'until [ "$(cat /sys/class/net/$NETIF/carrier)" = 1 ]; do sleep 0.1; done\n'
            f"echo 0 >{keep}"
        )
        bench.xdptstamp("hwtstamp", "restore")
    ifname = bench.guest.environ["NETIF"]
    words = words_of(table)
    assert f"lacks link down -> ip link set {ifname} up" in words
    assert "ok PHC /dev/ptp0 doubt PHC - TAI not known: /dev/ptp0: no such PTP hardware" in words
    assert "doubt hwtstamp tx on, rx all: something else turned it on" in words
    advice = f"ethtool -C {ifname} rx-usecs 0"
    text = "rx-usecs 3, tx-usecs 3: 3 has igc choose the delay by the traffic"
    assert f"doubt coalescing {text} -> {advice}" in words
    assert words.count("lacks") == 1
    sentence = f"No run on {ifname} before this is mended: link; then HARDWARE timestamps"
    assert sentence in words
    assert max(map(len, table.splitlines())) <= 80
