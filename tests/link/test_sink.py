# SPDX-License-Identifier: GPL-2.0-only
"""``xdptstamp sink`` on a link's far end: what came is what it says, whatever came."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from pyroute2.iproute import IPRoute

from tests.link.frames import CTAG, NONE, Port
from tests.link.running import one_message, wait_until
from xdptstamp import stream
from xdptstamp._sys import netns
from xdptstamp.errors import SetupError
from xdptstamp.measure.sink_client import SinkClient
from xdptstamp.measure.sink_report import StreamCounts
from xdptstamp.nic import Nic, find_link_by_address

if os.environ.get("NETIF"):
    pytest.skip("the sink runs in the partner's namespace", allow_module_level=True)

PORT = stream.DEFAULT_PORT
SINK = (sys.executable, "-m", "xdptstamp", "sink")
HEADERS = {4: 14 + 20 + 8, 6: 14 + 40 + 8}

# Each test has streams of its own: they share a sink.
ids = itertools.count(1)


@pytest.fixture(scope="module", params=["native", "skb"])
def sink(request, shared_lab):
    options = ("--xdp-mode", request.param)
    with SinkClient(shared_lab.partner, shared_lab.environ, options=options) as client:
        assert client.ready().xdp_mode == request.param
        yield client


class Sender:
    """A plain UDP socket on the DUT's end."""

    def __init__(self, link, version=4):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.connect((link.remote_v4 if version == 4 else link.remote_v6, PORT))

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._socket.close()

    def send(self, *payloads):
        for payload in payloads:
            with contextlib.suppress(ConnectionRefusedError):
                self._socket.send(payload)


def payloads_of(stream_id, numbers, pattern=(1, 10), is_stamped=None, length=stream.LEN):
    """What packets of these numbers hold; stamped as the pattern wants it, or as told."""
    numbers = np.asarray(numbers, dtype=np.int64)
    if is_stamped is None:
        is_stamped = numbers % sum(pattern) < pattern[0]
    words = stream.words(numbers, np.asarray(is_stamped, dtype=np.bool_)).tobytes()
    first = stream.first_payload(stream_id, pattern, length)
    at = stream.WORD_OFFSET
    return [
        first[:at] + words[8 * row : 8 * row + 8] + first[at + 8 :] for row in range(len(numbers))
    ]


def damaged(payload):
    return payload[:9] + bytes([payload[9] ^ 4]) + payload[10:]


def counts_after(sink, link, stream_id, payloads, version=4):
    """The counts of a stream after these packets, every one of which has reached the program."""
    before = sink.report()
    with Sender(link, version) as sender:
        sender.send(*payloads)
    after = report_at(sink, before.program["redirected"] + len(payloads))
    assert after.unaccounted == 0
    assert after.foreign == before.foreign
    return after.stream(stream_id)


def report_at(sink, redirected):
    """The first report that has so many packets redirected."""
    reports = []

    def is_there():
        reports.append(sink.report())
        return reports[-1].program["redirected"] >= redirected

    wait_until(is_there, f"{redirected} redirected packets")
    assert reports[-1].program["redirected"] == redirected
    return reports[-1]


def programs_at(link, ifname):
    return netns.call_inside(link.environ["REMOTE_ARGS"], lambda: Nic(ifname).xdp_programs())


# -- what came


@pytest.mark.parametrize("length", [stream.LEN, 1400])
@pytest.mark.parametrize("version", [4, 6])
def test_everything_in_order(sink, shared_lab, version, length):
    stream_id, numbers = next(ids), range(5000)
    payloads = payloads_of(stream_id, numbers, (2, 5), length=length)
    counts = counts_after(sink, shared_lab, stream_id, payloads, version)
    assert counts == StreamCounts(
        received=5000,
        stamped=sum(number % 7 < 2 for number in numbers),
        span=5000,
        bytes=5000 * (HEADERS[version] + length),
    )
    assert counts.missing == 0


@pytest.mark.parametrize("version", [4, 6])
def test_each_trouble_is_counted_as_what_it_is(sink, shared_lab, version):
    stream_id = next(ids)
    everything = payloads_of(stream_id, range(1000))
    order = [*range(100), *range(107, 1000)]  # 7 lost, and 3 more at the end
    order[200], order[201] = order[201], order[200]  # 1 reordered
    order.insert(500, order.pop(300))  # 1 more
    order[600:600] = [5, 590, 590]  # 3 duplicates
    payloads = [everything[number] for number in order[:-3]]
    payloads[10] = damaged(payloads[10])  # corrupted, so missing as well
    payloads[22], payloads[25] = payloads_of(stream_id, [22, 25], is_stamped=[False, True])
    counts = counts_after(sink, shared_lab, stream_id, payloads, version)
    assert counts == StreamCounts(
        received=1000 - 7 - 3 - 1,
        duplicates=3,
        reordered=2,
        corrupted=1,
        pattern_errors=2,
        stamped=sum(n % 11 < 1 for n in order[:-3] if n != 10) - 1 + 1,
        span=997,
        bytes=(1000 - 7 - 3 - 1) * (HEADERS[version] + stream.LEN),
    )
    assert counts.missing == 8


