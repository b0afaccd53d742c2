# SPDX-License-Identifier: GPL-2.0-only
"""``lab veth``: the link it makes, what the command gets, what it says where it cannot."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from xdptstamp._sys import netns
from xdptstamp.errors import SetupError, SystemCallError, UnsupportedError
from xdptstamp.lab import VethLab, link
from xdptstamp.lab.plan import free_plans
from xdptstamp.remote import NetnsPartner

VARIABLES = "NETIF LOCAL_V4 LOCAL_V6 REMOTE_V4 REMOTE_V6 REMOTE_TYPE REMOTE_ARGS".split()

if os.environ.get("NETIF"):
    pytest.skip("these tests are about the link that is not real", allow_module_level=True)


def shell(*lines):
    return ["--", "sh", "-c", "\n".join(lines)]


def python(*lines):
    return [sys.executable, "-c", "\n".join(lines)]


def links():
    return {name for _, name in socket.if_nameindex()}


def attribute(ifname, name):
    with link._rtnl("RTM_GETLINK", ifname) as ipr:
        return ipr.link("get", ifname=ifname)[0].get(name)


# -- the link


def test_both_ends_are_up_and_addressed_at_once():
    with VethLab() as lab:
        environ = lab.environ
        assert attribute(lab.ifname, "operstate") == "UP"
        peer = lab.plan.partner_ifname
        assert netns.call_inside(lab.netns, lambda: attribute(peer, "operstate")) == "UP"
        for family, key in ((socket.AF_INET, "V4"), (socket.AF_INET6, "V6")):
            with (
                netns.call_inside(
                    lab.netns, lambda f=family: socket.socket(f, socket.SOCK_DGRAM)
                ) as there,
                socket.socket(family, socket.SOCK_DGRAM) as here,
            ):
                there.bind((environ[f"REMOTE_{key}"], 0))
                here.bind((environ[f"LOCAL_{key}"], 0))
                there.settimeout(5)
                here.sendto(b"first packet", there.getsockname())
                assert there.recvfrom(100)[1][0] == environ[f"LOCAL_{key}"]


@pytest.mark.parametrize("num_queues", [1, 2, 5])
def test_queues_of_both_ends(num_queues):
    with VethLab(num_queues) as lab:
        assert attribute(lab.ifname, "num_tx_queues") == num_queues
        assert attribute(lab.ifname, "num_rx_queues") == num_queues
        peer = lab.plan.partner_ifname
        seen = netns.call_inside(
            lab.netns, lambda: (attribute(peer, "num_tx_queues"), attribute(peer, "num_rx_queues"))
        )
        assert seen == (num_queues, num_queues)


def test_carrier_is_waited_for(monkeypatch):
    def set_partner(state):
        with link._rtnl("RTM_NEWLINK", "") as ipr:
            ipr.link("set", ifname=lab.plan.partner_ifname, state=state)

    with VethLab() as lab, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as events:
        events.bind((0, 1))
        netns.call_inside(lab.netns, lambda: set_partner("down"))
        with monkeypatch.context() as patch:
            patch.setattr(link, "_UP_TIMEOUT_NS", 50_000_000)
            with pytest.raises(SetupError, match=f"{lab.ifname}: no carrier after"):
                link._await_up(lab.ifname, events)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(netns.call_inside, lab.netns, lambda: set_partner("up"))
            link._await_up(lab.ifname, events)
            assert attribute(lab.ifname, "operstate") == "UP"


def test_no_packet_but_multicast_reports_on_a_new_link():
    with VethLab() as lab, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300) as sniffer:
        sniffer.bind((lab.ifname, 3))
        seen = []
        deadline = time.monotonic() + 2
        while select.select([sniffer], [], [], max(deadline - time.monotonic(), 0))[0]:
            seen.append(sniffer.recv(2048))
        # ICMPv6 type 143 behind the hop-by-hop option: which groups an end listens to.
        assert [packet.hex() for packet in seen if packet[12:14] != b"\x86\xdd"] == []
        assert {packet[62] for packet in seen} <= {143}


def test_loopback_of_the_partner_is_up():
    with VethLab() as lab:
        assert (
            NetnsPartner(lab.netns)
            .run(
                python(
                    "import socket; s = socket.create_server(('127.0.0.1', 0))",
                    "socket.create_connection(s.getsockname(), 5)",
                )
            )
            .returncode
            == 0
        )


def test_addresses_in_use_are_avoided():
    with VethLab() as first:
        networks = link.networks_in_use()
        assert first.plan.ipv4 in networks
        assert first.plan.ipv6 in networks
        assert not any(plan.ipv4.overlaps(first.plan.ipv4) for plan in free_plans(networks))


def test_a_machine_that_disables_ipv6_on_new_links():
    setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6"
    with open(setting, "r+", encoding="ascii") as file:
        file.write("1")
        file.flush()
        try:
            with VethLab() as lab:
                assert lab.environ["LOCAL_V6"]
        finally:
            file.write("0")


def test_no_veth_in_the_kernel(monkeypatch):
    monkeypatch.setattr(link, "_KIND", "nosuchkind")
    with pytest.raises(UnsupportedError, match="CONFIG_VETH") as caught, VethLab():
        pytest.fail("there is such a link after all")
    assert caught.value.exit_code == 4


def test_a_number_of_queues_the_kernel_refuses():
    with pytest.raises(SystemCallError, match="with 100000 queues"), VethLab(100_000):
        pytest.fail("the kernel accepted it")


def test_outside_of_the_block_there_is_no_lab():
    lab = VethLab()
    with pytest.raises(SetupError, match="outside of its `with` block"):
        _ = lab.environ
    with lab:
        assert lab.ifname in links()
    with pytest.raises(SetupError):
        _ = lab.ifname


def test_an_exception_in_the_block_removes_the_lab():
    with pytest.raises(ZeroDivisionError), VethLab() as lab:
        name = lab.ifname
        raise ZeroDivisionError
    assert name not in links()
    assert netns.inode_of(name) is None


def test_the_lab_goes_wherever_its_dut_end_went():
    with VethLab() as outer, VethLab() as lab:
        with link._rtnl("RTM_NEWLINK", lab.ifname) as ipr:
            ipr.link("set", ifname=lab.ifname, net_ns_fd=outer.netns)
        name = lab.ifname
        assert name not in links()
        lab.__exit__(None, None, None)
        assert netns.call_inside(outer.netns, links) == {"lo", outer.plan.partner_ifname}


def test_processes_on_the_partner_end_with_the_lab():
    stubborn = python(
        "import signal, sys",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "print('ready', flush=True)",
        "signal.pause()",
    )
    with VethLab() as lab:
        partner = NetnsPartner(lab.netns)
        polite = partner.popen(["sleep", "1000"])
        rude = partner.popen(stubborn, stdout=subprocess.PIPE)
        with rude.stdout:
            assert rude.stdout.readline() == b"ready\n"
    assert polite.wait(5) == -signal.SIGTERM
    assert rude.wait(5) == -signal.SIGKILL


# -- the command line


def test_the_command_gets_the_environment(run_cli):
    done = run_cli("lab", "veth", *shell("env", "grep $NETIF: /proc/self/net/dev"))
    environ = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line[:12])
    assert done.returncode == 0, done.stderr
    assert set(VARIABLES) <= set(environ)
    assert environ["REMOTE_TYPE"] == "netns"
    assert environ["NETIF"] not in links()
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_exit_code_of_the_command(run_cli, command, code):
    done = run_cli("lab", "veth", *shell(command))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_options_of_the_command_are_its_own(run_cli):
    done = run_cli("lab", "veth", "--queues", "3", "echo", "--queues", "--help")
    assert (done.returncode, done.stdout) == (0, "--queues --help\n")


@pytest.mark.parametrize(("command", "code"), [("/nosuch/command", 127), ("/dev/null", 126)])
def test_a_command_that_cannot_be_started(run_cli, command, code):
    done = run_cli("lab", "veth", "--", command)
    assert done.returncode == code
    assert done.stderr.startswith(f"Error: exec failed on {command}: ")


def test_queues_out_of_range_are_a_usage_error(run_cli):
    done = run_cli("lab", "veth", "--queues", "0", "--", "true")
    assert done.returncode == 2
    assert "0 is not in the range" in done.stderr


def test_concurrent_labs(popen_cli):
    labs = [popen_cli("lab", "veth", *shell("env; echo ready; exec sleep 1000")) for _ in range(5)]
    for lab in labs:
        lab.wait_for("ready\n")
    seen = [dict(re.findall(r"^(\w+)=(.*)$", lab.stdout, re.MULTILINE)) for lab in labs]
    for name in ("NETIF", "LOCAL_V4", "LOCAL_V6", "REMOTE_V4", "REMOTE_V6", "REMOTE_ARGS"):
        assert len({environ[name] for environ in seen}) == len(labs)
    assert {environ["NETIF"] for environ in seen} < links()
    # They also end at the same time.
    for lab in labs:
        lab.send_signal(signal.SIGTERM)
    assert [lab.wait().returncode for lab in labs] == [143] * len(labs)


def test_a_shell_where_no_command_is_given():
    # The shell is interactive: it has a terminal, and says so by ignoring SIGTERM.
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(SHELL="/bin/sh", PS1="prompt> ")
        os.execv(sys.executable, [sys.executable, "-m", "xdptstamp", "lab", "veth"])
    try:
        text = read_terminal(terminal, "prompt> ")
        assert re.search(r"NETIF=(xdpt-\w+)", text), text
        assert "xdptstamp partner -- COMMAND" in text
        os.write(terminal, b"echo $REMOTE_TYPE; exit 5\n")
        assert "netns" in read_terminal(terminal, None)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        os.close(terminal)


def read_terminal(terminal, until):
    text = ""
    while until is None or until not in text:
        assert select.select([terminal], [], [], 30)[0], text
        try:
            text += os.read(terminal, 4096).decode()
        except OSError:  # EIO: the other side is closed
            break
    return text


# -- no privilege


@pytest.mark.parametrize("dropped", ["net_admin", "sys_admin", "all"])
def test_no_privilege(dropped):
    command = [sys.executable, "-m", "xdptstamp", "lab", "veth", "--", "true"]
    sets = [f"--inh-caps=-{dropped}", f"--bounding-set=-{dropped}"]
    done = subprocess.run(["setpriv", *sets, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: lab veth: no privilege")
    assert "run it as root" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_another_user():
    # The package may be where other users cannot read, so the process changes user late.
    done = subprocess.run(
        python(
            "import os, sys",
            "from xdptstamp.errors import XdptstampError",
            "from xdptstamp.lab import VethLab",
            "import pyroute2.iproute",
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)",
            "try:",
            "    with VethLab(): pass",
            "except XdptstampError as error:",
            "    print(error); sys.exit(error.exit_code)",
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "no privilege" in done.stdout
    assert "root" in done.stdout
