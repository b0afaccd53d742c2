# SPDX-License-Identifier: GPL-2.0-only
"""What ping-pong says where it cannot begin: one message, the right exit code, nothing touched."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import xdptstamp
from tests.link.running import (
    Client,
    PingPong,
    assert_left_alone,
    hide_library,
    one_message,
    the_run,
)
from xdptstamp.umem import Umem
from xdptstamp.xsk import Xsk, XskConfig

WITHOUT_AF_XDP = Path(__file__).with_name("without_af_xdp.py")

if os.environ.get("NETIF"):
    pytest.skip("a real NIC is not set down, routed or taken", allow_module_level=True)


@pytest.fixture
def refused(shared_lab, run_cli, tmp_path):
    """``refused(code, *args, ifname=None)``: the message of a ping-pong that does not begin."""

    def refuse(code, *args, ifname=shared_lab.ifname, **options):
        out = tmp_path / "out"
        done = run_cli(
            "ping-pong", *([ifname] if ifname else []), "--output-dir", out, *args, **options
        )
        print("MSG", done.stderr)
        message = one_message(done, code)
        assert not out.exists() or not list(out.iterdir()), "a run of nothing"
        assert_left_alone(shared_lab.ifname)
        return message

    return refuse


@contextlib.contextmanager
def ip(*args, undo):
    subprocess.run(["ip", *args], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", *undo], check=True)


def test_no_such_interface(refused, shared_lab):
    message = refused(1, ifname="nosuch0")
    assert message.startswith("nosuch0: no such interface; there are: ")
    assert shared_lab.ifname in message


def test_no_such_queue(refused):
    assert "no queue 7; there is queues 0 to 1 (ethtool -l)" in refused(
        1, "--queue", 0, "--queue", 7
    )


def test_loopback_is_refused(refused):
    message = refused(1, ifname="lo")
    assert "lo: refused: it is the loopback interface" in message
    assert "--force" in message


def test_the_interface_of_the_default_route_is_refused(refused, shared_lab):
    route = ("route", "add", "default", "via", shared_lab.remote_v4)
    with ip(*route, undo=("route", "del", "default")):
        message = refused(1)
    assert "refused: the default route leaves through it" in message
    assert "--force" in message


def test_a_link_that_is_down(refused):
    pair = ("link", "add", "xdpt-down", "type", "veth", "peer", "name", "xdpt-down-p")
    with ip(*pair, undo=("link", "del", "xdpt-down")):
        message = refused(1, ifname="xdpt-down")
    assert message == "xdpt-down: the link is down; ip link set xdpt-down up"


def test_an_mtu_that_no_frame_holds(refused, shared_lab):
    link = ("link", "set", shared_lab.ifname, "mtu")
    with ip(*link, "9000", undo=(*link, "1500")):
        message = refused(1)
    assert "MTU 9000 is more than one frame holds; ip link set" in message


def test_a_queue_that_another_socket_has(refused, shared_lab):
    with Xsk(Umem(64), shared_lab.ifname, 1, XskConfig(rx_size=64, tx_size=64)):
        message = refused(1)
    assert f"bind failed on {shared_lab.ifname} queue 1, copy: Device or resource busy" in message
    assert "The queue has an AF_XDP socket already: end its owner, or use another queue." in message


def test_a_port_that_a_socket_of_this_machine_uses(refused, shared_lab, popen_cli, tmp_path):
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as used:
            used.bind((address, 9091))
            message = refused(1)
            assert message.startswith("UDP port 9091: is in use by a socket of this machine")
            assert "choose another --port, or --force" in message
            started = popen_cli(
                "ping-pong", shared_lab.ifname, "--force", "--duration", "1ms", "--output-dir",
                tmp_path / family.name,
            )  # fmt: skip
            assert started.wait().returncode == 0


def test_zero_copy_where_there_is_none(refused):
    message = refused(1, "--mode", "zero-copy")
    assert "queue 0, zero-copy" in message
    assert "Try --mode copy." in message


def test_a_folder_that_takes_no_results(refused):
    message = refused(1, "--output-dir", "/proc/nosuch")
    assert message.startswith("/proc/nosuch: cannot make a run folder here")
    assert "--output-dir or XDPTSTAMP_OUTPUT_DIR" in message


def test_a_csv_that_exists(refused, tmp_path):
    (tmp_path / "old.csv").write_text("precious")
    assert "exists already and is not overwritten" in refused(1, "--csv", tmp_path / "old.csv")
    assert (tmp_path / "old.csv").read_text() == "precious"


def test_a_cpu_that_is_not_there(refused):
    assert "CPU 4095: cannot be used; there are: [0" in refused(1, "--cpu", 4095)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--port", 0], "0 is not in the range 1<=x<=65535"),
        (["--port", 65536], "65536 is not in the range 1<=x<=65535"),
        (["--queue", -1], "-1 is not in the range"),
        (["--count", 0], "0 is not in the range"),
        (["--duration", "10"], "'10' is not a duration"),
        (["--sched", "fifo:0"], "'fifo:0' is not fifo:PRIO with PRIO from 1 to 99"),
        (["--fail-if", "much > 1"], "--fail-if"),
        (["--wait", "napi"], "'napi' is not one of 'poll', 'spin'"),
    ],
)
def test_a_command_line_that_cannot_be_read(shared_lab, run_cli, tmp_path, args, text):
    done = run_cli("ping-pong", shared_lab.ifname, "--output-dir", tmp_path, *args)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_interface_named(run_cli):
    done = run_cli("ping-pong")
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
    assert "NETIF" in done.stderr


# -- what is not installed, or not in this kernel


def test_without_libbpf(refused, tmp_path):
    message = refused(4, env=hide_library(tmp_path, "libbpf.so.1"))
    assert "needs libbpf.so.1 (Debian: apt install libbpf1)" in message


def test_libxdp_is_needed_for_the_dispatcher_alone(refused, shared_lab, popen_cli, tmp_path):
    env = hide_library(tmp_path, "libxdp.so.1")
    assert "libxdp" in refused(4, "--dispatcher", env=env)
    without = PingPong(popen_cli, shared_lab, tmp_path / "without", "--count", 5, env=env)
    without.wait_answering()
    with Client(shared_lab) as client:
        client.converse(4)
    assert without.process.wait().returncode == 0
    info = the_run(tmp_path / "without").info
    assert info.versions["libxdp"] == "none"
    assert info.obtained["umem"]["registration"] == "kernel"


def test_a_package_without_its_bpf_object(refused, tmp_path):
    package = Path(xdptstamp.__file__).parent
    copy = tmp_path / "site" / "xdptstamp"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("_bpf", "__pycache__"))
    message = refused(1, env={"PYTHONPATH": str(copy.parent)}, cwd=tmp_path)
    assert message.startswith(f"{copy}/_bpf/xdptstamp.bpf.o: the BPF object is missing")
    assert "install xdptstamp again" in message


def test_a_kernel_without_af_xdp(shared_lab, tmp_path):
    argv = [sys.executable, "-m", "xdptstamp", "ping-pong", shared_lab.ifname]
    done = subprocess.run(
        [sys.executable, WITHOUT_AF_XDP, *argv, "--output-dir", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    message = one_message(done, 4)
    print(message)
    assert "AF_XDP is not supported here: needs a kernel with CONFIG_XDP_SOCKETS" in message
    assert_left_alone(shared_lab.ifname)