def test_packets_without_a_pattern_have_none_to_break(sink, shared_lab):
    stream_id = next(ids)
    payloads = payloads_of(stream_id, range(100), (0, 0), is_stamped=np.arange(100) % 3 == 0)
    counts = counts_after(sink, shared_lab, stream_id, payloads)
    assert (counts.received, counts.stamped, counts.pattern_errors) == (100, 34, 0)


def test_two_senders_at_once(sink, shared_lab):
    first, second = next(ids), next(ids)
    pairs = zip(
        payloads_of(first, range(3000), (1, 1)), payloads_of(second, range(3000)), strict=True
    )
    payloads = [payload for pair in pairs for payload in pair]
    del payloads[1000:1100]
    counts_after(sink, shared_lab, first, payloads)
    streams = sink.report().streams
    for stream_id in (first, second):
        counts = streams[stream_id]
        assert (counts.received, counts.span, counts.missing) == (2950, 3000, 50)
        assert counts.reordered == counts.duplicates == counts.pattern_errors == 0


@pytest.mark.parametrize("sink", ["native"], indirect=True)
def test_a_forgotten_stream_stays_in_the_books(sink, shared_lab):
    stream_id = next(ids)
    counts = counts_after(sink, shared_lab, stream_id, payloads_of(stream_id, [0, 1, 1]))
    before = sink.report().forgotten
    sink.forget(stream_id)
    report = sink.report()
    assert counts.packets == report.forgotten - before == 3
    assert stream_id not in report.streams
    assert report.unaccounted == 0


class DutPort(Port):
    """Raw frames from the DUT's end to the partner."""

    def __init__(self, link, sink):
        self.mac = bytes.fromhex(Nic(link.ifname).mac.replace(":", ""))
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((link.ifname, 0))
        turned = {
            f"{mine}_{version}": link.environ[f"{other}_{version}"]
            for mine, other in (("LOCAL", "REMOTE"), ("REMOTE", "LOCAL"))
            for version in ("V4", "V6")
        }
        self._link = type(link)({**link.environ, **turned})
        self._dut_mac = bytes.fromhex(sink.ready().mac.replace(":", ""))


@pytest.mark.parametrize("version", [4, 6])
def test_packets_of_no_stream(sink, shared_lab, version):
    stream_id = next(ids)
    (payload,) = payloads_of(stream_id, [0])
    before = sink.report()
    with DutPort(shared_lab, sink) as port:
        request = port.request(version, dport=PORT, payload=payload)
        port.send(request.build())
        foreign = [
            request.but(payload=payload[:-1]),  # one byte too short
            request.but(payload=b"\0" + payload[1:]),  # not our magic
            request.but(payload=b""),
            request.but(tags=((CTAG, 5),)),
        ]
        for each in foreign:
            port.send(each.build())
        # UDP's own checksum is not looked at.
        for csum in (NONE, 0x1234):
            port.send(request.but(csum=csum).build())
        port.send(
            request.but(
                options=b"\1" * 4 if version == 4 else b"\x11\0\1\4" + bytes(4),
                nexthdr=17 if version == 4 else 0,
            ).build()
        )
        port.send(request.but(dport=PORT + 1).build())
    after = report_at(sink, before.program["redirected"] + 7)
    assert after.foreign - before.foreign == len(foreign)
    counts = after.stream(stream_id)
    assert (counts.received, counts.duplicates, counts.corrupted) == (1, 2, 0)
    name = "refused_ip_options"
    wait_until(
        lambda: sink.report().program[name] == before.program[name] + 1, "the refused packet"
    )
    assert sink.report().unaccounted == 0


@pytest.mark.parametrize("sink", ["native"], indirect=True)
def test_counters_of_its_link(sink, shared_lab):
    stream_id = next(ids)
    before = sink.report().link
    counts_after(sink, shared_lab, stream_id, payloads_of(stream_id, range(200)))
    after = sink.report().link
    assert after["link.rx_packets"] - before["link.rx_packets"] >= 200
    assert after["link.rx_dropped"] == before["link.rx_dropped"]
    assert any(name.startswith("rx_queue_0_") for name in after)


# -- more than it can take


def test_what_its_rings_could_not_hold_is_counted_to_the_packet(lab):
    stream_id, count = next(ids), 20_000
    with SinkClient(lab.partner, lab.environ) as sink, Sender(lab) as sender:
        sink.ready()
        os.kill(sink.pid, signal.SIGSTOP)
        try:
            sender.send(*payloads_of(stream_id, range(count), (1, 1)))
        finally:
            os.kill(sink.pid, signal.SIGCONT)
        report = report_at(sink, count)
        counts = report.stream(stream_id)
        dropped = report.ring["rx_dropped"] + report.ring["rx_ring_full"]
        assert dropped > 0
        assert counts.received + dropped == count
        assert report.ring["left"] == report.unaccounted == report.foreign == 0
        # The rings hold the first of each queue; behind them nothing came.
        assert counts.missing == counts.span - counts.received
        assert counts.duplicates == counts.reordered == counts.pattern_errors == 0
        # And it goes on.
        sender.send(*payloads_of(stream_id, range(count, count + 10), (1, 1)))
        after = report_at(sink, count + 10).stream(stream_id)
    assert (after.received, after.span) == (counts.received + 10, count + 10)
    assert after.missing == dropped


