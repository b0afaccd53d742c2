# SPDX-License-Identifier: GPL-2.0-only
"""``lab guest``: what a command finds in the guest, and how a guest ends."""

import os
import re
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.guest.bench import LIMIT_S, processes_of, wait_until
from xdptstamp.errors import SystemCallError, UnsupportedError
from xdptstamp.lab.guest import Guest, GuestConfig, GuestDiedError


def shell(*lines):
    return ["sh", "-c", "\n".join(lines)]


def check(guest, *lines, **options):
    """What the shell prints; it must succeed."""
    done = guest.run(shell("set -e", *lines), timeout=LIMIT_S, **options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


# -- what a command finds


def test_the_environment_names_both_ports_which_have_carrier(guest):
    variables = "NETIF LOCAL_V4 LOCAL_V6 REMOTE_V4 REMOTE_V6 REMOTE_TYPE REMOTE_ARGS"
    text = check(guest, *(f'echo "{name}=${name}"' for name in variables.split()))
    assert dict(line.split("=") for line in text.split()).items() <= guest.environ.items()
    here = check(guest, "cat /sys/class/net/$NETIF/carrier", "ip -o addr show dev $NETIF")
    assert here.startswith("1\n")
    assert f"{guest.environ['LOCAL_V4']}/30" in here
    assert f"{guest.environ['LOCAL_V6']}/64" in here
    there = check(guest, "xdptstamp partner -- ip -o addr", "xdptstamp partner -- ip -o link")
    assert f"{guest.environ['REMOTE_V4']}/30" in there
    assert f"{guest.environ['REMOTE_V6']}/64" in there
    assert re.search(r"igc1: <.*LOWER_UP", there)


def test_streams_have_their_names_in_dev(guest):
    assert (
        check(guest, "echo in | cat /dev/stdin > /dev/stdout", "ls /dev/fd/2") == "in\n/dev/fd/2\n"
    )


def test_the_driver_is_igc_with_a_clock(guest):
    assert "driver: igc\n" in check(guest, "ethtool -i $NETIF")
    assert "PTP Hardware Clock: 0\n" in check(guest, "ethtool -T $NETIF")


@pytest.mark.parametrize("family", ["V4", "V6"])
def test_packets_reach_the_partner_and_come_back(guest, family):
    # A datagram to a port without a listener: the refusal is the partner's answer.
    text = check(
        guest,
        "python3 -c '",
        "import os, socket",
        f'host = os.environ["REMOTE_{family}"]',
        "kind = socket.AF_INET6 if ':' in host else socket.AF_INET".replace("'", '"'),
        "line = socket.socket(kind, socket.SOCK_DGRAM)",
        "line.settimeout(60)",
        "line.connect((host, 9))",
        'line.send(b"x")',
        "try:",
        "    line.recv(1)",
        "except ConnectionRefusedError:",
        '    print("refused")',
        "'",
    )
    assert text == "refused\n"


def test_only_the_folder_for_runs_can_be_written_and_at_once(guest, tmp_path):
    text = check(
        guest,
        'echo first >"$XDPTSTAMP_OUTPUT_DIR/file"',
        f"! echo x 2>/dev/null >{Path(__file__).parent}/forbidden",
        "! echo x 2>/dev/null >/etc/forbidden",
        "echo own >/tmp/own",
        "cat /tmp/own",
    )
    assert text == "own\n"
    file = Path(guest.environ["XDPTSTAMP_OUTPUT_DIR"], "file")
    assert file.read_text() == "first\n"
    assert not Path("/tmp/own").exists()
    # The other way round, while the guest runs.
    file.write_text("second, and longer\n")
    assert check(guest, 'cat "$XDPTSTAMP_OUTPUT_DIR/file"') == "second, and longer\n"


def test_this_project_runs_in_the_guest(guest):
    here = subprocess.run(["xdptstamp", "--version"], capture_output=True, text=True, check=True)
    assert check(guest, "xdptstamp --version") == here.stdout


def test_the_kernel_finds_modules_on_demand(guest):
    assert "veth" in check(
        guest, "ip link add name v0 type veth peer name v1", "ip -d link show v0"
    )
    check(guest, "ip link del v0")


def test_commands_run_beside_each_other(guest):
    with ThreadPoolExecutor(4) as pool:
        waiting = [guest.popen(shell("read word; echo got $word")) for _ in range(4)]
        done = list(pool.map(lambda n: guest.run(shell(f"exit {n}"), timeout=LIMIT_S), range(4)))
    assert [each.returncode for each in done] == [0, 1, 2, 3]
    for number, process in enumerate(waiting):
        process.write(f"{number}\n".encode())
    assert [process.wait(LIMIT_S) for process in waiting] == [0] * 4
    assert [process.stdout for process in waiting] == [f"got {n}\n" for n in range(4)]


def test_a_command_that_takes_too_long_is_killed_with_all_it_started(guest):
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        guest.run(shell("echo started; sleep 12345 & sleep 12345"), timeout=3)
    assert caught.value.output == b"started\n"
    wait_until(lambda: guest.run(["pgrep", "-f", "sleep 12345"], timeout=LIMIT_S).returncode == 1)


def test_no_such_command(guest):
    with pytest.raises(SystemCallError, match="exec failed on no-such: No such file"):
        guest.run(["no-such"], timeout=LIMIT_S)


def test_the_virtual_nic_is_told_what_to_do(guest):
    assert "error" in guest.control({"no-such-command": 1})


# -- a guest that lacks something


def test_a_guest_says_itself_what_its_kernel_lacks(tmp_path, temp, needs_kit):
    needs_kit(GuestConfig())
    # The kit's kernel and modules, in other folders: there is no config, and two modules are gone.
    kernel = GuestConfig().find_kernel()
    shutil.copy(kernel.image, tmp_path / "bzImage")
    modules = tmp_path / "modules"
    shutil.copytree(kernel.modules, modules)
    lines = (modules / "modules.dep").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not re.search(r"/(igc|9p)\.ko:", line)]
    assert len(kept) == len(lines) - 2
    (modules / "modules.dep").write_text("".join(kept))
    config = GuestConfig(
        kernel=str(tmp_path / "bzImage"), modules=modules, output_dir=tmp_path / "results"
    )
    with pytest.raises(UnsupportedError) as caught, Guest(config):
        pytest.fail("it is up")
    assert caught.value.needs == "CONFIG_9P_FS, CONFIG_NET_9P_VIRTIO, CONFIG_IGC"
    assert f"({tmp_path}/bzImage) without" in caught.value.found
    assert list(temp.iterdir()) == []
    assert not (tmp_path / "results").exists()


