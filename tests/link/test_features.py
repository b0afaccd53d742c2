# SPDX-License-Identifier: GPL-2.0-only
"""Features of a real interface, as this kernel tells them."""

import pytest

from xdptstamp._sys import netns
from xdptstamp.errors import SetupError
from xdptstamp.features import read_features
from xdptstamp.nic import Nic


@pytest.fixture
def features(lab):
    return read_features(Nic(lab.ifname).ifindex)


def test_xdp_is_told(features, lab):
    if lab.is_real:
        assert features.xdp is not None or features.unknown
        return
    # veth_get: BASIC, REDIRECT and RX_SG always; NDO_XMIT when the peer can receive it.
    assert features.is_xdp is features.is_redirect is features.is_rx_multi_buffer is True
    assert features.is_zero_copy is False
    assert features.zc_max_segs is None
    assert features.unknown == ""


def test_metadata_is_told(features, lab):
    if lab.is_real:
        pytest.skip("what a real NIC offers is its own")
    # veth has all three Rx kfuncs (a timestamp of 0 among them), and nothing for Tx.
    assert features.is_rx_timestamp is features.is_rx_hash is features.is_rx_vlan_tag is True
    assert features.is_tx_timestamp is features.is_tx_checksum is False
    assert features.is_tx_launch_time is False


def test_a_device_without_xdp_has_no_features():
    assert read_features(1).xdp == 0
    assert read_features(1).is_xdp is False


def test_an_interface_of_another_namespace_is_not_found(lab):
    if lab.is_real:
        pytest.skip("the partner is not in a namespace here")
    ifindex = Nic(lab.ifname).ifindex
    other = f"{lab.ifname}-other"
    netns.create(other)
    try:
        with pytest.raises(SetupError, match=f"ifindex {ifindex}: no such interface"):
            netns.call_inside(other, lambda: read_features(ifindex))
    finally:
        netns.remove(other)