# -- its beginning and its end


def test_killed_in_the_middle(lab):
    with SinkClient(lab.partner, lab.environ) as sink:
        ifname = sink.ready().ifname
        assert [program.mode for program in programs_at(lab, ifname)] == ["native"]
        sink.check()
        os.kill(sink.pid, signal.SIGKILL)
        subject = f"sink on network namespace {lab.environ['REMOTE_ARGS']}"
        with pytest.raises(SetupError) as raised:
            sink.report()
        assert str(raised.value) == f"{subject}: ended with SIGKILL"
        with pytest.raises(SetupError, match="ended with SIGKILL"):
            sink.check()
    assert programs_at(lab, ifname) == ()
    with SinkClient(lab.partner, lab.environ) as following:
        assert following.ready().ifname == ifname
    assert programs_at(lab, ifname) == ()


@pytest.mark.parametrize("sink", ["native"], indirect=True)
def test_a_second_sink_is_refused(sink, shared_lab):
    ifname = sink.ready().ifname
    (program,) = programs_at(shared_lab, ifname)
    words = (
        f"{ifname}: XDP program id {program.prog_id} is attached already ({program.mode} mode). "
        "End its owner, or use --force to replace it during the run"
    )
    with (
        SinkClient(shared_lab.partner, shared_lab.environ) as second,
        pytest.raises(SetupError) as raised,
    ):
        second.ready()
    assert str(raised.value) == f"sink on {shared_lab.partner.subject}: {words}"
    assert one_message(run_sink(shared_lab), 1) == words
    assert sink.report().unaccounted == 0
    assert programs_at(shared_lab, ifname) == (program,)


def run_sink(link, *args, stdin="", before=()):
    """``xdptstamp sink ARGS`` on the partner to its end."""
    return link.partner.run(
        [*before, *SINK, *args],
        input=stdin,
        env={**os.environ, **link.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_table_at_its_end(lab, popen_cli, number):
    running = popen_cli("partner", "--", *SINK, env=lab.environ)
    running.wait_for("ready")
    with Sender(lab, 6) as sender:
        sender.send(*payloads_of(0xABC, [0, 1, 3], length=1400))
        # The driver counts what the program has seen.
        wait_until(lambda: received_bytes_at(lab) > 3 * 1400, "the packets at the far end")
    running.send_signal(number)
    done = running.wait()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].endswith(f"UDP port {PORT} (copy mode, native XDP)")
    assert lines[1] == f"ended by {signal.Signals(number).name}"
    assert "00000abc             3          1         0          0         0       0" in lines
    assert "  redirected to the sink                 3" in lines


def received_bytes_at(link):
    def read():
        return Nic(find_link_by_address(link.remote_v4)).link().statistics["rx_bytes"]

    return netns.call_inside(link.environ["REMOTE_ARGS"], read)


def test_a_duration(lab):
    done = run_sink(lab, "--duration", "10ms", "--mode", "copy", "--cpu", "0", "--queue", "1")
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "ended by duration")


def test_requests_on_stdin(lab):
    requests = "report\nwhat?\n\nforget 7\nreport\nrep"
    done = run_sink(lab, "--control", "--format", "jsonl", stdin=requests)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    types = ["ready", "report", "error", "error", "report", "end"]
    assert [line["type"] for line in lines] == types
    assert lines[0]["port"] == PORT
    assert lines[2]["message"] == "'what?' is neither 'report' nor 'forget STREAM'"
    assert lines[-1]["ended_by"] == "stdin closed"
    assert lines[-1]["unaccounted"] == 0


def test_the_interface_vanishes(lab, popen_cli):
    running = popen_cli("partner", "--", *SINK, "--format", "jsonl", env=lab.environ)
    running.wait_for('"ready"')
    with IPRoute() as ipr:
        ipr.link("del", index=Nic(lab.ifname).ifindex)
    done = running.wait()
    assert done.returncode == 1
    ready, end = map(json.loads, done.stdout.splitlines())
    words = f"{ready['ifname']} vanished: removed, or moved to another namespace"
    assert done.stderr == f"Error: {words}\n"
    assert (end["ended_by"], end["unaccounted"], end["link"]) == (words, 0, {})


# -- what it refuses


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("no-such-link",), "no-such-link: no such interface; there are: lo, peer"),
        (("--queue", "9"), "no queue 9; there is queues 0 to 1 (ethtool -l)"),
        (("lo",), "lo: refused: it is the loopback interface, which other programs need"),
    ],
)
def test_an_interface_that_cannot_be_used(shared_lab, args, words):
    assert words in one_message(run_sink(shared_lab, *args), 1)


def test_without_privilege(shared_lab):
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    message = one_message(run_sink(shared_lab, before=drop), 1)
    assert "needs CAP_NET_ADMIN and CAP_NET_RAW and CAP_BPF and CAP_PERFMON" in message
