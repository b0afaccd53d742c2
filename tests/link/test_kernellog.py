# SPDX-License-Identifier: GPL-2.0-only
"""The real kernel log, with a harmless line of our own in it."""

import secrets
import subprocess
import sys
import textwrap
from pathlib import Path

from xdptstamp.kernellog import KernelLog

KMSG = Path("/dev/kmsg")


def write(text):
    # Without a newline the line may yet be continued, and the kernel keeps it back.
    KMSG.write_text(f"{text}\n", encoding="ascii")


def test_only_what_appears_from_now_on_is_read():
    token = secrets.token_hex(8)
    write(f"<6>xdptstamp test {token} before")
    with KernelLog() as log:
        assert log.problem == ""
        assert not [line for line in log.lines() if token in line.text]
        write(f"<4>xdptstamp test {token} one")
        write(f"<6>xdptstamp test {token} two")
        first, second = [line for line in log.lines() if token in line.text]
        assert first.text == f"xdptstamp test {token} one"
        assert (first.level, second.level) == (4, 6)
        assert second.seq > first.seq
        assert second.time_us >= first.time_us > 0
        assert not [line for line in log.lines() if token in line.text], "told twice"


def test_a_line_that_a_process_wrote_is_known_as_such():
    token = secrets.token_hex(8)
    with KernelLog() as log:
        write(f"<6>xdptstamp test {token} Tx timestamp timeout (not a real one)")
        (line,) = [line for line in log.lines() if token in line.text]
    assert line.kind == "stamp-timeout"
    assert not line.is_from_kernel
    assert not line.is_untrusted


_UNPRIVILEGED = """
    import sys
    sys.path[:0] = sys.argv[1].split(":")
    from xdptstamp.kernellog import KernelLog
    with KernelLog() as log:
        print(log.lines(), log.problem)
"""


def test_without_privilege_it_says_so():
    restricted = Path("/proc/sys/kernel/dmesg_restrict").read_text().strip() == "1"
    command = ["setpriv", "--bounding-set=-syslog,-sys_admin", sys.executable, "-c"]
    arguments = [textwrap.dedent(_UNPRIVILEGED), ":".join(sys.path)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    if restricted:
        assert "the kernel log was not watched: /dev/kmsg: permission denied" in done.stdout
    else:
        assert done.stdout == "[] \n"
