# SPDX-License-Identifier: GPL-2.0-only
"""The pattern of ``mixed`` on a link: what the sink says, and what a capture without it sees."""

import os
import select
import socket
import struct
from collections import defaultdict
from dataclasses import dataclass, field

import pyarrow.compute as pc
import pyarrow.dataset as pads
import pytest

from tests.link.frames import parse
from tests.link.mixing import keys_of, opened, run_here
from xdptstamp._sys import netns
from xdptstamp.measure.sink_client import SinkClient

if os.environ.get("NETIF"):
    pytest.skip("looks at the partner's end of a veth pair", allow_module_level=True)

# A sink that has no processor for a moment loses packets.
pytestmark = pytest.mark.serial

PORT = 9093
TX_RING = 1024
RATIOS = {"0:1": (0, 1), "1:0": (1, 0), "1:1": (1, 1), "1:10": (1, 10), "3:7": (3, 7)}
RATIOS["1:1000"] = (1, 1000)
SWEEP = ("--ratio", ",".join(list(RATIOS)[1:]))
# A pace that loses nothing: 10000 packets and 1000 of warm-up of each setting.
PACE = ("--repeats", 1, "--duration", "100ms", "--rate", "100kpps", "--quiet")
NUM_WRAPS = 5

HEADERS = {4: 42, 6: 62}
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3


# By the sink


class KeepingSink(SinkClient):
    """Keeps the last books of each stream."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.streams = {}
        KeepingSink.last = self

    def forget(self, stream_id):
        self.streams[stream_id] = self.report().stream(stream_id)
        super().forget(stream_id)


@pytest.fixture
def environment(shared_lab, monkeypatch):
    for name, value in shared_lab.environ.items():
        monkeypatch.setenv(name, value)
    return shared_lab


def mixed(link, capsys, out, *args):
    """Run it; returns settings and rounds. Nothing is untrusted, nothing lost, all books add up."""
    done = run_here(capsys, link.ifname, "--output-dir", out, *PACE, *args)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    run, settings, rounds = opened(out)
    assert keys_of(run, is_untrusted=True) == []
    for each in rounds:
        assert each.sent == each.completed > 0
        assert (each.requested, each.dropped_by_kernel) == (each.stamped, 0)
        if not each.is_warmup:
            assert each.sent >= NUM_WRAPS * TX_RING
    return run, settings, rounds


def test_the_sink_sees_each_pattern_exactly(environment, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("xdptstamp.cli._mixed_run.SinkClient", KeepingSink)
    _, settings, rounds = mixed(environment, capsys, tmp_path / "out", *SWEEP)
    assert {each.ratio for each in settings} == set(RATIOS)
    books = list(KeepingSink.last.streams.values())  # as they were sent
    assert len(rounds) == len(books) == 2 * len(RATIOS)
    for each, book in zip(rounds, books, strict=True):
        assert each.source == "sink"
        assert each.received == each.sent == book.received == book.span
        assert book.stamped == each.requested == num_stamped(settings[each.setting], each.sent)
        assert book.pattern_errors == each.pattern_errors == 0
        assert book.reordered == book.duplicates == book.corrupted == 0


def num_stamped(setting, sent):
    return sum(n % (setting.stamped + setting.plain) < setting.stamped for n in range(sent))


# By a capture that shares nothing with it


@dataclass
class Stream:
    """What was captured of one stream, in order."""

    pattern: tuple
    numbers: list = field(default_factory=list)
    marked: list = field(default_factory=list)
    lengths: set = field(default_factory=set)
    samples: list = field(default_factory=list)  # some whole frames


class Capture:
    """All frames that reach the partner's interface, where no program takes them away."""

    def __init__(self, link):
        namespace, self._link = link.environ["REMOTE_ARGS"], link
        self._socket = netns.call_inside(namespace, self._open)

    def _open(self):
        (ifname,) = [name for _, name in socket.if_nameindex() if name != "lo"]
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28)
        capture.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        capture.bind((ifname, ETH_P_ALL))
        return capture

    def __enter__(self):
        return self

    def __exit__(self, *_exc_info):
        self._socket.close()

    def streams(self, version):
        """The streams since it began, in order; none of their packets is missing from it."""
        found = {}
        at = HEADERS[version]
        while select.select([self._socket], [], [], 0)[0]:
            frame = self._socket.recv(65536)
            if frame[at - 6 : at - 4] != PORT.to_bytes(2, "big"):
                continue
            magic, stream_id, word, complement, *pattern = struct.unpack_from("!HIIIHH", frame, at)
            assert magic == 0x7874
            assert word ^ complement == 0xFFFFFFFF
            stream = found.setdefault(stream_id, Stream(tuple(pattern)))
            assert stream.pattern == tuple(pattern)
            if len(stream.numbers) % 500 == 0:
                stream.samples.append(frame)
            stream.numbers.append(word >> 1)
            stream.marked.append(bool(word & 1))
            stream.lengths.add(len(frame))
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        _, num_dropped = struct.unpack("=II", statistics)
        assert num_dropped == 0
        return list(found.values())


@pytest.mark.parametrize(
    ("version", "args"),
    [
        (4, SWEEP),
        (4, ("--ratio", "3:7", "--size", "64,65,1518")),
        (6, ("--ratio", "3:7", "--size", "84,512,1518")),
    ],
    ids=["ratios", "sizes", "IPv6"],
)
def test_a_capture_sees_each_pattern_exactly(environment, capsys, tmp_path, version, args):
    link = environment
    host = link.remote_v4 if version == 4 else link.remote_v6
    with Capture(link) as capture:
        args = ("--no-sink", "--to", host, *args)
        run, settings, rounds = mixed(link, capsys, tmp_path / "out", *args)
        streams = capture.streams(version)
    assert len(streams) == len(rounds)
    stamped = stamped_numbers(run)
    for each, stream in zip(rounds, streams, strict=True):
        setting = settings[each.setting]
        stamp, plain = stream.pattern
        assert (stamp, plain) == (setting.stamped, setting.plain)
        assert stream.numbers == list(range(each.sent))
        assert stream.marked == [n % (stamp + plain) < stamp for n in range(each.sent)]
        # What asked for a stamp has one, and nothing else has.
        asked = [n for n in range(each.sent) if n % (stamp + plain) < stamp]
        assert stamped[each.setting, each.is_warmup] == asked
        assert each.requested == len(asked)
        assert stream.lengths == {setting.size_bytes - 4}
        for frame in stream.samples:
            seen = parse(frame)  # checks every length and checksum
            assert (seen.sport, seen.dport) == (PORT, PORT)
            assert not seen.payload[18:].strip(b"\0")


def stamped_numbers(run):
    """The numbers of each (setting, is_warmup) in Parquet, all of them stamped at a true time."""
    table = pads.dataset(run.path / "samples", format="parquet").to_table()
    assert table["cause"].null_count == len(table)
    for earlier, later in (("tx_app_ns", "tx_sw_ns"), ("tx_sw_ns", "tx_comp_ns")):
        assert table[earlier].null_count == table[later].null_count == 0
        assert pc.all(pc.less_equal(table[earlier], table[later])).as_py()
    found = defaultdict(list)
    columns = [table[name].to_pylist() for name in ("setting", "is_warmup", "seq")]
    for setting, is_warmup, number in zip(*columns, strict=True):
        found[setting, is_warmup].append(number)
    return found
