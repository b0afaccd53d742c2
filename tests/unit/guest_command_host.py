# SPDX-License-Identifier: GPL-2.0-only
"""A program: what ``lab guest`` does with a command, an agent on this machine for the guest.

Arguments: where to write the agent's pid; in s: the limit of the command (0: none), that of one
whose terminal is gone, how long it takes to ask a guest where it hangs, and again to clear up; the
command. Ends as lab guest does.
"""

import contextlib
import os
import sys
import time
from pathlib import Path

from tests.unit.agent_kit import Line
from xdptstamp.cli import _guest_patience
from xdptstamp.cli._guest_command import run_command
from xdptstamp.lab.guest import GuestDiedError


class HostGuest:
    """What of a guest run_command takes."""

    def __init__(self, line, ask_s):
        self._channel = line.channel
        self.ask_s = ask_s
        self.error = None

    def popen(self, argv, *, terminal, on_output):
        return self._channel.popen(argv, "/", dict(os.environ), terminal, on_output)

    def give_up(self, why):
        time.sleep(self.ask_s)
        self.error = GuestDiedError("lab guest", why)
        self._channel.close()
        return self.error


def main():
    pid_file, timeout, gone_limit, ask_s, *argv = sys.argv[1:]
    _guest_patience._TERMINAL_GONE_LIMIT_S = float(gone_limit)
    line = Line(lambda: guest.error)
    guest = HostGuest(line, float(ask_s))
    Path(pid_file).write_text(str(line.agent.pid))
    try:
        code = run_command(guest, argv, _guest_patience.Patience(float(timeout) or None))
    except GuestDiedError as error:
        time.sleep(guest.ask_s)  # as clearing up may take
        with contextlib.suppress(OSError):
            print(error, file=sys.stderr, flush=True)
        code = error.exit_code
    finally:
        line.agent.kill()
    os._exit(code)  # whatever Python has yet to say to streams that are gone


if __name__ == "__main__":
    main()
