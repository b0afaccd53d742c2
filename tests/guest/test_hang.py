# SPDX-License-Identifier: GPL-2.0-only
"""``lab guest`` when the guest hangs: it can be left, and it is shown where it hangs."""

import os
import re
import signal

from tests.guest.bench import processes_of
from tests.pressing import pressing

ASKS = "Asking the guest's kernel where it hangs (up to 10 s), then killing it."
# It waits in the kernel for its child.
HANGS = """
import ctypes, signal, time
for number in signal.SIGINT, signal.SIGTERM:
    signal.signal(number, signal.SIG_IGN)
if ctypes.CDLL(None).vfork() == 0:
    print("hangs", flush=True)
    time.sleep(10000)
"""


def test_the_third_signal_ends_it_and_shows_what_is_blocked(lab_guest, temp):
    running = lab_guest("--", "python3", "-c", HANGS)
    running.wait_for("hangs\n")
    with pressing(running.process, signal.SIGTERM):
        code, text = running.wait()
    assert code == 128 + signal.SIGTERM, text
    assert "\nCOMMAND has been sent two signals; a third within 30 s kills the guest.\n" in text
    assert ASKS + "\n" in text
    why = "for the command had not ended when the third signal came (SIGTERM); its console:"
    assert f"lab guest: the guest was killed, {why}\n" in text
    shown = text.partition(why)[2]
    told = "Show Blocked State.*task:python3 +state:D.*kernel_clone.*NMI backtrace for cpu"
    assert re.search(told, shown, re.DOTALL), shown
    assert list(temp.iterdir()) == []


def test_a_guest_that_stands_still_is_left_by_keys(lab_guest, temp):
    running = lab_guest(has_terminal=True, SHELL="/bin/sh", PS1="prompt> ")
    running.wait_for("If the guest hangs: ^] three times within a second kills it.\r\n")
    running.wait_for("prompt> ")
    (folder,) = temp.iterdir()
    (qemu,) = [
        pid
        for pid, words in processes_of(folder).items()
        if b"-smp" in words and words[0] != b"/bin/sh"  # which watches it
    ]
    os.kill(qemu, signal.SIGSTOP)
    running.type("\x03\x1d\x1d\x1d")
    code, text = running.wait()
    assert code == 128 + signal.SIGKILL, text
    why = "for the command had not ended when ^] was typed three times; its console:"
    assert f"\n{ASKS}\r\n" in text
    assert f"lab guest: the guest was killed, {why}\r\n" in text
    assert list(temp.iterdir()) == []


def test_a_limit_is_an_answer_for_git_bisect(lab_guest, temp):
    code, text = lab_guest("--bisect", "--timeout", "2s", "--", "sleep", "10000").wait()
    assert code == 1, text
    why = "for the command had not ended within 2 s (--timeout); its console:"
    assert f"bisect: the kernel failed: lab guest: the guest was killed, {why}\n" in text
    assert list(temp.iterdir()) == []
