# SPDX-License-Identifier: GPL-2.0-only
"""Beside other XDP programs, through libxdp's dispatcher.

It pins into a bpffs, so each test runs a program in a mount namespace of its own, with a bpffs that
goes with it. The link is a veth pair in the network namespace of the test module.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

HAS_REAL_NIC = bool(os.environ.get("NETIF"))

pytestmark = pytest.mark.skipif(HAS_REAL_NIC, reason="other programs may be on a real NIC")

# What is common to the programs below; each ends with printing a dictionary.
PRELUDE = textwrap.dedent(
    """
    import contextlib, json, os, select, socket, sys, time
    from xdptstamp._sys import netns
    from xdptstamp.errors import XdptstampError
    from xdptstamp.nic import Nic
    from xdptstamp.program import Program, ProgramConfig
    from xdptstamp.umem import Umem
    from xdptstamp.xsk import Xsk, XskConfig

    lab = json.loads(sys.argv[1])
    nic = Nic(lab["NETIF"])

    def dispatched(port):
        return Program(nic, ProgramConfig(port, num_queues=2, is_dispatched=True))

    def attached():
        return [(program.mode, program.prog_id) for program in nic.xdp_programs()]

    def pins():
        # Besides its own folder libxdp leaves nothing.
        walk = os.walk("/sys/fs/bpf/xdp")
        return [name for _, folders, files in walk for name in folders + files]

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def send(port, payload):
        def work():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.sendto(payload, (lab["LOCAL_V4"], port))
        netns.call_inside(lab["REMOTE_ARGS"], work)

    def main(function):
        try:
            print(json.dumps(function()))
        except XdptstampError as error:
            print(json.dumps({"attached": attached(), "pins": pins()}))
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
    """
)


def run(lab, program, mount="mount -t bpf bpf /sys/fs/bpf"):
    command = f'{mount} && exec "$@"'
    return subprocess.run(
        (
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-euc", command, "sh"),
            *(sys.executable, "-c", PRELUDE + textwrap.dedent(program), json.dumps(lab.environ)),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def result_of(done):
    """What the program printed; a skip if this kernel takes no freplace program at all."""
    if done.returncode == 4 and "Compatibility check for dispatcher program failed" in done.stderr:
        pytest.skip(f"no dispatcher on this kernel: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_packets_are_redirected_beside_another_program_and_nothing_is_left(shared_lab):
    program = """
        def run():
            said = {}
            with contextlib.closing(dispatched(9092)) as other:
                alone = attached()
                before = descriptors()
                with contextlib.closing(dispatched(9091)) as ours:
                    said["mode"], said["reason"] = ours.xdp_mode, ours.no_hints_reason
                    with nic.watch() as watch:
                        watch.wait_carrier(20)
                    xsks = [Xsk(Umem(64), nic.ifname, queue_id) for queue_id in (0, 1)]
                    for xsk in xsks:
                        start, count = xsk.fill.reserve(32)
                        xsk.fill.addrs[xsk.fill.entries(start, count)] = range(0, 32 * 2048, 2048)
                        xsk.fill.submit(count)
                        ours.add_socket(xsk.queue_id, xsk.fd)
                    send(9091, b"ours")
                    fds = [xsk.fd for xsk in xsks]
                    said["ready"] = len(select.select(fds, [], [], 20)[0])
                    send(9092, b"theirs")
                    deadline = time.monotonic() + 20
                    while not other.counters()["passed_no_socket"]:
                        assert time.monotonic() < deadline, other.counters()
                    said["ours"] = ours.counters()
                    said["other"] = other.counters()
                    for xsk in xsks:
                        xsk.close()
                said["still_attached"] = len(attached()) == len(alone) == 1
                said["descriptors_left"] = descriptors() - before
            said["attached"], said["pins"] = attached(), pins()
            return said

        main(run)
    """
    said = result_of(run(shared_lab, program))
    assert said["mode"] == "native"
    assert said["reason"] == "libxdp's dispatcher is not device-bound"
    assert said["ready"] == 1
    assert said["ours"]["redirected"] == 1
    # What the other asks for has passed through ours, or was taken before.
    assert said["other"]["passed_no_socket"] == 1
    assert said["other"]["redirected"] == 0
    assert said["still_attached"]
    assert said["descriptors_left"] == 0
    assert said["attached"] == []
    assert said["pins"] == []


def test_a_dispatcher_is_not_put_over_a_program_without_one(shared_lab):
    program = """
        def run():
            with contextlib.closing(Program(nic, ProgramConfig(num_queues=2))):
                before = attached()
                try:
                    dispatched(9092).close()
                except XdptstampError as error:
                    return {"error": str(error), "is_untouched": attached() == before}

        main(run)
    """
    said = result_of(run(shared_lab, program))
    assert said["error"].startswith(f"adding to the XDP dispatcher failed on {shared_lab.ifname}: ")
    assert "Existing program is not using a dispatcher" in said["error"]
    assert said["is_untouched"]


def test_without_a_bpffs_it_is_refused_and_nothing_is_attached(shared_lab):
    program = """
        def run():
            dispatched(9091).close()

        main(run)
    """
    done = run(shared_lab, program, "mount -t tmpfs none /sys/fs/bpf")
    assert done.returncode == 4
    # libxdp would have attached the program without a dispatcher, for good.
    assert json.loads(done.stdout) == {"attached": [], "pins": []}
    assert done.stderr == (
        f"libxdp's dispatcher on {shared_lab.ifname} is not supported here: needs a bpffs (mount "
        "-t bpf bpf /sys/fs/bpf) and a kernel that takes freplace programs, found No bpffs found "
        "at /sys/fs/bpf; Can't use dispatcher without a working bpffs\n"
    )


def test_where_the_kernel_takes_no_freplace_program_it_is_refused_as_well(shared_lab):
    program = """
        def run():
            dispatched(9091).close()
            return None

        main(run)
    """
    done = run(shared_lab, program)
    if done.returncode == 0:
        pytest.skip("this kernel takes freplace programs")
    assert done.returncode == 4
    assert json.loads(done.stdout) == {"attached": [], "pins": []}
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"libxdp's dispatcher on {shared_lab.ifname} is not supported here: ")
    assert "Compatibility check for dispatcher program failed" in line