def test_a_kernel_whose_config_lacks_something_is_not_booted(tmp_path, lab_guest):
    kernel = GuestConfig().find_kernel()
    shutil.copy(kernel.image, tmp_path / "bzImage")
    config = (kernel.image.parent / "config").read_text()
    for option in ("CONFIG_XDP_SOCKETS", "CONFIG_DEBUG_INFO_BTF"):
        config = config.replace(f"{option}=y", f"# {option} is not set")
    (tmp_path / "config").write_text(config)
    words = ("--kernel", tmp_path / "bzImage", "--modules", kernel.modules, "--", "true")
    code, text = lab_guest(*words).wait()
    assert code == 4
    assert "needs CONFIG_XDP_SOCKETS, CONFIG_DEBUG_INFO_BTF, found Linux" in text


# -- how it ends


def test_a_guest_that_dies_shows_its_console(tmp_path, temp, needs_kit):
    config = GuestConfig(output_dir=tmp_path / "results")
    needs_kit(config)
    with Guest(config) as guest:
        other = guest.popen(["sleep", "1000"])
        with pytest.raises(GuestDiedError, match="sysrq triggered crash"):
            guest.run(shell("echo c >/proc/sysrq-trigger"), timeout=LIMIT_S)
        with pytest.raises(GuestDiedError, match="Kernel panic"):
            other.wait(LIMIT_S)
        with pytest.raises(GuestDiedError, match=r"the guest has ended \(QEMU ended with code 0"):
            guest.run(["true"], timeout=LIMIT_S)
    assert list(temp.iterdir()) == []


def test_a_guest_that_takes_too_long_shows_its_console(lab_guest, temp):
    code, text = lab_guest("--boot-timeout", "900ms", "--", "true").wait()
    assert code == 1
    limit = r"no command could be run within 0\.9 s \(--boot-timeout\)"
    (used,) = re.findall(limit + r"; QEMU has used (.*) s of processor time; its console", text)
    assert 0 <= float(used) < 5
    assert list(temp.iterdir()) == []


def test_a_wrong_fault_is_refused_as_wrong_usage(lab_guest):
    code, text = lab_guest("--fault", "no-such-fault", "--", "true").wait()
    assert code == 2
    assert "no-such-fault" in text


def test_a_terminal_a_shell_and_its_keys(lab_guest):
    running = lab_guest(has_terminal=True, SHELL="/bin/sh", PS1="prompt> ")
    running.wait_for("prompt> ")
    assert re.search(r"Linux 7\S* runs, and this is a shell in it:\r?\n", running.text)
    running.type("test -t 0 && echo terminal of $(id -u)\n")
    running.wait_for("terminal of 0\r\n")
    # What is to be interrupted says itself that it has the terminal: the echo comes before that.
    running.type("sed s/ping/pong/\nping\n")
    running.wait_for("pong\r\n")
    running.type("\x03")
    # What was typed before the signal is thrown away with it.
    running.wait_for("^C\r\nprompt> ")
    running.type("exit 7\n")
    code, text = running.wait()
    assert code == 7, text


def test_input_a_signal_and_files(lab_guest, tmp_path):
    # A shell that is about to fork, or to exec, keeps a Ctrl-C to itself.
    running = lab_guest("--", *shell('exec tee "$XDPTSTAMP_OUTPUT_DIR/words"'))
    for line in ("brought\n", "back\n"):
        running.type(line)
        running.wait_for(line)
    running.process.send_signal(signal.SIGINT)
    code, text = running.wait()
    assert code == 128 + signal.SIGINT, text
    # tee writes to its files last: the second line's may not have come to it.
    assert (tmp_path / "results/words").read_text().startswith("brought\n")


def test_nothing_is_left_of_a_killed_parent(lab_guest, temp):
    running = lab_guest("--", *shell("echo ready; sleep 1000"))
    running.wait_for("ready\n")
    (folder,) = temp.iterdir()
    assert processes_of(folder)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    wait_until(lambda: not processes_of(folder) and not folder.exists())
