# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's feature masks mean."""

from __future__ import annotations

import json

import pytest

from xdptstamp import features
from xdptstamp.errors import SetupError
from xdptstamp.features import from_masks, read_features

FLAGS = {
    "is_xdp": ("xdp", 1),
    "is_redirect": ("xdp", 2),
    "is_zero_copy": ("xdp", 8),
    "is_hw_offload": ("xdp", 16),
    "is_rx_multi_buffer": ("xdp", 32),
    "is_rx_timestamp": ("rx_metadata", 1),
    "is_rx_hash": ("rx_metadata", 2),
    "is_rx_vlan_tag": ("rx_metadata", 4),
    "is_tx_timestamp": ("xsk", 1),
    "is_tx_checksum": ("xsk", 2),
    "is_tx_launch_time": ("xsk", 4),
}


def masks(**given: int | None) -> features.Features:
    values: dict[str, int | None] = {"xdp": 0, "rx_metadata": 0, "xsk": 0, **given}
    return from_masks(values["xdp"], None, values["rx_metadata"], values["xsk"])


@pytest.mark.parametrize("name", FLAGS)
def test_each_flag_is_its_bit_and_no_other(name: str) -> None:
    mask, bit = FLAGS[name]
    assert getattr(masks(**{mask: bit}), name) is True
    assert getattr(masks(**{mask: ~bit & 0x7F}), name) is False
    assert getattr(masks(**{mask: None}), name) is None


def test_the_masks_of_igc() -> None:
    igc = from_masks(0xB, 1, 0x3, 0x5)
    assert (igc.is_zero_copy, igc.is_tx_timestamp, igc.is_tx_launch_time) == (True, True, True)
    assert (igc.is_tx_checksum, igc.is_rx_vlan_tag) == (False, False)
    assert igc.unknown == ""


def test_a_kernel_that_does_not_tell_is_named() -> None:
    old = from_masks(0x3, None, None, None)
    assert old.is_tx_timestamp is None
    assert old.is_xdp is True
    assert old.unknown == (
        "this kernel does not tell xdp-rx-metadata-features (Linux >= 6.6), "
        "xsk-features (Linux >= 6.8)"
    )


def test_json_has_every_flag() -> None:
    data = json.loads(json.dumps(from_masks(0xB, 1, 0x3, None).to_json()))
    assert {name for name in data if name.startswith("is_")} == set(FLAGS)
    assert data["is_tx_timestamp"] is None
    assert data["masks"] == {"xdp": 11, "rx_metadata": 3, "xsk": None}


def test_a_kernel_without_the_family_says_so() -> None:
    found = read_features(1, family="xdptstamp-no")
    assert found.xdp is found.xsk is found.is_tx_timestamp is None
    assert found.unknown == "this kernel has no netlink family xdptstamp-no (Linux >= 6.3 has it)"


def test_a_missing_interface_is_an_error() -> None:
    with pytest.raises(SetupError, match="ifindex 1999999999: no such interface"):
        read_features(1999999999)
