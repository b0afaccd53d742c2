# SPDX-License-Identifier: GPL-2.0-only
"""What a sink prints, to the letter, and command lines that it refuses."""

import json

import pytest
from click.testing import CliRunner

from xdptstamp.cli._sink_output import doubts, open_sink_output
from xdptstamp.cli.sink import command
from xdptstamp.kernellog import KernelLine
from xdptstamp.measure.sink_report import SinkReport, StreamCounts
from xdptstamp.program import COUNTERS
from xdptstamp.stream import DEFAULT_PORT
from xdptstamp.text.lines import WIDTH

OBTAINED = {"ifname": "eth1", "port": 9093, "mac": "02:00:00:00:00:01"} | {
    "mode": "copy",
    "xdp_mode": "native",
}
RING = {"rx_dropped": 0, "rx_ring_full": 0, "left": 0}
PROGRAM = dict.fromkeys(COUNTERS, 0)

TABLE = """\
xdptstamp sink: eth1, UDP port 9093 (copy mode, native XDP)
ended by SIGINT

stream        received    missing reordered duplicates corrupted pattern
00000007     1,000,000         13         4          2         1       9
deadbeef             1          0         0          0         0       0
  3 too late to tell from duplicates
  (missing: numbers never seen up to the greatest that came; pattern:
  requests for a timestamp that break the pattern of their stream)

  redirected to the sink         1,000,020
  lost: no free frame                   13  rx_dropped
  lost: Rx ring full                     0  rx_ring_full
  left in the Rx ring                    0
  foreign                                1  not a packet of a stream
  left to the stack                      5  no socket on the queue
  refused: ip csum                       6  left to the stack
"""


def report(**changes):
    streams = {
        7: StreamCounts(1_000_000, 2, 4, 0, 1, 9, 90_909, 1_000_013),
        0xDEADBEEF: StreamCounts(received=1, span=1, too_late=3),
    }
    program = {
        **PROGRAM,
        "redirected": 1_000_020,
        "passed_no_socket": 5,
        "refused_ip_csum": 6,
    }
    fields = {"streams": streams, "ring": {**RING, "rx_dropped": 13}, "program": program}
    return SinkReport(**{**fields, "foreign": 1, **changes})


def printed(capsys, name, counts, kernel_lines=()):
    output = open_sink_output(name)
    output.ready(OBTAINED)
    ready = capsys.readouterr()
    output.end(counts, "SIGINT", doubts(counts, list(kernel_lines)))
    return ready, capsys.readouterr()


def test_the_table(capsys):
    ready, end = printed(capsys, "table", report())
    assert (ready.out, ready.err) == (
        "",
        "xdptstamp sink: eth1, UDP port 9093 (copy mode, native XDP) is ready\n",
    )
    assert (end.out, end.err) == (TABLE, "")


def test_a_table_without_packets(capsys):
    _, end = printed(capsys, "table", SinkReport(ring=RING, program=PROGRAM))
    assert "\nno packet of any stream came\n" in end.out
    assert "refused" not in end.out
    assert "left to the stack" not in end.out


def test_numbers_too_wide_for_the_table(capsys):
    streams = {1: StreamCounts(received=10**12, duplicates=10**9, span=2 * 10**12)}
    _, end = printed(capsys, "table", report(streams=streams))
    assert "received=1,000,000,000,000 missing=1,000,000,000,000" in end.out
    assert max(map(len, end.out.splitlines())) <= WIDTH


def test_the_last_of_many_streams(capsys):
    streams = {key: StreamCounts(received=1, span=1) for key in range(25)}
    _, end = printed(capsys, "table", report(streams=streams))
    assert "\n00000005 " in end.out
    assert "\n00000004 " not in end.out
    assert "(5 streams before these: --format jsonl)" in end.out


@pytest.mark.parametrize("count", [1234, -1])
def test_books_that_do_not_balance(capsys, count):
    _, table = printed(capsys, "table", report(unaccounted=count))
    words = f"""
UNTRUSTED: packets are unaccounted for: the sink's counters do not add
  up
  {count:,} packets; limit: 0 [sink-unaccounted]
  do not rely on these counts; receive again
"""
    assert table.out.endswith(words)
    _, jsonl = printed(capsys, "jsonl", report(unaccounted=count))
    assert jsonl.err == words.lstrip("\n")


def test_a_kernel_that_complains_makes_the_counts_doubtful(capsys):
    lines = [
        KernelLine(4, True, 1, 1, "WARNING: CPU: 1 PID: 9 at net/core/dev.c:3 f+0x1", "warning"),
        KernelLine(6, True, 2, 2, "igc 0000:04:00.0 eth1: NIC Link is Up", "link"),
    ]
    _, table = printed(capsys, "table", report(), lines)
    assert "UNTRUSTED: the kernel log says: WARNING: CPU: 1 PID: 9 at" in table.out
    assert "NIC Link" not in table.out


def test_json_lines(capsys):
    output = open_sink_output("jsonl")
    output.ready(OBTAINED)
    output.report(report())
    output.refuse("what?")
    output.end(report(), "stdin closed", [])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"type": "ready", **OBTAINED}
    assert lines[1] == {"type": "report", **report().to_json()}
    assert lines[1]["streams"]["7"]["received"] == 1_000_000
    assert lines[2] == {"type": "error", "message": "what?"}
    assert lines[3] == {"type": "end", "ended_by": "stdin closed", **report().to_json()}


@pytest.mark.parametrize(
    ("args", "environ", "words"),
    [
        ([], {}, "Missing argument 'IFNAME': the interface (or set REMOTE_V4 or REMOTE_V6)."),
        (
            [],
            {"REMOTE_V4": "192.0.2.77", "REMOTE_V6": "2001:db8::77"},
            "no interface here has the address 192.0.2.77 or 2001:db8::77 (REMOTE_V4, REMOTE_V6); "
            "run it on the link partner",
        ),
        (["eth1", "--control"], {}, "--control answers in JSON lines: add --format jsonl."),
    ],
)
def test_a_command_line_that_cannot_be(args, environ, words):
    nothing = dict.fromkeys(("REMOTE_V4", "REMOTE_V6"))
    result = CliRunner().invoke(command, args, env={**nothing, **environ})
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_the_port_is_that_of_the_sender():
    (port,) = (option.default for option in command.params if option.name == "port")
    assert port == DEFAULT_PORT
